"""Net events: what was dropped and what was allowed, at which layer, by which filter.

What the platform collects by default is kept: drops of inbound unicast and of everything outbound. `Keyword`s add
inbound multicast and broadcast, drops of port scans, and what was allowed. The log is bounded: the oldest make room,
and are counted as lost.

Every event has the id under which Windows' security log knows it: 5152 a packet dropped, 5153 a veto, 5154 and 5155 a
listen permitted and blocked, 5156 and 5157 a connection, 5158 and 5159 a bind. A block that a callout absorbed makes no
event.

Source: Microsoft, "Logging", FWPM_NET_EVENT_HEADER, FWPM_NET_EVENT_CLASSIFY_DROP2, events 5152 to 5159.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from layergate.model import Action, AddressType, Flag, FwpError, Indication, Layer, RefusedError, Value, Verdict

CAPACITY: Final = 150
"""How many events the platform's own log of 128 KB holds, about."""

_AUDITS: Final = {
    "ALE_RESOURCE_ASSIGNMENT": (5158, 5159),
    "ALE_AUTH_LISTEN": (5154, 5155),
    "ALE_AUTH_CONNECT": (5156, 5157),
    "ALE_AUTH_RECV_ACCEPT": (5156, 5157),
}
VETO: Final = 5153
PACKET_DROPPED: Final = 5152
_INBOUND: Final = ("INBOUND_", "ALE_AUTH_RECV_ACCEPT", "ALE_AUTH_LISTEN")
_PORT_SCAN: Final = ("INBOUND_TRANSPORT_DISCARD", "OUTBOUND_ICMP_ERROR")


class EventType(enum.IntEnum):
    """FWPM_NET_EVENT_TYPE, those that arbitration makes."""

    CLASSIFY_DROP = 3
    CLASSIFY_ALLOW = 6


class Direction(enum.IntEnum):
    """FWP_DIRECTION as net events write it."""

    IN = 0x3900
    OUT = 0x3901
    FORWARD = 0x3902


class Keyword(enum.IntFlag):
    """FWPM_NET_EVENT_KEYWORD_*: what to collect beside the default."""

    NONE = 0
    INBOUND_MCAST = 0x1
    INBOUND_BCAST = 0x2
    CAPABILITY_DROP = 0x4
    CAPABILITY_ALLOW = 0x8
    CLASSIFY_ALLOW = 0x10
    PORT_SCANNING_DROP = 0x20


@dataclass(frozen=True, slots=True)
class NetEvent:
    """One event. *audit* is its id in the security log; *terminating* is what each sublayer said, heaviest first."""

    time: float
    type: EventType
    indication: Indication
    filter_id: int
    direction: Direction
    is_loopback: bool
    reauthorize_reason: int
    audit: int
    terminating: tuple[tuple[str, int, Action], ...]

    @property
    def layer(self) -> Layer:
        """Return where it happened."""
        return self.indication.layer


class EventLog:
    """The latest events, oldest first. *lost* counts those that made room."""

    def __init__(
        self, capacity: int = CAPACITY, keywords: Keyword = Keyword.NONE, *, is_collecting: bool = True
    ) -> None:
        self.keywords, self.is_collecting, self.lost = keywords, is_collecting, 0
        self._events: deque[NetEvent] = deque(maxlen=capacity)
        self._listeners: list[Callable[[NetEvent], None]] = []

    def record(self, indication: Indication, verdict: Verdict) -> NetEvent | None:
        """Keep *verdict* on *indication* as an event, where such are collected, and return it. Cost: O(sublayers)."""
        if not self.is_collecting or verdict.absorbed:
            return None
        layer = indication.layer
        is_drop = verdict.action is Action.BLOCK
        if not is_drop and (Keyword.CLASSIFY_ALLOW not in self.keywords or layer.base not in _AUDITS):
            return None
        direction = _direction(indication)
        if not self._wants(indication, direction, is_drop=is_drop):
            return None
        audits = _AUDITS.get(layer.base, (PACKET_DROPPED, PACKET_DROPPED))
        event = NetEvent(
            time=indication.time,
            type=EventType.CLASSIFY_DROP if is_drop else EventType.CLASSIFY_ALLOW,
            indication=indication,
            filter_id=verdict.filter.id if verdict.filter else 0,
            direction=direction,
            is_loopback=bool(_number(indication, "FLAGS") & Flag.IS_LOOPBACK),
            reauthorize_reason=_number(indication, "REAUTHORIZE_REASON"),
            audit=VETO if verdict.veto else audits[is_drop],
            terminating=tuple(
                (told.sublayer.name, told.decided.id, told.action)
                for told in verdict.sublayers
                if told.decided is not None and told.action is not None
            ),
        )
        if len(self._events) == self._events.maxlen:
            self.lost += 1
        self._events.append(event)
        for listener in self._listeners:
            listener(event)
        return event

    def _wants(self, indication: Indication, direction: Direction, *, is_drop: bool) -> bool:
        if is_drop and indication.layer.base in _PORT_SCAN:
            return Keyword.PORT_SCANNING_DROP in self.keywords
        if direction is not Direction.IN:
            return True
        kind = _number(indication, "IP_LOCAL_ADDRESS_TYPE")
        if kind == AddressType.MULTICAST:
            return Keyword.INBOUND_MCAST in self.keywords
        return kind != AddressType.BROADCAST or Keyword.INBOUND_BCAST in self.keywords

    def events(self, wanted: Callable[[NetEvent], bool] = lambda _: True) -> Iterator[NetEvent]:
        """Return the events that are *wanted*, oldest first. Raises RefusedError (NET_EVENTS_DISABLED)."""
        if not self.is_collecting:
            raise RefusedError(FwpError.NET_EVENTS_DISABLED, "net events", "none are collected", "turn collecting on")
        return iter([event for event in self._events if wanted(event)])

    def subscribe(self, listener: Callable[[NetEvent], None]) -> Callable[[], None]:
        """Have *listener* called with every event from now on; calling what is returned ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def _number(indication: Indication, name: str) -> int:
    value: Value | None = indication.values.get(name)
    return value.data if value is not None and isinstance(value.data, int) else 0


def _direction(indication: Indication) -> Direction:
    base = indication.layer.base
    if base.startswith("IPFORWARD"):
        return Direction.FORWARD
    if "DIRECTION" in indication.values:
        return Direction.IN if _number(indication, "DIRECTION") else Direction.OUT
    return Direction.IN if base.startswith(_INBOUND) else Direction.OUT
