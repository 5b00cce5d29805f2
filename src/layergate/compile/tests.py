"""From ordered filters to a list of tests with two exits each.

Every comparison becomes a range, a mask or a test of bits over an unsigned number: EQUAL is a range of one, a prefix
the range of its addresses, LESS n the range 0 to n-1. Applications and units become numbers, from 1 up, in the order of
first use. Worked example: "remote_port is 80 or 443, and protocol is 6" gives

    0  IP_REMOTE_PORT in [80, 80]     hit -> 2   miss -> 1
    1  IP_REMOTE_PORT in [443, 443]   hit -> 2   miss -> 3
    2  IP_PROTOCOL in [6, 6]          hit -> matched   miss -> 3

where 3 is the next filter. The verdict stands in the last group's tests, for any of them may be the one that matches.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from layergate.engine import in_order
from layergate.engine.matching import as_integer, groups
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    MatchType,
    NotSupportedError,
    Policy,
    Range,
    layer_by_id,
)
from layergate.model.values import BITS

GOTO_MATCHED: Final = 0xFFFFFFFF
GOTO_END: Final = 0xFFFFFFFE
ADDRESS_BITS: Final = 128


class Op(enum.IntEnum):
    """How a test compares; the numbers are the kernel's."""

    ALWAYS = 0
    IN_RANGE = 1
    NOT_IN_RANGE = 2
    ALL_SET = 3
    ANY_SET = 4
    NONE_SET = 5
    EMPTY = 6
    MASKED = 7
    NOT_MASKED = 8


_NEGATED: Final = {Op.IN_RANGE: Op.NOT_IN_RANGE, Op.MASKED: Op.NOT_MASKED}
_BITWISE: Final = {
    MatchType.FLAGS_ALL_SET: Op.ALL_SET,
    MatchType.FLAGS_ANY_SET: Op.ANY_SET,
    MatchType.FLAGS_NONE_SET: Op.NONE_SET,
}


@dataclass(frozen=True, slots=True)
class Test:
    """One test: where to go on when it holds (*hit*) and when not (*miss*); with GOTO_MATCHED the verdict counts."""

    __test__ = False  # not one of pytest's

    field: str
    op: Op
    low: int = 0
    high: int = 0
    hit: int = GOTO_MATCHED
    miss: int = GOTO_END
    filter: int = 0
    action: Action = Action.PERMIT
    hard: bool = False
    error: int = 0
    sublayer: int = 0
    sublayer_end: int = GOTO_END


@dataclass(frozen=True, slots=True)
class Compiled:
    """The tables of one version. Applications and units are numbered from 1, sublayers from 0, in their tuples."""

    version: int
    tables: Mapping[int, tuple[Test, ...]]
    layer_versions: Mapping[int, int]
    apps: tuple[bytes, ...]
    units: tuple[str, ...]
    sublayers: tuple[str, ...]
    filters: Mapping[int, Filter] = field(default_factory=dict)

    def table(self, layer: int) -> tuple[Test, ...]:
        """Return the tests of the layer with id *layer*."""
        return self.tables.get(layer, ())


class _Names:
    """Gives names numbers, in the order of first use."""

    def __init__(self, before: Compiled | None) -> None:
        self.apps = {name: number for number, name in enumerate(before.apps if before else (), 1)}
        self.units = {name: number for number, name in enumerate(before.units if before else (), 1)}

    def of(self, condition: Condition) -> int | None:
        data = condition.value.data
        if condition.field == "ALE_APP_ID" and isinstance(data, bytes):
            return self.apps.setdefault(data, len(self.apps) + 1)
        if condition.field == "ALE_PACKAGE_ID" and isinstance(data, str):
            return self.units.setdefault(data, len(self.units) + 1)
        return None


