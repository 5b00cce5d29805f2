"""What a diagnosis looks at: the table, the kernel's counters and its settings, twice, some seconds apart.

Nothing here comes from the kernel by itself: `reading` fills it on a live host, a simulated one can fill it too.

Worked example: `evidence.grown("TcpExt", "ListenOverflows")` is how many connections a full accept queue turned away
between the two views.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from layergate.sockets.diagnosis.finding import Finding
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.owners import Facts

K = TypeVar("K")

Counters = Mapping[str, Mapping[str, int]]
"""By group (Tcp, TcpExt, Udp…) and name, as in /proc/net/snmp and netstat; sockstat's are `sockstat …`."""


@dataclass(frozen=True, slots=True)
class View:
    """The table and the counters at a moment. *time_s*: by any clock that goes on evenly."""

    time_s: float
    endpoints: tuple[Endpoint, ...]
    counters: Counters


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is called wrong.

    *patience_s*: how long a connection has to stand still to be stuck; *idle_s*: how long one may be silent without a
    probe; *count*: how many stuck connections are no accident; *flood*: half-open connections of a listener; *share*:
    of a port range, a limit; *loss*: the share of segments sent again; *short*: connections to one place that ended
    in a minute.
    """

    patience_s: float = 30.0
    idle_s: float = 7200.0
    count: int = 5
    flood: int = 64
    share: float = 0.8
    loss: float = 0.05
    loss_segments: int = 20
    short: int = 300
    rtt_factor: float = 5.0
    rtt_ms: float = 100.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two views, the settings (sysctl names without net., as text) and the limits."""

    before: View
    after: View
    settings: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of the second view."""
        return self.after.endpoints

    @property
    def seconds(self) -> float:
        """The time between the views."""
        return max(self.after.time_s - self.before.time_s, 1e-9)

    def tcp(self, *states: str) -> Iterator[Endpoint]:
        """Yield the TCP endpoints in one of *states*."""
        return (one for one in self.endpoints if one.protocol == "tcp" and one.state in states)

    def earlier(self) -> dict[int, Endpoint]:
        """Return the endpoints of the first view by cookie."""
        return {one.cookie: one for one in self.before.endpoints}

    def counter(self, group: str, name: str) -> int:
        """Return what a counter stands at; 0 where there is none."""
        return self.after.counters.get(group, {}).get(name, 0)

    def grown(self, group: str, name: str) -> int:
        """Return by how much a counter has grown between the views."""
        return self.counter(group, name) - self.before.counters.get(group, {}).get(name, 0)

    def number(self, setting: str, otherwise: int) -> int:
        """Return a setting as a number (the first, where it has several)."""
        return self.numbers(setting, (otherwise,))[0]

    def numbers(self, setting: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
        """Return a setting as numbers."""
        words = self.settings.get(setting, "").split()
        return tuple(map(int, words)) if words and all(word.lstrip("-").isdigit() for word in words) else otherwise


Rule = Callable[[Evidence], Iterable[Finding]]


def grouped(endpoints: Iterable[Endpoint], key: Callable[[Endpoint], K]) -> dict[K, list[Endpoint]]:
    """Return *endpoints* by *key*."""
    groups: dict[K, list[Endpoint]] = defaultdict(list)
    for one in endpoints:
        groups[key(one)].append(one)
    return dict(groups)


def by_process(endpoints: Iterable[Endpoint]) -> dict[Facts | None, list[Endpoint]]:
    """Return *endpoints* by the process that has them."""
    return grouped(endpoints, lambda one: one.process)


def seconds_words(seconds: float) -> str:
    """Return a time in whole seconds, as a sentence has it."""
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def counted(count: int, word: str) -> str:
    """Return "1 connection", "2 connections"."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def most_common(values: Iterable[str | None], limit: int = 3) -> str:
    """Return the commonest of *values* with their counts: "10.0.0.9 (12), 10.0.0.8 (3), 4 more"."""
    counts: dict[str, int] = defaultdict(int)
    for value in values:
        counts[value or "-"] += 1
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{value} ({count})" for value, count in first[:limit]]
    return ", ".join([*words, f"{len(first) - limit} more"] if len(first) > limit else words)
