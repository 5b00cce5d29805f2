"""The trees of `trees`, `cuts` and `leaves` in machine code: the same steps, bit for bit, an order of magnitude sooner.

What those modules say is meant here too, statement for statement; read them first. Entries are arrays: bounds by word
and entry, and lists in the compressed form (a start each, and one more). Members of nodes lie on one stack, for the
node that was made last is divided first. Nothing is allocated a node but what a leaf needs for itself.

Needs Numba. The first build on a machine compiles this module, which takes half a minute; it is kept beside it.
Proved equal to `trees` over drawn sets (tests/parity/test_native.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from layergate.compile.cuts import (
    CHILDREN_MAX,
    CHILDREN_PER_COPY,
    CHILDREN_PER_ENTRY,
    COPY_PRICE,
    GAIN_MIN,
    SPLIT_BELOW,
)
from layergate.compile.entries import Entry
from layergate.compile.steps import FULL, LINE_STEPS, SEVERAL, Op
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
    Built,
    TreeFacts,
    chained,
)
from layergate.model import NotSupportedError

try:
    import numba
    import numpy as np
except ImportError as missing:  # trees are built in plain Python then
    raise NotSupportedError("native", f"{missing.name} is not installed", "pip install numba") from missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_END, _ROOT, _CUT, _SPLIT, _LEAF = int(Op.END), int(Op.ROOT), int(Op.CUT), int(Op.SPLIT), int(Op.LEAF)
_LIMIT, _MATCH, _ASK, _IN, _NOT_IN = int(Op.LIMIT), int(Op.MATCH), int(Op.ASK), int(Op.IN), int(Op.NOT_IN)
_ASKS, _LIMITED = 1, 2  # bits of an entry's flags
# Columns of the numbers that a build keeps: what is left of the work; what steps, leaves and hidings come to.
_WORK, _STEPS, _LEAVES, _HIDES, _ASIDE = range(5)
_FACTS: Final = 6  # of a tree: members, copies, nodes, depth, widest, longest


def build(entries: Sequence[Entry], tops: Mapping[int, int], groups: Sequence[tuple[str, Sequence[int]]]) -> Built:
    """Return what `trees.Builder(entries, tops).build(groups)` does. Cost: a tenth of it."""
    names = [name for name, members in groups if name and members]
    rest = [one for name, members in groups if not name for one in members]
    members = [one for name, own in groups if name for one in own]
    starts = np.cumsum([0, *(len(own) for name, own in groups if name and own)]).astype(np.int64)
    words, ranges, boxes = _ranges(entries)
    made = _build(
        np.array([(one.code, one.sublayer, one.need, one.asks | one.is_limited << 1) for one in entries], np.int64)
        .reshape(-1, 4)
        .T.copy(),
        np.array([tops.get(word, FULL) for word in words], np.int64),
        np.array(list(words), np.int64),
        ranges,
        *boxes,
        *_clauses(entries, words),
        np.array(members, np.int64),
        starts,
        np.array(rest, np.int64),
    )
    steps, facts, roots, hides, placed = made
    result = steps.tolist()
    trees = [TreeFacts(name, *map(int, row)) for name, row in zip((*names, ""), facts, strict=False)]
    first = chained(result, [(int(place), int(code)) for place, code in roots])
    return Built(result, first, trees, _by_hider(hides), set(np.flatnonzero(placed).tolist()))


def _ranges(entries: Sequence[Entry]) -> tuple[dict[int, int], NDArray[np.int64], tuple[Any, ...]]:
    """Return the words' places, in the order in which entries name them; (entry, place, low, high) of what bounds them;
    and the boxes: starts by entry, then (place, low, high)."""
    words: dict[int, int] = {}
    flat: list[int] = []
    box: list[int] = []
    starts = [0]
    for number, entry in enumerate(entries):
        for word, low, high in entry.box:
            place = words.setdefault(word, len(words))
            flat += (number, place, low, high)
            box += (place, low, high)
        for word, low, high in entry.hull:
            flat += (number, words.setdefault(word, len(words)), low, high)
        starts.append(len(box))
    boxes = np.array(starts, np.int64) // 3, np.array(box, np.int64).reshape(-1, 3)
    return words, np.array(flat, np.int64).reshape(-1, 4), boxes


def _clauses(entries: Sequence[Entry], words: Mapping[int, int]) -> tuple[Any, ...]:
    """Return starts of clauses by entry, of alternatives by clause, of atoms by alternative; and the atoms: (word,
    operation, low, width, the word's place or -1)."""
    clauses, alternatives, starts, atoms = [0], [0], [0], []
    for entry in entries:
        for clause in entry.clauses:
            for alternative in clause:
                atoms += [(*atom, words.get(atom[0], -1)) for atom in alternative]
                starts.append(len(atoms))
            alternatives.append(len(starts) - 1)
        clauses.append(len(alternatives) - 1)
    flat = np.array(atoms, np.int64).reshape(-1, 5)
    return np.array(clauses, np.int64), np.array(alternatives, np.int64), np.array(starts, np.int64), flat


def _by_hider(pairs: NDArray[np.int64]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for hider, hidden in zip(*(column.tolist() for column in np.unique(pairs, axis=0).T), strict=True):
        found.setdefault(hider, set()).add(hidden)
    return found


# --- arrays that grow -----------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _room(array: Any, need: int) -> Any:
    """Return *array* (one dimension), or a longer copy that has *need* elements at least."""
    if need <= array.shape[0]:
        return array
    longer = np.zeros(max(need, 2 * array.shape[0]), array.dtype)
    longer[: array.shape[0]] = array
    return longer


@numba.njit(cache=True, nogil=True)
def _bit_length(number: int) -> int:
    length = 0
    while number:
        number >>= 1
        length += 1
    return length


@numba.njit(cache=True, nogil=True)
def _packed(op: int, word: int, distance: int) -> int:
    return op | word << 8 | distance << 16


@numba.njit(cache=True, nogil=True)
def _blank(steps: Any, kept: Any, count: int) -> Any:
    """As `steps.blanks`."""
    over = kept[_STEPS] % LINE_STEPS
    if (over + count - 1) // LINE_STEPS > (count - 1) // LINE_STEPS:
        return _reserve(steps, kept, LINE_STEPS - over)
    return steps


@numba.njit(cache=True, nogil=True)
def _reserve(steps: Any, kept: Any, count: int) -> Any:
    """Return the steps, with *count* more of zeros; `kept[_STEPS]` was the place of the first."""
    kept[_STEPS] += count
    return _room(steps, 4 * kept[_STEPS])


@numba.njit(cache=True, nogil=True)
def _put(steps: Any, place: int, a: int, b: int, c: int, d: int) -> None:
    steps[4 * place], steps[4 * place + 1], steps[4 * place + 2], steps[4 * place + 3] = a, b, c, d


# --- cuts -----------------------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _cut_score(
    lows: Any, highs: Any, count: int, wide: int, base: int, high: int, shift: int, allowed: float, changes: Any
) -> float:
    """As `cuts.cut_score`; NaN for None. *changes*: room for a number a part, and two."""
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


@numba.njit(cache=True, nogil=True)
def _best_split(lows: Any, highs: Any, count: int, wide: int, high: int, allowed: float) -> Any:
    """As `cuts.best_split`: (score, threshold); the score is NaN for None."""
    ends = np.sort(highs[:count][highs[:count] < high])
    starts = np.sort(lows[:count])
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


@numba.njit(cache=True, nogil=True)
def _best_division(lows: Any, highs: Any, count: int, allowed: float, changes: Any) -> Any:
    """As `cuts.best_division`: (score, low, high, bits); the score is NaN for None. *lows* and *highs* are reordered."""
    low, high = lows[0], highs[0]
    for one in range(count):
        low, high = min(low, lows[one]), max(high, highs[one])
    narrow = 0
    for one in range(count):
        if lows[one] > low or highs[one] < high:
            lows[narrow], highs[narrow] = lows[one], highs[one]
            narrow += 1
    if not narrow:
        return math.nan, 0, 0, 0
    wide = count - narrow
    score, chosen, chosen_bits = math.nan, low, 0
    span = high - low + 1
    bits = _bit_length(min(min(CHILDREN_MAX, CHILDREN_PER_ENTRY * count), span)) - 1
    while bits >= 1:
        shift = max(0, _bit_length(span - 1) - bits)
        found = _cut_score(lows, highs, narrow, wide, low >> shift << shift, high, shift, allowed, changes)
        if not math.isnan(found) and (math.isnan(score) or found > score):
            score, chosen_bits = found, bits
        elif not math.isnan(score):
            break
        bits -= 2
    if math.isnan(score) or score < SPLIT_BELOW:
        found, threshold = _best_split(lows, highs, narrow, wide, high, allowed)
        if not math.isnan(found) and (math.isnan(score) or found > score):
            score, chosen, chosen_bits = found, threshold, 0
    if math.isnan(score) or score < GAIN_MIN:
        return math.nan, 0, 0, 0
    return score, chosen, high, chosen_bits


@numba.njit(cache=True, nogil=True)
def _choose(
    low: Any, high: Any, members: Any, count: int, region: Any, allowed: float, kept: Any, lows: Any, highs: Any,
    changes: Any,
) -> Any:  # fmt: skip
    """As `trees.Builder._choose`: (word's place, low, high, bits); the place is -1 for None."""
    if kept[_WORK] < 0:
        return -1, 0, 0, 0
    step = count // SAMPLE if count > SAMPLE else 1
    looked = (count + step - 1) // step
    scale = count / looked if count > SAMPLE else 1.0
    kept[_WORK] -= looked
    best, word, best_low, best_high, best_bits = math.nan, -1, 0, 0, 0
    for place in range(region.shape[0]):
        bottom, top = region[place, 0], region[place, 1]
        if bottom == top:
            continue
        kept[_WORK] -= looked
        for number in range(looked):
            one = members[number * step]
            lows[number], highs[number] = max(low[place, one], bottom), min(high[place, one], top)
        score, at, end, bits = _best_division(lows, highs, looked, allowed / scale, changes)
        if not math.isnan(score) and (math.isnan(best) or score > best):
            best, word, best_low, best_high, best_bits = score, place, at, end, bits
    return word, best_low, best_high, best_bits


# --- what hides what ------------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _hide(hides: Any, kept: Any, hider: int, hidden: int) -> Any:
    if hider == hidden:
        return hides
    number = kept[_HIDES]
    if number and hides[2 * number - 2] == hider and hides[2 * number - 1] == hidden:
        return hides
    hides = _room(hides, 2 * number + 2)
    hides[2 * number], hides[2 * number + 1] = hider, hidden
    kept[_HIDES] = number + 1
    return hides


@numba.njit(cache=True, nogil=True)
def _uncovered(
    facts: Any, clause_starts: Any, box_starts: Any, box: Any, members: Any, count: int, region: Any, hides: Any,
    kept: Any, covers: Any,
) -> Any:  # fmt: skip
    """As `trees.Builder._uncovered`, in place: (how many are left, hides). *covers*: entries that hold for all."""
    left = covering = 0
    for number in range(count):
        one = members[number]
        hider = -1
        for place in range(covering):
            other = covers[place]
            if facts[1, other] == facts[1, one] and not facts[2, other] & ~facts[2, one]:
                hider = other
                break
        if hider >= 0:
            hides = _hide(hides, kept, facts[0, hider] >> 2, facts[0, one] >> 2)
            continue
        members[left] = one
        left += 1
        if clause_starts[one] != clause_starts[one + 1] or facts[3, one]:
            continue
        holds = True
        for place in range(box_starts[one], box_starts[one + 1]):
            word = box[place, 0]
            if region[word, 0] < box[place, 1] or region[word, 1] > box[place, 2]:
                holds = False
                break
        if holds:
            covers[covering] = one
            covering += 1
    return left, hides


@numba.njit(cache=True, nogil=True)
def _uncontained(
    facts: Any, low: Any, high: Any, clause_starts: Any, box_starts: Any, box: Any, members: Any, count: int,
    region: Any, hides: Any, kept: Any,
) -> Any:  # fmt: skip
    """As `trees.Builder._uncontained`, in place: (how many are left, hides)."""
    left = 0
    for number in range(count):
        one = members[number]
        hider = -1
        for place in range(left):
            above = members[place]
            if (
                clause_starts[above] != clause_starts[above + 1]
                or facts[3, above]
                or facts[1, above] != facts[1, one]
                or facts[2, above] & ~facts[2, one]
            ):
                continue
            contains = True
            for at in range(box_starts[above], box_starts[above + 1]):
                word = box[at, 0]
                if (
                    max(region[word, 0], low[word, one]) < box[at, 1]
                    or min(region[word, 1], high[word, one]) > box[at, 2]
                ):
                    contains = False
                    break
            if contains:
                hider = above
                break
        if hider >= 0:
            hides = _hide(hides, kept, facts[0, hider] >> 2, facts[0, one] >> 2)
        else:
            members[left] = one
            left += 1
    return left, hides


# --- leaves ---------------------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _left_of_clause(
    clause: int, alternative_starts: Any, atom_starts: Any, atoms: Any, region: Any, tests: Any, filled: int,
    lengths: Any, counted: int,
) -> Any:  # fmt: skip
    """As `leaves._clause_left`: how many alternatives are left (0: it holds all over the region, -1: it can't), and how
    many tests are filled then. Tests and the lengths of alternatives are written from *filled* and *counted* on."""
    alternatives = 0
    for alternative in range(alternative_starts[clause], alternative_starts[clause + 1]):
        begun = filled
        possible = True
        for place in range(atom_starts[alternative], atom_starts[alternative + 1]):
            op, low, width, word = atoms[place, 1], atoms[place, 2], atoms[place, 3], atoms[place, 4]
            known, holds = False, False
            if word >= 0 and op in (_IN, _NOT_IN):
                if low <= region[word, 0] and region[word, 1] <= low + width:
                    known, holds = True, op == _IN
                elif region[word, 1] < low or low + width < region[word, 0]:
                    known, holds = True, op == _NOT_IN
            if not known:
                tests[filled, 0], tests[filled, 1], tests[filled, 2] = atoms[place, 0], op, low
                tests[filled, 3] = width
                filled += 1
            elif not holds:
                possible = False
                break
        if not possible:
            filled = begun
            continue
        if filled == begun:
            return 0, begun
        lengths[counted + alternatives] = filled - begun
        alternatives += 1
    return (alternatives, filled) if alternatives else (-1, filled)


