"""What changed between two lists: endpoints that came, went, or changed their state, or their holder for another.

An endpoint stays the same while its ends do, so that the TIME_WAIT which takes a socket's place is a change of its
state and not a death and a birth; where it has no remote end, while its cookie does. A socket that nobody
holds is about to go, or changes its state: that alone is no change, for holders and sockets are not listed at one
moment.

Worked example: `changes([a], [a with state CLOSE_WAIT, b])` tells a, "changed", then b, "new".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from layergate.sockets.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Change:
    """*what*: "new", "changed", "gone". *was*: how it was, None where it is new."""

    what: str
    endpoint: Endpoint
    was: Endpoint | None = None


def changes(before: Iterable[Endpoint], now: Iterable[Endpoint]) -> Iterator[Change]:
    """Yield what came or changed, in the order of *now*, then what is gone."""
    old = {one.key: one for one in before}
    for one in now:
        was = old.pop(one.key, None)
        if was is None:
            yield Change("new", one)
        elif was.state != one.state or _pid(one) not in (None, _pid(was)):
            yield Change("changed", one, was)
    for one in old.values():
        yield Change("gone", one, one)


def _pid(one: Endpoint) -> int | None:
    process = one.process
    return process.pid if process else None
