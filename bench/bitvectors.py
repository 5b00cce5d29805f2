"""Bit vectors, to compare with: a field's elementary intervals have a bit a rule; the first bit set in all decides.

Example: three rules on a port, 22, 1-1023 and 443: intervals 0, 1-21, 22, 23-442, 443, 444-1023, 1024-: of port 443 the
vector is 0b110, and its least bit says that rule 1 is the first.
Cost: memory O(rules²) bits a field; a lookup reads a word of every field until one is left that is not zero.
Source: Lakshman and Stiliadis, "High-Speed Policy-Based Packet Forwarding", 1998.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numba
import numpy as np

from bench.rulesets import Header, Ruleset

if TYPE_CHECKING:
    from numpy.typing import NDArray

RULES_MAX: Final = 10_000
REPEATED: Final = 4
_WORD: Final = 64


def rows_per_us(rules: Ruleset, headers: Sequence[Header]) -> float:
    """Return how many of *headers* are decided in a microsecond, on one processor. *rules* of IPv4."""
    fields = sorted({name for box in rules.boxes for name in box})
    tables = [_field(rules, name) for name in fields]
    longest = max(len(starts) for starts, _ in tables)
    starts = np.full((len(fields), longest), np.iinfo(np.uint64).max, np.uint64)
    vectors = np.zeros((len(fields), longest, -(-rules.count // _WORD)), np.uint64)
    for place, (own, bits) in enumerate(tables):
        starts[place, : len(own)] = own
        vectors[place, : len(own)] = bits
    rows = np.tile(np.array([[one[name] for name in fields] for one in headers], np.uint64), (REPEATED, 1))
    found = np.empty(len(rows), np.int64)
    _first(starts, vectors, rows, found)
    _require_right(rules, headers, found)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        _first(starts, vectors, rows, found)
        best = min(best, time.perf_counter() - began)
    return len(rows) / best / 1e6


def _field(rules: Ruleset, name: str) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return where the intervals of a field start, and the vector of each."""
    spans = [box.get(name) for box in rules.boxes]
    edges = {0}
    for span in spans:
        if span is not None:
            edges |= {span[0], span[1] + 1}
    starts = np.array(sorted(edges), np.uint64)
    vectors = np.zeros((len(starts), -(-rules.count // _WORD)), np.uint64)
    for rule, span in enumerate(spans):
        low, high = (
            (0, len(starts)) if span is None else np.searchsorted(starts, np.array([span[0], span[1] + 1], np.uint64))
        )
        vectors[low:high, rule // _WORD] |= np.uint64(1 << rule % _WORD)
    return starts, vectors


def _require_right(rules: Ruleset, headers: Sequence[Header], found: NDArray[np.int64]) -> None:
    """A rival that answers something else is none: look at some."""
    for place in range(0, len(headers), max(1, len(headers) // 50)):
        header = headers[place]
        wanted = next(
            (
                rule
                for rule, box in enumerate(rules.boxes)
                if all(low <= header[name] <= high for name, (low, high) in box.items())
            ),
            -1,
        )
        assert wanted == found[place], (header, wanted, int(found[place]))


@numba.njit(cache=True, nogil=True)
def _first(
    starts: NDArray[np.uint64], vectors: NDArray[np.uint64], rows: NDArray[np.uint64], found: NDArray[np.int64]
) -> None:
    """Write the first rule that each row meets, -1 for none."""
    fields = rows.shape[1]
    words = vectors.shape[2]
    at = np.empty(fields, np.int64)
    for row in range(rows.shape[0]):
        for field in range(fields):
            at[field] = np.searchsorted(starts[field], rows[row, field], side="right") - 1
        found[row] = -1
        for word in range(words):
            left = vectors[0, at[0], word]
            for field in range(1, fields):
                left &= vectors[field, at[field], word]
            if left:
                bit = 0
                while not left >> np.uint64(bit) & np.uint64(1):
                    bit += 1
                found[row] = word * 64 + bit
                break
