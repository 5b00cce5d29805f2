"""The JSON Schema (2020-12) of a policy's JSON form, made from the catalogue and the table of names.

It says what `load_text` accepts as far as a schema can: names of layers and fields, types, ranges. What it can't say
(a field that one layer has and another lacks, a range upside down, a name twice) is `load_text`'s.
"""

from __future__ import annotations

import errno
from typing import Final

from layergate.model import LAYERS, DataType, Field, Response
from layergate.model.catalogue import PREFIX as LAYER_PREFIX
from layergate.model.catalogue_data import BUILTIN_SUBLAYERS
from layergate.model.lines import PATHS, TOKENS
from layergate.model.values import BITS
from layergate.policyfile.limit_schemas import ban_schema, limit_schema
from layergate.policyfile.limits import LIMIT_KEYS
from layergate.policyfile.loading import ACTIONS, CALLS, SUBLAYER_WEIGHT_MAX, WEIGHT_MAX, WEIGHT_RANGE_MAX
from layergate.policyfile.names import FIELD_NAMES, PREFIX, bit_names, value_names

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NOT: Final = "None of X. An unknown value does not meet it either."


def schema() -> dict[str, object]:
    """Return the schema of a policy in JSON."""
    return {
        "$schema": DIALECT,
        "title": "layergate policy",
        "description": "Sublayers and filters of the Windows Filtering Platform's model, enforced on Linux.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string"},
            "sublayer": {"type": "array", "items": _sublayer()},
            "filter": {"type": "array", "items": _filter()},
        },
        "$defs": {"layer": _layer()},
    }


def _name(what: str) -> dict[str, object]:
    return {
        "type": "string",
        "minLength": 1,
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        "description": f"The {what}'s name, its own in the file.",
    }


def _sublayer() -> dict[str, object]:
    own = ", ".join(name.removeprefix("FWPM_SUBLAYER_") for name in BUILTIN_SUBLAYERS)
    return {
        "type": "object",
        "description": f"A group of filters that gives one result. The platform's own need no definition: {own}.",
        "additionalProperties": False,
        "required": ["name", "weight"],
        "properties": {
            "name": _name("sublayer"),
            "weight": {
                **_integer(SUBLAYER_WEIGHT_MAX),
                "description": "The heavier sublayer is heard first. 0 to 65535, as a number or as text (0x8000).",
            },
            "description": {"type": "string"},
        },
    }


def _integer(top: int) -> dict[str, object]:
    return {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": top},
            {"type": "string", "pattern": "^(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})$"},
        ]
    }


def _filter() -> dict[str, object]:
    return {
        "type": "object",
        "description": "A filter, at one layer or several. A layer without a family means both.",
        "additionalProperties": False,
        "required": ["name", "layer", "action"],
        "properties": {
            "name": _name("filter"),
            "layer": {
                "description": "Where the filter stands.",
                "anyOf": [
                    {"$ref": "#/$defs/layer"},
                    {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"$ref": "#/$defs/layer"}},
                ],
            },
            "sublayer": {
                "type": "string",
                "description": "A sublayer of the file or WFP's own.",
                "default": "UNIVERSAL",
            },
            "action": {
                "enum": [str(action) for action in ACTIONS],
                "description": "What the filter says where it matches.",
            },
            "hard": {"type": "boolean", "description": "A permit that no lower sublayer can turn into a block."},
            "error": {
                "enum": sorted(set(errno.errorcode.values())),
                "description": f"What a blocked call returns (EPERM). Only with block, at {', '.join(sorted(CALLS))}.",
            },
            "weight": {
                **_integer(WEIGHT_MAX),
                "description": "The 64-bit weight, as it is. Without one it is automatic.",
            },
            "weight_range": {**_integer(WEIGHT_RANGE_MAX), "description": "An automatic weight in this sixteenth."},
            "when": _when(),
            "limit": limit_schema(),
            "response": {
                "enum": [str(response) for response in Response],
                "default": str(Response.DROP),
                "description": "How what is past the limit is blocked. Only with a limit, on a block.",
            },
            "ban": ban_schema(),
            "monitor": {"type": "boolean", "description": "Only tell what the limit would have done."},
            "description": {"type": "string"},
        },
        "allOf": [
            {"not": {"required": ["weight", "weight_range"]}},
            *({"if": {"required": [key]}, "then": {"required": ["limit"]}} for key in LIMIT_KEYS[1:]),
            {
                "if": {"properties": {"action": {"const": "permit"}}, "required": ["action"]},
                "then": {"properties": {"error": False, "response": False, "ban": False}},
                "else": {"properties": {"hard": {"const": False}}},
            },
        ],
    }


