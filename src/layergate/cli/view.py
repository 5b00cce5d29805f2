"""`layergate view`: the list of connections as a terminal program. Needs Textual: the extra `view`.

Exit status 0; 2 where standard output is no terminal; 3 where Textual is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Final

from layergate.model import InputError, NotSupportedError

NAME: Final = "view"
HELP: Final = "watch the connections in a terminal program; close them, block their peers"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--policy", metavar="FILE", type=Path, help="the policy file that blocks are added to")


def run(arguments: argparse.Namespace) -> int:
    """Run it until q."""
    if importlib.util.find_spec("textual") is None:
        raise NotSupportedError("layergate view", "Textual is not installed", "pip install 'layergate[view]'")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("no terminal", "layergate ls, or ls --watch, prints the same without one")
    from layergate.tui.app import ViewApp  # noqa: PLC0415 - Textual is there only with the extra
    from layergate.tui.feed import Feed  # noqa: PLC0415

    feed = Feed(arguments.policy)
    try:
        ViewApp(feed).run()
    finally:
        feed.close()
    return 0
