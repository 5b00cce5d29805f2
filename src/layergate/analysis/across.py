"""What there is to say of several sublayers together: what is never heard, what overrides what.

All sublayers are heard, the heaviest first, and a permit is soft unless it is made hard. So there are four things that
an author may not have meant, each said with an indication that shows it:

- never-heard: whatever a filter matches, a hard decision of a heavier sublayer has settled.
- permit-undone: a soft permit of a heavier sublayer, and a block of a lighter one that overlaps it: there the block
  has the last word.
- block-bypassed: a hard permit of a heavier sublayer, and a block of a lighter one that overlaps it: there the block
  does nothing.
- filter-veto: the same pair. A reading of the documentation lets a plain filter's block veto a hard permit.

One finding a pair of sublayers and layer, however many filters it is about. Worked example: a sublayer with 500 soft
permits above one whose last filter blocks everything: one finding, 500 permits undone, three of them named.

Exact or silent: every overlap is shown by an indication that `engine.classify` decides so, and that no callout has a
say in. Source: Microsoft, "Filter Arbitration".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final

from layergate.analysis.finding import Finding, Severity, Witness, listed, named
from layergate.analysis.inside import PLAIN, Bench, ends, is_plain
from layergate.analysis.rows import Index, Row
from layergate.analysis.search import Point, find
from layergate.model import Action, Filter, Policy, Sublayer, Verdict

OPPONENTS_TRIED: Final = 3
"""With how many filters of a lighter or heavier sublayer a filter is tried in vain."""

_MAY_END: Final = (*PLAIN, Action.CALLOUT_TERMINATING, Action.CALLOUT_UNKNOWN)


@dataclass(slots=True)
class _Pair:
    """What was found of a kind between two sublayers at one layer base: each victim, by whom, and where it shows."""

    heavy: Sublayer
    light: Sublayer
    layers: list[str] = field(default_factory=list)
    victims: dict[tuple[str, int], tuple[Filter, Filter]] = field(default_factory=dict)
    witness: Witness | None = None


class Across:
    """Collects what sublayers do to one another, over all layers."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str, str, str], _Pair] = {}
        self._unheard: dict[tuple[str, str, str], tuple[list[Filter], list[Filter], list[str]]] = {}

    def add(self, bench: Bench, idle: set[Row]) -> None:
        """Look at the layer on *bench*; *idle* are rows of which it was said already that they never decide."""
        rows = bench.table.rows
        if not rows or rows[0].place == rows[-1].place:
            return
        hard = [row for row in rows if is_plain(row.filter) and row.filter.hard]
        blocks = [row for row in rows if row.filter.action is Action.BLOCK]
        permits = [row for row in hard if row.filter.action is Action.PERMIT]
        by_place = {place: Index(same, bench.table.kinds) for place, same in groupby(blocks, attrgetter("place"))}
        above = {place: Index(same, bench.table.kinds) for place, same in groupby(permits, attrgetter("place"))}
        for row in rows:
            if row in idle or not is_plain(row.filter):
                continue
            if any(one.place < row.place for one in hard[:1]):
                self._hear(bench, row)
            if row.filter.action is Action.PERMIT and not row.filter.hard:
                self._meet(
                    bench, row, {place: index for place, index in by_place.items() if place > row.place}, _undone
                )
            elif row.filter.action is Action.BLOCK:
                self._meet(bench, row, {place: index for place, index in above.items() if place < row.place}, _bypassed)

    # --- never heard --------------------------------------------------------------------------------------------------

    def _hear(self, bench: Bench, row: Row) -> None:
        """Take down that *row* is never heard, if so."""
        if any(_is_heard(bench, verdict, row) for _, verdict in bench.probes(row)):
            return
        by = _settled(bench, row)
        if by:
            key = (
                row.filter.sublayer,
                row.filter.layer.base,
                ",".join(str(one.filter.line or one.filter.id) for one in by),
            )
            filters, _, layers = self._unheard.setdefault(key, ([], [one.filter for one in by], []))
            filters.append(row.filter)
            layers.append(row.filter.layer.short)

    # --- overlaps -----------------------------------------------------------------------------------------------------

    def _meet(self, bench: Bench, row: Row, others: dict[int, Index], shows: _Shows) -> None:
        """Take down what the filters of *others*, by place, do to *row*; *shows* says whether a verdict shows it."""
        left = dict(others)
        for point, verdict in bench.probes(row) if left else ():
            by = shows(bench, verdict, row)
            if by is not None and by.place in left:
                del left[by.place]
                self._note(bench, point, row, by)
        for place, index in left.items():
            near = bench.near([row], lambda _: True, index) or []
            for other in near[:OPPONENTS_TRIED]:
                if any(self._shown(bench, probe, row, place, shows) for probe in bench.probes(row, other)):
                    break

    def _shown(self, bench: Bench, probe: tuple[Point, Verdict], row: Row, place: int, shows: _Shows) -> bool:
        """Whether *probe* shows what a filter of the sublayer at *place* does to *row*; then it is taken down."""
        point, verdict = probe
        by = shows(bench, verdict, row)
        if by is None or by.place != place:
            return False
        self._note(bench, point, row, by)
        return True

    def _note(self, bench: Bench, point: Point, row: Row, by: Row) -> None:
        identity = "permit-undone" if row.filter.action is Action.PERMIT else "block-bypassed"
        heavy, light = sorted((row, by), key=lambda one: one.place)
        key = (identity, row.filter.layer.base, heavy.filter.sublayer, light.filter.sublayer)
        sublayers = bench.table.sublayers
        pair = self._pairs.setdefault(key, _Pair(sublayers[heavy.place], sublayers[light.place]))
        pair.victims.setdefault((row.filter.name, row.filter.line or row.filter.id), (row.filter, by.filter))
        pair.layers.append(row.filter.layer.short)
        pair.witness = pair.witness or bench.witness(point)

    # --- telling ------------------------------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """Yield what was found."""
        for (_, base, _), (filters, by, layers) in self._unheard.items():
            yield _unheard(filters, by, _place(base, layers))
        for (identity, base, _, _), pair in self._pairs.items():
            yield _undoing(pair, base) if identity == "permit-undone" else _bypassing(pair, base)
            if identity == "block-bypassed":
                yield _doubt(pair, base)


