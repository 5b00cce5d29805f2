"""What `groups`, `trees`, `cuts` and `leaves` make, in machine code: the same steps, bit for bit, much faster.

What those modules say is meant here too, statement for statement; read them first. `arrays` has what it works on. Data
flows one way: entries → arrays → `groups.partition` → `trees.built` → steps.

Needs Numba (ImportError without). The first build on a machine compiles this package, which takes half a minute; that
is kept beside it. Proved equal to `trees` over drawn sets (tests/parity/test_native.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np

from layergate.compile.entries import Box, Entry
from layergate.compile.groups import partition
from layergate.compile.native.arrays import HIDES, STEPS, Given
from layergate.compile.native.groups import partition as native_partition
from layergate.compile.native.trees import built
from layergate.compile.steps import FULL
from layergate.compile.trees import Built, TreeFacts, chained
from layergate.compile.words import WORD_BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def build(entries: Sequence[Entry], words: Mapping[str, tuple[int, ...]], tops: Mapping[int, int]) -> Built:
    """Return what `trees.Builder` makes of the groups that `groups.partition` splits *entries* into."""
    given, bounds = _given(entries, tops)
    groups = native_partition(len(entries), bounds, words, tops)
    if groups is None:
        groups = partition(entries, words, tops)
    named = [(name, members) for name, members in groups if name and members]
    members = [one for _, own in named for one in own]
    starts = [0, *accumulate(len(own) for _, own in named)]
    rest = [one for name, own in groups if not name for one in own]
    made, facts, roots = built(given, *(np.array(one, np.int64) for one in (members, starts, rest)))
    steps = array("I", made.steps[: 4 * made.kept[STEPS]].astype(np.uint32).tobytes())
    names = (*(name for name, _ in named), "")
    trees = [TreeFacts(name, *row) for name, row in zip(names, facts.tolist(), strict=False)]
    first = chained(steps, [(place, code) for place, code in roots.tolist()])
    hides = _by_hider(made.hides[: 2 * made.kept[HIDES]].reshape(-1, 2))
    return Built(steps, first, trees, hides, set(np.flatnonzero(made.placed).tolist()))


def _given(entries: Sequence[Entry], tops: Mapping[int, int]) -> tuple[Given, NDArray[np.int64]]:
    """Return the arrays, and the ranges of box and hull, int64[n, 4]: (entry, word, low, high)."""
    boxes, box_starts = _flat([entry.box for entry in entries])
    found, starts = boxes, box_starts
    if any(entry.hull for entry in entries):
        found, starts = _flat([(*entry.box, *entry.hull) for entry in entries])
    numbers, first = np.unique(found[:, 0], return_index=True)
    numbers = numbers[np.argsort(first)]  # in the order in which they are met
    place = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    place[numbers] = np.arange(len(numbers))
    limits = np.array([tops.get(word, FULL) for word in numbers.tolist()], np.int64)
    bounds = np.zeros((len(entries), len(numbers), 2), np.int64)
    bounds[:, :, 1] = limits
    ones = np.repeat(np.arange(len(entries)), np.diff(starts))
    np.maximum.at(bounds[:, :, 0], (ones, place[found[:, 0]]), found[:, 1])
    np.minimum.at(bounds[:, :, 1], (ones, place[found[:, 0]]), found[:, 2])
    words = {word: number for number, word in enumerate(numbers.tolist())}
    clause_starts, alternative_starts, atom_starts, atoms = _clauses(entries, words)
    given = Given(
        code=np.array([entry.code for entry in entries], np.int64),
        sublayer=np.array([entry.sublayer for entry in entries], np.int64),
        need=np.array([entry.need for entry in entries], np.int64),
        asks=np.array([entry.asks | entry.is_limited << 1 for entry in entries], np.int64),
        bounds=bounds,
        words=numbers,
        tops=limits,
        box_starts=box_starts,
        box=np.column_stack((place[boxes[:, 0]], boxes[:, 1:])),
        clause_starts=clause_starts,
        alternative_starts=alternative_starts,
        atom_starts=atom_starts,
        atoms=atoms,
    )
    return given, np.column_stack((ones, found))


def _flat(boxes: Sequence[Box]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ranges of *boxes*, int64[n, 3], and where each box begins."""
    numbers = np.fromiter(chain.from_iterable(chain.from_iterable(boxes)), np.int64)
    return numbers.reshape(-1, 3), np.array([0, *accumulate(map(len, boxes))], np.int64)


def _clauses(entries: Sequence[Entry], words: Mapping[int, int]) -> tuple[Any, ...]:
    """Return starts of clauses by entry, of alternatives by clause, of atoms by alternative; and the atoms."""
    clauses, alternatives, starts, atoms = [0], [0], [0], []
    for entry in entries:
        for clause in entry.clauses:
            for alternative in clause:
                atoms += [(*atom, words.get(atom[0], -1)) for atom in alternative]
                starts.append(len(atoms))
            alternatives.append(len(starts) - 1)
        clauses.append(len(alternatives) - 1)
    lists = (clauses, alternatives, starts)
    return *(np.array(one, np.int64) for one in lists), np.array(atoms, np.int64).reshape(-1, 5)


def _by_hider(pairs: NDArray[np.int64]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for pair in np.unique(pairs[:, 0] << WORD_BITS | pairs[:, 1]).tolist():
        found.setdefault(pair >> WORD_BITS, set()).add(pair & FULL)
    return found
