"""What a finding is, and how filters are named in one."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from layergate.engine.matching import NOTHING_ASSUMED, Assumed
from layergate.model import Filter, FilterFlag, Indication, Layer

NAMED_MAX: Final = 3
"""So many filters are named; of the others it is said how many there are."""


class Severity(enum.StrEnum):
    """How bad a finding is: an error makes `check` say no."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Witness:
    """An indication that shows what is said, and what is *assumed* of tests that no value decides (access checks)."""

    indication: Indication
    assumed: Assumed = field(default_factory=lambda: NOTHING_ASSUMED)


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
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A finding on one filter at one layer, before those of both families become one; its object is named then."""

    finding: Finding
    filter: Filter

    @property
    def layer(self) -> Layer:
        """The filter's layer."""
        return self.filter.layer


def found(  # noqa: PLR0917 - a finding reads as its sentence: what, how bad, evidence, cause, remedy
    item: Filter,
    identity: str,
    severity: Severity,
    evidence: str,
    cause: str,
    remedy: str,
    *,
    witness: Witness | None = None,
) -> Found:
    """Return a finding on *item*."""
    return Found(Finding(identity, severity, "", item.line, evidence, cause, remedy, witness), item)


def named(item: Filter) -> str:
    """Return how *item* is referred to: by its line in a file, elsewhere by its id."""
    return f"'{item.name}' ({f'line {item.line}' if item.line else f'id {item.id}'})"


def listed(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b, c and 4 more"."""
    if len(words) > NAMED_MAX:
        words = [*words[:NAMED_MAX], f"{len(words) - NAMED_MAX} more"]
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def once(findings: Iterable[Found]) -> Iterator[Finding]:
    """Yield the findings, those that differ in nothing but the family once, at the layer without family."""
    merged: dict[tuple[object, ...], list[Found]] = {}
    for one in findings:
        told, item = one.finding, one.filter
        # Without a line, in a dump, a V4 and a V6 filter are two for everybody.
        which = item.line or -item.id
        key = (item.name, item.layer.base, told.id, which, told.evidence, told.cause, told.remedy)
        merged.setdefault(key, []).append(one)
    for same in merged.values():
        item = same[0].filter
        layer = item.layer.base if len(same) > 1 else item.layer.short
        kind = "boot-time filter" if FilterFlag.BOOTTIME in item.flags else "filter"
        identity = "" if item.line else f" (id {item.id})"
        yield replace(same[0].finding, object=f"{kind} '{item.name}'{identity} at {layer}")
