"""`python -m bench`: see the package. Exit status: 2 wrong use, 3 the machine can't, 130 interrupted."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import analysis, classifier, measure
from bench.place import Place
from bench.report import HISTORY, Report, append, stamp
from bench.variants import Sizes, for_connections, for_packets
from layergate.cli.telling import Signals
from layergate.model import NotSupportedError

UNABLE, INTERRUPTED = 3, 130
KERNEL, ANALYSIS, CLASSIFIER = "kernel", "analysis", "classifier"
COUNTS: Final[tuple[int, ...]] = (1000, 10_000)
COUNTS_ALONE: Final[tuple[int, ...]] = (100, 1000, 10_000, 100_000)
QUICK: Final = Sizes(rounds=3, connections=100, exchanges=200, warm_up=20, connect_filters=50, transport=(10, 100))


def main() -> int:
    """Measure, print, append."""
    arguments = _arguments()
    sizes = QUICK if arguments.quick else Sizes()
    sizes = replace(sizes, rounds=arguments.rounds or sizes.rounds)
    history = arguments.history or (None if arguments.quick else HISTORY)
    tables: list[classifier.Figures] = []
    if arguments.only in (None, CLASSIFIER):
        try:
            tables = _classified(arguments)
        except NotSupportedError as error:
            print(f"bench: {error}", file=sys.stderr)
            return UNABLE
        if arguments.only == CLASSIFIER:
            if history is not None:
                append({**stamp(), "classifier": [one.line() for one in tables]}, history)
            return 0
    if arguments.only != KERNEL:
        offline = analysis.measured(analysis.COUNTS[:1] if arguments.quick else analysis.COUNTS)
        print(analysis.text(offline))
        if arguments.only == ANALYSIS:
            if history is not None:
                append({**stamp(), "analysis": [one.line() for one in offline]}, history)
                print(f"\nappended to {os.path.relpath(history)}")
            return 0
    try:
        with Signals() as asked:
            report, loads = _measured(sizes, asked)
    except NotSupportedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNABLE
    except KeyboardInterrupt:
        print("\nbench: ended early; nothing is left, and nothing was appended", file=sys.stderr)
        return INTERRUPTED
    line = report.line(loads)
    if arguments.only != KERNEL:
        line["analysis"] = [one.line() for one in offline]
    if tables:
        line["classifier"] = [one.line() for one in tables]
    print(f"{line['machine']}, Linux {line['kernel']}, load average {loads[0]:.2f} before and {loads[1]:.2f} after")
    print(report.text())
    if history is not None:
        append(line, history)
        print(f"\nappended to {os.path.relpath(history)}")
    return 0


def _classified(arguments: argparse.Namespace) -> list[classifier.Figures]:
    """Measure the classifier and print it. Raises NotSupportedError."""
    counts = COUNTS if arguments.only is None else COUNTS_ALONE
    shapes = classifier.SHAPES[:1] if arguments.quick else classifier.SHAPES
    tables = list(classifier.measured(COUNTS_ALONE[:1] if arguments.quick else counts, shapes))
    print(classifier.text(tables))
    return tables


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What layergate costs (root).")
    parser.add_argument("--rounds", type=_count, metavar="N", help=f"how many rounds (default: {Sizes().rounds})")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK.rounds} rounds of little: does it run? The figures mean nothing"
    )
    parser.add_argument(
        "--only",
        choices=(KERNEL, ANALYSIS, CLASSIFIER),
        help="measure the kernel's side alone (root), the reference engine, or the classifier up to 100,000 filters",
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
