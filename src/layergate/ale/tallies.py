"""What is kept of the keys of one limit: what each counts, its ban, its share; in bounded memory.

A key with a connection is never forgotten; of the others OTHERS_MAX are kept, the least recently asked is forgotten
first. Example: of 40,000 addresses that each tried once, the first 7,232 are forgotten; one with a connection is not.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from layergate.ale.keys import Ident, ident_of
from layergate.model import Filter, Indication
from layergate.model.limits import Key, Limit

OTHERS_MAX: Final = 32_768
MS_PER_S: Final = 1000


@dataclass(slots=True)
class BanInForce:
    """From *began* until *until*, the caller's seconds; *repeats*: how many bans came before that still count."""

    began: float
    until: float
    repeats: int = 0

    @property
    def forgotten_at(self) -> float:
        """When it makes nobody a repeater any more."""
        return self.until + (self.until - self.began)


@dataclass(slots=True)
class Tally:
    """What is known of one key of one limit. *half_open*: by flow, when it was admitted; the oldest first."""

    half_open: dict[Hashable, float] = field(default_factory=dict)
    established: set[Hashable] = field(default_factory=set)
    times: deque[float] = field(default_factory=deque)
    tried: OrderedDict[Hashable, float] = field(default_factory=OrderedDict)
    is_past: bool = False

    @property
    def connections(self) -> int:
        """How many connections the key has."""
        return len(self.half_open) + len(self.established)


@dataclass(slots=True)
class Tallies:
    """All that one limit counts: *live* keys have a connection; *shares*: by fair key, how many they hold."""

    filter: Filter
    limit: Limit
    live: dict[Ident, Tally] = field(default_factory=dict)
    others: OrderedDict[Ident, Tally] = field(default_factory=OrderedDict)
    bans: dict[Ident, BanInForce] = field(default_factory=dict)
    shares: dict[Ident, int] = field(default_factory=dict)

    def tally(self, ident: Ident) -> Tally:
        """Return the tally of *ident*, a new one where nothing is known of it."""
        found = self.live.get(ident)
        if found is not None:
            return found
        found = self.others.get(ident)
        if found is None:
            found = self.others[ident] = Tally()
            if len(self.others) > OTHERS_MAX:
                self.others.popitem(last=False)
        else:
            self.others.move_to_end(ident)
        return found

    def ban(self, ident: Ident, ban: BanInForce) -> BanInForce:
        """Keep *ban*; where there are too many the oldest is forgotten."""
        self.bans.pop(ident, None)
        self.bans[ident] = ban
        if len(self.bans) > OTHERS_MAX:
            del self.bans[next(iter(self.bans))]
        return ban

    def settle(self, ident: Ident, tally: Tally) -> None:
        """Put *tally* where it belongs: among those with a connection, or among the others."""
        if tally.connections:
            self.others.pop(ident, None)
            self.live[ident] = tally
        elif self.live.pop(ident, None) is not None:
            self.others[ident] = tally
            if len(self.others) > OTHERS_MAX:
                self.others.popitem(last=False)


def note(times: deque[float], now: float, over_s: float, most: int) -> int:
    """Add *now* to *times*, of which those within the period are kept, *most* at most; return how many there are."""
    times.append(now)
    while times[0] <= now - over_s or len(times) > most:
        times.popleft()
    return len(times)


def share(counts: Tallies, fair: Key, indication: Indication, *, is_known: bool) -> tuple[int, int]:
    """Return how many connections the fair key holds, this one included, and its share of the total."""
    own = counts.shares.get(ident_of(fair, indication.values), 0)
    keys = len(counts.shares) + (not own)  # a key that has none yet is one more that shares
    return own + (not is_known), counts.limit.count // keys


def next_ban(limit: Limit, before: BanInForce | None, now: float) -> BanInForce:
    """Return the ban that begins *now*; *before*: the one before it, where it still counts."""
    assert limit.ban is not None
    repeats = before.repeats + 1 if before is not None and now < before.forgotten_at else 0
    return BanInForce(now, now + limit.ban.length_ms(repeats) / MS_PER_S, repeats)
