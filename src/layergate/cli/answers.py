"""Answers of `explain`: the verdict in a line, then each sublayer's filters in the order in which they were asked.

Of a filter that missed, every test stands with what was known beside what it asks for, and by how little it missed.
Where there are many filters, those that matched and those that missed by least are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from layergate.analysis.outcomes import Change, Dependence, DependenceKind
from layergate.cli import output
from layergate.cli.words import bare, field_words, run_words, value_words
from layergate.engine.explanation import Account, Asked, Doubt, Fate, FieldTest, nearest
from layergate.engine.matching import as_integer
from layergate.model import Action, DataType, Field, Filter, Indication, Layer, Policy, Verdict
from layergate.model import lines as model_lines
from layergate.policyfile.names import bit_names

SHOWN_WHOLE: Final = 12
"""A sublayer with as many filters at most is shown whole."""

NEAREST_SHOWN: Final = 5
WHO_SHOWN: Final = 3
_WIDTH: Final = 72
NAME_WIDTH: Final = 48
_IDLE: Final = ((DependenceKind.TOKEN, "need a token"), (DependenceKind.CALLOUT, "ask a callout"))


@dataclass(frozen=True, slots=True)
class Reasons:
    """What there is to say beside the verdict."""

    doubts: tuple[Doubt, ...] = ()
    changes: tuple[Change, ...] = ()
    depends: tuple[Dependence, ...] = ()


def verdict_line(
    verdict: Verdict, indication: Indication, doubts: Iterable[Doubt], depends: Iterable[Dependence]
) -> dict[str, object]:
    """Return the `verdict` line, with what is doubtful of it and what it depends on."""
    layer = indication.layer
    line = model_lines.verdict_line(verdict, layer)
    line["doubts"] = [
        {"doubt": str(doubt.kind), "filters": [item.id for item in doubt.filters], "text": doubt.text}
        for doubt in doubts
    ]
    line["depends"] = [
        {
            "on": str(one.kind),
            "tests": [f"{test.field} {test.match.name} {test.value.data!s}" for test in one.tests],
            "callout": one.callout or None,
            "filters": [item.id for item in one.filters],
            "action": str(one.verdict.action),
            "filter": one.verdict.filter.id if one.verdict.filter else None,
            "filter_name": one.verdict.filter.name if one.verdict.filter else None,
        }
        for one in depends
    ]
    return line


class Answers:
    """The words of answers by *policy*; *is_whole*: with every filter; *is_windows*: in the words of a Windows host."""

    def __init__(self, policy: Policy, *, is_windows: bool = False, is_whole: bool = False) -> None:
        self._callouts = {callout.key: callout.name for callout in policy.callouts}
        self._is_windows, self._is_whole = is_windows, is_whole

    def answer(
        self, verdict: Verdict, indication: Indication, accounts: Iterable[Account], reasons: Reasons
    ) -> Iterator[str]:
        """Yield the lines of the answer."""
        layer = indication.layer
        yield self._short(verdict, layer)
        for told in accounts:
            yield from self._sublayer(told, layer)
        for doubt in reasons.doubts:
            yield f"  {output.paint('doubtful', 'yellow')}: {output.harmless(doubt.text)}"
        yield from self._depends(reasons.depends, verdict, layer)
        yield from self._changes(reasons.changes, verdict, layer)

    def _short(self, verdict: Verdict, layer: Layer) -> str:
        """Return the answer in one line."""
        decided = verdict.filter
        word = _word(verdict.action)
        if decided is None or verdict.sublayer is None:
            return f"{word} at {layer.short}: no filter matched, and what nothing matches is permitted"
        place = output.harmless(bare(verdict.sublayer.name))
        return f"{word} at {layer.short} by {self._named(decided)} in sublayer {place}: {self._why(verdict)}"

    def _named(self, item: Filter) -> str:
        """Return a filter's name; on Windows, where many share one, with its id."""
        return f"{f'#{item.id} ' if self._is_windows else ''}'{_cut(item.name, NAME_WIDTH)}'"

    def _why(self, verdict: Verdict) -> str:
        heard = [told for told in verdict.sublayers if told.decided]
        place = next(index for index, told in enumerate(heard) if told.decided is verdict.filter)
        mine = heard[place]
        overridden = next((one.decided for one in heard[:place] if one.action is not mine.action), None)
        refused = next((one.decided for one in heard[place + 1 :] if one.action is not mine.action), None)
        other = "permit" if mine.action is Action.BLOCK else "block"
        if mine.veto and overridden:
            return f"a veto of the hard permit {self._named(overridden)}"
        if overridden:
            return f"it overrides the soft {other} {self._named(overridden)}"
        if refused and mine.hard:
            return f"it is hard, so the {other} {self._named(refused)} below it was not heard"
        if verdict.filter and verdict.filter.action.is_callout:
            callout = self._callouts.get(verdict.filter.callout, verdict.filter.callout)
            return f"so its callout '{output.harmless(callout)}' says, or is not there to say"
        if verdict.action is Action.BLOCK:
            return "no permit above it matched"
        return "no block above it matched, and none below"

    # --- filters ------------------------------------------------------------------------------------------------------

    def _sublayer(self, told: Account, layer: Layer) -> Iterator[str]:
        """Yield the lines on one sublayer."""
        sublayer = told.told.sublayer
        name = output.paint(output.harmless(bare(sublayer.name)), "bold")
        yield f"  sublayer {name} (weight {sublayer.weight:#x}): {output.harmless(told.told.effect)}"
        shown = self._chosen(told.asked, layer)
        heads = output.columns([_head(asked, told) for asked in shown], indent=4) if shown else []
        for asked, head in zip(shown, heads, strict=True):
            yield head
            yield from _standing(asked.filter, told)
            if asked.fate is Fate.MISSED:
                yield from output.columns([self._tested(test, layer) for test in asked.tests], indent=10)
        left = len(told.asked) - len(shown)
        if left:
            yield f"    and {output.plural(left, 'filter')} more that missed (--all shows them)"

    def _chosen(self, asked: tuple[Asked, ...], layer: Layer) -> list[Asked]:
        """Return the filters to show, in their order."""
        if self._is_whole or len(asked) <= SHOWN_WHOLE:
            return list(asked)
        missed = sorted((one for one in asked if one.fate is Fate.MISSED), key=lambda one: _farness(one, layer))
        near = {one.filter.id for one in missed[:NEAREST_SHOWN]}
        return [one for one in asked if one.fate is not Fate.MISSED or one.filter.id in near]

    def _tested(self, test: FieldTest, layer: Layer) -> tuple[str, ...]:
        """Return one test: the mark, the field, what was known, what is asked for, and by how little it missed."""
        field = layer.field(test.field)
        mark = output.paint("✓", "green") if test.met else output.paint("✗", "red")
        known = "unknown" if test.value is None or field is None else _cut(value_words(field, test.value))
        little = "" if test.met or field is None else _by_how_little(field, test)
        wanted = f"asked for {_cut(run_words(layer, test.run))}{little}"
        return mark, field_words(test.field, is_windows=self._is_windows), known, wanted

    # --- what it hangs on ---------------------------------------------------------------------------------------------

    def _decision(self, verdict: Verdict) -> str:
        by = f" by {self._named(verdict.filter)}" if verdict.filter else ", for no filter matches"
        return f"{_word(verdict.action)}{by}"

    def _who(self, items: tuple[Filter, ...]) -> str:
        named = ", ".join(self._named(item) for item in items[:WHO_SHOWN])
        return named if len(items) <= WHO_SHOWN else f"{named} and {len(items) - WHO_SHOWN} more"

    def _depends(self, depends: tuple[Dependence, ...], verdict: Verdict, layer: Layer) -> Iterator[str]:
        """Yield what can't be decided here: what would turn the answer, what only another filter, how much else."""
        if not depends:
            return
        yield "  what can't be decided here:"
        turning = [one for one in depends if one.verdict.action is not verdict.action]
        for one in turning:
            if one.kind is DependenceKind.CALLOUT:
                callout = output.harmless(self._callouts.get(one.callout, one.callout))
                asked_by = self._who(one.filters)
                yield f"    callout '{callout}' of {asked_by}: if it blocked, {self._decision(one.verdict)}"
            else:
                tests = " and ".join(
                    f"{field_words(test.field, is_windows=self._is_windows)} {_cut(run_words(layer, (test,)))}"
                    for test in one.tests
                )
                yield f"    {self._who(one.filters)}: with {tests}, {self._decision(one.verdict)}"
        for kind, word in _IDLE:
            idle = [item for one in depends if one.kind is kind and one not in turning for item in one.filters]
            if idle:
                said = f"{word} and would not turn the answer: {self._who(tuple(idle))}"
                yield f"    {output.plural(len(idle), 'filter')} {said}"

    def _changes(self, changes: tuple[Change, ...], verdict: Verdict, layer: Layer) -> Iterator[str]:
        """Yield what would turn the answer: other values, other filters."""
        yield "  what would change it:"
        for change in changes:
            said = []
            for name, value in change.values.items():
                field = layer.field(name)
                words = value_words(field, value) if field else repr(value.data)
                said.append(f"{field_words(name, is_windows=self._is_windows)} = {words}")
            yield f"    {', '.join(said)}: {self._decision(change.verdict)}"
        yield f"    {_by_policy(verdict)}"


