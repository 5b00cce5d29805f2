"""The Internet checksum: the ones' complement of the ones' complement sum of 16-bit words.

2**16 is 1 modulo 65535, so the sum of a buffer's 16-bit words is the whole buffer, read as one number, modulo 65535:
two operations of Python's integers instead of a loop. For the same reason a pseudo-header is a sum of numbers, of one
form for IPv4 and IPv6: where the bytes of a number stand doesn't matter as long as they stand at even places.

Worked example: the words 0x0001 0xf203 0xf4f5 0xf6f7 sum to 0x2ddf0, folded 0xddf2; the checksum is 0x220d.

Source: RFC 1071; RFC 9293, 3.1; RFC 8200, 8.1. The worked example is RFC 1071's, section 3.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


def checksum(data: bytes, more: int = 0) -> int:
    """Return the checksum of *data* and of the number *more*: 0 where *data* holds its own, right checksum.

    Data of odd length is filled up with a zero byte. Cost: O(n), about 1 µs for 1500 bytes.
    """
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    total += more
    # Zero has two forms. Only what is all zeros sums to the first.
    return -total % 0xFFFF if total else 0xFFFF


def pseudo_header(source: Address, destination: Address, protocol: int, byte_count: int) -> int:
    """Return the number to add for a pseudo-header. *byte_count*: of the transport header and what follows it."""
    return int(source) + int(destination) + protocol + byte_count
