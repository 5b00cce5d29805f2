"""The findings on one policy.

Errors: a filter that Linux can't enforce as it stands (no hook for the layer, a field that the hook can't know, a
test that the kernel can't make, a block that would do nothing). Warnings: what is decided by chance or never
(ambiguous, equal sublayers, a weight below automatic ones, shadowed). No warning is raised on a guess: overlap is
exact or silent.

What a V4 and a V6 filter of one name have in common is said once, of the layer without family.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Final, Protocol

from layergate.engine import effective_weight, in_order
from layergate.engine.matching import groups, matches
from layergate.engine.regions import Region, covers, disjoint, region
from layergate.model import Action, Condition, DataType, Filter, Layer, MatchType, Policy, Sublayer, Value
from layergate.model.lines import TOKENS

PAIRS_MAX: Final = 1_000_000
"""How many pairs of filters are compared at most: some seconds. A policy that has more is told so."""

_TEXTS: Final = (DataType.BYTE_BLOB, DataType.SID, *TOKENS)
_TEXT_MATCHES: Final = (MatchType.EQUAL, MatchType.NOT_EQUAL)


class Severity(enum.StrEnum):
    """How bad a finding is: an error makes `check` say no."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class HookRow(Protocol):
    """What analysis needs to know of a layer's hook."""

    @property
    def layer(self) -> str:
        """The layer, without family."""

    @property
    def hook(self) -> str:
        """The kernel's hook."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it can know."""

    @property
    def blocked(self) -> str:
        """What a block does, "" where it does nothing."""

    @property
    def unknown(self) -> str:
        """Why it can't know the others, "" where there is nothing to add."""

    @property
    def refuses_block(self) -> bool:
        """Whether a block should do something there, and can't yet."""

    @property
    def protocols(self) -> tuple[int, ...]:
        """The IP protocols that it shows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. *object* names what it is about, *line* where a file defines it (0: nowhere)."""

    id: str
    severity: Severity
    object: str
    line: int
    evidence: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A finding on a filter, before those of both families become one; its object is named then."""

    finding: Finding
    name: str
    layer: Layer


class _Budget:
    """Counts down the pairs that may still be compared."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs

    def spend(self) -> bool:
        """Take one; whether there was one."""
        self.pairs -= 1
        return self.pairs >= 0


def findings(policy: Policy, hooks: Iterable[HookRow], *, pairs_max: int = PAIRS_MAX) -> tuple[Finding, ...]:
    """Return what there is to say about *policy* on a machine with *hooks*: errors first, then by line.

    Cost: O(filters) where filters test single values; up to *pairs_max* comparisons where they test ranges.
    """
    rows = {row.layer: row for row in hooks}
    budget = _Budget(pairs_max)
    found = [_Found(finding, item.name, item.layer) for item in policy.filters for finding in _unenforced(item, rows)]
    for sublayers in in_order(policy).layers.values():
        for _, filters in sublayers:
            found += _between(filters, budget)
    result = [*_once(found), *_equal_sublayers(policy.sublayers)]
    if budget.pairs < 0:
        result.append(
            Finding(
                "not-all-compared",
                Severity.INFO,
                "",
                0,
                f"more than {pairs_max} pairs of filters could overlap",
                "filters of one sublayer that all test ranges have to be compared each with each",
                "nothing to mend: shadowed and ambiguous filters may be missing above",
            )
        )
    order = list(Severity)
    return tuple(sorted(result, key=lambda finding: (order.index(finding.severity), finding.line)))


def _once(found: list[_Found]) -> Iterator[Finding]:
    """Yield the findings, those that differ in nothing but the family once, at the layer without family."""
    merged: dict[tuple[object, ...], list[_Found]] = {}
    for item in found:
        finding = item.finding
        key = (item.name, item.layer.base, finding.id, finding.line, finding.evidence, finding.cause, finding.remedy)
        merged.setdefault(key, []).append(item)
    for same in merged.values():
        layer = same[0].layer
        name = layer.base if len(same) > 1 else layer.short
        yield replace(same[0].finding, object=f"filter '{same[0].name}' at {name}")


def _finding(item: Filter, identity: str, severity: Severity, *told: str) -> Finding:
    """Return a finding on *item*; *told* is evidence, cause and remedy."""
    return Finding(identity, severity, f"filter '{item.name}'", item.line, *told)


def _unenforced(item: Filter, rows: Mapping[str, HookRow]) -> Iterator[Finding]:
    """Yield why Linux can't enforce *item*."""
    base = item.layer.base
    row = rows.get(base)
    if row is None:
        yield _finding(
            item, "no-hook", Severity.ERROR, f"a filter at {base}", f"no hook of the kernel stands for {base}",
            f"one of {', '.join(rows)}",
        )  # fmt: skip
        return
    if item.action is Action.BLOCK and not row.blocked:
        severity = Severity.ERROR if row.refuses_block else Severity.WARNING
        why = "can't hold back what passes there yet" if row.refuses_block else "shows what has happened"
        yield _finding(
            item, "block-without-effect", severity, f"action block at {base}",
            f"{row.hook} {why}: a block would do nothing",
            f"block at another layer ({', '.join(name for name, other in rows.items() if other.blocked)}), or permit",
        )  # fmt: skip
    wanted = [run for name, run in groups(item.conditions) if name == "IP_PROTOCOL"]
    if wanted and not any(_meets_protocol(row, run) for run in wanted):
        yield _finding(
            item, "protocol-not-shown", Severity.WARNING, f"a test of IP_PROTOCOL at {base}",
            f"{row.hook} shows TCP only: this filter never decides, and other protocols pass untouched",
            'protocol = "tcp", or leave it out',
        )  # fmt: skip
    for name, run in groups(item.conditions):
        if name not in row.fields:
            why = f": {row.unknown}" if row.unknown else ""
            yield _finding(
                item, "field-unknown", Severity.ERROR, f"a test of {name}", f"{row.hook} can't know {name}{why}",
                f"test one of {', '.join(row.fields)}, or another layer",
            )  # fmt: skip
        field = item.layer.field(name)
        for condition in run:
            is_empty = condition.value.type is DataType.EMPTY
            if field and field.type in _TEXTS and not is_empty and condition.match not in _TEXT_MATCHES:
                yield _finding(
                    item, "match-unsupported", Severity.ERROR, f"{condition.match.name} on {name}",
                    f"the kernel compares {name} as a whole", "EQUAL, NOT_EQUAL or empty",
                )  # fmt: skip


