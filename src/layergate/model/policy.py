"""What a policy holds: sublayers, filters and their conditions. Frozen."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from layergate.model.catalogue import Layer
from layergate.model.values import EMPTY, MatchType, Value


class Action(enum.StrEnum):
    """What a filter says, and what arbitration decided."""

    PERMIT = "permit"
    BLOCK = "block"


class FilterFlag(enum.IntFlag):
    """FWPM_FILTER_FLAG_*."""

    NONE = 0
    PERSISTENT = 0x1
    BOOTTIME = 0x2
    HAS_PROVIDER_CONTEXT = 0x4
    CLEAR_ACTION_RIGHT = 0x8
    PERMIT_IF_CALLOUT_UNREGISTERED = 0x10
    DISABLED = 0x20
    INDEXED = 0x40


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field. Conditions on the same field that stand together are alternatives (OR)."""

    field: str
    match: MatchType
    value: Value


@dataclass(frozen=True, slots=True)
class Sublayer:
    """A group of filters that gives one result; the heavier sublayer speaks first. *weight* is a UINT16."""

    name: str
    weight: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter at one layer.

    *weight* is EMPTY (automatic), UINT8 0 to 15 (automatic within that range) or UINT64 (as is). *id* is the run-time
    id, never 0. *error* is the errno that a blocked call returns (0: EPERM). *line* is where a file defines it, 0 if
    nowhere;
    *description* is for people. Neither of the two is content: filters that differ in nothing else are equal.
    """

    id: int
    name: str
    layer: Layer
    sublayer: str
    action: Action
    conditions: tuple[Condition, ...] = ()
    weight: Value = EMPTY
    flags: FilterFlag = FilterFlag.NONE
    error: int = 0
    line: int = field(default=0, compare=False)
    description: str = field(default="", compare=False)

    @property
    def hard(self) -> bool:
        """Whether nothing but a veto changes what this filter says: a block always, a permit that clears the right."""
        return self.action is Action.BLOCK or FilterFlag.CLEAR_ACTION_RIGHT in self.flags


@dataclass(frozen=True, slots=True)
class Policy:
    """Sublayers and filters that are in force together.

    *version* counts from 1; *layer_versions* says, by layer id, in
    which version the layer's filters last changed (absent: never, version 1). *last_id* is the highest filter id ever
    used in this run: an id is never used twice.
    """

    sublayers: tuple[Sublayer, ...] = ()
    filters: tuple[Filter, ...] = ()
    version: int = 1
    layer_versions: dict[int, int] = field(default_factory=dict, compare=False)
    last_id: int = field(default=0, compare=False)
