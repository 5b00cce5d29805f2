"""What a living connection does, judged by how much it has received: nothing within its grace, or too little since.

Example: `slow = { bytes = 500, over = "10s", grace = "5s" }`, begun at 0. Told 0 bytes at 5, 3 at 6, 13 at 15: from 5
to 15 there came 13, fewer than 500: past it. Told 2,000 at 7 it would not be, until 10 s go by with fewer than 500
more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from layergate.model.limits import Counted, Limit

LOOK_S: Final = 1.0  # how often connections are looked at
_SAMPLES: Final = 16  # of a period
_MS_PER_S: Final = 1000


@dataclass(slots=True)
class Progress:
    """What one connection has received, as far as one limit asks: (time, bytes) within the period."""

    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def is_past(self, limit: Limit, began: float, received: int, now: float) -> bool:
        """Whether the connection, begun at *began* (seconds), is past *limit* with *received* bytes by *now*."""
        since_grace = began + limit.grace_ms / _MS_PER_S
        if now < since_grace:
            return False
        if limit.counted is Counted.EMPTY:
            return not received
        over, samples = limit.over_ms / _MS_PER_S, self._samples
        while len(samples) > 1 and samples[1][0] <= now - over:
            samples.popleft()
        if not samples or now - samples[-1][0] >= over / _SAMPLES:
            samples.append((now, received))
        since, before = samples[0]
        return now - since >= over and received - before < limit.bytes