def _word(action: Action) -> str:
    return output.paint("blocked", "red") if action is Action.BLOCK else output.paint("permitted", "green")


def _farness(asked: Asked, layer: Layer) -> tuple[int, float]:
    """Return by how much *asked* missed: in how many fields, and in all how far."""
    distance = 0.0
    for test in asked.missed:
        field = layer.field(test.field)
        close = nearest(field, test) if field else None
        distance += float("inf") if close is None or close.distance is None else close.distance
    return len(asked.missed), distance


def _head(asked: Asked, told: Account) -> tuple[str, ...]:
    item = asked.filter
    action = f"{item.action}{' (hard)' if item.hard and item.action is Action.PERMIT else ''}"
    name = f"'{_cut(item.name, NAME_WIDTH)}'"
    return f"#{item.id}", action, name, f"weight {asked.weight:#x}", _fate(asked, told)


def _fate(asked: Asked, told: Account) -> str:
    """Return what became of one filter, in words."""
    if asked.fate is Fate.DECIDED:
        return "matched, and decided for the sublayer"
    if asked.fate is Fate.CONTINUED:
        return f"matched, and its {'limit' if asked.filter.limit else 'callout'} let go on"
    if asked.fate is Fate.LOST:
        by = f"'{output.harmless(told.told.decided.name)}'" if told.told.decided else "another"
        return f"lost: it matches too, but {by} above it had ended the sublayer"
    return f"missed {len(asked.missed)} of {output.plural(len(asked.tests), 'test')}"


