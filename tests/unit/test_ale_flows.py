"""Flows: authorised once, again for a reason, idle for so long and no longer."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from layergate.ale import FlowKey, Flows
from layergate.ale.flows import Cast
from layergate.engine import Answer, Invocation
from layergate.model import (
    Action,
    Callout,
    Condition,
    DataType,
    Direction,
    Filter,
    Flag,
    Indication,
    Layer,
    MatchType,
    ReauthorizeReason,
    Sublayer,
    Value,
    Verdict,
    layer_named,
)
from layergate.store import Session, Store

CONNECT, ACCEPT = layer_named("ALE_AUTH_CONNECT_V4"), layer_named("ALE_AUTH_RECV_ACCEPT_V4")
LISTEN = layer_named("ALE_AUTH_LISTEN_V4")
IN, OUT = Direction.INBOUND, Direction.OUTBOUND
TCP = FlowKey(6, 0x0A000001, 40000, 0x0A000002, 80)
UDP = FlowKey(17, 0x0A000001, 5353, 0x0A000002, 53, identifier=7)
P, B = Action.PERMIT, Action.BLOCK


def number(value: int) -> Value:
    return Value(DataType.UINT32, value)


def luid(value: int) -> Value:
    return Value(DataType.UINT64, value)


def opening(layer: Layer = CONNECT, **more: Value) -> Indication:
    return Indication(layer, {"IP_REMOTE_PORT": Value(DataType.UINT16, 80), "FLAGS": number(0), **more})


class Host:
    """A store, the flows that it authorises, and what was asked."""

    def __init__(self, *, is_weak_host: bool = False) -> None:
        self.store = Store()
        self.session: Session = self.store.open()
        self.session.add(Sublayer("s", 100))
        self.asked: list[Indication] = []
        self.flows = Flows(self.decide, self.version_of, is_weak_host=is_weak_host)

    def decide(self, indication: Indication) -> Verdict:
        self.asked.append(indication)
        return self.store.classify(indication)

    def version_of(self, layer: Layer) -> int:
        return self.store.policy().layer_versions.get(layer.id, 1)

    def add(self, action: Action, layer: Layer = CONNECT, conditions: Iterable[Condition] = ()) -> None:
        self.session.add(Filter(0, "f", layer, "s", action, tuple(conditions)))


@pytest.fixture
def host() -> Host:
    return Host()


def reason_of(indication: Indication) -> ReauthorizeReason:
    assert indication.reauthorize
    assert indication.values["FLAGS"].data & Flag.IS_REAUTHORIZE
    return ReauthorizeReason(indication.values["REAUTHORIZE_REASON"].data)


def test_a_flow_is_authorised_once_and_packets_of_both_directions_pass(host: Host) -> None:
    opened = host.flows.authorize(TCP, opening(), OUT, now=0)
    assert opened.flow is host.flows.get(TCP)
    assert (opened.flow.number, opened.flow.layer, opened.flow.version) == (1, CONNECT, 1)
    for direction in (OUT, IN, OUT):
        assert host.flows.packet(TCP, direction, now=9) is None
    assert len(host.asked) == 1


def test_what_is_blocked_is_no_flow(host: Host) -> None:
    host.add(B)
    refused = host.flows.authorize(TCP, opening(), OUT, now=0)
    assert (refused.flow, refused.verdict.action, refused.must_reset) == (None, B, False)
    assert host.flows.get(TCP) is None


@pytest.mark.parametrize("direction", [OUT, IN])
@pytest.mark.parametrize("layer, opened", [(CONNECT, OUT), (ACCEPT, IN)])
def test_a_change_at_its_layer_has_the_next_packet_decided_where_the_flow_was_created(
    host: Host, layer: Layer, opened: Direction, direction: Direction
) -> None:
    host.flows.authorize(TCP, opening(layer), opened, now=0)
    host.add(P, LISTEN)
    assert host.flows.packet(TCP, direction, now=1) is None
    host.add(P, layer)
    again = host.flows.packet(TCP, direction, now=2)
    assert again.indication.layer is layer
    assert reason_of(again.indication) == ReauthorizeReason.POLICY_CHANGE
    assert (again.verdict.action, again.flow.version, again.was.version) == (P, host.store.version, 1)
    assert host.flows.packet(TCP, direction, now=3) is None


def test_a_flow_that_is_blocked_now_is_forgotten_and_its_connection_reset(host: Host) -> None:
    host.flows.authorize(TCP, opening(), OUT, now=0)
    host.add(B)
    again = host.flows.packet(TCP, IN, now=1)
    assert (again.verdict.action, again.flow, again.must_reset) == (B, None, True)
    with pytest.raises(KeyError):
        host.flows.packet(TCP, IN, now=2)


def test_a_udp_flow_that_is_blocked_now_is_not_reset(host: Host) -> None:
    host.flows.authorize(UDP, opening(), OUT, now=0)
    host.add(B)
    assert not host.flows.packet(UDP, IN, now=1).must_reset


def test_what_the_packet_does_not_tell_is_empty_when_it_is_decided_again(host: Host) -> None:
    host.flows.authorize(TCP, opening(ACCEPT, IP_ARRIVAL_INTERFACE=luid(3), INTERFACE_INDEX=number(3)), IN, now=0)
    host.add(P, ACCEPT)
    outbound = host.flows.packet(TCP, OUT, now=1, values={"IP_NEXTHOP_INTERFACE": luid(4)})
    assert set(outbound.indication.values) == {"IP_REMOTE_PORT", "FLAGS", "REAUTHORIZE_REASON", "IP_NEXTHOP_INTERFACE"}


@pytest.mark.parametrize(
    "field, reason",
    [
        ("IP_NEXTHOP_INTERFACE", ReauthorizeReason.NEW_NEXTHOP_INTERFACE),
        ("IP_ARRIVAL_INTERFACE", ReauthorizeReason.NEW_ARRIVAL_INTERFACE),
        ("CURRENT_PROFILE_ID", ReauthorizeReason.PROFILE_CROSSING),
    ],
)
def test_another_interface_or_profile_is_a_reason(field: str, reason: ReauthorizeReason) -> None:
    host = Host(is_weak_host=True)
    kind = CONNECT.field(field).type
    host.flows.authorize(TCP, opening(**{field: Value(kind, 3)}), OUT, now=0)
    assert host.flows.packet(TCP, OUT, now=1, values={field: Value(kind, 3)}) is None
    again = host.flows.packet(TCP, OUT, now=1, values={field: Value(kind, 4)})
    assert reason_of(again.indication) == reason
    assert host.flows.packet(TCP, OUT, now=1, values={field: Value(kind, 4)}) is None


def test_another_arrival_interface_is_none_where_the_host_is_strong(host: Host) -> None:
    host.flows.authorize(TCP, opening(IP_ARRIVAL_INTERFACE=luid(3)), OUT, now=0)
    assert host.flows.packet(TCP, IN, now=1, values={"IP_ARRIVAL_INTERFACE": luid(4)}) is None


def test_any_other_reason_can_be_given_and_several_come_together(host: Host) -> None:
    host.flows.authorize(TCP, opening(), OUT, now=0)
    host.flows.require(TCP, ReauthorizeReason.SOCKET_PROPERTY_CHANGED)
    host.flows.require(TCP, ReauthorizeReason.EDP_POLICY_CHANGED)
    host.add(P)
    wanted = (
        ReauthorizeReason.SOCKET_PROPERTY_CHANGED
        | ReauthorizeReason.EDP_POLICY_CHANGED
        | ReauthorizeReason.POLICY_CHANGE
    )
    assert reason_of(host.flows.packet(TCP, IN, now=1).indication) == wanted
    assert host.flows.packet(TCP, IN, now=1) is None


def test_a_filter_can_tell_a_flow_that_is_decided_again(host: Host) -> None:
    flagged = Condition("FLAGS", MatchType.FLAGS_ALL_SET, number(int(Flag.IS_REAUTHORIZE)))
    host.flows.authorize(TCP, opening(), OUT, now=0)
    host.add(B, conditions=[flagged])
    assert host.flows.packet(TCP, IN, now=1).verdict.action is B
    assert host.flows.authorize(TCP, opening(), OUT, now=2).verdict.action is P


# --- how long ---------------------------------------------------------------------------------------------------------


def test_udp_and_icmp_flows_end_after_sixty_idle_seconds_and_tcp_flows_with_their_connection(host: Host) -> None:
    icmp = FlowKey(1, 0x0A000001, 8, 0x0A000002, 0, identifier=99)
    for key in (TCP, UDP, icmp):
        host.flows.authorize(key, opening(), OUT, now=0)
    host.flows.packet(UDP, IN, now=30)
    assert host.flows.poll_at() == 60
    assert [flow.key for flow in host.flows.advance(60)] == [icmp]
    assert [flow.key for flow in host.flows.advance(89.9)] == []
    assert [flow.key for flow in host.flows.advance(90)] == [UDP]
    assert host.flows.poll_at() is None
    host.flows.close(TCP)
    assert len(host.flows) == 0


def test_an_outbound_multicast_admits_any_sender_for_four_seconds_after_the_last_it_sent(host: Host) -> None:
    group = FlowKey(17, 0x0A000001, 5353, 0xE00000FB, 5353, identifier=7)
    answer = FlowKey(17, 0x0A000001, 5353, 0x0A000009, 5353)
    host.flows.authorize(group, opening(), OUT, now=0, cast=Cast.MULTICAST)
    flow = host.flows.admits(answer)
    assert flow.key == group
    assert host.flows.admits(FlowKey(17, 0x0A000001, 9999, 0x0A000009, 5353)) is None
    host.flows.packet(group, IN, now=3)
    assert host.flows.poll_at() == 4
    host.flows.packet(group, OUT, now=3)
    assert host.flows.poll_at() == 7
    host.flows.advance(7)
    assert host.flows.admits(answer) is None


# --- suspended --------------------------------------------------------------------------------------------------------


def suspending(host: Host, layer: Layer) -> list[Action]:
    """Have the callout of *layer* absorb until it is told what to answer."""
    answers: list[Action] = []

    def callout(_: Invocation) -> Answer:
        return Answer(answers[-1]) if answers else Answer(B, clears_right=True, absorbs=True)

    host.session.add(Callout("{c}", "asks", layer))
    host.session.add(Filter(0, "ask", layer, "s", Action.CALLOUT_TERMINATING, callout="{c}"))
    host.store.register("{c}", callout)
    return answers


def test_a_connect_that_a_callout_suspended_is_decided_again_when_it_is_completed(host: Host) -> None:
    answers = suspending(host, CONNECT)
    opened = host.flows.authorize(TCP, opening(), OUT, now=0)
    assert (opened.flow, opened.pending.key) == (None, TCP)
    answers.append(P)
    completed = host.flows.complete(TCP, now=1)
    assert reason_of(completed.indication) == ReauthorizeReason.CLASSIFY_COMPLETION
    assert completed.flow is host.flows.get(TCP)
    assert host.flows.complete(TCP, now=2) is None


def test_a_connect_can_not_be_suspended_twice(host: Host) -> None:
    suspending(host, CONNECT)
    host.flows.authorize(TCP, opening(), OUT, now=0)
    completed = host.flows.complete(TCP, now=1)
    assert (completed.verdict.action, completed.verdict.absorbed, completed.pending) == (B, False, None)


def test_an_inbound_packet_that_a_callout_suspended_is_shown_anew(host: Host) -> None:
    answers = suspending(host, ACCEPT)
    host.flows.authorize(TCP, opening(ACCEPT), IN, now=0)
    answers.append(P)
    assert host.flows.complete(TCP, now=1) is None
    assert host.flows.authorize(TCP, opening(ACCEPT), IN, now=1).flow is not None
