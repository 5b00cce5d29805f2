"""A policy's limits into the maps: their numbers, their rows; and what the kernel counts, read back.

- A limit has a number of `lg_limits`, by what it is (name, layer without family, limit): the filters of both families
  share it, and so does the same limit in the next version of the policy. A number is not given again in one run, for
  the connections of the limit that had it still carry its bit.
- A row stands for a filter with a limit, of one layer of one slot of the policy: a walk notes it by its place there.
- A step LIMIT (compile/steps.py) tells the walk that place in its distance.

Worked example: `limit = { per = "remote_prefix", prefix_v4 = 24, new = 50, over = "10s" }` is number 0, NEW over
REMOTE_PREFIX 24/64, 50, parts of 10 s / 64; its filter has a row at ALE_AUTH_RECV_ACCEPT_V4 and one at _V6.

Source: kernel/bpf/limits.h.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final

from layergate.compile import Compiled, Op, Table
from layergate.kernel import layout_generated as layout
from layergate.kernel.maps import Map
from layergate.model import Ban, Counted, Filter, Key, NotSupportedError, Per

_NUMBER: Final = Struct("<I")
_MS: Final = 1_000_000
COUNTED: Final[Mapping[Counted, int]] = {
    Counted.CONCURRENT: layout.COUNTED_CONCURRENT,
    Counted.NEW: layout.COUNTED_NEW,
    Counted.HALF_OPEN: layout.COUNTED_HALF_OPEN,
    Counted.SLOW: layout.COUNTED_LIVING,
    Counted.EMPTY: layout.COUNTED_LIVING,
    Counted.CLOSED: layout.COUNTED_CLOSED,
    Counted.PORTS: layout.COUNTED_PORTS,
    Counted.REMOTES: layout.COUNTED_REMOTES,
    Counted.ABNORMAL: layout.COUNTED_ABNORMAL,
}
PER: Final[Mapping[Per, int]] = {
    Per.REMOTE_ADDRESS: layout.PER_REMOTE_PREFIX,
    Per.REMOTE_PREFIX: layout.PER_REMOTE_PREFIX,
    Per.REMOTE_ADDRESS_LOCAL_PORT: layout.PER_REMOTE_PREFIX_LOCAL_PORT,
    Per.TUPLE: layout.PER_TUPLE,
    Per.APP: layout.PER_APP,
    Per.UNIT: layout.PER_UNIT,
    Per.ALL: layout.PER_ALL,
}


@dataclass(frozen=True, slots=True)
class Banned:
    """A ban: the filter's number as a limit, the key as the kernel has it, when it ends (ns, CLOCK_MONOTONIC)."""

    number: int
    key: tuple[int, ...]
    began_ns: int
    until_ns: int
    repeats: int


