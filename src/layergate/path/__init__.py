"""The documented packet flows as code: which layers a call or a segment passes, in which order, and how that is named.

`observe(call | segment, endpoint)` gives the steps; simulator, captures and the kernel's records all go through it, and
nobody else knows the order. Five words: an **Endpoint** is one host's end of a connection, a **Call** what its process
does, a **Segment** what TCP sends or gets, a **Step** the layer that is indicated and the event's name there.
Source: Microsoft, "TCP Packet Flows".
"""

from layergate.path.documented import DATA, ESTABLISHMENT, NO_LISTENER, Expected, Happening, expected
from layergate.path.flows import CALL_OF_LAYER, Call, Endpoint, Host, Segment, Step, TcpFlag, event_at, observe

__all__ = [
    "CALL_OF_LAYER",
    "DATA",
    "ESTABLISHMENT",
    "NO_LISTENER",
    "Call",
    "Endpoint",
    "Expected",
    "Happening",
    "Host",
    "Segment",
    "Step",
    "TcpFlag",
    "event_at",
    "expected",
    "observe",
]
