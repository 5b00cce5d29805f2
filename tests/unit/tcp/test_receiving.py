"""The receiving half: the stream put together, the window, and when to acknowledge."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from layergate.tcp import LINUX, Config
from layergate.tcp.receiving import PIECE_BYTES_MIN, Receiver, first_window

START = 1
MSS = 1000
SLOW = replace(LINUX, quick_acks=0)


def receiver(config: Config = SLOW, *, mss: int = MSS, shift: int = 0) -> Receiver:
    return Receiver(config, START, mss=mss, shift=shift, window=first_window(config, mss))


def take(one: Receiver, start: int, payload: bytes, *, fin: bool = False, now: float = 0.0) -> int:
    return one.take(start, payload, fin=fin, now=now)


def test_the_worked_example() -> None:
    one = Receiver(SLOW, 100, mss=MSS, shift=0, window=65535)
    assert take(one, 150, b"b" * 50) == 0
    assert (one.ack_at, one.nxt, one.has_gap) == (0.0, 100, True)
    one.advertise()
    assert take(one, 100, b"a" * 50) == 100
    assert (one.ack_at, one.nxt, one.has_gap) == (0.0, 200, False)
    assert one.read(1000) == b"a" * 50 + b"b" * 50


@pytest.mark.parametrize("seed", range(20))
def test_however_it_is_cut_doubled_and_shuffled_the_stream_is_whole(seed: int) -> None:
    source = random.Random(seed)
    stream = source.randbytes(3000)
    spans = [(at, at + source.randint(1, 400)) for at in range(0, 3000, 37)]
    spans += [(at, at + source.randint(1, 60)) for at in range(0, 3000, 50)]
    source.shuffle(spans)
    one = receiver()
    grown = 0
    for start, end in spans:
        grown += take(one, START + start, stream[start:end])
        kept = one._later
        assert all(one_end[0] + len(one_end[1]) <= after[0] for one_end, after in itertools.pairwise(kept))
    for start in range(0, 3000, 500):
        grown += take(one, START + start, stream[start : start + 500])
    assert grown == 3000
    assert one.read(9999) == stream
    assert not one.has_gap


def test_of_single_bytes_with_gaps_between_no_more_are_kept_than_the_buffer_pays_for() -> None:
    one = receiver()
    stream = bytes(range(256)) * 256
    for at in range(1, 60_000, 2):
        take(one, START + at, stream[at : at + 1])
    assert len(one._later) * PIECE_BYTES_MIN == SLOW.receive_buffer_bytes
    for at in range(0, 60_000, 1000):
        take(one, START + at, stream[at : at + 1000])
    assert one.read(60_000) == stream[:60_000]
    assert not one.has_gap


def test_what_lies_beyond_the_window_is_cut_off() -> None:
    one = receiver(replace(SLOW, receive_buffer_bytes=100, window_scale=None))
    assert take(one, START + 50, bytes(1000)) == 0
    assert take(one, START, bytes(1000)) == 100
    assert (one.available, one.nxt) == (100, 101)
    assert one.advertise() == 0


@pytest.mark.parametrize(
    "start,end,accepted",
    [
        (100, 100, True),  # empty, where it is expected
        (99, 99, False),  # empty, before that
        (50, 100, False),  # all of it known
        (50, 101, True),  # one new byte
        (1100, 1101, True),  # at the edge: nothing of it, but not outside
        (1101, 1102, False),
        (1101, 1101, False),
    ],
)
def test_what_belongs_here_overlaps_the_window_or_touches_its_edges(start: int, end: int, *, accepted: bool) -> None:
    one = Receiver(SLOW, 100, mss=MSS, shift=0, window=1000)
    assert one.accepts(start, end) is accepted


def test_the_right_edge_never_moves_to_the_left() -> None:
    one = receiver(replace(SLOW, receive_buffer_bytes=4000, window_scale=None))
    source = random.Random(1)
    edge = one.edge
    for _ in range(500):
        if source.random() < 0.6:
            take(one, one.nxt, bytes(source.randrange(2000)))
        else:
            one.read(source.randrange(1500))
        one.advertise()
        assert one.edge >= edge
        assert one.available <= 4000
        edge = one.edge


def test_the_window_opens_by_a_segment_at_least() -> None:
    one = receiver(replace(SLOW, receive_buffer_bytes=4000, window_scale=None))
    take(one, START, bytes(4000))
    assert one.advertise() == 0
    one.read(999)
    assert (one.opens_window(), one.advertise()) == (False, 0)
    one.read(1)
    assert (one.opens_window(), one.advertise()) == (True, 1000)


def test_of_a_buffer_smaller_than_two_segments_half_is_enough() -> None:
    one = receiver(replace(SLOW, receive_buffer_bytes=1000, window_scale=None))
    take(one, START, bytes(1000))
    one.advertise()
    one.read(500)
    assert (one.opens_window(), one.advertise()) == (True, 500)


def test_a_window_is_told_in_whole_units_and_taken_all_the_same() -> None:
    one = receiver(replace(SLOW, receive_buffer_bytes=10_000), shift=7)
    assert one.advertise() == 10_000 >> 7
    assert take(one, START, bytes(10_000)) == 10_000


def test_the_first_window_is_whole_segments() -> None:
    assert first_window(LINUX, 1460) == 64240  # Linux's on an Ethernet
    assert first_window(LINUX, 1448) == 65160  # and in its SYN-ACK, with timestamps
    assert first_window(replace(LINUX, receive_buffer_bytes=500), 1460) == 500


def test_a_single_short_segment_is_acknowledged_late_and_a_second_full_one_at_once() -> None:
    one = receiver()
    take(one, START, bytes(100), now=1.0)
    assert one.ack_at == 1.04
    take(one, one.nxt, bytes(1000), now=1.01)
    assert one.ack_at == 1.01
    one.advertise()
    assert one.ack_at is None


def test_the_first_segments_of_a_connection_are_acknowledged_at_once_until_the_process_answers() -> None:
    one = receiver(replace(LINUX, quick_acks=2))
    take(one, START, b"x", now=1.0)
    assert one.ack_at == 1.0
    one.advertise()
    one.answered(1.01)
    take(one, one.nxt, b"x", now=2.0)
    assert one.ack_at == 2.04


def test_the_end_of_the_stream_counts_when_all_before_it_has_come() -> None:
    one = receiver()
    take(one, START + 3, b"", fin=True)
    assert not one.has_ended
    assert take(one, START, b"end") == 3
    assert (one.has_ended, one.nxt) == (True, START + 4)


def test_behind_the_end_nothing_is_taken() -> None:
    one = receiver()
    take(one, START, b"end", fin=True)
    assert take(one, START, b"end and more") == 0
    assert one.read(100) == b"end"


def test_an_end_before_what_has_come_already_is_not_believed() -> None:
    one = receiver()
    take(one, START + 10, b"later")
    take(one, START + 3, b"", fin=True)
    assert one.fin_at is None
    assert take(one, START, b"0123456789") == 15
    assert not one.has_ended
