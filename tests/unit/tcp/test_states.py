"""Every row of the table, walked by a real connection or listener; and that there is no other way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from layergate.tcp import Cause, Connection, Flag, Listener, State, StateChanged
from layergate.tcp.icmp import Complaint, Meaning
from layergate.tcp.ip import TCP
from layergate.tcp.states import TABLE, TRANSITIONS, Transition
from tests.unit.tcp.situations import (
    FIN_ACK,
    ISS,
    LOCAL,
    NOW,
    PEER_ISS,
    PLAIN,
    REMOTE,
    SYN_ACK,
    at,
    connected,
    drain,
    segment,
    syn,
)

IMPATIENT = replace(PLAIN, retries=2, orphan_retries=2, syn_retries=1, syn_linear_timeouts=0, syn_ack_retries=1)
WATCHFUL = replace(IMPATIENT, keepalive=True, keepalive_idle_s=10.0, keepalive_probes=1)

BEHIND_FIN = (State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT)
"""States in which the peer's FIN has come: its next number is one further."""


def peers_next(state: State) -> int:
    return PEER_ISS + (2 if state in BEHIND_FIN else 1)


def by_close(one: Connection) -> None:
    one.close(NOW)


def by_abort(one: Connection) -> None:
    one.abort(NOW)


def by_syn(one: Connection) -> None:
    newer = segment(Flag.SYN, PEER_ISS + 1000)
    if one.state is State.TIME_WAIT:
        assert one.admits(newer)
        one.give_way(NOW)
    else:
        one.process(syn(), NOW)


def by_syn_ack(one: Connection) -> None:
    one.process(syn(SYN_ACK), NOW)


def by_ack_of_syn(one: Connection) -> None:
    one.process(segment(Flag.ACK), NOW)


def by_fin(one: Connection) -> None:
    fin_is_acknowledged = one.state is State.FIN_WAIT_2
    one.process(segment(FIN_ACK, ack=ISS + 1 + fin_is_acknowledged), NOW)


def by_ack_of_fin(one: Connection) -> None:
    one.process(segment(Flag.ACK, peers_next(one.state), ISS + 2), NOW)


def by_rst(one: Connection) -> None:
    if one.state is State.SYN_SENT:
        one.process(segment(Flag.RST | Flag.ACK, 0), NOW)
    else:
        one.process(segment(Flag.RST, peers_next(one.state)), NOW)


def by_data_after_close(one: Connection) -> None:
    one.process(segment(Flag.ACK, peers_next(one.state), ISS + 1, b"late"), NOW)


def by_unreachable(one: Connection) -> None:
    told = Complaint(Meaning.HOST_UNREACHABLE, LOCAL.address, REMOTE.address, TCP, LOCAL.port, REMOTE.port, ISS)
    one.unreachable(told, NOW)


def by_timeout(one: Connection) -> None:
    if one.state in (State.ESTABLISHED, State.CLOSE_WAIT):
        one.write(b"nobody acknowledges this")
        drain(one)
    by_expiry(one)


def by_expiry(one: Connection) -> None:
    """Let time pass until the connection moves; what it sends meanwhile is lost."""
    begin = one.state
    for _ in range(20):
        due = one.poll_at()
        assert due is not None
        segment = one.dispatch(max(due, NOW))
        if one.state is not begin:
            if segment is not None:
                one._reset = segment  # put back: the row says what it is
            return
        drain(one, max(due, NOW))
    raise AssertionError(f"still in {begin}")


CAUSES: dict[Cause, Callable[[Connection], None]] = {
    Cause.CLOSE: by_close,
    Cause.ABORT: by_abort,
    Cause.SYN: by_syn,
    Cause.SYN_ACK: by_syn_ack,
    Cause.ACK_OF_SYN: by_ack_of_syn,
    Cause.FIN: by_fin,
    Cause.ACK_OF_FIN: by_ack_of_fin,
    Cause.RST: by_rst,
    Cause.DATA_AFTER_CLOSE: by_data_after_close,
    Cause.UNREACHABLE: by_unreachable,
    Cause.TIMEOUT: by_timeout,
    Cause.EXPIRY: by_expiry,
}


def walk(row: Transition) -> tuple[Connection, list[StateChanged]]:
    """Return the connection behind *row*, and how it says that it moved."""
    if row.cause is Cause.CONNECT:
        connection = connected()
    elif row.old is State.LISTEN:
        found = Listener(PLAIN, LOCAL, 5).open(syn(), LOCAL, REMOTE, sequence=ISS, now=NOW)
        assert found is not None
        connection = found
    else:
        config = WATCHFUL if (row.old, row.cause) == (State.FIN_WAIT_2, Cause.TIMEOUT) else IMPATIENT
        orphan = row.cause in (Cause.DATA_AFTER_CLOSE, Cause.EXPIRY)
        connection = at(row.old, config, orphan=orphan)
        CAUSES[row.cause](connection)
    return connection, [event for event in connection.events() if isinstance(event, StateChanged)]


OF_CONNECTIONS = [
    row for row in TABLE if not (State.LISTEN in (row.old, row.new) and row.cause is not Cause.SYN)
]  # the others are a listener's


@pytest.mark.parametrize("row", OF_CONNECTIONS, ids=lambda row: f"{row.old}, {row.cause}")
def test_a_connection_walks_the_row_and_sends_what_it_says(row: Transition) -> None:
    connection, moves = walk(row)
    assert [(move.old, move.cause, move.new) for move in moves] == [(row.old, row.cause, row.new)]
    assert connection.state is row.new
    sent = drain(connection, connection.changed)
    assert [one.flags for one in sent] == ([row.sends] if row.sends else [])


@pytest.mark.parametrize("row", [row for row in TABLE if row not in OF_CONNECTIONS], ids=lambda row: f"{row.cause}")
def test_a_listener_walks_the_row(row: Transition) -> None:
    listener = Listener(PLAIN, LOCAL, 5)
    if row.cause is not Cause.LISTEN:
        assert listener.close(NOW, row.cause) == []
        assert listener.open(syn(), LOCAL, REMOTE, sequence=ISS, now=NOW) is None
    assert listener.state is row.new


def test_each_row_is_the_only_one_of_its_state_and_cause() -> None:
    assert len(TRANSITIONS) == len(TABLE)


def test_every_state_is_reached_and_left() -> None:
    assert {row.old for row in TABLE} == {row.new for row in TABLE} == set(State)


def test_a_keepalive_without_answer_ends_every_idle_state_with_a_reset() -> None:
    for state in (State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_2):
        connection = at(state, WATCHFUL)
        by_expiry(connection)
        assert connection.state is State.CLOSED
        assert [one.flags for one in drain(connection, 1e6)] == [Flag.RST | Flag.ACK], state
