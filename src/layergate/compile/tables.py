"""What the compiler makes: a table a layer, and all of one version together."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from layergate.compile.trees import TreeFacts
from layergate.compile.words import Layout, Names
from layergate.model import Action, Filter, Layer, Policy

HIDDEN: Final = "hidden"
LIMIT_SHIFT: Final = 48  # of a row's second number: where its limit's number begins
_NUMBERS: Final = {Action.PERMIT: 1, Action.BLOCK: 2}
WALK_MAX: Final = 1 << 17  # steps: about a millisecond in the kernel


@dataclass(frozen=True, slots=True)
class Removed:
    """A filter that has no place in the table: it never decides. *by*: filters that hide it, of its own sublayer."""

    filter: Filter
    why: str
    by: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One layer's classifier.

    *steps*: array 1, four uint32 a step (`steps`); *root*: the step that a walk begins at, 0: nothing matches. *rows*:
    array 2, two uint64 a row: the filter's id; its sublayer (bits 0-15), errno (16-31), action (32-39: 1
    permit, 2 block), hard (40-47), 1 + the number of its limit in *limits* (48-55), 0 for none. *sublayers*: by the
    number that steps use, the number in the policy. *filters*: by row. *walk_max*: no walk takes more steps.

    For `updates`: *hides*, by filter id, those that it hid somewhere; *fresh*, by id, the filters that came since the
    trees were built, which have a tree of their own behind the first *built_steps*; *built_root* and *built_walk_max*
    are those of the others; *coded*, where the built steps hold codes, empty while nobody asked. *has_callouts*: of
    filters that are heard, also of those that have no place. *limits*: the filters with a limit, by its number.
    """

    layer: Layer
    layout: Layout
    steps: array[int]
    root: int
    rows: array[int]
    sublayers: tuple[int, ...]
    filters: tuple[Filter, ...]
    removed: tuple[Removed, ...] = ()
    trees: tuple[TreeFacts, ...] = ()
    entry_count: int = 0
    walk_max: int = 0
    hides: Mapping[int, frozenset[int]] = field(default_factory=dict)
    fresh: Mapping[int, Filter] = field(default_factory=dict)
    coded: array[int] = field(default_factory=lambda: array("I"))
    built_steps: int = 0
    built_root: int = 0
    built_walk_max: int = 0
    has_callouts: bool = False
    limits: tuple[Filter, ...] = ()

    @property
    def table_bytes(self) -> int:
        """The size of both arrays."""
        return len(self.steps) * self.steps.itemsize + len(self.rows) * self.rows.itemsize


@dataclass(frozen=True, slots=True)
class Compiled:
    """The tables of one version, by layer id. *sublayers*: names, in the policy's order; *filters*: by id."""

    version: int
    tables: Mapping[int, Table]
    layer_versions: Mapping[int, int]
    names: Names
    sublayers: tuple[str, ...]
    filters: Mapping[int, Filter] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)

    def table(self, layer: Layer) -> Table | None:
        """Return the table of *layer*, None where nothing is heard there."""
        return self.tables.get(layer.id)

    @property
    def apps(self) -> tuple[bytes, ...]:
        """The applications that have a number, from 1 up."""
        return tuple(self.names.by_field.get("ALE_APP_ID", {}))  # type: ignore[arg-type]

    @property
    def units(self) -> tuple[str, ...]:
        """The units that have a number, from 1 up."""
        return tuple(self.names.by_field.get("ALE_PACKAGE_ID", {}))  # type: ignore[arg-type]


def row_of(sublayer: int, error: int, action: Action, *, is_hard: bool, limit: int = 0) -> int:
    """Return the second number of a row."""
    return sublayer | error << 16 | _NUMBERS.get(action, 0) << 32 | is_hard << 40 | limit << LIMIT_SHIFT
