"""Sequence numbers: 32 bits on the wire, plain integers inside.

A number that arrives is unwrapped once, to the integer nearest to the one that is expected; from then on it compares,
adds and subtracts like any other. What is sent is cut to 32 bits. So no other module knows that numbers wrap.

Worked example: 4 294 967 290 was expected, 4 arrives. The nearest integer that is 4 modulo 2**32 is 4 294 967 300, ten
further. Had 4 294 967 280 arrived, it would be itself: an old number, ten before.

Source: RFC 9293, 3.4.
"""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFF_FFFF
_HALF: Final = 0x8000_0000


def unwrap(number: int, near: int) -> int:
    """Return the integer nearest to *near* that is *number* modulo 2**32; of two, the lower."""
    return near + ((number - near + _HALF) & MASK) - _HALF


def distance(start: int, end: int) -> int:
    """Return how far *end* is after *start*, both of 32 bits; negative where it is before."""
    return ((end - start + _HALF) & MASK) - _HALF
