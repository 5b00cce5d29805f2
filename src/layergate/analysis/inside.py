"""What there is to say of the filters of one sublayer: what never decides, what is decided by chance.

A filter never decides where nothing can meet its conditions, or where heavier filters of its sublayer, one or several
together, match whatever it matches and certainly end the sublayer: a plain filter does, and one with a terminating
callout; what another callout answers is unknown, so that it hides nothing. Filters of one weight and opposite actions
that can both match, where nothing heavier does, are ambiguous.

Worked example: "remote port 0 to 999", "remote port 1000 to 65535" and, lighter, "remote port 0 to 65535 for user 0":
the third is shadowed by the two together. Without a port it would not be: an unknown port meets no range.

Exact or silent: what is not found within the budget is not said.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby
from typing import Final

from layergate.analysis.atoms import atoms
from layergate.analysis.finding import Found, Severity, Witness, found, listed, named
from layergate.analysis.rows import Index, Row, Table
from layergate.analysis.search import Budget, Guesses, Point, box, find
from layergate.engine import effective_weight
from layergate.engine.regions import covers
from layergate.model import Action, DataType, Filter, Indication, Verdict

ENDS: Final = (Action.PERMIT, Action.BLOCK, Action.CALLOUT_TERMINATING)
"""The actions that certainly end a sublayer."""

PLAIN: Final = (Action.PERMIT, Action.BLOCK)


def ends(item: Filter) -> bool:
    """Whether *item*, where it matches, certainly ends its sublayer. A limit may let go on."""
    return item.action in ENDS and item.limit is None


def is_plain(item: Filter) -> bool:
    """Whether *item* says permit or block whenever its conditions hold."""
    return item.action in PLAIN and item.limit is None


PROBE_STEPS: Final = 5
"""What a classification costs beside the filters that it asks, in steps: they take about as long."""

APART_A_STEP: Final = 4
"""So many pairs of filters are found apart in the time of a step."""

TIES_TRIED: Final = 8
"""With how many opposite filters of its weight a filter is compared at most, before one is found."""


_Probe = tuple[Point, Verdict]


@dataclass
class Bench:
    """A layer's table on the bench, with what looking at it has come to so far."""

    table: Table
    budget: Budget
    cut_short: bool = False
    _probes: dict[Row, tuple[list[_Probe], Iterator[_Probe]]] = field(default_factory=dict)

    @cached_property
    def guesses(self) -> Guesses:
        """Where to look first."""
        return Guesses(self.table.kinds, self.table.rows)

    def probes(self, *musts: Row) -> Iterator[_Probe]:
        """Yield points that *musts* match, with their verdicts; callouts let go on there."""
        if len(musts) != 1:
            yield from self._tried(musts)
            return
        # Of a row by itself more than one question is asked, and the first point answers most of them.
        known, more = self._probes.setdefault(musts[0], ([], self._tried(musts)))
        yield from known
        for probe in more:
            known.append(probe)
            yield probe

    def _tried(self, musts: tuple[Row, ...]) -> Iterator[_Probe]:
        for point in self.guesses.of(musts):
            rows = self.table.index.at(point.values)
            if not self.budget.take(len(rows) + PROBE_STEPS):
                self.cut_short = True
                return
            yield point, self.table.classify_among(rows, point.values, point.assumed)

    def near(self, musts: Sequence[Row], keep: Callable[[Row], bool], index: Index | None = None) -> list[Row] | None:
        """Return the rows that *keep* wants and that may match where *musts* do, in the order of hearing.

        None where there is no budget left. *index*: of the rows to choose from; None: of the whole layer.
        """
        candidates = [row for row in (index or self.table.index).candidates(musts) if keep(row)]
        if not self.budget.take(len(candidates) // APART_A_STEP + 1):
            self.cut_short = True
            return None
        near = [row for row in candidates if not any(row.is_apart(must) for must in musts)]
        return sorted(near, key=lambda row: row.rank)

    def witness(self, point: Point) -> Witness:
        """Return *point* as a witness."""
        return Witness(Indication(self.table.layer, point.values), point.assumed)


def inside(bench: Bench) -> tuple[list[Found], set[Row]]:
    """Return what there is to say of each sublayer by itself, and the rows that never decide there."""
    places = [list(same) for _, same in groupby(bench.table.rows, key=lambda row: row.place)]
    told: list[Found] = []
    idle: set[Row] = set()
    behind: set[Row] = set()

    def note(row: Row, by: list[Row]) -> None:
        told.append(_said_behind(row, by))
        idle.add(row)
        if all(one.weight > row.weight for one in by):
            behind.add(row)

    for rows in places:
        told += _light(rows)
        for row, first in _repeated(rows):
            note(row, [first])
    bench.table.leave_out(idle)
    for row in bench.table.rows:
        unmet = _unmet(bench, row)
        if unmet:
            told.append(_said_unmet(row, unmet))
            idle.add(row)
            behind.add(row)
        elif row not in idle:
            by = _ahead(bench, row)
            if by:
                note(row, by)
    bench.table.leave_out(idle)
    for rows in places:
        told += _ambiguous(bench, rows, behind)
    return told, idle


def _light(rows: list[Row]) -> Iterator[Found]:
    """Yield explicit weights below automatic ones. Weight 0 is meant to be last, and says so."""
    filters = [row.filter for row in rows]
    heaviest = next(
        (item for item in filters if item.weight.type is not DataType.UINT64 and effective_weight(item)), None
    )
    if heaviest is None:
        return
    top = effective_weight(heaviest)
    for item in filters:
        if item.weight.type is DataType.UINT64 and 0 < effective_weight(item) < top:
            yield found(
                item, "weight-below-automatic", Severity.WARNING,
                f"weight {effective_weight(item)} is below the automatic weight of {named(heaviest)}",
                "an automatic weight grows with the conditions, up to 2^60: a small explicit one is heard after it",
                "weight_range, or a weight of 2^60 or more; or weight = 0 where it is meant to be last",
            )  # fmt: skip


# --- what never decides -----------------------------------------------------------------------------------------------


def _unmet(bench: Bench, row: Row) -> str | None:
    """Return a field of which no value meets what *row* asks of it, None where there is none."""
    for name in sorted(row.fields):
        runs = list(dict.fromkeys(row.runs[name]))
        if len(runs) == 1 and row.regions[name][0].has_values:
            continue
        possible = atoms(bench.table.kinds[name], runs)
        if possible.complete and not any(atom.met == (1 << len(runs)) - 1 for atom in possible.atoms):
            return name
    return None


def _said_unmet(row: Row, name: str) -> Found:
    return found(
        row.filter, "never-matches", Severity.WARNING,
        f"no value of {name} meets what this filter asks of it",
        "conditions on one field that stand together are alternatives, those that stand apart have to hold all",
        f"another condition on {name}, or remove the filter",
    )  # fmt: skip


def _ahead(bench: Bench, row: Row) -> list[Row]:
    """Return the filters after which *row* never speaks: what it matches, they match, and end. [] for no such."""
    ahead: list[Row] = []
    for _, verdict in bench.probes(row):
        told = bench.table.told(verdict, row)
        if row.filter is told.decided or any(row.filter is one for one in told.continued):
            return []
        heard = filter(None, map(bench.table.row, told.matched))
        ahead = [one for one in heard if ends(one.filter) and one.rank < row.rank]
    if not ahead:
        return []
    # Whoever matches everything that it matches, matched there too.
    return [one for one in ahead if _covers(one, row)][:1] or _together(bench, row)


def _said_behind(row: Row, by: list[Row]) -> Found:
    names = listed([named(one.filter) for one in by])
    how = "is heard first, and matches" if len(by) == 1 else "are heard first, and together match"
    return found(
        row.filter, "shadowed", Severity.WARNING,
        f"{names} {how} whatever this one matches",
        "in a sublayer the first filter that matches ends it",
        "remove it, give it a higher weight, or put it into another sublayer",
    )  # fmt: skip


def _repeated(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield filters that match the same as one before them, which ends the sublayer, each with that one."""
    firsts: dict[Hashable, Row] = {}
    for row in rows:
        first = firsts.get(row.covered)
        if first is not None and not row.never:
            yield row, first
        elif ends(row.filter):
            firsts[row.covered] = row


def _covers(wide: Row, narrow: Row) -> bool:
    """Whether *wide* certainly matches whatever *narrow* matches."""
    return all(
        any(covers(its, mine) for mine in narrow.regions.get(name, ()))
        for name, several in wide.regions.items()
        for its in several
    )


def _together(bench: Bench, row: Row) -> list[Row]:
    """Return the filters that together match whatever *row* matches, [] where they don't, or can't be shown to."""
    ahead = bench.near([row], lambda one: one.place == row.place and one.rank < row.rank and ends(one.filter))
    by: dict[Row, None] = {}

    def judge(certain: list[Row], open_ones: list[Row]) -> bool | None:
        if certain:
            by[min(certain, key=lambda one: one.rank)] = None
            return False
        return None if open_ones else True

    if ahead is None:
        return []
    result = find(bench.table.kinds, [row], ahead, judge, bench.budget)
    bench.cut_short |= not result.complete
    return sorted(by, key=lambda one: one.rank) if result.point is None and result.complete else []


# --- what is decided by chance ----------------------------------------------------------------------------------------


def _ambiguous(bench: Bench, rows: list[Row], behind: set[Row]) -> Iterator[Found]:
    """Yield filters of one weight and opposite actions that can both match where nothing heavier does.

    *behind*: rows that heavier ones shadow.
    """
    for _, same in groupby(rows, key=lambda row: row.weight):
        tied = [row for row in same if is_plain(row.filter) and row not in behind]
        by_action = {action: [row for row in tied if row.filter.action is action] for action in PLAIN}
        if not all(by_action.values()):
            continue
        indices = {action: Index(rows, bench.table.kinds) for action, rows in by_action.items()}
        for other in tied:
            opposite = Action.BLOCK if other.filter.action is Action.PERMIT else Action.PERMIT
            near = bench.near([other], partial(_is_before, other), indices[opposite])
            for one in (near or [])[:TIES_TRIED]:
                witness = _both(bench, one, other)
                if witness:
                    yield found(
                        other.filter, "ambiguous", Severity.WARNING,
                        f"{other.filter.action} here, {one.filter.action} by {named(one.filter)}, of the same weight",
                        "the order of equal weights is not defined; here the lower id, the first in the file, wins",
                        "give one of them another weight", witness=witness,
                    )  # fmt: skip
                    break


def _is_before(one: Row, other: Row) -> bool:
    return other.rank < one.rank


def _both(bench: Bench, one: Row, other: Row) -> Witness | None:
    """Return an indication that both match, and nothing heavier in their sublayer; None where none is found."""
    if box(bench.table.kinds, [one, other]).point is None:
        return None
    for point, verdict in bench.probes(one, other):
        told = bench.table.told(verdict, one)
        if told.decided and effective_weight(told.decided) == one.weight:
            return bench.witness(point)
    heavier = bench.near(
        [one, other], lambda row: row.place == one.place and row.weight > one.weight and ends(row.filter)
    )
    if heavier is None:
        return None
    result = find(
        bench.table.kinds, [one, other], heavier,
        lambda certain, open_ones: False if certain else None if open_ones else True, bench.budget, most=2000,
    )  # fmt: skip
    return bench.witness(result.point) if result.point else None
