"""Rows: what is known of each endpoint that is shown, from when it came until a moment after it has gone.

- A row is known by its socket's cookie. What came, changed or went is marked for `HOLD_S` seconds; what went stays so
  long, marked.
- Rates are known of the rows that are on the screen: they are asked for once a second, one by one.

Worked example: `take([a, b], now=0)`, then `take([b], now=2)`: a is "closing" until 5, then no row any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from layergate.sockets.endpoint import Endpoint
from layergate.sockets.subject import Subject
from layergate.sockets.tcp_info import TcpInfo
from layergate.sockets.transitions import Transition

HOLD_S: Final = 3.0
SAMPLES: Final = 30
HISTORY: Final = 12


@dataclass(slots=True)
class Watched:
    """What is known of a row that was on the screen: TCP's figures, and rates over the last samples, bytes/s."""

    info: TcpInfo | None = None
    time: float = 0.0
    sent: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    received: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    rtts_us: deque[int] = field(default_factory=lambda: deque(maxlen=SAMPLES * 4))

    def add(self, info: TcpInfo, now: float) -> None:
        """Take figures of the moment *now*."""
        if self.info is not None and now > self.time:
            seconds = now - self.time
            self.sent.append(max(info.bytes_sent - self.info.bytes_sent, 0) / seconds)
            self.received.append(max(info.bytes_received - self.info.bytes_received, 0) / seconds)
        if info.rtt_us:
            self.rtts_us.append(info.rtt_us)
        self.info, self.time = info, now


@dataclass(slots=True)
class Row:
    """*mark*: "new", "changed", "closing" or "". *until*: when the mark ends (a closing row with it)."""

    subject: Subject
    mark: str = ""
    until: float = 0.0
    watched: Watched | None = None


class Rows:
    """All rows, by cookie."""

    def __init__(self) -> None:
        self.by_cookie: dict[int, Row] = {}
        self.history: dict[int, deque[Transition]] = {}
        self._marked: set[int] = set()
        self._is_first = True

    def take(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Take a whole list: what is not in it is gone. Cost: 1 µs an endpoint."""
        gone = {cookie for cookie, row in self.by_cookie.items() if row.mark != "closing"}
        for one in endpoints:
            cookie = one.cookie
            row = self.by_cookie.get(cookie)
            if row is None or row.mark == "closing":
                self.by_cookie[cookie] = row = Row(one)
                if not self._is_first:
                    self._mark(cookie, row, "new", now)
            elif row.subject.state != one.state:
                row.subject = one
                if row.mark != "new":
                    self._mark(cookie, row, "changed", now)
            else:
                row.subject = one
            gone.discard(cookie)
            one.forget()
        for cookie in gone:
            self._mark(cookie, self.by_cookie[cookie], "closing", now)
        self._is_first = False

    def change(self, event: Transition, now: float) -> None:
        """Take a change of state that the kernel told."""
        cookie = event.cookie
        history = self.history.setdefault(cookie, deque(maxlen=HISTORY))
        history.append(event)
        row = self.by_cookie.get(cookie)
        if event.to == "CLOSED":
            if row is not None and row.mark != "closing":
                self._mark(cookie, row, "closing", now)
            return
        if row is None:
            self.by_cookie[cookie] = row = Row(event)
            self._mark(cookie, row, "new", now)
            return
        row.subject = event
        if row.mark != "new":
            self._mark(cookie, row, "changed", now)

    def watch(self, cookie: int, info: TcpInfo, now: float) -> None:
        """Take the figures of a row that is on the screen."""
        row = self.by_cookie.get(cookie)
        if row is not None:
            row.watched = row.watched or Watched()
            row.watched.add(info, now)

    def expire(self, now: float) -> bool:
        """End the marks whose time is over; return whether any did."""
        over = [cookie for cookie in self._marked if self.by_cookie[cookie].until <= now]
        for cookie in over:
            self._marked.discard(cookie)
            row = self.by_cookie[cookie]
            if row.mark == "closing":
                del self.by_cookie[cookie]
                self.history.pop(cookie, None)
            else:
                row.mark = ""
        return bool(over)

    def count(self, mark: str) -> int:
        """Return how many rows have *mark*."""
        return sum(self.by_cookie[cookie].mark == mark for cookie in self._marked)

    def _mark(self, cookie: int, row: Row, mark: str, now: float) -> None:
        row.mark, row.until = mark, now + HOLD_S
        self._marked.add(cookie)
