"""`python -m bench`: see the package. Exit status: 2 wrong use, 3 the machine can't, 130 interrupted."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import analysis, classifier, guard, measure, rivals, simulation, sockets
from bench.place import Place
from bench.report import HISTORY, Report, append, stamp
from bench.variants import Sizes, for_connections, for_packets
from layergate.cli.telling import Signals
from layergate.model import NotSupportedError

UNABLE, INTERRUPTED = 3, 130
COUNTS: Final[tuple[int, ...]] = (1000, 10_000)
COUNTS_ALONE: Final[tuple[int, ...]] = (100, 1000, 10_000, 100_000)
QUICK: Final = Sizes(rounds=3, connections=100, exchanges=200, warm_up=20, connect_filters=50, transport=(10, 100))
QUICK_PAIRS, QUICK_ROUNDS = 500, 2

Part = Callable[[argparse.Namespace, Signals], dict[str, Any]]
"""Measures, prints a table, and returns what the history keeps of it."""


def _classifier(arguments: argparse.Namespace, asked: Signals) -> dict[str, Any]:
    del asked
    counts = COUNTS if arguments.only is None else COUNTS_ALONE
    shapes = classifier.SHAPES[:1] if arguments.quick else classifier.SHAPES
    tables = list(classifier.measured(COUNTS_ALONE[:1] if arguments.quick else counts, shapes))
    print(classifier.text(tables))
    return {"classifier": [one.line() for one in tables]}


def _rivals(arguments: argparse.Namespace, asked: Signals) -> dict[str, Any]:
    del asked
    found = list(rivals.measured(COUNTS_ALONE[:1], 1, 1000) if arguments.quick else rivals.measured(COUNTS))
    print(rivals.text(found))
    return rivals.line(found)


def _analysis(arguments: argparse.Namespace, asked: Signals) -> dict[str, Any]:
    del asked
    engine = analysis.measured(analysis.COUNTS[:1] if arguments.quick else analysis.COUNTS)
    print(analysis.text(engine))
    return {"analysis": [one.line() for one in engine]}


def _simulation(arguments: argparse.Namespace, asked: Signals) -> dict[str, Any]:
    del asked
    simulated = simulation.measured(quick=arguments.quick)
    print(simulation.text(simulated))
    return {"simulation": [one.line() for one in simulated]}


def _kernel(arguments: argparse.Namespace, asked: Signals) -> dict[str, Any]:
    sizes = QUICK if arguments.quick else Sizes()
    report, loads = _measured(replace(sizes, rounds=arguments.rounds or sizes.rounds), asked)
    line = report.line(loads)
    print(f"{line['machine']}, Linux {line['kernel']}, load average {loads[0]:.2f} before and {loads[1]:.2f} after")
    print(report.text())
    return line


def _sockets(arguments: argparse.Namespace, asked: Signals) -> dict[str, Any]:
    pairs, rounds = (QUICK_PAIRS, QUICK_ROUNDS) if arguments.quick else (sockets.PAIRS, sockets.ROUNDS)
    listed = sockets.measured(pairs, rounds, asked.check)
    print(f"\n{listed.text()}")
    return {"sockets": listed.line()}


def _guard(arguments: argparse.Namespace, asked: Signals) -> dict[str, Any]:
    del asked
    found = guard.measured(1, 2000) if arguments.quick else guard.measured()
    print(f"\n{found.text()}")
    return found.line()


PARTS: Final[Mapping[str, Part]] = {
    "classifier": _classifier,
    "rivals": _rivals,
    "analysis": _analysis,
    "simulation": _simulation,
    "kernel": _kernel,
    "sockets": _sockets,
    "guard": _guard,
}


def main() -> int:
    """Measure, print, append."""
    arguments = _arguments()
    history = arguments.history or (None if arguments.quick else HISTORY)
    line: dict[str, Any] = {}
    try:
        with Signals() as asked:
            for name, part in PARTS.items():
                if arguments.only in (None, name):
                    line |= part(arguments, asked)
    except NotSupportedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNABLE
    except KeyboardInterrupt:
        print("\nbench: ended early; nothing is left, and nothing was appended", file=sys.stderr)
        return INTERRUPTED
    if history is not None:
        append({**stamp(), **line}, history)
        print(f"\nappended to {os.path.relpath(history)}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What layergate costs (root).")
    parser.add_argument("--rounds", type=_count, metavar="N", help=f"how many rounds (default: {Sizes().rounds})")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK.rounds} rounds of little: does it run? The figures mean nothing"
    )
    parser.add_argument(
        "--only",
        choices=tuple(PARTS),
        help="measure one part alone; analysis and simulation need no root, classifier then goes up to 100,000 filters",
    )
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="append here (default: bench/history.jsonl; --quick: nowhere)"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _measured(sizes: Sizes, asked: Signals) -> tuple[Report, tuple[float, float]]:
    connecting, exchanging = for_connections(sizes), for_packets(sizes)
    report = Report(sizes, connecting, exchanging)
    before = os.getloadavg()[0]
    with Place() as place:
        for number in range(sizes.rounds):
            made = measure.one_round(place, connecting, measure.connections, sizes, number, asked=asked)
            report.connections.append(made)
            passed = measure.one_round(place, exchanging, measure.packets, sizes, number, asked=asked)
            report.packets.append(passed)
            rates = "  ".join(f"{one.name} {made[f'{one.name}.per_second']:,.0f}" for one in connecting)
            costs = "  ".join(f"{one.name} {passed[f'{one.name}.{measure.ALL}_ns']:,.0f}" for one in exchanging[1:])
            print(f"round {number + 1}/{sizes.rounds}  connections/s: {rates}  ns a segment: {costs}", file=sys.stderr)
    return report, (before, os.getloadavg()[0])


if __name__ == "__main__":
    sys.exit(main())
