"""The simulator: segments a second of a transfer, and whole sessions a second.

Needs neither root nor a kernel. Both are set beside a floor in the same round: the same packets, composed and parsed
once each, with their checksums, and nothing else. No simulator that keeps to the wire's format costs less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from bench.analysis import policy_of
from layergate.model import Policy
from layergate.sim.host import Host
from layergate.sim.link import Link, LinkConfig
from layergate.sim.recording import Carried, Recording
from layergate.sim.world import Signal, World
from layergate.tcp.ip import Malformed, compose_packet, make_packet, parse_packet
from layergate.tcp.wire import compose_segment, parse_segment

ROUNDS: Final = 7
BYTES: Final = 4_000_000
SESSIONS: Final = 300
QUICK: Final = 20
"""By how much less is done where only whether it runs is asked."""
_ADDRESSES: Final = ("10.9.0.1", "10.9.0.2")
_PORT: Final = 80


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one variant: how many a second (segments, or sessions), and the time to that of the floor."""

    variant: str
    unit: str
    per_second: float
    to_floor: float

    def line(self) -> dict[str, Any]:
        """Return the figures for the history."""
        return {name: getattr(self, name) for name in ("variant", "unit")} | {
            "per_second": round(self.per_second, 1),
            "to_floor": round(self.to_floor, 3),
        }


class _Stage:
    """Two hosts on a link, under a policy."""

    def __init__(self, policy: Policy, *, keeps: bool) -> None:
        self.world, self.recording = World(), Recording(keeps=keeps)
        self.hosts = [Host(self.world, self.recording, name, policy=policy) for name in ("client", "server")]
        link = Link(self.world, self.recording, ("client", "server"), LinkConfig(delay_s=0.0005))
        for end, (host, address) in enumerate(zip(self.hosts, _ADDRESSES, strict=True)):
            host.plug(link, end, [f"{address}/24"])

    def run(self, *programs: Coroutine[Signal, None, None]) -> None:
        tasks = [self.world.spawn(program) for program in programs]
        self.world.run(stop=lambda: all(task.done for task in tasks))

    async def serve(self, count: int, answer: int) -> None:
        listener = self.hosts[1].program("/usr/sbin/server").tcp()
        listener.bind(_ADDRESSES[1], _PORT)
        listener.listen()
        for _ in range(count):
            accepted = await listener.accept()
            while await accepted.receive(1 << 20):
                if answer:
                    await accepted.send(bytes(answer))
            accepted.close()

    async def ask(self, count: int, size: int, answer: int) -> None:
        program = self.hosts[0].program("/usr/bin/client")
        for _ in range(count):
            client = program.tcp()
            await client.connect(_ADDRESSES[1], _PORT)
            await client.send(bytes(size))
            if answer:
                await client.receive(answer)
            client.close()


def measured(*, quick: bool = False) -> list[Figures]:
    """Measure every variant."""
    less = QUICK if quick else 1
    rounds = 3 if quick else ROUNDS
    variants = (
        ("nothing kept", Policy(), False),
        ("all kept", Policy(), True),
        ("1,000 filters", policy_of(1_000), False),
    )
    found = []
    for unit, count, size, answer in (("segments", 1, BYTES // less, 0), ("sessions", SESSIONS // less, 200, 2000)):
        packets = _packets(count, size, answer)
        done = len(packets) if unit == "segments" else count
        for name, policy, keeps in variants:
            spent = []
            for _ in range(rounds):
                least = _seconds(lambda packets=packets: _floor(packets))  # type: ignore[misc]
                stage = _Stage(policy, keeps=keeps)
                whole = _seconds(
                    lambda stage=stage, c=count, s=size, a=answer: stage.run(stage.serve(c, a), stage.ask(c, s, a))  # type: ignore[misc]
                )
                spent.append((whole, least))
            found.append(
                Figures(
                    variant=name,
                    unit=unit,
                    per_second=done / statistics.median(whole for whole, _ in spent),
                    to_floor=statistics.median(whole / least for whole, least in spent),
                )
            )
    return found


def _packets(count: int, size: int, answer: int) -> list[bytes]:
    """Return the packets of the run that is measured: they are the same each time."""
    stage = _Stage(Policy(), keeps=True)
    stage.run(stage.serve(count, answer), stage.ask(count, size, answer))
    return [entry.packet for entry in stage.recording.entries if isinstance(entry, Carried)]


def _floor(packets: list[bytes]) -> None:
    for data in packets:
        packet = parse_packet(data)
        assert not isinstance(packet, Malformed)
        segment = parse_segment(packet.payload, packet.source, packet.destination)
        assert not isinstance(segment, Malformed)
        payload = compose_segment(segment, packet.source, packet.destination)
        compose_packet(make_packet(packet.source, packet.destination, packet.protocol, payload))


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def text(figures: list[Figures]) -> str:
    """Return the table."""
    rows = [f"   {one.variant:<14}  {one.per_second:>10,.0f} {one.unit:<9} {one.to_floor:>9.2f}" for one in figures]
    head = "                      a second           to floor"
    title = "Simulator (medians; floor: the same packets composed and parsed once)"
    return "\n".join((title, head, *rows))
