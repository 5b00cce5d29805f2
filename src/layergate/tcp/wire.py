"""TCP segments: header in, header out.

`parse_segment` takes a packet's payload and never raises: what can't be used is a `Malformed` with its reason.
`compose_segment` is its inverse: a well-formed segment comes out as it went in, byte by byte.

- Options stand in a tuple as they stand on the wire, those that nobody knows and the no-operations between them too.
- An option whose length makes no sense hides all that follows: the rest is kept as one option of kind ILLEGAL, and
  ignored.
- `str()` of a segment reads as tcpdump's line does, and as the scenarios in tests/scenarios/tcp are written.

Worked example: the options 02 04 05 b4 01 03 03 07 are MSS 1460, a no-operation, and a window scale of 7:

    Segment(49152, 80, sequence=7, acknowledgment=0, flags=Flag.SYN, window=64240,
            options=(mss_option(1460), NOP, window_scale_option(7)))
    S 7:7(0) win 64240 <mss 1460,nop,wscale 7>

Source: RFC 9293, 3.1, 3.2; RFC 7323, 2.2, 3.2 (window scale, timestamps); RFC 3168, 6.1 (ECE, CWR).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from layergate.tcp.checksum import Address, checksum, pseudo_header
from layergate.tcp.ip import TCP, Malformed


class Flag(enum.IntFlag):
    """The control bits."""

    NONE = 0
    FIN = 0x001
    SYN = 0x002
    RST = 0x004
    PSH = 0x008
    ACK = 0x010
    URG = 0x020
    ECE = 0x040
    CWR = 0x080
    AE = 0x100


class Kind(enum.IntEnum):
    """The kinds of options that have a name here."""

    ILLEGAL = -1
    END = 0
    NOP = 1
    MSS = 2
    WINDOW_SCALE = 3
    SACK_PERMITTED = 4
    SACK = 5
    TIMESTAMPS = 8


@dataclass(frozen=True, slots=True)
class Option:
    """One option. *data*: what follows kind and length; of END and ILLEGAL, all that follows."""

    kind: int
    data: bytes = b""

    def __str__(self) -> str:
        size = len(self.data)
        if self.kind == Kind.MSS and size == 2:
            return f"mss {int.from_bytes(self.data, 'big')}"
        if self.kind == Kind.WINDOW_SCALE and size == 1:
            return f"wscale {self.data[0]}"
        if self.kind == Kind.TIMESTAMPS and size == 8:
            return "TS val {} ecr {}".format(*_PAIR.unpack(self.data))
        name = {Kind.NOP: "nop", Kind.END: "eol", Kind.SACK_PERMITTED: "sackOK", Kind.ILLEGAL: "illegal"}
        return name.get(Kind(self.kind), f"kind {self.kind}") if self.kind in name else f"kind {self.kind}"


_PAIR: Final = struct.Struct("!II")
_HEADER: Final = struct.Struct("!HHIIHHHH")
_HEADER_BYTES: Final = _HEADER.size
OPTION_BYTES_MAX: Final = 40
"""RFC 9293, 3.1: the data offset has four bits, and counts words."""
# Nearly every segment of a connection with timestamps has exactly these options (RFC 7323, appendix A).
_ALIGNED_TIMESTAMPS: Final = b"\x01\x01\x08\x0a"
_ALIGNED_TIMESTAMPS_BYTES: Final = 12

NOP: Final = Option(Kind.NOP)


def mss_option(mss: int) -> Option:
    """Return the option that says how long a segment's payload may be."""
    return Option(Kind.MSS, mss.to_bytes(2, "big"))


def window_scale_option(shift: int) -> Option:
    """Return the option that says by how many bits this side's later windows are shifted."""
    return Option(Kind.WINDOW_SCALE, bytes([shift]))


