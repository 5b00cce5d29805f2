"""The documented packet flows as code: which layers a call or a segment passes, in which order, and how that is named.

`observe(call | packet, endpoint)` gives the steps; simulator, captures and the kernel's records all go through it, and
nobody else knows the order. Five words: an **Endpoint** is one host's end of a connection, a **Call** what its process
does, a **Packet** what is sent or comes in (a TCP **Segment**, a Datagram of any other protocol, an ICMP error), a
**Step** the layer that is indicated and the event's name there.
Source: Microsoft, "TCP Packet Flows", "UDP Packet Flows".
"""

from layergate.path.documented import (
    DATA,
    ESTABLISHMENT,
    NO_LISTENER,
    UDP_ESTABLISHMENT,
    UDP_NO_ENDPOINT,
    Expected,
    Happening,
    expected,
)
from layergate.path.flows import (
    AUTHORIZED_AT,
    CALL_OF_LAYER,
    TWINS,
    Call,
    Datagram,
    Delivered,
    Endpoint,
    Forwarded,
    Host,
    IcmpError,
    Packet,
    Segment,
    Step,
    TcpFlag,
    discarded,
    event_at,
    observe,
    walk,
)

__all__ = [
    "AUTHORIZED_AT",
    "CALL_OF_LAYER",
    "DATA",
    "ESTABLISHMENT",
    "NO_LISTENER",
    "TWINS",
    "UDP_ESTABLISHMENT",
    "UDP_NO_ENDPOINT",
    "Call",
    "Datagram",
    "Delivered",
    "Endpoint",
    "Expected",
    "Forwarded",
    "Happening",
    "Host",
    "IcmpError",
    "Packet",
    "Segment",
    "Step",
    "TcpFlag",
    "discarded",
    "event_at",
    "expected",
    "observe",
    "walk",
]
