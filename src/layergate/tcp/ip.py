"""IPv4 and IPv6 packets: header in, header out.

`parse_packet` takes what the network delivers and never raises: what can't be used is a `Malformed` with its reason.
`compose_packet` is its inverse: a well-formed packet comes out as it went in, byte by byte.

- What follows the packet's own length (an Ethernet frame's padding) is dropped.
- Fragments are recognised and not put together. IPv6 extension headers are kept, and skipped.
- Behind a fragment that is not the first there is no header: its payload is the fragment.
- A quoted packet (in an ICMP error) is cut off: `whole=False` takes what is there, and doesn't verify it.

Worked example: 45 00 00 28 ... 06 ... is an IPv4 packet of 40 bytes that holds a TCP header and nothing else.

Source: RFC 791, 3.1; RFC 8200, 3, 4; RFC 4302, 2.2 (the length of an authentication header).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from layergate.tcp.checksum import Address, checksum

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
FRAGMENT: Final = 44
ICMPV6: Final = 58

DONT_FRAGMENT: Final = 0b010
MORE_FRAGMENTS: Final = 0b001

HOP_LIMIT: Final = 64
"""Linux's ip_default_ttl and hop_limit."""

_PACKET_BYTES_MAX: Final = 0xFFFF
_V4: Final = struct.Struct("!BBHHHBBH4s4s")
_V6: Final = struct.Struct("!IHBB16s16s")
_AUTHENTICATION: Final = 51
# Hop-by-hop options, routing, fragment, authentication, destination options, mobility, HIP, Shim6.
_EXTENSIONS: Final = frozenset({0, 43, FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140})


@dataclass(frozen=True, slots=True)
class Malformed:
    """What can't be used, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class IPv4Packet:
    """An IPv4 packet. *flags*: DONT_FRAGMENT, MORE_FRAGMENTS; *fragment_offset* in bytes; *options* in whole words."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    payload: bytes
    hop_limit: int = HOP_LIMIT
    traffic_class: int = 0
    identification: int = 0
    flags: int = DONT_FRAGMENT
    fragment_offset: int = 0
    options: bytes = b""

    @property
    def is_fragment(self) -> bool:
        """Return whether this is only a part of a packet."""
        return bool(self.fragment_offset or self.flags & MORE_FRAGMENTS)

    @property
    def is_later_fragment(self) -> bool:
        """Return whether the payload begins somewhere within what the packet was cut from."""
        return self.fragment_offset > 0


@dataclass(frozen=True, slots=True)
class Extension:
    """An IPv6 extension header: its own number, and what follows the number of the next header."""

    kind: int
    body: bytes


@dataclass(frozen=True, slots=True)
class IPv6Packet:
    """An IPv6 packet. *protocol* is that of the payload, behind all *extensions*."""

    source: IPv6Address
    destination: IPv6Address
    protocol: int
    payload: bytes
    hop_limit: int = HOP_LIMIT
    traffic_class: int = 0
    flow_label: int = 0
    extensions: tuple[Extension, ...] = ()

    @property
    def is_fragment(self) -> bool:
        """Return whether this is only a part of a packet; one with a fragment header may yet be whole (RFC 6946)."""
        return any(header.kind == FRAGMENT and _fragment_word(header) & 0xFFF9 for header in self.extensions)

    @property
    def is_later_fragment(self) -> bool:
        """Return whether the payload begins somewhere within what the packet was cut from."""
        return any(header.kind == FRAGMENT and _fragment_word(header) & 0xFFF8 for header in self.extensions)


Packet = IPv4Packet | IPv6Packet


def make_packet(
    source: Address, destination: Address, protocol: int, payload: bytes, *, hop_limit: int = HOP_LIMIT
) -> Packet:
    """Return a plain packet of the addresses' family."""
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        return IPv4Packet(source, destination, protocol, payload, hop_limit=hop_limit)
    if isinstance(source, IPv6Address) and isinstance(destination, IPv6Address):
        return IPv6Packet(source, destination, protocol, payload, hop_limit=hop_limit)
    raise ValueError(f"{source} and {destination} are of two families")


