"""The steps of a table: the layout that the kernel, the columns and the interpreter read.

A step is 16 bytes: four unsigned 32-bit numbers a, b, c, d in the machine's order (little-endian everywhere), where d
holds the operation (bits 0-7), a word of the key or a sublayer (8-15) and a distance (16-31):

    op          a           b           c            word       distance
    END         steps       sublayers   root                               the leaf is done: on to the next tree
    ROOT        least code              next root    sublayer              the tree begins at the next step
    CUT         low         last child  first child  word       shift      child (key[word] - low) >> shift
    SPLIT       threshold               first child  word                  first child up to threshold, else the next
    LEAF        least code              first test   sublayer              its tests stand there
    LIMIT       code        need        onward       sublayer              a limit has to be judged
    MATCH       code        need        onward       sublayer              a filter has matched
    ASK         code        need        onward       sublayer              a callout has to be asked
    IN          low         width       miss         word       hit        key[word] - low <= width
    NOT_IN      low         width       miss         word       hit        key[word] - low > width
    MASKED      bits        mask        miss         word       hit        key[word] & mask == bits
    NOT_MASKED  bits        mask        miss         word       hit        key[word] & mask != bits

`miss`, `hit` and `onward` count from the step itself, so that a leaf can stand anywhere; 0 means that the leaf
is done. Arithmetic wraps at 32 bits: one comparison tests both ends of a range. MATCH counts where every bit of `need`
is set in the key's word of known fields, and else goes to the next step; a sublayer of 255 stands for several. Only the
step at 0 has numbers in its END: how many steps there are (behind them stand the rows, where one array holds both), how
many sublayers, and the root that a walk begins at.

LIMIT counts as MATCH does, but ends nothing: the walk notes it and goes on with the next entry. When the walk has
ended, the limits with a code below their sublayer's least are judged in the order of their codes; the first one that
is past becomes its sublayer's least, and those behind it there are not judged.

`code` is four times the filter's row, and its action: 1 it blocks, 2 it is hard. Rows are in the order in which filters
are heard. So a walk keeps, for each sublayer, the least code that matched, and arbitration needs nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Final

STEP_BYTES: Final = 16
LINE_STEPS: Final = 8  # what the kernel looks up at once
SEVERAL: Final = 255
CODE_BLOCK: Final = 1
CODE_HARD: Final = 2
CODE_BITS: Final = 2
NO_CODE: Final = 0xFFFFFFFF
FULL: Final = 0xFFFFFFFF


class Op(enum.IntEnum):
    """What a step does; the numbers are the kernel's."""

    END = 0
    ROOT = 1
    CUT = 2
    SPLIT = 3
    LEAF = 4
    LIMIT = 5
    MATCH = 6
    ASK = 7
    IN = 8
    NOT_IN = 9
    MASKED = 10
    NOT_MASKED = 11


def packed(op: int, word: int = 0, distance: int = 0) -> int:
    """Return the fourth number of a step."""
    return op | word << 8 | distance << 16


def blanks(place: int, count: int) -> list[int]:
    """Return the steps to leave blank, as numbers, so that *count* steps from *place* on lie in the fewest lines."""
    over = place % LINE_STEPS
    if (over + count - 1) // LINE_STEPS > (count - 1) // LINE_STEPS:
        return [0, 0, 0, 0] * (LINE_STEPS - over)
    return []


def listing(steps: Sequence[int]) -> Iterator[str]:
    """Yield the steps, four numbers each, as lines for people."""
    for place in range(0, len(steps), 4):
        a, b, c, d = steps[place : place + 4]
        op, word, distance = Op(d & 0xFF), d >> 8 & 0xFF, d >> 16
        yield f"{place // 4:6}  {op.name:<10}  a={a:<10} b={b:<10} c={c:<6} word={word:<3} distance={distance}"
