"""Links: two ends, and what happens to a packet between them.

A packet waits for its turn where the link has a rate, travels for the delay, and may be lost, doubled or held back so
that later ones overtake it. A cut link loses everything in both directions. All chance is the link's own.

Worked example: at 1,000,000 bytes a second with a delay of 10 ms, a packet of 1,000 bytes that is sent into an idle
link arrives 11 ms later; one sent at the same moment, 12 ms later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from layergate.sim.recording import Carried, Recording
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


class Link:
    """A link between two ends, 0 and 1, of the hosts *names*. What passes it is told to *recording*."""

    def __init__(
        self, world: World, recording: Recording, names: tuple[str, str], config: LinkConfig | None = None
    ) -> None:
        self.world, self.recording, self.names, self.config = world, recording, names, config or LinkConfig()
        self.is_cut = False
        self._random = world.random(f"link {' '.join(names)}")
        self._receivers: list[Receiver | None] = [None, None]
        self._free_at = [0.0, 0.0]

    def attach(self, end: int, receiver: Receiver) -> None:
        """Have what arrives at *end* given to *receiver*."""
        self._receivers[end] = receiver

    def transmit(self, end: int, packet: bytes) -> None:
        """Send *packet* from *end* to the other."""
        config, now = self.config, self.world.now
        begins = max(now, self._free_at[end])
        why = ""
        if self._random.random() < config.loss:
            why = "lost"
        if config.rate is not None and (begins - now) * config.rate + len(packet) > config.queue_bytes_max:
            why = "no room in the queue"
        if self.is_cut:
            why = "the link is cut"
        if why:
            self._tell(end, packet, None, why)
            return
        if config.rate is not None:
            begins = self._free_at[end] = begins + len(packet) / config.rate
        arrives = begins + config.delay_s
        if config.reordering and self._random.random() < config.reordering:
            arrives += config.reordering_s
        self._tell(end, packet, arrives, "")
        self.world.at(arrives, lambda: self._deliver(1 - end, packet))
        if config.duplication and self._random.random() < config.duplication:
            self._tell(end, packet, arrives, "twice")
            self.world.at(arrives, lambda: self._deliver(1 - end, packet))

    def _tell(self, end: int, packet: bytes, arrives: float | None, why: str) -> None:
        self.recording.tell(Carried(self.world.now, self.names[end], self.names[1 - end], packet, arrives, why))

    def _deliver(self, end: int, packet: bytes) -> None:
        receiver = self._receivers[end]
        if receiver is not None and not self.is_cut:
            receiver(packet)
