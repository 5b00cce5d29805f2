"""Why a verdict is what it is: every filter that was asked, and what became of it.

`account` tells each sublayer's filters in the order in which they were asked, with the first field that kept a
filter from matching. It decides nothing: matched, decided and lost are `classify`'s own words.

Worked example: at ALE_AUTH_CONNECT_V4 with remote port 22, the filter "the web" (remote port 80 or 443) *missed* at
IP_REMOTE_PORT, and "nothing else leaves" (no conditions) *decided*.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from layergate.engine.arbitration import Ordered
from layergate.engine.matching import groups, matches
from layergate.engine.weights import effective_weight
from layergate.model import Condition, Filter, Layer, Sublayer, SublayerVerdict, Value, Verdict


class Fate(enum.StrEnum):
    """What became of a filter."""

    DECIDED = "decided"
    LOST = "lost"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Asked:
    """One filter: *missed* are the conditions (on one field, alternatives) that first failed, () where it matched."""

    filter: Filter
    fate: Fate
    weight: int
    missed: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """One sublayer: what it said (None where nothing of it matched), and its filters in the order of asking."""

    sublayer: Sublayer
    told: SublayerVerdict
    asked: tuple[Asked, ...]


def account(ordered: Ordered, layer: Layer, values: Mapping[str, Value], verdict: Verdict) -> tuple[Account, ...]:
    """Return how *verdict* came about: what `classify` said of the same arguments. Cost: O(filters of the layer)."""
    return tuple(
        Account(sublayer, told, tuple(_asked(item, values, told) for item in filters))
        for (sublayer, filters), told in zip(ordered.at(layer), verdict.sublayers, strict=True)
    )


def _asked(item: Filter, values: Mapping[str, Value], told: SublayerVerdict) -> Asked:
    weight = effective_weight(item)
    for name, run in groups(item.conditions):
        if not any(matches(values.get(name), one) for one in run):
            return Asked(item, Fate.MISSED, weight, run)
    return Asked(item, Fate.DECIDED if item is told.decided else Fate.LOST, weight)