def _standing(item: Filter, told: Account) -> Iterator[str]:
    """Yield the line on the limit of *item*, where it was asked."""
    for one, standing in told.told.standings:
        if one is item:
            key = f" of {output.harmless(standing.key)}" if standing.key else ""
            past = "banned" if standing.banned_until is not None else "past it" if standing.is_past else "not past it"
            yield f"          limit {item.limit}: {standing.count}{key}, {past}"


def _cut(text: str, width: int = _WIDTH) -> str:
    text = output.harmless(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _by_how_little(field: Field, test: FieldTest) -> str:
    close = nearest(field, test)
    if close is None or close.distance is None or test.value is None or field.type is DataType.UINT8:
        return ""  # one protocol is no nearer than another
    if field.is_address:
        bits = 32 if field.type is DataType.UINT32 else 128
        same = bits - (as_integer(close.value) ^ as_integer(test.value)).bit_length()
        return f" (the first {same} of {bits} bits agree)"
    if bit_names(field):
        return f" ({output.plural(close.distance, 'bit')} off)"
    return f" ({close.distance} away)"


def _by_policy(verdict: Verdict) -> str:
    """Return which filters would turn the answer."""
    told = next((one for one in verdict.sublayers if one.decided is verdict.filter is not None), None)
    if told is None or told.decided is None:
        return "a block filter at this layer, in any sublayer"
    place = output.harmless(bare(told.sublayer.name))
    weight = dict(zip((item.id for item in told.matched), told.weights, strict=True))[told.decided.id]
    heavier = f"heavier than {weight:#x} in {place}"
    if verdict.action is Action.PERMIT and not verdict.hard:
        return f"a block {heavier}, or a block in another sublayer"
    if verdict.action is Action.PERMIT:
        return f"a block {heavier}, or a block in a sublayer above it"
    return f"a permit {heavier} (hard where another sublayer blocks too), or a hard permit in a sublayer above it"
