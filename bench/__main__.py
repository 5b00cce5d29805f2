"""`python -m bench`: see the package. Exit status: 2 wrong use, 3 the machine can't, 130 interrupted."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import analysis, measure, simulation, sockets
from bench.place import Place
from bench.report import HISTORY, Report, append, stamp
from bench.variants import Sizes, for_connections, for_packets
from layergate.cli.telling import Signals
from layergate.model import NotSupportedError

UNABLE, INTERRUPTED = 3, 130
KERNEL, ANALYSIS, SIMULATION, SOCKETS = "kernel", "analysis", "simulation", "sockets"
QUICK: Final = Sizes(rounds=3, connections=100, exchanges=200, warm_up=20, connect_filters=50, transport=(10, 100))


def main() -> int:
    """Measure, print, append."""
    arguments = _arguments()
    sizes = QUICK if arguments.quick else Sizes()
    sizes = replace(sizes, rounds=arguments.rounds or sizes.rounds)
    history = arguments.history or (None if arguments.quick else HISTORY)
    if arguments.only == SOCKETS:
        return _sockets_alone(arguments, history)
    offline = _offline(arguments.only, quick=arguments.quick)
    if arguments.only in (ANALYSIS, SIMULATION):
        if history is not None:
            append({**stamp(), **offline}, history)
            print(f"\nappended to {os.path.relpath(history)}")
        return 0
    try:
        with Signals() as asked:
            report, loads = _measured(sizes, asked)
            listed = _listed(arguments, asked)
    except NotSupportedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNABLE
    except KeyboardInterrupt:
        print("\nbench: ended early; nothing is left, and nothing was appended", file=sys.stderr)
        return INTERRUPTED
    line = {**report.line(loads), **offline}
    print(f"{line['machine']}, Linux {line['kernel']}, load average {loads[0]:.2f} before and {loads[1]:.2f} after")
    print(report.text())
    print(f"\n{listed.text()}")
    line["sockets"] = listed.line()
    if history is not None:
        append(line, history)
        print(f"\nappended to {os.path.relpath(history)}")
    return 0


def _offline(only: str | None, *, quick: bool) -> dict[str, object]:
    """Measure and print what needs no kernel; return it for the history."""
    measured: dict[str, object] = {}
    if only in (None, ANALYSIS):
        engine = analysis.measured(analysis.COUNTS[:1] if quick else analysis.COUNTS)
        print(analysis.text(engine))
        measured[ANALYSIS] = [one.line() for one in engine]
    if only in (None, SIMULATION):
        simulated = simulation.measured(quick=quick)
        print(simulation.text(simulated))
        measured[SIMULATION] = [one.line() for one in simulated]
    return measured


def _listed(arguments: argparse.Namespace, asked: Signals) -> sockets.Listed:
    pairs, rounds = (500, 2) if arguments.quick else (sockets.PAIRS, sockets.ROUNDS)
    return sockets.measured(pairs, rounds, asked.check)


def _sockets_alone(arguments: argparse.Namespace, history: Path | None) -> int:
    try:
        with Signals() as asked:
            listed = _listed(arguments, asked)
    except NotSupportedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNABLE
    except KeyboardInterrupt:
        print("\nbench: ended early; nothing is left, and nothing was appended", file=sys.stderr)
        return INTERRUPTED
    print(listed.text())
    if history is not None:
        append({**stamp(), "sockets": listed.line()}, history)
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
        choices=(KERNEL, ANALYSIS, SIMULATION, SOCKETS),
        help="measure the kernel's side alone (root), the engine, the simulator, or the list of sockets (root)",
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
