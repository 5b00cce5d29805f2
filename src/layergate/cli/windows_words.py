"""How the views of `layergate windows` put things: conditions, applications, filters, in short and as JSON data."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from layergate.engine import groups
from layergate.engine.sddl import entries
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Field,
    Filter,
    FilterFlag,
    Indication,
    MatchType,
    Policy,
    Range,
    Value,
)
from layergate.model.lines import PATHS, address_text, value_to_json
from layergate.policyfile.names import bit_names, friendly_name, value_names
from layergate.windows.filters import is_never
from layergate.windows.values import path_text

SID_SHOWN_MAX: Final = 24
ALTERNATIVES_SHOWN_MAX: Final = 4
# What the short names of policy files call after Linux.
_NAMES: Final = {"ALE_PACKAGE_ID": "package"}
_MATCHES: Final = {
    MatchType.NOT_EQUAL: "not ",
    MatchType.GREATER: "more than ",
    MatchType.LESS: "less than ",
    MatchType.GREATER_OR_EQUAL: "at least ",
    MatchType.LESS_OR_EQUAL: "at most ",
    MatchType.FLAGS_ALL_SET: "",
    MatchType.FLAGS_ANY_SET: "any of ",
    MatchType.FLAGS_NONE_SET: "no ",
    MatchType.EQUAL_CASE_INSENSITIVE: "in any case ",
    MatchType.PREFIX: "ending in ",
    MatchType.NOT_PREFIX: "not ending in ",
}
_SIDS: Final = {
    "S-1-0-0": "none",
    "S-1-1-0": "everyone",
    "S-1-5-7": "anonymous",
    "S-1-5-11": "authenticated users",
    "S-1-5-18": "system",
    "S-1-5-19": "local service",
    "S-1-5-20": "network service",
    "S-1-5-32-544": "administrators",
    "S-1-5-32-545": "users",
    "S-1-15-2-1": "all app packages",
}
# NL_INTERFACE_NETWORK_CATEGORY_STATE.
_PROFILES: Final = {0: "none", 1: "public", 2: "private", 3: "domain"}


def short_name(name: str) -> str:
    """Return the name of a sublayer without the platform's prefix."""
    return name.removeprefix("FWPM_SUBLAYER_")


def asks(item: Filter, callouts: Mapping[str, str]) -> str:
    """Return in short what *item* asks for, and which callout it asks; *callouts* are names by key."""
    tests = [_run(item, name, run) for name, run in groups(item.conditions)]
    words = ", ".join(tests) or "everything"
    if item.action.is_callout and item.callout:
        kind = item.action.removeprefix("callout-")
        words += f" → callout '{callouts.get(item.callout, item.callout)}' ({kind})"
    return words


def _run(item: Filter, name: str, run: tuple[Condition, ...]) -> str:
    field = item.layer.field(name)
    if field is None or any(is_never(one) for one in run):
        return " or ".join(f"{friendly_name(name)}? {one.value.data!s}" for one in run)
    shown = [_MATCHES.get(one.match, "") + _value(field, one.value) for one in run[:ALTERNATIVES_SHOWN_MAX]]
    shown += [f"{len(run) - len(shown)} more"] if len(run) > len(shown) else []
    return f"{_NAMES.get(name) or friendly_name(name)} {' or '.join(shown)}"


def _value(field: Field, value: Value) -> str:
    """Return what a condition compares with, in short: an application is the last part of its path."""
    data = value.data
    if isinstance(data, Range):
        return f"{_value(field, data.low)}-{_value(field, data.high)}"
    if isinstance(data, AddressMask):
        return _prefix(data, is_v6=value.type is DataType.V6_ADDR_MASK)
    if value.type is DataType.EMPTY:
        return "empty"
    if isinstance(data, int):
        return _number(field, data)
    if field.is_address and isinstance(data, bytes):
        return address_text(data)
    if isinstance(data, bytes):
        return path_text(data).rpartition("\\")[2] if field.name in PATHS else str(value_to_json(field, value))
    if value.type is DataType.SECURITY_DESCRIPTOR:
        return _descriptor(str(data))
    return _sid(str(data)) if value.type is DataType.SID else str(data)


def _prefix(mask: AddressMask, *, is_v6: bool) -> str:
    address = ipaddress.IPv6Address(mask.address) if is_v6 else ipaddress.IPv4Address(mask.address)
    bits = 128 if is_v6 else 32
    length = mask.mask.bit_count()
    if mask.mask == ((1 << length) - 1) << (bits - length):
        return f"{address}/{length}"
    return f"{address} masked by {ipaddress.ip_address(mask.mask)}"


