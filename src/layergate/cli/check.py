"""`layergate check FILE`: what is wrong with a policy, and what its author may not have meant.

FILE is a policy file or, with a name that ends in .xml or after --wfp, what netsh wfp wrote on a Windows host. Over
SSH, a policy that would cut off the caller's own login is found too; --login REMOTE[:PORT]-LOCAL:PORT asks of another.

Exit status: 0 nothing, or only warnings; 1 an error found by analysis; 2 the file is no policy.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from layergate.analysis import Finding, Severity, findings
from layergate.analysis.login import cut_off
from layergate.cli import output
from layergate.cli.login import login_of
from layergate.cli.sources import load_any
from layergate.cli.words import witness_line, witness_words
from layergate.kernel.hooks import HOOKS
from layergate.model import Filter, InputError, Problem

NAME: Final = "check"
HELP: Final = "look for errors and doubtful filters in a policy"

_COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.replace("`", "")
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="the policy: JSON where the name ends in .json, else TOML"
    )
    parser.add_argument(
        "--wfp", metavar="FILE", help="what netsh wfp wrote on a Windows host: its state, or its filters"
    )
    parser.add_argument("--state", metavar="FILE", help="with --wfp: a state of the same host, for what FILE lacks")
    parser.add_argument("--login", metavar="REMOTE-LOCAL", help="the login to look after (default: SSH_CONNECTION)")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings."""
    file = arguments.file or arguments.wfp
    if bool(arguments.file) is bool(arguments.wfp):
        raise InputError("not one file", "a policy file, or --wfp and a dump")
    loaded = load_any(file, arguments.state, is_dump=bool(arguments.wfp))
    # A dump is of a host that is not to be enforced here, nor logged in to from here.
    found = [
        *findings(loaded.policy, None if loaded.is_windows else HOOKS),
        *(_doubtful(one, is_windows=loaded.is_windows) for one in loaded.doubts),
    ]
    session = login_of(arguments.login) if arguments.login or not loaded.is_windows else None
    found += cut_off(loaded.policy, session) if session else ()
    found.sort(key=lambda finding: (list(Severity).index(finding.severity), finding.line))
    error_count = sum(finding.severity is Severity.ERROR for finding in found)
    if arguments.json:
        for finding in found:
            output.json_line(_line(finding, file))
    else:
        for finding in found:
            sys.stdout.write(_told(finding, file, is_windows=loaded.is_windows))
        sys.stdout.write(_summary(file, loaded.policy.filters, found, error_count))
    return 1 if error_count else 0


def _doubtful(problem: Problem, *, is_windows: bool) -> Finding:
    """Return a warning of loading as a finding."""
    return Finding(
        id="doubtful" if is_windows else "unresolved",
        severity=Severity.WARNING,
        object=problem.object,
        line=problem.line or 0,
        evidence=problem.found,
        cause="the dump does not say" if is_windows else "the host does not have what the policy names",
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
        "witness": witness_line(finding.witness.indication) if finding.witness else None,
    }


def _told(finding: Finding, file: str, *, is_windows: bool) -> str:
    place = f"{file}:{finding.line}" if finding.line else file
    severity = output.paint(str(finding.severity), _COLOURS[finding.severity])
    subject = f"{finding.object}: " if finding.object else ""
    text = (
        f"{place}: {severity} {finding.id}: {output.harmless(subject + finding.evidence)}\n"
        f"    cause:  {output.harmless(finding.cause)}\n"
        f"    remedy: {output.harmless(finding.remedy)}\n"
    )
    if finding.witness is None:
        return text
    indication = finding.witness.indication
    return f"{text}    for example at {indication.layer.short}: {witness_words(indication, is_windows=is_windows)}\n"


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