@numba.njit(cache=True, nogil=True)
def _left(
    one: int, words: Any, box_starts: Any, box: Any, clause_starts: Any, alternative_starts: Any, atom_starts: Any,
    atoms: Any, region: Any, tests: Any, filled: int, lengths: Any, counted: int, clauses: Any, clause_count: int,
) -> Any:  # fmt: skip
    """As `leaves._left`: whether anything can meet the entry, then tests, alternatives and clauses written so far."""
    ranks = np.empty(box_starts[one + 1] - box_starts[one])
    begun = filled
    for place in range(box_starts[one], box_starts[one + 1]):
        word, low, high = box[place, 0], box[place, 1], box[place, 2]
        bottom, top = region[word, 0], region[word, 1]
        if bottom >= low and top <= high:
            continue
        if top < low or bottom > high:
            return False, begun, counted, clause_count
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
        tests[at, 0], tests[at, 1], tests[at, 2], tests[at, 3] = words[word], _IN, low, high - low
        tests[filled, 1] = _IN
        filled += 1
    for _ in range(filled - begun):
        lengths[counted] = 1
        clauses[clause_count] = 1
        counted += 1
        clause_count += 1
    for clause in range(clause_starts[one], clause_starts[one + 1]):
        found, filled = _left_of_clause(
            clause, alternative_starts, atom_starts, atoms, region, tests, filled, lengths, counted
        )
        if found < 0:
            return False, begun, counted, clause_count
        if found:
            clauses[clause_count] = found
            clause_count += 1
            counted += found
    return True, filled, counted, clause_count


