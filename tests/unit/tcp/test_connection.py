"""A connection as its host uses it: calls, events, and when to come back. Its protocol: tests/scenarios/tcp."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layergate.tcp import (
    LINUX,
    Cause,
    DataArrived,
    EndOfStream,
    Established,
    Flag,
    Reset,
    State,
    StateChanged,
    WrongStateError,
)
from layergate.tcp.wire import NOP, mss_option, timestamps_option
from tests.unit.tcp.situations import (
    FIN_ACK,
    ISS,
    NOW,
    PEER_ISS,
    PLAIN,
    SYN_ACK,
    accepted,
    at,
    connected,
    drain,
    segment,
    syn,
)


def test_the_worked_example() -> None:
    client = connected()
    assert str(client.dispatch(NOW)) == "S 1000:1000(0) win 64240 <mss 1460>"
    assert client.dispatch(NOW) is None
    client.process(syn(SYN_ACK), NOW + 0.01)
    client.events()
    assert [str(one) for one in drain(client, NOW + 0.01)] == [". 1001:1001(0) ack 5001 win 65535"]
    assert client.write(b"x") == 1
    assert [str(one) for one in drain(client, NOW + 0.02)] == ["P. 1001:1002(1) ack 5001 win 65535"]


def test_a_client_that_reads_to_the_end_hears_what_events_says() -> None:
    client = connected()
    client.process(syn(SYN_ACK), NOW)
    client.process(segment(Flag.ACK, payload=b"data"), NOW)
    client.process(segment(FIN_ACK, PEER_ISS + 5), NOW)
    assert client.events() == [
        StateChanged(NOW, State.CLOSED, State.SYN_SENT, Cause.CONNECT),
        StateChanged(NOW, State.SYN_SENT, State.ESTABLISHED, Cause.SYN_ACK),
        Established(NOW),
        DataArrived(NOW, 4),
        EndOfStream(NOW),
        StateChanged(NOW, State.ESTABLISHED, State.CLOSE_WAIT, Cause.FIN),
    ]
    assert client.events() == []
    assert client.has_ended
    assert client.read(100, NOW) == b"data"


def test_data_that_nobody_has_asked_for_is_told_as_one() -> None:
    connection = at(State.ESTABLISHED)
    for number in range(100):
        connection.process(segment(Flag.ACK, PEER_ISS + 1 + number, payload=b"x"), NOW + number)
    assert connection.events() == [DataArrived(NOW, 100)]


def test_who_hears_that_it_is_established_may_still_abort_and_no_ack_leaves() -> None:
    client = connected()
    drain(client)
    client.process(syn(SYN_ACK), NOW)
    assert client.events()[-1] == Established(NOW)
    client.abort(NOW)
    assert [one.flags for one in drain(client)] == [Flag.RST | Flag.ACK]


@pytest.mark.parametrize(
    "state", [State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSING, State.LAST_ACK, State.TIME_WAIT, State.CLOSED]
)
def test_who_has_sent_a_fin_writes_no_more(state: State) -> None:
    connection = at(state)
    for call, name in ((lambda: connection.write(b"x"), "write"), (lambda: connection.shutdown_write(NOW), "shutdown")):
        with pytest.raises(WrongStateError) as refused:
            call()
        assert str(refused.value) == f"{name} in {state}"
        assert (refused.value.call, refused.value.state) == (name, state)
    assert connection.room == 0 or state is State.CLOSED


@pytest.mark.parametrize("state", [state for state in State if state is not State.LISTEN])
def test_closing_and_aborting_twice_does_nothing_more(state: State) -> None:
    connection = at(state)
    connection.close(NOW)
    drain(connection)
    connection.close(NOW)
    assert drain(connection) == []
    connection.abort(NOW)
    drain(connection)
    connection.abort(NOW)
    assert (connection.state, drain(connection), connection.poll_at()) == (State.CLOSED, [], None)


@pytest.mark.parametrize("state", [state for state in State if state is not State.LISTEN])
def test_when_nothing_is_to_be_sent_it_is_not_due_before_later(state: State) -> None:
    connection = at(state, replace(LINUX, keepalive=True))
    due = connection.poll_at()
    assert (due is None) is (state is State.CLOSED)
    assert due is None or due > NOW


def test_a_syn_ack_rounds_its_window_to_what_its_segments_hold_as_linux_does() -> None:
    stamped = segment(Flag.SYN, PEER_ISS, options=(mss_option(1460), NOP, NOP, timestamps_option(1, 0)))
    connection = type(accepted()).accept(LINUX, accepted().local, accepted().remote, stamped, sequence=ISS, now=NOW)
    assert [one.window for one in drain(connection)] == [65160]


def test_what_a_syn_has_offered_is_taken_though_timestamps_make_segments_shorter() -> None:
    config = replace(LINUX, receive_buffer_bytes=2920)
    client = connected(config)
    assert [one.window for one in drain(client)] == [2920]
    client.process(segment(SYN_ACK, PEER_ISS, options=(NOP, NOP, timestamps_option(1, 0))), NOW)
    client.process(segment(Flag.ACK, payload=bytes(2920)), NOW)
    assert client.available == 2920


def test_the_failure_stays_to_be_asked_for() -> None:
    connection = at(State.ESTABLISHED)
    connection.process(segment(Flag.RST), NOW)
    assert connection.failure == Reset(NOW)
    assert connection.events()[-1] == Reset(NOW)


def test_what_had_arrived_can_still_be_read_after_the_end() -> None:
    connection = at(State.ESTABLISHED)
    connection.process(segment(Flag.ACK, payload=b"last words"), NOW)
    connection.process(segment(Flag.RST, PEER_ISS + 11), NOW)
    assert connection.state is State.CLOSED
    assert connection.read(100, NOW) == b"last words"


def test_it_counts_its_segments() -> None:
    connection = at(State.ESTABLISHED)
    assert (connection.segments_out, connection.segments_in) == (2, 1)


def test_numbers_are_told_as_they_are() -> None:
    connection = at(State.ESTABLISHED)
    connection.write(bytes(100))
    assert (connection.unacknowledged, connection.room) == (100, PLAIN.send_buffer_bytes - 100)
    assert (connection.peer_window, connection.mss, connection.congestion_window) == (65535, 1460, 10)
    assert (connection.is_passive, at(State.SYN_RECEIVED).is_passive) == (False, True)
    assert (connection.srtt_s, connection.rto_s, connection.retransmitted) == (0.0, 0.2, 0)