def _layer() -> dict[str, object]:
    shorts = dict.fromkeys(name for layer in LAYERS for name in (layer.base, layer.short))
    return {
        "description": "A layer of WFP, with or without FWPM_LAYER_, with or without its family.",
        "enum": [*shorts, *(f"{LAYER_PREFIX}{name}" for name in shorts)],
    }


def _when() -> dict[str, object]:
    """Return the schema of `when`: a property for each short name, and WFP's names for the same."""
    fields = {field.name: field for layer in reversed(LAYERS) for field in layer.fields}
    aliases = {"ICMP_TYPE": "IP_LOCAL_PORT", "ICMP_CODE": "IP_REMOTE_PORT"}
    properties = {short: _tested(fields[aliases.get(wfp, wfp)], wfp) for short, wfp in FIELD_NAMES.items()}
    wfp_names = "|".join(sorted({*fields, *aliases, "LOCAL_INTERFACE_TYPE", "LOCAL_TUNNEL_TYPE"}))
    return {
        "type": "object",
        "description": "What must hold: each field has one of its values. Without it the filter always matches.",
        "additionalProperties": False,
        "properties": properties,
        "patternProperties": {f"^({PREFIX})?({wfp_names})$": {"description": "The same under WFP's name."}},
    }


def _tested(field: Field, wfp: str) -> dict[str, object]:
    """Return the schema of what tests *field*."""
    scalar = _scalar(field)
    is_sortable = field.is_address or field.type in BITS
    several = {"type": "array", "minItems": 1, "items": scalar}
    bits: list[object] = []
    if field.type in BITS and not field.is_address:
        names = list(bit_names(field))
        bit: dict[str, object] = {"anyOf": [{"enum": names}, {"type": "integer"}]} if names else {"type": "integer"}
        both = {how: {"type": "array", "minItems": 1, "items": bit} for how in ("all", "none")}
        bits.append(
            {
                "type": "object",
                "description": "All of these bits are set, and none of those.",
                "additionalProperties": False,
                "required": list(both),
                "properties": both,
            }
        )
        for how, words in (("all", "All of these bits are set."), ("any", "One is set."), ("none", "None is set.")):
            bits.append(
                {
                    "type": "object",
                    "description": words,
                    "additionalProperties": False,
                    "required": [how],
                    "properties": {how: {"type": "array", "minItems": 1, "items": bit}},
                }
            )
        several["items"] = {"anyOf": [scalar, *bits]}
    negated: dict[str, object] = {
        "type": "object",
        "description": _NOT,
        "additionalProperties": False,
        "required": ["not"],
        "properties": {"not": {"anyOf": [scalar, several]} if is_sortable else scalar},
    }
    return {"description": f"{PREFIX}{wfp}: {_words(field)}", "anyOf": [scalar, several, negated, *bits]}


def _words(field: Field) -> str:
    if field.is_address:
        return "an address, a prefix (10.0.0.0/8), a range (10.0.0.1-10.0.0.9) or empty."
    if field.type in TOKENS:
        return "a user's name or id, or empty."
    if field.name in PATHS:
        return "the absolute path of an executable, or empty."
    if field.type in BITS:
        return "a number, a name that stands for one, a range (1024-65535) or empty."
    return "text, or empty."


def _scalar(field: Field) -> dict[str, object]:
    if field.type in TOKENS:
        return {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": (1 << 32) - 1}, {"type": "string", "minLength": 1}]
        }
    if field.name in PATHS:
        return {"type": "string", "pattern": "^(/.*|empty)$"}
    if field.type in BITS and not field.is_address:
        text: dict[str, object] = {"type": "string", "minLength": 1}
        names = value_names(field)
        if names and field.type is not DataType.UINT8:
            text["examples"] = list(names)
        return {"anyOf": [{"type": "integer", "minimum": 0, "maximum": (1 << BITS[field.type]) - 1}, text]}
    return {"type": "string", "minLength": 1}