@numba.njit(cache=True, nogil=True)
def _leaf(
    facts: Any, words: Any, box_starts: Any, box: Any, clause_starts: Any, alternative_starts: Any, atom_starts: Any,
    atoms: Any, members: Any, count: int, region: Any, at: int, steps: Any, kept: Any, leaves: Any, heads: Any,
    placed: Any,
) -> Any:  # fmt: skip
    """As `leaves.Leaves.leaf`, put at step *at*: (steps, leaves, heads, how many entries it has, how many steps).

    *leaves*: (hash, first step, length, next of the same head) of those that stand; *heads*: by hash, 1 + the first.
    """
    room = clause_room = alternative_room = 0
    for number in range(count):
        one = members[number]
        first, last = clause_starts[one], clause_starts[one + 1]
        ranges = box_starts[one + 1] - box_starts[one]
        room += ranges + atom_starts[alternative_starts[last]] - atom_starts[alternative_starts[first]]
        alternative_room += ranges + alternative_starts[last] - alternative_starts[first]
        clause_room += ranges + last - first
    tests = np.empty((room + 1, 4), np.int64)
    lengths = np.empty(alternative_room + 1, np.int64)
    clauses = np.empty(clause_room + 1, np.int64)
    heard = np.empty(count, np.int64)
    clause_ends = np.empty(count, np.int64)
    starts = np.zeros(count + 1, np.int64)
    entries = filled = counted = clause_count = 0
    for number in range(count):
        one = members[number]
        before = filled, counted, clause_count
        met, filled, counted, clause_count = _left(
            one, words, box_starts, box, clause_starts, alternative_starts, atom_starts, atoms, region, tests, filled,
            lengths, counted, clauses, clause_count,
        )  # fmt: skip
        if not met:
            filled, counted, clause_count = before
            continue
        heard[entries] = one
        clause_ends[entries] = clause_count
        starts[entries + 1] = starts[entries] + 1 + filled - before[0]
        placed[facts[0, one] >> 2] = True
        entries += 1
    if not entries:
        _put(steps, at, 0, 0, 0, _packed(_END, 0, 0))
        return steps, leaves, heads, 0, 0
    end = starts[entries]
    numbers = np.zeros(4 * (end + 1), np.int64)
    test = alternative = clause = onward = 0
    for number in range(entries):
        one = heard[number]
        # Where a match goes on: behind the entries of its sublayer.
        if not number or facts[1, heard[number - 1]] != facts[1, one]:
            last = number
            while last + 1 < entries and facts[1, heard[last + 1]] == facts[1, one]:
                last += 1
            onward = starts[last + 1]
        place, following = starts[number], starts[number + 1]
        missed = following if following < end else 0
        while clause < clause_ends[number]:
            behind = place
            for other in range(clauses[clause]):
                behind += lengths[alternative + other]
            for other in range(clauses[clause]):
                next_one = place + lengths[alternative]
                for _ in range(lengths[alternative]):
                    miss = missed if other == clauses[clause] - 1 else next_one
                    hit = 1 if place < next_one - 1 else behind - place
                    op = _packed(tests[test, 1], tests[test, 0], hit)
                    _put(numbers, place, tests[test, 2], tests[test, 3], miss - place if miss else 0, op)
                    place += 1
                    test += 1
                alternative += 1
            clause += 1
        target = following if facts[3, one] & _ASKS else onward
        op = _LIMIT if facts[3, one] & _LIMITED else _ASK if facts[3, one] & _ASKS else _MATCH
        _put(
            numbers, place, facts[0, one], facts[2, one], target - place if target < end else 0,
            _packed(op, facts[1, one], 0),
        )  # fmt: skip
    first = -1
    mixed = np.uint64(14695981039346656037)
    for number in numbers:
        mixed = (mixed ^ np.uint64(number)) * np.uint64(1099511628211)
        mixed ^= mixed >> np.uint64(29)
    key = np.int64(mixed >> np.uint64(1))
    other = heads[key & (heads.shape[0] - 1)] - 1
    while other >= 0:
        if leaves[4 * other] == key and leaves[4 * other + 2] == numbers.shape[0]:
            start = 4 * leaves[4 * other + 1]
            if np.all(steps[start : start + numbers.shape[0]] == numbers):
                first = leaves[4 * other + 1]
                break
        other = leaves[4 * other + 3] - 1
    if first < 0:
        steps = _blank(steps, kept, end + 1)
        first = kept[_STEPS]
        steps = _reserve(steps, kept, end + 1)
        steps[4 * first : 4 * first + numbers.shape[0]] = numbers
        own = kept[_LEAVES]
        leaves = _room(leaves, 4 * own + 4)
        leaves[4 * own], leaves[4 * own + 1], leaves[4 * own + 2] = key, first, numbers.shape[0]
        leaves[4 * own + 3] = heads[key & (heads.shape[0] - 1)]
        heads[key & (heads.shape[0] - 1)] = own + 1
        kept[_LEAVES] = own + 1
    sublayer = facts[1, heard[0]]
    if sublayer != facts[1, heard[entries - 1]]:
        sublayer = SEVERAL
    _put(steps, at, facts[0, heard[0]], 0, first, _packed(_LEAF, sublayer, 0))
    return steps, leaves, heads, entries, end + 1


