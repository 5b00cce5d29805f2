"""Net events: which are kept, under which id, and what is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layergate.ale import Direction, EventLog, EventType, Keyword
from layergate.engine import Answer, classify, in_order
from layergate.model import (
    Action,
    AddressType,
    Filter,
    FilterFlag,
    Indication,
    Policy,
    RefusedError,
    Sublayer,
    Value,
    Verdict,
    layer_named,
)

SUBLAYERS = (Sublayer("high", 900), Sublayer("low", 10))
P, B = Action.PERMIT, Action.BLOCK
MULTICAST, BROADCAST = int(AddressType.MULTICAST), int(AddressType.BROADCAST)
ALLOW, NONE = Keyword.CLASSIFY_ALLOW, Keyword.NONE


def shown(layer: str, **values: int) -> Indication:
    found = layer_named(layer)
    return Indication(found, {name: Value(found.field(name).type, value) for name, value in values.items()}, time=1.5)


def decided(indication: Indication, *actions: Action, flags: FilterFlag = FilterFlag.NONE) -> Verdict:
    filters = tuple(
        Filter(number, f"f{number}", indication.layer, sublayer.key, action, flags=flags, callout="c")
        for number, (sublayer, action) in enumerate(zip(SUBLAYERS, actions, strict=False), 1)
    )
    answers = {"c": lambda _: Answer(B, absorbs=FilterFlag.SILENT_MODE in flags)}
    return classify(in_order(Policy(SUBLAYERS, filters)), indication, callouts=answers)


AUDITS = [
    ("ALE_RESOURCE_ASSIGNMENT_V4", P, 5158, Direction.OUT),
    ("ALE_RESOURCE_ASSIGNMENT_V4", B, 5159, Direction.OUT),
    ("ALE_AUTH_LISTEN_V6", P, 5154, Direction.IN),
    ("ALE_AUTH_LISTEN_V6", B, 5155, Direction.IN),
    ("ALE_AUTH_CONNECT_V4", P, 5156, Direction.OUT),
    ("ALE_AUTH_CONNECT_V4", B, 5157, Direction.OUT),
    ("ALE_AUTH_RECV_ACCEPT_V4", B, 5157, Direction.IN),
    ("INBOUND_TRANSPORT_V4", B, 5152, Direction.IN),
    ("OUTBOUND_IPPACKET_V6", B, 5152, Direction.OUT),
    ("IPFORWARD_V4", B, 5152, Direction.FORWARD),
]


@pytest.mark.parametrize("layer, action, audit, direction", AUDITS)
def test_every_event_has_its_id_and_direction(layer: str, action: Action, audit: int, direction: Direction) -> None:
    indication = shown(layer)
    event = EventLog(keywords=ALLOW).record(indication, decided(indication, action))
    assert (event.audit, event.direction, event.filter_id, event.time) == (audit, direction, 1, 1.5)
    assert event.type is (EventType.CLASSIFY_DROP if action is B else EventType.CLASSIFY_ALLOW)


def test_a_veto_is_an_event_of_its_own() -> None:
    indication = shown("ALE_AUTH_CONNECT_V4")
    verdict = decided(indication, P, Action.CALLOUT_TERMINATING, flags=FilterFlag.CLEAR_ACTION_RIGHT)
    event = EventLog().record(indication, verdict)
    assert (event.audit, event.filter_id) == (5153, 2)
    assert event.terminating == (("high", 1, P), ("low", 2, B))


KEPT = [
    ("a drop", "ALE_AUTH_CONNECT_V4", {}, B, NONE, True),
    ("what was allowed, unasked", "ALE_AUTH_CONNECT_V4", {}, P, NONE, False),
    ("what was allowed, asked for", "ALE_AUTH_CONNECT_V4", {}, P, ALLOW, True),
    ("a packet that was allowed", "INBOUND_TRANSPORT_V4", {}, P, ALLOW, False),
    ("inbound multicast, unasked", "INBOUND_TRANSPORT_V4", {"IP_LOCAL_ADDRESS_TYPE": MULTICAST}, B, NONE, False),
    ("inbound multicast", "INBOUND_TRANSPORT_V4", {"IP_LOCAL_ADDRESS_TYPE": MULTICAST}, B, Keyword.INBOUND_MCAST, True),
    ("outbound multicast", "OUTBOUND_TRANSPORT_V4", {"IP_LOCAL_ADDRESS_TYPE": MULTICAST}, B, NONE, True),
    ("inbound broadcast, unasked", "INBOUND_TRANSPORT_V4", {"IP_LOCAL_ADDRESS_TYPE": BROADCAST}, B, NONE, False),
    ("inbound broadcast", "INBOUND_TRANSPORT_V4", {"IP_LOCAL_ADDRESS_TYPE": BROADCAST}, B, Keyword.INBOUND_BCAST, True),
    ("a port scan, unasked", "INBOUND_TRANSPORT_V4_DISCARD", {}, B, NONE, False),
    ("a port scan", "INBOUND_TRANSPORT_V4_DISCARD", {}, B, Keyword.PORT_SCANNING_DROP, True),
]


@pytest.mark.parametrize(
    "layer, values, action, keywords, is_kept", [row[1:] for row in KEPT], ids=[row[0] for row in KEPT]
)
def test_what_is_kept(*, layer: str, values: dict[str, int], action: Action, keywords: Keyword, is_kept: bool) -> None:
    indication = shown(layer, **values)
    log = EventLog(keywords=keywords)
    assert (log.record(indication, decided(indication, action)) is not None) is is_kept
    assert len(list(log.events())) == is_kept


def test_what_a_callout_absorbed_makes_no_event() -> None:
    indication = shown("ALE_AUTH_CONNECT_V4")
    verdict = decided(indication, Action.CALLOUT_TERMINATING, flags=FilterFlag.SILENT_MODE)
    assert (verdict.action, verdict.absorbed) == (B, True)
    assert EventLog().record(indication, verdict) is None


def test_the_oldest_make_room_and_are_counted() -> None:
    log = EventLog(capacity=2)
    heard = []
    end = log.subscribe(heard.append)
    for time in range(5):
        indication = replace(shown("ALE_AUTH_CONNECT_V4"), time=float(time))
        log.record(indication, decided(indication, B))
        if time == 2:
            end()
    assert ([event.time for event in log.events()], log.lost) == ([3.0, 4.0], 3)
    assert [event.time for event in heard] == [0.0, 1.0, 2.0]
    assert [event.time for event in log.events(lambda event: event.time > 3)] == [4.0]


def test_flags_and_reason_stand_in_the_event() -> None:
    indication = shown("ALE_AUTH_RECV_ACCEPT_V4", FLAGS=5, REAUTHORIZE_REASON=1)
    event = EventLog().record(indication, decided(indication, B))
    assert (event.is_loopback, event.reauthorize_reason) == (True, 1)


def test_where_none_are_collected_asking_is_refused() -> None:
    log = EventLog(is_collecting=False)
    indication = shown("ALE_AUTH_CONNECT_V4")
    assert log.record(indication, decided(indication, B)) is None
    with pytest.raises(RefusedError, match="FWP_E_NET_EVENTS_DISABLED"):
        log.events()
