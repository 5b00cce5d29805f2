"""The findings on one policy.

Errors: a filter that Linux can't enforce as it stands (no hook for the layer, a field that the hook can't know, a
test that the kernel can't make, a block that would do nothing). Warnings: what is decided by chance, never, or not as
it reads (`inside` a sublayer, `across` sublayers; a weight below automatic ones, equal sublayers). No warning is raised
on a guess: overlap is exact or silent.

Filters that are heard at different times are not compared: disabled ones are not heard, boot-time ones before the
engine runs, all others after. What a V4 and a V6 filter of one name have in common is said once, of the layer without
family.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from layergate.analysis.across import Across, equal_sublayers
from layergate.analysis.finding import Finding, Found, Severity, once
from layergate.analysis.inside import Bench, inside
from layergate.analysis.rows import Table, kinds_of
from layergate.analysis.search import Budget
from layergate.analysis.unenforced import HookRow, unenforced
from layergate.engine import in_order
from layergate.model import Policy

STEPS_MAX: Final = 2_000_000
"""Steps that comparing filters may take: some seconds. A policy that would need more is told so."""


def findings(
    policy: Policy, hooks: Iterable[HookRow] | None = None, *, steps_max: int = STEPS_MAX
) -> tuple[Finding, ...]:
    """Return what there is to say about *policy*: errors first, then by line.

    Args:
        policy: of a file, or of a dump of Windows.
        hooks: what the machine can enforce; None: it is not to enforce the policy.
        steps_max: how much is compared (`search`).

    Cost: about one classification a filter where filters differ in single values; *steps_max* steps at most.
    """
    rows = None if hooks is None else {row.layer: row for row in hooks}
    found: list[Found] = []
    if rows is not None:
        found += [one for item in policy.filters for one in unenforced(item, rows)]
    budget = Budget(steps_max)
    cut_short = False
    across = Across()
    for is_boot in (False, True):
        for heard in in_order(policy, is_boot=is_boot).layers.values():
            filters = [item for _, items in heard for item in items]
            layer = filters[0].layer
            bench = Bench(Table(layer, heard, kinds_of(layer, filters)), budget)
            told, idle = inside(bench)
            found += told
            across.add(bench, idle)
            cut_short |= bench.cut_short
    result = [*once(found), *across.findings(), *equal_sublayers(policy)]
    if cut_short:
        result.append(
            Finding(
                "not-all-compared",
                Severity.INFO,
                "",
                0,
                "there is more to compare than can be in some seconds",
                "filters that overlap in many ways have to be compared in many",
                "nothing to mend: shadowed, ambiguous or overridden filters may be missing above",
            )
        )
    order = list(Severity)
    return tuple(sorted(result, key=lambda finding: (order.index(finding.severity), finding.line)))
