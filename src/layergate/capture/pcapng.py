"""pcapng: packets with their times and comments, as Wireshark and tshark open them.

One section, an interface a name in the order of first use, raw IP packets (link type 101) with times in nanoseconds.
Source: IETF draft-ietf-opsawg-pcapng, sections 4.1 to 4.3; link types: tcpdump.org.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

SECTION_HEADER: Final = 0x0A0D0D0A
INTERFACE_DESCRIPTION: Final = 1
ENHANCED_PACKET: Final = 6
BYTE_ORDER: Final = 0x1A2B3C4D
LINKTYPE_RAW: Final = 101
OPTION_END, OPTION_COMMENT, IF_NAME, IF_TSRESOL = 0, 1, 2, 9
NANOSECONDS: Final = 9  # 10^-9
_NS: Final = 1_000_000_000
LENGTH_UNKNOWN: Final = -1
COMMENT_BYTES_MAX: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Captured:
    """A raw IP *packet*, *time* seconds after the epoch (or the start), seen at *interface*; *comment* may be ""."""

    time: float
    interface: str
    packet: bytes
    comment: str = ""


def compose(packets: Iterable[Captured], *, application: str = "layergate") -> Iterator[bytes]:
    """Yield the blocks of a file that holds *packets*, in their order. Cost: O(bytes)."""
    yield _block(
        SECTION_HEADER,
        struct.pack("<IHHq", BYTE_ORDER, 1, 0, LENGTH_UNKNOWN),
        _options((4, application.encode()[:COMMENT_BYTES_MAX])),  # shb_userappl
    )
    interfaces: dict[str, int] = {}
    for captured in packets:
        if captured.interface not in interfaces:
            interfaces[captured.interface] = len(interfaces)
            yield _block(
                INTERFACE_DESCRIPTION,
                struct.pack("<HHI", LINKTYPE_RAW, 0, 0),
                _options((IF_NAME, captured.interface.encode()), (IF_TSRESOL, bytes([NANOSECONDS]))),
            )
        stamp = round(captured.time * _NS)
        size = len(captured.packet)
        yield _block(
            ENHANCED_PACKET,
            struct.pack("<IIIII", interfaces[captured.interface], stamp >> 32, stamp & 0xFFFFFFFF, size, size),
            _padded(captured.packet),
            _options((OPTION_COMMENT, captured.comment.encode()[:COMMENT_BYTES_MAX])) if captured.comment else b"",
        )


def _block(kind: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _options(*options: tuple[int, bytes]) -> bytes:
    rows = (struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    return b"".join(rows) + struct.pack("<HH", OPTION_END, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
