"""Two connections over a channel that loses, duplicates and reorders: all by one seed.

    ours, theirs = Session(seed=1, loss=0.2).run()

Each end writes as there is room, reads at its own pace, sends its FIN when all is written, and lets go when all is
read. `run` returns when both are CLOSED; it raises where that doesn't happen, or where what was read isn't what was
written. Segments travel in their wire format.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from layergate.tcp import (
    LINUX,
    Config,
    Connection,
    End,
    Flag,
    Segment,
    State,
    compose_segment,
    parse_segment,
    reset_for,
)

ENDS: Final = (End(IPv4Address("192.0.2.1"), 49152), End(IPv4Address("192.0.2.2"), 80))
TIME_S_MAX: Final = 20_000.0
STEPS_MAX: Final = 100_000
SENDS: Final = (State.ESTABLISHED, State.CLOSE_WAIT)


@dataclass(slots=True)
class Side:
    """One end: what it is to write, and what it has read."""

    config: Config
    data: bytes
    read_bytes: int
    read_interval_s: float
    connection: Connection | None = None
    written: int = 0
    received: bytearray = field(default_factory=bytearray)
    is_finished: bool = False
    is_woken: bool = False
    failures: list[object] = field(default_factory=list)


class Session:
    """One session, from SYN to CLOSED. Probabilities are of each segment by itself; *delay_s* is the shortest."""

    def __init__(
        self,
        *,
        seed: int,
        loss: float = 0.0,
        duplication: float = 0.0,
        jitter_s: float = 0.0,
        delay_s: float = 0.01,
        sizes: tuple[int, int] = (20_000, 20_000),
        configs: tuple[Config, Config] = (LINUX, LINUX),
        read_bytes: tuple[int, int] = (65536, 65536),
        read_interval_s: float = 0.01,
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.duplication, self.jitter_s, self.delay_s = loss, duplication, jitter_s, delay_s
        self.now = 0.0
        self.steps = 0
        self._count = itertools.count()
        self._queue: list[tuple[float, int, int, bytes | None]] = []
        self.sides = tuple(
            Side(config, self.random.randbytes(size), count, read_interval_s)
            for config, size, count in zip(configs, sizes, read_bytes, strict=True)
        )

    def run(self) -> tuple[Side, Side]:
        """Play the session to its end."""
        client, server = self.sides
        client.connection = Connection.connect(client.config, *ENDS, sequence=self.random.getrandbits(32), now=self.now)
        self._wake(0)
        self._pump(0)
        while self._queue or not self._is_over:
            self._step()
        for side, other in ((client, server), (server, client)):
            assert side.failures == [], side.failures
            assert side.received == other.data, f"{len(side.received)} of {len(other.data)} bytes"
            assert side.connection is not None
            assert side.connection.unacknowledged == 0
        return client, server

    @property
    def _is_over(self) -> bool:
        return all(side.connection is not None and side.connection.state is State.CLOSED for side in self.sides)

    def _step(self) -> None:
        self.steps += 1
        assert self.steps < STEPS_MAX, "it goes round in circles"
        timers = [
            (due, number)
            for number, side in enumerate(self.sides)
            if side.connection is not None and (due := side.connection.poll_at()) is not None
        ]
        first = min(timers, default=None)
        if self._queue and (first is None or self._queue[0][0] <= first[0]):
            self.now, _, number, data = heapq.heappop(self._queue)
            if data is None:
                self._use(number)
            else:
                self._arrive(number, data)
        else:
            assert first is not None, "both wait for each other"
            assert first[0] > self.now or self.sides[first[1]].connection is not None
            self.now, number = max(self.now, first[0]), first[1]
        assert self.now < TIME_S_MAX, [side.connection and side.connection.state for side in self.sides]
        self._pump(number)

    def _at(self, time: float, number: int, data: bytes | None) -> None:
        heapq.heappush(self._queue, (time, next(self._count), number, data))

    def _wake(self, number: int) -> None:
        """The process at an end looks again, a little later."""
        side = self.sides[number]
        if not side.is_woken:
            side.is_woken = True
            self._at(self.now + side.read_interval_s * (0.5 + self.random.random()), number, None)

    def _use(self, number: int) -> None:
        """The process at an end reads, writes, and closes."""
        side = self.sides[number]
        side.is_woken = False
        connection = side.connection
        assert connection is not None
        side.received += connection.read(side.read_bytes, self.now)
        if connection.state in (*SENDS, State.SYN_SENT):
            rest = side.data[side.written : side.written + self.random.randint(1, 9000)]
            side.written += connection.write(rest)
        if side.written == len(side.data) and not side.is_finished and connection.state in SENDS:
            side.is_finished = True
            connection.shutdown_write(self.now)
        if side.is_finished and connection.has_ended and not connection.available:
            connection.close(self.now)
        elif connection.available or (side.written < len(side.data) and connection.room):
            self._wake(number)

    def _arrive(self, number: int, data: bytes) -> None:
        side = self.sides[number]
        segment = parse_segment(data, ENDS[1 - number].address, ENDS[number].address)
        assert isinstance(segment, Segment)
        if side.connection is None:
            if segment.flags == Flag.SYN:
                side.connection = Connection.accept(
                    side.config, ENDS[1], ENDS[0], segment, sequence=self.random.getrandbits(32), now=self.now
                )
                self._wake(number)
            elif (answer := reset_for(segment)) is not None:
                self._transmit(number, answer)
        else:
            side.connection.process(segment, self.now)
            self._wake(number)

    def _pump(self, number: int) -> None:
        side = self.sides[number]
        if side.connection is None:
            return
        for _ in range(10_000):
            segment = side.connection.dispatch(self.now)
            if segment is None:
                break
            self._transmit(number, segment)
        else:
            raise AssertionError("it never stops sending")
        due = side.connection.poll_at()
        assert due is None or due > self.now, "nothing is to be sent, and yet something is due"
        if side.connection.failure is not None and not side.failures:
            side.failures.append(side.connection.failure)

    def _transmit(self, number: int, segment: Segment) -> None:
        data = compose_segment(segment, ENDS[number].address, ENDS[1 - number].address)
        for _ in range(1 + (self.random.random() < self.duplication)):
            if self.random.random() >= self.loss:
                self._at(self.now + self.delay_s + self.random.random() * self.jitter_s, 1 - number, data)
