"""The worked examples of arbitration that need plain filters only. A is the heavier sublayer, B the lighter."""

from __future__ import annotations

from typing import Any

import pytest

from layergate.engine import classify, in_order
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    MatchType,
    Policy,
    Sublayer,
    Value,
    layer_named,
)

LAYER = layer_named("ALE_AUTH_CONNECT_V4")
NEVER = (Condition("IP_REMOTE_PORT", MatchType.EQUAL, Value(DataType.UINT16, 1)),)
P, B = Action.PERMIT, Action.BLOCK
CLEAR = FilterFlag.CLEAR_ACTION_RIGHT
QUARANTINE, WSH, WF = Sublayer("QUARANTINE", 4), Sublayer("WSH", 3), Sublayer("WF", 2)
HEAVY, LIGHT = Sublayer("A", 10), Sublayer("B", 5)

# sentence; sublayers; (sublayer, weight, action, flags, conditions) by id; action, reported filter, hard
EXAMPLES = [
    (
        "1: a soft permit is overridden by a block below",
        (HEAVY, LIGHT),
        [("A", 0, P, 0, ()), ("B", 0, B, 0, ())],
        B,
        2,
        True,
    ),
    (
        "2: a hard permit stands against a block below",
        (HEAVY, LIGHT),
        [("A", 0, P, CLEAR, ()), ("B", 0, B, 0, ())],
        P,
        1,
        True,
    ),
    (
        "4: a block stands against a hard permit below",
        (HEAVY, LIGHT),
        [("A", 0, B, 0, ()), ("B", 0, P, CLEAR, ())],
        B,
        1,
        True,
    ),
    ("7: in one sublayer the heavier permit ends it", (HEAVY,), [("A", 5, B, 0, ()), ("A", 10, P, 0, ())], P, 2, False),
    (
        "9: nothing matches, so it is permitted",
        (HEAVY, LIGHT),
        [("A", 0, B, 0, NEVER), ("B", 0, B, 0, NEVER)],
        P,
        None,
        False,
    ),
    (
        "11: three blocks, the first is reported",
        (QUARANTINE, WSH, WF),
        [("WF", 0, B, 0, ()), ("WSH", 0, B, 0, ()), ("QUARANTINE", 0, B, 0, ())],
        B,
        3,
        True,
    ),
    ("12: two permits, the first is reported", (WSH, WF), [("WSH", 0, P, 0, ()), ("WF", 0, P, 0, ())], P, 1, False),
    ("13: a block above a permit", (WSH, WF), [("WSH", 0, B, 0, ()), ("WF", 0, P, 0, ())], B, 1, True),
    (
        "15: a hard permit stands against a block that clears the right",
        (HEAVY, LIGHT),
        [("A", 0, P, CLEAR, ()), ("B", 0, B, CLEAR, ())],
        P,
        1,
        True,
    ),
]


def policy_of(sublayers: tuple[Sublayer, ...], rows: list[tuple[Any, ...]]) -> Policy:
    return Policy(
        sublayers,
        tuple(
            Filter(
                number,
                f"f{number}",
                LAYER,
                sublayer,
                action,
                conditions,
                Value(DataType.UINT64, weight),
                FilterFlag(flags),
            )
            for number, (sublayer, weight, action, flags, conditions) in enumerate(rows, 1)
        ),
    )


@pytest.mark.parametrize(
    "sublayers, rows, action, reported, is_hard", [row[1:] for row in EXAMPLES], ids=[row[0] for row in EXAMPLES]
)
def test_worked_example(
    *,
    sublayers: tuple[Sublayer, ...],
    rows: list[tuple[Any, ...]],
    action: Action,
    reported: int | None,
    is_hard: bool,
) -> None:
    verdict = classify(in_order(policy_of(sublayers, rows)), LAYER, {})
    assert verdict.action is action
    assert (verdict.filter.id if verdict.filter else None) == reported
    assert verdict.hard is is_hard


def test_all_sublayers_are_listed_also_after_a_block() -> None:
    rows = [("WF", 0, B, 0, ()), ("WSH", 0, B, 0, ()), ("QUARANTINE", 0, B, 0, ())]
    verdict = classify(in_order(policy_of((WF, QUARANTINE, WSH), rows)), LAYER, {})
    assert [told.sublayer.name for told in verdict.sublayers] == ["QUARANTINE", "WSH", "WF"]
    assert all(told.took_effect for told in verdict.sublayers)
    assert verdict.sublayers[1].effect == "agrees with 'f3', which had already settled it"


def test_every_effect_is_said() -> None:
    rows = [("A", 9, P, 0, ()), ("A", 8, B, 0, ()), ("B", 0, B, 0, ())]
    above, below = classify(in_order(policy_of((HEAVY, LIGHT), rows)), LAYER, {}).sublayers
    assert (above.effect, above.took_effect) == ("soft permit, overridden below", False)
    assert [item.id for item in above.lost] == [2]
    assert above.weights == (9, 8)
    assert (below.effect, below.took_effect) == ("overrides the soft permit above it", True)


def test_equal_weights_are_heard_by_id() -> None:
    verdict = classify(in_order(policy_of((HEAVY,), [("A", 5, P, 0, ()), ("A", 5, B, 0, ())])), LAYER, {})
    assert verdict.filter.id == 1


@pytest.mark.parametrize("flag", [FilterFlag.BOOTTIME, FilterFlag.DISABLED])
def test_boot_time_and_disabled_filters_are_not_heard(flag: FilterFlag) -> None:
    verdict = classify(in_order(policy_of((HEAVY,), [("A", 0, B, flag, ())])), LAYER, {})
    assert (verdict.action, verdict.filter) == (P, None)


def test_another_layer_has_no_say() -> None:
    verdict = classify(in_order(policy_of((HEAVY,), [("A", 0, B, 0, ())])), layer_named("ALE_AUTH_CONNECT_V6"), {})
    assert (verdict.action, verdict.filter, verdict.sublayers) == (P, None, ())
