"""Whether a value meets a condition: all match types over all value types.

The rules: no conversion between types (an address field against an address mask, and a token against a security
descriptor, are the only exceptions); RANGE includes both ends; PREFIX tests the end of the value, as the platform
does; an empty value meets only EQUAL against EMPTY.
Source: Microsoft, "FWP_MATCH_TYPE", "FWP_CONDITION_VALUE0"; consecutive conditions on one field are alternatives
("FWPM_FILTER0").
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final

from layergate.engine.sddl import grants
from layergate.model import AddressMask, Condition, DataType, Field, MatchType, Range, Token, Value
from layergate.model.values import BITS, SORTABLE

_ORDER: Final[dict[MatchType, Callable[[Any, Any], bool]]] = {
    MatchType.EQUAL: operator.eq,
    MatchType.NOT_EQUAL: operator.ne,
    MatchType.GREATER: operator.gt,
    MatchType.LESS: operator.lt,
    MatchType.GREATER_OR_EQUAL: operator.ge,
    MatchType.LESS_OR_EQUAL: operator.le,
}
_FLAGS: Final[dict[MatchType, Callable[[int, int], bool]]] = {
    MatchType.FLAGS_ALL_SET: lambda value, mask: value & mask == mask,
    MatchType.FLAGS_ANY_SET: lambda value, mask: value & mask != 0,
    MatchType.FLAGS_NONE_SET: lambda value, mask: value & mask == 0,
}
_TOKENS: Final = (DataType.TOKEN_INFORMATION, DataType.TOKEN_ACCESS_INFORMATION)
_MASKS: Final = {DataType.V4_ADDR_MASK: DataType.UINT32, DataType.V6_ADDR_MASK: DataType.BYTE_ARRAY16}
_SUFFIX: Final = (MatchType.PREFIX, MatchType.NOT_PREFIX)

Assumed = Mapping[Condition, bool]
NOTHING_ASSUMED: Final[Assumed] = MappingProxyType({})


def as_integer(value: Value) -> int:
    """Return an address value as an integer (32 or 128 bits)."""
    return int.from_bytes(value.data, "big") if isinstance(value.data, bytes) else int(value.data)  # type: ignore[arg-type]


def matches(value: Value | None, condition: Condition) -> bool:
    """Whether *value* (None: empty) meets *condition*.

    Cost: O(1). Total: a pair that `condition_problem` would refuse never matches.
    """
    wanted, how = condition.value, condition.match
    if wanted.type is DataType.EMPTY:
        return how is MatchType.EQUAL and (value is None or value.type is DataType.EMPTY)
    if value is None or value.type is DataType.EMPTY:
        return False
    if isinstance(wanted.data, AddressMask):
        inside = as_integer(value) & wanted.data.mask == wanted.data.address & wanted.data.mask
        return {MatchType.EQUAL: inside, MatchType.NOT_EQUAL: not inside}.get(how, False)
    if isinstance(wanted.data, Range):
        low, high = wanted.data.low, wanted.data.high
        return how is MatchType.RANGE and low.type is value.type and low.data <= value.data <= high.data  # type: ignore[operator]
    if value.type in _TOKENS:
        return _token_matches(value, condition)
    if wanted.type is not value.type:
        return False
    if how in _FLAGS:
        return value.type in BITS and _FLAGS[how](value.data, wanted.data)  # type: ignore[arg-type]
    if how is MatchType.EQUAL_CASE_INSENSITIVE:
        return value.type is DataType.UNICODE_STRING and str(value.data).casefold() == str(wanted.data).casefold()
    if how in _SUFFIX:
        ends = isinstance(value.data, str | bytes) and value.data.endswith(wanted.data)  # type: ignore[arg-type]
        return ends is (how is MatchType.PREFIX)
    return how in _ORDER and _ORDER[how](value.data, wanted.data)


def _token_matches(value: Value, condition: Condition) -> bool:
    """Whether *value* passes: a user id by its number, a token by an access check or by holding a SID."""
    wanted, how = condition.value, condition.match
    if isinstance(value.data, Token):
        if how not in (MatchType.EQUAL, MatchType.NOT_EQUAL) or not isinstance(wanted.data, str):
            return False
        is_sid = wanted.type is DataType.SID
        passes = wanted.data in value.data.sids if is_sid else grants(wanted.data, value.data.sids)
        return passes is (how is MatchType.EQUAL)
    return wanted.type is DataType.UINT32 and how in _ORDER and _ORDER[how](value.data, wanted.data)


def groups(conditions: tuple[Condition, ...]) -> Iterator[tuple[str, tuple[Condition, ...]]]:
    """Yield (field, its alternatives): the runs of conditions on one field, in order."""
    for name, run in groupby(conditions, key=operator.attrgetter("field")):
        yield name, tuple(run)


def meets(value: Value | None, condition: Condition, assumed: Assumed) -> bool:
    """Whether *condition* holds: as *assumed*, where it is, else by *value*."""
    known = assumed.get(condition) if assumed else None
    return matches(value, condition) if known is None else known


def matches_all(
    values: Mapping[str, Value], conditions: tuple[Condition, ...], assumed: Assumed = NOTHING_ASSUMED
) -> bool:
    """Whether *values* meet *conditions*: every field's group has an alternative that holds. None at all: always."""
    return all(any(meets(values.get(name), one, assumed) for one in run) for name, run in groups(conditions))


