"""The congestion window: slow start, avoidance, recovery, loss, idleness."""

from __future__ import annotations

from dataclasses import replace

from layergate.tcp import LINUX
from layergate.tcp.congestion import SSTHRESH_MAX, NewReno, Phase

START = 1


def reno(cwnd: int = 10, ssthresh: int = SSTHRESH_MAX) -> NewReno:
    one = NewReno(LINUX, START)
    one.cwnd, one.ssthresh = cwnd, ssthresh
    return one


def test_the_worked_example() -> None:
    one = reno()
    assert [one.duplicate(START, 11, 10) for _ in range(3)] == [False, False, True]
    assert (one.phase, one.ssthresh, one.cwnd, 10 - one.duplicates) == (Phase.RECOVERY, 5, 5, 7)
    for _ in range(3):
        assert not one.duplicate(START, 11, 10)
    assert 10 - one.duplicates == 4 < one.cwnd


def test_it_begins_with_the_initial_window_and_no_threshold() -> None:
    assert (reno().cwnd, reno().ssthresh, reno().phase) == (10, 0x7FFFFFFF, Phase.OPEN)


def test_slow_start_ends_at_the_threshold_and_what_is_left_counts_for_avoidance() -> None:
    one = reno(4, ssthresh=6)
    one.acknowledged(5, 6, limited=True)
    assert one.cwnd == 6  # two for slow start, three of the six that avoidance needs
    one.acknowledged(3, 9, limited=True)
    assert one.cwnd == 7


def test_avoidance_opens_by_one_a_round_trip() -> None:
    one = reno(10, ssthresh=10)
    for number in range(10):
        assert one.cwnd == 10
        one.acknowledged(1, 2 + number, limited=True)
    assert one.cwnd == 11


def test_a_window_that_does_not_hold_the_sender_back_does_not_grow() -> None:
    one = reno()
    one.acknowledged(5, 6, limited=False)
    assert one.cwnd == 10


def test_a_partial_ack_shows_the_next_hole_and_a_full_one_ends_the_recovery() -> None:
    one = reno()
    for _ in range(3):
        one.duplicate(START, 11, 10)
    assert one.acknowledged(2, 3, limited=True)
    assert (one.phase, one.duplicates) == (Phase.RECOVERY, 2)
    assert not one.acknowledged(8, 11, limited=True)
    assert (one.phase, one.cwnd, one.duplicates) == (Phase.OPEN, 5, 0)


def test_a_timeout_is_one_segment_and_the_same_loss_is_not_counted_twice() -> None:
    one = reno()
    one.timed_out(11, 10, again=False)
    assert (one.phase, one.cwnd, one.ssthresh) == (Phase.LOSS, 1, 5)
    one.timed_out(11, 1, again=True)
    assert (one.cwnd, one.ssthresh) == (1, 5)


def test_duplicates_of_what_was_sent_before_a_loss_begin_nothing() -> None:
    one = reno()
    one.timed_out(11, 10, again=False)
    one.acknowledged(10, 11, limited=True)
    assert one.phase is Phase.OPEN
    assert not any(one.duplicate(11, 21, 10) for _ in range(5))
    one.acknowledged(1, 12, limited=True)
    assert [one.duplicate(12, 22, 10) for _ in range(3)] == [False, False, True]


def test_in_a_loss_duplicates_count_only_once_something_new_was_sent() -> None:
    one = reno()
    one.timed_out(11, 10, again=False)
    one.duplicate(START, 11, 1)
    assert one.duplicates == 0
    one.duplicate(START, 12, 2)
    assert one.duplicates == 1


def test_the_threshold_is_two_segments_at_least() -> None:
    one = reno()
    one.timed_out(2, 1, again=False)
    assert one.ssthresh == 2


def test_duplicates_are_never_more_than_what_is_on_its_way() -> None:
    one = reno()
    for _ in range(50):
        one.duplicate(START, 3, 2)
    assert one.duplicates == 2


def test_idleness_halves_for_each_timeout_down_to_the_initial_window() -> None:
    one = reno(64)
    one.idled(0.9)
    assert one.cwnd == 64
    one.idled(2.5)
    assert one.cwnd == 16
    one.idled(1e9)
    assert one.cwnd == 10
    small = reno(3)
    small.idled(5)
    assert small.cwnd == 3


def test_after_more_than_one_lost_syn_it_begins_with_one_segment() -> None:
    for losses, cwnd in ((0, 10), (1, 10), (2, 1)):
        one = reno()
        one.established(syn_losses=losses)
        assert one.cwnd == cwnd


def test_how_many_duplicates_mean_loss_can_be_chosen() -> None:
    one = NewReno(replace(LINUX, duplicate_acks=1), START)
    assert one.duplicate(START, 11, 10)
