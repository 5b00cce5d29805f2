"""Filters of a dump, each with its conditions, and which of them can't be understood.

A filter with a condition that layergate has no name for must never be heard as if the condition were not there: it
keeps one in its place that nothing meets (`never`), and a reason in `Filters.not_understood`. So do filters whose
action, layer or weight is unknown: they are shown, and what depends on them is said to be undecided.

Worked example: <fieldKey>{3ad3…}</fieldKey> in a filter at ALE_AUTH_CONNECT_V4 becomes the condition `{3ad3…}
FLAGS_ALL_SET "…"`, which no number and no text meets, and the reason "ALE_AUTH_CONNECT_V4 has no field {3ad3…}".
Source: fwpmtypes.h; 9,338 filters of 12 dumps.
"""

from __future__ import annotations

from typing import Final

from layergate.engine import condition_problem, groups
from layergate.model import Action, Condition, DataType, Filter, FilterFlag, Layer, MatchType, Value
from layergate.model.values import EMPTY
from layergate.windows.layers import Layers
from layergate.windows.names import field_name, flags_of, key_name
from layergate.windows.notes import Notes, shown
from layergate.windows.objects import display_of, items_of, parts_of, text_in
from layergate.windows.reading import Node
from layergate.windows.values import NotUnderstood, Values

NULL_KEY: Final = "{00000000-0000-0000-0000-000000000000}"
WEIGHT_RANGE_MAX: Final = 15

# Marks that dumps print, of which no header tells the bit. They say what a filter is for, not what it does.
KNOWN_MARKS: Final = frozenset(
    {"FWPM_FILTER_FLAG_HAS_FILTER_ORIGIN", "FWPM_FILTER_FLAG_HAS_PACKAGE_ID_CONDITION_CONVERTED_TO_PFN"}
)
_PARTS: Final = frozenset(
    {
        *("filterKey", "displayData", "flags", "providerKey", "providerData", "layerKey", "subLayerKey", "weight"),
        *("filterCondition", "action", "rawContext", "providerContextKey", "reserved", "filterId", "effectiveWeight"),
    }
)
_ACTION_PREFIX: Final = "FWP_ACTION_"
_MATCH_PREFIX: Final = "FWP_MATCH_"
_ACTIONS: Final = {action.name: action for action in Action}


def never(field: str, printed: str) -> Condition:
    """Return a condition on *field* that no value meets: flags of a text. *printed* is kept in it."""
    return Condition(field, MatchType.FLAGS_ALL_SET, Value(DataType.UNICODE_STRING, printed))


def is_never(condition: Condition) -> bool:
    """Whether *condition* stands for one that was not understood."""
    return condition.match is MatchType.FLAGS_ALL_SET and condition.value.type is DataType.UNICODE_STRING


