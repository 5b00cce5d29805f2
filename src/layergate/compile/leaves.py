"""Leaves: the entries that are left at the end of a way, as steps, in the order in which they are heard.

An entry's tests stand before its MATCH, the one that holds least often first. What the way implies is left out, and so
is an alternative that the region rules out. Equal leaves are one. Example: two entries of one sublayer, then one of the
next:

    0  IN port 80–80      miss -> 2
    1  MATCH code 4       hit -> 4 (the next sublayer)
    2  IN protocol 6–6    miss -> 4
    3  MATCH code 8       hit -> 4
    4  MATCH code 12      hit -> done

Distances count from the step itself, so the same leaf can stand anywhere. Cost: O(tests).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from layergate.compile.entries import Atom, Clause, Entry
from layergate.compile.steps import SEVERAL, Op, blanks, packed

Region = dict[int, tuple[int, int]]


@dataclass(slots=True)
class Leaves:
    """Writes leaves behind *steps*. *placed*: the rows of the filters that stand in one."""

    entries: Sequence[Entry]
    steps: list[int]
    placed: set[int] = field(default_factory=set)
    _known: dict[tuple[int, ...], int] = field(default_factory=dict)

    def leaf(self, members: Sequence[int], region: Region) -> tuple[tuple[int, int, int, int], int, int]:
        """Return the step that leads to the leaf of *members* in *region*, how many entries it has, and steps."""
        heard: list[tuple[Entry, list[Clause]]] = []
        for one in members:
            entry = self.entries[one]
            clauses = _left(entry, region)
            if clauses is not None:
                heard.append((entry, clauses))
                self.placed.add(entry.row)
        if not heard:
            return (0, 0, 0, packed(Op.END)), 0, 0
        numbers = tuple(_numbers(heard))
        first = self._known.get(numbers)
        if first is None:
            self.steps += blanks(len(self.steps) // 4, len(numbers) // 4)
            first = self._known[numbers] = len(self.steps) // 4
            self.steps += numbers
        sublayer = heard[0][0].sublayer
        if sublayer != heard[-1][0].sublayer:
            sublayer = SEVERAL
        return (heard[0][0].code, 0, first, packed(Op.LEAF, sublayer)), len(heard), len(numbers) // 4


def _left(entry: Entry, region: Region) -> list[Clause] | None:
    """Return what is left to test of *entry* in *region*, None where nothing there can meet it."""
    ranked = []
    for word, low, high in entry.box:
        bottom, top = region[word]
        if bottom < low or top > high:
            if top < low or bottom > high:
                return None
            ranked.append(((high - low) / (top - bottom), (((word, Op.IN, low, high - low),),)))
    ranked.sort()
    clauses: list[Clause] = [clause for _, clause in ranked]
    for clause in entry.clauses:
        left = _clause_left(clause, region)
        if left is None:
            return None
        if left:
            clauses.append(left)
    return clauses


def _clause_left(clause: Clause, region: Region) -> Clause | None:
    """Return what is left of *clause* in *region*: () where it holds all over it, None where it can't."""
    left = []
    for alternative in clause:
        atoms = []
        for atom in alternative:
            holds = _holds(atom, region)
            if holds is False:
                break
            if holds is None:
                atoms.append(atom)
        else:
            if not atoms:
                return ()
            left.append(tuple(atoms))
    return tuple(left) or None


def _holds(atom: Atom, region: Region) -> bool | None:
    """Whether *atom* holds all over *region* (True), nowhere in it (False), or in parts of it (None)."""
    word, op, low, width = atom
    bounds = region.get(word)
    if bounds is None or op not in (Op.IN, Op.NOT_IN):
        return None
    if low <= bounds[0] and bounds[1] <= low + width:
        return op == Op.IN
    if bounds[1] < low or low + width < bounds[0]:
        return op == Op.NOT_IN
    return None


def _numbers(heard: Sequence[tuple[Entry, list[Clause]]]) -> Iterator[int]:
    """Yield the steps of a leaf, four numbers each."""
    lengths = [1 + sum(len(one) for clause in clauses for one in clause) for _, clauses in heard]
    starts = [0, *accumulate(lengths)]
    end = starts[-1]
    # Where a match goes on: behind the entries of its sublayer.
    onward = [end] * len(heard)
    for number in range(len(heard) - 2, -1, -1):
        is_last = heard[number][0].sublayer != heard[number + 1][0].sublayer
        onward[number] = starts[number + 1] if is_last else onward[number + 1]
    for number, (entry, clauses) in enumerate(heard):
        following = starts[number + 1]
        place = starts[number]
        for clause in clauses:
            yield from _tests(clause, place, following if following < end else 0)
            place += sum(map(len, clause))
        target = following if entry.asks else onward[number]
        op = Op.LIMIT if entry.is_limited else Op.ASK if entry.asks else Op.MATCH
        yield from (entry.code, entry.need, target - place if target < end else 0, packed(op, entry.sublayer))
    yield from (0, 0, 0, packed(Op.END))  # where the last match turns out to be none


def _tests(clause: Clause, place: int, missed: int) -> Iterator[int]:
    """Yield the tests of *clause*, which begins at *place*; *missed*: where to go on when none holds, 0: done."""
    behind = place + sum(map(len, clause))
    for number, alternative in enumerate(clause):
        following = place + len(alternative)
        for word, op, low, width in alternative:
            miss = missed if number == len(clause) - 1 else following
            hit = 1 if place < following - 1 else behind - place
            yield from (low, width, miss - place if miss else 0, packed(op, word, hit))
            place += 1