def timestamps_option(value: int, echo: int) -> Option:
    """Return the option with this side's time and the other side's last."""
    return Option(Kind.TIMESTAMPS, _PAIR.pack(value, echo))


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment. *window* as on the wire, not scaled; numbers of 32 bits."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    flags: Flag
    window: int
    urgent: int = 0
    options: tuple[Option, ...] = ()
    payload: bytes = b""

    @property
    def mss(self) -> int | None:
        """Return the MSS option's value, the last one's where there are several; None without it."""
        data = self._option(Kind.MSS, 2)
        return None if data is None else int.from_bytes(data, "big")

    @property
    def window_scale(self) -> int | None:
        """Return the window scale option's shift, as it was sent; None without it."""
        data = self._option(Kind.WINDOW_SCALE, 1)
        return None if data is None else data[0]

    @property
    def timestamps(self) -> tuple[int, int] | None:
        """Return the timestamps option's value and echo; None without it."""
        data = self._option(Kind.TIMESTAMPS, 8)
        if data is None:
            return None
        value, echo = _PAIR.unpack(data)
        return value, echo

    @property
    def length(self) -> int:
        """Return how many sequence numbers the segment takes: its payload, SYN and FIN (SEG.LEN)."""
        flags = int(self.flags)
        return len(self.payload) + (flags >> 1 & 1) + (flags & 1)

    def _option(self, kind: int, size: int) -> bytes | None:
        for option in reversed(self.options):
            if option.kind == kind and len(option.data) == size:
                return option.data
        return None

    def __str__(self) -> str:
        start, size = self.sequence, len(self.payload)
        letters = (("S", Flag.SYN), ("F", Flag.FIN), ("R", Flag.RST), ("P", Flag.PSH), (".", Flag.ACK), ("U", Flag.URG))
        flags = "".join(letter for letter, flag in letters if self.flags & flag)
        text = f"{flags or 'none'} {start}:{start + size & 0xFFFFFFFF}({size})"
        if self.flags & Flag.ACK:
            text += f" ack {self.acknowledgment}"
        text += f" win {self.window}"
        if self.flags & Flag.URG:
            text += f" urg {self.urgent}"
        return f"{text} <{','.join(map(str, self.options))}>" if self.options else text


def parse_segment(data: bytes, source: Address, destination: Address, *, verify: bool = True) -> Segment | Malformed:
    """Return the segment that the payload of a packet between these addresses is. *verify*: its checksum too.

    Cost: O(n), about 6 µs for 1460 bytes.
    """
    if len(data) < _HEADER_BYTES:
        return Malformed("TCP header cut off")
    source_port, destination_port, sequence, acknowledgment, word, window, _, urgent = _HEADER.unpack_from(data)
    header_bytes = word >> 10 & 0x3C
    if header_bytes < _HEADER_BYTES or header_bytes > len(data):
        return Malformed("TCP data offset")
    if verify and checksum(data, pseudo_header(source, destination, TCP, len(data))):
        return Malformed("TCP checksum")
    return Segment(
        source_port,
        destination_port,
        sequence,
        acknowledgment,
        Flag(word & 0xFFF),
        window,
        urgent,
        _parse_options(data[_HEADER_BYTES:header_bytes]) if header_bytes > _HEADER_BYTES else (),
        data[header_bytes:],
    )


def compose_segment(segment: Segment, source: Address, destination: Address) -> bytes:
    """Return *segment* as the payload of a packet between these addresses, with its checksum.

    Raises:
        ValueError: the options are longer than OPTION_BYTES_MAX.
    """
    options = b"".join(map(_compose_option, segment.options))
    options += bytes(-len(options) % 4)
    if len(options) > OPTION_BYTES_MAX:
        raise ValueError(f"{len(options)} bytes of options")
    head = _HEADER.pack(
        segment.source_port,
        segment.destination_port,
        segment.sequence,
        segment.acknowledgment,
        _HEADER_BYTES + len(options) << 10 | int(segment.flags),
        segment.window,
        0,
        segment.urgent,
    )
    data = head + options + segment.payload
    right = checksum(data, pseudo_header(source, destination, TCP, len(data)))
    return data[:16] + right.to_bytes(2, "big") + data[18:]


def _parse_options(data: bytes) -> tuple[Option, ...]:
    if len(data) == _ALIGNED_TIMESTAMPS_BYTES and data.startswith(_ALIGNED_TIMESTAMPS):
        return (NOP, NOP, Option(Kind.TIMESTAMPS, data[4:]))
    options = []
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == Kind.NOP:
            options.append(NOP)
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        if kind == Kind.END or size < 2 or at + size > len(data):
            is_end = kind == Kind.END
            options.append(Option(Kind.END if is_end else Kind.ILLEGAL, data[at + is_end :]))
            break
        options.append(Option(kind, data[at + 2 : at + size]))
        at += size
    return tuple(options)


def _compose_option(option: Option) -> bytes:
    if option.kind == Kind.NOP:
        return b"\x01"
    if option.kind == Kind.ILLEGAL:
        return option.data
    if option.kind == Kind.END:
        return b"\x00" + option.data
    return bytes([option.kind, len(option.data) + 2]) + option.data
