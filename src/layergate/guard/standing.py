"""The counts and the bans of the runs in force, as their maps in the kernel have them.

A run is known by its map of limits; its counts are tied to it by their limits' numbers, so with several runs at once
each has its own rows. Keys are told as people write them.

Worked example: `nearest(runs())[0]` is Row("10.79.1.1", count 20, limit 20): the next connection of it is kept out.

Source: kernel/bpf/counts.h.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.maps import Map, loaded
from layergate.model import InputError, NotSupportedError

_NUMBER_BYTES: Final = 4
_NEIGHBOURS: Final = 64  # numbers of maps: more than a run has
_COUNTED: Final = {
    layout.COUNTED_CONCURRENT: "concurrent",
    layout.COUNTED_NEW: "new",
    layout.COUNTED_HALF_OPEN: "half_open",
    layout.COUNTED_CLOSED: "closed",
    layout.COUNTED_PORTS: "ports",
    layout.COUNTED_REMOTES: "remotes",
    layout.COUNTED_ABNORMAL: "abnormal",
}
_LESS_THAN_NONE: Final = 1 << 31
_TRIED: Final = (layout.COUNTED_PORTS, layout.COUNTED_REMOTES)


@dataclass(frozen=True, slots=True)
class Row:
    """How a key stands to a limit. *filter*: the id of the limit's filter."""

    filter: int
    counted: str
    key: str
    count: int
    limit: int

    @property
    def share(self) -> float:
        """The count as a share of the limit; past it from 1 on."""
        return self.count / self.limit if self.limit else float(self.count)


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban in force. *seconds_left*, *repeats*: how many bans before it still count; *raw*: the kernel's key."""

    filter: int
    key: str
    seconds_left: float
    repeats: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps of one run."""

    limits: Map
    live: Map
    recent: Map
    tried: Map
    bans: Map


def opened(leave: ExitStack) -> list[Maps]:
    """Return the maps of each run, closed with *leave*. Raises NotSupportedError where we may not look.

    A run makes all its maps at once, so their numbers are neighbours; of a run that has just ended some may be gone.
    """
    key = layout.COUNT_KEY.size
    kinds = []
    try:
        for name, key_bytes, value_bytes in (
            ("lg_limits", _NUMBER_BYTES, layout.LIMIT.size),
            ("lg_live", key, layout.COUNT.size),
            ("lg_recent", key, layout.COUNT.size),
            ("lg_tried", key, layout.TRIED.size),
            ("lg_bans", key, layout.BAN.size),
        ):
            found = {}
            for item in loaded(name, key_bytes, value_bytes):
                leave.callback(os.close, item.fd)
                found[item.id] = item
            kinds.append(found)
    except OSError as error:
        raise NotSupportedError("guard", f"the kernel's maps can't be read: {error.strerror}", "run as root") from error
    runs = []
    for limits in kinds[0]:
        near = [min(kind, key=lambda one: abs(one - limits), default=0) for kind in kinds]
        if all(abs(one - limits) < _NEIGHBOURS for one in near):
            runs.append(Maps(*(kind[one] for kind, one in zip(kinds, near, strict=True))))
    return runs


def rows(runs: Iterable[Maps]) -> Iterator[Row]:
    """Yield how every key stands. Cost: about 20 µs a key."""
    now = time.monotonic_ns()
    for run in runs:
        known = _limits(run.limits)
        for key, value in (item for one in (run.live, run.recent, run.tried) for item in one.items()):
            number = layout.COUNT_KEY.unpack(key)[layout.COUNT_KEY_LIMIT]
            limit = known.get(number)
            if limit is None or layout.COUNT_KEY.unpack(key)[layout.COUNT_KEY_FAIR]:
                continue
            count = _count(limit, value, now)
            if count:
                counted = _COUNTED.get(limit[layout.LIMIT_COUNTED], "")
                yield Row(limit[layout.LIMIT_FILTER], counted, key_text(key, limit), count, limit[layout.LIMIT_LIMIT])


def bans(runs: Iterable[Maps]) -> Iterator[tuple[Map, Ban]]:
    """Yield the bans in force, each with its map."""
    now = time.monotonic_ns()
    for run in runs:
        known = _limits(run.limits)
        for key, value in run.bans.items():
            _, until, repeats, _ = layout.BAN.unpack(value)
            limit = known.get(layout.COUNT_KEY.unpack(key)[layout.COUNT_KEY_LIMIT])
            if limit is not None and until > now:
                ban = Ban(limit[layout.LIMIT_FILTER], key_text(key, limit), (until - now) / 1e9, repeats, key)
                yield run.bans, ban


def add(runs: Iterable[Maps], address: str, seconds: float) -> int:
    """Ban *address* at every limit over remote addresses that bans. Returns at how many. Raises InputError."""
    try:
        given = ipaddress.ip_address(address)
    except ValueError as error:
        raise InputError(f"'{address}' is no address", "203.0.113.9, 2001:db8::9") from error
    now, count = time.monotonic_ns(), 0
    for run in runs:
        for number, limit in _limits(run.limits).items():
            if limit[layout.LIMIT_PER] != layout.PER_REMOTE_PREFIX or not limit[layout.LIMIT_BAN_NS]:
                continue
            bits = limit[layout.LIMIT_PREFIX_V6 if given.version == 6 else layout.LIMIT_PREFIX_V4]
            network = int(ipaddress.ip_network((given, bits), strict=False).network_address)
            key = layout.COUNT_KEY.pack(0, 0, network >> 64, network & (1 << 64) - 1, number, 0, 0, 0, 0)
            run.bans.set(key, layout.BAN.pack(now, now + int(seconds * 1e9), 0, 0))
            count += 1
    return count


def key_text(key: bytes, limit: tuple[int, ...]) -> str:
    """Return a key (struct lg_count_key) of *limit* in words: "10.0.0.0/24", "10.0.0.1 port 443", "all"."""
    fields = layout.COUNT_KEY.unpack(key)
    per = limit[layout.LIMIT_PER]
    if per == layout.PER_ALL:
        return "all"
    if per == layout.PER_APP:
        return f"executable {fields[2]}"
    if per == layout.PER_UNIT:
        return f"cgroup {fields[2]}"
    high, low = fields[2], fields[3]
    remote = ipaddress.IPv6Address(high << 64 | low) if high or low >> 32 else ipaddress.IPv4Address(low)
    bits = limit[layout.LIMIT_PREFIX_V6 if remote.version == 6 else layout.LIMIT_PREFIX_V4]
    if per == layout.PER_TUPLE:
        return f"port {fields[layout.COUNT_KEY_LOCAL_PORT]}, {remote} port {fields[layout.COUNT_KEY_REMOTE_PORT]}"
    if per == layout.PER_REMOTE_PREFIX_LOCAL_PORT:
        return f"{remote} port {fields[layout.COUNT_KEY_LOCAL_PORT]}"
    return str(remote) if bits == remote.max_prefixlen else f"{remote}/{bits}"


def _limits(limits: Map) -> dict[int, tuple[int, ...]]:
    found = {}
    for number in range(layout.LIMITS):
        value = limits.get(number.to_bytes(_NUMBER_BYTES, "little"))
        if value is not None and any(value):
            found[number] = layout.LIMIT.unpack(value)
    return found


def _count(limit: tuple[int, ...], value: bytes, now: int) -> int:
    """Return what a key has counted, by its value: struct lg_count, or struct lg_tried."""
    current = now // limit[layout.LIMIT_PART_NS] if limit[layout.LIMIT_PART_NS] else 0
    if limit[layout.LIMIT_COUNTED] in _TRIED:
        _, *things = layout.TRIED.unpack(value)
        return sum(1 for one in things if one and 0 <= (current - one & 0xFFFFFFFF) < layout.PARTS)
    counts: tuple[int, ...] = layout.COUNT.unpack(value)
    _, established, half_open, *parts = counts
    if limit[layout.LIMIT_COUNTED] == layout.COUNTED_HALF_OPEN:
        return _at_least_none(half_open)
    if limit[layout.LIMIT_COUNTED] == layout.COUNTED_CONCURRENT:
        return _at_least_none(established) + _at_least_none(half_open)
    return sum(part & 0xFFFFFFFF for part in parts if 0 <= current - (part >> 32) < layout.PARTS)


def _at_least_none(number: int) -> int:
    """Return a number that may be less than none for a moment, as the programs take it."""
    return number if number < _LESS_THAN_NONE else 0
