"""`layergate guard`: who is nearest to a limit, who is banned, and which limits fit what sources do.

`top` redraws each second until Ctrl-C; with --json one snapshot. Exit status of `bans add` and `remove`: 1 where
nothing was done.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Final

from layergate.cli import calibrate, output
from layergate.guard import standing
from layergate.model import InputError
from layergate.model.limits import UNITS_MS

NAME: Final = "guard"
HELP: Final = "who is nearest to a limit, who is banned, which limits fit"
ROWS: Final = 20
REDRAW_S: Final = 1.0
_DURATION: Final = re.compile(rf"([0-9]{{1,9}})({'|'.join(UNITS_MS)})")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    top = verbs.add_parser("top", help="the keys that are nearest to a limit, again and again")
    top.add_argument("--json", action="store_true", help="print one snapshot as JSON Lines")
    top.add_argument("--rows", metavar="N", type=int, default=ROWS, help=f"how many (default: {ROWS})")
    calibrate.configure(verbs)
    bans = verbs.add_parser("bans", help="list, add or remove bans")
    bans.add_argument("do", choices=("list", "add", "remove"))
    bans.add_argument("key", metavar="ADDRESS", nargs="?", help="of a ban to add; a key as listed, to remove it")
    bans.add_argument("--for", dest="length", metavar="TIME", default="10m", help="how long (default: 10m)")
    bans.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Show, or change bans."""
    if arguments.what == "top":
        return _top(arguments)
    if arguments.what == "calibrate":
        live_s = _seconds(arguments.live) if arguments.live is not None else None
        return calibrate.run(arguments, _seconds(arguments.over), live_s)
    if arguments.do == "list":
        return _list(is_json=arguments.json)
    if arguments.key is None:
        raise InputError(f"whose ban to {arguments.do}?", f"layergate guard bans {arguments.do} 203.0.113.9")
    with ExitStack() as leave:
        runs = standing.opened(leave)
        if arguments.do == "add":
            count = standing.add(runs, arguments.key, _seconds(arguments.length))
            said = f"{arguments.key} is banned at {output.plural(count, 'limit')}"
            if not count:
                said = "no policy in force has a limit over remote addresses that bans"
        else:
            found = [(owner, ban) for owner, ban in standing.bans(runs) if ban.key == arguments.key]
            for owner, ban in found:
                owner.delete(ban.raw)
            count = len(found)
            said = f"{output.plural(count, 'ban')} of {arguments.key} removed"
    sys.stderr.write(f"layergate: {said}\n")
    return 0 if count else 1


def _top(arguments: argparse.Namespace) -> int:
    while True:
        with ExitStack() as leave:
            found = sorted(standing.rows(standing.opened(leave)), key=lambda row: -row.share)[: arguments.rows]
        if arguments.json:
            for row in found:
                output.json_line({"kind": "standing", **asdict(row)})
            return 0
        head = f"{'key':<44}  {'counted':<10}  {'count':>10}  {'limit':>10}  share"
        lines = [
            f"{row.key:<44}  {row.counted:<10}  {row.count:>10,}  {row.limit:>10,}  {row.share:>5.0%}" for row in found
        ]
        sys.stdout.write("\x1b[2J\x1b[H" * sys.stdout.isatty() + "\n".join((head, *lines)) + "\n")
        sys.stdout.flush()
        time.sleep(REDRAW_S)


def _list(*, is_json: bool) -> int:
    with ExitStack() as leave:
        found = sorted((ban for _, ban in standing.bans(standing.opened(leave))), key=lambda ban: ban.seconds_left)
    for ban in found:
        if is_json:
            output.json_line(
                {"kind": "ban", "filter": ban.filter, "key": ban.key, "seconds_left": round(ban.seconds_left, 3),
                 "repeats": ban.repeats}
            )  # fmt: skip
        else:
            sys.stdout.write(f"{ban.key:<44}  {ban.seconds_left:>10.1f} s left, after {ban.repeats} others\n")
    return 0


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if not found:
        raise InputError(f"'{text}' is no time", "a number and a unit: 30s, 10m, 1h")
    return int(found[1]) * UNITS_MS[found[2]] / 1000
