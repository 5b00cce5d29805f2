"""A TCP endpoint by RFC 9293: segments in, segments and events out; and the wire formats beside it.

No clock, no sockets, no chance of its own: time and first sequence numbers are arguments. `wire`, `ip`, `icmp` and
`udp` parse and compose what travels; `states` is the one table of how a connection moves; a `Connection` has a sending
half (`sending`, with `rtt` and `congestion`) and a receiving half (`receiving`); a `Listener` holds what is being
opened.
Source: RFC 9293 and what it names; Linux 6.18 where it does otherwise (`config`).
"""

from layergate.tcp.checksum import Address
from layergate.tcp.config import LINUX, RFC, Config
from layergate.tcp.connection import Connection, End, Timer, WrongStateError, reset_for
from layergate.tcp.events import (
    DataArrived,
    EndOfStream,
    Established,
    Event,
    Failure,
    Refused,
    Reset,
    StateChanged,
    TimedOut,
    Unreachable,
    Vanished,
)
from layergate.tcp.listening import Listener
from layergate.tcp.states import Cause, State
from layergate.tcp.wire import Flag, Segment, compose_segment, parse_segment

__all__ = [
    "LINUX",
    "RFC",
    "Address",
    "Cause",
    "Config",
    "Connection",
    "DataArrived",
    "End",
    "EndOfStream",
    "Established",
    "Event",
    "Failure",
    "Flag",
    "Listener",
    "Refused",
    "Reset",
    "Segment",
    "State",
    "StateChanged",
    "TimedOut",
    "Timer",
    "Unreachable",
    "Vanished",
    "WrongStateError",
    "compose_segment",
    "parse_segment",
    "reset_for",
]
