"""Counting, exactly: what every limit of a policy is compared with. The reference for the kernel's counters.

A `Counter` is told what happens to connections and attempts, and when; asked at an indication, it says how the key
stands to a limit. Nothing here has a clock. Rules (`layergate.model.limits` has what is counted):

- An attempt is asked about within an `Asking`: what was asked and permitted is counted by every limit that was asked,
  once; what was blocked counts among what was tried (PORTS, REMOTES), and in nothing else.
- A connection counts as half-open until `established`, `closed`, or GIVE_UP_S after its SYN.
- Periods slide: what is exactly as old as the period has left it.
- A ban begins at the crossing. Who crosses again within as long as he had been banned, after the ban's end, is banned
  for twice as long, up to the limit's bound.
- Where nobody listens only CLOSED and PORTS are judged, and an attempt counts for CLOSED whatever comes of it.
- SLOW, EMPTY and ABNORMAL are about what a living connection does: who asks is past them by a ban alone, or where so
  many connections were ABNORMAL (`connections`). `living` and `abnormal` say which connections are past them.
- The counts of a limit belong to its filter's name and what it says: the next version of a policy goes on with them,
  and both families of one filter share them.
- Memory: a key with a connection is exact and never forgotten. Of the others OTHERS_MAX are kept a limit, the least
  recently asked is forgotten first; so whoever comes from a million addresses evicts his own kind. Of bans the same
  number is kept, of what one key did within a period as much as shows that it is past: a count says no more then.

Worked example. The period is 10 s, a limit of new connections and one of concurrent ones, and one source opens and
closes five connections: A from 1 to 4, B from 3 to 12, C from 6 to 18, D from 11 to 13, E from 16 to 25. In the first
period (0 to 10) three are new: A, B, C; in the second (10 to 20) two: D, E. Concurrent: 1 at 2 s (A), 2 at 3.5 (A, B),
1 at 5 (B), 2 at 7 (B, C), 3 at 11.5 (B, C, D), 1 at 14 (C), 2 at 17 (C, E), 1 at 19 (E). At 12 s, sliding, the new ones
of the last 10 s are B, C and D: 3, though two of them began in the first period.

Cost: O(1) an event and limit, amortised; fair shares too.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final

from layergate.ale.keys import Ident, ident_of, words
from layergate.ale.living import Progress
from layergate.ale.tallies import MS_PER_S, Tallies, Tally, next_ban, note, share
from layergate.model import Action, Filter, Indication
from layergate.model.limits import Counted, Limit, Standing

GIVE_UP_S: Final = 63.0  # five SYN-ACKs that nobody answers: 1 + 2 + 4 + 8 + 16 + 32
_TRIED: Final = {Counted.PORTS: ("IP_LOCAL_PORT",), Counted.REMOTES: ("IP_REMOTE_ADDRESS", "IP_REMOTE_PORT")}

_LOOKED_AT: Final = (Counted.SLOW, Counted.EMPTY)

LimitId = tuple[str, Limit]


class Change(enum.StrEnum):
    """What was told of a key."""

    PAST = "past"
    BANNED = "banned"
    UNBANNED = "ban over"


@dataclass(frozen=True, slots=True)
class Crossing:
    """A key got past the limit of *filter*, was banned, or its ban ended. *time*, *until*: the caller's seconds."""

    change: Change
    filter: Filter
    key: str
    count: int
    limit: int
    time: float
    until: float | None = None

    @property
    def words(self) -> str:
        """Return it as a sentence: 10.0.0.1 is past 'twenty at once': 21 with a limit of 20."""
        name = f"'{self.filter.name}'"
        if self.change is Change.UNBANNED:
            return f"the ban of {self.key} by {name} is over"
        what = f"is banned by {name}" if self.change is Change.BANNED else f"is past {name}"
        return f"{self.key} {what}: {self.count} with a limit of {self.limit}"


@dataclass(slots=True)
class _Asked:
    """A limit that was asked when a flow was admitted, and the flow's key there; what the flow has done since.

    *odd*: when it did what is not normal. *past*: since when it is past the limit by what it does.
    """

    counts: Tallies
    ident: Ident
    progress: Progress = field(default_factory=Progress)
    odd: deque[float] = field(default_factory=deque)
    past: float | None = None


