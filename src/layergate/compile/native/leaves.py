"""As `compile.leaves`: the entries that are left at the end of a way, as steps."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from layergate.compile.native.arrays import (
    ASKS,
    LEAVES,
    LIMITED,
    STEPS,
    Given,
    Made,
    blank,
    compiled,
    packed,
    put,
    reserve,
    room,
)
from layergate.compile.steps import CODE_BITS, SEVERAL, Op

_END, _LEAF, _LIMIT, _MATCH, _ASK = int(Op.END), int(Op.LEAF), int(Op.LIMIT), int(Op.MATCH), int(Op.ASK)
_IN, _NOT_IN = int(Op.IN), int(Op.NOT_IN)
_HASH_BASIS, _HASH_PRIME, _HASH_SHIFT = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3), np.uint64(29)
_ONE: Final = np.uint64(1)


class Written(NamedTuple):
    """What is left to test of a leaf's entries.

    *tests* [n, 4]: word, operation, low, width. *lengths*: of alternatives. *alternatives*: of a clause, how many.
    *at*: how much of each is written.
    """

    tests: Any
    lengths: Any
    alternatives: Any
    at: Any


_TESTS, _LENGTHS, _CLAUSES = range(3)


@compiled
def _clause_left(given: Given, clause: int, region: Any, written: Written) -> int:
    """As `leaves._clause_left`: write what is left; how many alternatives, 0: it holds, -1: it can't."""
    filled, counted = written.at[_TESTS], written.at[_LENGTHS]
    count = 0
    for alternative in range(given.alternative_starts[clause], given.alternative_starts[clause + 1]):
        begun = filled
        possible = True
        for place in range(given.atom_starts[alternative], given.atom_starts[alternative + 1]):
            op, low, word = given.atoms[place, 1], given.atoms[place, 2], given.atoms[place, 4]
            high = low + given.atoms[place, 3]
            is_known, holds = False, False
            if word >= 0 and op in (_IN, _NOT_IN):
                if low <= region[word, 0] and region[word, 1] <= high:
                    is_known, holds = True, op == _IN
                elif region[word, 1] < low or high < region[word, 0]:
                    is_known, holds = True, op == _NOT_IN
            if not is_known:
                for number in range(4):
                    written.tests[filled, number] = given.atoms[place, number]
                filled += 1
            elif not holds:
                possible = False
                break
        if not possible:
            filled = begun
            continue
        if filled == begun:
            return 0
        written.lengths[counted + count] = filled - begun
        count += 1
    if not count:
        return -1
    written.alternatives[written.at[_CLAUSES]] = count
    written.at[_TESTS], written.at[_LENGTHS] = filled, counted + count
    written.at[_CLAUSES] += 1
    return count


@compiled
def _left(given: Given, one: int, region: Any, written: Written) -> bool:
    """As `leaves._left`: write what is left of an entry; whether anything there can meet it."""
    first, last = given.box_starts[one], given.box_starts[one + 1]
    ranks = np.empty(last - first)
    tests, box, words = written.tests, given.box, given.words
    begun = filled = written.at[_TESTS]
    for place in range(first, last):
        word, low, high = box[place, 0], box[place, 1], box[place, 2]
        bottom, top = region[word, 0], region[word, 1]
        if bottom >= low and top <= high:
            continue
        if top < low or bottom > high:
            return False
        # Into its place among the others: the one that holds least often first.
        rank = (high - low) / (top - bottom)
        at = filled
        while at > begun:
            before = ranks[at - 1 - begun]
            if before < rank or (before == rank and tests[at - 1, 0] < words[word]):
                break
            ranks[at - begun] = before
            tests[at, 0], tests[at, 2], tests[at, 3] = tests[at - 1, 0], tests[at - 1, 2], tests[at - 1, 3]
            at -= 1
        ranks[at - begun] = rank
        tests[at, 0], tests[at, 2], tests[at, 3] = words[word], low, high - low
        tests[filled, 1] = _IN
        filled += 1
    written.lengths[written.at[_LENGTHS] : written.at[_LENGTHS] + filled - begun] = 1
    written.alternatives[written.at[_CLAUSES] : written.at[_CLAUSES] + filled - begun] = 1
    written.at[_LENGTHS] += filled - begun
    written.at[_CLAUSES] += filled - begun
    written.at[_TESTS] = filled
    for clause in range(given.clause_starts[one], given.clause_starts[one + 1]):
        if _clause_left(given, clause, region, written) < 0:
            return False
    return True


@compiled
def _room_for(given: Given, members: Any) -> Written:
    """Return room for all that can be left of *members*."""
    clause_starts, box_starts = given.clause_starts, given.box_starts
    alternative_starts, atom_starts = given.alternative_starts, given.atom_starts
    tests = lengths = clauses = 1
    for one in members:
        first, last = clause_starts[one], clause_starts[one + 1]
        ranges = box_starts[one + 1] - box_starts[one]
        start, end = alternative_starts[first], alternative_starts[last]
        tests += ranges + atom_starts[end] - atom_starts[start]
        lengths += ranges + end - start
        clauses += ranges + last - first
    return Written(
        np.empty((tests, 4), np.int64), np.empty(lengths, np.int64), np.empty(clauses, np.int64), np.zeros(3, np.int64)
    )


