"""`layergate schema`: the JSON Schema of a policy's JSON form."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from layergate.policyfile.schemas import schema

NAME: Final = "schema"
HELP: Final = "print the JSON Schema of a policy in JSON"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options: --json changes nothing but the layout, on one line."""
    parser.add_argument("--json", action="store_true", help="on one line")


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    indent = None if arguments.json else 2
    sys.stdout.write(json.dumps(schema(), indent=indent) + "\n")
    return 0
