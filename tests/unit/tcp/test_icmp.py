"""ICMP errors: how they are made, what they mean, and whose packet they quote."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from layergate.tcp.icmp import (
    Complaint,
    IcmpMessage,
    Meaning,
    complaint,
    compose_icmp,
    parse_icmp,
    port_unreachable,
)
from layergate.tcp.ip import MORE_FRAGMENTS, TCP, UDP, Malformed, Packet, compose_packet, make_packet
from layergate.tcp.udp import Datagram, compose_datagram

A4, B4 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")


def datagram(*, is_v4: bool, size: int = 4) -> Packet:
    source, destination = (A4, B4) if is_v4 else (A6, B6)
    return make_packet(
        source, destination, UDP, compose_datagram(Datagram(49152, 53, bytes(size)), source, destination)
    )


@pytest.mark.parametrize("is_v4", [True, False])
def test_port_unreachable_names_whose_datagram_it_was(*, is_v4: bool) -> None:
    packet = datagram(is_v4=is_v4)
    message = port_unreachable(packet)
    assert (message.type, message.code) == ((3, 3) if is_v4 else (1, 4))
    found = complaint(message, is_v4=is_v4)
    assert found is not None
    assert (found.meaning, found.source, found.destination) == (
        Meaning.PORT_UNREACHABLE,
        packet.source,
        packet.destination,
    )
    assert (found.protocol, found.source_port, found.destination_port) == (UDP, 49152, 53)


@pytest.mark.parametrize("is_v4", [True, False])
def test_an_error_quotes_no_more_than_its_rfc_allows(*, is_v4: bool) -> None:
    body = port_unreachable(datagram(is_v4=is_v4, size=5000)).body
    assert len(body) == (576 - 28 if is_v4 else 1280 - 48)


@pytest.mark.parametrize("is_v4", [True, False])
def test_messages_come_out_as_they_went_in(*, is_v4: bool) -> None:
    source, destination = (A4, B4) if is_v4 else (A6, B6)
    message = IcmpMessage(3, 1, 7, b"body")
    data = compose_icmp(message, source, destination)
    assert parse_icmp(data, source, destination) == message
    assert parse_icmp(data[:-1] + b"?", source, destination) == Malformed("ICMP checksum")
    assert parse_icmp(data[:7], source, destination) == Malformed("ICMP header cut off")


def test_only_icmpv6_is_summed_with_its_addresses() -> None:
    message = IcmpMessage(3, 1)
    assert isinstance(parse_icmp(compose_icmp(message, A4, B4), B4, IPv4Address("203.0.113.9")), IcmpMessage)
    data = compose_icmp(message, A6, B6)
    assert parse_icmp(data, A6, IPv6Address("2001:db8::3")) == Malformed("ICMP checksum")


V4_MEANINGS = {
    (3, 0): Meaning.NETWORK_UNREACHABLE,
    (3, 1): Meaning.HOST_UNREACHABLE,
    (3, 2): Meaning.PROTOCOL_UNREACHABLE,
    (3, 3): Meaning.PORT_UNREACHABLE,
    (3, 4): Meaning.TOO_BIG,
    (3, 5): Meaning.OTHER,
    (3, 13): Meaning.PROHIBITED,
    (11, 0): Meaning.EXPIRED,
    (12, 0): Meaning.OTHER,
    (0, 0): None,  # an echo's answer
    (5, 1): None,  # a redirect is no error
    (8, 0): None,
}
V6_MEANINGS = {
    (1, 0): Meaning.NETWORK_UNREACHABLE,
    (1, 1): Meaning.PROHIBITED,
    (1, 3): Meaning.HOST_UNREACHABLE,
    (1, 4): Meaning.PORT_UNREACHABLE,
    (2, 0): Meaning.TOO_BIG,
    (3, 0): Meaning.EXPIRED,
    (4, 0): Meaning.OTHER,
    (128, 0): None,
    (135, 0): None,
}


@pytest.mark.parametrize("is_v4", [True, False])
def test_types_and_codes_mean_what_the_rfcs_say(*, is_v4: bool) -> None:
    quoted = compose_packet(datagram(is_v4=is_v4))
    for (kind, code), meaning in (V4_MEANINGS if is_v4 else V6_MEANINGS).items():
        found = complaint(IcmpMessage(kind, code, body=quoted), is_v4=is_v4)
        assert (found and found.meaning) == meaning, (kind, code)


def test_eight_bytes_of_a_segment_tell_its_ports_and_number() -> None:
    packet = make_packet(A4, B4, TCP, bytes.fromhex("c0000050" + "000003e8" + "00" * 12))
    message = IcmpMessage(3, 1, body=compose_packet(packet)[:28])
    assert complaint(message, is_v4=True) == Complaint(Meaning.HOST_UNREACHABLE, A4, B4, TCP, 49152, 80, 1000)


def test_what_quotes_too_little_or_nobodys_packet_complains_of_nothing() -> None:
    packet = datagram(is_v4=True)
    data = compose_packet(packet)
    late = replace(packet, fragment_offset=8)
    first = replace(packet, flags=MORE_FRAGMENTS)
    for body in (b"", data[:27], b"junk" * 9, compose_packet(late), compose_packet(datagram(is_v4=False))):
        assert complaint(IcmpMessage(3, 3, body=body), is_v4=True) is None, body.hex()
    found = complaint(IcmpMessage(3, 3, body=compose_packet(first)), is_v4=True)
    assert found is not None  # the first fragment has the ports
    assert found.destination_port == 53
