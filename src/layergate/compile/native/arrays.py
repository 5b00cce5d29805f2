"""What the machine code works on: the entries as arrays, and arrays that grow.

Lists of lists are in the compressed form: all elements, and where each list begins, and one more number for the end.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np

from layergate.compile.steps import LINE_STEPS

compiled: Final = numba.njit(cache=True, nogil=True)
# An array that is taken from a tuple is counted, atomically: what loops has its arrays taken before the loop.

ASKS, LIMITED = 1, 2  # bits of an entry that a callout or a limit is asked for
WORK, STEPS, LEAVES, HIDES = range(4)  # in Made.kept: what work is left; how many of these there are


class Given(NamedTuple):
    """The entries of a table; all numbers are int64.

    *code*, *sublayer*, *need*, *asks*: by entry. *bounds* [entry, word's place, 2]: its least and greatest value, of
    box and hull; an entry's stand together, for nodes look at few entries, all over the set, by every word.
    *words*, *tops*: by place, the word and its greatest value. *box* [n, 3]: (word's place, low, high), by entry.
    *atoms* [n, 5]: (word, operation, low, width, word's place or -1), by alternative, by clause, by entry.
    """

    code: Any
    sublayer: Any
    need: Any
    asks: Any
    bounds: Any
    words: Any
    tops: Any
    box_starts: Any
    box: Any
    clause_starts: Any
    alternative_starts: Any
    atom_starts: Any
    atoms: Any


class Made(NamedTuple):
    """What comes of them; what grows is made anew, and *kept* says how much of it counts.

    *steps*: four numbers each. *leaves*: four numbers each: hash, first step, length, 1 + the next of the same hash.
    *heads*: by hash, 1 + the first leaf. *hides*: two numbers each, rows: which hid which. *placed*: by row. *aside*:
    by entry.
    """

    steps: Any
    leaves: Any
    heads: Any
    hides: Any
    placed: Any
    aside: Any
    kept: Any


@compiled
def room(array: Any, need: int) -> Any:
    """Return *array* (one dimension), or a longer copy that has *need* elements at least."""
    if need <= array.shape[0]:
        return array
    longer = np.zeros(max(need, 2 * array.shape[0]), array.dtype)
    longer[: array.shape[0]] = array
    return longer


@compiled
def bit_length(number: int) -> int:
    """As int.bit_length."""
    length = 0
    while number:
        number >>= 1
        length += 1
    return length


@compiled
def packed(op: int, word: int, distance: int) -> int:
    """As `steps.packed`."""
    return op | word << 8 | distance << 16


@compiled
def put(numbers: Any, place: int, a: int, b: int, c: int, d: int) -> None:
    """Write four numbers at *place*, which counts in fours."""
    numbers[4 * place], numbers[4 * place + 1], numbers[4 * place + 2], numbers[4 * place + 3] = a, b, c, d


@compiled
def reserve(made: Made, count: int) -> Made:
    """Return *made* with *count* more steps of zeros."""
    made.kept[STEPS] += count
    steps = room(made.steps, 4 * made.kept[STEPS])
    return Made(steps, made.leaves, made.heads, made.hides, made.placed, made.aside, made.kept)


@compiled
def blank(made: Made, count: int) -> Made:
    """As `steps.blanks`: leave steps blank, so that *count* more lie in the fewest lines."""
    over = made.kept[STEPS] % LINE_STEPS
    if (over + count - 1) // LINE_STEPS > (count - 1) // LINE_STEPS:
        return reserve(made, LINE_STEPS - over)
    return made
