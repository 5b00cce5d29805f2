"""`layergate states`: each change of a TCP socket's state, with the time spent in the old one, by the kernel's events.

Ends with Ctrl-C, after --seconds, or when standard output is closed. Exit status 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from layergate.cli import output
from layergate.cli.telling import Signals
from layergate.kernel.netns import own_cookie
from layergate.kernel.states import States
from layergate.model import InputError
from layergate.sockets.columns import time_words
from layergate.sockets.filters import Filter, parse
from layergate.sockets.histograms import Histogram, drawn, histogram_line
from layergate.sockets.transitions import Transition, transition_line

NAME: Final = "states"
HELP: Final = "tell each change of a TCP socket's state, with the time spent in the old one and whose it is"
_LOOK_S: Final = 0.2
_COLOURS: Final = {"ESTABLISHED": "green", "CLOSE_WAIT": "yellow", "CLOSED": "dim"}
_KEYS: Final[dict[str, Callable[[Transition], str]]] = {
    "state": lambda one: one.was,
    "remote": lambda one: f"{one.was} {one.remote_address or '-'}",
    "port": lambda one: f"{one.was} {one.local_port}",
    "process": lambda one: f"{one.was} {_who(one) or '-'}",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD",
        help="what must hold, as for ls; state: holds of the state that is left and of the one that is entered",
    )  # fmt: skip
    add_bounds(parser)
    parser.add_argument("--histogram", action="store_true", help="no lines, but histograms of the times in the end")
    parser.add_argument("--by", choices=tuple(_KEYS), default="state", help="what the histograms are kept by (state)")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """Add what `states` and `rtt` share: for how long, and where."""
    parser.add_argument("--seconds", type=float, metavar="N", help="end after N seconds")
    parser.add_argument("--all", action="store_true", help="every network namespace; else the one that we are in")


def ending_after(seconds: float | None) -> float:
    """Return when to end, by time.monotonic. Raises InputError."""
    if seconds is None:
        return float("inf")
    if not 0 < seconds <= 1e9:
        raise InputError(f"--seconds {seconds:g}", "a number above 0")
    return time.monotonic() + seconds


def run(arguments: argparse.Namespace) -> int:
    """Tell them."""
    wanted = parse(arguments.words, _text)
    if wanted.needs_details:
        raise InputError(
            "words that compare figures", "states, ports, addresses, processes: an event has no such figures"
        )
    end = ending_after(arguments.seconds)
    histograms: dict[str, Histogram] = {}
    with Signals() as asked, States(netns=0 if arguments.all else own_cookie()) as states:
        for error in states.refused:
            sys.stderr.write(f"layergate: warning: accepted sockets are told as their listener's: {error}\n")
        sys.stderr.write("layergate: watching\n")
        for told in _each(states, wanted, asked, end, arguments):
            if arguments.histogram:
                if told.spent_s is not None:
                    key = _KEYS[arguments.by](told)
                    histograms.setdefault(key, Histogram()).add(round(told.spent_s * 1e6))
            elif arguments.json:
                output.json_line(transition_line(told))
            else:
                sys.stdout.write(_row(told) + "\n")
        counts = states.counts()
    _conclude(histograms, counts, arguments)
    return 0


def _each(
    states: States, wanted: Filter, asked: Signals, end: float, arguments: argparse.Namespace
) -> Iterator[Transition]:
    """Yield what is told and wanted, until the end is asked for; nothing that has happened by then is left out."""
    began_ns = time.monotonic_ns()
    if not (arguments.json or arguments.histogram):
        sys.stdout.write(output.paint(_HEAD, "dim") + "\n")
    over = False
    while not over:
        sys.stdout.flush()
        over = bool(asked.stop or asked.again) or time.monotonic() >= end
        if not over:
            states.ring.wait(min(_LOOK_S, max(end - time.monotonic(), 0)))
        for record in states.transitions():
            told = Transition(record, began_ns)
            if not wanted.tests or wanted(told) or wanted(told.leaving):
                yield told


_HEAD: Final = f"{'SECONDS':>12}  {'SPENT':>7}  {'FROM':<12}    {'TO':<12}  LOCAL, REMOTE, PROCESS"


def _row(told: Transition) -> str:
    spent = time_words(told.spent_s) or "?"
    ends = f"{told.local}  {told.remote or '-'}"
    row = f"{told.time:12.6f}  {spent:>7}  {told.was:<12} → {told.to:<12}  {ends}  {_who(told)}"
    row = output.harmless(row.rstrip())
    return output.paint(row, _COLOURS[told.to]) if told.to in _COLOURS else row


def _who(told: Transition) -> str:
    if not told.pid:
        return ""
    return f"{told.name}[{told.pid}]" + (" (not accepted yet)" if told.is_unaccepted else "")


def _text(one: object) -> str:
    assert isinstance(one, Transition)
    return f"{one.was} {one.to} {one.local} {one.remote or ''} {_who(one)}"


def _conclude(histograms: dict[str, Histogram], counts: dict[str, int], arguments: argparse.Namespace) -> None:
    for key, one in sorted(histograms.items(), key=lambda item: -item[1].count):
        if arguments.json:
            output.json_line(histogram_line("state", arguments.by, key, one))
        else:
            sys.stdout.writelines(f"{line}\n" for line in (*drawn(key, one), ""))
    if arguments.json:
        output.json_line({"kind": "summary", "transitions": counts["told"], "losses": counts["lost"]})
    else:
        sys.stdout.write(f"{output.plural(counts['told'], 'change')}; {counts['lost']} lost\n")
