"""What can be said of a policy without running it: what Linux can't enforce, what is ambiguous, what never speaks.

`findings(policy, hooks)` gives them, errors first. An error means that the policy would not do what it says; a
warning, that its author may not have meant it. `regions` knows which values a field's conditions cover. Pure; the
hooks are an argument. `diff(before, after)` tells which indications another policy decides otherwise.
"""

from layergate.analysis.difference import Decision, Difference, Differences, diff
from layergate.analysis.finding import Finding, Severity, Witness
from layergate.analysis.findings import findings
from layergate.analysis.unenforced import HookRow

__all__ = [
    "Decision",
    "Difference",
    "Differences",
    "Finding",
    "HookRow",
    "Severity",
    "Witness",
    "diff",
    "findings",
]
