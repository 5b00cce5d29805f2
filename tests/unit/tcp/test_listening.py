"""A listener and its two queues."""

from __future__ import annotations

from dataclasses import replace

from layergate.tcp import Connection, End, Flag, Listener, Segment, State
from tests.unit.tcp.situations import ISS, LOCAL, NOW, PEER_ISS, PLAIN, REMOTE, drain, segment, syn


def opened(listener: Listener, port: int = REMOTE.port) -> Connection | None:
    remote = End(REMOTE.address, port)
    return listener.open(syn(), LOCAL, remote, sequence=ISS, now=NOW)


def completed(listener: Listener, port: int = REMOTE.port) -> Connection:
    """A connection that waits to be accepted."""
    connection = opened(listener, port)
    assert connection is not None
    drain(connection)
    assert listener.admits(connection, segment(Flag.ACK)) is True
    connection.process(segment(Flag.ACK), NOW)
    assert connection.state is State.ESTABLISHED
    listener.established(connection)
    return connection


def test_connections_are_accepted_in_the_order_in_which_they_were_established() -> None:
    listener = Listener(PLAIN, LOCAL, 5)
    first, second = completed(listener, 1), completed(listener, 2)
    assert listener.waiting == 2
    assert [listener.accept(), listener.accept(), listener.accept()] == [first, second, None]


def test_a_backlog_of_n_lets_one_more_wait_in_either_queue() -> None:
    for backlog in (0, 1, 5):
        listener = Listener(PLAIN, LOCAL, backlog)
        assert [opened(listener, port) is not None for port in range(backlog + 2)] == [True] * (backlog + 1) + [False]
        assert (listener.drops, listener.overflows) == (1, 0)
        listener = Listener(PLAIN, LOCAL, backlog)
        for port in range(backlog + 1):
            completed(listener, port)
        assert listener.is_full
        assert opened(listener, 99) is None
        assert (listener.drops, listener.overflows) == (1, 1)


def test_the_backlog_is_cut_to_somaxconn_and_never_negative() -> None:
    assert Listener(replace(PLAIN, somaxconn=3), LOCAL, 100).backlog == 3
    assert Listener(PLAIN, LOCAL, -1).backlog == 0


def full_with_one_half_open(*, abort: bool) -> tuple[Listener, Connection]:
    listener = Listener(replace(PLAIN, abort_on_overflow=abort), LOCAL, 1)
    completed(listener, 1)
    late = opened(listener, 2)
    assert late is not None
    completed(listener, 3)
    assert listener.is_full
    return listener, late


def test_an_ack_that_finds_the_accept_queue_full_is_dropped() -> None:
    listener, late = full_with_one_half_open(abort=False)
    assert listener.admits(late, segment(Flag.ACK)) is False
    assert (listener.overflows, listener.drops) == (1, 1)
    listener.accept()
    assert listener.admits(late, segment(Flag.ACK)) is True


def test_or_reset_where_that_is_wanted() -> None:
    listener, late = full_with_one_half_open(abort=True)
    answer = listener.admits(late, segment(Flag.ACK))
    assert isinstance(answer, Segment)
    assert (answer.flags, answer.sequence) == (Flag.RST, ISS + 1)
    listener.ended(late)
    assert listener.half_open == set()


def test_what_would_not_complete_the_handshake_passes_all_the_same() -> None:
    listener, late = full_with_one_half_open(abort=False)
    for one in (
        segment(Flag.RST),
        syn(),
        segment(Flag.ACK, ack=ISS),
        segment(Flag.ACK, PEER_ISS + 100_000),
    ):
        assert listener.admits(late, one) is True
    assert listener.overflows == 0


def test_closing_forgets_who_is_half_open_and_resets_who_waits() -> None:
    listener = Listener(PLAIN, LOCAL, 5)
    waiting, half_open = completed(listener, 1), opened(listener, 2)
    assert listener.close(NOW) == [half_open, waiting]
    assert [one.flags for one in drain(waiting)] == [Flag.RST | Flag.ACK]
    assert (listener.state, listener.waiting, listener.half_open) == (State.CLOSED, 0, set())
    assert opened(listener, 3) is None
    assert listener.close(NOW) == []


def test_a_connection_has_the_options_of_its_way() -> None:
    listener = Listener(PLAIN, LOCAL, 5)
    connection = listener.open(syn(), LOCAL, REMOTE, replace(PLAIN, mtu=1000), sequence=ISS, now=NOW)
    assert connection is not None
    assert [one.mss for one in drain(connection)] == [960]
