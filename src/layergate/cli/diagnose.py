"""`layergate diagnose`: what is wrong with this host's connections, with whom, why, and what to do.

Exit status: 0 nothing is wrong; 1 something is.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from layergate.cli import output
from layergate.cli.ls import places
from layergate.live.names import SystemResolver
from layergate.model import InputError
from layergate.policyfile import load_file
from layergate.sockets.diagnosis import RULES, diagnose, is_bad, policy
from layergate.sockets.diagnosis.evidence import Evidence, Limits, Rule
from layergate.sockets.diagnosis.finding import Finding
from layergate.sockets.diagnosis.reading import evidence
from layergate.sockets.units import Units

NAME: Final = "diagnose"
HELP: Final = "say what is wrong with this host's connections: who, why, and what to do"
_COLOURS: Final = {"error": "red", "warning": "yellow", "info": "cyan"}
_WIDTH: Final = 110


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    limits = Limits()
    parser.add_argument("--seconds", type=float, default=2.0, metavar="N", help="look twice, N seconds apart (2)")
    parser.add_argument(
        "--patience", type=float, default=limits.patience_s, metavar="SECONDS",
        help=f"how long a connection stands still before it counts as stuck ({limits.patience_s:.0f})",
    )  # fmt: skip
    parser.add_argument(
        "--idle", type=float, default=limits.idle_s, metavar="SECONDS",
        help=f"how long a connection may be silent without keepalive ({limits.idle_s:.0f})",
    )  # fmt: skip
    parser.add_argument("--policy", metavar="FILE", help="find listeners too that this policy lets nobody reach")
    parser.add_argument("--netns", metavar="NAME", help="look at this network namespace (ip netns's name, or pid:N)")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Look twice, and tell."""
    if not 0 <= arguments.seconds <= 3600:
        raise InputError(f"--seconds {arguments.seconds:g}", "0 to 3600")
    if arguments.patience < 0 or arguments.idle < 0:
        raise InputError("a negative time", "--patience and --idle take seconds")
    rules: tuple[Rule, ...] = RULES
    if arguments.policy:
        rules = (*rules, policy.rule(load_file(arguments.policy, SystemResolver()).policy))
    limits = replace(Limits(), patience_s=arguments.patience, idle_s=arguments.idle)
    arguments.all = False
    (place,) = places(arguments)
    seen = evidence(arguments.seconds, limits, place)
    found = diagnose(seen, rules)
    _print(found, seen, is_json=arguments.json)
    return 1 if is_bad(found) else 0


def _print(found: Iterable[Finding], seen: Evidence, *, is_json: bool) -> None:
    found, units = list(found), Units()
    if is_json:
        for one in found:
            output.json_line(one.line(units))
        output.json_line({"kind": "summary", "endpoints": len(seen.endpoints), "findings": len(found)})
        return
    for one in found:
        who = f"  {one.who}" if one.who else ""
        head = f"{one.severity}: {one.id}  {one.subject}{who if one.who != one.subject else ''}"
        sys.stdout.write(output.paint(output.harmless(head), _COLOURS[one.severity]) + "\n")
        for title, text in (("", one.evidence), ("why: ", one.cause), ("do:  ", one.remedy)):
            words = output.harmless(title + text)
            sys.stdout.write(textwrap.fill(words, _WIDTH, initial_indent="    ", subsequent_indent="         ") + "\n")
        sys.stdout.write("\n")
    said = f"{output.plural(len(found), 'finding')} in {output.plural(len(seen.endpoints), 'endpoint')}"
    sys.stdout.write(f"{said}, over {seen.seconds:.1f} s\n" if found else f"nothing is wrong; {said}\n")
