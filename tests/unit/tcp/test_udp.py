"""UDP datagrams, with and without checksum."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from layergate.tcp.ip import Malformed
from layergate.tcp.udp import PAYLOAD_BYTES_MAX, Datagram, compose_datagram, parse_datagram

A4, B4 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")


def test_the_worked_example() -> None:
    assert parse_datagram(bytes.fromhex("0035c0000009000078"), A4, B4) == Datagram(53, 49152, b"x", has_checksum=False)
    assert compose_datagram(Datagram(53, 49152, b"x", has_checksum=False), A4, B4).hex() == "0035c0000009000078"


@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)])
def test_it_comes_out_as_it_went_in(ends: tuple[IPv4Address, IPv4Address]) -> None:
    for size in (0, 1, 2, 1000):
        datagram = Datagram(53, 49152, bytes(range(256)) * 4)
        datagram = Datagram(53, 49152, datagram.payload[:size])
        data = compose_datagram(datagram, *ends)
        assert parse_datagram(data, *ends) == datagram
        assert parse_datagram(data + b"padding", *ends) == datagram


def test_a_checksum_that_comes_out_as_zero_is_sent_as_all_ones() -> None:
    for number in range(0x10000):
        data = compose_datagram(Datagram(1, 2, number.to_bytes(2, "big")), A4, B4)
        if data[6:8] == b"\xff\xff":
            assert parse_datagram(data, A4, B4) == Datagram(1, 2, number.to_bytes(2, "big"))
            return
        assert data[6:8] != b"\0\0"
    raise AssertionError("no payload whose checksum is zero")


def test_what_cannot_be_used_is_malformed_and_says_why() -> None:
    data = compose_datagram(Datagram(53, 49152, b"data"), A4, B4)
    assert parse_datagram(data[:7], A4, B4) == Malformed("UDP header cut off")
    assert parse_datagram(data[:-1], A4, B4) == Malformed("UDP length")
    assert parse_datagram(data[:4] + b"\0\x07" + data[6:], A4, B4) == Malformed("UDP length")
    assert parse_datagram(data[:-1] + b"?", A4, B4) == Malformed("UDP checksum")
    assert parse_datagram(data, A4, IPv4Address("192.0.2.3")) == Malformed("UDP checksum")
    assert parse_datagram(data[:6] + b"\0\0" + data[8:], A6, B6) == Malformed("UDP without checksum over IPv6")


def test_without_verifying_a_wrong_checksum_passes() -> None:
    data = compose_datagram(Datagram(53, 49152, b"data"), A4, B4)
    assert parse_datagram(data[:-1] + b"?", A4, B4, verify=False) == Datagram(53, 49152, b"dat?")


def test_no_datagram_is_longer_than_a_packet() -> None:
    compose_datagram(Datagram(1, 2, bytes(PAYLOAD_BYTES_MAX)), A4, B4)
    with pytest.raises(ValueError) as refused:
        compose_datagram(Datagram(1, 2, bytes(PAYLOAD_BYTES_MAX + 1)), A4, B4)
    assert str(refused.value) == "65508 bytes in a datagram"
