"""Why a verdict is what it is: every filter that was asked, each of its tests, and what became of it.

`account` tells each sublayer's filters in the order in which they were asked, with every field that they test beside
what was known of it. It decides nothing: matched, decided and lost are `classify`'s own words. `nearest` says by how
little a test was missed; `doubts`, where the platform's documentation leaves open what it would decide.

Worked example: at ALE_AUTH_CONNECT_V4 with remote port 22, the filter "the web" (remote port 80 or 443) *missed* at
IP_REMOTE_PORT, 58 away from 80, and "nothing else leaves" (no conditions) *decided*.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from layergate.engine.arbitration import Ordered
from layergate.engine.matching import NOTHING_ASSUMED, Assumed, as_integer, groups, meets
from layergate.engine.regions import region
from layergate.engine.weights import effective_weight
from layergate.model import Action, Condition, DataType, Field, Filter, Indication, MatchType, Value, Verdict
from layergate.model.indication import SublayerVerdict
from layergate.model.values import BITS, EMPTY

ADDRESS_BITS: Final = 128


class Fate(enum.StrEnum):
    """What became of a filter."""

    DECIDED = "decided"
    CONTINUED = "continued"
    LOST = "lost"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One field that a filter tests: *run* are its alternatives, *value* what was known, None for nothing."""

    field: str
    run: tuple[Condition, ...]
    value: Value | None
    met: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One filter, and all that it tested."""

    filter: Filter
    fate: Fate
    weight: int
    tests: tuple[FieldTest, ...] = ()

    @property
    def missed(self) -> tuple[FieldTest, ...]:
        """Return the tests that failed."""
        return tuple(test for test in self.tests if not test.met)


@dataclass(frozen=True, slots=True)
class Account:
    """One sublayer: what it said, and its filters in the order of asking."""

    told: SublayerVerdict
    asked: tuple[Asked, ...]


def account(
    ordered: Ordered, indication: Indication, verdict: Verdict, *, assumed: Assumed = NOTHING_ASSUMED
) -> tuple[Account, ...]:
    """Return how *verdict* came about: what `classify` said of the same arguments. Cost: O(filters of the layer)."""
    return tuple(
        Account(told, tuple(_asked(item, indication.values, told, assumed) for item in filters))
        for (_, filters), told in zip(ordered.at(indication.layer), verdict.sublayers, strict=True)
    )


def _asked(item: Filter, values: Mapping[str, Value], told: SublayerVerdict, assumed: Assumed) -> Asked:
    tests = tuple(
        FieldTest(name, run, values.get(name), any(meets(values.get(name), one, assumed) for one in run))
        for name, run in groups(item.conditions)
    )
    if not all(test.met for test in tests):
        fate = Fate.MISSED
    elif item is told.decided:
        fate = Fate.DECIDED
    else:
        fate = Fate.CONTINUED if any(item is one for one in told.continued) else Fate.LOST
    return Asked(item, fate, effective_weight(item), tests)


@dataclass(frozen=True, slots=True)
class Nearest:
    """A value that a run of tests would have taken. *distance*: how far it is, None where that has no measure."""

    value: Value
    distance: int | None = None


def nearest(field: Field, test: FieldTest) -> Nearest | None:
    """Return the value nearest to the one of *test* that meets it, None where none can be named.

    Numbers and addresses have a distance; of texts any that is asked for will do; bits are set and cleared as asked.
    """
    if any(isinstance(one.value.data, str) and field.type.name.startswith("TOKEN") for one in test.run):
        return None
    covered = region(test.run)
    is_number = test.value is not None and (test.value.type in BITS or test.value.type is DataType.BYTE_ARRAY16)
    number = as_integer(test.value) if test.value and is_number else None
    if covered.ranges:
        ends = (_end(number, low, high) for low, high in covered.ranges)
        best = min(ends, key=lambda end: abs(end - (number or 0)))
        return Nearest(_number(field, best), None if number is None else abs(best - number))
    for one in covered.rest:
        bits = _bits(one, number or 0)
        if bits is not None and one.value.type in BITS:
            return Nearest(_number(field, bits), (bits ^ (number or 0)).bit_count())
    if covered.values:
        kind = test.run[0].value.type
        return Nearest(Value(kind, min(covered.values, key=repr)))  # type: ignore[arg-type]
    return Nearest(EMPTY) if covered.empty else None


def nearest_outside(field: Field, test: FieldTest) -> Nearest | None:
    """Return the value nearest to the one of *test* that no longer meets it, None where none can be named.

    Of numbers and addresses, and of tests of bits; of texts any other would do, and none is special; nor is the number
    next to a protocol's or to that of a kind of address.
    """
    covered = region(test.run)
    if test.value is None or field.type is DataType.UINT8 or not test.met:
        return None
    if test.value.type not in BITS and test.value.type is not DataType.BYTE_ARRAY16:
        return None
    number, bits = as_integer(test.value), BITS.get(test.value.type, ADDRESS_BITS)
    for low, high in covered.ranges:
        if low <= number <= high and not covered.rest:
            outside = [end for end in (low - 1, high + 1) if 0 <= end < 1 << bits]
            best = min(outside, key=lambda end: abs(end - number), default=None)
            return None if best is None else Nearest(_number(field, best), abs(best - number))
    if len(test.run) == 1 and isinstance(test.run[0].value.data, int):
        mask = test.run[0].value.data
        turned = {
            MatchType.FLAGS_ALL_SET: number & ~(mask & -mask),
            MatchType.FLAGS_ANY_SET: number & ~mask,
            MatchType.FLAGS_NONE_SET: number | mask & -mask,
        }.get(test.run[0].match)
        if turned is not None and turned != number:
            return Nearest(_number(field, turned), (turned ^ number).bit_count())
    return None


def _end(number: int | None, low: int, high: int) -> int:
    return low if number is None else min(max(number, low), high)


def _number(field: Field, number: int) -> Value:
    if field.type is DataType.BYTE_ARRAY16:
        return Value(field.type, number.to_bytes(16, "big"))
    return Value(field.type, number)


def _bits(condition: Condition, number: int) -> int | None:
    """Return *number* with as few bits changed as *condition* on bits asks for, None where it is no such condition."""
    mask = condition.value.data
    if not isinstance(mask, int):
        return None
    if condition.match is MatchType.FLAGS_ALL_SET:
        return number | mask
    if condition.match is MatchType.FLAGS_NONE_SET:
        return number & ~mask
    if condition.match is MatchType.FLAGS_ANY_SET and mask:
        return number if number & mask else number | mask & -mask
    return None


class DoubtKind(enum.StrEnum):
    """What can be doubtful about a verdict."""

    TIE = "tie"
    FILTER_VETO = "filter-veto"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that the platform leaves open: *filters* are those between which it stands."""

    kind: DoubtKind
    filters: tuple[Filter, ...]
    text: str


