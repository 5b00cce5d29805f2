"""Who gets past a limit whose response is `reset`: the connections that its key has are found, to be destroyed.

- A connection is its key's if the limit counts it (lg_side.counted), so other ports and exempted ones stay.
- A handshake has no socket yet: it is not found, and its connection is ended at the next crossing.
- The crossing is told once a second a key, and once a ban. All crossings of one reading share one walk of the flows.

Worked example: 203.0.113.9 has 20 connections to port 443, and one to 22, at `{ local_port = 443 }`, `concurrent = 20`,
`per = "remote_address"`. Its 21st SYN is dropped, and the 20 are destroyed; the one to 22 stays.

Cost: a call of the kernel a thousand flows. Source: kernel/bpf/counts.h (key_for).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.limits import Limits
from layergate.kernel.maps import Map
from layergate.kernel.ring import Record
from layergate.model import Key, Per, Response

_SIDE: Final[Struct] = layout.SIDE
Ends = tuple[int, int, int, int, int, int, bool]
"""Local address (two halves), remote address (two halves), local port, remote port, whether IPv6."""


def crossed(record: Record, limits: Limits) -> tuple[int, Key, tuple[int, ...]] | None:
    """Return number, key and the key's value, where *record* (of kind LIMIT) is to end connections."""
    number = limits.number_of(record[layout.RECORD_FILTER])
    limit = limits.filters[number].limit if number is not None else None
    if number is None or limit is None or limit.response is not Response.RESET or limit.monitor:
        return None
    owner = record[layout.RECORD_EXE_INO], record[layout.RECORD_CGROUP]
    return number, limit.key, value_of(limit.key, ends_of(record), *owner)


def ends_of(record: Record) -> Ends:
    """Return the ends that *record* tells of."""
    ports = record[layout.RECORD_SCALAR]
    local_high, local_low, remote_high, remote_low = record[layout.RECORD_ADDRESS]
    return (
        local_high,
        local_low,
        remote_high,
        remote_low,
        ports[layout.FIELD_IP_LOCAL_PORT],
        ports[layout.FIELD_IP_REMOTE_PORT],
        bool(record[layout.RECORD_BITS] & layout.BIT_V6),
    )


def value_of(key: Key, ends: Ends, app: int, unit: int) -> tuple[int, ...]:
    """Return what connections with one *key* have in common: (1, 0, 0xCB007100) for 203.0.113.9 and a /24."""
    *_, remote_high, remote_low, local_port, _remote_port, v6 = ends
    if key.per is Per.ALL:
        return ()
    if key.per in (Per.APP, Per.UNIT):
        return (app if key.per is Per.APP else unit,)
    if key.per is Per.TUPLE:
        return tuple(map(int, ends))
    size, bits = (128, key.prefix_v6) if v6 else (32, key.prefix_v4)
    address = (remote_high << 64 | remote_low) if v6 else remote_low & 0xFFFFFFFF
    value = (int(v6), address >> (size - bits))
    return (*value, local_port) if key.per is Per.REMOTE_ADDRESS_LOCAL_PORT else value


def found(flows: Map, wanted: Iterable[tuple[int, Key, tuple[int, ...]]]) -> Iterator[tuple[int, bytes]]:
    """Yield cookie and ends (struct lg_reset) of each connection in *flows* (lg_flows) that one of *wanted* has."""
    keys = {number: key for number, key, _ in wanted}
    values = {(number, value) for number, _, value in wanted}
    for one in connections(flows, sum(1 << number for number in keys)):
        if any(
            one.counted >> number & 1 and (number, value_of(key, one.ends, one.app, one.unit)) in values
            for number, key in keys.items()
        ):
            yield one.cookie, one.reset


@dataclass(frozen=True, slots=True)
class Connection:
    """An end of a connection that limits count. *counted*: a bit a limit; *opened_ns*: CLOCK_MONOTONIC."""

    cookie: int
    netns: int
    ends: Ends
    counted: int
    app: int
    unit: int
    opened_ns: int

    @property
    def reset(self) -> bytes:
        """What names its socket to be destroyed (struct lg_reset)."""
        return layout.RESET.pack(self.netns, *self.ends, 0, 0)


def connections(flows: Map, mask: int) -> Iterator[Connection]:
    """Yield the ends in *flows* (lg_flows) that a limit of *mask* (a bit each) counts, and that have a socket."""
    for raw, content in flows.items():
        flow = layout.FLOW.unpack(content)
        for index in range(2):
            side = _SIDE.unpack_from(flow[layout.FLOW_SIDE], index * _SIDE.size)
            counted, cookie = side[layout.SIDE_COUNTED], side[layout.SIDE_COOKIE]
            if not counted & mask or not cookie:
                continue
            netns, *addresses, low_port, high_port, v6 = layout.FLOW_KEY.unpack(raw)
            low, high = (*addresses[:2], low_port), (*addresses[2:], high_port)
            local, remote = (low, high) if (index == 0) == bool(flow[layout.FLOW_CLIENT_IS_LOW]) else (high, low)
            ends = (*local[:2], *remote[:2], local[2], remote[2], bool(v6))
            opened = flow[layout.FLOW_CHANGED]
            yield Connection(cookie, netns, ends, counted, side[layout.SIDE_APP], side[layout.SIDE_UNIT], opened)