class Limits:
    """The limits in the kernel."""

    def __init__(self, limits: Map, rows: Map, bans: Map) -> None:
        self._limits, self._rows, self._bans = limits, rows, bans
        self._numbers: dict[int, int] = {}
        self._by_filter: dict[int, int] = {}
        self.filters: dict[int, Filter] = {}
        """By number, a filter that has the limit."""
        self.abnormal = 0
        """A bit a number: limits that count what connections do that is not normal."""

    @classmethod
    def of(cls, fds: Mapping[str, int]) -> Limits:
        """Return the limits in the maps *fds*, by name."""
        key = layout.COUNT_KEY.size
        return cls(
            Map(fds["lg_limits"], 4, layout.LIMIT.size),
            Map(fds["lg_limit_rows"], 4, layout.LIMIT_ROW.size),
            Map(fds["lg_bans"], key, layout.BAN.size),
        )

    def put(self, compiled: Compiled, slot: int) -> None:
        """Write the limits of *compiled*, and their rows for *slot*, not in force. Raises NotSupportedError."""
        for layer, table in compiled.tables.items():
            for place, item in enumerate(table.limits):
                row = table.filters.index(item)
                sublayer = table.sublayers.index(table.rows[2 * row + 1] & 0xFFFF)
                code = _code_of(table, row)
                number = self._number(item)
                key = (slot * layout.LAYERS + layer) * layout.LIMITS_OF_LAYER + place
                self._rows.set(_NUMBER.pack(key), layout.LIMIT_ROW.pack(code, sublayer, number))

    def _number(self, item: Filter) -> int:
        assert item.limit is not None
        identity = identity_of(item)
        number = self._numbers.get(identity)
        if number is None:
            number = len(self._numbers)
            if number >= layout.LIMITS:
                raise NotSupportedError(
                    f"filter '{item.name}'",
                    f"{layout.LIMITS} limits have been in force since layergate began, and there is room for no more",
                    "start it anew; with --pin nothing is unguarded meanwhile",
                )
            self._numbers[identity] = number
        self.filters[number] = item
        self._by_filter[item.id] = number
        if item.limit.counted is Counted.ABNORMAL:
            self.abnormal |= 1 << number
        before = self._limits.get(_NUMBER.pack(number)) or bytes(layout.LIMIT.size)
        packed = _packed(item, identity, layout.LIMIT.unpack(before)[layout.LIMIT_KEYS])
        if packed != before:  # what the programs count meanwhile (keys) is not written over for nothing
            self._limits.set(_NUMBER.pack(number), packed)
        return number

    def bans(self) -> Iterator[Banned]:
        """Yield the bans that are kept, also those that have ended and count for the next one."""
        for key, value in self._bans.items():
            fields, ban = layout.COUNT_KEY.unpack(key), layout.BAN.unpack(value)
            yield Banned(fields[layout.COUNT_KEY_LIMIT], fields, *ban[:3])

    def inherit(self, limits: Map, bans: Map) -> int:
        """Take over the *bans* of a run with the limits *limits*, where we have the same. Returns how many."""
        numbers = {}
        for number in range(layout.LIMITS):
            value = limits.get(_NUMBER.pack(number))
            identity = layout.LIMIT.unpack(value)[layout.LIMIT_IDENTITY] if value else 0
            if identity in self._numbers:
                numbers[number] = self._numbers[identity]
        count = 0
        for key, value in bans.items():
            fields = list(layout.COUNT_KEY.unpack(key))
            number = fields[layout.COUNT_KEY_LIMIT]
            if number in numbers:
                fields[layout.COUNT_KEY_LIMIT] = numbers[number]
                self._bans.set(layout.COUNT_KEY.pack(*fields), value)
                count += 1
        return count

    def number_of(self, filter_id: int) -> int | None:
        """Return the number of the limit whose filter is *filter_id*, of either family; None where it has gone."""
        return self._by_filter.get(filter_id)

    def ban(self, key: bytes, seconds: float) -> None:
        """Ban *key* (struct lg_count_key, which names the limit) from now on."""
        now = time.monotonic_ns()
        self._bans.set(key, layout.BAN.pack(now, now + int(seconds * 1e9), 0, 0))

    def repeat_ban(self, key: bytes, ban: Ban) -> int:
        """Ban *key* as the programs do: longer where it is a repeater. Returns when that ends, ns."""
        now, repeats = time.monotonic_ns(), 0
        before = self._bans.get(key)
        if before is not None:
            began, until, earlier, _ = layout.BAN.unpack(before)
            # Who stayed away for as long as he was banned is no repeater.
            if now - until < until - began:
                repeats = earlier + 1
        until = now + ban.length_ms(repeats) * _MS
        self._bans.set(key, layout.BAN.pack(now, until, repeats, 0))
        return until

    def lift(self, key: bytes) -> None:
        """End the ban of *key*, and forget that it was."""
        self._bans.delete(key)


def _code_of(table: Table, row: int) -> int:
    """Return the code of *row*, from a step that tells it."""
    steps = table.steps
    for place in range(3, len(steps), 4):
        if steps[place] & 0xFF == Op.LIMIT and steps[place - 3] >> 2 == row:
            return steps[place - 3]
    return layout.NO_CODE


def with_places(table: Table) -> array[int]:
    """Return the steps of *table*, each LIMIT with the place of its filter among the layer's limits."""
    if not table.limits:
        return table.steps
    places = {table.filters.index(item): place for place, item in enumerate(table.limits)}
    steps = array("I", table.steps)
    for at in range(3, len(steps), 4):
        if steps[at] & 0xFF == Op.LIMIT:
            steps[at] = steps[at] & 0xFFFF | places[steps[at - 3] >> 2] << 16
    return steps


def identity_of(item: Filter) -> int:
    """Return what finds the limit of *item* again in another version or another run."""
    text = f"{item.name}\0{item.layer.base}\0{item.limit!r}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


def _packed(item: Filter, identity: int, keys: int) -> bytes:
    limit = item.limit
    assert limit is not None
    ban = limit.ban
    fair = limit.fair
    return layout.LIMIT.pack(
        identity,
        limit.over_ms * _MS // layout.PARTS,
        ban.for_ms * _MS if ban else 0,
        ban.up_to_ms * _MS if ban else 0,
        item.id,
        limit.threshold,
        keys,
        limit.count,
        limit.connections,
        COUNTED[limit.counted],
        PER[limit.key.per],
        *_prefixes(limit.key),
        PER[fair.per] if fair else 0,
        *(_prefixes(fair) if fair else (0, 0)),
        limit.monitor,
    )


def _prefixes(key: Key) -> tuple[int, int]:
    return key.prefix_v4, key.prefix_v6
