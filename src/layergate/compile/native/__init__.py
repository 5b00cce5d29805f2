"""The trees of `trees`, `cuts` and `leaves` in machine code: the same steps, bit for bit, in a tenth of the time.

What those modules say is meant here too, statement for statement; read them first. `arrays` has what it works on. Data
flows one way: entries → arrays → `trees.built` → steps.

Needs Numba (ImportError without). The first build on a machine compiles this package, which takes half a minute; that
is kept beside it. Proved equal to `trees` over drawn sets (tests/parity/test_native.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from layergate.compile.entries import Entry
from layergate.compile.native.arrays import HIDES, STEPS, Given
from layergate.compile.native.trees import built
from layergate.compile.steps import FULL
from layergate.compile.trees import Built, TreeFacts, chained

if TYPE_CHECKING:
    from numpy.typing import NDArray


def build(entries: Sequence[Entry], tops: Mapping[int, int], groups: Sequence[tuple[str, Sequence[int]]]) -> Built:
    """Return what `trees.Builder(entries, tops).build(groups)` does."""
    named = [(name, members) for name, members in groups if name and members]
    members = [one for _, own in named for one in own]
    starts = [0, *accumulate(len(own) for _, own in named)]
    rest = [one for name, own in groups if not name for one in own]
    made, facts, roots = built(_given(entries, tops), *(np.array(one, np.int64) for one in (members, starts, rest)))
    steps = made.steps[: 4 * made.kept[STEPS]].tolist()
    names = (*(name for name, _ in named), "")
    trees = [TreeFacts(name, *row) for name, row in zip(names, facts.tolist(), strict=False)]
    first = chained(steps, [(place, code) for place, code in roots.tolist()])
    hides = _by_hider(made.hides[: 2 * made.kept[HIDES]].reshape(-1, 2))
    return Built(steps, first, trees, hides, set(np.flatnonzero(made.placed).tolist()))


def _given(entries: Sequence[Entry], tops: Mapping[int, int]) -> Given:
    words: dict[int, int] = {}
    bounds: list[int] = []
    boxes: list[int] = []
    box_starts = [0]
    for number, entry in enumerate(entries):
        for word, low, high in entry.box:
            place = words.setdefault(word, len(words))
            bounds += (number, place, low, high)
            boxes += (place, low, high)
        for word, low, high in entry.hull:
            bounds += (number, words.setdefault(word, len(words)), low, high)
        box_starts.append(len(boxes) // 3)
    limits = np.array([tops.get(word, FULL) for word in words], np.int64)
    lows = np.zeros((len(words), len(entries)), np.int64)
    highs = np.repeat(limits[:, None], len(entries), axis=1)
    ones, places, least, greatest = np.array(bounds, np.int64).reshape(-1, 4).T
    np.maximum.at(lows, (places, ones), least)
    np.minimum.at(highs, (places, ones), greatest)
    clause_starts, alternative_starts, atom_starts, atoms = _clauses(entries, words)
    return Given(
        code=np.array([entry.code for entry in entries], np.int64),
        sublayer=np.array([entry.sublayer for entry in entries], np.int64),
        need=np.array([entry.need for entry in entries], np.int64),
        asks=np.array([entry.asks | entry.is_limited << 1 for entry in entries], np.int64),
        low=lows,
        high=highs,
        words=np.array(list(words), np.int64),
        tops=limits,
        box_starts=np.array(box_starts, np.int64),
        box=np.array(boxes, np.int64).reshape(-1, 3),
        clause_starts=clause_starts,
        alternative_starts=alternative_starts,
        atom_starts=atom_starts,
        atoms=atoms,
    )


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
    for hider, hidden in np.unique(pairs, axis=0).tolist():
        found.setdefault(hider, set()).add(hidden)
    return found
