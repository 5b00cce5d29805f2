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
from layergate.engine.explanation import Account, Asked, Doubt, Fate, FieldTest, nearest
from layergate.engine.matching import as_integer
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Field,
    Filter,
    Indication,
    InputError,
    Layer,
    MatchType,
    Value,
    Verdict,
)
from layergate.model import lines as model_lines
from layergate.model.lines import PATHS, value_to_json
from layergate.policyfile import friendly_name
from layergate.policyfile.composing import value_words
from layergate.policyfile.names import bit_names

SHOWN_WHOLE: Final = 12
"""A sublayer with as many filters at most is shown whole."""

NEAREST_SHOWN: Final = 5
WHO_SHOWN: Final = 3
_WIDTH: Final = 72
_SUBLAYER: Final = "FWPM_SUBLAYER_"


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
            "tests": [f"{test.field} {test.match.name} {_compared(layer, test)}" for test in one.tests],
            "callout": one.callout or None,
            "filters": [item.id for item in one.filters],
            "action": str(one.verdict.action),
            "filter": one.verdict.filter.id if one.verdict.filter else None,
            "filter_name": one.verdict.filter.name if one.verdict.filter else None,
        }
        for one in depends
    ]
    return line


def answer(
    verdict: Verdict, indication: Indication, accounts: Iterable[Account], reasons: Reasons, *, is_whole: bool
) -> Iterator[str]:
    """Yield the lines of the answer; *is_whole*: with every filter."""
    layer = indication.layer
    yield _short(verdict, layer)
    for told in accounts:
        yield from _sublayer(told, layer, is_whole=is_whole)
    for doubt in reasons.doubts:
        yield f"  {output.paint('doubtful', 'yellow')}: {doubt.text}"
    yield from _depends(reasons.depends, verdict, layer)
    yield from _changes(reasons.changes, verdict, layer)


def bare(sublayer: str) -> str:
    """Return the name of a sublayer for people."""
    return sublayer.removeprefix(_SUBLAYER)


def _word(action: Action) -> str:
    return output.paint("blocked", "red") if action is Action.BLOCK else output.paint("permitted", "green")


def _short(verdict: Verdict, layer: Layer) -> str:
    """Return the answer in one line."""
    decided = verdict.filter
    word = _word(verdict.action)
    if decided is None or verdict.sublayer is None:
        return f"{word} at {layer.short}: no filter matched, and what nothing matches is permitted"
    return f"{word} at {layer.short} by '{decided.name}' in sublayer {bare(verdict.sublayer.name)}: {_why(verdict)}"


def _why(verdict: Verdict) -> str:
    heard = [told for told in verdict.sublayers if told.decided]
    place = next(index for index, told in enumerate(heard) if told.decided is verdict.filter)
    mine = heard[place]
    overridden = next((one.decided for one in heard[:place] if one.action is not mine.action), None)
    refused = next((one.decided for one in heard[place + 1 :] if one.action is not mine.action), None)
    if mine.veto and overridden:
        return f"a veto of the hard permit '{overridden.name}'"
    if overridden:
        return f"it overrides the soft {'permit' if mine.action is Action.BLOCK else 'block'} '{overridden.name}'"
    if refused and mine.hard:
        other = "permit" if mine.action is Action.BLOCK else "block"
        return f"it is hard, so the {other} '{refused.name}' below it was not heard"
    if verdict.filter and verdict.filter.action.is_callout:
        return f"so its callout {verdict.filter.callout} says, or is not there to say"
    if verdict.action is Action.BLOCK:
        return "no permit above it matched"
    return "no block above it matched, and none below"


# --- filters ----------------------------------------------------------------------------------------------------------