def _number(field: Field, number: int) -> str:
    if field.is_address and field.type is DataType.UINT32:
        return address_text(number)
    bits = bit_names(field)
    if bits:
        names = [name for name, bit in bits.items() if number & bit]
        rest = number & ~sum(bits.values())
        return ", ".join([*names, *([f"{rest:#x}"] if rest or not names else [])])
    words = {value: word for word, value in value_names(field).items()}
    if field.name.endswith("PROFILE_ID"):
        words = _PROFILES
    return words.get(number, str(number))


def _descriptor(sddl: str) -> str:
    """Return whom a security descriptor lets match."""
    listed = entries(sddl)
    if listed is None:
        return "anybody"
    shown = [("" if entry.allows else "not ") + _sid(entry.sid) for entry in listed[:ALTERNATIVES_SHOWN_MAX]]
    shown += [f"{len(listed) - len(shown)} more"] if len(listed) > len(shown) else []
    return " or ".join(shown) or "nobody"


def _sid(sid: str) -> str:
    known = _SIDS.get(sid)
    if known or len(sid) <= SID_SHOWN_MAX:
        return known or sid
    return f"{sid[:SID_SHOWN_MAX]}…"


def action_words(item: Filter) -> str:
    """Return what *item* does: permit, hard permit, block, callout, continue."""
    if item.action.is_callout:
        return "callout"
    return "hard permit" if item.action is Action.PERMIT and item.hard else str(item.action)


def installer(item: Filter, policy: Policy) -> tuple[str, str]:
    """Return (the provider's name and service, the filter's origin); each "" where there is none."""
    provider = next((one for one in policy.providers if one.key == item.provider), None)
    context = next((one for one in policy.contexts if one.key == item.context), None) if item.context else None
    name = item.provider
    if provider is not None:
        name = f"{provider.name} ({provider.service})" if provider.service else provider.name
    return name, context.text if context is not None else ""


def flag_words(item: Filter) -> list[str]:
    """Return the flags of *item* that matter to a reader, in words."""
    words = {
        FilterFlag.PERSISTENT: "persistent",
        FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED: "permits without its callout",
        FilterFlag.SILENT_MODE: "silent mode",
        FilterFlag.SYSTEMOS_ONLY: "system OS only",
        FilterFlag.GAMEOS_ONLY: "game OS only",
    }
    return [word for flag, word in words.items() if flag in item.flags]


def app_text(indication: Indication) -> str:
    """Return the application of *indication*, by the last part of its path."""
    app = indication.process.app if indication.process else None
    return app.rpartition("\\")[2] if app else ""


def ends_text(indication: Indication) -> str:
    """Return "tcp 10.0.0.1:49152 - 1.2.3.4:443"; ? for an end that isn't known."""
    return f"{indication.protocol or '?'} {indication.local or '?'} - {indication.remote or '?'}"


# --- JSON data ------------------------------------------------------------------------------------------------------


def filter_line(
    item: Filter, policy: Policy, sublayer: str, *, effective: int, heard: str, reason: str
) -> dict[str, object]:
    """Return a `filter` line. *heard*: running, boot or disabled; *reason*: why it wasn't understood, or ""."""
    provider, origin = installer(item, policy)
    return {
        "kind": "filter",
        "filter": item.id,
        "filter_name": item.name,
        "key": item.key,
        "layer": item.layer.name,
        "sublayer": sublayer,
        "action": str(item.action),
        "hard": item.hard,
        "weight": effective,
        "heard": heard,
        "conditions": [condition_data(item, one) for one in item.conditions],
        "callout": item.callout or None,
        "provider": item.provider or None,
        "provider_name": provider or None,
        "context": item.context or None,
        "origin": origin or None,
        "flags": [flag.name for flag in item.flags] + list(item.marks),
        "understood": not reason,
        "reason": reason or None,
        "description": item.description,
        "line": item.line or None,
    }


def condition_data(item: Filter, condition: Condition) -> dict[str, object]:
    """Return a condition as JSON data; one that was not understood has its text, and no value."""
    field = item.layer.field(condition.field)
    if field is None or is_never(condition):
        return {"field": condition.field, "match": None, "value": None, "text": str(condition.value.data)}
    return {"field": condition.field, "match": condition.match.name, "value": value_data(field, condition.value)}


def value_data(field: Field, value: Value) -> object:
    """Return a value of *field* as JSON data: a range as {low, high}, a mask as a prefix, a path as text."""
    data = value.data
    if isinstance(data, Range):
        return {"low": value_data(field, data.low), "high": value_data(field, data.high)}
    if isinstance(data, AddressMask):
        return _prefix(data, is_v6=value.type is DataType.V6_ADDR_MASK)
    if isinstance(data, bytes) and field.name in PATHS:
        return path_text(data)
    return value_to_json(field, value)


def values_data(indication: Indication) -> dict[str, object]:
    """Return the values of *indication* as JSON data, in the layer's order of fields."""
    return {
        field.name: value_data(field, indication.values[field.name])
        for field in indication.layer.fields
        if field.name in indication.values
    }
