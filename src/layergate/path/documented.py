"""The documented flows, as scripts of calls and packets at two hosts; what is indicated follows from `observe`.

Source: Microsoft, "TCP Packet Flows", "UDP Packet Flows" (`tcp_flows.json`, `udp_flows.json` of the specification).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from layergate.path.flows import Call, Datagram, Endpoint, Host, IcmpError, Packet, Segment, TcpFlag, observe

Happening = tuple[Host, Call | Packet]

_SYN, _ACK, _RST = TcpFlag.SYN, TcpFlag.ACK, TcpFlag.RST
_CLIENT, _SERVER = Host.CLIENT, Host.SERVER


def sent(sender: Host, flags: int, stream_bytes: int = 0) -> tuple[Happening, Happening]:
    """Return a segment as its sender and its receiver see it."""
    receiver = _SERVER if sender is _CLIENT else _CLIENT
    return (
        (sender, Segment(flags, inbound=False, stream_bytes=stream_bytes)),
        (receiver, Segment(flags, inbound=True, stream_bytes=stream_bytes)),
    )


ESTABLISHMENT: Final[tuple[Happening, ...]] = (
    (_SERVER, Call.BIND),
    (_SERVER, Call.LISTEN),
    (_CLIENT, Call.BIND),
    (_CLIENT, Call.CONNECT),
    *sent(_CLIENT, _SYN),
    *sent(_SERVER, _SYN | _ACK),
    (_CLIENT, Call.ESTABLISHED),
    *sent(_CLIENT, _ACK),
    (_SERVER, Call.ESTABLISHED),
)
DATA: Final[tuple[Happening, ...]] = sent(_CLIENT, _ACK | TcpFlag.PSH, stream_bytes=1)
NO_LISTENER: Final[tuple[Happening, ...]] = (sent(_CLIENT, _SYN)[1], sent(_SERVER, _RST | _ACK)[0])
UDP_ESTABLISHMENT: Final[tuple[Happening, ...]] = (
    (_SERVER, Call.BIND),
    (_CLIENT, Call.BIND),
    (_CLIENT, Datagram(inbound=False)),
    (_SERVER, Datagram(inbound=True)),
)
UDP_NO_ENDPOINT: Final[tuple[Happening, ...]] = (
    (_SERVER, Datagram(inbound=True)),
    (_SERVER, IcmpError(inbound=False)),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """One documented step: which host, at which layer (without family), named how."""

    host: Host
    event: str
    layer: str


def expected(script: tuple[Happening, ...], *, listens: bool = True) -> list[Expected]:
    """Return the steps of *script*; *listens*: somebody has the server's port."""
    at = {host: Endpoint(host, has_socket=listens or host is Host.CLIENT) for host in Host}
    return [Expected(host, step.event, step.layer) for host, what in script for step in observe(what, at[host])]
