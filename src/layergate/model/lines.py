"""Values, indications and verdicts as JSON: the lines that scripts rely on.

One object a line, `kind` first, keys always in the same order. A value is what a reader would write: an address is
text, an application is its path, a token is the user id, a number is a number; null is a value that its source
doesn't know (empty). The two directions belong together: `value_from_json(field, value_to_json(field, value)) ==
value`.

A v4-mapped IPv6 address is IPv4 at every layer: `normalized` unmaps it, and moves the indication to the _V4 layer.
Source: docs, "Outputs that scripts rely on".
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeVar

from layergate.model.catalogue import Family, Field, Layer, layer_named, layers_named
from layergate.model.errors import InputError
from layergate.model.indication import Indication, Process, SublayerVerdict, Verdict
from layergate.model.limits import Standing
from layergate.model.policy import Action, Filter
from layergate.model.values import BITS, SIGNED_BITS, TEXTS, DataType, Value

PATHS: Final = frozenset({"ALE_APP_ID", "ALE_ORIGINAL_APP_ID"})
"""The BYTE_BLOB fields that hold a path, UTF-8 (other bytes survive as lone surrogates, as in `os.fsdecode`)."""

TOKENS: Final = (DataType.TOKEN_INFORMATION, DataType.TOKEN_ACCESS_INFORMATION)
USER_ID_BITS: Final = 32

_T = TypeVar("_T")


def value_to_json(field: Field, value: Value | None) -> object:
    """Return *value* of *field* as JSON data. None where it is empty."""
    if value is None or value.type is DataType.EMPTY:
        return None
    data = value.data
    if field.is_address:
        return address_text(data)
    if isinstance(data, bytes):
        if field.name in PATHS:
            return data.decode("utf-8", "surrogateescape")
        if value.type is DataType.BYTE_ARRAY16:
            return str(uuid.UUID(bytes=data))
        return data.hex(":") if value.type is DataType.BYTE_ARRAY6 else f"0x{data.hex()}"
    return data


def value_from_json(field: Field, data: object) -> Value | None:
    """Return *data* as a value of *field*; None (null) is empty. Raises InputError."""
    if data is None:
        return None
    value = _typed(field, data)
    if value is None:
        raise InputError(f"{field.name} = {_shown(data)}", f"{field.name} takes {accepted_json(field)}")
    return value


def accepted_json(field: Field) -> str:
    """Return, in words, which JSON data *field* takes."""
    if field.is_address:
        words = f"an IP{'v4' if field.type is DataType.UINT32 else 'v6'} address as text"
    elif field.name in PATHS:
        words = "an absolute path"
    elif field.type in TOKENS:
        words = "a user id, 0 to 4294967295"
    elif field.type in BITS:
        words = f"a number, 0 to {(1 << BITS[field.type]) - 1}"
    elif field.type in SIGNED_BITS:
        words = f"a number of {SIGNED_BITS[field.type]} bits"
    else:
        words = {
            DataType.BYTE_ARRAY16: "a UUID as text",
            DataType.BYTE_ARRAY6: "six bytes as text, 02:00:5e:10:00:00",
            DataType.BYTE_BLOB: "bytes as text, 0x00ff",
        }.get(field.type, "text")
    return f"{words}, or null"


def _typed(field: Field, data: object) -> Value | None:
    """Return *data* as a value of *field*, or None where it is none."""
    kind = DataType.TOKEN_ACCESS_INFORMATION if field.type in TOKENS else field.type
    if (kind in BITS and not field.is_address) or kind in SIGNED_BITS or kind in TOKENS:
        if type(data) is not int or (kind in TOKENS and not 0 <= data < 1 << USER_ID_BITS):
            return None
        return _fitting(field.type, data)
    if not isinstance(data, str):
        return None
    if kind in TEXTS:
        return Value(kind, data)
    try:
        return _from_text(field, data)
    except ValueError:
        return None


def _from_text(field: Field, text: str) -> Value | None:
    """Return *text* as an address or bytes. Raises ValueError where it is neither."""
    if field.is_address:
        if field.type is DataType.UINT32:
            return Value(field.type, int(ipaddress.IPv4Address(text)))
        address = ipaddress.IPv6Address(text)
        return None if address.scope_id else Value(field.type, address.packed)
    if field.name in PATHS:
        return Value(field.type, text.encode("utf-8", "surrogateescape"))
    if field.type is DataType.BYTE_ARRAY16:
        return Value(field.type, uuid.UUID(text).bytes)
    if field.type is DataType.BYTE_ARRAY6:
        return Value(field.type, bytes.fromhex(text.replace(":", " ").replace("-", " ")))
    return Value(field.type, bytes.fromhex(text.removeprefix("0x")))


def _fitting(kind: DataType, data: int) -> Value | None:
    try:
        return Value(kind, data)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def address_text(address: int | bytes | str) -> str:
    """Return an address (an integer is IPv4, 16 bytes are IPv6) as text; a v4-mapped one as IPv4."""
    if isinstance(address, int):
        return str(ipaddress.IPv4Address(address))
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def endpoint_text(address: int | bytes | str, port: int) -> str:
    """Return "10.0.0.1:80" or "[::1]:80"."""
    text = address_text(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def unmapped(value: Value) -> Value | None:
    """Return the IPv4 value that a v4-mapped IPv6 address is, or None where *value* is no such address."""
    if value.type is not DataType.BYTE_ARRAY16 or not isinstance(value.data, bytes):
        return None
    mapped = ipaddress.IPv6Address(value.data).ipv4_mapped
    return None if mapped is None else Value(DataType.UINT32, int(mapped))


def normalized(indication: Indication) -> Indication:
    """Return *indication* at the layer where it is classified: with a v4-mapped address, unmapped at the _V4 layer.

    An unspecified address (``::``) beside a mapped one becomes 0.0.0.0. Where an address stands beside it that is IPv6
    for good, nothing is changed: such an indication has no IPv4 form.
    """
    layer = indication.layer
    twin = v4_twin(layer)
    if twin is None:
        return indication
    values: dict[str, Value] = {}
    mapped_count = 0
    for name, value in indication.values.items():
        field = layer.field(name)
        if field is None or not field.is_address or value.type is not DataType.BYTE_ARRAY16:
            values[name] = value
            continue
        plain = unmapped(value)
        mapped_count += plain is not None
        if plain is None and any(value.data):  # type: ignore[arg-type]
            return indication
        values[name] = plain or Value(DataType.UINT32, 0)
    if not mapped_count:
        return indication
    return replace(
        indication,
        layer=twin,
        values={name: value for name, value in values.items() if twin.field(name)},
        local=_unmapped_endpoint(indication.local),
        remote=_unmapped_endpoint(indication.remote),
    )


def v4_twin(layer: Layer) -> Layer | None:
    """Return the _V4 layer of a _V6 *layer*, None for every other."""
    if layer.family is not Family.V6:
        return None
    return next((twin for twin in layers_named(layer.base) if twin.family is Family.V4), None)


def _unmapped_endpoint(text: str | None) -> str | None:
    """Return "[::ffff:10.0.0.1]:80" as "10.0.0.1:80"; anything else as it is."""
    if text is None or not text.startswith("["):
        return text
    address, _, port = text[1:].rpartition("]:")
    try:
        return endpoint_text("0.0.0.0" if address == "::" else address, int(port))  # noqa: S104 - not bound to
    except ValueError:
        return text


def process_line(process: Process | None) -> dict[str, object] | None:
    """Return *process* as JSON data."""
    if process is None:
        return None
    return {"pid": process.pid, "app": process.app, "user": process.user, "unit": process.unit}


def indication_line(
    indication: Indication,
    *,
    action: Action | str | None,
    filter_id: int | None,
    filter_name: str | None,
    sublayer: str | None,
    version: int,
    fields: Iterable[str] | None = None,
) -> dict[str, object]:
    """Return *indication* with what was decided on it as a line.

    Args:
        indication: as decided; `values` are printed in the layer's order of fields.
        action: permit or block; None where nothing was decided.
        filter_id: the deciding filter; 0 or None where none decided.
        filter_name: its name.
        sublayer: its sublayer's name.
        version: the version that it was decided in.
        fields: names of the fields that the source gives at this layer; those without a value are printed as null.
    """
    given = set(indication.values) | set(fields or ())
    return {
        "kind": "indication",
        "time": indication.time,
        "host": indication.host,
        "event": indication.event,
        "layer": indication.layer.name,
        "flow": indication.flow,
        "protocol": indication.protocol,
        "local": indication.local,
        "remote": indication.remote,
        "process": process_line(indication.process),
        "action": None if action is None else str(action),
        "filter": filter_id or None,
        "filter_name": filter_name,
        "sublayer": sublayer,
        "reauthorize": indication.reauthorize,
        "version": version,
        "values": {
            field.name: value_to_json(field, indication.values.get(field.name))
            for field in indication.layer.fields
            if field.name in given
        },
    }


def indication_from_line(data: Mapping[str, Any], place: str = "", line: int | None = None) -> Indication:
    """Return the indication that *data*, a parsed line, holds; keys that no indication has are left alone.

    Args:
        data: the parsed JSON object.
        place: where it comes from, for errors (a file name).
        line: its line there.

    Raises:
        InputError: a wrong kind, an unknown layer or field, a value of the wrong type.
    """
    try:
        return _indication(data)
    except InputError as error:
        raise InputError(error.found, error.accepted, place=place, line=line) from None


def _indication(data: Mapping[str, Any]) -> Indication:
    if data.get("kind") != "indication":
        raise InputError(f"kind {_shown(data.get('kind'))}", "an indication has the kind 'indication'")
    name = data.get("layer")
    layer = layer_named(name) if isinstance(name, str) else None
    if layer is None:
        raise InputError(f"unknown layer {_shown(name)}", "a layer with its family, FWPM_LAYER_ALE_AUTH_CONNECT_V4")
    given = data.get("values")
    if not isinstance(given, Mapping):
        raise InputError(f"values {_shown(given)}", "values are an object of fields")
    values: dict[str, Value] = {}
    for key, item in given.items():
        field = layer.field(key)
        if field is None:
            known = ", ".join(field.name for field in layer.fields)
            raise InputError(f"{layer.short} has no field {_shown(key)}", f"its fields are {known}")
        value = value_from_json(field, item)
        if value is not None:
            values[field.name] = value
    time = data.get("time", 0.0)
    if type(time) not in (int, float):
        raise InputError(f"time {_shown(time)}", "time is a number of seconds")
    return Indication(
        layer=layer,
        values=values,
        time=float(time),
        host=_optional(data, "host", str),
        event=_optional(data, "event", str) or "",
        flow=_optional(data, "flow", int),
        protocol=_optional(data, "protocol", str) or "tcp",
        local=_optional(data, "local", str),
        remote=_optional(data, "remote", str),
        process=_process(data.get("process")),
        reauthorize=bool(_optional(data, "reauthorize", bool)),
    )


def _process(data: object) -> Process | None:
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise InputError(f"process {_shown(data)}", "process is an object or null")
    return Process(
        pid=_optional(data, "pid", int),
        app=_optional(data, "app", str),
        user=_optional(data, "user", int),
        unit=_optional(data, "unit", str),
    )


def _optional(data: Mapping[str, Any], key: str, kind: type[_T]) -> _T | None:
    """Return data[key] where it is a *kind*, None where it is absent or null. Raises InputError."""
    value = data.get(key)
    if value is None:
        return None
    # bool is an int to Python, and is none to JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        word = {str: "text", int: "a number", bool: "true or false"}[kind]
        raise InputError(f"{key} {_shown(value)}", f"{key} is {word} or null")
    return value


def verdict_line(verdict: Verdict, layer: Layer) -> dict[str, object]:
    """Return *verdict* at *layer* as a line.

    `sublayers` are in the order in which they were heard; of each, `matched` heaviest first, `filter` the one that
    ended it (null where nothing matched) and `lost` what matched and did not prevail, with why.
    """
    decided = verdict.filter
    return {
        "kind": "verdict",
        "layer": layer.name,
        "action": str(verdict.action),
        "filter": decided.id if decided else None,
        "filter_name": decided.name if decided else None,
        "sublayer": verdict.sublayer.name if verdict.sublayer else None,
        "hard": verdict.hard,
        "version": verdict.version,
        "sublayers": [
            {
                "sublayer": told.sublayer.name,
                "weight": told.sublayer.weight,
                "action": str(told.action) if told.action else None,
                "filter": told.decided.id if told.decided else None,
                "filter_name": told.decided.name if told.decided else None,
                "matched": [
                    {**_named(item), "hard": item.hard, "weight": weight}
                    for item, weight in zip(told.matched, told.weights, strict=True)
                ],
                "lost": list(_lost(told)),
                "continued": [_named(item) for item in told.continued],
                "limits": [_standing(item, standing) for item, standing in told.standings],
                "effect": told.effect,
            }
            for told in verdict.sublayers
        ],
        "veto": verdict.veto.id if verdict.veto else None,
    }


def _standing(item: Filter, standing: Standing) -> dict[str, object]:
    """Return how the key stood to the limit of *item*."""
    return {
        **_named(item),
        "limited": str(item.limit),
        "key": standing.key,
        "count": standing.count,
        "limit": standing.limit,
        "past": standing.is_past,
        "banned_until": standing.banned_until,
    }


def _lost(told: SublayerVerdict) -> Iterator[dict[str, object]]:
    """Yield what matched and did not prevail, with why."""
    if told.decided is None:
        return
    if not told.took_effect:
        yield {**_named(told.decided), "why": told.effect}
    for item in told.lost:
        yield {**_named(item), "why": f"'{told.decided.name}' above it had ended the sublayer"}


def _named(item: Filter) -> dict[str, object]:
    return {"filter": item.id, "filter_name": item.name, "action": str(item.action)}


def _shown(data: object) -> str:
    """Return *data* for a message, cut to a length that a line bears."""
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."
