"""The JSON Schema of a filter's `limit` and `ban`; what they mean is `limits`'. Example: `concurrent` needs a `per`."""

from __future__ import annotations

from typing import Final

from layergate.model import Counted, Per
from layergate.model.limits import COUNT_MAX, UNITS_MS
from layergate.policyfile.limits import BYTES_MAX, PREFIXES, TABLES

_PATTERN: Final = f"^[0-9]{{1,12}}({'|'.join(UNITS_MS)})$"


def _whole(top: int = COUNT_MAX, least: int = 1) -> dict[str, object]:
    return {"type": "integer", "minimum": least, "maximum": top}


_TIME: Final[dict[str, object]] = {"type": "string", "pattern": _PATTERN}


def ban_schema() -> dict[str, object]:
    """Return the schema of `ban`."""
    table = {"for": _TIME, "up_to": _TIME}
    return {
        "description": "How long who got past the limit is blocked; doubled for repeaters up to up_to.",
        "anyOf": [
            _TIME,
            {"type": "object", "additionalProperties": False, "required": ["for"], "properties": table},
        ],
    }


def limit_schema() -> dict[str, object]:
    """Return the schema of `limit`: exactly one counted thing, and what belongs to it."""
    per = {"enum": [str(one) for one in Per]}
    properties: dict[str, object] = {
        "per": {**per, "description": "Over what is counted; for slow and empty: whom a ban bans."},
        **{name: _whole(bits) for name, bits in PREFIXES.items()},
        "over": _TIME,
        "connections": _whole(),
        "fair": {**per, "description": "Among whom a total is shared."},
    }
    for counted in Counted:
        inner = {key: _whole(BYTES_MAX) if key == "bytes" else _TIME for key in TABLES.get(counted, ())}
        table = {"type": "object", "additionalProperties": False, "required": list(inner), "properties": inner}
        properties[str(counted)] = table if inner else _whole(least=int(counted is not Counted.ABNORMAL))
    counts = [one for one in Counted if one not in TABLES and one is not Counted.ABNORMAL]
    return {
        "type": "object",
        "description": "The filter matches only what is past it. At ALE_AUTH_RECV_ACCEPT and ALE_AUTH_CONNECT.",
        "additionalProperties": False,
        "properties": properties,
        "oneOf": [{"required": [str(counted)]} for counted in Counted],
        "allOf": [
            *(
                {"if": {"required": [str(one)]}, "then": {"required": ["per", *(["over"] if one.has_period else [])]}}
                for one in counts
            ),
            {"if": {"required": [str(Counted.ABNORMAL)]}, "then": {"required": ["over"]}},
            {
                "if": {"properties": {str(Counted.ABNORMAL): {"const": 0}}, "required": [str(Counted.ABNORMAL)]},
                "then": {"required": ["connections"]},
            },
            {
                "if": {"required": ["fair"]},
                "then": {"required": ["concurrent"], "properties": {"per": {"const": "all"}}},
            },
        ],
    }
