"""Limits: filters that match by a count, which whoever classifies supplies.

A filter with a limit that is not past goes on, as a callout that lets go on; one that is past counts as any filter.
With `monitor` it goes on whatever the count. Example: twelve connections of 10.0.0.1, a limit of 20: `standing` says 13
of 20, not past; the next filter of the sublayer is heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from layergate.model.limits import Standing

if TYPE_CHECKING:
    from layergate.model import Filter, Indication


class Counts(Protocol):
    """Who counts."""

    def standing(self, item: Filter, indication: Indication) -> Standing:
        """Return how the key that *indication* has stands to the limit of *item*, this indication included."""


class NoCounts:
    """Nobody has counted anything: no limit is past."""

    def standing(self, item: Filter, indication: Indication) -> Standing:
        """Return that nothing was counted."""
        del indication
        return Standing(0, item.limit.threshold if item.limit else 0, is_past=False)
