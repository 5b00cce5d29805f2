"""Rounds: each takes every variant once, in an order that turns, so that no variant has a place of its own."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.load import Load
from bench.place import Place
from bench.variants import PACKET_PROGRAMS, Attached, Sizes, Variant
from layergate.cli.telling import Signals
from layergate.kernel.libbpf import Command, bpf

NS_PER_S: Final = 1_000_000_000
ALL: Final = "all"  # a segment's four programs together
STATS_RUN_TIME: Final = 0  # BPF_STATS_RUN_TIME of enum bpf_stats_type

Sample = dict[str, float]
Sampler = Callable[[Place, Variant, Sizes], Sample]


def turned(variants: Sequence[Variant], number: int) -> list[Variant]:
    """Return *variants* in the order of round *number*: begun one later each round, backwards in every second turn."""
    place = number % len(variants)
    order = [*variants[place:], *variants[:place]]
    return order[::-1] if number // len(variants) % 2 else order


def one_round(
    place: Place, variants: Sequence[Variant], sampler: Sampler, sizes: Sizes, number: int, *, asked: Signals
) -> Sample:
    """Measure every variant once. Returns "variant.figure" → value. KeyboardInterrupt: the end is asked for."""
    result = {}
    for variant in turned(variants, number):
        asked.check()
        for figure, value in sampler(place, variant, sizes).items():
            result[f"{variant.name}.{figure}"] = value
    return result


def connections(place: Place, variant: Variant, sizes: Sizes) -> Sample:
    """Connections per second; of a tracing session, the records a connection too, and those lost."""
    with variant.attached(place) as attached, Load(place) as load:
        load.run("connect", sizes.warm_up, attached.attend)
        before = attached.statistics()
        elapsed_ns = load.run("connect", sizes.connections, attached.attend)
        after = attached.statistics()
    result = {"per_second": sizes.connections * NS_PER_S / elapsed_ns}
    if variant.trace:
        result["records"] = (after["written"] - before["written"]) / sizes.connections
        result["lost"] = after["lost"] - before["lost"]
    return result


def packets(place: Place, variant: Variant, sizes: Sizes) -> Sample:
    """Round trips per second of an established flow; then, while the kernel keeps account, ns a run of each program."""
    with variant.attached(place) as attached, Load(place) as load:
        load.run("exchange", sizes.warm_up, attached.attend)
        elapsed_ns = load.run("exchange", sizes.exchanges, attached.attend)
        result = {"per_second": sizes.exchanges * NS_PER_S / elapsed_ns}
        with accounting():
            before = accounts(attached)
            load.run("exchange", sizes.exchanges, attached.attend)
            after = accounts(attached)
    for name in PACKET_PROGRAMS if after else ():
        run_ns, runs = (new - old for new, old in zip(after[name], before[name], strict=True))
        result[f"{name}_ns"] = run_ns / runs
        result[f"{name}_runs"] = runs / sizes.exchanges
    if after:
        result[f"{ALL}_ns"] = sum(result[f"{name}_ns"] for name in PACKET_PROGRAMS)
    return result


@contextmanager
def accounting() -> Iterator[None]:
    """Have the kernel measure every run of every BPF program, for the time of a `with` block."""
    fd = bpf(Command.ENABLE_STATS, struct.pack("<I", STATS_RUN_TIME))
    try:
        yield
    finally:
        os.close(fd)


def accounts(attached: Attached) -> dict[str, tuple[int, int]]:
    """Return, of each program, how long it ran (ns) and how often."""
    result = {}
    for name, fd in attached.programs():
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        result[name] = int(facts["run_time_ns"]), int(facts["run_cnt"])
    return result
