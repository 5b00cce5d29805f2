"""Numbers that wrap on the wire, and don't inside."""

from __future__ import annotations

import pytest

from layergate.tcp.sequence import MASK, distance, unwrap

HALF = 1 << 31


@pytest.mark.parametrize(
    "number,near,expected",
    [
        (4, 4294967290, 4294967300),  # ten further, over the edge
        (4294967280, 4294967290, 4294967280),  # ten before
        (0, 0, 0),
        (4294967295, 0, -1),
        (HALF - 1, 0, HALF - 1),
        (HALF, 0, -HALF),  # as far either way: the lower
        (5, 10 << 32, (10 << 32) + 5),
        (MASK, 10 << 32, (10 << 32) - 1),
    ],
)
def test_a_number_is_the_nearest_to_what_is_expected(number: int, near: int, expected: int) -> None:
    assert unwrap(number, near) == expected
    assert (unwrap(number, near) - number) & MASK == 0


@pytest.mark.parametrize(
    "start,end,expected",
    [(0, 5, 5), (5, 0, -5), (4294967295, 0, 1), (0, 4294967295, -1), (7, 7, 0), (0, HALF, -HALF)],
)
def test_a_distance_is_that_of_the_shorter_way(start: int, end: int, expected: int) -> None:
    assert distance(start, end) == expected
