"""The layers of a dump: its own list where it has one, else the catalogue's.

Run-time ids and fields differ between builds of Windows: an older one has fewer fields. A layer that the dump lists
as the catalogue does is the catalogue's `Layer`; one that it lists otherwise is the catalogue's with the dump's id
and fields; one that the catalogue lacks is made of what the dump says. A filter at a layer that nobody lists keeps
it, under an id of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from layergate.model import LAYERS, SUBLAYER_UNIVERSAL, DataType, Family, Field, Layer, layer_named
from layergate.windows.names import field_name, key_name
from layergate.windows.notes import Notes, shown
from layergate.windows.reading import Node
from layergate.windows.values import Values

ID_OF_UNLISTED: Final = 1 << 16
"""Run-time ids of layers are 16 bits wide (FWPM_LAYER0); those that nobody listed come after."""

_KIND_PREFIX: Final = "FWPM_FIELD_"
_KERNEL: Final = "FWPM_LAYER_FLAG_KERNEL"
_BUFFERED: Final = "FWPM_LAYER_FLAG_BUFFERED"
_FLAGS: Final = frozenset({_KERNEL, _BUFFERED, "FWPM_LAYER_FLAG_BUILTIN", "FWPM_LAYER_FLAG_CLASSIFY_MOSTLY"})


class Layers:
    """The layers that one file speaks of; *given* are those of a state beside it."""

    def __init__(self, notes: Notes, values: Values, given: Iterable[Layer] = ()) -> None:
        self._notes, self._values = notes, values
        self._by_name = {layer.name: layer for layer in given}
        self._listed: dict[str, Layer] = {}
        self._ids: dict[int, str] = {}
        self._unlisted: dict[str, Layer] = {}

    @property
    def all(self) -> tuple[Layer, ...]:
        """Return the layers: the file's own list, else the state's, else the catalogue's; and what nobody lists."""
        known = self._listed or self._by_name
        return (*(known.values() if known else LAYERS), *self._unlisted.values())

    def add(self, node: Node) -> None:
        """Take a <layer> of the dump's list."""
        layer = self._layer(node)
        if layer.name in self._listed or layer.name in self._unlisted:
            found = f"the layer {layer.short} a second time, or after a filter at it"
            raise self._notes.wrong(node.line, found, "every layer once, before its filters")
        if layer.id in self._ids:
            found = f"layer id {layer.id} of {layer.short}, which {self._ids[layer.id]} has"
            raise self._notes.wrong(node.line, found, "an id of its own for every layer")
        self._listed[layer.name] = layer
        self._ids[layer.id] = layer.short

    def named(self, key: str, line: int) -> Layer:
        """Return the layer of *key*, as a filter or callout names it."""
        name = key_name(key)
        layer = self._listed.get(name) or self._unlisted.get(name)
        if layer is None and not self._listed:
            layer = self._by_name.get(name) or (None if self._by_name else layer_named(name))
        if layer is None:
            layer = self._made(name)
            self._unlisted[name] = layer
            self._notes.unknown(line, "", f"the layer {shown(name)}", "kept, and nothing is decided there")
        return layer

    def _made(self, name: str) -> Layer:
        """Return a layer that nobody lists."""
        known = layer_named(name)
        number = ID_OF_UNLISTED + len(self._unlisted)
        return dataclasses.replace(known, id=number) if known else _blank(name, number)

    def _layer(self, node: Node) -> Layer:
        key = node.find("layerKey")
        if key is None or not key.text:
            raise self._notes.wrong(node.line, "a layer without <layerKey>", "<layerKey>FWPM_LAYER_…</layerKey>")
        name = key_name(key.text)
        subject = f"layer {name}"
        known = layer_named(name)
        display = node.find("displayData")
        base = known or _blank(name, 0, display.text_of("name") if display is not None else "")
        if known is None:
            self._notes.unknown(node.line, "", f"the layer {shown(name)}", "kept, with the fields that the dump lists")
        flags = node.find("flags")
        printed = {item.text for item in flags.children} if flags is not None else set()
        for flag in sorted(printed - _FLAGS):
            self._notes.unknown(node.line, subject, f"the flag {shown(flag)} of a layer", "it changes nothing here")
        layer = dataclasses.replace(
            base,
            id=self._values.number(node, "layerId", 16, subject),
            kernel_mode=_KERNEL in printed,
            buffered=_BUFFERED in printed,
            default_sublayer=key_name(node.text_of("defaultSubLayerKey")) or SUBLAYER_UNIVERSAL,
            fields=self._fields(node, subject),
        )
        return known if known == layer else layer

    def _fields(self, node: Node, subject: str) -> tuple[Field, ...]:
        listed = node.find("field")
        fields: dict[str, Field] = {}
        for item in listed.children if listed is not None else ():
            name = field_name(item.text_of("fieldKey"))
            if not name or name in fields:
                found = f"{subject}: field {shown(name)} a second time" if name else f"{subject}: a field without key"
                raise self._notes.wrong(item.line, found, "every field once, with its <fieldKey>")
            printed = item.text_of("dataType")
            kind = DataType.__members__.get(printed.removeprefix("FWP_").removesuffix("_TYPE"))
            if kind is None:
                found = f"the type {shown(printed)} of field {name}"
                self._notes.unknown(item.line, subject, found, "conditions on the field are not understood")
            fields[name] = Field(name, kind or DataType.EMPTY, item.text_of("type").removeprefix(_KIND_PREFIX))
        return tuple(fields.values())


def _blank(name: str, number: int, purpose: str = "") -> Layer:
    """Return a layer of which no more is known than its name."""
    return Layer(
        name=name,
        guid=name.strip("{}") if name.startswith("{") else "",
        id=number,
        family=next((family for family in Family if f"_{family.upper()}" in name), None),
        direction="both",
        discard_name=None,
        discard_of=None,
        purpose=purpose,
        kernel_mode=True,
        buffered=False,
        default_sublayer=SUBLAYER_UNIVERSAL,
        fields=(),
    )
