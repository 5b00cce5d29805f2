"""The plain list of very many sockets, straight from the kernel's messages: no `Endpoint` is made.

What `columns` shows in its plain columns, at a tenth of the price: a datagram's messages mostly have one length, so
that one call cuts them all; what repeats (addresses, processes, ports) is made into text once. Lines are written while
the kernel still lists what comes after them. Rows and cells are those of `columns.PLAIN` (tests hold them to it); only
the widths of columns may differ.

Worked example: `lines([("tcp", AF_INET, datagram)], owners.words())` yields a line a socket.

Cost: 1 µs a socket beyond the kernel's own time.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from queue import SimpleQueue
from typing import Final

from layergate.kernel import inetdiag
from layergate.sockets import owners, states
from layergate.sockets.addresses import address_words
from layergate.sockets.asking import FAMILIES, PROTOCOLS, Datagram, Detail, Question, datagrams
from layergate.sockets.namespaces import Place

# struct nlmsghdr and inet_diag_msg: length, type, family, state, ports, addresses, queues, inode.
_ROW: Final = struct.Struct("=IH10xBB2xHH16s16s16xII4xI")
_LENGTH: Final = struct.Struct("=I")
_BATCH: Final = 20_000
_ANY: Final = bytes(16)
_WIDTH: Final = 21  # an IPv4 address and a port
_PORT_COLUMNS: Final = 6
_HEADS: Final = {
    "tcp": [f"{'tcp':<5}  {name:<12}" for name in states.TCP_STATES],
    "udp": [f"{'udp':<5}  {name:<12}" for name in (*states.UDP_STATES[:-1], states.UDP_STATES[states.CLOSED])],
}
TITLES: Final = ("PROTO", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "REMOTE", "PROCESS")

Fields = tuple[int, int, int, int, int, int, bytes, bytes, int, int, int]


def _rows(datagram: bytes) -> Iterator[Fields]:
    """Return an iterator over the members of _ROW of each socket in *datagram*."""
    (length,) = _LENGTH.unpack_from(datagram)
    size, end = length + 3 & ~3, len(datagram)
    count, rest = divmod(end, size)
    # Are all messages as long as the first? The two low bytes of each length tell: none has 64 KiB.
    if not rest and datagram[::size] == datagram[:1] * count and datagram[1::size] == datagram[1:2] * count:
        return _of_size(size).iter_unpack(datagram)
    return _one_by_one(datagram)


@cache
def _of_size(size: int) -> struct.Struct:
    """Return _ROW for messages of *size* bytes."""
    return struct.Struct(f"{_ROW.format}{size - _ROW.size}x")


def _one_by_one(datagram: bytes) -> Iterator[Fields]:
    offset, end = 0, len(datagram)
    while offset + _ROW.size <= end:
        fields: Fields = _ROW.unpack_from(datagram, offset)
        yield fields
        offset += fields[0] + 3 & ~3


def lines(told: Iterable[Datagram], words: Mapping[int, str], width: int = _WIDTH) -> Iterator[str]:
    """Yield a line a socket, in the kernel's order, some thousands of them joined at a time.

    *words*: who has a socket, by inode (`Owners.words`); *width*: of addresses (`width_of`).
    """
    ports = _ports()
    who_of = words.get
    idle = f"  {0:>6}  {0:>6}  "  # most queues are empty
    known: dict[int, dict[bytes, str]] = {socket.AF_INET: {}, socket.AF_INET6: {}}
    made: list[str] = []
    add = made.append
    for protocol, family, datagram in told:
        heads, texts = _HEADS[protocol], known[family]
        for _, kind, _, state, near_port, far_port, near, far, waiting, unsent, inode in _rows(datagram):
            if kind != inetdiag.SOCK_DIAG_BY_FAMILY:
                break
            try:
                here, there = texts[near] + ports[near_port], texts[far] + ports[far_port]
            except KeyError:
                texts[near], texts[far] = address_words(near, family), address_words(far, family)
                here, there = texts[near] + ports[near_port], texts[far] + ports[far_port]
            head = heads[state]
            if not far_port and far == _ANY:
                there = "-"
                if state == states.CLOSED:
                    head = heads[states.BOUND]
            queues = f"  {waiting:>6}  {unsent:>6}  " if waiting or unsent else idle
            add(f"{head}{queues}{here.ljust(width)}  {there.ljust(width)}  {who_of(inode, '')}")
        if len(made) > _BATCH:
            yield "\n".join(made)
            made.clear()
    if made:
        yield "\n".join(made)


def width_of(told: Iterable[Datagram]) -> int:
    """Return how wide the columns of addresses are: as the longest IPv6 address with a port needs, 21 at least."""
    addresses: set[bytes] = set()
    for _, family, datagram in told:
        if family == socket.AF_INET6:
            for row in _rows(datagram):
                addresses |= {row[6], row[7]}
    return max([_WIDTH, *(len(address_words(one, socket.AF_INET6)) + _PORT_COLUMNS for one in addresses)])


def write(place: Place, descriptor: int) -> bool:
    """Write the title and the lines of all sockets of *place* to *descriptor*; return whether some may be missing.

    IPv6 is asked for first: its addresses say how wide the columns are. Raises NotSupportedError, OSError.
    """
    asked = _Listing(place)
    asked.start()
    words = owners.read().words()
    _ports()
    v6 = [(protocol, list(asked.answers())) for protocol in PROTOCOLS]
    width = width_of(one for _, found in v6 for one in found)
    title = (
        f"{TITLES[0]:<5}  {TITLES[1]:<12}  {TITLES[2]:>6}  {TITLES[3]:>6}  {TITLES[4]:<{width}}  {TITLES[5]:<{width}}  "
        f"{TITLES[6]}"
    )
    _write(descriptor, f"{title}\n")
    for _, found in v6:
        for told in (asked.answers(), found):
            for text in lines(told, words, width):
                _write(descriptor, f"{text}\n")
    return bool(asked.torn)


class _Listing(threading.Thread):
    """Asks the kernel, beside whoever writes what it has told: IPv6 of each protocol, then IPv4 of each."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.torn: list[Place] = []
        self._place = place
        self._told: SimpleQueue[Datagram | BaseException | None] = SimpleQueue()

    def run(self) -> None:
        """Ask."""
        try:
            for family in reversed(FAMILIES):
                for protocol in PROTOCOLS:
                    question = Question(Detail.PLAIN, (protocol,), (family,))
                    for datagram in datagrams(question, self._place, self.torn):
                        self._told.put(datagram)
                    self._told.put(None)
        except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
            self._told.put(error)

    def answers(self) -> Iterator[Datagram]:
        """Yield the answers to the next question. Raises what went wrong."""
        while (told := self._told.get()) is not None:
            if isinstance(told, BaseException):
                raise told
            yield told


@cache
def _ports() -> list[str]:
    """Return what is written of each port, by its number in network order."""
    return [f":{socket.ntohs(number)}" for number in range(1 << 16)]


def _write(descriptor: int, text: str) -> None:
    data = memoryview(text.encode(errors="backslashreplace"))
    while data:
        data = data[os.write(descriptor, data) :]
