"""The documented flows come out of `observe`, step by step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layergate.path import (
    DATA,
    ESTABLISHMENT,
    NO_LISTENER,
    UDP_ESTABLISHMENT,
    UDP_NO_ENDPOINT,
    Call,
    Datagram,
    Endpoint,
    Forwarded,
    Happening,
    Host,
    IcmpError,
    Segment,
    TcpFlag,
    expected,
    observe,
    walk,
)

REAUTHORIZED = (Host.SERVER, Segment(TcpFlag.ACK | TcpFlag.PSH, inbound=True, stream_bytes=3))


def documented(shared_dir: Path, flow: str) -> list[tuple[str, str, str]]:
    name = f"{flow.partition('_')[0]}_flows.json"
    flows = json.loads((shared_dir / "spec" / name).read_text(encoding="utf-8"))["flows"]
    return [
        (step["host"], step["event"], step["layer"].removeprefix("FWPM_LAYER_").replace("_V4", ""))
        for step in flows[flow]
    ]


@pytest.mark.parametrize(
    "flow,script,listens",
    [
        ("tcp_establishment", ESTABLISHMENT, True),
        ("tcp_data", DATA, True),
        ("tcp_syn_no_listener", NO_LISTENER, False),
        ("udp_establishment", UDP_ESTABLISHMENT, True),
        ("udp_no_endpoint", UDP_NO_ENDPOINT, False),
    ],
)
def test_a_documented_flow(shared_dir: Path, flow: str, script: tuple[Happening, ...], *, listens: bool) -> None:
    assert [(step.host, step.event, step.layer) for step in expected(script, listens=listens)] == documented(
        shared_dir, flow
    )


def test_a_permitted_reauthorization(shared_dir: Path) -> None:
    steps = observe(REAUTHORIZED[1], Endpoint(Host.SERVER, reauthorize=True))
    assert [("server", step.event, step.layer) for step in steps] == documented(
        shared_dir, "tcp_reauthorization_permitted"
    )


def test_a_blocked_reauthorization(shared_dir: Path) -> None:
    steps = observe(REAUTHORIZED[1], Endpoint(Host.SERVER, reauthorize=True, blocked_at="ALE_AUTH_RECV_ACCEPT"))
    assert [("server", step.event, step.layer) for step in steps] == documented(
        shared_dir, "tcp_reauthorization_blocked"
    )


def test_the_client_is_authorised_again_where_it_was_authorised_first() -> None:
    outbound = observe(Segment(TcpFlag.ACK, inbound=False, stream_bytes=1), Endpoint(Host.CLIENT, reauthorize=True))
    assert [step.layer for step in outbound] == [
        "ALE_AUTH_CONNECT",
        "STREAM",
        "OUTBOUND_TRANSPORT",
        "OUTBOUND_IPPACKET",
    ]


def test_a_call_that_bound_nothing_binds_first_and_only_once() -> None:
    end = Endpoint(Host.CLIENT)
    layers = [step.layer for step in observe(Call.CONNECT, end)]
    assert layers == ["ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT", "ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"]
    assert [step.layer for step in observe(Call.CONNECT, end)] == ["ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"]


def test_a_blocked_call_ends_at_the_discard_layer_where_there_is_one() -> None:
    blocked = observe(Call.CONNECT, Endpoint(Host.CLIENT, bound=True, blocked_at="ALE_AUTH_CONNECT"))
    assert [step.layer for step in blocked] == [
        "ALE_CONNECT_REDIRECT",
        "ALE_AUTH_CONNECT",
        "ALE_AUTH_CONNECT_DISCARD",
    ]
    redirect = observe(Call.CONNECT, Endpoint(Host.CLIENT, bound=True, blocked_at="ALE_CONNECT_REDIRECT"))
    assert [step.layer for step in redirect] == ["ALE_CONNECT_REDIRECT"]


NAMES = [
    ("RST before FIN", TcpFlag.RST | TcpFlag.FIN | TcpFlag.ACK, "RST"),
    ("FIN before SYN", TcpFlag.FIN | TcpFlag.SYN, "FIN"),
    ("a SYN", TcpFlag.SYN, "SYN"),
    ("a SYN-ACK", TcpFlag.SYN | TcpFlag.ACK, "SYN-ACK"),
    ("any other", TcpFlag.ACK | TcpFlag.PSH, "segment"),
]


@pytest.mark.parametrize("flags,name", [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
def test_a_segment_is_named_by_its_flags(flags: int, name: str) -> None:
    assert Endpoint(Host.CLIENT).event(Segment(flags, inbound=True), "INBOUND_TRANSPORT") == name


def test_only_the_client_s_first_ack_of_an_opening_is_the_handshake_s() -> None:
    server, ack = Endpoint(Host.SERVER), Segment(TcpFlag.ACK, inbound=True)
    assert server.event(ack, "INBOUND_TRANSPORT") == "segment"
    server.event(Segment(TcpFlag.SYN, inbound=True), "INBOUND_TRANSPORT")
    assert server.event(ack, "INBOUND_TRANSPORT") == "ACK"
    assert server.event(ack, "INBOUND_TRANSPORT") == "segment"
    assert server.event(ack, "INBOUND_IPPACKET") == "ACK"
    assert server.event(Segment(TcpFlag.ACK, inbound=False), "OUTBOUND_TRANSPORT") == "segment"


def test_later_datagrams_of_a_flow_skip_the_layers_that_authorise(shared_dir: Path) -> None:
    sent = observe(Datagram(inbound=False), Endpoint(Host.CLIENT, authorized=True))
    received = observe(Datagram(inbound=True), Endpoint(Host.SERVER, authorized=True))
    shown = [("client", step.event, step.layer) for step in sent]
    shown += [("server", step.event, step.layer) for step in received]
    assert shown == documented(shared_dir, "udp_data")


@pytest.mark.parametrize("outcome, blocked_at", [("permitted", None), ("blocked", "ALE_AUTH_RECV_ACCEPT")])
def test_a_datagram_that_is_authorised_again(shared_dir: Path, outcome: str, blocked_at: str | None) -> None:
    end = Endpoint(Host.SERVER, authorized=True, reauthorize=True, blocked_at=blocked_at)
    steps = [("server", step.event, step.layer) for step in observe(Datagram(inbound=True), end)]
    assert steps == documented(shared_dir, f"udp_reauthorization_{outcome}")


def test_errors_pass_the_error_layers_and_forwarded_packets_their_own() -> None:
    inbound = observe(IcmpError(inbound=True), Endpoint())
    assert [step.layer for step in inbound] == ["INBOUND_IPPACKET", "INBOUND_TRANSPORT", "INBOUND_ICMP_ERROR"]
    forwarded = observe(Forwarded(), Endpoint(blocked_at="IPFORWARD"))
    assert [step.layer for step in forwarded] == ["INBOUND_IPPACKET", "IPFORWARD", "IPFORWARD_DISCARD"]


def test_a_walk_that_ends_early_names_nothing_that_it_did_not_reach() -> None:
    server = Endpoint(Host.SERVER)
    server.event(Segment(TcpFlag.SYN, inbound=True), "INBOUND_IPPACKET")
    first = next(walk(Segment(TcpFlag.ACK, inbound=True), server))
    again = observe(Segment(TcpFlag.ACK, inbound=True), server)
    assert (first.layer, first.event) == ("INBOUND_IPPACKET", "ACK")
    assert [(step.layer, step.event) for step in again] == [
        ("INBOUND_IPPACKET", "datagram"),
        ("INBOUND_TRANSPORT", "ACK"),
    ]
