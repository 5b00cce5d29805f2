"""The sending half: what leaves when, what is sent again, when the peer is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layergate.tcp import LINUX, Config
from layergate.tcp.rtt import RoundTrip
from layergate.tcp.sending import Piece, Sender

MSS = 1000
START = 1


def sender(config: Config = LINUX, *, window: int = 65535) -> Sender:
    one = Sender(config, START, mss=MSS, rtt=RoundTrip(config))
    one.update_window(window, 0, START)
    return one


def pieces(one: Sender, now: float = 0.0) -> list[tuple[int, int]]:
    """What may be sent now, each as where it begins and how many bytes it is."""
    found = []
    while (piece := one.next_piece(now)) is not None:
        found.append((piece.start, len(piece.payload)))
    return found


def test_the_worked_example() -> None:
    one = Sender(LINUX, START, mss=1460, rtt=RoundTrip(LINUX))
    one.update_window(4000, 0, START)
    one.write(bytes(5000))
    assert pieces(one) == [(1, 1460), (1461, 1460)]
    one.acknowledge(2921, 0.1, echoed_s=None)
    one.update_window(4000, 0, 2921)
    assert pieces(one, 0.1) == [(2921, 1460), (4381, 620)]


def test_a_write_takes_what_there_is_room_for() -> None:
    one = sender(replace(LINUX, send_buffer_bytes=1500))
    assert (one.room, one.write(bytes(1000)), one.write(bytes(1000)), one.write(b"x"), one.room) == (
        1500,
        1000,
        500,
        0,
        0,
    )
    pieces(one)
    one.acknowledge(1001, 0.1, echoed_s=None)
    assert (one.room, one.unacknowledged) == (1000, 500)


def test_only_the_last_piece_pushes() -> None:
    one = sender()
    one.write(bytes(1500))
    assert [one.next_piece(0.0), one.next_piece(0.0), one.next_piece(0.0)] == [
        Piece(1, bytes(1000)),
        Piece(1001, bytes(500), pushes=True),
        None,
    ]


def test_a_fin_goes_with_the_last_data_and_takes_a_number() -> None:
    one = sender()
    one.write(b"end")
    one.fin_queued = True
    assert one.next_piece(0.0) == Piece(1, b"end", fin=True, pushes=True)
    assert (one.nxt, one.all_acknowledged) == (5, False)
    one.acknowledge(4, 0.1, echoed_s=None)
    assert not one.all_acknowledged
    one.acknowledge(5, 0.1, echoed_s=None)
    assert one.all_acknowledged
    assert (one.timer, one.next_piece(1.0)) == (None, None)


def test_a_fin_that_the_window_has_no_room_for_waits() -> None:
    one = sender(window=3)
    one.write(b"end")
    one.fin_queued = True
    assert one.next_piece(0.0) == Piece(1, b"end", pushes=True)
    assert one.next_piece(0.0) is None
    one.acknowledge(4, 0.1, echoed_s=None)
    one.update_window(1, 0, 4)
    assert one.next_piece(0.1) == Piece(4, b"", fin=True)


def test_nothing_leaves_beyond_the_congestion_window() -> None:
    one = sender(replace(LINUX, initial_window_segments=2))
    one.write(bytes(5000))
    assert len(pieces(one)) == 2


def test_the_timer_runs_while_something_is_on_its_way() -> None:
    one = sender()
    assert one.timer is None
    one.write(bytes(2000))
    pieces(one, 5.0)
    assert one.timer == 6.0
    one.acknowledge(1001, 5.5, echoed_s=None)  # a round trip of 0.5: the timeout is 1.5
    assert one.timer == 7.0
    one.acknowledge(2001, 5.6, echoed_s=None)
    assert one.timer is None


def test_when_it_expires_all_is_sent_again_as_the_window_opens() -> None:
    one = sender()
    one.write(bytes(4000))
    pieces(one)
    one.expire(1.0)
    assert (one.in_flight, one.timer) == (0, 3.0)
    assert pieces(one, 1.0) == [(1, 1000)]
    one.acknowledge(1001, 1.1, echoed_s=None)
    assert pieces(one, 1.1) == [(1001, 1000), (2001, 1000)]
    one.acknowledge(4001, 1.2, echoed_s=None)  # the others had only been late
    assert (one.in_flight, one.unacknowledged, one.retransmitted) == (0, 0, 3)


def test_what_was_lost_goes_before_what_is_new() -> None:
    one = sender(replace(LINUX, initial_window_segments=2))
    one.write(bytes(2000))
    pieces(one)
    one.write(bytes(2000))
    one.expire(1.0)
    one.congestion.cwnd = 10
    assert pieces(one, 1.0) == [(1, 1000), (1001, 1000), (2001, 1000), (3001, 1000)]


def test_of_a_segment_that_was_acknowledged_in_part_the_rest_is_sent_again() -> None:
    one = sender()
    one.write(bytes(range(100)))
    pieces(one)
    assert one.acknowledge(41, 0.1, echoed_s=None) == 40
    one.expire(1.0)
    assert one.next_piece(1.0) == Piece(41, bytes(range(40, 100)), is_new=False, pushes=True)


def test_three_duplicates_send_the_first_again_at_once() -> None:
    one = sender()
    one.write(bytes(5000))
    pieces(one)
    for _ in range(3):
        one.duplicate()
    assert pieces(one, 0.1) == [(1, 1000)]


def test_a_window_from_an_older_segment_is_not_taken() -> None:
    one = sender()
    assert one.update_window(100, 10, 5)
    assert not one.update_window(200, 9, 6)
    assert not one.update_window(200, 10, 4)
    assert one.window == 100
    assert one.update_window(200, 10, 5)
    assert not one.update_window(200, 11, 5)  # newer, and the same


def test_a_closed_window_is_asked_for_each_time_twice_as_late() -> None:
    one = sender(window=0)
    one.write(b"x")
    times = []
    now = 0.0
    for _ in range(4):
        assert one.next_piece(now) is None
        assert one.timer is not None
        now = one.timer
        times.append(now)
        one.expire(now)
        assert one.take_probe(now)
        assert not one.take_probe(now)
    assert times == [1.0, 3.0, 7.0, 15.0]
    assert one.unanswered == 4
    one.update_window(10, 0, START)
    assert pieces(one, now) == [(1, 1)]


def test_what_fits_into_a_window_that_stays_small_is_sent_when_the_timer_expires() -> None:
    one = sender()
    one.update_window(100, 1, START)
    one.write(bytes(2000))
    assert pieces(one) == []
    assert one.timer == 1.0
    one.expire(1.0)
    assert not one.take_probe(1.0)
    assert pieces(one, 1.0) == [(1, 100)]


@pytest.mark.parametrize("nagle,expected", [(True, []), (False, [(11, 10)])])
def test_nagle_holds_the_second_short_one_back(*, nagle: bool, expected: list[tuple[int, int]]) -> None:
    one = sender(replace(LINUX, nagle=nagle))
    one.write(bytes(10))
    assert pieces(one) == [(1, 10)]
    one.write(bytes(10))
    assert pieces(one) == expected


def test_what_was_sent_once_tells_the_round_trip_and_what_was_sent_twice_does_not() -> None:
    one = sender()
    one.write(bytes(1000))
    pieces(one, 0.0)
    one.acknowledge(1001, 0.2, echoed_s=9.9)
    assert one.rtt.srtt_s == 0.2  # its own time, not the echo's
    one.write(bytes(1000))
    pieces(one, 1.0)
    one.expire(1.5)
    pieces(one, 1.5)
    one.acknowledge(2001, 1.6, echoed_s=None)
    assert one.rtt.srtt_s == 0.2