def _sublayer(told: Account, layer: Layer, *, is_whole: bool) -> Iterator[str]:
    """Yield the lines on one sublayer."""
    sublayer = told.told.sublayer
    name = output.paint(bare(sublayer.name), "bold")
    yield f"  sublayer {name} (weight {sublayer.weight:#x}): {told.told.effect}"
    shown = _chosen(told.asked, layer, is_whole=is_whole)
    heads = output.columns([_head(asked, told) for asked in shown], indent=4)
    for asked, head in zip(shown, heads, strict=True):
        yield head
        if asked.fate is Fate.MISSED:
            yield from output.columns([_tested(test, layer) for test in asked.tests], indent=10)
    left = len(told.asked) - len(shown)
    if left:
        yield f"    and {output.plural(left, 'filter')} more that missed (--all shows them)"


def _chosen(asked: tuple[Asked, ...], layer: Layer, *, is_whole: bool) -> list[Asked]:
    """Return the filters to show, in their order."""
    if is_whole or len(asked) <= SHOWN_WHOLE:
        return list(asked)
    missed = sorted((one for one in asked if one.fate is Fate.MISSED), key=lambda one: _farness(one, layer))
    near = {one.filter.id for one in missed[:NEAREST_SHOWN]}
    return [one for one in asked if one.fate is not Fate.MISSED or one.filter.id in near]


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
    return f"#{item.id}", action, f"'{item.name}'", f"weight {asked.weight:#x}", _fate(asked, told)


def _fate(asked: Asked, told: Account) -> str:
    """Return what became of one filter, in words."""
    if asked.fate is Fate.DECIDED:
        return "matched, and decided for the sublayer"
    if asked.fate is Fate.CONTINUED:
        return "matched, and its callout let go on"
    if asked.fate is Fate.LOST:
        by = f"'{told.told.decided.name}'" if told.told.decided else "another"
        return f"lost: it matches too, but {by} above it had ended the sublayer"
    tests = output.plural(len(asked.tests), "test")
    return f"missed {len(asked.missed)} of {tests}"


def _tested(test: FieldTest, layer: Layer) -> tuple[str, ...]:
    """Return one test: the mark, the field, what was known, what is asked for, and by how little it missed."""
    field = layer.field(test.field)
    mark = output.paint("✓", "green") if test.met else output.paint("✗", "red")
    if field is None:
        return mark, friendly_name(test.field), "?", f"asked for {' or '.join(str(one.value.data) for one in test.run)}"
    known = _cut(_shown(field, test.value)) if test.value is not None else "unknown"
    wanted = _cut(" or ".join(_wanted(layer, one) for one in test.run))
    return (
        mark,
        friendly_name(field.name),
        known,
        f"asked for {wanted}{'' if test.met else _by_how_little(field, test)}",
    )


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _by_how_little(field: Field, test: FieldTest) -> str:
    close = nearest(field, test)
    if close is None or close.distance is None or test.value is None:
        return ""
    if field.is_address:
        bits = 32 if field.type is DataType.UINT32 else 128
        same = bits - (as_integer(close.value) ^ as_integer(test.value)).bit_length()
        return f" (the first {same} of {bits} bits agree)"
    if bit_names(field):
        return f" ({output.plural(close.distance, 'bit')} off)"
    return f" ({close.distance} away)"


# --- values -----------------------------------------------------------------------------------------------------------


def _shown(field: Field, value: Value) -> str:
    """Return a value for people."""
    if value.type is DataType.EMPTY:
        return "empty"
    bits = bit_names(field)
    if bits and isinstance(value.data, int):
        return ", ".join(name for name, bit in bits.items() if value.data & bit) or "none set"
    if isinstance(value.data, bytes) and field.name in PATHS:
        return _path(value.data)
    try:
        return str(value_words(field, Value(DataType.UINT32, value.data) if field.name.endswith("USER_ID") else value))
    except (InputError, ValueError):
        return str(value.data if isinstance(value.data, str) else value_to_json(field, value))


def _path(data: bytes) -> str:
    """Return an application's path: UTF-16 with a NUL at its end where Windows wrote it, UTF-8 on Linux."""
    if data.endswith(b"\0\0") and len(data) % 2 == 0:
        return data[:-2].decode("utf-16-le", "replace")
    return data.decode("utf-8", "surrogateescape")


