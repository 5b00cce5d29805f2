"""IPv4 and IPv6 packets, as they stand in the RFCs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from layergate.tcp.ip import (
    FRAGMENT,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    Extension,
    IPv4Packet,
    IPv6Packet,
    Malformed,
    compose_packet,
    make_packet,
    parse_packet,
)

V4 = IPv4Packet(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), TCP, b"payload")
V6 = IPv6Packet(IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"), UDP, b"payload")
HOP_BY_HOP = Extension(0, bytes([0, 1, 4, 0, 0, 0, 0]))


def fragment(offset_units: int, *, more: bool) -> Extension:
    return Extension(FRAGMENT, bytes([0]) + (offset_units << 3 | more).to_bytes(2, "big") + b"\0\0\0\1")


def test_an_ipv4_header_stands_as_rfc_791_says() -> None:
    data = compose_packet(V4)
    assert data.hex() == "4500001b00004000" + "4006b6d9" + "c0000201" + "c0000202" + b"payload".hex()
    assert parse_packet(data) == V4


def test_an_ipv6_header_stands_as_rfc_8200_says() -> None:
    packet = replace(V6, traffic_class=0xB8, flow_label=0xABCDE)
    data = compose_packet(packet)
    assert data[:8].hex() == "6b8abcde" + "0007" + "11" + "40"
    assert parse_packet(data) == packet


def test_what_follows_the_packet_is_dropped() -> None:
    for packet in (V4, V6):
        assert parse_packet(compose_packet(packet) + bytes(20)) == packet


def test_ipv4_options_are_kept() -> None:
    packet = replace(V4, options=bytes([0x94, 4, 0, 0]))
    data = compose_packet(packet)
    assert data[0] == 0x46
    assert parse_packet(data) == packet


def test_extension_headers_are_skipped_and_kept() -> None:
    packet = replace(V6, extensions=(HOP_BY_HOP, Extension(60, bytes(7)), Extension(51, bytes([4]) + bytes(22))))
    data = compose_packet(packet)
    assert (data[6], data[40], data[48], data[56]) == (0, 60, 51, UDP)
    assert parse_packet(data) == packet


def test_a_fragment_is_recognised_and_its_payload_left_alone() -> None:
    later = replace(V6, extensions=(fragment(3, more=False),))
    assert parse_packet(compose_packet(later)) == later
    assert later.is_fragment
    assert replace(V6, extensions=(fragment(0, more=True),)).is_fragment
    assert not replace(V6, extensions=(fragment(0, more=False),)).is_fragment  # RFC 6946: whole all the same
    assert replace(V4, fragment_offset=1480).is_fragment
    assert replace(V4, fragment_offset=1480).is_later_fragment
    assert later.is_later_fragment
    assert not replace(V6, extensions=(fragment(0, more=True),)).is_later_fragment
    assert replace(V4, flags=MORE_FRAGMENTS).is_fragment
    assert not V4.is_fragment


def test_behind_a_later_fragment_no_header_is_looked_for() -> None:
    packet = replace(V6, protocol=0, extensions=(fragment(3, more=False),), payload=b"x")
    assert parse_packet(compose_packet(packet)) == packet


def damaged(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


BAD = {
    "no bytes": b"",
    "IP version 5": b"\x50" + bytes(39),
    "IPv4 header cut off": compose_packet(V4)[:19],
    "IPv4 packet cut off": compose_packet(V4)[:-1],
    "IPv4 header length": damaged(compose_packet(V4), 0, 0x44),
    "IPv4 header checksum": damaged(compose_packet(V4), 8, 63),
    "IPv6 header cut off": compose_packet(V6)[:39],
    "IPv6 packet cut off": compose_packet(V6)[:-1],
    "IPv6 extension header cut off": damaged(compose_packet(V6), 6, 60),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_used_is_malformed_and_says_why(reason: str) -> None:
    assert parse_packet(BAD[reason]) == Malformed(reason)


def test_an_extension_header_that_claims_too_much_is_malformed() -> None:
    data = compose_packet(replace(V6, extensions=(HOP_BY_HOP,)))
    assert parse_packet(damaged(data, 41, 9)) == Malformed("IPv6 extension header cut off")


def test_a_quoted_packet_may_be_cut_off_and_is_not_verified() -> None:
    cut = compose_packet(replace(V4, payload=bytes(100)))[:28]
    assert parse_packet(damaged(cut, 8, 1), whole=False) == replace(V4, payload=bytes(8), hop_limit=1)
    assert parse_packet(compose_packet(V6)[:44], whole=False) == replace(V6, payload=b"payl")


def test_a_packet_is_of_its_addresses_family() -> None:
    assert make_packet(V4.source, V4.destination, TCP, b"payload") == V4
    assert make_packet(V6.source, V6.destination, UDP, b"payload") == V6
    with pytest.raises(ValueError) as refused:
        make_packet(V4.source, V6.destination, TCP, b"")
    assert str(refused.value) == "192.0.2.1 and 2001:db8::2 are of two families"


@pytest.mark.parametrize("source", ["192.0.2.1", "2001:db8::1"])
def test_no_packet_is_longer_than_its_length_can_say(source: str) -> None:
    address = ip_address(source)
    with pytest.raises(ValueError) as refused:
        compose_packet(make_packet(address, address, TCP, bytes(0x10000)))
    assert str(refused.value).startswith("a packet of 655")