@dataclass(slots=True)
class _Connection:
    """When a flow was admitted, who was asked, and which limits count it: their counts, key, key of fair shares."""

    admitted: float
    asked: list[_Asked] = field(default_factory=list)
    held: list[tuple[Tallies, Ident, Ident | None]] = field(default_factory=list)
    is_established: bool = False


class Counter:
    """The counts of one host.

    *tell* hears of every crossing, ban and end of a ban. Times that it is told must not go back.
    """

    def __init__(self, tell: Callable[[Crossing], None] | None = None) -> None:
        self._tell = tell
        self._counts: dict[LimitId, Tallies] = {}
        self._flows: dict[Hashable, _Connection] = {}
        self._admitted: deque[tuple[float, Hashable]] = deque()
        self._due: list[tuple[float, int, Tallies, Ident]] = []  # a heap: when a ban ends, and when it is forgotten
        self._pushed = 0
        self._looked_at = 0  # limits on what living connections do, over all connections that they count

    def asking(self, flow: Hashable, now: float, *, nobody: bool = False) -> Asking:
        """Return what to classify the first indication of *flow* with, or one that decides it again.

        *nobody*: nobody listens where it wants to get to.
        """
        self.advance(now)
        return Asking(self, flow, now, nobody=nobody)

    def established(self, flow: Hashable) -> None:
        """The handshake of *flow* is complete."""
        connection = self._flows.get(flow)
        if connection is None or connection.is_established:
            return
        connection.is_established = True
        for counts, ident, _ in connection.held:
            tally = counts.live[ident]
            del tally.half_open[flow]
            tally.established.add(flow)

    def closed(self, flow: Hashable) -> None:
        """The connection *flow* has ended: closed, reset, killed or moved to TIME_WAIT."""
        connection = self._flows.pop(flow, None)
        if connection is None:
            return
        self._looked_at -= sum(one.counts.limit.counted in _LOOKED_AT for one in connection.asked)
        for counts, ident, fair in connection.held:
            tally = counts.live[ident]
            tally.half_open.pop(flow, None)
            tally.established.discard(flow)
            counts.settle(ident, tally)
            if fair is not None:
                counts.shares[fair] -= 1
                if not counts.shares[fair]:
                    del counts.shares[fair]

    def living(self, received: Callable[[Hashable], int | None], now: float) -> list[tuple[Hashable, Filter]]:
        """Return the connections that are past a limit by how little they have received, from now on; and by which.

        *received* says how many bytes a connection has, None where it ends anyway.
        """
        found = []
        for flow, connection in self._flows.items():
            for one in connection.asked if connection.is_established else ():
                limit = one.counts.limit
                if limit.counted not in _LOOKED_AT or one.past is not None:
                    continue
                count = received(flow)
                if count is not None and one.progress.is_past(limit, connection.admitted, count, now):
                    one.past = now
                    self._crossed(one, count, limit.bytes, now)
                    found.append((flow, one.counts.filter))
        return found

    @property
    def looks(self) -> bool:
        """Whether there is a connection that `living` would judge."""
        return bool(self._looked_at)

    def abnormal(self, flow: Hashable, now: float) -> list[Filter]:
        """The peer of *flow* did something that is not normal: return by which limits the flow is past now."""
        self.advance(now)
        connection = self._flows.get(flow)
        found = []
        for one in connection.asked if connection else ():
            limit, over = one.counts.limit, one.counts.limit.over_ms / MS_PER_S
            if limit.counted is not Counted.ABNORMAL:
                continue
            count = note(one.odd, now, over, limit.count + 1)
            if count <= limit.count or (one.past is not None and now - one.past < over):
                continue
            one.past, allowed = now, limit.count
            if limit.connections:
                tally = one.counts.tally(one.ident)
                count, allowed = note(tally.times, now, over, limit.connections + 1), limit.connections
            if count > allowed:
                self._crossed(one, count, allowed, now)
                found.append(one.counts.filter)
        return found

    def sharing(self, item: Filter, indication: Indication) -> list[Hashable]:
        """Return the established connections that the limit of *item* counts and that have the key of *indication*."""
        assert item.limit is not None
        return self._sharing(self._of(item), ident_of(item.limit.key, indication.values))

    def sharing_with(self, item: Filter, flow: Hashable) -> list[Hashable]:
        """Return those that have the key of *flow*, which the limit of *item* counts too."""
        counts, connection = self._of(item), self._flows.get(flow)
        own = next((one for one in connection.asked if one.counts is counts), None) if connection else None
        return self._sharing(counts, own.ident) if own is not None else []

    def _sharing(self, counts: Tallies, ident: Ident) -> list[Hashable]:
        return [
            flow
            for flow, connection in self._flows.items()
            if connection.is_established
            and any(one.counts is counts and one.ident == ident for one in connection.asked)
        ]

    def advance(self, now: float) -> None:
        """Let time pass: bans end, handshakes are given up. Cost: O(log bans) for each that ended."""
        while self._due and self._due[0][0] <= now:
            due, _, counts, ident = heapq.heappop(self._due)
            ban = counts.bans.get(ident)
            if ban is None:
                continue
            if due == ban.until:
                name = words(counts.limit.key, ident)
                self._say(Crossing(Change.UNBANNED, counts.filter, name, 0, counts.limit.threshold, due))
                self._push(ban.forgotten_at, counts, ident)
            elif due == ban.forgotten_at:
                del counts.bans[ident]
        while self._admitted and self._admitted[0][0] + GIVE_UP_S <= now:
            admitted, flow = self._admitted.popleft()
            connection = self._flows.get(flow)
            # A tuple that was used again is another connection, whose time has not come.
            if connection is not None and connection.admitted == admitted and not connection.is_established:
                self.closed(flow)

    def held(self, item: Filter) -> Iterator[tuple[str, int]]:
        """Yield, of the limit of *item*, each key with a connection and how many it has."""
        assert item.limit is not None
        counts = self._of(item)
        for ident, tally in counts.live.items():
            yield words(item.limit.key, ident), tally.connections

    def size(self, item: Filter) -> int:
        """Return how many keys the limit of *item* remembers."""
        counts = self._of(item)
        return len(counts.live) + len(counts.others)

    def _crossed(self, one: _Asked, count: int, allowed: int, now: float) -> None:
        """A connection is past a limit by what it does: tell it, and ban its key where the limit bans."""
        counts, limit = one.counts, one.counts.limit
        name = words(limit.key, one.ident)
        if limit.ban is None or limit.monitor:
            self._say(Crossing(Change.PAST, counts.filter, name, count, allowed, now))
            return
        ban = counts.ban(one.ident, next_ban(limit, counts.bans.get(one.ident), now))
        self._push(ban.until, counts, one.ident)
        self._say(Crossing(Change.BANNED, counts.filter, name, count, allowed, now, ban.until))

    # --- for Asking ---------------------------------------------------------------------------------------------------

    def standing(
        self, item: Filter, indication: Indication, flow: Hashable, now: float, *, nobody: bool = False
    ) -> Standing:
        """Return how the key of *indication* stands to the limit of *item*; note what it tried, and a ban."""
        limit = item.limit
        assert limit is not None
        if nobody and limit.counted not in (Counted.CLOSED, Counted.PORTS):
            return Standing(0, limit.threshold, is_past=False)
        counts = self._of(item)
        ident = ident_of(limit.key, indication.values)
        tally = counts.tally(ident)
        if nobody and limit.counted is Counted.CLOSED:
            note(tally.times, now, limit.over_ms / MS_PER_S, limit.count + 1)
        count, allowed = self._count(counts, tally, indication, flow, now), limit.threshold
        if limit.fair is not None and count > allowed:
            held = self._flows[flow].held if flow in self._flows else ()
            is_known = any(one is counts for one, _, _ in held)
            count, allowed = share(counts, limit.fair, indication, is_known=is_known)
        ban = counts.bans.get(ident)
        is_banned = ban is not None and now < ban.until
        is_past = count > allowed
        name = words(limit.key, ident)
        if is_past and not is_banned and limit.ban is not None and not limit.monitor:
            ban = counts.ban(ident, next_ban(limit, ban, now))
            is_banned = True
            self._push(ban.until, counts, ident)
            self._say(Crossing(Change.BANNED, item, name, count, allowed, now, ban.until))
        elif is_past and not tally.is_past and not is_banned:
            self._say(Crossing(Change.PAST, item, name, count, allowed, now))
        tally.is_past = is_past
        until = ban.until if is_banned and ban is not None else None
        return Standing(count, allowed, is_past or is_banned, until, name)

    def admit(self, item: Filter, indication: Indication, flow: Hashable, now: float) -> None:
        """Count *flow*, which was permitted, by the limit of *item*."""
        limit = item.limit
        assert limit is not None
        counts = self._of(item)
        ident = ident_of(limit.key, indication.values)
        tally = counts.tally(ident)
        if limit.counted is Counted.NEW:
            note(tally.times, now, limit.over_ms / MS_PER_S, limit.count + 1)
        connection = self._flows.get(flow)
        if connection is None:
            connection = self._flows[flow] = _Connection(now)
            self._admitted.append((now, flow))
        if not any(one.counts is counts for one in connection.asked):
            connection.asked.append(_Asked(counts, ident))
            self._looked_at += limit.counted in _LOOKED_AT
        if limit.counted not in (Counted.CONCURRENT, Counted.HALF_OPEN):
            return
        if any(one is counts for one, _, _ in connection.held):
            return
        fair = ident_of(limit.fair, indication.values) if limit.fair else None
        connection.held.append((counts, ident, fair))
        if connection.is_established:
            tally.established.add(flow)
        else:
            tally.half_open[flow] = now
        if fair is not None:
            counts.shares[fair] = counts.shares.get(fair, 0) + 1
        counts.settle(ident, tally)

    def _count(self, counts: Tallies, tally: Tally, indication: Indication, flow: Hashable, now: float) -> int:
        limit = counts.limit
        since = now - limit.over_ms / MS_PER_S
        if limit.counted in (Counted.CONCURRENT, Counted.HALF_OPEN):
            known = flow in tally.half_open or flow in tally.established
            held = len(tally.half_open) if limit.counted is Counted.HALF_OPEN else tally.connections
            return held + (not known)
        if limit.counted in _TRIED:
            thing = tuple(getattr(indication.values.get(name), "data", None) for name in _TRIED[limit.counted])
            tally.tried.pop(thing, None)
            tally.tried[thing] = now
            while next(iter(tally.tried.values())) <= since or len(tally.tried) > limit.count + 1:
                tally.tried.popitem(last=False)
            return len(tally.tried)
        while tally.times and tally.times[0] <= since:
            tally.times.popleft()
        return len(tally.times) + (limit.counted is Counted.NEW and not indication.reauthorize)

    def _of(self, item: Filter) -> Tallies:
        assert item.limit is not None
        name = (item.name, item.limit)
        found = self._counts.get(name)
        if found is None:
            found = self._counts[name] = Tallies(item, item.limit)
        return found

    def _push(self, due: float, counts: Tallies, ident: Ident) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (due, self._pushed, counts, ident))

    def _say(self, crossing: Crossing) -> None:
        if self._tell is not None:
            self._tell(crossing)


class Asking:
    """The counts for one classification of *flow*, to be given to `engine.classify`: asks, and counts what passed."""

    def __init__(self, counter: Counter, flow: Hashable, now: float, *, nobody: bool = False) -> None:
        self._counter, self._flow, self._now, self._nobody = counter, flow, now, nobody
        self._asked: list[tuple[Filter, Indication]] = []

    def standing(self, item: Filter, indication: Indication) -> Standing:
        """Return how the key of *indication* stands to the limit of *item*."""
        self._asked.append((item, indication))
        return self._counter.standing(item, indication, self._flow, self._now, nobody=self._nobody)

    def settle(self, action: Action) -> None:
        """Say what came of it: a permitted attempt is counted by every limit that was asked."""
        if action is Action.PERMIT:
            for item, indication in self._asked:
                self._counter.admit(item, indication, self._flow, self._now)
