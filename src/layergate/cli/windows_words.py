"""How the views of `layergate windows` put things: conditions, applications, filters, in short and as JSON data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from layergate.cli.words import field_words, prefix_words, run_words
from layergate.engine import groups
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Field,
    Filter,
    FilterFlag,
    Indication,
    Policy,
    Range,
    Value,
)
from layergate.model.lines import PATHS, value_to_json
from layergate.windows.filters import is_never
from layergate.windows.values import path_text


@dataclass(frozen=True, slots=True)
class Names:
    """What people call the objects of a dump, by key."""

    providers: Mapping[str, str]
    origins: Mapping[str, str]
    callouts: Mapping[str, str]
    sublayers: Mapping[str, str]

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """Return the names of *policy*: a provider with its service, a context by the rule that it names."""
        return cls(
            {one.key: f"{one.name} ({one.service})" if one.service else one.name for one in policy.providers},
            {one.key: one.text for one in policy.contexts},
            {one.key: one.name for one in policy.callouts},
            {one.key: one.name for one in policy.sublayers},
        )

    def provider(self, item: Filter) -> str:
        """Return who installed *item*, "" where nobody says."""
        return self.providers.get(item.provider, item.provider)

    def origin(self, item: Filter) -> str:
        """Return the rule that *item* is for, "" where no context says."""
        return self.origins.get(item.context, "")


def asks(item: Filter, names: Names) -> str:
    """Return in short what *item* asks for, and which callout it asks."""
    tests = [
        f"{field_words(name, is_windows=True)}{'?' if any(map(is_never, run)) else ''} "
        f"{run_words(item.layer, run, is_short=True)}"
        for name, run in groups(item.conditions)
    ]
    words = ", ".join(tests) or "everything"
    if item.action.is_callout and item.callout:
        kind = item.action.removeprefix("callout-")
        words += f" → callout '{names.callouts.get(item.callout, item.callout)}' ({kind})"
    return words


def action_words(item: Filter) -> str:
    """Return what *item* does: permit, hard permit, block, callout, continue."""
    if item.action.is_callout:
        return "callout"
    return "hard permit" if item.action is Action.PERMIT and item.hard else str(item.action)


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


def filter_line(item: Filter, names: Names, *, effective: int, heard: str, reason: str) -> dict[str, object]:
    """Return a `filter` line. *heard*: running, boot or disabled; *reason*: why it wasn't understood, or ""."""
    return {
        "kind": "filter",
        "filter": item.id,
        "filter_name": item.name,
        "key": item.key,
        "layer": item.layer.name,
        "sublayer": names.sublayers[item.sublayer],
        "action": str(item.action),
        "hard": item.hard,
        "weight": effective,
        "heard": heard,
        "conditions": [condition_data(item, one) for one in item.conditions],
        "callout": item.callout or None,
        "provider": item.provider or None,
        "provider_name": names.provider(item) or None,
        "context": item.context or None,
        "origin": names.origin(item) or None,
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
        return prefix_words(data, is_v6=value.type is DataType.V6_ADDR_MASK)
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