class Filters:
    """Reads the filters of one file. Every id and every key is there once."""

    def __init__(self, notes: Notes, values: Values, layers: Layers) -> None:
        self._notes, self._values, self._layers = notes, values, layers
        self.by_id: dict[int, Filter] = {}
        self.not_understood: dict[int, str] = {}
        self._keys: set[str] = set()

    def add(self, node: Node) -> None:
        """Take a filter."""
        parts = parts_of(node, _PARTS, self._notes, "filter")
        number = self._values.number(node, "filterId", 64, "a filter")
        subject = f"filter {number}"
        if number == 0 or number in self.by_id:
            found = f"{subject} a second time" if number else "filterId 0, which says that no filter decided"
            raise self._notes.wrong(node.line, found, "an id of its own for every filter")
        key = key_name(self._required(parts, "filterKey", node, subject))
        if key in self._keys:
            raise self._notes.wrong(node.line, f"{subject}: the key {key} a second time", "every filter once")
        self._keys.add(key)
        layer = self._layers.named(self._required(parts, "layerKey", node, subject), node.line)
        reasons: list[str] = []
        conditions = self._conditions(parts.get("filterCondition"), layer, subject, reasons)
        action, callout, refused = self._action(parts, node, subject, reasons)
        name, description = display_of(parts)
        flags, marks = self._flags(parts, subject)
        self.by_id[number] = Filter(
            id=number,
            name=name or key,
            layer=layer,
            sublayer=key_name(self._required(parts, "subLayerKey", node, subject)),
            action=action,
            conditions=conditions + refused,
            weight=self._weight(parts, subject),
            flags=flags,
            line=node.line,
            description=description,
            key=key,
            callout=callout,
            provider=key_name(text_in(parts, "providerKey")),
            context=key_name(text_in(parts, "providerContextKey")),
            recorded_weight=self._recorded(parts, node, subject),
            marks=marks,
        )
        if reasons:
            self.not_understood[number] = "; ".join(dict.fromkeys(reasons))
            self._notes.unknown(node.line, subject, self.not_understood[number], "kept, and never taken to match")

    def _required(self, parts: dict[str, Node], tag: str, node: Node, subject: str) -> str:
        text = text_in(parts, tag)
        if not text:
            raise self._notes.wrong(node.line, f"{subject} without <{tag}>", f"<{tag}>")
        return text

    def _flags(self, parts: dict[str, Node], subject: str) -> tuple[FilterFlag, tuple[str, ...]]:
        items = items_of(parts.get("flags"), self._notes, subject)
        flags, marks = flags_of((item.text for item in items), FilterFlag)
        for mark in marks:
            if mark not in KNOWN_MARKS:
                found = f"the flag {shown(mark)} of a filter"
                self._notes.unknown(parts["flags"].line, subject, found, "kept as it is; it changes nothing here")
        return flags, marks

    def _weight(self, parts: dict[str, Node], subject: str) -> Value:
        """Return the weight: EMPTY where it is absent, or of a kind that no filter can have."""
        part = parts.get("weight")
        if part is None:
            return EMPTY
        weight = self._values.value(part, subject)
        if isinstance(weight, NotUnderstood) or weight.type not in (DataType.EMPTY, DataType.UINT8, DataType.UINT64):
            found = f"a weight of type {part.text_of('type')}"
            self._notes.unknown(part.line, subject, found, "the effective weight that the dump records is used")
            return EMPTY
        if weight.type is DataType.UINT8 and weight.data > WEIGHT_RANGE_MAX:  # type: ignore[operator]
            raise self._notes.wrong(part.line, f"{subject}: weight range {weight.data!r}", "0 to 15")
        return weight

    def _recorded(self, parts: dict[str, Node], node: Node, subject: str) -> int | None:
        """Return the effective weight that the dump records, None where it records none."""
        part = parts.get("effectiveWeight")
        if part is None:
            taken = "it is computed, as the newest Windows that was measured does"
            self._notes.doubt(node.line, subject, "a filter without effective weight", taken)
            return None
        value = self._values.value(part, subject)
        if isinstance(value, NotUnderstood) or value.type is not DataType.UINT64:
            raise self._notes.wrong(part.line, f"{subject}: no UINT64 for its effective weight", "FWP_UINT64")
        return value.data  # type: ignore[return-value]

    def _action(
        self, parts: dict[str, Node], node: Node, subject: str, reasons: list[str]
    ) -> tuple[Action, str, tuple[Condition, ...]]:
        """Return (action, callout, conditions in the place of an unknown action)."""
        part = parts.get("action")
        printed = part.text_of("type") if part is not None else ""
        if part is None or not printed:
            raise self._notes.wrong(
                node.line, f"{subject} without <action> and its <type>", "<type>FWP_ACTION_…</type>"
            )
        action = _ACTIONS.get(printed.removeprefix(_ACTION_PREFIX))
        # netsh prints a callout's key as the filter's type: one union in the header.
        callout = key_name(part.text_of("filterType") or part.text_of("calloutKey"))
        if action is None:
            reasons.append(f"the action {shown(printed)}")
            return Action.CONTINUE, "", (never("action", printed),)
        if not action.is_callout:
            return action, "", ()
        if callout in ("", NULL_KEY):
            reasons.append("it asks a callout and doesn't say which")
            return action, "", (never("action", printed),)
        return action, callout, ()

    # --- conditions -------------------------------------------------------------------------------------------------

    def _conditions(self, part: Node | None, layer: Layer, subject: str, reasons: list[str]) -> tuple[Condition, ...]:
        items = items_of(part, self._notes, subject)
        conditions = tuple(self._condition(item, layer, subject, reasons) for item in items)
        fields = [field for field, _ in groups(conditions)]
        if len(fields) != len(set(fields)):
            found = "conditions on one field that stand apart"
            line = part.line if part is not None else None
            self._notes.doubt(line, subject, found, "all of them must hold; what Windows does is not documented")
        return conditions

    def _condition(self, item: Node, layer: Layer, subject: str, reasons: list[str]) -> Condition:
        parts = parts_of(item, ("fieldKey", "matchType", "conditionValue"), self._notes, "condition")
        printed = self._required(parts, "fieldKey", item, f"{subject}: a condition")
        match_printed = self._required(parts, "matchType", item, f"{subject}: a condition")
        holder = parts.get("conditionValue")
        if holder is None:
            raise self._notes.wrong(item.line, f"{subject}: a condition without value", "<conditionValue>")
        name = field_name(printed)
        match = MatchType.__members__.get(match_printed.removeprefix(_MATCH_PREFIX))
        value = self._values.value(holder, f"{subject}: {name}")
        field = layer.field(name)
        reason: str | None = None
        if field is None:
            reason = f"{layer.short} has no field {name}" if layer.fields else f"{layer.short} is unknown"
        elif match is None:
            reason = f"the match type {shown(match_printed)}"
        elif isinstance(value, NotUnderstood):
            reason = value.reason
        elif len(parts) < len(item.children) or set(parts) - {"fieldKey", "matchType", "conditionValue"}:
            reason = "a condition of more parts than field, match and value"
        else:
            condition = Condition(field.name, match, value)
            reason = condition_problem(field, condition)
            if reason is None:
                return condition
        reasons.append(reason)
        data = next((child for child in holder.children if child.tag != "type"), None)
        text = data.text if data is not None else ""
        return never(name, " ".join((match_printed, holder.text_of("type"), text)).strip())
