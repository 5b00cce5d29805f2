"""Compiled tables into the maps, and into force: a whole version at once.

Two slots take turns. The slot that is not in force is filled; one 32-bit store then puts it in force, and the packet
that is being decided keeps the slot that it began with. Writing into a map of maps waits until no program uses what it
replaces.
"""

from __future__ import annotations

import mmap
import os
import time
from struct import Struct
from typing import TYPE_CHECKING, Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.maps import Map, make_array, update_array, update_batch
from layergate.model import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layergate.compile.tests import Compiled, Test

_NUMBER: Final = Struct("<I")
_LONG: Final = Struct("<Q")
_HEARTBEAT_AT: Final = 8  # in struct lg_control
_ACTIVE_AT: Final = 16
_SEEDED_AT: Final = 20
_HALF: Final = (1 << 64) - 1
_FIELDS: Final = {
    name.removeprefix("FIELD_"): number
    for name, number in vars(layout).items()
    if name.startswith("FIELD_") and name not in ("FIELD_ADDRESSES", "FIELD_COUNT")
}


def field_numbers() -> Mapping[str, int]:
    """Return the kernel's number of each field that it knows."""
    return _FIELDS


def pack(test: Test) -> bytes:
    """Return *test* as struct lg_test."""
    return layout.TEST.pack(
        test.low >> 64,
        test.low & _HALF,
        test.high >> 64,
        test.high & _HALF,
        test.filter,
        test.hit,
        test.miss,
        test.sublayer_end,
        test.sublayer,
        test.error,
        _FIELDS.get(test.field, layout.FIELD_COUNT),
        test.op,
        layout.BLOCK if test.action is Action.BLOCK else layout.PERMIT,
        test.hard,
        0,
    )


class Control:
    """The page that programs and user space share: the slot in force, and when user space was last seen."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    @property
    def active(self) -> int:
        """The slot in force."""
        return int(_NUMBER.unpack_from(self._page, _ACTIVE_AT)[0])

    @active.setter
    def active(self, slot: int) -> None:
        _NUMBER.pack_into(self._page, _ACTIVE_AT, slot)

    def seeded(self) -> None:
        """Say that the owners of the sockets that were there before are known now."""
        _NUMBER.pack_into(self._page, _SEEDED_AT, 1)

    def beat(self) -> None:
        """Say that user space is there (CLOCK_MONOTONIC, as the programs read it)."""
        _LONG.pack_into(self._page, _HEARTBEAT_AT, time.monotonic_ns())

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()


class Tables:
    """The tables in the kernel."""

    def __init__(self, tables_fd: int, headers_fd: int, control: Control) -> None:
        self._tables_fd = tables_fd
        self._headers = Map(headers_fd, _NUMBER.size, layout.HEADER.size)
        self._control = control

    def put(self, compiled: Compiled) -> None:
        """Put *compiled* in force, in place of what was. Raises OSError, with the old version still in force."""
        slot = (self._control.active + 1) % layout.SLOTS
        counts, versions = [0] * (layout.LAYER_MASK + 1), [1] * (layout.LAYER_MASK + 1)
        for layer, number in compiled.layer_versions.items():
            versions[layer] = number
        arrays: dict[int, int] = {}
        try:
            for layer, tests in sorted(compiled.tables.items()):
                counts[layer] = len(tests)
                arrays[layer] = make_array(layout.TEST.size, len(tests))
                update_array(arrays[layer], b"".join(map(pack, tests)), layout.TEST.size)
            if not arrays:
                # One element all the same: the write waits for the programs that still use this slot.
                arrays[0] = make_array(layout.TEST.size, 1)
            keys = b"".join(_NUMBER.pack(slot * layout.LAYERS + layer) for layer in arrays)
            update_batch(self._tables_fd, keys, b"".join(map(_NUMBER.pack, arrays.values())), len(arrays))
        finally:
            for fd in arrays.values():
                os.close(fd)
        self._headers.set(
            _NUMBER.pack(slot), layout.HEADER.pack(compiled.version, len(compiled.units), *versions, *counts)
        )
        self._control.active = slot
