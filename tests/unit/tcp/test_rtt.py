"""The retransmission timeout, by RFC 6298."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layergate.tcp import LINUX, RFC
from layergate.tcp.rtt import RoundTrip

PLAIN = replace(RFC, rto_s_min=0.001)


def test_the_worked_example() -> None:
    rtt = RoundTrip(LINUX)
    rtt.sample(0.1)
    assert (rtt.srtt_s, rtt.variance_s) == (0.1, 0.05)
    assert rtt.rto_s == pytest.approx(0.3)
    rtt.sample(0.2)
    assert (rtt.srtt_s, rtt.variance_s) == (pytest.approx(0.1125), pytest.approx(0.0625))
    assert rtt.rto_s == pytest.approx(0.3625)


def test_before_any_sample_it_is_a_second() -> None:
    assert RoundTrip(LINUX).rto_s == 1.0


def test_the_variance_counts_four_times_where_it_is_more_than_the_least() -> None:
    rtt = RoundTrip(PLAIN)
    rtt.sample(1.0)
    assert rtt.rto_s == 1.0 + 4 * 0.5
    for _ in range(100):
        rtt.sample(1.0)
    assert rtt.rto_s == pytest.approx(1.0 + 0.001)


def test_each_timeout_doubles_it_up_to_the_longest_and_a_sample_ends_that() -> None:
    rtt = RoundTrip(LINUX)
    rtt.sample(0.1)
    doubled = []
    for _ in range(12):
        rtt.back_off()
        doubled.append(rtt.rto_s)
    assert doubled[:3] == [pytest.approx(0.6), pytest.approx(1.2), pytest.approx(2.4)]
    assert doubled[-1] == 120.0
    for _ in range(100_000):
        rtt.back_off()  # no number grows beyond measure
    assert rtt.rto_s == 120.0
    rtt.sample(0.1)
    assert rtt.rto_s < 1


def test_it_stays_between_its_bounds_whatever_is_measured() -> None:
    rtt = RoundTrip(RFC)
    rtt.sample(0.0)
    assert rtt.rto_s == 1.0
    rtt.sample(1e6)
    assert rtt.rto_s == 120.0


def test_after_a_lost_syn_it_is_three_seconds_unless_something_was_measured() -> None:
    rtt = RoundTrip(LINUX)
    rtt.back_off()
    rtt.established(syn_was_lost=True)
    assert rtt.rto_s == 3.0
    rtt = RoundTrip(LINUX)
    rtt.sample(0.1)
    rtt.established(syn_was_lost=True)
    assert rtt.rto_s == pytest.approx(0.3)
