"""Indications as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from layergate.backends.columns import Texts
from layergate.model import Layer, Value
from layergate.model.values import BITS

TEXTS = ("BYTE_BLOB", "SID", "UNICODE_STRING", "SECURITY_DESCRIPTOR")


def batch(layer: Layer, asked: Sequence[Mapping[str, Value]]) -> tuple[dict[str, object], dict[str, object]]:
    """Return *asked* as columns, and where they are present."""
    made: dict[str, object] = {}
    present: dict[str, object] = {}
    for of in layer.fields:
        data = [values[of.name].data if of.name in values else None for values in asked]
        some = next((one for one in data if one is not None), None)
        if some is None:
            continue
        if of.type.name in TEXTS:
            dictionary = sorted({one for one in data if one is not None})
            made[of.name] = Texts(np.array([-1 if one is None else dictionary.index(one) for one in data]), dictionary)
            continue
        present[of.name] = np.array([one is not None for one in data])
        numbers = [int.from_bytes(one, "big") if isinstance(one, bytes) else one or 0 for one in data]
        if of.type.name == "BYTE_ARRAY16":
            made[of.name] = np.array([divmod(one, 1 << 64) for one in numbers], np.uint64)
        else:
            made[of.name] = np.array(numbers, np.uint64 if BITS.get(of.type, 64) > 32 else np.uint32)
    return made, present
