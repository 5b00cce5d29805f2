"""The counts and the bans of the runs in force, as their maps in the kernel have them.

A run is known by its map of limits; its counts are tied to it by their limits' numbers, so with several runs at once
each has its own rows. Keys are told as people write them.

Worked example: `nearest(runs())[0]` is Row("10.79.1.1", count 20, limit 20): the next connection of it is kept out.

Source: kernel/bpf/limits.h.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.maps import Map, loaded
from layergate.model import InputError, NotSupportedError

_NUMBER_BYTES: Final = 4
_COUNTED: Final = {
    layout.COUNTED_CONCURRENT: "concurrent",
    layout.COUNTED_NEW: "new",
    layout.COUNTED_HALF_OPEN: "half_open",
}


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
    """The maps of the machine's runs, by kind; in the order in which they were made."""

    limits: list[Map]
    live: list[Map]
    recent: list[Map]
    bans: list[Map]


def opened(leave: ExitStack) -> Maps:
    """Return the maps of all runs, closed with *leave*. Raises NotSupportedError where we may not look."""
    key = layout.COUNT_KEY.size
    found = []
    try:
        for name, key_bytes, value_bytes in (
            ("lg_limits", _NUMBER_BYTES, layout.LIMIT.size),
            ("lg_live", key, layout.COUNT.size),
            ("lg_recent", key, layout.COUNT.size),
            ("lg_bans", key, layout.BAN.size),
        ):
            one = list(loaded(name, key_bytes, value_bytes))
            for item in one:
                leave.callback(os.close, item.fd)
            found.append(one)
    except OSError as error:
        raise NotSupportedError("guard", f"the kernel's maps can't be read: {error.strerror}", "run as root") from error
    return Maps(*found)


def rows(maps: Maps) -> Iterator[Row]:
    """Yield how every key stands. Cost: about 20 µs a key."""
    now = time.monotonic_ns()
    for limits, *counts in zip(maps.limits, maps.live, maps.recent, strict=False):
        known = _limits(limits)
        for key, value in (item for one in counts for item in one.items()):
            number = layout.COUNT_KEY.unpack(key)[layout.COUNT_KEY_LIMIT]
            limit = known.get(number)
            if limit is None or layout.COUNT_KEY.unpack(key)[layout.COUNT_KEY_FAIR]:
                continue
            count = _count(limit, layout.COUNT.unpack(value), now)
            if count:
                counted = _COUNTED.get(limit[layout.LIMIT_COUNTED], "")
                yield Row(limit[layout.LIMIT_FILTER], counted, key_text(key, limit), count, limit[layout.LIMIT_LIMIT])


def bans(maps: Maps) -> Iterator[tuple[Map, Ban]]:
    """Yield the bans in force, each with its map."""
    now = time.monotonic_ns()
    for limits, banned in zip(maps.limits, maps.bans, strict=False):
        known = _limits(limits)
        for key, value in banned.items():
            _, until, repeats, _ = layout.BAN.unpack(value)
            limit = known.get(layout.COUNT_KEY.unpack(key)[layout.COUNT_KEY_LIMIT])
            if limit is not None and until > now:
                ban = Ban(limit[layout.LIMIT_FILTER], key_text(key, limit), (until - now) / 1e9, repeats, key)
                yield banned, ban


def add(maps: Maps, address: str, seconds: float) -> int:
    """Ban *address* at every limit over remote addresses that bans. Returns at how many. Raises InputError."""
    try:
        given = ipaddress.ip_address(address)
    except ValueError as error:
        raise InputError(f"'{address}' is no address", "203.0.113.9, 2001:db8::9") from error
    now, count = time.monotonic_ns(), 0
    for limits, banned in zip(maps.limits, maps.bans, strict=False):
        for number, limit in _limits(limits).items():
            if limit[layout.LIMIT_PER] != layout.PER_REMOTE_PREFIX or not limit[layout.LIMIT_BAN_NS]:
                continue
            bits = limit[layout.LIMIT_PREFIX_V6 if given.version == 6 else layout.LIMIT_PREFIX_V4]
            network = int(ipaddress.ip_network((given, bits), strict=False).network_address)
            key = layout.COUNT_KEY.pack(0, 0, network >> 64, network & (1 << 64) - 1, number, 0, 0, 0, 0)
            banned.set(key, layout.BAN.pack(now, now + int(seconds * 1e9), 0, 0))
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


def _count(limit: tuple[int, ...], count: tuple[int, ...], now: int) -> int:
    established, half_open, parts = count[1], count[2], count[3:]
    if limit[layout.LIMIT_COUNTED] == layout.COUNTED_HALF_OPEN:
        return half_open
    if limit[layout.LIMIT_COUNTED] == layout.COUNTED_CONCURRENT:
        return established + half_open
    current = now // limit[layout.LIMIT_PART_NS] if limit[layout.LIMIT_PART_NS] else 0
    return sum(part & 0xFFFFFFFF for part in parts if 0 <= current - (part >> 32) < layout.PARTS)
