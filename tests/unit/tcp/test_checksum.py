"""The Internet checksum, against the loop that RFC 1071 describes."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import pytest

from layergate.tcp.checksum import checksum, pseudo_header


def by_the_book(data: bytes) -> int:
    """RFC 1071, 4.1: add words, fold the carries, complement."""
    data += bytes(len(data) % 2)
    total = sum(data[at] << 8 | data[at + 1] for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_the_example_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


def test_it_is_that_of_the_book_whatever_the_data() -> None:
    source = random.Random(1)
    for size in [*range(40), 1459, 1460]:
        for data in (source.randbytes(size), bytes(size), b"\xff" * size):
            assert checksum(data) == by_the_book(data), data.hex()


def test_data_that_holds_its_own_sums_to_zero() -> None:
    data = bytes.fromhex("45000028000040004006") + b"\0\0" + bytes.fromhex("c0000201c0000202")
    right = checksum(data)
    assert checksum(data[:10] + right.to_bytes(2, "big") + data[12:]) == 0


@pytest.mark.parametrize("place", range(0, 20, 3))
def test_a_bit_that_flips_shows(place: int) -> None:
    data = bytearray(range(1, 21))
    before = checksum(data)
    data[place] ^= 0x10
    assert checksum(data) != before


def test_nothing_at_all_sums_to_all_ones() -> None:
    assert checksum(b"") == checksum(bytes(8)) == 0xFFFF


def test_a_pseudo_header_over_ipv4_is_worth_its_twelve_bytes() -> None:
    source, destination = IPv4Address("192.0.2.1"), IPv4Address("203.0.113.254")
    written = source.packed + destination.packed + bytes([0, 17]) + (1234).to_bytes(2, "big")
    assert checksum(b"data", pseudo_header(source, destination, 17, 1234)) == by_the_book(written + b"data")


def test_a_pseudo_header_over_ipv6_is_worth_its_forty_bytes() -> None:
    source, destination = IPv6Address("2001:db8::1"), IPv6Address("fe80::ffff:1234")
    written = source.packed + destination.packed + (70000).to_bytes(4, "big") + bytes([0, 0, 0, 6])
    assert checksum(b"odd", pseudo_header(source, destination, 6, 70000)) == by_the_book(written + b"odd")