_Shows = Callable[[Bench, Verdict, Row], Row | None]


def _may_say(verdict: Verdict) -> bool:
    """Whether a callout or a limit may have a say in *verdict*."""
    return any(
        one.limit is not None or (one.action is not Action.CALLOUT_INSPECTION and one.action.is_callout)
        for told in verdict.sublayers
        for one in (*told.continued, *filter(None, (told.decided,)))
    )


def _undone(bench: Bench, verdict: Verdict, row: Row) -> Row | None:
    """Return the block that has the last word over the permit *row*, None where none has."""
    by = bench.table.row(verdict.filter)
    if verdict.action is not Action.BLOCK or by is None or by.place < row.place or _may_say(verdict):
        return None
    return by if bench.table.told(verdict, row).decided is row.filter else None


def _bypassed(bench: Bench, verdict: Verdict, row: Row) -> Row | None:
    """Return the hard permit that the block *row* can do nothing against, None where there is none."""
    if verdict.action is not Action.PERMIT or _may_say(verdict):
        return None
    if bench.table.told(verdict, row).decided is not row.filter:
        return None
    return bench.table.row(next(told.decided for told in verdict.sublayers if told.hard))


def _is_heard(bench: Bench, verdict: Verdict, row: Row) -> bool:
    """Whether *row* decides its sublayer, and no sublayer above has certainly taken the right from it."""
    for told in verdict.sublayers:
        if told.sublayer is bench.table.sublayers[row.place]:
            return told.decided is row.filter
        if told.hard and not any(one.action is Action.CALLOUT_UNKNOWN for one in told.continued):
            return False
    return False


def _settled(bench: Bench, row: Row) -> list[Row]:
    """Return the filters of heavier sublayers that settle whatever *row* matches, [] where that can't be shown."""

    def may_settle(one: Row) -> bool:
        if one.place == row.place:
            return one.rank < row.rank and ends(one.filter)
        return one.place < row.place and one.filter.action in _MAY_END

    near = bench.near([row], may_settle)
    if near is None:
        return []
    by: dict[Row, None] = {}

    def judge(certain: list[Row], open_ones: list[Row]) -> bool | None:
        settling = _settling(row, certain, open_ones)
        if settling:
            by[settling] = None
            return False
        return None if open_ones else True

    result = find(bench.table.kinds, [row], near, judge, bench.budget)
    bench.cut_short |= not result.complete
    heard = sorted((one for one in by if one.place < row.place), key=lambda one: one.rank)
    return heard if result.point is None and result.complete else []


