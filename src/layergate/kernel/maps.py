"""Maps by file descriptor: look up, update, delete, walk. Raises OSError as bpf(2) does."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

from layergate.kernel.libbpf import Command, bpf

_ELEMENT: Final = Struct("<I4xQQQ")
_CREATE: Final = Struct("<IIIII")
# in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags
_BATCH: Final = Struct("<QQQQIIQQ")
_CHUNK: Final = 1024
ARRAY: Final = 2
INNER_MAP: Final = 0x1000


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


class Map:
    """A map of known sizes."""

    def __init__(self, fd: int, key_bytes: int, value_bytes: int) -> None:
        self.fd, self._key_bytes, self._value_bytes = fd, key_bytes, value_bytes

    @property
    def id(self) -> int:
        """The kernel's number of the map, which no other map gets while the machine runs."""
        return int(_info(self.fd)[1])

    def get(self, key: bytes) -> bytes | None:
        """Return the value of *key*, or None."""
        found = ctypes.create_string_buffer(self._value_bytes)
        wanted = ctypes.create_string_buffer(key, self._key_bytes)
        try:
            bpf(Command.MAP_LOOKUP_ELEM, _ELEMENT.pack(self.fd, _address(wanted), _address(found), 0))
        except FileNotFoundError:
            return None
        return found.raw

    def set(self, key: bytes, value: bytes) -> None:
        """Let *key* have *value*."""
        place = ctypes.create_string_buffer(key, self._key_bytes)
        content = ctypes.create_string_buffer(value, max(len(value), 1))
        bpf(Command.MAP_UPDATE_ELEM, _ELEMENT.pack(self.fd, _address(place), _address(content), 0))

    def delete(self, key: bytes) -> None:
        """Remove *key*; nothing happens where it is not there."""
        place = ctypes.create_string_buffer(key, self._key_bytes)
        try:
            bpf(Command.MAP_DELETE_ELEM, _ELEMENT.pack(self.fd, _address(place), 0, 0))
        except FileNotFoundError:
            return

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys with their values, of a hash map. What comes or goes meanwhile may be missed or seen twice.

        Cost: a call a thousand elements.
        """
        keys = ctypes.create_string_buffer(_CHUNK * self._key_bytes)
        values = ctypes.create_string_buffer(_CHUNK * self._value_bytes)
        place = ctypes.create_string_buffer(8)
        begun = done = False
        while not done:
            start = _address(place) if begun else 0
            request = _BATCH.pack(start, _address(place), _address(keys), _address(values), _CHUNK, self.fd, 0, 0)
            attributes = ctypes.create_string_buffer(request)
            try:
                bpf(Command.MAP_LOOKUP_BATCH, attributes)
            except FileNotFoundError:  # that was all
                done = True
            begun = True
            count = _BATCH.unpack_from(attributes)[4]
            for index in range(count):
                yield (
                    keys.raw[index * self._key_bytes : (index + 1) * self._key_bytes],
                    values.raw[index * self._value_bytes : (index + 1) * self._value_bytes],
                )

    def keys(self) -> Iterator[bytes]:
        """Yield the keys. Keys that come or go meanwhile may be missed or seen twice."""
        previous: bytes | None = None
        while True:
            following = ctypes.create_string_buffer(self._key_bytes)
            place = ctypes.create_string_buffer(previous, self._key_bytes) if previous is not None else None
            try:
                bpf(
                    Command.MAP_GET_NEXT_KEY,
                    _ELEMENT.pack(self.fd, _address(place) if place is not None else 0, _address(following), 0),
                )
            except FileNotFoundError:
                return
            previous = following.raw
            yield previous


def make_array(value_bytes: int, count: int) -> int:
    """Make an array map that can stand inside another map; return its file descriptor."""
    return bpf(Command.MAP_CREATE, _CREATE.pack(ARRAY, 4, value_bytes, count, INNER_MAP))


def update_array(fd: int, values: bytes, value_bytes: int) -> None:
    """Write all of *values* into the array of *fd*, from its first element on. Cost: one call."""
    count = len(values) // value_bytes
    update_batch(fd, array("I", range(count)).tobytes(), values, count)


def update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Write *count* elements into the map of *fd*. Cost: one call; one wait for running programs if it holds maps."""
    places, contents = ctypes.create_string_buffer(keys, len(keys)), ctypes.create_string_buffer(values, len(values))
    bpf(Command.MAP_UPDATE_BATCH, _BATCH.pack(0, 0, _address(places), _address(contents), count, fd, 0, 0))


# struct bpf_map_info: type, id, key bytes, value bytes, entries, flags, name
_INFO: Final = Struct("<6I16s")


def _info(fd: int) -> tuple[Any, ...]:
    """Return the first members of struct bpf_map_info."""
    info = ctypes.create_string_buffer(_INFO.size)
    bpf(Command.OBJ_GET_INFO_BY_FD, Struct("<IIQ").pack(fd, _INFO.size, _address(info)))
    return _INFO.unpack(info.raw)


def loaded(name: str, key_bytes: int, value_bytes: int) -> Iterator[Map]:
    """Yield the maps in the kernel that are called *name* and have such keys and values; whoever reads closes their fd.

    Raises OSError where we may not look (CAP_SYS_ADMIN). Cost: 3 µs a map of the machine.
    """
    number = 0
    while True:
        request = ctypes.create_string_buffer(Struct("<I").pack(number), 12)
        try:
            bpf(Command.MAP_GET_NEXT_ID, request)
        except FileNotFoundError:
            return
        number = Struct("<4xI").unpack_from(request)[0]
        try:
            fd = bpf(Command.MAP_GET_FD_BY_ID, Struct("<I").pack(number))
        except FileNotFoundError:  # it has gone meanwhile
            continue
        _, _, keys, values, _, _, found = _info(fd)
        if (found.rstrip(b"\0").decode(), keys, values) == (name[:15], key_bytes, value_bytes):
            yield Map(fd, key_bytes, value_bytes)
        else:
            os.close(fd)
