"""The worked examples of arbitration. A is the heavier sublayer, B the lighter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from layergate.engine import Answer, Invocation, classify, in_order, unasked
from layergate.engine.explanation import DoubtKind, doubts
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    Indication,
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
    verdict = classify(in_order(policy_of(sublayers, rows)), Indication(LAYER, {}))
    assert verdict.action is action
    assert (verdict.filter.id if verdict.filter else None) == reported
    assert verdict.hard is is_hard


def test_all_sublayers_are_listed_also_after_a_block() -> None:
    rows = [("WF", 0, B, 0, ()), ("WSH", 0, B, 0, ()), ("QUARANTINE", 0, B, 0, ())]
    verdict = classify(in_order(policy_of((WF, QUARANTINE, WSH), rows)), Indication(LAYER, {}))
    assert [told.sublayer.name for told in verdict.sublayers] == ["QUARANTINE", "WSH", "WF"]
    assert all(told.took_effect for told in verdict.sublayers)
    assert verdict.sublayers[1].effect == "agrees with 'f3', which had already settled it"


def test_every_effect_is_said() -> None:
    rows = [("A", 9, P, 0, ()), ("A", 8, B, 0, ()), ("B", 0, B, 0, ())]
    above, below = classify(in_order(policy_of((HEAVY, LIGHT), rows)), Indication(LAYER, {})).sublayers
    assert (above.effect, above.took_effect) == ("soft permit, overridden below", False)
    assert [item.id for item in above.lost] == [2]
    assert above.weights == (9, 8)
    assert (below.effect, below.took_effect) == ("overrides the soft permit above it", True)


def test_equal_weights_are_heard_by_id() -> None:
    verdict = classify(in_order(policy_of((HEAVY,), [("A", 5, P, 0, ()), ("A", 5, B, 0, ())])), Indication(LAYER, {}))
    assert verdict.filter.id == 1


@pytest.mark.parametrize("flag", [FilterFlag.BOOTTIME, FilterFlag.DISABLED])
def test_boot_time_and_disabled_filters_are_not_heard(flag: FilterFlag) -> None:
    verdict = classify(in_order(policy_of((HEAVY,), [("A", 0, B, flag, ())])), Indication(LAYER, {}))
    assert (verdict.action, verdict.filter) == (P, None)


def test_another_layer_has_no_say() -> None:
    verdict = classify(
        in_order(policy_of((HEAVY,), [("A", 0, B, 0, ())])), Indication(layer_named("ALE_AUTH_CONNECT_V6"), {})
    )
    assert (verdict.action, verdict.filter, verdict.sublayers) == (P, None, ())


# --- callouts -----------------------------------------------------------------------------------------------------

T, N, U = Action.CALLOUT_TERMINATING, Action.CALLOUT_INSPECTION, Action.CALLOUT_UNKNOWN
PERMIT_IF = FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED
SOFT_B, HARD_B, SOFT_P, HARD_P = Answer(B), Answer(B, clears_right=True), Answer(P), Answer(P, clears_right=True)
GOES_ON = Answer(Action.CONTINUE)
NOBODY = object()

# sentence; rows as above (the callout's answer in the place of the conditions); action, reported filter, hard, veto
CALLOUT_EXAMPLES = [
    ("2: a hard permit stands against a filter", [("A", T, 0, HARD_P), ("B", B, 0, None)], P, 1, True, None),
    ("a callout's soft permit is overridden", [("A", T, 0, SOFT_P), ("B", B, 0, None)], B, 2, True, None),
    ("3: a block vetoes a hard permit", [("A", P, CLEAR, None), ("B", T, 0, SOFT_B)], B, 2, True, 2),
    ("3: so does its hard block", [("A", P, CLEAR, None), ("B", U, 0, HARD_B)], B, 2, True, 2),
    ("5: a soft block is overridden", [("A", T, 0, SOFT_B), ("B", P, 0, None)], P, 2, False, None),
    ("6: its hard block is not", [("A", T, 0, HARD_B), ("B", P, 0, None)], B, 1, True, None),
    ("8: an inspection goes on, to a block", [("A", N, 0, SOFT_P), ("A", B, 0, None)], B, 2, True, None),
    ("an inspection's block counts for nothing", [("A", N, 0, HARD_B)], P, None, False, None),
    ("10: nobody registered: a block", [("A", T, 0, NOBODY), ("B", P, 0, None)], B, 1, True, None),
    ("10: with the flag it permits softly", [("A", T, PERMIT_IF, NOBODY), ("B", B, 0, None)], B, 2, True, None),
    ("with both flags it permits hard", [("A", U, PERMIT_IF | CLEAR, NOBODY), ("B", B, 0, None)], P, 1, True, None),
    ("an unregistered callout's block is no veto", [("A", P, CLEAR, None), ("B", U, 0, NOBODY)], P, 1, True, None),
    ("nobody registered the inspection: it goes on", [("A", N, 0, NOBODY), ("A", P, 0, None)], P, 2, False, None),
    ("a terminating callout that lets go on blocks", [("A", T, 0, GOES_ON)], B, 1, False, None),
    ("an unknown one that lets go on does", [("A", U, 0, GOES_ON), ("A", B, 0, None)], B, 2, True, None),
    ("silence repeats the verdict from above", [("A", P, 0, None), ("B", U, 0, None)], P, 1, False, None),
    ("silence where nobody had spoken goes on", [("A", U, 0, None), ("A", B, 0, None)], B, 2, True, None),
    ("a terminating one.s silence there blocks", [("A", T, 0, None)], B, 1, False, None),
    ("without the right a permit changes nothing", [("A", B, 0, None), ("B", T, 0, HARD_P)], B, 1, True, None),
    ("a veto is not undone below", [("A", P, CLEAR, None), ("B", U, 0, SOFT_B), ("C", P, CLEAR, None)], B, 2, True, 2),
]  # fmt: skip


@pytest.mark.parametrize(
    "rows, action, reported, is_hard, veto",
    [row[1:] for row in CALLOUT_EXAMPLES],
    ids=[row[0] for row in CALLOUT_EXAMPLES],
)
def test_callouts(
    *, rows: list[tuple[Any, ...]], action: Action, reported: int | None, is_hard: bool, veto: int | None
) -> None:
    sublayers = tuple(Sublayer(name, weight) for name, weight in (("A", 9), ("B", 6), ("C", 3)))
    filters, registry = [], {}
    for number, (sublayer, says, flags, answer) in enumerate(rows, 1):
        weight = Value(DataType.UINT64, 100 - number)
        callout = f"c{number}" if says.is_callout else ""
        filters.append(
            Filter(number, f"f{number}", LAYER, sublayer, says, (), weight, FilterFlag(flags), callout=callout)
        )
        if says.is_callout and answer is not NOBODY:
            registry[callout] = lambda _, answer=answer: answer
    verdict = classify(in_order(Policy(sublayers, tuple(filters))), Indication(LAYER, {}), callouts=registry)
    assert verdict.action is action
    assert (verdict.filter.id if verdict.filter else None) == reported
    assert verdict.hard is is_hard
    assert (verdict.veto.id if verdict.veto else None) == veto


def test_a_callout_is_asked_with_the_verdict_so_far_and_the_right_to_change_it() -> None:
    asked: list[Invocation] = []

    def callout(invocation: Invocation) -> None:
        asked.append(invocation)

    rows = [("A", 9, P, CLEAR, ()), ("B", 9, U, CLEAR, ()), ("B", 8, U, 0, ())]
    policy = policy_of((HEAVY, LIGHT), rows)
    filters = tuple(replace(item, callout="c") if item.action is U else item for item in policy.filters)
    indication = Indication(LAYER, {})
    verdict = classify(in_order(replace(policy, filters=filters)), indication, callouts={"c": callout})
    # The first one's silence repeats the permit, which ends the sublayer: the second is not asked.
    assert asked == [Invocation(indication, filters[1], P, may_write=False)]
    assert asked[0].should_clear_right
    assert (verdict.action, verdict.filter.id) == (P, 1)


def test_a_callout_that_can_not_be_asked_lets_go_on_whatever_its_filter_says() -> None:
    for says in (T, U, N):
        policy = policy_of((HEAVY,), [("A", 9, says, 0, ()), ("A", 8, P, 0, ())])
        filters = (replace(policy.filters[0], callout="c"), policy.filters[1])
        verdict = classify(in_order(replace(policy, filters=filters)), Indication(LAYER, {}), callouts={"c": unasked})
        assert (verdict.filter.id, [item.id for item in verdict.sublayers[0].continued]) == (2, [1])


def test_a_callout_that_absorbs_says_so() -> None:
    policy = policy_of((HEAVY,), [("A", 9, T, 0, ())])
    policy = replace(policy, filters=(replace(policy.filters[0], callout="c"),))
    verdict = classify(in_order(policy), Indication(LAYER, {}), callouts={"c": lambda _: Answer(B, absorbs=True)})
    assert (verdict.action, verdict.absorbed) == (B, True)


def test_an_answer_is_permit_block_or_continue() -> None:
    with pytest.raises(ValueError, match="a callout answers permit, block or continue, not callout-unknown"):
        Answer(U)


def test_the_switch_lets_a_plain_filter_veto_and_both_readings_are_doubted() -> None:
    for flags in (0, CLEAR):
        ordered = in_order(policy_of((HEAVY, LIGHT), [("A", 0, P, CLEAR, ()), ("B", 0, B, flags, ())]))
        strict = classify(ordered, Indication(LAYER, {}))
        loose = classify(ordered, Indication(LAYER, {}), filter_veto=True)
        assert (strict.action, strict.filter.id, strict.veto) == (P, 1, None)
        assert (loose.action, loose.filter.id, loose.veto.id) == (B, 2, 2)
        for verdict, words in ((strict, "not taken for a veto here"), (loose, "taken for a veto here")):
            (doubt,) = doubts(verdict)
            assert (doubt.kind, [item.id for item in doubt.filters]) == (DoubtKind.FILTER_VETO, [1, 2])
            assert words in doubt.text


def test_a_tie_of_opposite_actions_is_doubted_and_others_are_not() -> None:
    def of(*rows: tuple[Any, ...]) -> list[DoubtKind]:
        verdict = classify(in_order(policy_of((HEAVY, LIGHT), list(rows))), Indication(LAYER, {}))
        return [doubt.kind for doubt in doubts(verdict)]

    assert of(("A", 5, P, 0, ()), ("A", 5, B, 0, ())) == [DoubtKind.TIE]
    assert of(("A", 5, P, 0, ()), ("A", 4, B, 0, ())) == []
    assert of(("A", 5, P, 0, ()), ("A", 5, P, 0, ())) == []
    assert of(("A", 5, B, 0, ()), ("B", 5, B, 0, ())) == []


def test_before_the_engine_runs_only_boot_time_filters_are_heard() -> None:
    rows = [("A", 9, B, FilterFlag.BOOTTIME, ()), ("A", 8, P, 0, ()), ("A", 7, P, FilterFlag.DISABLED, ())]
    policy = policy_of((HEAVY,), rows)
    assert classify(in_order(policy, is_boot=True), Indication(LAYER, {})).filter.id == 1
    assert classify(in_order(policy), Indication(LAYER, {})).filter.id == 2


def test_what_is_assumed_of_a_condition_counts_for_its_value() -> None:
    ordered = in_order(policy_of((HEAVY,), [("A", 0, B, 0, NEVER)]))
    indication = Indication(LAYER, {"IP_REMOTE_PORT": Value(DataType.UINT16, 1)})
    assert classify(ordered, indication).action is B
    assert classify(ordered, indication, assumed={NEVER[0]: False}).action is P
    assert classify(ordered, Indication(LAYER, {}), assumed={NEVER[0]: True}).action is B
