"""`layergate rtt`: histograms of TCP's round trips, by remote address, local port or process, from the kernel's events.

Every round trip that the kernel measures is counted, in the kernel. Ends with Ctrl-C or after --seconds. Exit status 0;
1 where there was none.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from layergate.cli import output
from layergate.cli.states import add_bounds, ending_after
from layergate.cli.telling import Signals
from layergate.kernel import sockets_layout_generated as layout
from layergate.kernel.netns import own_cookie
from layergate.kernel.states import States
from layergate.sockets.histograms import Histogram, drawn, histogram_line, of_kernel
from layergate.sockets.round_trips import key_of

NAME: Final = "rtt"
HELP: Final = "histograms of TCP's round trips, by remote address, local port or process"
_BY: Final = {"all": layout.BY_ALL, "remote": layout.BY_REMOTE, "port": layout.BY_LOCAL_PORT,
              "process": layout.BY_PROCESS}  # fmt: skip
_LOOK_S: Final = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_bounds(parser)
    parser.add_argument("--by", choices=tuple(_BY), default="remote", help="what they are kept by (remote)")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Count until the end, then print."""
    end = ending_after(arguments.seconds)
    netns = 0 if arguments.all else own_cookie()
    with Signals() as asked, States(netns=netns, want=layout.WANT_ROUND_TRIPS, by=_BY[arguments.by]) as states:
        sys.stderr.write("layergate: watching\n")
        while not (asked.stop or asked.again) and time.monotonic() < end:
            time.sleep(min(_LOOK_S, max(end - time.monotonic(), 0)))
        found = {key_of(key, arguments.by): of_kernel(values) for key, values in states.histograms()}
        counts = states.counts()
    _print(found, counts, arguments)
    return 0 if found else 1


def _print(found: dict[str | int | None, Histogram], counts: dict[str, int], arguments: argparse.Namespace) -> None:
    for key, one in sorted(found.items(), key=lambda item: -item[1].count):
        if arguments.json:
            output.json_line(histogram_line("rtt", arguments.by, key, one))
        else:
            title = "all" if key is None else f"{arguments.by} {key}"
            sys.stdout.writelines(f"{output.harmless(line)}\n" for line in (*drawn(title, one), ""))
    total = sum(one.count for one in found.values())
    if arguments.json:
        output.json_line({"kind": "summary", "samples": total, "without_room": counts["no_room"]})
    else:
        left_out = f"; {counts['no_room']} left out: too many histograms" if counts["no_room"] else ""
        sys.stdout.write(f"{output.plural(total, 'round trip')}{left_out}\n")