def _meets_protocol(row: HookRow, run: tuple[Condition, ...]) -> bool:
    return any(matches(Value(DataType.UINT8, protocol), one) for protocol in row.protocols for one in run)


def _between(filters: tuple[Filter, ...], budget: _Budget) -> Iterator[_Found]:
    """Yield what there is to say of *filters*: one sublayer's at one layer, in the order in which they are heard."""
    regions = {item.id: {name: region(run) for name, run in groups(item.conditions)} for item in filters}
    for finding, item in (
        *_light(filters),
        *_shadowed(filters, regions, budget),
        *_ambiguous(filters, regions, budget),
    ):
        yield _Found(finding, item.name, item.layer)


def _light(filters: tuple[Filter, ...]) -> Iterator[tuple[Finding, Filter]]:
    """Yield explicit weights below automatic ones. Weight 0 is meant to be last, and says so."""
    automatic = [item for item in filters if item.weight.type is not DataType.UINT64 and effective_weight(item)]
    if not automatic:
        return
    heaviest = automatic[0]
    top = effective_weight(heaviest)
    for item in filters:
        if item.weight.type is DataType.UINT64 and 0 < effective_weight(item) < top:
            other = f"'{heaviest.name}' (line {heaviest.line})"
            yield _finding(
                item, "weight-below-automatic", Severity.WARNING,
                f"weight {effective_weight(item)} is below the automatic weight of {other}",
                "an automatic weight grows with the conditions, up to 2^60: a small explicit one is heard after it",
                "weight_range, or a weight of 2^60 or more; or weight = 0 where it is meant to be last",
            ), item  # fmt: skip


def _shadowed(
    filters: tuple[Filter, ...], regions: Mapping[int, Mapping[str, Region]], budget: _Budget
) -> Iterator[tuple[Finding, Filter]]:
    """Yield filters that never speak: all they match is matched, and ended, by one filter before them.

    A filter can only shadow one that tests all its fields, with the same value where it tests a single one. So the
    filters heard so far are kept by the fields that they test (a shape) and their single values: only those are
    compared.
    """
    heard: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[tuple[object, ...], list[Filter]]] = {}
    for item in filters:
        mine = regions[item.id]
        before = next(
            (
                other
                for (fields, singles), by_value in heard.items()
                if all(name in mine for name in fields)
                for other in by_value.get(tuple(mine[name].single for name in singles), ())
                if budget.spend() and all(covers(its, mine[name]) for name, its in regions[other.id].items())
            ),
            None,
        )
        if before is not None:
            yield _finding(
                item, "shadowed", Severity.WARNING,
                f"'{before.name}' (line {before.line}) is heard first, and matches whatever this one matches",
                "in a sublayer the first filter that matches ends it",
                "remove it, give it a higher weight, or put it into another sublayer",
            ), item  # fmt: skip
            continue
        singles = tuple(name for name, its in mine.items() if its.single is not None)
        values = tuple(mine[name].single for name in singles)
        heard.setdefault((tuple(mine), singles), {}).setdefault(values, []).append(item)


def _ambiguous(
    filters: tuple[Filter, ...], regions: Mapping[int, Mapping[str, Region]], budget: _Budget
) -> Iterator[tuple[Finding, Filter]]:
    """Yield filters of one weight and opposite actions that can both match."""
    for _, run in groupby(filters, key=effective_weight):
        tied = list(run)
        if len({item.action for item in tied}) == 1:
            continue
        reported: set[int] = set()
        for one, other in combinations(tied, 2):
            if one.action is other.action or other.id in reported:
                continue
            if not budget.spend():
                return
            mine, its = regions[one.id], regions[other.id]
            if not any(disjoint(mine[name], its[name]) for name in mine.keys() & its.keys()):
                reported.add(other.id)
                yield _finding(
                    other, "ambiguous", Severity.WARNING,
                    f"{other.action} here, {one.action} by '{one.name}' (line {one.line}), of the same weight",
                    "the order of equal weights is not defined; here the lower id, the first in the file, wins",
                    "give one of them another weight",
                ), other  # fmt: skip


def _equal_sublayers(sublayers: tuple[Sublayer, ...]) -> Iterator[Finding]:
    """Yield sublayers of one weight."""
    by_weight = operator.attrgetter("weight")
    for weight, same in groupby(sorted(sublayers, key=by_weight), key=by_weight):
        first, *others = same
        for other in others:
            yield Finding(
                "sublayers-equal",
                Severity.WARNING,
                f"sublayer '{other.name}'",
                0,
                f"weight {weight:#x}, as '{first.name}'",
                "which of two equal sublayers is heard first is not defined; here it is the first in the file",
                "give each sublayer a weight of its own",
            )
