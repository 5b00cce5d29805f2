"""Enumeration by template: which filters somebody asks for.

A template names a layer, a provider, kinds of action, and conditions, one a field. CONTAINING picks the filters that
match whatever meets the conditions; OVERLAPPING those that match some of it. Whether two conditions overlap is exact
or, where it can't be known, taken as yes.

Source: Microsoft, FWPM_FILTER_ENUM_TEMPLATE0, FWP_FILTER_ENUM_TYPE (FULLY_CONTAINED is named for filters that fully
contain the conditions).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from layergate.engine import effective_weight, groups
from layergate.engine.regions import covers, disjoint, region
from layergate.model import Action, Condition, Filter, FilterFlag, FwpError, Layer, RefusedError, Sublayer
from layergate.store.records import Kind, View

ANY_ACTION: Final = 0xFFFFFFFF


class Relation(enum.StrEnum):
    """How a filter lies to the template's conditions."""

    CONTAINING = "containing"
    OVERLAPPING = "overlapping"


@dataclass(frozen=True)
class Template:
    """What is asked for; what is left out picks everything.

    *provider* and *callout* are keys. *action_mask* picks actions whose number has a bit of it. *is_sorted*: in the
    order in which filters are heard, else in that of their ids. *best_only*: of each sublayer only the first that
    permits or blocks by itself. Raises RefusedError (DUPLICATE_CONDITION) for a field that is tested twice.
    """

    layer: Layer | None = None
    provider: str = ""
    callout: str = ""
    conditions: tuple[Condition, ...] = ()
    relation: Relation = Relation.OVERLAPPING
    action_mask: int = ANY_ACTION
    with_boot_time: bool = False
    boot_time_only: bool = False
    with_disabled: bool = False
    is_sorted: bool = False
    best_only: bool = False

    def __post_init__(self) -> None:
        """Refuse a field that is tested twice."""
        names = [condition.field for condition in self.conditions]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RefusedError(FwpError.DUPLICATE_CONDITION, "template", f"{twice} is tested twice", "every field once")

    def picks(self, item: Filter) -> bool:
        """Whether *item* is asked for. Cost: O(conditions)."""
        is_boot = FilterFlag.BOOTTIME in item.flags
        if is_boot and not (self.with_boot_time or self.boot_time_only):
            return False
        if self.boot_time_only and not is_boot:
            return False
        if FilterFlag.DISABLED in item.flags and not self.with_disabled:
            return False
        if self.layer is not None and item.layer.id != self.layer.id:
            return False
        if (self.provider and item.provider != self.provider) or (self.callout and item.callout != self.callout):
            return False
        return bool(item.action.number & self.action_mask) and self._lies(item)

    def _lies(self, item: Filter) -> bool:
        mine = {condition.field: region((condition,)) for condition in self.conditions}
        its = {name: region(run) for name, run in groups(item.conditions)}
        if self.relation is Relation.OVERLAPPING:
            return not any(disjoint(mine[name], one) for name, one in its.items() if name in mine)
        # A field that the template leaves open takes any value: only a filter that does not test it contains that.
        return all(name in mine and covers(one, mine[name]) for name, one in its.items())


def select(view: View, template: Template) -> list[Filter]:
    """Return the filters of *view* that *template* picks. Cost: O(n log n)."""
    filters = [record.object for record in view.all(Kind.FILTER)]
    picked = sorted((item for item in filters if isinstance(item, Filter) and template.picks(item)), key=_by_id)
    if template.is_sorted or template.best_only:
        weights = {
            record.object.key: record.object.weight
            for record in view.all(Kind.SUBLAYER)
            if isinstance(record.object, Sublayer)
        }
        picked.sort(key=lambda item: (item.layer.id, -weights[item.sublayer], -effective_weight(item), item.id))
    if template.best_only:
        best: dict[tuple[int, str], Filter] = {}
        for item in picked:
            if item.action in (Action.PERMIT, Action.BLOCK, Action.CALLOUT_TERMINATING):
                best.setdefault((item.layer.id, item.sublayer), item)
        picked = list(best.values())
    return picked


def _by_id(item: Filter) -> int:
    return item.id
