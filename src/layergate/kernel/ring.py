"""The event ring, read from memory: records in the order in which the programs reserved them.

A ring of n bytes is mapped as a page with the consumer's position, a page with the producer's, and the data twice, so
that a record that wraps is read in one piece. A record has a header of 8 bytes: its length, whose two high bits say
that it is still being written, or was given up. Source: kernel/bpf/ringbuf.c.
"""

from __future__ import annotations

import mmap
import select
from collections.abc import Iterator
from struct import Struct
from typing import Final

from layergate.kernel.layout_generated import RECORD

_POSITION: Final = Struct("<Q")
_LENGTH: Final = Struct("<I")
_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEADER: Final = 8

Record = tuple[int, ...]


class Ring:
    """The consumer's end of the ring of *fd*, *size* bytes. Cost: about 2 µs a record."""

    def __init__(self, fd: int, size: int, layout: Struct = RECORD) -> None:
        page = mmap.PAGESIZE
        self.fd, self._mask, self._layout = fd, size - 1, layout
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._epoll = select.epoll()
        self._epoll.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that is readable when the ring has records."""
        return self._epoll.fileno()

    def wait(self, seconds: float) -> bool:
        """Wait until there are records, *seconds* at most. Returns whether there are."""
        return bool(self._epoll.poll(seconds))

    @property
    def written(self) -> int:
        """How many bytes were written, ever."""
        return int(_POSITION.unpack_from(self._producer, 0)[0])

    @property
    def consumed(self) -> int:
        """How many of them were read."""
        return int(_POSITION.unpack_from(self._consumer, 0)[0])

    def read(self) -> Iterator[Record]:
        """Yield what the ring holds, by the members of its records' struct (lg_record, if it is not said)."""
        page, unpack = mmap.PAGESIZE, self._layout.unpack_from
        position = _POSITION.unpack_from(self._consumer, 0)[0]
        while position < _POSITION.unpack_from(self._producer, 0)[0]:
            start = page + (position & self._mask)
            length = _LENGTH.unpack_from(self._producer, start)[0]
            if length & _BUSY:
                return
            if not length & _DISCARDED:
                yield unpack(self._producer, start + _HEADER)
            position += ((length & ~(_BUSY | _DISCARDED)) + _HEADER + 7) & ~7
            _POSITION.pack_into(self._consumer, 0, position)

    def close(self) -> None:
        """Let go of the mappings; the file descriptor is its owner's."""
        self._epoll.close()
        self._consumer.close()
        self._producer.close()
