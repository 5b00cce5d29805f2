"""The catalogue: 99 layers, their ids, GUIDs, discard twins and fields, as the engine itself lists them.

The data is generated (tools/gen_catalogue.py). A layer is named in full (FWPM_LAYER_ALE_AUTH_CONNECT_V4), without the
prefix, or without the family, and then means both families.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from layergate.model import catalogue_data
from layergate.model.values import DataType

PREFIX: Final = "FWPM_LAYER_"
SUBLAYER_UNIVERSAL: Final = "FWPM_SUBLAYER_UNIVERSAL"
SUBLAYER_INSPECTION: Final = "FWPM_SUBLAYER_INSPECTION"

# fwpmu.h defines these condition names as other names for the same key.
FIELD_ALIASES: Final = {
    "ICMP_TYPE": "IP_LOCAL_PORT",
    "ICMP_CODE": "IP_REMOTE_PORT",
    "LOCAL_INTERFACE_TYPE": "INTERFACE_TYPE",
    "LOCAL_TUNNEL_TYPE": "TUNNEL_TYPE",
}


class Family(enum.StrEnum):
    """The address family of a layer."""

    V4 = "v4"
    V6 = "v6"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a layer: what a condition can test there."""

    name: str
    type: DataType
    kind: str

    @property
    def is_address(self) -> bool:
        """Whether the field holds an IP address (UINT32 for v4, BYTE_ARRAY16 for v6)."""
        return self.kind == "IP_ADDRESS"


@dataclass(frozen=True, repr=False)
class Layer:
    """A layer of the filter engine."""

    name: str
    guid: str
    id: int
    family: Family | None
    direction: str
    discard_name: str | None
    discard_of: str | None
    purpose: str
    kernel_mode: bool
    buffered: bool
    default_sublayer: str
    fields: tuple[Field, ...]

    def __repr__(self) -> str:
        """Return the name: the rest is the catalogue's."""
        return self.short

    def __hash__(self) -> int:
        """Hash the name: the rest is the catalogue's, and much of it."""
        return hash(self.name)

    @cached_property
    def short(self) -> str:
        """Return the name without its prefix: ALE_AUTH_CONNECT_V4."""
        return self.name.removeprefix(PREFIX)

    @cached_property
    def base(self) -> str:
        """Return the name that both families share: ALE_AUTH_CONNECT, INBOUND_TRANSPORT_DISCARD."""
        return base_name(self.short)

    @property
    def is_discard(self) -> bool:
        """Whether the layer shows what its twin has discarded."""
        return self.discard_of is not None

    @cached_property
    def field_by_name(self) -> dict[str, Field]:
        """Return the layer's fields by name."""
        return {field.name: field for field in self.fields}

    def field(self, name: str) -> Field | None:
        """Return the field *name* (an alias too), or None where the layer lacks it."""
        bare = name.removeprefix("FWPM_CONDITION_")
        return self.field_by_name.get(bare) or self.field_by_name.get(FIELD_ALIASES.get(bare, ""))


def base_name(short: str) -> str:
    """Return *short* without its family: INBOUND_TRANSPORT_V4_DISCARD -> INBOUND_TRANSPORT_DISCARD."""
    for family in ("_V4", "_V6"):
        if short.endswith(family):
            return short.removesuffix(family)
        if short.endswith(f"{family}_DISCARD"):
            return short.removesuffix(f"{family}_DISCARD") + "_DISCARD"
    return short


def _layer(row: tuple[Any, ...]) -> Layer:
    columns = dict(zip(Layer.__dataclass_fields__, row, strict=True))
    columns["family"] = Family(columns["family"]) if columns["family"] else None
    columns["fields"] = tuple(Field(name, DataType[kind], field_kind) for name, kind, field_kind in columns["fields"])
    return Layer(**columns)


LAYERS: Final = tuple(_layer(row) for row in catalogue_data.LAYERS)
_BY_NAME: Final = {layer.short: layer for layer in LAYERS}
_BY_BASE: Final[dict[str, tuple[Layer, ...]]] = {
    base: tuple(layer for layer in LAYERS if layer.base == base)
    for base in dict.fromkeys(layer.base for layer in LAYERS)
}


def layer_by_id(runtime_id: int) -> Layer:
    """Return the layer of run-time id *runtime_id*. Raises IndexError."""
    return LAYERS[runtime_id]


def layer_named(name: str) -> Layer | None:
    """Return the one layer called *name*, with or without prefix, or None."""
    return _BY_NAME.get(name.removeprefix(PREFIX))


def layers_named(name: str) -> tuple[Layer, ...]:
    """Return the layers that *name* means: one, both families where it names none, or () where nothing is so called."""
    short = name.removeprefix(PREFIX)
    layer = _BY_NAME.get(short)
    return (layer,) if layer else _BY_BASE.get(short, ())
