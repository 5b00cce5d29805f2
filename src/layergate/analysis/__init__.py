"""What can be said of a policy without running it: what Linux can't enforce, what is ambiguous, what never speaks.

`findings(policy, hooks)` gives them, errors first. An error means that the policy would not do what it says; a
warning, that its author may not have meant it. `regions` knows which values a field's conditions cover. Pure; the
hooks are an argument.
"""

from layergate.analysis.findings import Finding, HookRow, Severity, findings

__all__ = ["Finding", "HookRow", "Severity", "findings"]
