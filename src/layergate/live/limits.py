"""What happens at a limit, told: a key gets past it, a ban begins, a ban ends.

A flood is told once a second a key, not once a SYN: what was kept out meanwhile is counted (`Programs.statistics`:
kept_out). The end of a ban is nobody's packet: it is told when its time has come.

Worked example: the 21st connection of 203.0.113.9 at `concurrent = 20` with `ban = "10m"` is told as `banned`, count
21, limit 20, key "203.0.113.9"; ten minutes later as `ban over`.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.ring import Record
from layergate.live.resets import Ends, ends_of
from layergate.model import Filter, Key, Per

PAST: Final = "past"
BANNED: Final = "banned"
OVER: Final = "ban over"
_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit was crossed, or a ban began or ended.

    *what*: past, banned, ban over. *until*: when the ban ends, in the session's seconds. *monitor*: it was told only,
    and nobody was kept out. *count* and *limit*: as of the crossing.
    """

    time: float
    what: str
    filter_id: int
    filter_name: str
    key: str
    count: int
    limit: int
    until: float | None
    monitor: bool


@dataclass(slots=True)
class Bans:
    """The bans that will end."""

    _ends: list[tuple[float, int, Limited]] = field(default_factory=list)
    _last: dict[tuple[int, str], float] = field(default_factory=dict)
    _told: int = 0

    def begin(self, told: Limited) -> None:
        """Remember a ban that has begun."""
        assert told.until is not None
        self._told += 1
        self._last[told.filter_id, told.key] = told.until
        heapq.heappush(self._ends, (told.until, self._told, told))

    def ended(self, now: float) -> Iterator[Limited]:
        """Yield the bans that have ended by *now*, in the session's seconds."""
        while self._ends and self._ends[0][0] <= now:
            until, _, told = heapq.heappop(self._ends)
            if self._last.get((told.filter_id, told.key)) == until:
                del self._last[told.filter_id, told.key]
                yield replace(told, time=until, what=OVER)


def limited(
    record: Record, item: Filter | None, *, time: float, began_ns: int, app: str | None, unit: str | None
) -> Limited:
    """Return what *record* (of kind LIMIT) tells; *item* is its filter, *app* and *unit* those of its process."""
    limit = item.limit if item is not None else None
    fair = limit.fair if limit is not None else None
    key = fair or (limit.key if limit is not None else Key(Per.REMOTE_ADDRESS))
    until = record[layout.RECORD_COUNTED]
    return Limited(
        time=time,
        what=BANNED if record[layout.RECORD_ACTION] == layout.TOLD_BANNED else PAST,
        filter_id=record[layout.RECORD_FILTER],
        filter_name=item.name if item is not None else str(record[layout.RECORD_FILTER]),
        key=words_of(key, ends_of(record), app, unit),
        count=record[layout.RECORD_SEQ],
        limit=record[layout.RECORD_LENGTH],
        until=round((until - began_ns) / _NS, 6) if until else None,
        monitor=limit is not None and limit.monitor,
    )


def words_of(key: Key, ends: Ends, app: str | None = None, unit: str | None = None) -> str:
    """Return the key of a connection in words: "203.0.113.9", "203.0.113.0/24", "203.0.113.9 port 443", "all"."""
    *addresses, local_port, remote_port, v6 = ends
    local, remote = addresses[:2], addresses[2:]
    match key.per:
        case Per.ALL:
            return "all"
        case Per.APP:
            return app or "an unknown application"
        case Per.UNIT:
            return unit or "no unit"
        case Per.TUPLE:
            return f"{_address(*local, v6=v6)} port {local_port}, {_address(*remote, v6=v6)} port {remote_port}"
        case Per.REMOTE_PREFIX:
            bits = key.prefix_v6 if v6 else key.prefix_v4
            return str(ipaddress.ip_network((_address(*remote, v6=v6), bits), strict=False))
        case Per.REMOTE_ADDRESS_LOCAL_PORT:
            return f"{_address(*remote, v6=v6)} port {local_port}"
        case _:
            return _address(*remote, v6=v6)


def _address(high: int, low: int, *, v6: bool) -> str:
    return str(ipaddress.IPv6Address(high << 64 | low) if v6 else ipaddress.IPv4Address(low & 0xFFFFFFFF))
