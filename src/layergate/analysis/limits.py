"""Which limits two policies have that are not the same. What they decide hangs on counts, which no witness can hold.

Example: "three at once" becomes concurrent 4: one change, before and after in words. A filter that lost its limit is
one too, beside what `difference` says of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layergate.model import Policy
    from layergate.model.limits import Limit


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A limit that is not the same: of the filter *name* at *layer*, without its family; None where it has none."""

    layer: str
    name: str
    before: Limit | None
    after: Limit | None


def limit_changes(before: Policy, after: Policy) -> tuple[LimitChange, ...]:
    """Return the limits that differ between two policies, by layer and the filter's name. Cost: O(filters)."""
    sides = [
        {(item.layer.base, item.name): item.limit for item in policy.filters if item.limit is not None}
        for policy in (before, after)
    ]
    return tuple(
        LimitChange(*key, sides[0].get(key), sides[1].get(key))
        for key in dict.fromkeys((*sides[0], *sides[1]))
        if sides[0].get(key) != sides[1].get(key)
    )