# --- trees ----------------------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _spread(
    low: Any, high: Any, members: Any, count: int, base: int, end: int, shift: int, allowed: float, starts: Any,
) -> int:  # fmt: skip
    """Count the members of each part into *starts*, as starts; return how many there are in all, -1: too many."""
    last = (end - base) >> shift
    starts[: last + 2] = 0
    room = allowed - (last + 1) / CHILDREN_PER_COPY
    for number in range(count):
        one = members[number]
        first = (low[one] - base) >> shift if low[one] > base else 0
        final = (high[one] - base) >> shift if high[one] < end else last
        for part in range(first, final + 1):
            starts[part + 1] += 1
        room -= final - first + 1
        if room < 0:
            return -1
    for part in range(last + 1):
        starts[part + 1] += starts[part]
    return starts[last + 1]


@numba.njit(cache=True, nogil=True)
def _fill(
    low: Any, high: Any, members: Any, count: int, base: int, end: int, shift: int, starts: Any, filled: Any, parts: Any
) -> None:
    """Write the members of each part, ascending, into *parts*."""
    last = (end - base) >> shift
    filled[: last + 1] = starts[: last + 1]
    for number in range(count):
        one = members[number]
        first = (low[one] - base) >> shift if low[one] > base else 0
        final = (high[one] - base) >> shift if high[one] < end else last
        for part in range(first, final + 1):
            parts[filled[part]] = one
            filled[part] += 1