@compiled
def _numbers(given: Given, heard: Any, starts: Any, clause_ends: Any, written: Written) -> Any:
    """As `leaves._numbers`: the steps of a leaf; *starts*: of each entry of *heard*, *clause_ends*: of its clauses."""
    tests, lengths, alternatives = written.tests, written.lengths, written.alternatives
    sublayer, asks, need, code = given.sublayer, given.asks, given.need, given.code
    count = len(heard)
    end = starts[count]
    numbers = np.zeros(4 * (end + 1), np.int64)
    test = alternative = clause = onward = 0
    for number in range(count):
        one = heard[number]
        # Where a match goes on: behind the entries of its sublayer.
        if not number or sublayer[heard[number - 1]] != sublayer[one]:
            last = number
            while last + 1 < count and sublayer[heard[last + 1]] == sublayer[one]:
                last += 1
            onward = starts[last + 1]
        place, following = starts[number], starts[number + 1]
        missed = following if following < end else 0
        while clause < clause_ends[number]:
            left = alternatives[clause]
            behind = place
            for other in range(left):
                behind += lengths[alternative + other]
            for other in range(left):
                next_one = place + lengths[alternative]
                for _ in range(lengths[alternative]):
                    word, op = tests[test, 0], tests[test, 1]
                    low, width = tests[test, 2], tests[test, 3]
                    miss = missed if other == left - 1 else next_one
                    hit = 1 if place < next_one - 1 else behind - place
                    put(numbers, place, low, width, miss - place if miss else 0, packed(op, word, hit))
                    place += 1
                    test += 1
                alternative += 1
            clause += 1
        target = following if asks[one] & ASKS else onward
        op = _LIMIT if asks[one] & LIMITED else _ASK if asks[one] & ASKS else _MATCH
        step = packed(op, sublayer[one], 0)
        put(numbers, place, code[one], need[one], target - place if target < end else 0, step)
    return numbers


@compiled
def _standing(made: Made, numbers: Any) -> Any:
    """Put the leaf *numbers*, or find it: (made, its first step)."""
    mixed = _HASH_BASIS
    for number in numbers:
        mixed = (mixed ^ np.uint64(number)) * _HASH_PRIME
        mixed ^= mixed >> _HASH_SHIFT
    key: Any = np.int64(mixed >> _ONE)
    head = key & (made.heads.shape[0] - 1)
    size = numbers.shape[0]
    other = made.heads[head] - 1
    stood = made.leaves
    while other >= 0:
        if stood[4 * other] == key and stood[4 * other + 2] == size:
            first = stood[4 * other + 1]
            if np.all(made.steps[4 * first : 4 * first + size] == numbers):
                return made, first
        other = stood[4 * other + 3] - 1
    made = blank(made, size // 4)
    first = made.kept[STEPS]
    made = reserve(made, size // 4)
    made.steps[4 * first : 4 * first + size] = numbers
    own = made.kept[LEAVES]
    leaves = room(made.leaves, 4 * own + 4)
    put(leaves, own, key, first, size, made.heads[head])
    made.heads[head] = own + 1
    made.kept[LEAVES] = own + 1
    return Made(made.steps, leaves, made.heads, made.hides, made.placed, made.aside, made.kept), first


@compiled
def leaf(given: Given, made: Made, members: Any, region: Any, place: int) -> Any:
    """As `leaves.Leaves.leaf`, with its step put at *place*: (made, how many entries it has, how many steps)."""
    written = _room_for(given, members)
    heard = np.empty(len(members), np.int64)
    clause_ends = np.empty(len(members), np.int64)
    starts = np.zeros(len(members) + 1, np.int64)
    count = 0
    for one in members:
        tests, lengths, clauses = written.at[_TESTS], written.at[_LENGTHS], written.at[_CLAUSES]
        if not _left(given, one, region, written):
            written.at[_TESTS], written.at[_LENGTHS], written.at[_CLAUSES] = tests, lengths, clauses
            continue
        heard[count], clause_ends[count] = one, written.at[_CLAUSES]
        starts[count + 1] = starts[count] + 1 + written.at[_TESTS] - tests
        made.placed[given.code[one] >> CODE_BITS] = True
        count += 1
    if not count:
        put(made.steps, place, 0, 0, 0, packed(_END, 0, 0))
        return made, 0, 0
    numbers = _numbers(given, heard[:count], starts, clause_ends, written)
    made, first = _standing(made, numbers)
    sublayer = given.sublayer[heard[0]]
    if sublayer != given.sublayer[heard[count - 1]]:
        sublayer = SEVERAL
    put(made.steps, place, given.code[heard[0]], 0, first, packed(_LEAF, sublayer, 0))
    return made, count, numbers.shape[0] // 4
