"""Effective weights: the 64-bit number by which a sublayer's filters are ordered.

A UINT64 weight is used as it is. EMPTY is automatic: the sum of what each field's conditions contribute, in the low 60
bits. A UINT8 n puts that sum into the range n of 16 (the high 4 bits).

A contribution depends on the layer, the field and how tight the match is. Each field owns units in a slot of bits: an
exact match earns all of them, a range over B bits of which it covers 2^c earns the share 1 - c/B, at least one unit
unless it covers everything; alternatives add up, to all units at most. Worked example, ALE_AUTH_CONNECT_V4:
`remote_port = 443` and `app = X` weigh (7 << 39) + (1 << 38).

The platform does not document it; the slots were measured on real hosts, and a field that none of them used gets a slot
below all measured ones, by its place in the layer. Source: 8,248 filters with automatic weights.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

from layergate.engine.matching import as_integer, groups
from layergate.model import Condition, DataType, Filter, Layer, MatchType, Range, Value
from layergate.model.catalogue_data import WEIGHT_SLOTS
from layergate.model.values import BITS

AUTO_WEIGHT_BITS: Final = 60
AUTO_WEIGHT_MAX: Final = (1 << AUTO_WEIGHT_BITS) - 1
ADDRESS_BITS: Final = 128


def effective_weight(item: Filter) -> int:
    """Return the effective weight of *item*, a UINT64. Cost: O(conditions)."""
    if item.weight.type is DataType.UINT64:
        return int(item.weight.data)  # type: ignore[arg-type]
    automatic = automatic_weight(item.layer, item.conditions)
    if item.weight.type is DataType.UINT8:
        return int(item.weight.data) << AUTO_WEIGHT_BITS | automatic  # type: ignore[arg-type]
    return automatic


def automatic_weight(layer: Layer, conditions: tuple[Condition, ...]) -> int:
    """Return the weight, 0 to 2^60-1, that *conditions* earn at *layer*."""
    slots = slots_of(layer)
    total = 0
    for name, alternatives in groups(conditions):
        units, shift = slots.get(name, (1, 0))
        earned = min(units, sum(_units(one, units) for one in alternatives))
        total += earned << shift
    return min(total, AUTO_WEIGHT_MAX)


@cache
def slots_of(layer: Layer) -> dict[str, tuple[int, int]]:
    """Return, by field of *layer*: units of the tightest match, and the shift of a unit."""
    measured = WEIGHT_SLOTS.get(layer.short, {})
    missing = [field.name for field in layer.fields if field.name not in measured]
    lowest = min((shift for _, shift in measured.values()), default=AUTO_WEIGHT_BITS)
    # Below everything measured, in the layer's order of fields; all share the last bit where none is left.
    return measured | {name: (1, max(0, lowest - 1 - place)) for place, name in enumerate(missing)}


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
