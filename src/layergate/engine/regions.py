"""Which values the conditions on one field cover, and how two such sets lie to one another.

A run of conditions on a numeric field is a union of ranges; tests of bits stay as they are, because their values are no
ranges; texts and bytes are a finite set, or everything but one value. What a security descriptor grants, and which
SIDs a token holds, can't be said in values: such a condition is like itself only. Two answers, each exact or silent:

- `covers(wide, narrow)`: True only where every value that meets *narrow* meets *wide*, for certain.
- `disjoint(one, other)`: True only where no value meets both, for certain.

Worked example: ranges 0-21, 23-65535 cover 443; they are disjoint from 22; FLAGS_ALL_SET 5 is covered by
FLAGS_ALL_SET 1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from layergate.engine.matching import as_integer, matches
from layergate.model import LAYERS, AddressMask, Condition, DataType, MatchType, Range, Value
from layergate.model.lines import TOKENS
from layergate.model.values import BITS

_ADDRESS_BITS: Final = 128
_MASK_BITS: Final = {DataType.V4_ADDR_MASK: 32, DataType.V6_ADDR_MASK: _ADDRESS_BITS}
_FLAGS: Final = (MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ANY_SET, MatchType.FLAGS_NONE_SET)
_TOKEN_FIELDS: Final = frozenset(field.name for layer in LAYERS for field in layer.fields if field.type in TOKENS)

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Region:
    """What a run of conditions on one field covers.

    *ranges*: of a number, merged and ascending; *values*: single texts or bytes; *rest*: conditions that are neither;
    *empty*: whether an unknown value is covered.
    """

    ranges: Ranges = ()
    values: frozenset[Hashable] = frozenset()
    rest: tuple[Condition, ...] = ()
    empty: bool = False

    @property
    def has_values(self) -> bool:
        """Whether some value certainly meets it."""
        return bool(self.ranges or self.values or self.empty)

    @property
    def single(self) -> Hashable | None:
        """Return the one value that is covered, None where there are several."""
        if self.rest or self.empty:
            return None
        if len(self.ranges) == 1 and not self.values and self.ranges[0][0] == self.ranges[0][1]:
            return self.ranges[0][0]
        return next(iter(self.values)) if len(self.values) == 1 and not self.ranges else None


def region(run: tuple[Condition, ...]) -> Region:
    """Return what *run*, the conditions on one field, covers. Cost: O(n log n)."""
    ranges: list[tuple[int, int]] = []
    values: set[Hashable] = set()
    rest: list[Condition] = []
    is_empty = False
    for condition in run:
        span = _span(condition)
        if condition.value.type is DataType.EMPTY:
            is_empty = True
        elif span is not None:
            ranges += span
        elif is_opaque(condition):
            rest.append(condition)
        elif condition.match is MatchType.EQUAL and isinstance(condition.value.data, str | bytes):
            values.add(condition.value.data)
        else:
            rest.append(condition)
    return Region(_merged(ranges), frozenset(values), tuple(rest), is_empty)


def is_opaque(condition: Condition) -> bool:
    """Whether *condition* is an access check or a look into a token: two of them say nothing of one another."""
    kind = condition.value.type
    return kind is DataType.SECURITY_DESCRIPTOR or (kind is DataType.SID and condition.field in _TOKEN_FIELDS)


def _bits(value: Value) -> int | None:
    return _ADDRESS_BITS if value.type is DataType.BYTE_ARRAY16 else BITS.get(value.type)


def _span(condition: Condition) -> list[tuple[int, int]] | None:
    """Return the ranges of numbers that *condition* covers, None where it is no matter of ranges."""
    value, how = condition.value, condition.match
    if isinstance(value.data, AddressMask):
        return _prefix(value.data, _MASK_BITS[value.type], how)
    if isinstance(value.data, Range):
        low, high = value.data.low, value.data.high
        return [(as_integer(low), as_integer(high))] if how is MatchType.RANGE and _bits(low) else None
    bits = _bits(value)
    if bits is None or how in _FLAGS:
        return None
    number, top = as_integer(value), (1 << bits) - 1
    spans = {
        MatchType.EQUAL: [(number, number)],
        MatchType.NOT_EQUAL: [(0, number - 1), (number + 1, top)],
        MatchType.GREATER: [(number + 1, top)],
        MatchType.GREATER_OR_EQUAL: [(number, top)],
        MatchType.LESS: [(0, number - 1)],
        MatchType.LESS_OR_EQUAL: [(0, number)],
    }.get(how)
    return None if spans is None else [(low, high) for low, high in spans if low <= high]


def _prefix(mask: AddressMask, bits: int, how: MatchType) -> list[tuple[int, int]] | None:
    top = (1 << bits) - 1
    host = top ^ mask.mask
    if host & (host + 1):  # the mask has holes: no range
        return None
    low = mask.address & mask.mask
    inside = (low, low | host)
    if how is MatchType.EQUAL:
        return [inside]
    return [(begin, end) for begin, end in ((0, inside[0] - 1), (inside[1] + 1, top)) if begin <= end]


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = result[-1][0], max(result[-1][1], high)
        else:
            result.append((low, high))
    return tuple(result)


def is_nothing(one: Region) -> bool:
    """Whether certainly no value meets *one*, not even an unknown one."""
    return not (one.ranges or one.values or one.rest or one.empty)


def covers(wide: Region, narrow: Region) -> bool:
    """Whether every value that meets *narrow* certainly meets *wide*."""
    if narrow.empty and not wide.empty:
        return False
    if not all(_within(low, high, wide) for low, high in narrow.ranges):
        return False
    if not all(value in wide.values or any(_meets(value, one) for one in wide.rest) for value in narrow.values):
        return False
    return all(any(_implies(one, other) for other in wide.rest) for one in narrow.rest)


def _within(low: int, high: int, wide: Region) -> bool:
    place = bisect_right(wide.ranges, low, key=_begin) - 1
    if place >= 0 and high <= wide.ranges[place][1]:
        return True
    return low == high and any(_number_meets(low, one) for one in wide.rest if one.match in _FLAGS)


def _number_meets(number: int, condition: Condition) -> bool:
    return condition.value.type in BITS and matches(Value(condition.value.type, number), condition)


def _meets(value: Hashable, condition: Condition) -> bool:
    """Whether the text or bytes *value* meets *condition*."""
    return matches(Value(condition.value.type, value), condition)  # type: ignore[arg-type]


def _implies(one: Condition, other: Condition) -> bool:
    """Whether whatever meets *one* certainly meets *other*, both being no matter of ranges."""
    if one == other:
        return True
    if one.match not in _FLAGS or other.match not in _FLAGS:
        return False
    mask, wanted = int(one.value.data), int(other.value.data)  # type: ignore[arg-type]
    how = (one.match, other.match)
    if how in (
        (MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ALL_SET),
        (MatchType.FLAGS_NONE_SET, MatchType.FLAGS_NONE_SET),
    ):
        return wanted & mask == wanted
    if how == (MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ANY_SET):
        return wanted & mask != 0
    return how == (MatchType.FLAGS_ANY_SET, MatchType.FLAGS_ANY_SET) and mask & ~wanted == 0


def disjoint(one: Region, other: Region) -> bool:
    """Whether certainly no value meets both."""
    if one.empty and other.empty:
        return False
    few, many = sorted((one.ranges, other.ranges), key=len)
    if any(_touches(low, high, many) for low, high in few):
        return False
    if one.values & other.values:
        return False
    return _rest_apart(one, other) and _rest_apart(other, one)


def _begin(span: tuple[int, int]) -> int:
    return span[0]


def _touches(low: int, high: int, ranges: Ranges) -> bool:
    place = bisect_right(ranges, high, key=_begin) - 1
    return place >= 0 and low <= ranges[place][1]


def _rest_apart(one: Region, other: Region) -> bool:
    """Whether nothing of *one* that is no matter of ranges meets *other*."""
    for condition in one.rest:
        if any(low != high or _number_meets(low, condition) for low, high in other.ranges):
            return False
        if any(_meets(value, condition) for value in other.values):
            return False
        if not all(_apart(condition, its) for its in other.rest):
            return False
    return True


def _apart(one: Condition, other: Condition) -> bool:
    """Whether certainly nothing meets both conditions on bits."""
    for first, second in ((one, other), (other, one)):
        if second.match is MatchType.FLAGS_NONE_SET:
            mask, clear = int(first.value.data), int(second.value.data)  # type: ignore[arg-type]
            if first.match is MatchType.FLAGS_ALL_SET and mask & clear:
                return True
            if first.match is MatchType.FLAGS_ANY_SET and not mask & ~clear:
                return True
    return False
