"""Histograms in powers of two; changes of state as lines."""

from __future__ import annotations

from layergate.kernel import sockets_layout_generated as layout
from layergate.sockets.histograms import Histogram, drawn, histogram_line, of_kernel
from layergate.sockets.round_trips import key_of
from layergate.sockets.transitions import Transition, transition_line
from tests.unit.sockets.example import end


def test_values_fall_into_the_slot_of_their_power_of_two() -> None:
    one = Histogram()
    for value in (0, 1, 2, 3, 4, 1000):
        one.add(value)
    assert (one.slots[0], one.slots[1], one.slots[2], one.slots[9]) == (2, 2, 1, 1)
    assert (one.count, one.least, one.greatest, one.mean) == (6, 0, 1000, 1010 / 6)
    assert (one.quantile(0.5), one.quantile(1.0)) == (4, 1000)


def test_the_kernel_s_histograms_are_read_as_they_are() -> None:
    packed = layout.HISTOGRAM.pack(3, 90, 20, 40, *[0] * 4, 2, 1, *[0] * 26)
    line = histogram_line("rtt", "port", 443, of_kernel(layout.HISTOGRAM.unpack(packed)))
    assert (line["kind"], line["of"], line["by"], line["key"], line["mean_us"]) == (
        "histogram",
        "rtt",
        "port",
        443,
        30.0,
    )
    assert line["slots"] == [{"from_us": 16, "to_us": 32, "count": 2}, {"from_us": 32, "to_us": 64, "count": 1}]


def test_a_drawing_begins_and_ends_with_a_filled_slot() -> None:
    one = Histogram()
    for value in (20, 21, 200):
        one.add(value)
    title, *rows = drawn("remote 10.0.0.1", one)
    assert title.startswith("remote 10.0.0.1: 3 (mean 0.1ms")
    assert len(rows) == 4
    assert rows[0].endswith("█" * 40)
    assert rows[1].split()[-1] == "0"
    assert list(drawn("none", Histogram())) == [
        "none: 0 (mean 0.0ms, half below 0.0ms, 99 % below 0.0ms, greatest 0.0ms)"
    ]


def test_keys_are_addresses_numbers_or_nothing() -> None:
    address, _ = end("[fd00::1]:1")
    assert key_of((address, 0, 6), "remote") == "fd00::1"
    assert key_of((bytes(16), 443, 0), "port") == 443
    assert key_of((bytes(16), 0, 0), "all") is None


def transition(**members: int | bytes) -> Transition:
    (near, near_port), (far, far_port) = end("10.0.0.1:80"), end("10.0.0.9:5000")
    given: dict[str, int | bytes] = {
        "time": 2_000_000_000, "spent": 5_000_000, "cookie": 7, "netns": 1, "pid": 1, "user": 33, "rtt": 1500,
        "local_port": near_port, "remote_port": far_port, "family": 4, "from": 1, "to": 8, "bits": layout.SPENT_KNOWN,
        "local": near, "remote": far, "comm": b"nginx".ljust(16, b"\0"), "pad": 0, **members,
    }  # fmt: skip
    return Transition(tuple(given.values()), 1_000_000_000)  # type: ignore[arg-type]


def test_a_change_is_told_with_the_time_in_the_old_state() -> None:
    line = transition_line(transition())
    assert (line["from"], line["to"], line["spent_ms"], line["time"]) == ("ESTABLISHED", "CLOSE_WAIT", 5.0, 1.0)
    assert (line["local"], line["remote"], line["name"], line["rtt_ms"]) == (
        "10.0.0.1:80",
        "10.0.0.9:5000",
        "nginx",
        1.5,
    )
    assert transition().leaving.state == "ESTABLISHED"


def test_what_is_not_known_is_null() -> None:
    line = transition_line(transition(bits=0, pid=0, rtt=0, remote=bytes(16), remote_port=0))
    assert line["spent_ms"] is line["process"] is line["name"] is line["rtt_ms"] is line["remote"] is None
