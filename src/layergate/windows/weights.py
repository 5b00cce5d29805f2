"""Which Windows has weighed the filters of a dump, and where its weights are not what is known of that.

A dump records every filter's effective weight, and the engine uses it: the order is the dump's own, whatever build
wrote it. Where the weight was automatic it can also be computed, for each generation of Windows that was measured
(`engine.weights`). `fit` compares the two, chooses the generation that fits best and explains the rest.

Worked example: a filter with protocol = 17 at ALE_AUTH_CONNECT_V4 that records 7 << 47 fits generations 2026 and
2024; if it tests a remote port too, (7 << 47) + (7 << 39) is 2026, and (7 << 47) + (7 << 38) is 2024.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from layergate.engine.weights import GENERATIONS, is_fast, measured_fields, weight_of
from layergate.model import DataType, Filter, Range
from layergate.model.values import AddressMask

FITTING_SHARE_MIN: Final = 0.9
"""Below this share of filters no generation is said to be the dump's. Dumps of measured builds fit to 99 % and more."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A filter whose recorded weight is not the computed one, and the likely reason."""

    filter: Filter
    recorded: int
    computed: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fit:
    """How the weights of a dump compare with those of *generation*, the one that fits best.

    *fitting* counts the automatically weighted filters that fit, by generation; *automatic_count* is how many there
    are.
    """

    generation: str
    automatic_count: int
    fitting: Mapping[str, int]
    misfits: tuple[Misfit, ...] = ()

    @property
    def fitting_count(self) -> int:
        """Return how many filters weigh what the generation gives them."""
        return self.fitting[self.generation]

    @property
    def is_known(self) -> bool:
        """Whether the dump weighs as a generation does that was measured."""
        return self.fitting_count >= FITTING_SHARE_MIN * self.automatic_count


def fit(filters: Iterable[Filter], not_understood: Collection[int] = ()) -> Fit:
    """Compare the recorded weights of *filters* with the computed ones.

    Args:
        filters: those of a dump; only automatically weighted ones count.
        not_understood: ids of filters with conditions that layergate has no name for.

    Cost: O(conditions) for every generation.
    """
    automatic = [
        item
        for item in filters
        if item.recorded_weight is not None and item.weight.type in (DataType.EMPTY, DataType.UINT8)
    ]
    fitting = {
        generation: sum(weight_of(item, generation) == item.recorded_weight for item in automatic)
        for generation in GENERATIONS
    }
    best = max(GENERATIONS, key=lambda generation: fitting[generation])  # the newest of equals: it is first
    misfits = tuple(
        Misfit(item, item.recorded_weight or 0, weight_of(item, best), _reason(item, best, not_understood))
        for item in automatic
        if weight_of(item, best) != item.recorded_weight
    )
    return Fit(best, len(automatic), fitting, misfits)


def _reason(item: Filter, generation: str, not_understood: Collection[int]) -> str:
    """Return why *item* may weigh something else."""
    if item.id in not_understood:
        return "it was not understood, and what it tests weighs something"
    if is_fast(item.layer):
        return "a layer of the platform's own use, whose weights are one number"
    measured = measured_fields(item.layer, generation)
    if not measured:
        return f"nothing was measured at {item.layer.short}"
    guessed = sorted({condition.field for condition in item.conditions} - measured)
    if guessed:
        return f"what {', '.join(guessed)} weighs at {item.layer.short} was not measured"
    if any(isinstance(condition.value.data, Range | AddressMask) for condition in item.conditions):
        return "builds differ in how they round ranges"
    return "a build of Windows that was not measured"
