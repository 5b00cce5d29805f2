"""Effective weights: the 64-bit number by which a sublayer's filters are ordered.

A UINT64 weight is used as it is. EMPTY is automatic: the sum of what each field's conditions contribute, in the low 60
bits. A UINT8 n puts that sum into the range n of 16 (the high 4 bits).

A contribution depends on the layer, the field and how tight the match is. Each field owns units in a slot of bits: an
exact match earns all of them, a range over B bits of which it covers 2^c earns the share 1 - c/B, at least one unit
unless it covers everything; alternatives add up, to all units at most. Worked example, ALE_AUTH_CONNECT_V4:
`remote_port = 443` and `app = X` weigh (7 << 39) + (1 << 38).

The platform does not document it; the slots were measured on real hosts, of three generations: adding a field to a
layer moves the slots of others. Policies are weighed as the newest does. A field that no host used gets a slot below
all measured ones, by its place in the layer. Source: 8,248 filters with automatic weights.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from layergate.engine.matching import as_integer, groups
from layergate.model import Condition, DataType, Filter, Layer, MatchType, Range, Value
from layergate.model.catalogue_data import WEIGHT_SLOTS
from layergate.model.values import BITS

GENERATIONS: Final = tuple(WEIGHT_SLOTS)
"""How Windows has weighed, newest first; named by the age of the hosts that were measured."""

AUTO_WEIGHT_BITS: Final = 60
AUTO_WEIGHT_MAX: Final = (1 << AUTO_WEIGHT_BITS) - 1
ADDRESS_BITS: Final = 128
FAST_WEIGHT: Final = 0x07FF_FFFF_FFFF_FFFF


def effective_weight(item: Filter) -> int:
    """Return the effective weight of *item*, a UINT64: the recorded one of a dump. Cost: O(conditions)."""
    if item.recorded_weight is not None:
        return item.recorded_weight
    return weight_of(item)


def weight_of(item: Filter, generation: str = GENERATIONS[0]) -> int:
    """Return the effective weight that *item* gets of Windows of *generation*, whatever a dump recorded."""
    if item.weight.type is DataType.UINT64:
        return int(item.weight.data)  # type: ignore[arg-type]
    automatic = automatic_weight(item.layer, item.conditions, generation)
    if item.weight.type is DataType.UINT8:
        return int(item.weight.data) << AUTO_WEIGHT_BITS | automatic  # type: ignore[arg-type]
    return automatic


def automatic_weight(layer: Layer, conditions: tuple[Condition, ...], generation: str = GENERATIONS[0]) -> int:
    """Return the weight, 0 to 2^60-1, that *conditions* earn at *layer*."""
    if is_fast(layer):
        return FAST_WEIGHT
    slots = slots_of(layer, generation)
    total = 0
    for name, alternatives in groups(conditions):
        units, shift, lowest = slots.get(name, (1, 0, 0))
        earned = min(units, sum(_units(one, units) for one in alternatives)) << shift
        total += earned >> lowest << lowest
    return min(total, AUTO_WEIGHT_MAX)


def is_fast(layer: Layer) -> bool:
    """Whether *layer* is one of the platform's internal *_FAST layers, which weigh everything alike."""
    return layer.short.endswith("_FAST")


def measured_fields(layer: Layer, generation: str) -> frozenset[str]:
    """Return the fields of *layer* whose slot was measured; the others' slots are guesses."""
    return frozenset(WEIGHT_SLOTS[generation].get(layer.short, {}))


@lru_cache(maxsize=1024)
def slots_of(layer: Layer, generation: str) -> dict[str, tuple[int, int, int]]:
    """Return, by field of *layer*: units of the tightest match, the shift of a unit, the lowest bit that counts."""
    measured = WEIGHT_SLOTS[generation].get(layer.short, {})
    missing = [field.name for field in layer.fields if field.name not in measured]
    lowest = min((shift for _, shift, _ in measured.values()), default=AUTO_WEIGHT_BITS)
    # Below everything measured, in the layer's order of fields; all share the last bit where none is left.
    below = ((name, max(0, lowest - 1 - place)) for place, name in enumerate(missing))
    return measured | {name: (1, shift, shift) for name, shift in below}


def _units(condition: Condition, units: int) -> int:
    covered = _covered(condition)
    if covered is None:
        return units
    count, bits = covered
    if count >= 1 << bits:
        return 0
    return max(1, round(units * (1 - math.log2(count) / bits)))


def _covered(condition: Condition) -> tuple[int, int] | None:
    """Return (how many values the condition covers, bits of the field), or None where it counts as exact."""
    value = condition.value
    if value.type is DataType.V4_ADDR_MASK:
        return 1 << 32 - value.data.mask.bit_count(), 32  # type: ignore[union-attr]
    if value.type is DataType.V6_ADDR_MASK:
        return 1 << ADDRESS_BITS - value.data.mask.bit_count(), ADDRESS_BITS  # type: ignore[union-attr]
    if condition.match is MatchType.RANGE and isinstance(value.data, Range):
        low, high = value.data.low, value.data.high
        bits = _bits(low)
        return (as_integer(high) - as_integer(low) + 1, bits) if bits else None
    return None


def _bits(value: Value) -> int:
    return ADDRESS_BITS if value.type is DataType.BYTE_ARRAY16 else BITS.get(value.type, 0)
