"""`layergate ls`: every TCP and UDP endpoint, with who holds it and how it fares.

Exit status: 0; 1 where filter words were given and nothing matches.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from typing import Final

from layergate.cli import output
from layergate.model.errors import InputError
from layergate.sockets import namespaces, plain

NAME: Final = "ls"
HELP: Final = "list the TCP and UDP endpoints: who holds them, in which state, how they fare"
TORN: Final = "layergate: the kernel's tables changed meanwhile: sockets may be missing or told twice\n"
_SWITCH_S: Final = 0.0002


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add what chooses endpoints: filter words and namespaces."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD",
        help="what holds: state:established port:443 app:nginx filter:web remote:10.0.0.0/8 rtt:>9ms !user:root /x/",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="those of every network namespace")
    parser.add_argument("--netns", metavar="NAME", help="those of this namespace (as ip netns names it, or pid:N)")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_selection(parser)
    parser.add_argument("--sort", metavar="COLUMN", help="sort by a column; -COLUMN: the greatest first")
    parser.add_argument("--wide", action="store_true", help="more columns: age, bytes, RTT, retransmissions, timer…")
    parser.add_argument(
        "--columns", metavar="A,B", help="these columns; one that there is not is answered with all that there are"
    )
    parser.add_argument("--watch", action="store_true", help="then print what changes, until Ctrl-C")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="how often --watch looks (1)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON Lines")
    form.add_argument("--csv", action="store_true", help="print CSV, as tcpvcon does")


def places(arguments: argparse.Namespace) -> Sequence[namespaces.Place]:
    """Return the namespaces that *arguments* choose. Raises InputError."""
    if arguments.all and arguments.netns:
        raise InputError("--all and --netns", "one of them")
    if arguments.netns:
        return (namespaces.named(arguments.netns),)
    return namespaces.every() if arguments.all else (namespaces.HERE,)


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    if not 0.05 <= arguments.interval <= 3600:
        raise InputError(f"--interval {arguments.interval}", "0.05 to 3600 seconds")
    chosen = places(arguments)
    if _is_plain(arguments, chosen):
        return _print_plain(chosen[0])
    # What makes endpoints, filters and columns of the list takes longer to load than to list a thousand sockets.
    from layergate.cli import listing  # noqa: PLC0415

    return listing.run(arguments, chosen)


def _is_plain(arguments: argparse.Namespace, chosen: Sequence[namespaces.Place]) -> bool:
    """Whether all is wanted, as it comes: then no endpoint has to be made of what the kernel tells."""
    special = ("words", "sort", "wide", "columns", "watch", "json", "csv", "all")
    return not any(getattr(arguments, name) for name in special) and len(chosen) == 1 and not output.is_coloured()


def _print_plain(place: namespaces.Place) -> int:
    gc.disable()
    # Whoever asks the kernel waits for whoever writes: not for 5 ms each time.
    sys.setswitchinterval(_SWITCH_S)
    sys.stdout.flush()
    if plain.write(place, sys.stdout.fileno()):
        sys.stderr.write(TORN)
    return 0
