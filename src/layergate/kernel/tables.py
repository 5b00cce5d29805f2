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

from layergate.compile import KERNEL_FIELDS
from layergate.kernel import layout_generated as layout
from layergate.kernel.hooks import Hook
from layergate.kernel.limits import Limits, with_places
from layergate.kernel.maps import make_array, update_array, update_batch
from layergate.model import Counted, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from layergate.compile import Compiled, Table
    from layergate.model import Filter

_NUMBER: Final = Struct("<I")
_LONG: Final = Struct("<Q")
_HEARTBEAT_AT: Final = 8  # in struct lg_control
_ACTIVE_AT: Final = 16
_SEEDED_AT: Final = 20
_NAMES_AT: Final = 28
_ABNORMAL_AT: Final = 32
_TURN_AT: Final = 48
_NAMES_MAX: Final = 0xFFFFFFFF
_TURNS: Final = 0xFFFFFFFF
_IP: Final = frozenset({"INBOUND_IPPACKET", "OUTBOUND_IPPACKET"})
_TRANSPORT: Final = frozenset({"INBOUND_TRANSPORT", "OUTBOUND_TRANSPORT"})
_CALLS: Final = frozenset(
    {
        "ALE_AUTH_CONNECT",
        "ALE_AUTH_LISTEN",
        "ALE_BIND_REDIRECT",
        "ALE_CONNECT_REDIRECT",
        "ALE_RESOURCE_ASSIGNMENT",
        "ALE_RESOURCE_RELEASE",
    }
)
_FIELDS: Final = {name: number for number, name in enumerate(KERNEL_FIELDS)}


def field_numbers() -> Mapping[str, int]:
    """Return the kernel's number of each field that it knows."""
    return _FIELDS


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

    def turn(self, number: int, quiet: int = 0) -> None:
        """Say that turn *number* is in force (0: none, for it is being changed), and what it never asks. One store."""
        _LONG.pack_into(self._page, _TURN_AT, quiet << 32 | number)

    def seeded(self) -> None:
        """Say that the owners of the sockets that were there before are known now."""
        _NUMBER.pack_into(self._page, _SEEDED_AT, 1)

    def named(self) -> None:
        """Say that the numbers of applications or units have changed: sockets look theirs up again."""
        names = int(_NUMBER.unpack_from(self._page, _NAMES_AT)[0])
        _NUMBER.pack_into(self._page, _NAMES_AT, names % _NAMES_MAX + 1)

    def watch(self, abnormal: int) -> None:
        """Say which limits (a bit a number) count what connections do that is not normal."""
        _LONG.pack_into(self._page, _ABNORMAL_AT, abnormal)

    def beat(self) -> None:
        """Say that user space is there (CLOCK_MONOTONIC, as the programs read it)."""
        _LONG.pack_into(self._page, _HEARTBEAT_AT, time.monotonic_ns())

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()