def parse_packet(data: bytes, *, whole: bool = True) -> Packet | Malformed:
    """Return the packet that *data* begins with. *whole*: refuse what is cut off or has a wrong checksum."""
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _parse_v4(data, whole=whole)
    if version == 6:
        return _parse_v6(data, whole=whole)
    return Malformed(f"IP version {version}" if data else "no bytes")


def compose_packet(packet: Packet) -> bytes:
    """Return *packet* as bytes.

    Raises:
        ValueError: it is longer than 65535 bytes.
    """
    if isinstance(packet, IPv4Packet):
        header_bytes = _V4.size + len(packet.options)
        _check_length(header_bytes + len(packet.payload))
        head = _V4.pack(
            0x40 | header_bytes >> 2,
            packet.traffic_class,
            header_bytes + len(packet.payload),
            packet.identification,
            packet.flags << 13 | packet.fragment_offset >> 3,
            packet.hop_limit,
            packet.protocol,
            0,
            packet.source.packed,
            packet.destination.packed,
        )
        head += packet.options
        return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + packet.payload
    kinds = [*(header.kind for header in packet.extensions), packet.protocol]
    chain = b"".join(
        bytes([kind]) + header.body for kind, header in zip(kinds[1:], packet.extensions, strict=True)
    )  # each header names the next
    _check_length(len(chain) + len(packet.payload))
    first = 6 << 28 | packet.traffic_class << 20 | packet.flow_label
    head = _V6.pack(
        first,
        len(chain) + len(packet.payload),
        kinds[0],
        packet.hop_limit,
        packet.source.packed,
        packet.destination.packed,
    )
    return head + chain + packet.payload


def _check_length(byte_count: int) -> None:
    if byte_count > _PACKET_BYTES_MAX:
        raise ValueError(f"a packet of {byte_count} bytes")


def _parse_v4(data: bytes, *, whole: bool) -> IPv4Packet | Malformed:
    if len(data) < _V4.size:
        return Malformed("IPv4 header cut off")
    first, traffic_class, byte_count, identification, fragment, hop_limit, protocol, _, source, destination = (
        _V4.unpack_from(data)
    )
    header_bytes = (first & 0xF) << 2
    if header_bytes < _V4.size or header_bytes > byte_count or header_bytes > len(data):
        return Malformed("IPv4 header length")
    if whole:
        if byte_count > len(data):
            return Malformed("IPv4 packet cut off")
        if checksum(data[:header_bytes]):
            return Malformed("IPv4 header checksum")
    return IPv4Packet(
        IPv4Address(source),
        IPv4Address(destination),
        protocol,
        data[header_bytes:byte_count],
        hop_limit,
        traffic_class,
        identification,
        fragment >> 13,
        (fragment & 0x1FFF) << 3,
        data[_V4.size : header_bytes],
    )


def _parse_v6(data: bytes, *, whole: bool) -> IPv6Packet | Malformed:
    if len(data) < _V6.size:
        return Malformed("IPv6 header cut off")
    first, byte_count, kind, hop_limit, source, destination = _V6.unpack_from(data)
    end = _V6.size + byte_count
    if end > len(data):
        if whole:
            return Malformed("IPv6 packet cut off")
        end = len(data)
    at = _V6.size
    extensions = []
    while kind in _EXTENSIONS:
        if at + 8 > end:
            return Malformed("IPv6 extension header cut off")
        size = (data[at + 1] + 2) * 4 if kind == _AUTHENTICATION else (data[at + 1] + 1) * 8
        if kind == FRAGMENT:
            size = 8  # what stands where others have their length is reserved
        if at + size > end:
            return Malformed("IPv6 extension header cut off")
        header = Extension(kind, data[at + 1 : at + size])
        extensions.append(header)
        kind = data[at]
        at += size
        if header.kind == FRAGMENT and _fragment_word(header) & 0xFFF8:
            break
    return IPv6Packet(
        IPv6Address(source),
        IPv6Address(destination),
        kind,
        data[at:end],
        hop_limit,
        first >> 20 & 0xFF,
        first & 0xFFFFF,
        tuple(extensions),
    )


def _fragment_word(header: Extension) -> int:
    """Return the word with the offset, in units of eight bytes, above the bit that says whether more follow."""
    return int.from_bytes(header.body[1:3], "big")