_WORDS: Final = {
    MatchType.EQUAL: "",
    MatchType.RANGE: "",
    MatchType.NOT_EQUAL: "not ",
    MatchType.GREATER: "more than ",
    MatchType.LESS: "less than ",
    MatchType.GREATER_OR_EQUAL: "at least ",
    MatchType.LESS_OR_EQUAL: "at most ",
    MatchType.FLAGS_ALL_SET: "all of ",
    MatchType.FLAGS_ANY_SET: "any of ",
    MatchType.FLAGS_NONE_SET: "none of ",
    MatchType.EQUAL_CASE_INSENSITIVE: "in any case ",
    MatchType.PREFIX: "ending in ",
    MatchType.NOT_PREFIX: "not ending in ",
}


def _wanted(layer: Layer, condition: Condition) -> str:
    """Return what a condition asks for, for people."""
    return f"{_WORDS[condition.match]}{_compared(layer, condition)}"


def _compared(layer: Layer, condition: Condition) -> str:
    field, value = layer.field(condition.field), condition.value
    if field is None:
        return str(value.data)
    if bit_names(field) and not isinstance(value.data, AddressMask):
        return _shown(field, value)
    if isinstance(value.data, bytes) and field.name in PATHS:
        return _path(value.data)
    try:
        return str(value_words(field, value))
    except InputError:
        return str(value.data)


# --- what it hangs on -------------------------------------------------------------------------------------------------


def _decision(verdict: Verdict) -> str:
    by = f" by '{verdict.filter.name}'" if verdict.filter else ", for no filter matches"
    return f"{_word(verdict.action)}{by}"


def _who(items: tuple[Filter, ...]) -> str:
    named = ", ".join(f"#{item.id} '{item.name}'" for item in items[:WHO_SHOWN])
    return named if len(items) <= WHO_SHOWN else f"{named} and {len(items) - WHO_SHOWN} more"


def _depends(depends: tuple[Dependence, ...], verdict: Verdict, layer: Layer) -> Iterator[str]:
    """Yield what can't be decided here: first what would turn the answer, then how much else there is."""
    if not depends:
        return
    yield "  what can't be decided here:"
    idle = 0
    for one in depends:
        if (one.verdict.action, one.verdict.filter) == (verdict.action, verdict.filter):
            idle += len(one.filters)
            continue
        if one.kind is DependenceKind.CALLOUT:
            yield f"    callout {one.callout} of {_who(one.filters)}: if it blocked, {_decision(one.verdict)}"
        else:
            tests = " and ".join(f"{friendly_name(test.field)} {_cut(_wanted(layer, test))}" for test in one.tests)
            yield f"    {_who(one.filters)}: with {tests}, {_decision(one.verdict)}"
    if idle:
        yield f"    {output.plural(idle, 'filter')} more, which would not change the answer either way"


def _changes(changes: tuple[Change, ...], verdict: Verdict, layer: Layer) -> Iterator[str]:
    """Yield what would turn the answer: other values, other filters."""
    yield "  what would change it:"
    for change in changes:
        said = []
        for name, value in change.values.items():
            field = layer.field(name)
            said.append(f"{friendly_name(name)} = {_shown(field, value) if field else repr(value.data)}")
        yield f"    {', '.join(said)}: {_decision(change.verdict)}"
    yield f"    {_by_policy(verdict)}"


def _by_policy(verdict: Verdict) -> str:
    """Return which filters would turn the answer."""
    told = next((one for one in verdict.sublayers if one.decided is verdict.filter is not None), None)
    if told is None or told.decided is None:
        return "a block filter at this layer, in any sublayer"
    place = bare(told.sublayer.name)
    weight = dict(zip((item.id for item in told.matched), told.weights, strict=True))[told.decided.id]
    heavier = f"heavier than {weight:#x} in {place}"
    if verdict.action is Action.PERMIT and not verdict.hard:
        return f"a block {heavier}, or a block in another sublayer"
    if verdict.action is Action.PERMIT:
        return f"a block {heavier}, or a block in a sublayer above it"
    return f"a permit {heavier} (hard where another sublayer blocks too), or a hard permit in a sublayer above it"
