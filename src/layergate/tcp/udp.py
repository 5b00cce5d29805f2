"""UDP datagrams: header in, header out.

`parse_datagram` takes a packet's payload and never raises; `compose_datagram` is its inverse.

- Over IPv4 a datagram may go without checksum: the field is 0. Over IPv6 it may not.
- A checksum that comes out as 0 is sent as 0xffff.

Worked example: 00 35 c0 00 00 09 00 00 78 is one byte, "x", from port 53 to port 49152, without checksum.

Source: RFC 768; RFC 8200, 8.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from layergate.tcp.checksum import Address, checksum, pseudo_header
from layergate.tcp.ip import UDP, Malformed

_HEADER: Final = struct.Struct("!HHHH")
PAYLOAD_BYTES_MAX: Final = 0xFFFF - 20 - _HEADER.size
"""What fits into the largest IPv4 packet without options."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram. *has_checksum*: the sender vouches for it."""

    source_port: int
    destination_port: int
    payload: bytes
    has_checksum: bool = True


def parse_datagram(data: bytes, source: Address, destination: Address, *, verify: bool = True) -> Datagram | Malformed:
    """Return the datagram that the payload of a packet between these addresses is. *verify*: its checksum too."""
    if len(data) < _HEADER.size:
        return Malformed("UDP header cut off")
    source_port, destination_port, byte_count, found = _HEADER.unpack_from(data)
    if byte_count < _HEADER.size or byte_count > len(data):
        return Malformed("UDP length")
    data = data[:byte_count]
    if found == 0:
        if isinstance(source, IPv6Address):
            return Malformed("UDP without checksum over IPv6")
    elif verify and checksum(data, pseudo_header(source, destination, UDP, byte_count)):
        return Malformed("UDP checksum")
    return Datagram(source_port, destination_port, data[_HEADER.size :], found != 0)


def compose_datagram(datagram: Datagram, source: Address, destination: Address) -> bytes:
    """Return *datagram* as the payload of a packet between these addresses.

    Raises:
        ValueError: the payload is longer than PAYLOAD_BYTES_MAX.
    """
    if len(datagram.payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"{len(datagram.payload)} bytes in a datagram")
    byte_count = _HEADER.size + len(datagram.payload)
    data = _HEADER.pack(datagram.source_port, datagram.destination_port, byte_count, 0) + datagram.payload
    if not datagram.has_checksum:
        return data
    right = checksum(data, pseudo_header(source, destination, UDP, byte_count)) or 0xFFFF
    return data[:6] + right.to_bytes(2, "big") + data[8:]
