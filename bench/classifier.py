"""What the classifier costs: building, changing, memory, and a verdict in the kernel, in columns, in plain Python.

The kernel's figure is of test runs (bench/testrun.py): the mean of a run over 8,192 headers, the best of three, less
that of a program that does all but the walk, measured beside it. The list is our own linear form: one leaf with all
filters (up to LIST_MAX). Columns run on one processor.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeVar

import numba
import numpy as np

from bench.rulesets import APPS, FLAVOURS, HEADERS, Header, Ruleset, app
from bench.testrun import KernelClassifier
from layergate.backends import plain
from layergate.backends.columns import Columns, Texts
from layergate.compile import Compiled, Names, compile_layer, compile_policy
from layergate.engine import in_order
from layergate.model import Layer

SHAPES: Final = ((4, 1), (4, 4), (6, 1))  # family, sublayers
LIST_MAX: Final = 1000
RUNS: Final = 200_000
HEADER_COUNT: Final = 8192
REPEATED: Final = 32
PLAIN: Final = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figures:
    """One set: *kernel_ns*, *columns_per_us* (rows a microsecond and processor): by kind of header, as in HEADERS."""

    flavour: str
    filters: int
    family: int
    sublayers: int
    build_s: float
    update_s: float
    table_bytes: int
    walk_max: int
    kernel_ns: tuple[float, ...]
    worst_ns: float
    list_ns: float | None
    columns_per_us: tuple[float, ...]
    plain_us: float

    def line(self) -> dict[str, object]:
        """Return it for the history."""
        return asdict(self)


def measured(counts: Sequence[int], shapes: Sequence[tuple[int, int]] = SHAPES) -> Iterator[Figures]:
    """Measure every flavour at *counts* and *shapes*. Without root there are no figures of the kernel."""
    kernel = KernelClassifier() if os.geteuid() == 0 else None
    try:
        for count in counts:
            for flavour in FLAVOURS:
                for family, sublayers in shapes:
                    yield _measured(Ruleset(flavour, count, family, sublayers), kernel)
    finally:
        if kernel is not None:
            kernel.__exit__()


def _measured(rules: Ruleset, kernel: KernelClassifier | None) -> Figures:
    policy = rules.policy()
    compiled, build_s = _timed(lambda: compile_policy(policy))
    place = rules.count // 2
    fewer = replace(policy, filters=policy.filters[:place] + policy.filters[place + 1 :])
    _, update_s = _timed(lambda: compile_policy(fewer, compiled))
    table = compiled.tables[rules.layer.id]
    headers = {kind: list(rules.headers(kind, HEADER_COUNT)) for kind in HEADERS}
    keys = {kind: [table.layout.key(rules.values(one)) for one in found] for kind, found in headers.items()}
    in_kernel: tuple[float, ...] = ()
    worst_ns, list_ns = 0.0, None
    if kernel is not None:
        kernel.put(compiled)
        in_kernel = tuple(kernel_ns(kernel, rules.layer, keys[kind]) for kind in HEADERS)
        longest = max(
            (key for found in keys.values() for key in found),
            key=lambda key: plain.walk(table.steps, table.root, key, rules.sublayers).steps,
        )
        worst_ns = kernel_ns(kernel, rules.layer, [longest])
        if rules.count <= LIST_MAX:
            kernel.put(_as_list(rules, compiled))
            list_ns = kernel_ns(kernel, rules.layer, keys["uniform"])
    _, plain_s = _timed(
        lambda: [plain.walk(table.steps, table.root, key, rules.sublayers) for key in keys["uniform"][:PLAIN]]
    )
    return Figures(
        flavour=rules.flavour,
        filters=rules.count,
        family=rules.family,
        sublayers=rules.sublayers,
        build_s=build_s,
        update_s=update_s,
        table_bytes=table.table_bytes,
        walk_max=table.walk_max,
        kernel_ns=in_kernel,
        worst_ns=worst_ns,
        list_ns=list_ns,
        columns_per_us=tuple(columns_per_us(compiled, rules, headers[kind]) for kind in HEADERS),
        plain_us=plain_s / PLAIN * 1e6,
    )


def _timed(action: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = action()
    return result, time.perf_counter() - began


def kernel_ns(kernel: KernelClassifier, layer: Layer, keys: Sequence[Sequence[int]]) -> float:
    """Return the time that the table in force takes for each of *keys*, beyond a program that does nothing, ns."""
    kernel.load(layer, keys)
    floor = min(kernel.run("bench_nothing", RUNS) for _ in range(3))
    return min(kernel.run("bench_decide", RUNS) for _ in range(3)) - floor


def _as_list(rules: Ruleset, compiled: Compiled) -> Compiled:
    heard = [
        (compiled.sublayers.index(sublayer.name), item)
        for sublayer, filters in in_order(rules.policy()).at(rules.layer)
        for item in filters
    ]
    names = Names({name: dict(numbers) for name, numbers in compiled.names.by_field.items()})
    return replace(compiled, tables={rules.layer.id: compile_layer(rules.layer, heard, names, as_list=True)})


def columns_per_us(compiled: Compiled, rules: Ruleset, headers: Sequence[Header]) -> float:
    """Return how many rows of *headers* the columns decide in a microsecond, on one processor."""
    columns: dict[str, Any] = {}
    for name in headers[0]:
        numbers = [one[name] for one in headers]
        if name == "ALE_APP_ID":
            codes = np.tile(np.array(numbers, np.int32) - 1, REPEATED)
            columns[name] = Texts(codes, [app(number) for number in range(1, APPS + 1)])
        elif name.endswith("_ADDRESS") and rules.family == 6:
            columns[name] = np.tile(np.array([divmod(one, 1 << 64) for one in numbers], np.uint64), (REPEATED, 1))
        else:
            columns[name] = np.tile(np.array(numbers, np.uint32), REPEATED)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        tables = Columns(compiled)
        tables.decide(rules.layer, columns)
        best = min(_timed(lambda: tables.decide(rules.layer, columns))[1] for _ in range(3))
    finally:
        numba.set_num_threads(before)
    return len(headers) * REPEATED / best / 1e6


def text(figures: Sequence[Figures]) -> str:
    """Return the tables."""
    head = (
        "   set            filters  v  sublayers  build, s  change, s      MB  "
        "kernel, ns: uniform mixed skewed  worst   list  columns, M/s a core: the same  plain, µs"
    )
    lines = [
        "The classifier: building, one filter less, and a verdict (kernel: beyond a program that does nothing)",
        head,
    ]
    for one in figures:
        kernel = " ".join(f"{value:6.0f}" for value in one.kernel_ns) or "not root"
        listed = f"{one.list_ns:8,.0f}" if one.list_ns is not None else "       -"
        columns = " ".join(f"{value:5.1f}" for value in one.columns_per_us)
        lines.append(
            f"   {one.flavour:<12} {one.filters:>9,}  {one.family} {one.sublayers:>9}  {one.build_s:>8.2f}  "
            f"{one.update_s:>9.3f}  {one.table_bytes / 1e6:>6.2f}  {kernel:>20}  {one.worst_ns:>10.0f} {listed}  "
            f"{columns:>20}  {one.plain_us:>9.1f}"
        )
    for count in dict.fromkeys(one.filters for one in figures):
        cells = [ns for one in figures if one.filters == count and one.sublayers == 1 for ns in one.kernel_ns]
        rates = [rate for one in figures if one.filters == count and one.sublayers == 1 for rate in one.columns_per_us]
        kernel = f"kernel {statistics.median(cells):.0f} ns (worst {max(cells):.0f}), " if cells else ""
        lines.append(
            f"   median cell at {count:,}, one sublayer: {kernel}columns {statistics.median(rates):.1f} M/s a core"
        )
    return "\n".join(lines)
