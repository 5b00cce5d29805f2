"""What a limit is: a filter's condition that is not a value but a count.

A filter with a limit matches where its conditions hold and the count of one thing, for the key that the indication
has, is past the limit. So it blocks, loses and is exempted like any filter; a heavier permit in its sublayer is an
exemption. Rules:

- One thing is counted (`Counted`), over one `Key`. A count includes the indication that asks: with `concurrent` 20 the
  21st is past it.
- Only TCP is counted. Limits stand at ALE_AUTH_RECV_ACCEPT and ALE_AUTH_CONNECT; at the latter, "remote" is the peer
  that is connected to.
- An attempt is counted by a limit filter when the filter is asked: its conditions hold, and nothing heavier ended its
  sublayer. What is blocked is no connection: it counts among what was tried (`PORTS`, `REMOTES`), and in nothing else.
- A `Ban` has the filter match whatever the count, until it ends.
- With `monitor` the filter never matches: what it would have done is only told.

Worked example: "no more than 20 at once from one address, and who tries more is out for ten minutes, for twenty the
second time, for a day at most":

    Limit(Key(Per.REMOTE_ADDRESS), Counted.CONCURRENT, 20, ban=Ban(600_000, up_to_ms=86_400_000))

Times are whole milliseconds: a policy's own, without rounding.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

PREFIX_V4_DEFAULT: Final = 24
PREFIX_V6_DEFAULT: Final = 64
V4_BITS: Final = 32
V6_BITS: Final = 128
COUNT_MAX: Final = (1 << 32) - 1
PERIOD_MS_MAX: Final = 86_400_000  # a day: a longer memory than a flood's
BAN_MS_MAX: Final = 365 * 86_400_000
LAYERS_WITH_LIMITS: Final = ("ALE_AUTH_RECV_ACCEPT", "ALE_AUTH_CONNECT")
LIMITS_MAX: Final = 32  # of one layer: what a walk can note as asked, in one word
NEAR: Final = (4, 5)
"""From this share of a limit on, a key is near it: 4 of 5."""


class Per(enum.StrEnum):
    """Over what is counted."""

    REMOTE_ADDRESS = "remote_address"
    REMOTE_PREFIX = "remote_prefix"
    REMOTE_ADDRESS_LOCAL_PORT = "remote_address+local_port"
    TUPLE = "tuple"
    """Both addresses and both ports: repeats of one connection, or the connection itself."""
    APP = "app"
    UNIT = "unit"
    ALL = "all"


class Counted(enum.StrEnum):
    """What is counted."""

    CONCURRENT = "concurrent"
    """Established connections, and those admitted that are half-open."""
    NEW = "new"
    """Connections admitted within the period."""
    HALF_OPEN = "half_open"
    """From the admitted SYN to establishment, reset or give-up."""
    CLOSED = "closed"
    """Attempts, within the period, at ports where nobody listens."""
    PORTS = "ports"
    """Distinct local ports tried within the period, open or closed."""
    REMOTES = "remotes"
    """Distinct remote endpoints tried within the period."""
    SLOW = "slow"
    """A connection that, after the grace, received fewer than so many bytes within the period."""
    EMPTY = "empty"
    """A connection that received nothing within the grace."""
    ABNORMAL = "abnormal"
    """Odd or retransmitted SYNs, resets and zero windows of one connection within the period."""

    @property
    def has_period(self) -> bool:
        """Whether it is counted over a period."""
        return self not in (Counted.CONCURRENT, Counted.HALF_OPEN, Counted.EMPTY)

    @property
    def is_of_one_connection(self) -> bool:
        """Whether a living connection gets past it by what it does, and is decided again then."""
        return self in (Counted.SLOW, Counted.EMPTY, Counted.ABNORMAL)


class Response(enum.StrEnum):
    """How those that are past a limit are blocked."""

    DROP = "drop"
    """The SYN is dropped; a connect fails."""
    REFUSE = "refuse"
    """The SYN is answered with RST; a connect fails with the filter's errno."""
    RESET = "reset"
    """Dropped, and the existing connections of the key end too, with RST."""


