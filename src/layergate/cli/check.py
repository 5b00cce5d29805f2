"""`layergate check FILE`: what is wrong with a policy, and what its author may not have meant.

Exit status: 0 nothing, or only warnings; 1 an error found by analysis; 2 the file is no policy.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from layergate.analysis import Finding, Severity, findings
from layergate.cli import output
from layergate.kernel.hooks import HOOKS
from layergate.live.names import SystemResolver
from layergate.model import Filter, Problem
from layergate.policyfile import load_file

NAME: Final = "check"
HELP: Final = "look for errors and doubtful filters in a policy"

_COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", metavar="FILE", help="the policy: JSON where the name ends in .json, else TOML")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings."""
    loaded = load_file(arguments.file, SystemResolver())
    found = [*findings(loaded.policy, HOOKS), *map(_unresolved, loaded.warnings)]
    found.sort(key=lambda finding: (list(Severity).index(finding.severity), finding.line))
    error_count = sum(finding.severity is Severity.ERROR for finding in found)
    if arguments.json:
        for finding in found:
            output.json_line(_line(finding, arguments.file))
    else:
        for finding in found:
            sys.stdout.write(_told(finding, arguments.file))
        sys.stdout.write(_summary(arguments.file, loaded.policy.filters, found, error_count))
    return 1 if error_count else 0


def _unresolved(problem: Problem) -> Finding:
    """Return a warning of loading as a finding."""
    return Finding(
        id="unresolved",
        severity=Severity.WARNING,
        object=problem.object,
        line=problem.line or 0,
        evidence=problem.found,
        cause="the host does not have what the policy names",
        remedy=problem.accepted,
    )


def _line(finding: Finding, file: str) -> dict[str, object]:
    return {
        "kind": "finding",
        "id": finding.id,
        "severity": str(finding.severity),
        "file": file,
        "line": finding.line or None,
        "object": finding.object,
        "evidence": finding.evidence,
        "cause": finding.cause,
        "remedy": finding.remedy,
    }


def _told(finding: Finding, file: str) -> str:
    place = f"{file}:{finding.line}" if finding.line else file
    severity = output.paint(str(finding.severity), _COLOURS[finding.severity])
    subject = f"{finding.object}: " if finding.object else ""
    return (
        f"{place}: {severity} {finding.id}: {subject}{finding.evidence}\n"
        f"    cause:  {finding.cause}\n"
        f"    remedy: {finding.remedy}\n"
    )


def _summary(file: str, filters: tuple[Filter, ...], found: list[Finding], error_count: int) -> str:
    warning_count = sum(finding.severity is Severity.WARNING for finding in found)
    said = ", ".join(
        f"{count} {word}{'s' if count != 1 else ''}"
        for count, word in ((error_count, "error"), (warning_count, "warning"))
        if count
    )
    # A filter at a layer without family is two for the engine; its file has one.
    names = len({item.name for item in filters})
    apart = f" ({len(filters)} by layer and family)" if len(filters) != names else ""
    return f"{file}: {output.plural(names, 'filter')}{apart}, {said or 'nothing to report'}\n"