def doubts(verdict: Verdict) -> tuple[Doubt, ...]:
    """Return what the platform's documentation leaves open of *verdict*. Cost: O(matching filters)."""
    return (*_ties(verdict), *_filter_vetoes(verdict))


def _ties(verdict: Verdict) -> Iterator[Doubt]:
    """Yield filters of one weight and another action beside the one that decided their sublayer."""
    for told in verdict.sublayers:
        if told.decided is None:
            continue
        weights = dict(zip((item.id for item in told.matched), told.weights, strict=True))
        for item in told.lost:
            if weights[item.id] == weights[told.decided.id] and item.action is not told.decided.action:
                text = (
                    f"'{told.decided.name}' and '{item.name}' have one weight and opposite actions: "
                    "which is heard first is not defined; here the lower id is"
                )
                yield Doubt(DoubtKind.TIE, (told.decided, item), text)


def _filter_vetoes(verdict: Verdict) -> Iterator[Doubt]:
    """Yield plain filters that block, or blocked, against a hard permit: the documentation can be read both ways."""
    permit: Filter | None = None
    for told in verdict.sublayers:
        if permit and told.decided and told.decided.action is Action.BLOCK:
            outcome = "taken for a veto here" if told.veto else "not taken for a veto here"
            text = (
                f"'{permit.name}' is a hard permit, and the plain filter '{told.decided.name}' below it blocks: "
                f"{outcome}; Windows has been seen to do either"
            )
            yield Doubt(DoubtKind.FILTER_VETO, (permit, told.decided), text)
        if told.action is Action.BLOCK and told.hard:
            return
        if permit is None and told.action is Action.PERMIT and told.hard:
            permit = told.decided
