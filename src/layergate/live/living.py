"""Limits on what a living connection does: it sends nothing (`empty`), or too little (`slow`).

The kernel's programs note which connections such a limit counts (lg_side.counted), and keep out whom it bans. What a
connection has received the kernel keeps anyway (tcp_info): it is looked at once a second, or more seldom where looking
takes more than a twentieth of the time. Who is past the limit has his connection ended, and is banned where it bans.

- Empty: nothing was received since the SYN when the grace is over.
- Slow: from the end of the grace on, fewer than so many bytes within one period, which slides.

Worked example: `slow = { bytes = 500, over = "10s", grace = "5s" }`. A client sends a header byte a second. At 15 s it
has sent 10 bytes since 5 s: its connection is reset at the next look.

Cost: 8 µs a connection and look. Source: linux/tcp.h (tcpi_bytes_received).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from layergate.ale.living import LOOK_S, Progress
from layergate.kernel import inetdiag
from layergate.kernel import layout_generated as layout
from layergate.kernel.limits import Limits
from layergate.kernel.maps import Map
from layergate.kernel.netns import Namespace
from layergate.live.limits import BANNED, PAST, Limited, words_of
from layergate.live.resets import Connection
from layergate.live.resets import connections as counted_by
from layergate.model import Counted, Filter, Key, Limit, NotSupportedError, Per, Policy, Response

_LOOK_SHARE: Final = 20.0
_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_BYTES_RECEIVED: Final = struct.Struct("=128xQ")  # of struct tcp_info
# ESTABLISHED, CLOSE_WAIT: whoever closed has said what he had to say.
_STATES: Final = 1 << 1 | 1 << 8


@dataclass(frozen=True, slots=True)
class Past:
    """A connection that is past a limit, with the limit's number, and what is told of it."""

    told: Limited
    connection: Connection
    number: int
    limit: Limit

    @property
    def ends_others(self) -> bool:
        """Whether the other connections of its key are to end too."""
        return self.limit.response is Response.RESET and not self.limit.monitor


@dataclass
class Living:
    """Looks at the connections that such limits count."""

    limits: Limits
    flows: Map
    began_ns: int  # of the session, CLOCK_MONOTONIC
    _next_ns: int = 0
    _progress: dict[tuple[int, int], Progress] = field(default_factory=dict)
    _told: set[tuple[int, int]] = field(default_factory=set)

    def look(self, policy: Policy, namespaces: Iterable[Namespace]) -> Iterator[Past]:
        """Yield who is past a limit of *policy* now, if it is time to look. A list that fails is had the next time."""
        now = time.monotonic_ns()
        if now < self._next_ns:
            return
        asked = {
            number: item
            for item in policy.filters
            if item.limit is not None
            and item.limit.counted in (Counted.SLOW, Counted.EMPTY)
            and (number := self.limits.number_of(item.id)) is not None
        }
        received: Mapping[int, int] | None = None
        if asked:
            with suppress(NotSupportedError, OSError):
                received = _received(namespaces)
        if received is not None:
            seen = set()
            for one in counted_by(self.flows, sum(1 << number for number in asked)):
                if one.cookie in received:
                    for number, item in asked.items():
                        if one.counted >> number & 1:
                            seen.add((number, one.cookie))
                            yield from self._judged(one, number, item, received[one.cookie], now)
            self._progress = {key: one for key, one in self._progress.items() if key in seen}
            self._told &= seen
        took = time.monotonic_ns() - now
        self._next_ns = now + max(int(LOOK_S * _NS), int(took * _LOOK_SHARE))

    def _judged(self, one: Connection, number: int, item: Filter, received: int, now: int) -> Iterator[Past]:
        limit = item.limit
        assert limit is not None
        place = number, one.cookie
        progress = self._progress.setdefault(place, Progress())
        if place in self._told or not progress.is_past(limit, one.opened_ns / _NS, received, now / _NS):
            return
        self._told.add(place)
        until = None
        if limit.ban is not None and not limit.monitor:
            until = self.limits.repeat_ban(key_of(number, limit.key, one), limit.ban)
        told = Limited(
            time=(now - self.began_ns) / _NS,
            what=PAST if until is None else BANNED,
            filter_id=item.id,
            filter_name=item.name,
            key=words_of(limit.key, one.ends),
            count=received,
            limit=limit.bytes,
            until=round((until - self.began_ns) / _NS, 6) if until else None,
            monitor=limit.monitor,
        )
        yield Past(told, one, number, limit)


def key_of(number: int, key: Key, one: Connection) -> bytes:
    """Return the key (struct lg_count_key) of a connection at the limit *number*, as the programs make it (key_for)."""
    local_high, local_low, remote_high, remote_low, local_port, remote_port, v6 = one.ends
    address, ports = [0, 0, 0, 0], [0, 0]
    match key.per:
        case Per.ALL:
            pass
        case Per.APP:
            address[2] = one.app
        case Per.UNIT:
            address[2] = one.unit
        case Per.TUPLE:
            address, ports = [local_high, local_low, remote_high, remote_low], [local_port, remote_port]
        case _:
            size, bits = (128, key.prefix_v6) if v6 else (32, key.prefix_v4)
            whole = (remote_high << 64 | remote_low) >> (size - bits) << (size - bits)
            address[2:] = whole >> 64, whole & (1 << 64) - 1
            if key.per is Per.REMOTE_ADDRESS_LOCAL_PORT:
                ports[0] = local_port
    return layout.COUNT_KEY.pack(*address, number, *ports, 0, 0)


def _received(namespaces: Iterable[Namespace]) -> Mapping[int, int]:
    """Return how many bytes each established socket has received, by cookie."""
    found = {}
    for namespace in namespaces:
        for family in (socket.AF_INET, socket.AF_INET6):
            with namespace.entered():
                datagrams = list(inetdiag.Dump(family, socket.IPPROTO_TCP, states=_STATES, extensions=(inetdiag.INFO,)))
            for datagram in datagrams:
                for offset in inetdiag.messages(datagram):
                    length, *_, cookie, _, _, _, _, _ = inetdiag.MESSAGE.unpack_from(datagram, offset)
                    start, end = offset + inetdiag.MESSAGE.size, offset + length
                    info = inetdiag.attributes(datagram, start, end).get(inetdiag.INFO)
                    if info is not None and len(info) >= _BYTES_RECEIVED.size:
                        found[cookie] = _BYTES_RECEIVED.unpack_from(info)[0]
    return found
