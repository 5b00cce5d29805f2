"""Versions: how one policy follows another.

- A filter that is unchanged in name, layer and content keeps its id. Any other gets an id that no filter of this run
  had.
- A layer's version is the one in which what is heard there last changed: its filters, their order, their sublayers'
  weights. A change at one layer re-decides the flows that were authorised there, and no others.

Worked example: version 1 has filters 1 and 2 at ALE_AUTH_CONNECT_V4. A reload drops 2 and adds one at
ALE_AUTH_LISTEN_V4: that is filter 3 of version 2, and both layers' version is 2. A reload of the same file is
version 3, and both layers stay at 2.
Source: docs, "Semantics" and "Outputs that scripts rely on".
"""

from __future__ import annotations

from dataclasses import replace

from layergate.engine import Ordered, in_order
from layergate.model import Filter, Policy, Value

_Content = tuple[object, ...]


def succeed(previous: Policy | None, new: Policy) -> Policy:
    """Return *new* as what follows *previous* (None: the first of a run). Cost: O(n log n)."""
    if previous is None:
        return replace(new, version=1, layer_versions={}, last_id=max((item.id for item in new.filters), default=0))
    last_id = max(previous.last_id, max((item.id for item in previous.filters), default=0))
    kept: dict[_Content, list[int]] = {}
    for item in reversed(previous.filters):
        kept.setdefault(_content(item), []).append(item.id)
    filters = []
    for item in new.filters:
        ids = kept.get(_content(item))
        if ids:
            filters.append(replace(item, id=ids.pop()))
        else:
            last_id += 1
            filters.append(replace(item, id=last_id))
    version = previous.version + 1
    following = replace(new, filters=tuple(filters), version=version, last_id=last_id)
    changed = _changed(in_order(previous), in_order(following))
    return replace(following, layer_versions=previous.layer_versions | dict.fromkeys(changed, version))


def _content(item: Filter) -> _Content:
    weight: Value = item.weight
    return (item.name, item.layer.id, item.sublayer, item.action, item.conditions, weight, item.flags, item.error)


def _changed(before: Ordered, after: Ordered) -> list[int]:
    """Return the ids of the layers at which something else is heard."""
    return [layer for layer in sorted({*before.layers, *after.layers}) if _heard(before, layer) != _heard(after, layer)]


def _heard(ordered: Ordered, layer: int) -> list[tuple[str, int, tuple[Filter, ...]]]:
    return [(sublayer.name, sublayer.weight, filters) for sublayer, filters in ordered.layers.get(layer, ())]
