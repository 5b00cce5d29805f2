"""`layergate detach --all`: remove what a `run --pin` left in force, and control groups of traces that were killed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from layergate.cli import output
from layergate.kernel.cgroups import Hierarchy
from layergate.live import pinning

NAME: Final = "detach"
HELP: Final = "remove what run --pin left in force"

_OWN_GROUPS: Final = "lg-trace-"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--all", action="store_true", required=True, help="everything that was pinned")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Detach."""
    hierarchy = Hierarchy()
    removed = 0
    for place in pinning.left():
        group = hierarchy.path_of(int(place.name)) if place.name.isdigit() else None
        alive = sorted({pinning.owner(name) for name in pinning.names(place)} - {0})
        count = pinning.remove(place)
        removed += count
        if not arguments.json and count:
            sys.stdout.write(f"detached {count} programs and maps of {group or 'a control group that is gone'}\n")
            for pid in alive:
                sys.stdout.write(f"process {pid} still enforces there, until it ends: its pins are removed\n")
    groups = 0
    for path in list(hierarchy.paths()):
        name = path.rpartition("/")[2]
        maker = name.removeprefix(_OWN_GROUPS)
        if name.startswith(_OWN_GROUPS) and maker.isdigit() and not Path(f"/proc/{maker}").exists():
            group_left = hierarchy.open(path)
            hierarchy.remove(group_left, keep_in=path.rpartition("/")[0] or "/")
            os.close(group_left.fd)
            groups += 1
    if arguments.json:
        output.json_line({"kind": "summary", "detached": removed, "cgroups_removed": groups})
    elif groups:
        sys.stdout.write(f"removed {output.plural(groups, 'control group')} of traces that were killed\n")
    elif not removed:
        sys.stdout.write("nothing was left attached\n")
    return 0
