"""The figures as tables, and as one line of the history."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.figures import Round, Spread, difference, ratio, spread
from bench.measure import ALL
from bench.variants import CONNECT, EMPTY, NONE, NOOP, PACKET_PROGRAMS, TRACE, Sizes, Variant

HISTORY: Final = Path(__file__).parent / "history.jsonl"
NS_PER_S: Final = 1_000_000_000
US_PER_S: Final = 1_000_000
_PROGRAM_TITLES: Final = {
    "egress": "lg_egress",
    "tcx_egress": "lg_tcx_egress",
    "tcx_ingress": "lg_tcx_ingress",
    "ingress": "lg_ingress",
    ALL: "all four: a segment over loopback, both ends",
}


class Report:
    """All that was measured: the rounds of connections and those of packets, and what they were taken with."""

    def __init__(self, sizes: Sizes, connecting: Sequence[Variant], exchanging: Sequence[Variant]) -> None:
        self.sizes, self._connecting, self._exchanging = sizes, connecting, exchanging
        self.connections: list[Round] = []
        self.packets: list[Round] = []

    def text(self) -> str:
        """Return the report for people."""
        sizes = self.sizes
        rounds = f"{len(self.connections)} rounds"
        records = self.connections[-1][f"{TRACE}.records"]
        lost = sum(one[f"{TRACE}.lost"] for one in self.connections)
        return "\n".join(
            (
                "Medians; of a ratio, which is formed within a round, also [the quartiles] and least–greatest.",
                "",
                f"1  Connections per second over loopback: {sizes.connections:,} a sample, {rounds}",
                *self._rates(self._connecting, self.connections),
                f"   a connection, traced: {records:.0f} records, {lost:.0f} lost in all",
                f"   a filter that is asked, once a connection: {_shown(self._filter_ns(), '.1f')} ns",
                "",
                f"2  Round trips per second of an established flow: {sizes.exchanges:,} a sample, {rounds}",
                *self._rates(self._exchanging, self.packets),
                "",
                "3  Nanoseconds a run of each program that a segment of that flow meets, by the kernel's own account",
                *self._programs(),
            )
        )

    def _rates(self, variants: Sequence[Variant], rounds: Sequence[Round]) -> list[str]:
        lines = [_row("", "per second", "µs each", "to no layergate", "to the floor")]
        for variant in variants:
            own = f"{variant.name}.per_second"
            rate = _of(rounds, own).median
            cells = [f"{rate:,.0f}", f"{US_PER_S / rate:.2f}"]
            if variant.name != NONE:
                cells.append(_shown(ratio(rounds, own, f"{NONE}.per_second"), ".3f"))
            if variant.name not in (NONE, NOOP):
                cells.append(_shown(ratio(rounds, own, f"{NOOP}.per_second"), ".3f"))
            lines.append(_row(_title(variant), *cells))
        return lines

    def _programs(self) -> list[str]:
        lines = [_row("", "ns", "over floor", "to the floor", "to no filters")]
        for program in (*PACKET_PROGRAMS, ALL):
            lines.append(f"   {_PROGRAM_TITLES[program]}")
            for variant in self._exchanging[1:]:
                own, floor, empty = (f"{name}.{program}_ns" for name in (variant.name, NOOP, EMPTY))
                cells = [f"{_of(self.packets, own).median:,.0f}"]
                if variant.name != NOOP:
                    cells.append(f"{difference(self.packets, own, floor).median:,.0f}")
                    cells.append(_shown(ratio(self.packets, own, floor), ".2f"))
                if variant.name not in (NOOP, EMPTY):
                    cells.append(_shown(ratio(self.packets, own, empty), ".3f"))
                lines.append(_row(f"  {_title(variant)}", *cells))
        return lines

    def _filter_ns(self) -> Spread:
        def one_filter(one: Round) -> float:
            with_filters, without = one[f"{CONNECT}.per_second"], one[f"{EMPTY}.per_second"]
            return (NS_PER_S / with_filters - NS_PER_S / without) / self.sizes.connect_filters

        return spread(self.connections, one_filter)

    def line(self, loads: Sequence[float]) -> dict[str, Any]:
        """Return the report as one line of the history; *loads* are the machine's load averages, before and after."""
        return {
            **stamp(),
            "load_average": [round(load, 2) for load in loads],
            "rounds": len(self.connections),
            "connections": {
                "count": self.sizes.connections,
                **self._rate_figures(self._connecting, self.connections),
                "filter_ns": self._filter_ns().rounded(),
                "trace_records": self.connections[-1][f"{TRACE}.records"],
                "trace_lost": sum(one[f"{TRACE}.lost"] for one in self.connections),
            },
            "exchanges": {"count": self.sizes.exchanges, **self._rate_figures(self._exchanging, self.packets)},
            "program_ns": {
                variant.name: {
                    program: _of(self.packets, f"{variant.name}.{program}_ns").rounded()
                    for program in (*PACKET_PROGRAMS, ALL)
                }
                for variant in self._exchanging[1:]
            },
        }

    def _rate_figures(self, variants: Sequence[Variant], rounds: Sequence[Round]) -> dict[str, Any]:
        result = {}
        for variant in variants:
            own = f"{variant.name}.per_second"
            result[variant.name] = {
                "per_second": _of(rounds, own).rounded(),
                "to_none": ratio(rounds, own, f"{NONE}.per_second").rounded(),
                "to_noop": ratio(rounds, own, f"{NOOP}.per_second").rounded(),
            }
        return result


def stamp() -> dict[str, Any]:
    """Return how a line of the history begins: when, of which commit, on which machine."""
    return {
        "kind": "bench",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **_commit(),
        "kernel": platform.release(),
        "machine": f"{os.cpu_count()} × {_processor()}",
    }


def append(line: dict[str, Any], path: Path) -> None:
    """Append *line* to the history in *path*: one write, nothing that stands there is touched."""
    with path.open("a", encoding="utf-8") as history:
        history.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _of(rounds: Sequence[Round], name: str) -> Spread:
    return spread(rounds, lambda one: one[name])


def _title(variant: Variant) -> str:
    return variant.title + (": the floor" if variant.name == NOOP else "")


def _row(title: str, first: str, second: str = "", third: str = "", fourth: str = "") -> str:
    return f"   {title:44}{first:>10}  {second:>10}   {third:31}   {fourth}".rstrip()


def _shown(value: Spread, form: str) -> str:
    median, q1, q3, least, greatest = (
        format(one, form) for one in (value.median, value.q1, value.q3, value.min, value.max)
    )
    return f"{median} [{q1}–{q3}] {least}–{greatest}"


def _commit() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", HISTORY.parent, *words], capture_output=True, text=True, check=False)
        return None if done.returncode else done.stdout.strip()

    # The history itself is always on its way to be committed.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude){HISTORY.name}")
    return {"commit": git("rev-parse", "--short=12", "HEAD"), "modified": bool(changed)}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
