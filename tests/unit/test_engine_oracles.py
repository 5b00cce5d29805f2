"""What real Windows decided: recorded net events with what every sublayer said, and the tests of a driver.

Sources: MicrosoftDocs/windows-itpro-docs (troubleshooting-uwp-firewall.md, quarantine.md); microsoft/ebpf-for-windows
(tests/socket/socket_tests.cpp); henrypp/simplewall, issue 689; mullvad/win-split-tunnel, pull request 32.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layergate.engine import Answer, CalloutFunction, Invocation, classify, in_order
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
    Verdict,
    layer_by_id,
    layer_named,
)

P, B = Action.PERMIT, Action.BLOCK
WEIGHTS = {"QUARANTINE": 4, "WSH": 3, "WF": 2}
SUBLAYERS = tuple(Sublayer(name, weight) for name, weight in WEIGHTS.items())

# event; layer; (filter, sublayer, action) as recorded, heaviest sublayer first; outcome; reported filter
EVENTS = {
    "uwp-case1": (50, [(125918, "WSH", P), (121167, "WF", P)], P, 125918),
    "uwp-case2": (50, [(68893, "WSH", B), (68879, "WF", P)], B, 68893),
    "uwp-case3": (50, [(68893, "WSH", B), (68879, "WF", P)], B, 68893),
    "uwp-case4": (48, [(121180, "WSH", B), (121165, "WF", P)], B, 121180),
    "uwp-case7": (48, [(206064, "WSH", B), (206049, "WF", P)], B, 206064),
    "uwp-case8": (48, [(208757, "WSH", P), (206049, "WF", P)], P, 208757),
    "quarantine": (44, [(66241, "QUARANTINE", B), (74045, "WSH", B), (73602, "WF", B)], B, 66241),
}


@pytest.mark.parametrize("name", EVENTS)
def test_recorded_event(name: str) -> None:
    layer_id, rows, outcome, reported = EVENTS[name]
    layer = layer_by_id(layer_id)
    filters = tuple(Filter(number, f"f{number}", layer, sublayer, action) for number, sublayer, action in rows)
    verdict = classify(in_order(Policy(SUBLAYERS, filters)), Indication(layer, {}))
    assert (verdict.action, verdict.filter.id) == (outcome, reported)
    heard = [(told.decided.id, told.sublayer.name, told.action) for told in verdict.sublayers]
    assert heard == rows


def test_no_recorded_event_is_left_out(shared_dir: Path) -> None:
    recorded = json.loads((shared_dir / "spec" / "oracles.json").read_text(encoding="utf-8"))
    actions = {"PERMIT": P, "BLOCK": B}
    outcomes = {"ALLOW": P, "DROP": B}
    assert {
        event["id"]: (
            event["layer_id"],
            [(one["filter"], one["sublayer"], actions[one["action"]]) for one in event["terminating"]],
            outcomes[event["result"]],
            event["reported_filter"],
        )
        for event in recorded["net_events"]
    } == EVENTS
    assert (len(recorded["driver_tests"]), len(recorded["field_reports"])) == (4, 3)


# --- a driver's tests: its callout in the heaviest sublayer, a block filter on the port in one of weight 0x8000 -----

PORT = 8989
DRIVER = (Sublayer("driver", 0xFFFF), Sublayer("plain", 0x8000))
SOFT, HARD = Answer(P), Answer(P, clears_right=True)


def driver(layer_name: str, field: str, answer: Answer) -> Verdict:
    layer = layer_named(layer_name)
    port = Value(DataType.UINT16, PORT)
    weight = Value(DataType.UINT8, 10)
    filters = (
        Filter(1, "ask the driver", layer, "driver", Action.CALLOUT_TERMINATING, callout="{driver}"),
        Filter(2, "block", layer, "plain", B, (Condition(field, MatchType.EQUAL, port),), weight),
    )
    registered: dict[str, CalloutFunction] = {"{driver}": lambda _: answer}
    return classify(in_order(Policy(DRIVER, filters)), Indication(layer, {field: port}), callouts=registered)


@pytest.mark.parametrize("family", ["V4", "V6"])
@pytest.mark.parametrize(
    "layer, field",
    [
        pytest.param("ALE_AUTH_CONNECT", "IP_REMOTE_PORT", id="connection_test_connect_hard_permit"),
        pytest.param("ALE_AUTH_RECV_ACCEPT", "IP_LOCAL_PORT", id="connection_test_recv_accept_hard_permit"),
        pytest.param("ALE_RESOURCE_ASSIGNMENT", "IP_LOCAL_PORT", id="bind_policy_hard_permit_wfp"),
    ],
)
def test_a_soft_permit_is_blocked_below_and_a_hard_one_is_not(layer: str, field: str, family: str) -> None:
    soft = driver(f"{layer}_{family}", field, SOFT)
    assert (soft.action, soft.filter.id) == (B, 2)
    hard = driver(f"{layer}_{family}", field, HARD)
    assert (hard.action, hard.filter.id, hard.hard) == (P, 1, True)


def test_connection_test_sock_addr_no_layer_has_a_say_at_another() -> None:
    """The worked example 14: a hard permit at CONNECT does not help against a block at RECV_ACCEPT, on one host."""
    connect, accept = layer_named("ALE_AUTH_CONNECT_V4"), layer_named("ALE_AUTH_RECV_ACCEPT_V4")
    clear = FilterFlag.CLEAR_ACTION_RIGHT
    for flags, at_accept, passes in ((clear, B, False), (FilterFlag.NONE, B, False), (FilterFlag.NONE, P, True)):
        filters = (Filter(1, "c", connect, "driver", P, flags=flags), Filter(2, "a", accept, "driver", at_accept))
        ordered = in_order(Policy(DRIVER, filters))
        verdicts = [classify(ordered, Indication(layer, {})) for layer in (connect, accept)]
        assert all(verdict.action is P for verdict in verdicts) is passes


# --- reports from the field ---------------------------------------------------------------------------------------


def test_simplewall_689_a_hard_permit_overrides_a_plain_block_and_the_doubt_is_named() -> None:
    layer = layer_named("ALE_AUTH_CONNECT_V4")
    sublayers = (Sublayer("other product", 0xFFFF), Sublayer("simplewall", 0xFFFE))
    filters = (
        Filter(1, "permit", layer, "other product", P, flags=FilterFlag.CLEAR_ACTION_RIGHT),
        Filter(2, "block", layer, "simplewall", B, flags=FilterFlag.CLEAR_ACTION_RIGHT),
    )
    ordered = in_order(Policy(sublayers, filters))
    verdict = classify(ordered, Indication(layer, {}))
    assert (verdict.action, verdict.filter.id) == (P, 1)
    assert [doubt.kind for doubt in doubts(verdict)] == [DoubtKind.FILTER_VETO]
    assert classify(ordered, Indication(layer, {}), filter_veto=True).action is B


def test_win_split_tunnel_32_a_callout_that_writes_nothing_returns_the_verdict_from_above() -> None:
    layer = layer_named("ALE_AUTH_CONNECT_V4")
    seen: list[Action | None] = []

    def silent(invocation: Invocation) -> None:
        seen.append(invocation.action)

    filters = (
        Filter(1, "permit", layer, "driver", P),
        Filter(2, "leaks", layer, "plain", Action.CALLOUT_UNKNOWN, weight=Value(DataType.UINT64, 9), callout="{c}"),
        Filter(3, "block", layer, "plain", B, weight=Value(DataType.UINT64, 1)),
    )
    verdict = classify(in_order(Policy(DRIVER, filters)), Indication(layer, {}), callouts={"{c}": silent})
    assert (verdict.action, seen) == (P, [P])
    assert verdict.sublayers[1].decided.id == 2
