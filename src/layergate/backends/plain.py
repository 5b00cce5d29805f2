"""The tables in plain Python: the kernel's loop (kernel/bpf/classify.h), statement for statement."""

from __future__ import annotations

from collections.abc import Mapping

from layergate.compile import GOTO_END, GOTO_MATCHED, Compiled, Op, Test
from layergate.engine.matching import as_integer
from layergate.model import Action, Layer, Value


def decide(compiled: Compiled, layer: Layer, values: Mapping[str, Value]) -> tuple[Action, int]:
    """Return the action and the deciding filter's id (0: none). Cost: O(tests). Equal to engine.classify."""
    tests = compiled.table(layer.id)
    numbers = {name: _number(compiled, name, value) for name, value in values.items()}
    action, reported, cursor = None, 0, 0 if tests else GOTO_END
    while cursor != GOTO_END:
        test = tests[cursor]
        if not holds(test, numbers.get(test.field)):
            cursor = test.miss
        elif test.hit != GOTO_MATCHED:
            cursor = test.hit
        else:
            if action is not test.action:
                action, reported = test.action, test.filter
            if test.hard:
                break
            cursor = test.sublayer_end
    return action or Action.PERMIT, reported


def holds(test: Test, value: int | None) -> bool:
    """Whether *value* (None: empty) meets *test*."""
    if test.op is Op.ALWAYS:
        return True
    if value is None:
        return test.op is Op.EMPTY
    inside = test.low <= value <= test.high
    return {
        Op.IN_RANGE: inside,
        Op.NOT_IN_RANGE: not inside,
        Op.ALL_SET: value & test.low == test.low,
        Op.ANY_SET: value & test.low != 0,
        Op.NONE_SET: value & test.low == 0,
        Op.MASKED: value & test.high == test.low,
        Op.NOT_MASKED: value & test.high != test.low,
    }.get(test.op, False)


def _number(compiled: Compiled, name: str, value: Value) -> int | None:
    if value.data is None:
        return None
    if name == "ALE_APP_ID":
        return compiled.apps.index(value.data) + 1 if value.data in compiled.apps else 0
    if name == "ALE_PACKAGE_ID":
        return compiled.units.index(value.data) + 1 if value.data in compiled.units else 0
    return as_integer(value)