def condition_problem(field: Field, condition: Condition) -> str | None:
    """Return why *condition* can't be put on *field*, with its FWP_E_ name, or None where it can.

    Source: Microsoft, FwpmFilterAdd0 remarks ("no type conversion"). A user id (UINT32) against a token is layergate's
    own: the Linux form of an access check.
    """
    value, how = condition.value, condition.match
    if value.type is DataType.EMPTY:
        return None if how is MatchType.EQUAL else "FWP_E_MATCH_TYPE_MISMATCH: only EQUAL can test for EMPTY"
    if how is MatchType.RANGE:
        return _range_problem(field, value)
    if isinstance(value.data, Range):
        return "FWP_E_MATCH_TYPE_MISMATCH: a range needs the match type RANGE"
    if value.type in _MASKS:
        # On FLAGS a mask is layergate's own: these bits set and those clear, at once, in one condition.
        masked = field.is_address or field.kind == "FLAGS"
        fits = masked and _MASKS[value.type] is field.type and how in (MatchType.EQUAL, MatchType.NOT_EQUAL)
        return None if fits else f"FWP_E_TYPE_MISMATCH: {field.name} is {field.type.name}, not {value.type.name}"
    if field.type in _TOKENS:
        if value.type not in (DataType.SECURITY_DESCRIPTOR, DataType.SID, DataType.UINT32):
            return f"FWP_E_TYPE_MISMATCH: {field.name} takes a security descriptor or a user id, not {value.type.name}"
        return None if how in (MatchType.EQUAL, MatchType.NOT_EQUAL) else _mismatch(field, how)
    if value.type is not field.type:
        return f"FWP_E_TYPE_MISMATCH: {field.name} is {field.type.name}, not {value.type.name}"
    if how in _FLAGS:
        return None if field.type in BITS else _mismatch(field, how)
    if how is MatchType.EQUAL_CASE_INSENSITIVE:
        return None if field.type is DataType.UNICODE_STRING else _mismatch(field, how)
    if how in _SUFFIX:
        return None if field.type in (DataType.UNICODE_STRING, DataType.BYTE_BLOB) else _mismatch(field, how)
    # NOT_EQUAL on a SID is formally no sortable type, and is in every real dump (the package id).
    if how is MatchType.EQUAL or (how is MatchType.NOT_EQUAL and field.type is DataType.SID):
        return None
    return None if field.type in SORTABLE else _mismatch(field, how)


def _mismatch(field: Field, how: MatchType) -> str:
    return f"FWP_E_MATCH_TYPE_MISMATCH: {how.name} can't test {field.name} ({field.type.name})"


def _range_problem(field: Field, value: Value) -> str | None:
    if not isinstance(value.data, Range):
        return "FWP_E_MATCH_TYPE_MISMATCH: RANGE needs a range"
    low, high = value.data.low, value.data.high
    if low.type is not field.type:
        return f"FWP_E_TYPE_MISMATCH: {field.name} is {field.type.name}, not {low.type.name}"
    if field.type not in SORTABLE:
        return _mismatch(field, MatchType.RANGE)
    if low.data > high.data:  # type: ignore[operator]
        return f"FWP_E_INVALID_RANGE: the range for {field.name} is upside down"
    return None
