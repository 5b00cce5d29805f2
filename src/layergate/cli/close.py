"""`layergate close`: end connections from outside: both ends are told, at once. Filter words choose them.

Exit status: 0 all are closed; 1 nothing matches, or some could not be closed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

from layergate.cli import output
from layergate.cli.login import login_of
from layergate.cli.ls import add_selection, places
from layergate.model import InputError
from layergate.sockets import columns, table
from layergate.sockets.closing import GONE, Closed, close, plan
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.filters import only, parse
from layergate.sockets.lines import endpoint_line
from layergate.sockets.units import Units

NAME: Final = "close"
HELP: Final = "end connections, chosen by filter words: both ends are told"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_selection(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be closed, and close nothing")
    parser.add_argument("--listeners", action="store_true", help="listeners and unconnected sockets too")
    parser.add_argument("--login-too", action="store_true", help="also the remote login that you work over")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Close them."""
    if not arguments.words:
        raise InputError(
            "nothing says what to close", "filter words, as layergate ls takes them: state:close_wait app:x"
        )
    units = Units()
    wanted = parse(arguments.words, columns.row_text, units)
    chosen = places(arguments)
    detail = table.Detail.FULL if arguments.json or wanted.needs_details else table.Detail.PLAIN
    endpoints = only(table.read(table.Question(detail=detail), chosen).endpoints, wanted)
    planned = plan(
        endpoints, with_listeners=arguments.listeners, is_own=_nobody if arguments.login_too else _is_own_login()
    )
    if arguments.dry_run:
        told = [Closed(one, is_closed=False, why_not=one.why_not) for one in planned]
    else:
        told = list(close(planned, chosen))
    counts: Counter[str] = Counter()
    for one in told:
        counts[_outcome(one, is_dry=arguments.dry_run)] += 1
        _tell(one, arguments, units)
    _summarize(counts, arguments)
    failed = counts["failed"] > 0
    nothing = not (counts["closed"] or counts["gone"] or counts["would be closed"])
    return 1 if failed or nothing else 0


def _nobody(one: Endpoint) -> bool:
    del one
    return False


def _is_own_login() -> Callable[[Endpoint], bool]:
    """Return the test whether an endpoint is the remote login that we were started over."""
    login = login_of(None)
    if login is None:
        return _nobody
    ends = {(str(login.local), login.local_port, str(login.remote), login.remote_port)}

    def is_own(one: Endpoint) -> bool:
        return (one.local_address, one.local_port, one.remote_address, one.remote_port) in ends

    return is_own


def _outcome(one: Closed, *, is_dry: bool) -> str:
    if one.is_closed:
        return "closed"
    if one.planned.why_not is not None:
        return "left alone"
    if one.why_not == GONE:
        return "gone"
    return "would be closed" if is_dry else "failed"


def _tell(one: Closed, arguments: argparse.Namespace, units: Units) -> None:
    endpoint, outcome = one.planned.endpoint, _outcome(one, is_dry=arguments.dry_run)
    if arguments.json:
        output.json_line({**endpoint_line(endpoint, units), "outcome": outcome, "why_not": one.why_not})
        return
    why = f": {one.why_not}" if one.why_not else ""
    colour = {"closed": "green", "failed": "red"}.get(outcome, "dim")
    line = f"{outcome:<15}  {columns.row_text(endpoint)}{why}"
    sys.stdout.write(output.paint(output.harmless(line), colour) + "\n")


def _summarize(counts: Counter[str], arguments: argparse.Namespace) -> None:
    facts = {name: counts[name] for name in ("closed", "would be closed", "gone", "left alone", "failed")}
    if arguments.json:
        output.json_line({"kind": "summary", **{name.replace(" ", "_"): count for name, count in facts.items()}})
        return
    said = ", ".join(f"{count} {name}" for name, count in facts.items() if count)
    sys.stdout.write(f"{said or 'nothing matches'}\n")
