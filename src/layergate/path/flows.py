"""Which layers, in which order, under which name.

A call or a segment passes its layers from the top down on the way out and from the bottom up on the way in:

    bind       BIND_REDIRECT, RESOURCE_ASSIGNMENT               (also before a listen or connect that bound nothing)
    listen     AUTH_LISTEN
    connect    CONNECT_REDIRECT, AUTH_CONNECT
    sent       [STREAM], OUTBOUND_TRANSPORT, OUTBOUND_IPPACKET
    received   INBOUND_IPPACKET, INBOUND_TRANSPORT, [AUTH_RECV_ACCEPT: a SYN], [STREAM]
               INBOUND_IPPACKET, INBOUND_TRANSPORT_DISCARD where nobody has the port

A flow that must be authorised again is so at the layer that authorised it: AUTH_CONNECT for the client,
AUTH_RECV_ACCEPT for the server; after the transport layer on the way in, before the stream on the way out. What is
blocked at a layer is shown at the layer's discard twin and goes no further.

Layers are named without their family: v4 and v6 follow one pattern.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final


class Host(enum.StrEnum):
    """Whose end it is: the client opened the flow."""

    CLIENT = "client"
    SERVER = "server"


class Call(enum.StrEnum):
    """What the process, or TCP on its behalf, does. The value is the event's name."""

    BIND = "bind"
    LISTEN = "listen"
    CONNECT = "connect"
    ESTABLISHED = "established"
    CLOSURE = "closure"
    RELEASE = "release"


class TcpFlag(enum.IntFlag):
    """Flags of a TCP header. Source: RFC 9293, 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20


_OPENS: Final = TcpFlag.SYN | TcpFlag.RST | TcpFlag.FIN


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment at one host. *stream_bytes*: how many bytes it adds to the stream."""

    flags: int
    inbound: bool
    stream_bytes: int = 0


@dataclass(slots=True)
class Endpoint:
    """One host's end: what decides which layers a segment passes, and the state that names the handshake's ACK.

    *has_socket*: somebody has the port. *bound*: a bind was indicated. *reauthorize*: the policy changed since the flow
    was authorised. *blocked_at*: the layer that blocks.
    """

    host: Host | None = None
    has_socket: bool = True
    bound: bool = False
    reauthorize: bool = False
    blocked_at: str | None = None
    _opened: bool = False
    _acknowledged: set[str] = field(default_factory=set)

    def event(self, segment: Segment, layer: str) -> str:
        """Return the name of *segment* at *layer*, once: the client's first ACK completes the handshake.

        RST before FIN before SYN before ACK; else by the kind of layer.
        """
        flags = TcpFlag(segment.flags & 0xFF)
        if TcpFlag.RST in flags:
            return "RST"
        if TcpFlag.FIN in flags:
            return "FIN"
        if TcpFlag.SYN in flags:
            self._opened = True
            return "SYN-ACK" if TcpFlag.ACK in flags else "SYN"
        from_client = segment.inbound is (self.host is Host.SERVER)
        if self._opened and from_client and TcpFlag.ACK in flags and layer not in self._acknowledged:
            self._acknowledged.add(layer)
            if layer in _PACKET_LAYERS:
                return "ACK"
        return _NAMES.get(layer, "segment")


@dataclass(frozen=True, slots=True)
class Step:
    """One indication: at *layer* (without family), named *event*."""

    layer: str
    event: str


_NAMES: Final = {
    "STREAM": "data",
    "INBOUND_IPPACKET": "datagram",
    "OUTBOUND_IPPACKET": "datagram",
    "INBOUND_IPPACKET_DISCARD": "datagram",
    "OUTBOUND_IPPACKET_DISCARD": "datagram",
}
_PACKET_LAYERS: Final = ("INBOUND_IPPACKET", "INBOUND_TRANSPORT", "OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET")
_CALLS: Final = {
    Call.BIND: ("ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT"),
    Call.LISTEN: ("ALE_AUTH_LISTEN",),
    Call.CONNECT: ("ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"),
    Call.ESTABLISHED: ("ALE_FLOW_ESTABLISHED",),
    Call.CLOSURE: ("ALE_ENDPOINT_CLOSURE",),
    Call.RELEASE: ("ALE_RESOURCE_RELEASE",),
}
CALL_OF_LAYER: Final = {layer: call for call, layers in _CALLS.items() for layer in layers}
# The layers that have a discard twin, among those of a TCP session.
TWINS: Final = frozenset(
    {
        "ALE_RESOURCE_ASSIGNMENT",
        "ALE_AUTH_LISTEN",
        "ALE_AUTH_CONNECT",
        "ALE_AUTH_RECV_ACCEPT",
        "ALE_FLOW_ESTABLISHED",
        "INBOUND_TRANSPORT",
        "OUTBOUND_TRANSPORT",
        "INBOUND_IPPACKET",
        "OUTBOUND_IPPACKET",
    }
)
_AUTHORIZED_AT: Final = {Host.CLIENT: "ALE_AUTH_CONNECT", Host.SERVER: "ALE_AUTH_RECV_ACCEPT"}


def observe(what: Call | Segment, endpoint: Endpoint) -> tuple[Step, ...]:
    """Return the steps of *what* at *endpoint*, in order, up to where it is blocked.

    Cost: O(1). Source: Microsoft, "TCP Packet Flows"; `tcp_flows.json` of the specification.
    """
    if isinstance(what, Call):
        bind = () if endpoint.bound or what not in (Call.LISTEN, Call.CONNECT) else (Call.BIND,)
        layers = [(layer, call.value) for call in (*bind, what) for layer in _CALLS[call]]
        if what in (Call.BIND, Call.LISTEN, Call.CONNECT):
            endpoint.bound = True
        return _until_blocked(layers, endpoint.blocked_at)
    return _until_blocked(
        [(layer, endpoint.event(what, layer)) for layer in _segment_layers(what, endpoint)], endpoint.blocked_at
    )


def _segment_layers(segment: Segment, endpoint: Endpoint) -> Collection[str]:
    flags = TcpFlag(segment.flags & 0xFF)
    stream = ("STREAM",) if segment.stream_bytes else ()
    again: tuple[str, ...] = ()
    if endpoint.reauthorize and endpoint.host is not None and not flags & TcpFlag.RST:
        again = (_AUTHORIZED_AT[endpoint.host],)
    if not segment.inbound:
        return (*again, *stream, "OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET")
    if not endpoint.has_socket:
        return ("INBOUND_IPPACKET", "INBOUND_TRANSPORT_DISCARD")
    if flags & _OPENS == TcpFlag.SYN and TcpFlag.ACK not in flags:
        again = ("ALE_AUTH_RECV_ACCEPT",)
    return ("INBOUND_IPPACKET", "INBOUND_TRANSPORT", *again, *stream)


def _until_blocked(layers: list[tuple[str, str]], blocked_at: str | None) -> tuple[Step, ...]:
    steps = []
    for layer, event in layers:
        steps.append(Step(layer, event))
        if layer == blocked_at:
            if layer in TWINS:
                steps.append(Step(f"{layer}_DISCARD", event))
            break
    return tuple(steps)


def event_at(layer: str, what: Call | Segment, endpoint: Endpoint) -> str:
    """Return what *what* is called at *layer*: for a source that is shown one layer at a time, as the kernel's is."""
    if isinstance(what, Call):
        return what.value
    return endpoint.event(what, layer)
