"""Where a node is cut, by what a cut is worth.

A division of n entries is worth the halvings of what is left to test, log2(n / size), less what its copies cost; *size*
is the mean size of a part, weighted by its entries: what a header that meets one of them finds there. Example: 100
entries, 90 of them spread evenly over 9 of 10 parts, 10 in every part: 9 parts of 20 and one of 10 make 190 copies;
size 19.5, worth log2(100 / 19.5) - 0.7 log2(1.9) = 1.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import log2
from typing import Final

CHILDREN_MAX: Final = 4096
CHILDREN_PER_ENTRY: Final = 4
CHILDREN_PER_COPY: Final = 4  # a child is a step, a copy of an entry about four
GAIN_MIN: Final = 0.25
COPY_PRICE: Final = 0.7  # of doubling the entries
SPLIT_BELOW: Final = 1  # a split is worth one halving at most: not looked for where a cut is worth more

Pairs = list[tuple[int, int]]


@dataclass(slots=True)
class Choice:
    """How to divide: a cut of what lies from *low* to *high* into 2^*bits* parts; no bits: a split behind *low*."""

    score: float
    word: int
    low: int
    high: int
    bits: int = 0


def best_division(word: int, pairs: Pairs, allowed: float) -> Choice | None:
    """Return the best division of the ranges *pairs* of *word*, None where none is worth its step.

    *allowed*: how many copies it may come to. Cost: O(pairs + parts).
    """
    low = min(pairs)[0]
    high = max(high for _, high in pairs)
    count = len(pairs)
    narrow = [pair for pair in pairs if pair[0] > low or pair[1] < high]
    if not narrow:
        return None
    wide = count - len(narrow)
    best: Choice | None = None
    span = high - low + 1
    bits = min(CHILDREN_MAX, CHILDREN_PER_ENTRY * count, span).bit_length() - 1
    while bits >= 1:
        shift = max(0, (span - 1).bit_length() - bits)
        score = cut_score(narrow, wide, (low >> shift << shift, high), shift, allowed)
        if score is not None and (best is None or score > best.score):
            best = Choice(score, word, low, high, bits)
        elif best is not None:
            break
        bits -= 2
    if best is None or best.score < SPLIT_BELOW:
        split = best_split(narrow, wide, high, allowed)
        if split is not None and (best is None or split[0] > best.score):
            best = Choice(split[0], word, split[1], high)
    return best if best is not None and best.score >= GAIN_MIN else None


def cut_score(narrow: Pairs, wide: int, span: tuple[int, int], shift: int, allowed: float) -> float | None:
    """Return how many halvings a cut is worth, less what its copies cost; None where it may not be."""
    base, last = span[0], (span[1] - span[0]) >> shift
    changes = [0] * (last + 2)
    for low, end in narrow:
        changes[(low - base) >> shift] += 1
        changes[((end - base) >> shift) + 1] -= 1
    counts = list(accumulate(changes[:-1], initial=wide))[1:]
    copies = sum(counts)
    if copies + (last + 1) / CHILDREN_PER_COPY > allowed:
        return None
    total = len(narrow) + wide
    expected = sum(count * count for count in counts) / copies
    return log2(total / expected) - COPY_PRICE * log2(copies / total) if expected else None


def best_split(narrow: Pairs, wide: int, high: int, allowed: float) -> tuple[float, int] | None:
    """Return the score and the threshold of the better of two splits, at the median end and at the median start."""
    ends = sorted(end for _, end in narrow if end < high)
    starts = sorted(low for low, _ in narrow)
    candidates = {ends[len(ends) // 2]} if ends else set()
    candidates |= {starts[len(starts) // 2] - 1} if starts[len(starts) // 2] else set()
    total = len(narrow) + wide
    best = None
    for threshold in sorted(candidates):
        below = wide + sum(low <= threshold for low, _ in narrow)
        above = wide + sum(end > threshold for _, end in narrow)
        copies = below + above
        if not below or not above or copies > allowed:
            continue
        score = log2(total * copies / (below * below + above * above)) - COPY_PRICE * log2(copies / total)
        if best is None or score > best[0]:
            best = score, threshold
    return best