@dataclass(frozen=True, slots=True)
class Key:
    """Over what is counted. The prefix lengths say how much of a remote address counts; whole addresses: 32 and 128."""

    per: Per
    prefix_v4: int = V4_BITS
    prefix_v6: int = V6_BITS

    def __str__(self) -> str:
        """Return the key in words: remote_prefix /24 /64."""
        if self.per is Per.REMOTE_PREFIX:
            return f"{self.per} /{self.prefix_v4} /{self.prefix_v6}"
        return str(self.per)


@dataclass(frozen=True, slots=True)
class Ban:
    """How long a key that got past the limit is blocked; *up_to_ms*: doubling for repeaters up to that, 0 for never."""

    for_ms: int
    up_to_ms: int = 0

    def length_ms(self, repeats: int) -> int:
        """Return how long the next ban lasts, after *repeats* earlier ones that still count.

        Example: Ban(600_000, 3_600_000) bans for 10, 20, 40, 60, 60 minutes.
        """
        if not self.up_to_ms:
            return self.for_ms
        # 2^40 ms are 35 years: more than any ban, and no huge number on the way there.
        return min(self.for_ms << min(repeats, 40), self.up_to_ms)


@dataclass(frozen=True, slots=True)
class Limit:
    """A filter's limit.

    *count* is what may not be exceeded; 0 for SLOW and EMPTY, where a connection is past it or not. *over_ms* is the
    period, 0 where there is none; *grace_ms*, *bytes*: of SLOW and EMPTY. *connections*, of ABNORMAL: with so many
    connections past *count* within the period the key is past the limit; 0: each such connection is. *fair*, of
    CONCURRENT over ALL: when *count* is reached, only keys of this kind that hold more than their share are past it.

    *key* of a limit on one connection is whom a ban bans.
    """

    key: Key
    counted: Counted
    count: int = 0
    over_ms: int = 0
    grace_ms: int = 0
    bytes: int = 0
    connections: int = 0
    fair: Key | None = None
    response: Response = Response.DROP
    ban: Ban | None = None
    monitor: bool = False

    @property
    def is_of_one_connection(self) -> bool:
        """Whether a living connection is past it or not; with *connections* it is its key."""
        return self.counted.is_of_one_connection and not self.connections

    @property
    def threshold(self) -> int:
        """Return what a standing's count is compared with: *connections* where there are, else *count*."""
        return self.connections or self.count

    def __str__(self) -> str:
        """Return the limit in words: concurrent 20 per remote_address."""
        over = f" over {duration_words(self.over_ms)}" if self.over_ms else ""
        what = {
            Counted.SLOW: f"slow: fewer than {self.bytes} bytes{over} after {duration_words(self.grace_ms)}",
            Counted.EMPTY: f"empty for {duration_words(self.grace_ms)}",
        }.get(self.counted, f"{self.counted} {self.count}{over}")
        connections = f", {self.connections} such connections" if self.connections else ""
        fair = f", fair per {self.fair}" if self.fair else ""
        return f"{what}{connections} per {self.key}{fair}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key stands to a limit when an indication asks.

    *count* includes the indication; *limit* is what it is compared with (a fair share, where that holds); *is_past*:
    the count is above it, or the key is banned. *banned_until*: in the source's seconds, None for no ban. *key* is the
    key in words: an address, "10.0.0.0/24", "10.0.0.1 port 443", "/usr/bin/curl", "all".
    """

    count: int
    limit: int
    is_past: bool
    banned_until: float | None = None
    key: str = ""

    @property
    def is_near(self) -> bool:
        """Whether the count is near the limit, or past it."""
        return self.is_past or is_near(self.count, self.limit)


def is_near(count: int, limit: int) -> bool:
    """Whether *count* is within a fifth of *limit*."""
    return bool(limit) and count * NEAR[1] >= limit * NEAR[0]


UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def duration_words(milliseconds: int) -> str:
    """Return a time as a policy writes it, in the largest unit that is whole: 90000 -> "90s", 600000 -> "10m"."""
    unit = next((one for one, size in UNITS_MS.items() if milliseconds and milliseconds % size == 0), "s")
    return f"{milliseconds // UNITS_MS[unit]}{unit}"
