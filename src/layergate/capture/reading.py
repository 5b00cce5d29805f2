"""Recorded packets, read: pcap and pcapng, of the link types that hold IP.

A file is read packet by packet, never whole. What is not IP (ARP, a VLAN of something else) is passed over and
counted; a file that ends within a packet, as one of a capture that was killed does, gives all before it. Example: a
pcap of Ethernet frames with three SYNs and an ARP gives three `Captured`, and `skipped` is 1.

Sources: IETF draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; link types: tcpdump.org.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from layergate.capture.pcapng import (
    BYTE_ORDER,
    ENHANCED_PACKET,
    IF_TSRESOL,
    INTERFACE_DESCRIPTION,
    OPTION_END,
    SECTION_HEADER,
    Captured,
)
from layergate.model import InputError

PCAP: Final = {0xA1B2C3D4: 1_000_000, 0xA1B23C4D: 1_000_000_000}
"""The magic numbers, with their ticks a second."""

PACKET_BYTES_MAX: Final = 1 << 18
BLOCK_BYTES_MAX: Final = 1 << 24
_SIMPLE_PACKET: Final = 3
# By link type: how long its header is, and where in it the protocol stands; None: the packet itself.
_ETHERNET, _NULL, _LOOP, _COOKED, _COOKED_2 = 1, 0, 108, 113, 276
_HEADERS: Final = {_ETHERNET: (14, 12), _COOKED: (16, 14), _COOKED_2: (20, 0)}
_BARE: Final = {101: 0, 12: 0, 14: 0, 228: 0, 229: 0, _NULL: 4, _LOOP: 4}
_IP: Final = (b"\x08\x00", b"\x86\xdd")
_VLAN: Final = (b"\x81\x00", b"\x88\xa8")


class Reader:
    """The packets of one file, in its order. *skipped*: how many were no IP, or cut before their IP header ended.

    Iterating raises InputError: no capture, a link type that holds no IP, a block that makes no sense.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.skipped = 0

    def __iter__(self) -> Iterator[Captured]:
        """Yield the IP packets. Cost: O(bytes), one packet in memory."""
        try:
            with Path(self.path).open("rb") as file:
                magic = file.read(4)
                if magic == struct.pack("<I", SECTION_HEADER):
                    yield from self._pcapng(file)
                    return
                for order in "<>":
                    number = struct.unpack(f"{order}I", magic)[0] if len(magic) == 4 else 0
                    if number in PCAP:
                        yield from self._pcap(file, order, PCAP[number])
                        return
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}", "a capture that can be read") from error
        raise InputError(f"{self.path} begins with {magic.hex() or 'nothing'}", "a file of pcap or pcapng")

    def _pcap(self, file: BinaryIO, order: str, ticks: int) -> Iterator[Captured]:
        head = file.read(20)
        if len(head) < 20:
            raise InputError(f"{self.path} ends in its header", "a whole capture")
        link = struct.unpack_from(f"{order}I", head, 16)[0] & 0x0FFFFFFF
        self._require(link)
        record = struct.Struct(f"{order}IIII")
        number = 0
        while len(header := file.read(record.size)) == record.size:
            number += 1
            seconds, fraction, length, _ = record.unpack(header)
            if length > PACKET_BYTES_MAX:
                raise InputError(f"{self.path}: packet {number} of {length:,} bytes", "a capture that is not damaged")
            data = file.read(length)
            if len(data) < length:
                return
            yield from self._packet(link, data, seconds + fraction / ticks, "")

    def _pcapng(self, file: BinaryIO) -> Iterator[Captured]:
        order = "<"
        interfaces: list[tuple[int, float]] = []
        kind = SECTION_HEADER
        while True:
            head = file.read(8 if kind == SECTION_HEADER else 4)
            if kind == SECTION_HEADER and len(head) == 8:
                order = "<" if struct.unpack_from("<I", head, 4)[0] == BYTE_ORDER else ">"
                interfaces = []
            if len(head) < 4:
                return
            length = struct.unpack_from(f"{order}I", head)[0]
            if not 12 <= length <= BLOCK_BYTES_MAX or length % 4:
                raise InputError(f"{self.path}: a block of {length:,} bytes", "a capture that is not damaged")
            body = head[4:] + file.read(length - 4 - len(head))
            if len(body) < length - 8:
                return
            yield from self._block(kind, order, body[:-4], interfaces)
            following = file.read(4)
            if len(following) < 4:
                return
            kind = struct.unpack(f"{order}I", following)[0]

    def _block(self, kind: int, order: str, body: bytes, interfaces: list[tuple[int, float]]) -> Iterator[Captured]:
        if kind == INTERFACE_DESCRIPTION and len(body) >= 8:
            link = struct.unpack_from(f"{order}H", body)[0]
            self._require(link)
            interfaces.append((link, _ticks(body[8:], order)))
        elif kind == ENHANCED_PACKET and len(body) >= 20:
            interface, high, low, length = struct.unpack_from(f"{order}IIII", body)
            if interface >= len(interfaces):
                raise InputError(f"{self.path}: a packet of interface {interface}", "a capture that is not damaged")
            link, ticks = interfaces[interface]
            yield from self._packet(link, body[20 : 20 + length], (high << 32 | low) / ticks, str(interface))
        elif kind == _SIMPLE_PACKET:
            self.skipped += 1  # it has no time

    def _require(self, link: int) -> None:
        if link not in _HEADERS and link not in _BARE:
            raise InputError(f"{self.path}: link type {link}", "Ethernet, raw IP, or Linux cooked (tcpdump -i any)")

    def _packet(self, link: int, data: bytes, time: float, interface: str) -> Iterator[Captured]:
        start = _BARE.get(link)
        if start is None:
            start, at = _HEADERS[link]
            kind = data[at : at + 2]
            while kind in _VLAN and link == _ETHERNET:
                kind, start = data[start + 2 : start + 4], start + 4
            if kind not in _IP:
                self.skipped += 1
                return
        if len(data) <= start or data[start] >> 4 not in (4, 6):
            self.skipped += 1
            return
        yield Captured(time, interface, data[start:])


def _ticks(options: bytes, order: str) -> float:
    """Return the ticks a second of an interface, by its options."""
    while len(options) >= 4:
        code, length = struct.unpack_from(f"{order}HH", options)
        if code == OPTION_END:
            break
        if code == IF_TSRESOL and length == 1:
            exponent = options[4]
            return float(2 ** (exponent & 0x7F)) if exponent & 0x80 else 10.0**exponent
        options = options[4 + length + -length % 4 :]
    return 1e6
