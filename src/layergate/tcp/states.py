"""The eleven states of a connection, and the one table of how it moves between them.

A connection moves only by `TRANSITIONS`: from its state, for a cause, to the next state. Nothing else sets a state; the
diagram in docs/tcp-states.svg is drawn from the same rows; a test walks every one of them.

- What a segment brings is taken in RFC 9293's order: its ACK before its FIN. So a FIN that acknowledges ours takes a
  connection from FIN_WAIT_1 to FIN_WAIT_2 to TIME_WAIT, two rows for one segment.
- Each half-open connection is one of its own, and its listener stays in LISTEN: where the RFC returns a passive
  connection from SYN_RECEIVED to LISTEN, ours ends.
- LISTEN has no way to SYN_SENT: no call sends from a listener.
- Three rows are Linux's: a FIN_WAIT_2 that nobody holds any more expires, data that nobody can receive any more ends
  the connection, and so does a newer SYN in TIME_WAIT, which the port's listener then takes.

Worked example: CONNECT takes CLOSED to SYN_SENT, SYN_ACK to ESTABLISHED, CLOSE to FIN_WAIT_1, ACK_OF_FIN to FIN_WAIT_2,
FIN to TIME_WAIT, EXPIRY back to CLOSED.

Source: RFC 9293, 3.3.2 (figure 5), 3.10; RFC 1122, 4.2.2.13 (data after close; a SYN in TIME_WAIT).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from layergate.tcp.wire import Flag


class State(enum.StrEnum):
    """Where a connection is in its life."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN_SENT"
    SYN_RECEIVED = "SYN_RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN_WAIT_1"
    FIN_WAIT_2 = "FIN_WAIT_2"
    CLOSE_WAIT = "CLOSE_WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST_ACK"
    TIME_WAIT = "TIME_WAIT"


class Cause(enum.StrEnum):
    """What moves a connection: a call, a segment, or time. The value is how the diagram says it."""

    CONNECT = "connect"
    LISTEN = "listen"
    CLOSE = "close, shutdown"
    ABORT = "abort"
    SYN = "SYN"
    SYN_ACK = "SYN-ACK"
    ACK_OF_SYN = "ACK of SYN"
    FIN = "FIN"
    ACK_OF_FIN = "ACK of FIN"
    RST = "RST"
    DATA_AFTER_CLOSE = "data after close"
    UNREACHABLE = "ICMP unreachable"
    TIMEOUT = "no answer"
    EXPIRY = "time is over"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: from *old*, for *cause*, to *new*; *sends*: the flags of what the connection sends then, if anything."""

    old: State
    cause: Cause
    new: State
    sends: Flag = Flag.NONE


SYNCHRONIZED: Final = (
    State.SYN_RECEIVED,
    State.ESTABLISHED,
    State.FIN_WAIT_1,
    State.FIN_WAIT_2,
    State.CLOSE_WAIT,
    State.CLOSING,
    State.LAST_ACK,
)
"""Both ends know the other's sequence numbers (without TIME_WAIT); RFC 9293 counts from ESTABLISHED on."""

_RST: Final = Flag.RST | Flag.ACK

TABLE: Final = (
    Transition(State.CLOSED, Cause.CONNECT, State.SYN_SENT, Flag.SYN),
    Transition(State.CLOSED, Cause.LISTEN, State.LISTEN),
    Transition(State.LISTEN, Cause.SYN, State.SYN_RECEIVED, Flag.SYN | Flag.ACK),
    Transition(State.LISTEN, Cause.CLOSE, State.CLOSED),
    Transition(State.SYN_SENT, Cause.SYN, State.SYN_RECEIVED, Flag.SYN | Flag.ACK),
    Transition(State.SYN_SENT, Cause.SYN_ACK, State.ESTABLISHED, Flag.ACK),
    Transition(State.SYN_SENT, Cause.CLOSE, State.CLOSED),
    Transition(State.SYN_RECEIVED, Cause.ACK_OF_SYN, State.ESTABLISHED),
    Transition(State.SYN_RECEIVED, Cause.CLOSE, State.FIN_WAIT_1, Flag.FIN | Flag.ACK),
    Transition(State.ESTABLISHED, Cause.CLOSE, State.FIN_WAIT_1, Flag.FIN | Flag.ACK),
    Transition(State.ESTABLISHED, Cause.FIN, State.CLOSE_WAIT, Flag.ACK),
    Transition(State.FIN_WAIT_1, Cause.ACK_OF_FIN, State.FIN_WAIT_2),
    Transition(State.FIN_WAIT_1, Cause.FIN, State.CLOSING, Flag.ACK),
    Transition(State.FIN_WAIT_2, Cause.FIN, State.TIME_WAIT, Flag.ACK),
    Transition(State.FIN_WAIT_2, Cause.EXPIRY, State.CLOSED),
    Transition(State.CLOSING, Cause.ACK_OF_FIN, State.TIME_WAIT),
    Transition(State.CLOSE_WAIT, Cause.CLOSE, State.LAST_ACK, Flag.FIN | Flag.ACK),
    Transition(State.LAST_ACK, Cause.ACK_OF_FIN, State.CLOSED),
    Transition(State.TIME_WAIT, Cause.EXPIRY, State.CLOSED),
    Transition(State.TIME_WAIT, Cause.SYN, State.CLOSED),
    Transition(State.TIME_WAIT, Cause.RST, State.CLOSED),
    Transition(State.TIME_WAIT, Cause.ABORT, State.CLOSED),
    Transition(State.LISTEN, Cause.ABORT, State.CLOSED),
    Transition(State.SYN_SENT, Cause.RST, State.CLOSED),
    Transition(State.SYN_SENT, Cause.ABORT, State.CLOSED),
    Transition(State.SYN_SENT, Cause.TIMEOUT, State.CLOSED),
    Transition(State.SYN_SENT, Cause.UNREACHABLE, State.CLOSED),
    *(Transition(state, Cause.RST, State.CLOSED) for state in SYNCHRONIZED),
    # FIN_WAIT_2 has nothing on its way: only keepalives find it without answer, and then the peer is told, in case.
    *(
        Transition(state, Cause.TIMEOUT, State.CLOSED, _RST if state is State.FIN_WAIT_2 else Flag.NONE)
        for state in SYNCHRONIZED
    ),
    # Linux sends no RST where both directions are closed already and only the peer's last ACK is missing; but it does
    # while data and FIN still wait here, or what came was not read.
    *(
        Transition(state, Cause.ABORT, State.CLOSED, Flag.NONE if state in (State.CLOSING, State.LAST_ACK) else _RST)
        for state in SYNCHRONIZED
    ),
    *(
        Transition(state, Cause.DATA_AFTER_CLOSE, State.CLOSED, Flag.RST)
        for state in (State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSING, State.LAST_ACK)
    ),
)
"""Every way there is. Those to CLOSED that any state has are last."""

TRANSITIONS: Final = MappingProxyType({(row.old, row.cause): row.new for row in TABLE})