def _settling(row: Row, certain: list[Row], open_ones: list[Row]) -> Row | None:
    """Return a filter after which *row* is not heard: one that ends its sublayer, or takes the right above it."""
    sure = set(certain)
    everyone = sorted((*certain, *open_ones), key=lambda one: one.rank)
    for place, same in groupby(everyone, key=lambda one: one.place):
        for one in same:
            is_end = one in sure and ends(one.filter)
            if place == row.place:
                if is_end:
                    return one
            elif not one.filter.hard:
                break  # a soft answer is possible
            elif is_end:
                return one
    return None


# --- words ------------------------------------------------------------------------------------------------------------


def _place(base: str, layers: list[str]) -> str:
    return layers[0] if len(set(layers)) == 1 else base


def _unheard(filters: list[Filter], by: list[Filter], place: str) -> Finding:
    unique = list({(item.name, item.line or item.id): item for item in filters}.values())
    first = unique[0]
    subject = f"filter '{first.name}'" if len(unique) == 1 else f"{len(unique)} filters of '{first.sublayer}'"
    who = "" if len(unique) == 1 else f"{listed([named(item) for item in unique])}: "
    above = listed([f"{named(item)} in '{item.sublayer}'" for item in {one.name: one for one in by}.values()])
    return Finding(
        "never-heard", Severity.WARNING, f"{subject} at {place}", first.line,
        f"{who}whatever it matches, {above} has decided above it, and hard" if len(unique) == 1
        else f"{who}whatever they match, {above} has decided above them, and hard",
        "a block is hard, and so is a permit that is made hard: no lighter sublayer changes what one has decided",
        "put it into a heavier sublayer, or remove it",
    )  # fmt: skip


def _who(pair: _Pair) -> str:
    return listed([f"{named(victim)} by {named(by)}" for victim, by in pair.victims.values()])


def _between(pair: _Pair, base: str) -> tuple[str, int]:
    """Return (object, line) of a finding on *pair*."""
    first = next(iter(pair.victims.values()))[0]
    return f"sublayers '{pair.heavy.name}' and '{pair.light.name}' at {_place(base, pair.layers)}", first.line


def _count(pair: _Pair, one: str, several: str) -> str:
    return f"1 {one} is" if len(pair.victims) == 1 else f"{len(pair.victims)} {several} are"


def _undoing(pair: _Pair, base: str) -> Finding:
    return Finding(
        "permit-undone", Severity.WARNING, *_between(pair, base),
        f"{_count(pair, 'permit', 'permits')} undone by a block below, in all or in part: {_who(pair)}",
        f"a permit is soft: '{pair.light.name}' is heard too, and its block overrides it",
        f"where the permit is to hold, make it hard, or permit in '{pair.light.name}' too, before the block",
        pair.witness,
    )  # fmt: skip


def _bypassing(pair: _Pair, base: str) -> Finding:
    return Finding(
        "block-bypassed", Severity.INFO, *_between(pair, base),
        f"{_count(pair, 'block', 'blocks')} bypassed by a hard permit above, in all or in part: {_who(pair)}",
        f"a hard permit takes from '{pair.light.name}' the right to change it",
        "where the block is to hold, make the permit soft or narrower, or block in a heavier sublayer",
        pair.witness,
    )  # fmt: skip


def _doubt(pair: _Pair, base: str) -> Finding:
    victim, by = next(iter(pair.victims.values()))
    return Finding(
        "filter-veto", Severity.INFO, *_between(pair, base),
        f"{named(by)} is a hard permit, and the plain filter {named(victim)} below it blocks",
        "whether a plain filter's block vetoes a hard permit is not clear from the platform's documentation; here it "
        "does not, and Windows has been seen to do either",
        "don't rely on either; explain --filter-veto shows the other reading",
        pair.witness,
    )  # fmt: skip


def equal_sublayers(policy: Policy) -> Iterator[Finding]:
    """Yield sublayers of one weight."""
    by_weight = attrgetter("weight")
    for weight, same in groupby(sorted(policy.sublayers, key=by_weight), key=by_weight):
        first, *others = same
        for other in others:
            yield Finding(
                "sublayers-equal",
                Severity.WARNING,
                f"sublayer '{other.name}'",
                0,
                f"weight {weight:#x}, as '{first.name}'",
                "which of two equal sublayers is heard first is not defined; here it is the first in the file",
                "give each sublayer a weight of its own",
            )