class Tables:
    """The tables in the kernel. *headers_fd*: of the map that is one value, a struct lg_header a slot."""

    def __init__(self, tables_fd: int, headers_fd: int, control: Control, limits: Limits) -> None:
        self._tables_fd = tables_fd
        self._headers = mmap.mmap(headers_fd, -(-layout.SLOTS * layout.HEADER.size // mmap.PAGESIZE) * mmap.PAGESIZE)
        self._control = control
        self._limits = limits
        self._turn = 0

    def put(self, compiled: Compiled) -> None:
        """Put *compiled* in force, in place of what was.

        Raises NotSupportedError (`require`), OSError; the old version is still in force then.
        """
        require(compiled)
        slot = (self._control.active + 1) % layout.SLOTS
        roots, versions = [0] * (layout.LAYER_MASK + 1), [1] * (layout.LAYER_MASK + 1)
        for layer, number in compiled.layer_versions.items():
            versions[layer] = number
        tops = (compiled.names.top("ALE_APP_ID"), compiled.names.top("ALE_PACKAGE_ID"))
        self._limits.put(compiled, slot)
        self._control.watch(self._limits.abnormal)
        arrays: dict[int, int] = {}
        try:
            for layer, table in sorted(compiled.tables.items()):
                content = with_places(table).tobytes() + table.rows.tobytes()
                content += bytes(-len(content) % layout.LINE.size)
                roots[layer] = table.root
                arrays[layer] = make_array(layout.LINE.size, len(content) // layout.LINE.size)
                update_array(arrays[layer], content, layout.LINE.size)
            if not arrays:
                # One element all the same: the write waits for the programs that still use this slot.
                arrays[0] = make_array(layout.LINE.size, 1)
            keys = b"".join(_NUMBER.pack(slot * layout.LAYERS + layer) for layer in arrays)
            update_batch(self._tables_fd, keys, b"".join(map(_NUMBER.pack, arrays.values())), len(arrays))
        finally:
            for fd in arrays.values():
                os.close(fd)
        self._turn = self._turn % _TURNS + 1
        quiet = _quiet(compiled.tables.values())
        facts = (compiled.version, *tops, quiet, slot * layout.LAYERS)
        layout.HEADER.pack_into(self._headers, slot * layout.HEADER.size, *facts, *versions, *roots)
        # No packet takes the new tables for those of the old turn.
        self._control.turn(0)
        self._control.active = slot
        self._control.turn(self._turn, quiet)


def _quiet(tables: Iterable[Table]) -> int:
    """Return what *tables* never ask: bits of layout.QUIET_STREAM and so on."""
    asked, counted = set(), set()
    for table in tables:
        asked.add(table.layer.base.removesuffix("_DISCARD"))
        counted |= {item.limit.counted for item in table.limits if item.limit is not None}
    quiet = 0 if "STREAM" in asked else layout.QUIET_STREAM
    if not asked & {"STREAM", *_TRANSPORT}:
        quiet |= layout.QUIET_PACKETS
    if not asked & {*_IP, *_TRANSPORT}:
        quiet |= layout.QUIET_WIRE
    if not counted and asked <= _CALLS:
        quiet |= layout.QUIET_FLOWS
    if not counted & {Counted.CLOSED, Counted.PORTS}:
        quiet |= layout.QUIET_KNOCKS
    return quiet


def require(compiled: Compiled) -> None:
    """Raise NotSupportedError where the programs can't do what *compiled* asks: what they can't know, by name."""
    for table in compiled.tables.values():
        layer = table.layer.short
        items = (*table.filters, *(one.filter for one in table.removed))
        for item in items:
            problem = Hook.limit_problem(item.limit) if item.limit is not None else None
            if problem is not None:
                raise NotSupportedError(f"filter '{item.name}'", *problem)
        # What its filters test and ask, the table knows as a whole: they are looked at where something is amiss.
        if table.has_callouts or table.layout.predicates or not table.layout.slots.keys() <= _FIELDS.keys():
            for item in items:
                _require_item(table, item)
        if table.layout.count > layout.KEY_WORDS:
            raise NotSupportedError(layer, "its table tests words that the kernel hasn't", "compile the policy anew")
        if len(table.sublayers) > layout.SUBLAYERS_MAX:
            raise NotSupportedError(
                layer,
                f"filters in {len(table.sublayers)} sublayers, and the kernel hears {layout.SUBLAYERS_MAX} at most",
                "put filters of neighbouring weights into one sublayer",
            )


def _require_item(table: Table, item: Filter) -> None:
    if item.action.is_callout:
        raise NotSupportedError(
            f"filter '{item.name}'",
            f"the kernel can't ask the callout '{item.callout}'",
            "a filter that permits or blocks",
        )
    for condition in item.conditions:
        if condition in table.layout.predicates:
            raise NotSupportedError(
                f"filter '{item.name}'",
                f"{condition.match.name} of {condition.value.type.name} on {condition.field} at {table.layer.short} "
                "can't be put into a table of the kernel",
                "test the field for equality",
            )
        if condition.field not in KERNEL_FIELDS:
            raise NotSupportedError(
                f"filter '{item.name}'",
                f"the kernel can't know {condition.field} at {table.layer.short}",
                f"test one of {', '.join(KERNEL_FIELDS)}",
            )
