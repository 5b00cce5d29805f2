"""What sources do, so that limits can be chosen: the most that each did at once or within a period.

Fed with TCP segments in the order of their times, from wherever they come. A source is who sends a SYN, whole or by
its prefix; per source the greatest value of each counted thing is kept:

    new         SYNs of new connections within the period
    concurrent  connections at once: from the handshake's last ACK to the first RST or both FINs
    half_open   handshakes at once: from the SYN to that ACK, a RST, or GIVE_UP_S
    ports       distinct destination ports tried within the period
    closed      SYNs that were answered with RST within the period

Worked example: one source opens A, B and C within a second, and closes A before it opens D: new 4 over 10 s,
concurrent 3. A limit of concurrent 3 touches it not; 2 does.

`touching` says which limit would have touched a share of the sources: of 1,000 sources of which 999 stay below 20 and
one reaches 400, concurrent 19 touches 0.1 %. Cost: O(1) a segment, amortised; memory O(sources + connections).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

from layergate.ale.counting import GIVE_UP_S
from layergate.model.limits import Counted

COUNTED: Final = (Counted.NEW, Counted.CONCURRENT, Counted.HALF_OPEN, Counted.PORTS, Counted.CLOSED)
SHARES: Final = (0.0, 0.001, 0.01)
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

Ends = tuple[Hashable, int, Hashable, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A TCP segment: *sender* and *receiver* are address and port, *flags* the header's byte."""

    time: float
    sender: tuple[Hashable, int]
    receiver: tuple[Hashable, int]
    flags: int


@dataclass(slots=True)
class _Source:
    connections: int = 0
    handshakes: int = 0
    times: deque[float] = field(default_factory=deque)
    refused: deque[float] = field(default_factory=deque)
    ports: OrderedDict[int, float] = field(default_factory=OrderedDict)
    most: dict[Counted, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    def note(self, what: Counted, count: int) -> None:
        self.most[what] = max(self.most[what], count)


@dataclass(slots=True)
class _Flow:
    source: Hashable
    began: float
    is_established: bool = False
    answered: bool = False
    fins: int = 0  # bit 0: the client's, bit 1: the server's


class Calibration:
    """The distributions. *over_s* is the period, in seconds."""

    def __init__(self, over_s: float) -> None:
        self.over_s = over_s
        self.segments = 0
        self.first: float | None = None
        self.last = 0.0
        self._sources: dict[Hashable, _Source] = {}
        self._flows: dict[Ends, _Flow] = {}
        self._begun: deque[tuple[float, Ends]] = deque()

    def segment(self, seen: Seen, source: Hashable) -> None:
        """Take a segment in; *source*: what its sender counts as."""
        time, flags = seen.time, seen.flags
        self.segments += 1
        self.first = time if self.first is None else self.first
        self.last = max(self.last, time)
        self._give_up(time)
        ends: Ends = (*seen.sender, *seen.receiver)
        if flags & SYN and not flags & ACK:
            self._syn(ends, source, time)
            return
        flow, bit = self._flows.get(ends), 1
        if flow is None:
            ends, bit = (*seen.receiver, *seen.sender), 2
            flow = self._flows.get(ends)
        if flow is None:
            return
        if flags & RST:
            if bit == 2 and not flow.answered:
                self._refused(flow, time)
            self._end(ends, flow)
        elif flags & SYN:
            flow.answered = True
        elif bit == 1 and flags & ACK and flow.answered and not flow.is_established:
            self._establish(flow)
        if flags & FIN and flow.is_established:
            flow.fins |= bit
            if flow.fins == 3:
                self._end(ends, flow)

    def most(self, what: Counted) -> list[int]:
        """Return, a source each, the greatest value of *what*, ascending."""
        return sorted(one.most[what] for one in self._sources.values())

    def _syn(self, ends: Ends, source: Hashable, time: float) -> None:
        known = self._flows.get(ends)
        if known is not None:
            if not known.is_established:
                return  # sent again
            self._end(ends, known)
        one = self._sources.setdefault(source, _Source())
        self._flows[ends] = _Flow(source, time)
        self._begun.append((time, ends))
        one.handshakes += 1
        one.note(Counted.HALF_OPEN, one.handshakes)
        one.note(Counted.NEW, _within(one.times, time, self.over_s))
        port = ends[3]
        one.ports.pop(port, None)
        one.ports[port] = time
        while next(iter(one.ports.values())) <= time - self.over_s:
            one.ports.popitem(last=False)
        one.note(Counted.PORTS, len(one.ports))

    def _establish(self, flow: _Flow) -> None:
        one = self._sources[flow.source]
        flow.is_established = True
        one.handshakes -= 1
        one.connections += 1
        one.note(Counted.CONCURRENT, one.connections)

    def _refused(self, flow: _Flow, time: float) -> None:
        one = self._sources[flow.source]
        one.note(Counted.CLOSED, _within(one.refused, time, self.over_s))

    def _end(self, ends: Ends, flow: _Flow) -> None:
        if self._flows.pop(ends, None) is None:
            return
        one = self._sources[flow.source]
        if flow.is_established:
            one.connections -= 1
        else:
            one.handshakes -= 1

    def _give_up(self, now: float) -> None:
        while self._begun and self._begun[0][0] + GIVE_UP_S <= now:
            began, ends = self._begun.popleft()
            flow = self._flows.get(ends)
            if flow is not None and flow.began == began and not flow.is_established:
                self._end(ends, flow)


def _within(times: deque[float], now: float, over_s: float) -> int:
    """Add *now* to *times*, forget what left the period, and return how many are in it."""
    times.append(now)
    while times[0] <= now - over_s:
        times.popleft()
    return len(times)


def touching(most: list[int], share: float) -> tuple[int, int]:
    """Return the least limit that touches at most *share* of the sources, and how many it touches.

    *most* ascending, one a source, not empty.
    """
    allowed = int(len(most) * share)
    limit = most[len(most) - 1 - allowed]
    return limit, sum(one > limit for one in most)


def buckets(most: Iterable[int]) -> list[tuple[int, int, int]]:
    """Return (least, greatest, sources) by powers of two, from the first that has a source to the last."""
    counts: dict[int, int] = {}
    for one in most:
        counts[one.bit_length()] = counts.get(one.bit_length(), 0) + 1
    if not counts:
        return []
    return [
        ((1 << bits - 1) if bits else 0, (1 << bits) - 1 if bits else 0, counts.get(bits, 0))
        for bits in range(min(counts), max(counts) + 1)
    ]
