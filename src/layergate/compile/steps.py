"""The steps of a table: the layout that the kernel, the columns and the interpreter read.

A step is 16 bytes: four unsigned 32-bit numbers a, b, c, d in the machine's order (little-endian everywhere), where d
holds the operation (bits 0-7), a word of the key or a sublayer (8-15) and a distance (16-31):

    op          a          b            c                 word       distance
    END                                                                           the leaf is done: on to the next tree
    ROOT        least code              next root, 0: none sublayer              the tree begins at the next step
    CUT         low        last child   first child       word       shift        child (key[word] - low) >> shift
    SPLIT       threshold               first child       word                    first child up to threshold, else next
    LEAF        least code              first test        sublayer               its tests stand there
    GOTO                                steps onward                              for distances that 16 bits can't hold
    MATCH       code       need         row               sublayer   steps onward a filter has matched
    ASK         the same                                                          a callout has to be asked
    IN          low        width        miss              word       hit          key[word] - low <= width
    NOT_IN      the same                                                          key[word] - low > width
    MASKED      bits       mask         miss              word       hit          key[word] & mask == bits
    NOT_MASKED  the same                                                          key[word] & mask != bits

`miss`, `hit` and "steps onward" count from the step itself, so that a leaf can stand anywhere; 0 means that the leaf
is done. Arithmetic wraps at 32 bits: one comparison tests both ends of a range. The step at 0 is an END. MATCH
counts where every bit of `need` is set in the key's word of known fields, and else goes to the next step; a sublayer of
255 stands for several.

`code` puts filters in the order in which they are heard; its two low bits are the filter's action: 1 it blocks, 2 it
is hard. So a walk keeps, for each sublayer, the least code that matched, and arbitration needs nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Final

STEP_BYTES: Final = 16
SEVERAL: Final = 255
CODE_BLOCK: Final = 1
CODE_HARD: Final = 2
CODE_BITS: Final = 2
NO_CODE: Final = 0xFFFFFFFF
FULL: Final = 0xFFFFFFFF
DISTANCE_MAX: Final = 0xFFFF


class Op(enum.IntEnum):
    """What a step does; the numbers are the kernel's."""

    END = 0
    ROOT = 1
    CUT = 2
    SPLIT = 3
    LEAF = 4
    GOTO = 5
    MATCH = 6
    ASK = 7
    IN = 8
    NOT_IN = 9
    MASKED = 10
    NOT_MASKED = 11


def packed(op: int, word: int = 0, distance: int = 0) -> int:
    """Return the fourth number of a step."""
    return op | word << 8 | distance << 16


def listing(steps: Sequence[int]) -> Iterator[str]:
    """Yield the steps, four numbers each, as lines for people."""
    for place in range(0, len(steps), 4):
        a, b, c, d = steps[place : place + 4]
        op, word, distance = Op(d & 0xFF), d >> 8 & 0xFF, d >> 16
        yield f"{place // 4:6}  {op.name:<10}  a={a:<10} b={b:<10} c={c:<6} word={word:<3} distance={distance}"
