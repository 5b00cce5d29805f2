"""What is wrong with a host's connections, in plain words: findings with evidence, cause and remedy.

`evidence` is what is looked at (two views of the table and the kernel's counters, some seconds apart), `reading`
takes it from the kernel, `finding` is what comes out; the rules stand in modules by subject: `stuck` (connections
that don't move), `listening` (queues of listeners, floods), `ports` (local ports, short connections), `paths` (what
the network does), `buffers` (memory, windows), `policy` (filters). A rule is pure: evidence in, findings out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from layergate.sockets.diagnosis import buffers, listening, paths, ports, stuck
from layergate.sockets.diagnosis.evidence import Evidence, Rule
from layergate.sockets.diagnosis.finding import Finding, Severity

RULES: Final[tuple[Rule, ...]] = (*stuck.RULES, *listening.RULES, *ports.RULES, *paths.RULES, *buffers.RULES)
_ORDER: Final = (Severity.ERROR, Severity.WARNING, Severity.INFO)


def diagnose(evidence: Evidence, rules: Iterable[Rule] = RULES) -> list[Finding]:
    """Return what *rules* find in *evidence*, the worst first."""
    found = [finding for rule in rules for finding in rule(evidence)]
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def is_bad(findings: Iterable[Finding]) -> bool:
    """Whether any of *findings* says that something is wrong."""
    return any(finding.severity is not Severity.INFO for finding in findings)


def lines(findings: Iterable[Finding]) -> Iterator[dict[str, object]]:
    """Yield *findings* as JSON lines of kind `finding`."""
    for finding in findings:
        yield finding.line()


__all__ = ["RULES", "Evidence", "Finding", "Rule", "Severity", "diagnose", "is_bad", "lines"]