@numba.njit(cache=True, nogil=True)
def _are_alike(starts: Any, parts: Any, one: int, other: int) -> bool:
    size = starts[one + 1] - starts[one]
    if size != starts[other + 1] - starts[other]:
        return False
    for number in range(size):
        if parts[starts[one] + number] != parts[starts[other] + number]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _tree(  # noqa: PLR0914, PLR0915 (Numba passes no objects: one function holds what a node needs)
    facts: Any, low: Any, high: Any, tops: Any, words: Any, box_starts: Any, box: Any, clause_starts: Any,
    alternative_starts: Any, atom_starts: Any, atoms: Any, group: Any, may_put_aside: bool, steps: Any, kept: Any,
    leaves: Any, heads: Any, placed: Any, hides: Any, aside: Any, told: Any,
) -> Any:  # fmt: skip
    """As `trees.Builder._tree`: (steps, leaves, heads, hides, root). *told*: the facts of the tree; *aside*: flags."""
    steps = _blank(steps, kept, 2)
    root = kept[_STEPS]
    steps = _reserve(steps, kept, 2)
    sublayer = facts[1, group[0]]
    for one in group:
        if facts[1, one] != sublayer:
            sublayer = SEVERAL
            break
    _put(steps, root, facts[0, group[0]], 0, 0, _packed(_ROOT, sublayer, 0))
    width = len(tops)
    # The nodes that wait: step, start and number of members, depth; copies allowed; region. Members: one stack.
    nodes = np.zeros(4 * 256, np.int64)
    spends = np.zeros(256)
    regions = np.zeros((256, width, 2), np.int64)
    stack = group.copy()
    _put(nodes, 0, root + 1, 0, len(group), 1)
    spends[0] = COPIES * len(group) + 64
    regions[0, :, 1] = tops
    waiting = 1
    members = np.empty(len(group), np.int64)
    covers = np.empty(COVER_LOOKS_MAX, np.int64)
    looked = max(len(group), 2 * SAMPLE) + 1
    lows, highs = np.empty(looked, np.int64), np.empty(looked, np.int64)
    changes = np.zeros(2 * CHILDREN_MAX + 4, np.int64)
    starts = np.zeros(2 * CHILDREN_MAX + 4, np.int64)
    filled = np.zeros(2 * CHILDREN_MAX + 4, np.int64)
    alike = np.zeros(512, np.int64)
    alike_count = 0
    region = np.empty((width, 2), np.int64)
    copies_told = depth_told = widest = longest = node_count = 0
    while waiting:
        waiting -= 1
        at, begun, count, depth = nodes[4 * waiting], nodes[4 * waiting + 1], nodes[4 * waiting + 2], nodes[4 * waiting + 3]
        allowed = spends[waiting]
        region[:] = regions[waiting]
        members[:count] = stack[begun : begun + count]
        node_count += 1
        depth_told = max(depth_told, depth)
        word, choice_low, choice_high, bits = -1, 0, 0, 0
        if count <= COVER_LOOKS_MAX:
            count, hides = _uncovered(
                facts, clause_starts, box_starts, box, members, count, region, hides, kept, covers
            )
        if count <= LEAF_ENTRIES:
            count, hides = _uncontained(
                facts, low, high, clause_starts, box_starts, box, members, count, region, hides, kept
            )
        elif depth < DEPTH_MAX:
            word, choice_low, choice_high, bits = _choose(
                low, high, members, count, region, allowed, kept, lows, highs, changes
            )
            if word < 0 and count <= PAIRS_MAX:
                before = count
                count, hides = _uncontained(
                    facts, low, high, clause_starts, box_starts, box, members, count, region, hides, kept
                )
                if LEAF_ENTRIES < count < before:
                    word, choice_low, choice_high, bits = _choose(
                        low, high, members, count, region, allowed, kept, lows, highs, changes
                    )
        made = 0
        if word >= 0:
            word_low, word_high = low[word], high[word]
            bottom, top = region[word, 0], region[word, 1]
        if word >= 0 and not bits:
            # As _split: what lies below the threshold, and what lies above.
            first = kept[_STEPS]
            steps = _reserve(steps, kept, 2)
            _put(steps, at, choice_low, 0, first, _packed(_SPLIT, words[word], 0))
            below = above = 0
            stack = _room(stack, begun + 2 * count)
            for number in range(count):
                if word_low[members[number]] <= choice_low:
                    stack[begun + below] = members[number]
                    below += 1
            for number in range(count):
                if word_high[members[number]] > choice_low:
                    stack[begun + below + above] = members[number]
                    above += 1
            total = below + above
            kept[_WORK] -= total
            if waiting + 2 > spends.shape[0]:
                nodes, spends, regions = _more_nodes(nodes, spends, regions, waiting + 2)
            for place in range(2):
                own = below if place == 0 else above
                _put(nodes, waiting, first + place, begun + (0 if place == 0 else below), own, depth + 1)
                spends[waiting] = max(allowed * own / total, float(own))
                regions[waiting] = region
                if place == 0:
                    regions[waiting, word, 1] = choice_low
                else:
                    regions[waiting, word, 0] = choice_low + 1
                waiting += 1
            made = 2
        elif word >= 0:
            if may_put_aside and depth == 1 and count >= ASIDE_FROM:
                limit = (choice_high - choice_low + 1) * WIDE_SHARE
                wide = 0
                for number in range(count):
                    one = members[number]
                    wide += min(word_high[one], choice_high) - max(word_low[one], choice_low) >= limit
                if wide <= ASIDE_SHARE * count:
                    left = 0
                    for number in range(count):
                        one = members[number]
                        if min(word_high[one], choice_high) - max(word_low[one], choice_low) >= limit:
                            aside[one] = True
                            kept[_ASIDE] += 1
                        else:
                            members[left] = one
                            left += 1
                    count = left
            least, greatest = word_low[members[0]], word_high[members[0]]
            for number in range(count):
                least, greatest = min(least, word_low[members[number]]), max(greatest, word_high[members[number]])
            cut_low, cut_high = max(bottom, least), min(top, greatest)
            total, shift, base = -1, 0, 0
            while bits > 0:
                shift = max(0, _bit_length(cut_high - cut_low) - bits)
                base = cut_low >> shift << shift
                total = _spread(word_low, word_high, members, count, base, cut_high, shift, allowed, starts)
                if total >= 0:
                    break
                bits -= 2
            if total >= 0:
                last = (cut_high - base) >> shift
                parts = np.empty(total, np.int64)
                _fill(word_low, word_high, members, count, base, cut_high, shift, starts, filled, parts)
                kept[_WORK] -= total
                first = kept[_STEPS]
                steps = _reserve(steps, kept, last + 1)
                _put(steps, at, base, last, first, _packed(_CUT, words[word], shift))
                share = allowed - (last + 1) / CHILDREN_PER_COPY
                if waiting + last + 1 > spends.shape[0]:
                    nodes, spends, regions = _more_nodes(nodes, spends, regions, waiting + last + 1)
                stack = _room(stack, begun + total)
                alike = _room(alike, alike_count + 2 * last + 2)
                stacked = begun
                child = 0
                while child <= last:
                    end = child
                    while end < last and _are_alike(starts, parts, end + 1, child):
                        end += 1
                    own = starts[child + 1] - starts[child]
                    if own:
                        stack[stacked : stacked + own] = parts[starts[child] : starts[child + 1]]
                        _put(nodes, waiting, first + child, stacked, own, depth + 1)
                        spends[waiting] = max(share * own * (end - child + 1) / total, float(own))
                        regions[waiting] = region
                        regions[waiting, word, 0] = max(bottom, base + (child << shift))
                        regions[waiting, word, 1] = min(top, base + ((end + 1) << shift) - 1)
                        waiting += 1
                        stacked += own
                        if end > child:
                            alike[alike_count], alike[alike_count + 1] = first + child, end - child
                            alike_count += 2
                    child = end + 1
                made = 1
        if not made:
            steps, leaves, heads, entries, length = _leaf(
                facts, words, box_starts, box, clause_starts, alternative_starts, atom_starts, atoms, members, count,
                region, at, steps, kept, leaves, heads, placed,
            )  # fmt: skip
            copies_told += entries
            widest, longest = max(widest, entries), max(longest, length + depth)
    for place in range(alike_count - 2, -2, -2):
        one = 4 * alike[place]
        for other in range(1, alike[place + 1] + 1):
            steps[one + 4 * other : one + 4 * other + 4] = steps[one : one + 4]
    told[0], told[1], told[2] = len(group), copies_told, node_count
    told[3], told[4], told[5] = depth_told, widest, longest + 2
    return steps, leaves, heads, hides, root


