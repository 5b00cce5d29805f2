"""`layergate doctor`: each layer, its hook, whether it is available on this machine; if not, why and what to do.

Exit status: 0 every layer that has a hook is available, 1 some are not, 3 none can be tried.
"""

from __future__ import annotations

import argparse
import platform
import sys
from typing import Final

from layergate.cli import output
from layergate.live.probe import Availability, probe

NAME: Final = "doctor"
HELP: Final = "say which layers this machine can enforce, and what is missing for the others"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the layers."""
    found = probe()
    hooked = [one for one in found if one.hook is not None]
    missing = [one for one in hooked if not one.available]
    if arguments.json:
        for one in found:
            output.json_line(
                {
                    "kind": "layer",
                    "layer": one.layer.name,
                    "hook": one.hook,
                    "available": one.available,
                    "cause": one.cause,
                    "remedy": one.remedy,
                }
            )
        return 1 if missing else 0
    rows = [_row(one) for one in hooked]
    for line, one in zip(output.columns(rows), hooked, strict=True):
        sys.stdout.write(output.paint(line, "green" if one.available else "red") + "\n")
    for cause, remedy in dict.fromkeys((one.cause, one.remedy) for one in missing):
        sys.stdout.write(f"\n{cause}\n    remedy: {remedy}\n")
    sys.stdout.write(
        f"\nLinux {platform.release()}: {len(hooked) - len(missing)} of {len(hooked)} layers with a hook available; "
        f"{len(found) - len(hooked)} layers of the catalogue have none\n"
    )
    return 1 if missing else 0


def _row(one: Availability) -> tuple[str, str, str]:
    return (one.layer.short, "available" if one.available else "missing", one.hook or "")
