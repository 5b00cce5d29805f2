"""What a connection tells whoever holds it: values, in the order in which it happened, each with its time.

`Connection.events()` gives those that are new. They are told while a segment is processed, before anything that it
makes the connection send can be dispatched: who hears of `Established` may still abort, and no ACK leaves.

- `DataArrived` that nobody has asked for are told as one: what waits is bounded, whatever a peer sends.
- A connection ends with one of `Refused`, `Reset`, `Unreachable`, `TimedOut`, `Vanished`, or without, where it was
  closed at both ends. The state changes to CLOSED first.

Worked example: a client that the peer accepts, and that then reads to the end, hears
StateChanged(CLOSED → SYN_SENT), StateChanged(SYN_SENT → ESTABLISHED), Established, DataArrived, EndOfStream,
StateChanged(ESTABLISHED → CLOSE_WAIT).
"""

from __future__ import annotations

from dataclasses import dataclass

from layergate.tcp.icmp import Meaning
from layergate.tcp.states import Cause, State


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The connection moved."""

    time: float
    old: State
    new: State
    cause: Cause


@dataclass(frozen=True, slots=True)
class Established:
    """The handshake is done."""

    time: float


@dataclass(frozen=True, slots=True)
class DataArrived:
    """So many bytes joined the stream, and can be received."""

    time: float
    byte_count: int


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The peer sends nothing more."""

    time: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody has the port that was to be connected to. ECONNREFUSED."""

    time: float


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer reset the connection, or data came that nobody can receive any more. ECONNRESET."""

    time: float


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A router or the peer's host says that it can't be reached. EHOSTUNREACH and its like."""

    time: float
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class TimedOut:
    """What was sent, however often, was not acknowledged. ETIMEDOUT."""

    time: float


@dataclass(frozen=True, slots=True)
class Vanished:
    """The peer did not answer keepalives. ETIMEDOUT too."""

    time: float


Failure = Refused | Reset | Unreachable | TimedOut | Vanished
Event = StateChanged | Established | DataArrived | EndOfStream | Failure