@numba.njit(cache=True, nogil=True)
def _more_nodes(nodes: Any, spends: Any, regions: Any, need: int) -> Any:
    size = max(need, 2 * spends.shape[0])
    more_regions = np.zeros((size, regions.shape[1], 2), np.int64)
    more_regions[: regions.shape[0]] = regions
    return _room(nodes, 4 * size), _room(spends, size), more_regions


@numba.njit(cache=True, nogil=True)
def _build(  # noqa: PLR0917 (Numba knows no keywords)
    facts: Any, tops: Any, words: Any, ranges: Any, box_starts: Any, box: Any, clause_starts: Any,
    alternative_starts: Any, atom_starts: Any, atoms: Any, members: Any, starts: Any, rest: Any,
) -> Any:  # fmt: skip
    """Build the trees of the groups; return steps, facts, roots with their least codes, hides, placed rows."""
    count = facts.shape[1]
    low = np.zeros((len(words), count), np.int64)
    high = np.empty((len(words), count), np.int64)
    for word in range(len(words)):
        high[word] = tops[word]
    for number in range(ranges.shape[0]):
        one, word = ranges[number, 0], ranges[number, 1]
        low[word, one], high[word, one] = max(low[word, one], ranges[number, 2]), min(high[word, one], ranges[number, 3])
    kept = np.zeros(5, np.int64)
    kept[_WORK] = WORK_PER_ENTRY * (count + 256)
    kept[_STEPS] = 1
    steps = np.zeros(4096, np.int64)
    leaves = np.zeros(1024, np.int64)
    heads = np.zeros(1 << max(10, _bit_length(count)), np.int64)
    hides = np.zeros(64, np.int64)
    placed = np.zeros((facts[0, count - 1] >> 2) + 1 if count else 0, np.bool_)
    aside = np.zeros(count, np.bool_)
    for one in rest:
        aside[one] = True
    trees = len(starts) - 1
    told = np.zeros((trees + 1, _FACTS), np.int64)
    roots = np.zeros((trees + 1, 2), np.int64)
    built = 0
    for number in range(trees + 1):
        is_rest = number == trees
        group = np.flatnonzero(aside) if is_rest else members[starts[number] : starts[number + 1]]
        if not len(group):
            continue
        steps, leaves, heads, hides, root = _tree(
            facts, low, high, tops, words, box_starts, box, clause_starts, alternative_starts, atom_starts, atoms,
            group, not is_rest, steps, kept, leaves, heads, placed, hides, aside, told[built],
        )  # fmt: skip
        roots[built] = (root, facts[0, group[0]])
        built += 1
    return steps[: 4 * kept[_STEPS]], told[:built], roots[:built], hides[: 2 * kept[_HIDES]].reshape(-1, 2), placed
