"""As `compile.trees`: nodes are divided until leaves are left.

Members of the nodes that wait lie on one stack: the node that was made last is divided first, and its members lie last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from layergate.compile.cuts import CHILDREN_MAX, CHILDREN_PER_COPY
from layergate.compile.native.arrays import (
    HIDES,
    STEPS,
    WORK,
    Given,
    Made,
    bit_length,
    blank,
    compiled,
    packed,
    put,
    reserve,
    room,
)
from layergate.compile.native.cuts import Looked, choose
from layergate.compile.native.leaves import leaf
from layergate.compile.steps import CODE_BITS, SEVERAL, Op
from layergate.compile.trees import (
    ASIDE_FROM,
    ASIDE_SHARE,
    COPIES,
    COVER_LOOKS_MAX,
    DEPTH_MAX,
    LEAF_ENTRIES,
    PAIRS_MAX,
    SAMPLE,
    WIDE_SHARE,
    WORK_PER_ENTRY,
)

_ROOT, _CUT, _SPLIT = int(Op.ROOT), int(Op.CUT), int(Op.SPLIT)
_PARTS_MAX = 2 * CHILDREN_MAX + 4
_FACTS = 6  # of a tree: members, copies, nodes, depth, widest, longest


class Waiting(NamedTuple):
    """The nodes that wait.

    *nodes*: four numbers each: step, start of its members, how many, depth. *allowed*: copies. *regions* [n, word's
    place, 2]. *members*: the stack.
    """

    nodes: Any
    allowed: Any
    regions: Any
    members: Any


class Parts(NamedTuple):
    """Room for a cut: where the members of each part begin, and up to where they are filled in."""

    starts: Any
    filled: Any


# --- what hides what ------------------------------------------------------------------------------------------------


@compiled
def _hidden(given: Given, made: Made, hider: int, hidden: int) -> Made:
    """As `Builder._hide`, of entries; what is noted twice is made one in the end."""
    above, below = given.code[hider] >> CODE_BITS, given.code[hidden] >> CODE_BITS
    number = made.kept[HIDES]
    if above == below or (number and made.hides[2 * number - 2] == above and made.hides[2 * number - 1] == below):
        return made
    hides = room(made.hides, 2 * number + 2)
    hides[2 * number], hides[2 * number + 1] = above, below
    made.kept[HIDES] = number + 1
    return Made(made.steps, made.leaves, made.heads, hides, made.placed, made.aside, made.kept)


@compiled
def _uncovered(given: Given, made: Made, members: Any, region: Any, covers: Any) -> Any:
    """As `Builder._uncovered`, in place: (made, how many are left). *covers*: room for as many entries."""
    sublayer, need, asks, clause_starts = given.sublayer, given.need, given.asks, given.clause_starts
    box_starts, box = given.box_starts, given.box
    left = covering = 0
    for one in members:
        hider = -1
        for number in range(covering):
            other = covers[number]
            if sublayer[other] == sublayer[one] and not need[other] & ~need[one]:
                hider = other
                break
        if hider >= 0:
            made = _hidden(given, made, hider, one)
            continue
        members[left] = one
        left += 1
        if clause_starts[one] != clause_starts[one + 1] or asks[one]:
            continue
        holds = True
        for place in range(box_starts[one], box_starts[one + 1]):
            word, low, high = box[place, 0], box[place, 1], box[place, 2]
            if region[word, 0] < low or region[word, 1] > high:
                holds = False
                break
        if holds:
            covers[covering] = one
            covering += 1
    return made, left


@compiled
def _uncontained(given: Given, made: Made, members: Any, region: Any) -> Any:
    """As `Builder._uncontained`, with `Builder._contains` in it, in place: (made, how many are left)."""
    sublayer, need, asks, clause_starts = given.sublayer, given.need, given.asks, given.clause_starts
    box_starts, box, bounds = given.box_starts, given.box, given.bounds
    left = 0
    for one in members:
        hider = -1
        for number in range(left):
            above = members[number]
            if clause_starts[above] != clause_starts[above + 1] or asks[above]:
                continue
            if sublayer[above] != sublayer[one] or need[above] & ~need[one]:
                continue
            contains = True
            for place in range(box_starts[above], box_starts[above + 1]):
                word, low, high = box[place, 0], box[place, 1], box[place, 2]
                bottom, top = bounds[one, word, 0], bounds[one, word, 1]
                if max(region[word, 0], bottom) < low or min(region[word, 1], top) > high:
                    contains = False
                    break
            if contains:
                hider = above
                break
        if hider >= 0:
            made = _hidden(given, made, hider, one)
        else:
            members[left] = one
            left += 1
    return made, left


# --- division -------------------------------------------------------------------------------------------------------


@compiled
def _with_room(waiting: Waiting, nodes: int, members: int) -> Waiting:
    """Return *waiting* with room for so many nodes and members."""
    size = waiting.allowed.shape[0]
    regions = waiting.regions
    if nodes > size:
        size = max(nodes, 2 * size)
        regions = np.zeros((size, regions.shape[1], 2), np.int64)
        regions[: waiting.regions.shape[0]] = waiting.regions
    return Waiting(room(waiting.nodes, 4 * size), room(waiting.allowed, size), regions, room(waiting.members, members))


@compiled
def _spread(lows: Any, highs: Any, members: Any, base: int, end: int, shift: int, allowed: float, parts: Parts) -> int:
    """As the first half of `Builder._spread`: where the members of each part begin; how many in all, -1: too many."""
    last = (end - base) >> shift
    starts = parts.starts
    starts[: last + 2] = 0
    left = allowed - (last + 1) / CHILDREN_PER_COPY
    for one in members:
        first = (lows[one] - base) >> shift if lows[one] > base else 0
        final = (highs[one] - base) >> shift if highs[one] < end else last
        for part in range(first, final + 1):
            starts[part + 1] += 1
        left -= final - first + 1
        if left < 0:
            return -1
    for part in range(last + 1):
        starts[part + 1] += starts[part]
    return int(starts[last + 1])


@compiled
def _filled(lows: Any, highs: Any, members: Any, base: int, end: int, shift: int, parts: Parts) -> Any:
    """As the other half: the members of the parts, one part after the other."""
    last = (end - base) >> shift
    filled = parts.filled
    filled[: last + 1] = parts.starts[: last + 1]
    found = np.empty(parts.starts[last + 1], np.int64)
    for one in members:
        first = (lows[one] - base) >> shift if lows[one] > base else 0
        final = (highs[one] - base) >> shift if highs[one] < end else last
        for part in range(first, final + 1):
            found[filled[part]] = one
            filled[part] += 1
    return found


@compiled
def _alike_up_to(starts: Any, found: Any, child: int, last: int) -> int:
    """Return the last part from *child* on whose members are those of *child*."""
    size = starts[child + 1] - starts[child]
    end = child
    while end < last and starts[end + 2] - starts[end + 1] == size:
        for number in range(size):
            if found[starts[end + 1] + number] != found[starts[child] + number]:
                return end
        end += 1
    return end


@compiled
def _put_aside(given: Given, made: Made, members: Any, word: int, low: int, high: int) -> int:
    """As `Builder._put_aside`, in place: how many are left."""
    limit = (high - low + 1) * WIDE_SHARE
    is_wide = np.empty(len(members), np.bool_)
    for number in range(len(members)):
        one = members[number]
        is_wide[number] = min(given.bounds[one, word, 1], high) - max(given.bounds[one, word, 0], low) >= limit
    if is_wide.sum() > ASIDE_SHARE * len(members):
        return len(members)
    left = 0
    for number in range(len(members)):
        if is_wide[number]:
            made.aside[members[number]] = True
        else:
            members[left] = members[number]
            left += 1
    return left


@compiled
def _split(given: Given, made: Made, waiting: Waiting, number: int, members: Any, word: int, threshold: int) -> Any:
    """As `Builder._split`, of node *number*: (made, waiting, how many nodes it makes)."""
    place, begun, depth = waiting.nodes[4 * number], waiting.nodes[4 * number + 1], waiting.nodes[4 * number + 3]
    first = made.kept[STEPS]
    made = reserve(made, 2)
    put(made.steps, place, threshold, 0, first, packed(_SPLIT, given.words[word], 0))
    is_below, is_above = given.bounds[:, word, 0][members] <= threshold, given.bounds[:, word, 1][members] > threshold
    below, above = is_below.sum(), is_above.sum()
    total = below + above
    made.kept[WORK] -= total
    waiting = _with_room(waiting, number + 2, begun + total)
    waiting.members[begun : begun + below] = members[is_below]
    waiting.members[begun + below : begun + total] = members[is_above]
    allowed = waiting.allowed[number]
    waiting.regions[number + 1] = waiting.regions[number]
    put(waiting.nodes, number, first, begun, below, depth + 1)
    put(waiting.nodes, number + 1, first + 1, begun + below, above, depth + 1)
    waiting.allowed[number] = max(allowed * below / total, float(below))
    waiting.allowed[number + 1] = max(allowed * above / total, float(above))
    waiting.regions[number, word, 1] = threshold
    waiting.regions[number + 1, word, 0] = threshold + 1
    return made, waiting, 2


@compiled
def _cut(
    given: Given, made: Made, waiting: Waiting, number: int, members: Any, word: int, bits: int, parts: Parts
) -> Any:
    """As `Builder._cut`, of node *number*: (made, waiting, alike, how many nodes it makes; 0: it may not be cut).

    Alike, two numbers each: a step, and how many behind it are to be the same.
    """
    place, begun, depth = waiting.nodes[4 * number], waiting.nodes[4 * number + 1], waiting.nodes[4 * number + 3]
    lows, highs, region, allowed = (
        given.bounds[:, word, 0],
        given.bounds[:, word, 1],
        waiting.regions[number].copy(),
        waiting.allowed[number],
    )
    low, high = lows[members[0]], highs[members[0]]
    for one in members:
        low, high = min(low, lows[one]), max(high, highs[one])
    low, high = max(region[word, 0], low), min(region[word, 1], high)
    total, shift, base = -1, 0, 0
    while bits > 0 and total < 0:
        shift = max(0, bit_length(high - low) - bits)
        base = low >> shift << shift
        total = _spread(lows, highs, members, base, high, shift, allowed, parts)
        bits -= 2
    if total < 0:
        return made, waiting, np.zeros(0, np.int64), 0
    last = (high - base) >> shift
    found = _filled(lows, highs, members, base, high, shift, parts)
    made.kept[WORK] -= total
    first = made.kept[STEPS]
    made = reserve(made, last + 1)
    put(made.steps, place, base, last, first, packed(_CUT, given.words[word], shift))
    allowed -= (last + 1) / CHILDREN_PER_COPY
    waiting = _with_room(waiting, number + last + 1, begun + total)
    starts, nodes, shares, regions, stack = (
        parts.starts,
        waiting.nodes,
        waiting.allowed,
        waiting.regions,
        waiting.members,
    )
    copied = np.zeros(2 * last + 2, np.int64)
    count = copies = child = 0
    while child <= last:
        end = _alike_up_to(starts, found, child, last)
        size = starts[child + 1] - starts[child]
        if size:
            node = number + count
            for place in range(size):
                stack[begun + place] = found[starts[child] + place]
            put(nodes, node, first + child, begun, size, depth + 1)
            shares[node] = max(allowed * size * (end - child + 1) / total, float(size))
            for other in range(region.shape[0]):
                regions[node, other, 0], regions[node, other, 1] = region[other, 0], region[other, 1]
            regions[node, word, 0] = max(region[word, 0], base + (child << shift))
            regions[node, word, 1] = min(region[word, 1], base + ((end + 1) << shift) - 1)
            begun += size
            count += 1
            if end > child:
                copied[2 * copies], copied[2 * copies + 1] = first + child, end - child
                copies += 1
        child = end + 1
    return made, waiting, copied[: 2 * copies], count


# --- trees ----------------------------------------------------------------------------------------------------------


@compiled
def _tree(given: Given, made: Made, group: Any, may_put_aside: bool, told: Any) -> Any:  # noqa: FBT001
    """As `Builder._tree`: (made, the root's step). *told*: where the facts go."""
    made = blank(made, 2)
    root = made.kept[STEPS]
    made = reserve(made, 2)
    sublayer = given.sublayer[group[0]]
    if np.any(given.sublayer[group] != sublayer):
        sublayer = SEVERAL
    put(made.steps, root, given.code[group[0]], 0, 0, packed(_ROOT, sublayer, 0))
    width = len(given.tops)
    waiting = Waiting(np.zeros(1024, np.int64), np.zeros(256), np.zeros((256, width, 2), np.int64), group.copy())
    put(waiting.nodes, 0, root + 1, 0, len(group), 1)
    waiting.allowed[0] = COPIES * len(group) + 64
    waiting.regions[0, :, 1] = given.tops
    room_for = min(len(group), 2 * SAMPLE)
    looked = Looked(np.empty(room_for, np.int64), np.empty(room_for, np.int64), np.empty(_PARTS_MAX, np.int64))
    parts = Parts(np.empty(_PARTS_MAX, np.int64), np.empty(_PARTS_MAX, np.int64))
    covers = np.empty(COVER_LOOKS_MAX, np.int64)
    members = np.empty(len(group), np.int64)
    alike = np.zeros(256, np.int64)
    alike_count = 0
    region = np.empty((width, 2), np.int64)
    copies = deepest = widest = longest = nodes = 0
    count = 1
    while count:
        count -= 1
        nodes += 1
        begun, size, depth = waiting.nodes[4 * count + 1], waiting.nodes[4 * count + 2], waiting.nodes[4 * count + 3]
        place, allowed = waiting.nodes[4 * count], waiting.allowed[count]
        region[:] = waiting.regions[count]
        members[:size] = waiting.members[begun : begun + size]
        deepest = max(deepest, depth)
        word, low, high, bits, divided = -1, 0, 0, 0, 0
        if size <= COVER_LOOKS_MAX:
            made, size = _uncovered(given, made, members[:size], region, covers)
        if size <= LEAF_ENTRIES:
            made, size = _uncontained(given, made, members[:size], region)
        elif depth < DEPTH_MAX:
            word, low, high, bits = choose(given, looked, members[:size], region, allowed, made.kept)
            if word < 0 and size <= PAIRS_MAX:
                before = size
                made, size = _uncontained(given, made, members[:size], region)
                if LEAF_ENTRIES < size < before:
                    word, low, high, bits = choose(given, looked, members[:size], region, allowed, made.kept)
        if word >= 0 and not bits:
            made, waiting, divided = _split(given, made, waiting, count, members[:size], word, low)
        elif word >= 0:
            if may_put_aside and depth == 1 and size >= ASIDE_FROM:
                size = _put_aside(given, made, members[:size], word, low, high)
            made, waiting, copied, divided = _cut(given, made, waiting, count, members[:size], word, bits, parts)
            alike = room(alike, alike_count + len(copied))
            alike[alike_count : alike_count + len(copied)] = copied
            alike_count += len(copied)
        count += divided
        if not divided:
            made, entries, steps = leaf(given, made, members[:size], region, place)
            copies += entries
            widest, longest = max(widest, entries), max(longest, steps + depth)
    for pair in range(alike_count - 2, -2, -2):
        one = 4 * alike[pair]
        for other in range(1, alike[pair + 1] + 1):
            made.steps[one + 4 * other : one + 4 * other + 4] = made.steps[one : one + 4]
    told[0], told[1], told[2], told[3], told[4], told[5] = len(group), copies, nodes, deepest, widest, longest + 2
    return made, root


@compiled
def built(given: Given, members: Any, starts: Any, rest: Any) -> Any:
    """As `Builder.build`: (made, the facts of each tree, the root and the least code of each)."""
    count = len(given.code)
    aside = np.zeros(count, np.bool_)
    aside[rest] = True
    made = Made(
        np.zeros(4096, np.int64),
        np.zeros(1024, np.int64),
        np.zeros(1 << max(10, bit_length(count)), np.int64),
        np.zeros(64, np.int64),
        np.zeros((given.code[count - 1] >> CODE_BITS) + 1 if count else 0, np.bool_),
        aside,
        np.zeros(4, np.int64),
    )
    made.kept[WORK] = WORK_PER_ENTRY * (count + 256)
    made.kept[STEPS] = 1
    groups = len(starts) - 1
    told = np.zeros((groups + 1, _FACTS), np.int64)
    roots = np.zeros((groups + 1, 2), np.int64)
    number = 0
    for place in range(groups + 1):
        is_rest = place == groups
        group = np.flatnonzero(made.aside) if is_rest else members[starts[place] : starts[place + 1]]
        if len(group):
            made, root = _tree(given, made, group, not is_rest, told[number])
            roots[number, 0], roots[number, 1] = root, given.code[group[0]]
            number += 1
    return made, told[:number], roots[:number]
