"""`layergate windows`: what `netsh wfp` wrote on a Windows machine, read here.

    layergate windows show wfpstate.xml [--layer L] [--sublayer S] [--boot]
    layergate windows show filters.xml --state wfpstate.xml
    layergate windows events netevents.xml --state wfpstate.xml
    layergate windows connections wfpstate.xml

`show` lists filters in the order in which they are heard; `events` sets each net event beside what the filters decide
on the same values; `connections` asks them of the live connections. Exit status: 0 done, 2 wrong input.
"""

from __future__ import annotations

import argparse
from typing import Final

from layergate.cli import windows_events, windows_show
from layergate.cli.sources import load_dump

NAME: Final = "windows"
HELP: Final = "read what netsh wfp wrote on Windows: filters, net events, connections"

_STATE_HELP: Final = "a state of the same machine: gives what FILE lacks (sublayers, layers, filters)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the views and their options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.replace("`", "")
    views = parser.add_subparsers(metavar="VIEW", dest="view", required=True)
    show = views.add_parser("show", help="the filters, in the order in which they are heard", allow_abbrev=False)
    show.add_argument("--layer", help="only this layer, with or without its family")
    show.add_argument("--sublayer", help="only this sublayer, by its name or key")
    show.add_argument("--boot", action="store_true", help="what is heard before the engine runs")
    show.set_defaults(view_of=windows_show.run)
    events = views.add_parser("events", help="net events, and what the filters decide on them", allow_abbrev=False)
    events.set_defaults(view_of=windows_events.run_events)
    connections = views.add_parser(
        "connections", help="live connections, and what the filters decide on them", allow_abbrev=False
    )
    connections.set_defaults(view_of=windows_events.run_connections)
    for view in (show, events, connections):
        view.add_argument("file", metavar="FILE", help="what netsh wfp wrote")
        view.add_argument("--state", metavar="FILE", help=_STATE_HELP)
        view.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the view."""
    arguments.view_of(load_dump(arguments.file, arguments.state), arguments)
    return 0