def compile_policy(policy: Policy, before: Compiled | None = None) -> Compiled:
    """Compile *policy*; what *before* it was named keeps its number. Cost: O(n log n) in its conditions.

    Raises:
        NotSupportedError: a condition that no table can express (`check` names it before), or a callout.
    """
    names, ordered = _Names(before), in_order(policy)
    place = {sublayer.name: number for number, sublayer in enumerate(policy.sublayers)}
    tables = {}
    for layer, heard in ordered.layers.items():
        tests: list[Test] = []
        for sublayer, filters in heard:
            start = len(tests)
            for item in filters:
                _add(tests, item, names, place[sublayer.name])
            end = len(tests)
            tests[start:] = [replace(test, sublayer_end=end) for test in tests[start:]]
        total = len(tests)
        tables[layer] = tuple(
            replace(
                test,
                miss=GOTO_END if test.miss >= total else test.miss,
                sublayer_end=GOTO_END if test.sublayer_end >= total else test.sublayer_end,
            )
            for test in tests
        )
    return Compiled(
        version=policy.version,
        tables=tables,
        layer_versions=policy.layer_versions,
        apps=tuple(names.apps),
        units=tuple(names.units),
        sublayers=tuple(sublayer.name for sublayer in policy.sublayers),
        filters={item.id: item for item in policy.filters},
    )


def _add(tests: list[Test], item: Filter, names: _Names, sublayer: int) -> None:
    if item.action.is_callout:
        raise NotSupportedError(
            f"filter '{item.name}'",
            f"the kernel can't ask the callout '{item.callout}'",
            "a filter that permits or blocks",
        )
    runs = [tuple(_compared(one, item, names) for one in run) for _, run in groups(item.conditions)]
    runs = runs or [(Test("", Op.ALWAYS),)]
    end = len(tests) + sum(map(len, runs))
    for number, run in enumerate(runs):
        start = len(tests)
        last = number == len(runs) - 1
        for offset, test in enumerate(run):
            tests.append(
                replace(
                    test,
                    hit=GOTO_MATCHED if last else start + len(run),
                    miss=end if offset == len(run) - 1 else start + offset + 1,
                    filter=item.id,
                    action=item.action,
                    hard=item.hard,
                    error=item.error,
                    sublayer=sublayer,
                )
            )


def _compared(condition: Condition, item: Filter, names: _Names) -> Test:
    name, how, value = condition.field, condition.match, condition.value
    if value.type is DataType.EMPTY:
        return Test(name, Op.EMPTY)
    number = names.of(condition)
    if number is not None:
        if how in (MatchType.EQUAL, MatchType.NOT_EQUAL):
            return _either(Test(name, Op.IN_RANGE, number, number), how)
        raise _refusal(condition, item)
    if isinstance(value.data, AddressMask):
        return _either(_masked(name, value.data, ADDRESS_BITS if value.type is DataType.V6_ADDR_MASK else 32), how)
    if isinstance(value.data, Range):
        if not isinstance(value.data.low.data, int | bytes) or value.data.low.type is DataType.BYTE_BLOB:
            raise _refusal(condition, item)
        return Test(name, Op.IN_RANGE, as_integer(value.data.low), as_integer(value.data.high))
    if value.type not in BITS and value.type is not DataType.BYTE_ARRAY16:
        raise _refusal(condition, item)
    data = as_integer(value)
    top = (1 << (ADDRESS_BITS if value.type is DataType.BYTE_ARRAY16 else BITS[value.type])) - 1
    if how in _BITWISE:
        return Test(name, _BITWISE[how], data)
    spans = {
        MatchType.EQUAL: (data, data),
        MatchType.NOT_EQUAL: (data, data),
        MatchType.GREATER: (data + 1, top),
        MatchType.GREATER_OR_EQUAL: (data, top),
        MatchType.LESS: (0, data - 1),
        MatchType.LESS_OR_EQUAL: (0, data),
    }
    if how not in spans:
        raise _refusal(condition, item)
    low, high = spans[how]
    # Nothing is greater than the greatest: a range that is upside down holds for nothing.
    return _either(Test(name, Op.IN_RANGE, *((low, high) if low <= high else (1, 0))), how)


def _either(test: Test, how: MatchType) -> Test:
    return replace(test, op=_NEGATED[test.op]) if how is MatchType.NOT_EQUAL else test


def _masked(name: str, mask: AddressMask, bits: int) -> Test:
    free = (1 << bits) - 1 & ~mask.mask
    low = mask.address & mask.mask
    if free & free + 1 == 0:  # the mask is a prefix
        return Test(name, Op.IN_RANGE, low, low | free)
    return Test(name, Op.MASKED, low, mask.mask)


def _refusal(condition: Condition, item: Filter) -> NotSupportedError:
    return NotSupportedError(
        f"filter '{item.name}'",
        f"{condition.match.name} of {condition.value.type.name} on {condition.field} "
        f"at {layer_by_id(item.layer.id).short} can't be put into a table",
        "test the field for equality",
    )
