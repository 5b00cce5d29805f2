"""ICMP and ICMPv6: messages in and out, and what an error says about whose packet.

`parse_icmp` never raises; `compose_icmp` is its inverse. Of an error, `complaint` reads what it means and the ends of
the packet that it quotes; `port_unreachable` makes the one that a host sends for a UDP port that nobody has.

- ICMPv6 is summed with a pseudo-header, ICMP without.
- An error quotes at least the packet's IP header and eight bytes more: the ports, and a segment's sequence number.
- What quotes a fragment other than the first, or too little, is nobody's.

Worked example: 03 03 ... 45 00 ... is "port unreachable"; behind it stands the packet that was not wanted.

Source: RFC 792; RFC 4443, 2.4, 3; RFC 1122, 3.2.2.1; RFC 1812, 4.3.2.3 (how much of the packet is quoted).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from layergate.tcp.checksum import Address, checksum, pseudo_header
from layergate.tcp.ip import ICMPV6, IPv4Packet, Malformed, Packet, compose_packet, parse_packet

_HEADER: Final = struct.Struct("!BBHI")
_PORTS_AND_SEQUENCE: Final = struct.Struct("!HHI")
# An error is no longer than this, all headers counted: RFC 1812, 4.3.2.3; RFC 4443, 2.4 (c): IPv6's least MTU.
_ERROR_BYTES_MAX: Final = {4: 576, 6: 1280}
_HEADERS_BYTES: Final = {4: 20 + _HEADER.size, 6: 40 + _HEADER.size}


class Meaning(enum.StrEnum):
    """What an error says, of either family."""

    NETWORK_UNREACHABLE = "network unreachable"
    HOST_UNREACHABLE = "host unreachable"
    PROTOCOL_UNREACHABLE = "protocol unreachable"
    PORT_UNREACHABLE = "port unreachable"
    PROHIBITED = "administratively prohibited"
    TOO_BIG = "packet too big"
    EXPIRED = "hop limit exceeded"
    OTHER = "another error"


_V4_UNREACHABLE: Final = {
    0: Meaning.NETWORK_UNREACHABLE,
    1: Meaning.HOST_UNREACHABLE,
    2: Meaning.PROTOCOL_UNREACHABLE,
    3: Meaning.PORT_UNREACHABLE,
    4: Meaning.TOO_BIG,
    6: Meaning.NETWORK_UNREACHABLE,
    7: Meaning.HOST_UNREACHABLE,
    9: Meaning.PROHIBITED,
    10: Meaning.PROHIBITED,
    11: Meaning.NETWORK_UNREACHABLE,
    12: Meaning.HOST_UNREACHABLE,
    13: Meaning.PROHIBITED,
}
_V6_UNREACHABLE: Final = {
    0: Meaning.NETWORK_UNREACHABLE,
    1: Meaning.PROHIBITED,
    3: Meaning.HOST_UNREACHABLE,
    4: Meaning.PORT_UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class IcmpMessage:
    """A message of either family. *value*: the header's second word; *body*: what follows the header."""

    type: int
    code: int
    value: int = 0
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error says of a packet: whose it was, by its addresses and ports; *sequence* is of a TCP segment."""

    meaning: Meaning
    source: Address
    destination: Address
    protocol: int
    source_port: int
    destination_port: int
    sequence: int


def parse_icmp(data: bytes, source: Address, destination: Address) -> IcmpMessage | Malformed:
    """Return the message that the payload of a packet between these addresses is."""
    if len(data) < _HEADER.size:
        return Malformed("ICMP header cut off")
    if checksum(data, _pseudo_header(data, source, destination)):
        return Malformed("ICMP checksum")
    kind, code, _, value = _HEADER.unpack_from(data)
    return IcmpMessage(kind, code, value, data[_HEADER.size :])


def compose_icmp(message: IcmpMessage, source: Address, destination: Address) -> bytes:
    """Return *message* as the payload of a packet between these addresses, with its checksum."""
    data = _HEADER.pack(message.type, message.code, 0, message.value) + message.body
    right = checksum(data, _pseudo_header(data, source, destination))
    return data[:2] + right.to_bytes(2, "big") + data[4:]


def port_unreachable(packet: Packet) -> IcmpMessage:
    """Return the error that says of *packet* that nobody has the port."""
    is_v4 = isinstance(packet, IPv4Packet)
    version = 4 if is_v4 else 6
    quoted = compose_packet(packet)[: _ERROR_BYTES_MAX[version] - _HEADERS_BYTES[version]]
    return IcmpMessage(3, 3, body=quoted) if is_v4 else IcmpMessage(1, 4, body=quoted)


def complaint(message: IcmpMessage, *, is_v4: bool) -> Complaint | None:
    """Return what *message* complains of; None where it is no error, or quotes too little to tell of whose packet."""
    meaning = _meaning(message, is_v4=is_v4)
    quoted = parse_packet(message.body, whole=False) if meaning else None
    if meaning is None or quoted is None or isinstance(quoted, Malformed):
        return None
    if isinstance(quoted, IPv4Packet) is not is_v4 or len(quoted.payload) < _PORTS_AND_SEQUENCE.size:
        return None
    if quoted.is_later_fragment:
        return None
    ports = _PORTS_AND_SEQUENCE.unpack_from(quoted.payload)
    return Complaint(meaning, quoted.source, quoted.destination, quoted.protocol, *ports)


def _meaning(message: IcmpMessage, *, is_v4: bool) -> Meaning | None:
    """RFC 792: 3 unreachable, 4 quench, 5 redirect, 11 time, 12 parameter. RFC 4443: below 128 is an error."""
    kind, code = message.type, message.code
    if is_v4:
        if kind == 3:
            return _V4_UNREACHABLE.get(code, Meaning.OTHER)
        return {11: Meaning.EXPIRED, 12: Meaning.OTHER}.get(kind)
    if kind == 1:
        return _V6_UNREACHABLE.get(code, Meaning.OTHER)
    if kind >= 128:
        return None
    return {2: Meaning.TOO_BIG, 3: Meaning.EXPIRED}.get(kind, Meaning.OTHER)


def _pseudo_header(data: bytes, source: Address, destination: Address) -> int:
    return 0 if isinstance(source, IPv4Address) else pseudo_header(source, destination, ICMPV6, len(data))
