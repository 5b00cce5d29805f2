"""The documented flows come out of `observe`, step by step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layergate.path import (
    DATA,
    ESTABLISHMENT,
    NO_LISTENER,
    Call,
    Endpoint,
    Happening,
    Host,
    Segment,
    TcpFlag,
    expected,
    observe,
)

REAUTHORIZED = (Host.SERVER, Segment(TcpFlag.ACK | TcpFlag.PSH, inbound=True, stream_bytes=3))


def documented(shared_dir: Path, flow: str) -> list[tuple[str, str, str]]:
    flows = json.loads((shared_dir / "spec" / "tcp_flows.json").read_text(encoding="utf-8"))["flows"]
    return [
        (step["host"], step["event"], step["layer"].removeprefix("FWPM_LAYER_").replace("_V4", ""))
        for step in flows[flow]
    ]


@pytest.mark.parametrize(
    "flow,script,listens",
    [("tcp_establishment", ESTABLISHMENT, True), ("tcp_data", DATA, True), ("tcp_syn_no_listener", NO_LISTENER, False)],
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
