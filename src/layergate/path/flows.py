"""Which layers, in which order, under which name.

A call or a packet passes its layers from the top down on the way out and from the bottom up on the way in:

    bind       BIND_REDIRECT, RESOURCE_ASSIGNMENT               (also before a listen or connect that bound nothing)
    listen     AUTH_LISTEN
    connect    CONNECT_REDIRECT, AUTH_CONNECT

    TCP segment
    sent       [STREAM], OUTBOUND_TRANSPORT, OUTBOUND_IPPACKET
    received   INBOUND_IPPACKET, INBOUND_TRANSPORT, [AUTH_RECV_ACCEPT: a SYN], [STREAM]
               INBOUND_IPPACKET, INBOUND_TRANSPORT_DISCARD where nobody has the port; a RST the first alone

    datagram of any other protocol
    sent       [connect, FLOW_ESTABLISHED: the first], DATAGRAM_DATA, OUTBOUND_TRANSPORT, OUTBOUND_IPPACKET
    received   INBOUND_IPPACKET, INBOUND_TRANSPORT, [AUTH_RECV_ACCEPT, FLOW_ESTABLISHED: the first], DATAGRAM_DATA
               INBOUND_IPPACKET, INBOUND_IPPACKET_DISCARD where nobody has the port
    ICMP error OUTBOUND_ICMP_ERROR, OUTBOUND_TRANSPORT, OUTBOUND_IPPACKET; the other way round on the way in
    forwarded  INBOUND_IPPACKET, IPFORWARD, OUTBOUND_IPPACKET

A flow that must be authorised again is so at the layer that authorised it: AUTH_CONNECT for the client,
AUTH_RECV_ACCEPT for the server; after the transport layer on the way in, before the stream or the data on the way out.
What is blocked at a layer is shown at the layer's discard twin and goes no further.

`walk` yields the steps one by one, for who decides at each whether the next is reached; `observe` gives them all.

Layers are named without their family: v4 and v6 follow one pattern.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
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


AUTHORIZED_AT: Final = {Host.CLIENT: "ALE_AUTH_CONNECT", Host.SERVER: "ALE_AUTH_RECV_ACCEPT"}
"""Where a flow is authorised, and authorised again."""


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


@dataclass(frozen=True, slots=True)
class Delivered:
    """Bytes that joined the stream at their receiver, for a source that learns of them after their segment has passed.

    TCP does where the segment completed the handshake, or filled a gap.
    """


@dataclass(frozen=True, slots=True)
class Datagram:
    """A packet of a protocol other than TCP at one host: UDP, or an ICMP message that is no error."""

    inbound: bool


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error at one host: it belongs to no flow."""

    inbound: bool


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A packet at a host that it only passes through."""


Packet = Segment | Delivered | Datagram | IcmpError | Forwarded


@dataclass(slots=True)
class Endpoint:
    """One host's end: what decides which layers a packet passes, and the state that names the handshake's ACK.

    *has_socket*: somebody has the port. *bound*: a bind was indicated. *authorized*: the flow has been; a SYN that is
    sent again does not ask again. *reauthorize*: the policy changed since the flow was authorised. *blocked_at*: the
    layer that blocks.
    """

    host: Host | None = None
    has_socket: bool = True
    bound: bool = False
    authorized: bool = False
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
    "DATAGRAM_DATA": "data",
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
# The layers that have a discard twin, among those of a session.
TWINS: Final = frozenset(
    {
        "DATAGRAM_DATA",
        "STREAM",
        "INBOUND_ICMP_ERROR",
        "OUTBOUND_ICMP_ERROR",
        "IPFORWARD",
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


def observe(what: Call | Packet, endpoint: Endpoint) -> tuple[Step, ...]:
    """Return the steps of *what* at *endpoint*, in order, up to where it is blocked.

    Cost: O(1). Source: Microsoft, "TCP Packet Flows", "UDP Packet Flows"; the flows of the specification.
    """
    steps = []
    for step in walk(what, endpoint):
        steps.append(step)
        if step.layer == endpoint.blocked_at:
            twin = discarded(step)
            steps += [twin] if twin else []
            break
    return tuple(steps)


def walk(what: Call | Packet, endpoint: Endpoint) -> Iterator[Step]:
    """Yield the steps of *what* at *endpoint*, in order; who blocks at one takes no more (and shows `discarded`)."""
    if isinstance(what, Call):
        bind = () if endpoint.bound or what not in (Call.LISTEN, Call.CONNECT) else (Call.BIND,)
        if what in (Call.BIND, Call.LISTEN, Call.CONNECT):
            endpoint.bound = True
        for call in (*bind, what):
            yield from (Step(layer, call.value) for layer in _CALLS[call])
    elif isinstance(what, Segment):
        yield from (Step(layer, endpoint.event(what, layer)) for layer in _segment_layers(what, endpoint))
    elif isinstance(what, Delivered):
        yield Step("STREAM", _NAMES["STREAM"])
    elif isinstance(what, Datagram):
        yield from _datagram(what, endpoint)
    elif isinstance(what, IcmpError):
        names = ("OUTBOUND_ICMP_ERROR", "OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET")
        inbound = ("INBOUND_IPPACKET", "INBOUND_TRANSPORT", "INBOUND_ICMP_ERROR")
        yield from (Step(layer, "ICMP") for layer in (inbound if what.inbound else names))
    else:
        yield from (Step(layer, "datagram") for layer in ("INBOUND_IPPACKET", "IPFORWARD", "OUTBOUND_IPPACKET"))


def discarded(step: Step) -> Step | None:
    """Return the step at the discard twin of where *step* was blocked, None where it has none."""
    return Step(f"{step.layer}_DISCARD", step.event) if step.layer in TWINS else None


def _datagram(datagram: Datagram, endpoint: Endpoint) -> Iterator[Step]:
    def steps(*layers: str) -> Iterator[Step]:
        return (Step(layer, _NAMES.get(layer, "segment")) for layer in layers)

    established = Step("ALE_FLOW_ESTABLISHED", Call.ESTABLISHED.value)
    again = (AUTHORIZED_AT[endpoint.host],) if endpoint.reauthorize and endpoint.host is not None else ()
    if not datagram.inbound:
        if endpoint.authorized:
            yield from steps(*again)
        else:
            yield from walk(Call.CONNECT, endpoint)
            endpoint.authorized = True
            yield established
        yield from steps("DATAGRAM_DATA", "OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET")
    elif not endpoint.has_socket:
        yield from steps("INBOUND_IPPACKET", "INBOUND_IPPACKET_DISCARD")
    else:
        yield from steps("INBOUND_IPPACKET", "INBOUND_TRANSPORT")
        if endpoint.authorized:
            yield from steps(*again)
        else:
            yield from steps("ALE_AUTH_RECV_ACCEPT")
            endpoint.authorized = True
            yield established
        yield from steps("DATAGRAM_DATA")


def _segment_layers(segment: Segment, endpoint: Endpoint) -> Collection[str]:
    flags = TcpFlag(segment.flags & 0xFF)
    stream = ("STREAM",) if segment.stream_bytes else ()
    again: tuple[str, ...] = ()
    if endpoint.reauthorize and endpoint.host is not None and not flags & TcpFlag.RST:
        again = (AUTHORIZED_AT[endpoint.host],)
    if not segment.inbound:
        return (*again, *stream, "OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET")
    if not endpoint.has_socket:
        # A RST to nobody is answered by nothing: there is nothing to keep in.
        return ("INBOUND_IPPACKET",) if flags & TcpFlag.RST else ("INBOUND_IPPACKET", "INBOUND_TRANSPORT_DISCARD")
    if flags & _OPENS == TcpFlag.SYN and TcpFlag.ACK not in flags:
        again = () if endpoint.authorized else ("ALE_AUTH_RECV_ACCEPT",)
    return ("INBOUND_IPPACKET", "INBOUND_TRANSPORT", *again, *stream)


def event_at(layer: str, what: Call | Segment, endpoint: Endpoint) -> str:
    """Return what *what* is called at *layer*: for a source that is shown one layer at a time, as the kernel's is."""
    if isinstance(what, Call):
        return what.value
    return endpoint.event(what, layer)
