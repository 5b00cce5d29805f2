"""Links: two ends, and what happens to a packet between them.

A packet waits for its turn where the link has a rate, travels for the delay, and may be lost, doubled or held back so
that later ones overtake it. A cut link loses everything in both directions. All chance is the link's own.

Worked example: at 1,000,000 bytes a second with a delay of 10 ms, a packet of 1,000 bytes that is sent into an idle
link arrives 11 ms later; one sent at the same moment, 12 ms later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from layergate.sim.world import World

Receiver = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """How a link behaves, alike in both directions.

    Args:
        delay_s: from the end of sending to arrival.
        rate: bytes a second, None for no limit.
        loss: the share of packets that is lost, 0 to 1.
        duplication: the share that arrives twice.
        reordering: the share that is held back by *reordering_s*.
        reordering_s: for how long.
        queue_bytes_max: what may wait for its turn; what finds no room is lost.
    """

    delay_s: float = 0.0005
    rate: float | None = None
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reordering_s: float = 0.01
    queue_bytes_max: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class Carried:
    """A packet on a link: when it was sent, from which end (0 or 1), and whether it was *lost* on the way."""

    time: float
    end: int
    packet: bytes
    lost: bool


class Link:
    """A link between two ends, 0 and 1."""

    ENDS: Final = 2

    def __init__(self, world: World, name: str, config: LinkConfig | None = None) -> None:
        self.world, self.name, self.config = world, name, config or LinkConfig()
        self.is_cut = False
        self.carried: list[Carried] = []
        self.keeps_packets = True
        self._random = world.random(f"link {name}")
        self._receivers: list[Receiver | None] = [None] * self.ENDS
        self._free_at = [0.0] * self.ENDS

    def attach(self, end: int, receiver: Receiver) -> None:
        """Have what arrives at *end* given to *receiver*."""
        self._receivers[end] = receiver

    def transmit(self, end: int, packet: bytes) -> None:
        """Send *packet* from *end* to the other."""
        config, now = self.config, self.world.now
        begins = max(now, self._free_at[end])
        lost = self.is_cut or self._random.random() < config.loss
        if config.rate is not None:
            waiting_bytes = (begins - now) * config.rate
            lost = lost or waiting_bytes + len(packet) > config.queue_bytes_max
        if self.keeps_packets:
            self.carried.append(Carried(now, end, packet, lost))
        if lost:
            return
        if config.rate is not None:
            begins = self._free_at[end] = begins + len(packet) / config.rate
        arrives = begins + config.delay_s
        if config.reordering and self._random.random() < config.reordering:
            arrives += config.reordering_s
        self.world.at(arrives, lambda: self._deliver(1 - end, packet))
        if config.duplication and self._random.random() < config.duplication:
            self.world.at(arrives, lambda: self._deliver(1 - end, packet))

    def _deliver(self, end: int, packet: bytes) -> None:
        receiver = self._receivers[end]
        if receiver is not None and not self.is_cut:
            receiver(packet)
