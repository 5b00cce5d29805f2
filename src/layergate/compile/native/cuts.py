"""As `compile.cuts`, and `Builder._choose`: where a node is divided. NaN and -1 stand for None."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from layergate.compile.cuts import (
    CHILDREN_MAX,
    CHILDREN_PER_COPY,
    CHILDREN_PER_ENTRY,
    COPY_PRICE,
    GAIN_MIN,
    SPLIT_BELOW,
)
from layergate.compile.native.arrays import WORK, Given, bit_length, compiled
from layergate.compile.trees import SAMPLE


class Looked(NamedTuple):
    """Room for a look at a node: the bounds of the entries that are looked at, and a number for each part of a cut."""

    lows: Any
    highs: Any
    changes: Any


@compiled
def cut_score(looked: Looked, count: int, wide: int, base: int, high: int, shift: int, allowed: float) -> Any:
    """As `cuts.cut_score`, of the first *count* bounds."""
    lows, highs, changes = looked.lows, looked.highs, looked.changes
    last = (high - base) >> shift
    changes[: last + 2] = 0
    for one in range(count):
        changes[(lows[one] - base) >> shift] += 1
        changes[((highs[one] - base) >> shift) + 1] -= 1
    copies, squares, here = 0, 0, wide
    for part in range(last + 1):
        here += changes[part]
        copies += here
        squares += here * here
    if copies + (last + 1) / CHILDREN_PER_COPY > allowed:
        return math.nan
    total = count + wide
    expected = squares / copies
    if not expected:
        return math.nan
    return math.log2(total / expected) - COPY_PRICE * math.log2(copies / total)


@compiled
def best_split(looked: Looked, count: int, wide: int, high: int, allowed: float) -> Any:
    """As `cuts.best_split`, of the first *count* bounds: (score, threshold)."""
    lows, highs = looked.lows[:count], looked.highs[:count]
    ends = np.sort(highs[highs < high])
    starts = np.sort(lows)
    first = second = -1
    if len(ends):
        first = ends[len(ends) // 2]
    if starts[count // 2]:
        second = starts[count // 2] - 1
    total = count + wide
    best, at = math.nan, 0
    for threshold in (min(first, second), max(first, second)) if first != second else (first, -1):
        if threshold < 0:
            continue
        below = above = wide
        for one in range(count):
            below += lows[one] <= threshold
            above += highs[one] > threshold
        copies = below + above
        if not below or not above or copies > allowed:
            continue
        score = math.log2(total * copies / (below * below + above * above)) - COPY_PRICE * math.log2(copies / total)
        if math.isnan(best) or score > best:
            best, at = score, threshold
    return best, at


@compiled
def best_division(looked: Looked, count: int, low: int, high: int, allowed: float, to_better: float) -> Any:
    """As `cuts.best_division`, of the first *count* bounds, which it moves: (score, low, high, bits).

    *low*, *high*: the least and the greatest of them. What can't better the score *to_better* is not looked for: every
    part has the entries that span all, so no division tells more apart than all from those.
    """
    lows, highs = looked.lows, looked.highs
    narrow = 0
    for one in range(count):
        if lows[one] > low or highs[one] < high:
            lows[narrow], highs[narrow] = lows[one], highs[one]
            narrow += 1
    if not narrow:
        return math.nan, 0, 0, 0
    wide = count - narrow
    if wide and math.log2(count / wide) <= to_better:
        return math.nan, 0, 0, 0
    score, chosen, chosen_bits = math.nan, low, 0
    span = high - low + 1
    bits = bit_length(min(CHILDREN_MAX, CHILDREN_PER_ENTRY * count, span)) - 1
    while bits >= 1:
        shift = max(0, bit_length(span - 1) - bits)
        found = cut_score(looked, narrow, wide, low >> shift << shift, high, shift, allowed)
        if not math.isnan(found) and (math.isnan(score) or found > score):
            score, chosen_bits = found, bits
        elif not math.isnan(score):
            break
        bits -= 2
    if math.isnan(score) or score < SPLIT_BELOW:
        found, threshold = best_split(looked, narrow, wide, high, allowed)
        if not math.isnan(found) and (math.isnan(score) or found > score):
            score, chosen, chosen_bits = found, threshold, 0
    if math.isnan(score) or score < GAIN_MIN:
        return math.nan, 0, 0, 0
    return score, chosen, high, chosen_bits


@compiled
def choose(given: Given, looked: Looked, members: Any, region: Any, allowed: float, kept: Any) -> Any:
    """As `trees.Builder._choose`: (word's place, low, high, bits)."""
    if kept[WORK] < 0:
        return -1, 0, 0, 0
    bounds, lows, highs = given.bounds, looked.lows, looked.highs
    step = len(members) // SAMPLE if len(members) > SAMPLE else 1
    count = (len(members) + step - 1) // step
    scale = len(members) / count if len(members) > SAMPLE else 1.0
    kept[WORK] -= count
    best, word, best_low, best_high, best_bits = math.nan, -1, 0, 0, 0
    for place in range(region.shape[0]):
        bottom, top = region[place, 0], region[place, 1]
        if bottom == top:
            continue
        kept[WORK] -= count
        least, greatest = top, bottom
        for number in range(count):
            one = members[number * step]
            low, high = max(bounds[one, place, 0], bottom), min(bounds[one, place, 1], top)
            lows[number], highs[number] = low, high
            least, greatest = min(least, low), max(greatest, high)
        to_better = 0.0 if math.isnan(best) else best
        score, low, high, bits = best_division(looked, count, least, greatest, allowed / scale, to_better)
        if not math.isnan(score) and (math.isnan(best) or score > best):
            best, word, best_low, best_high, best_bits = score, place, low, high, bits
    return word, best_low, best_high, best_bits
