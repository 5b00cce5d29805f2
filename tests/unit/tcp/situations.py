"""A connection in each state, brought there as the world would: by calls, segments and time; and its peer's segments.

Ours begins at ISS, the peer's numbers at PEER_ISS; nothing was written or read. A connection that `at` gives has sent
all that it had to send.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from layergate.tcp import LINUX, Config, Connection, End, Flag, Segment, State
from layergate.tcp.wire import Option, mss_option

ISS: Final = 1000
PEER_ISS: Final = 5000
LOCAL: Final = End(IPv4Address("192.0.2.1"), 80)
REMOTE: Final = End(IPv4Address("192.0.2.2"), 50001)
PLAIN: Final = replace(LINUX, timestamps=False, window_scale=None)
NOW: Final = 1.0
"""When a connection is where `at` brought it."""

SYN_ACK: Final = Flag.SYN | Flag.ACK
FIN_ACK: Final = Flag.FIN | Flag.ACK


def segment(
    flags: Flag,
    sequence: int = PEER_ISS + 1,
    ack: int = ISS + 1,
    payload: bytes = b"",
    *,
    window: int = 65535,
    options: tuple[Option, ...] = (),
) -> Segment:
    """Return a segment of the peer's; without ACK among its *flags*, *ack* is 0."""
    number = ack & 0xFFFFFFFF if flags & Flag.ACK else 0
    return Segment(
        REMOTE.port, LOCAL.port, sequence & 0xFFFFFFFF, number, flags, window, options=options, payload=payload
    )


def syn(flags: Flag = Flag.SYN) -> Segment:
    """Return the peer's SYN."""
    return segment(flags, PEER_ISS, options=(mss_option(1460),))


def drain(connection: Connection, now: float = NOW) -> list[Segment]:
    """Return all that is to be sent now."""
    segments = []
    while (one := connection.dispatch(now)) is not None:
        segments.append(one)
        assert len(segments) < 1000
    return segments


def connected(config: Config = PLAIN) -> Connection:
    """Return a connection of ours, in SYN_SENT."""
    return Connection.connect(config, LOCAL, REMOTE, sequence=ISS, now=NOW)


def accepted(config: Config = PLAIN) -> Connection:
    """Return a connection of the peer's, in SYN_RECEIVED."""
    return Connection.accept(config, LOCAL, REMOTE, syn(), sequence=ISS, now=NOW)


def at(state: State, config: Config = PLAIN, *, orphan: bool = False) -> Connection:
    """Return a connection in *state*. *orphan*: by close rather than by shutdown, so that nobody holds it any more."""
    if state is State.CLOSED:
        return Connection(config, LOCAL, REMOTE, sequence=ISS, now=NOW)
    connection = accepted(config) if state is State.SYN_RECEIVED else connected(config)
    drain(connection)
    if state not in (State.SYN_SENT, State.SYN_RECEIVED):
        connection.process(syn(SYN_ACK), NOW)
        drain(connection)
        _after_opening(connection, state, orphan=orphan)
    assert connection.state is state
    connection.events()
    return connection


def _after_opening(connection: Connection, state: State, *, orphan: bool) -> None:
    if state in (State.CLOSE_WAIT, State.LAST_ACK):
        connection.process(segment(FIN_ACK), NOW)
        drain(connection)
    if state not in (State.ESTABLISHED, State.CLOSE_WAIT):
        if orphan:
            connection.close(NOW)
        else:
            connection.shutdown_write(NOW)
        drain(connection)
    if state is State.FIN_WAIT_2:
        connection.process(segment(Flag.ACK, ack=ISS + 2), NOW)
    elif state is State.CLOSING:
        connection.process(segment(FIN_ACK), NOW)
    elif state is State.TIME_WAIT:
        connection.process(segment(FIN_ACK, ack=ISS + 2), NOW)
    drain(connection)
