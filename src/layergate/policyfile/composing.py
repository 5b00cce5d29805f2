"""A policy as a file: `load_text(compose(policy))` gives the same sublayers and filters.

Filters of one name that follow one another came from one table, and go back into one: their layers become a list (a
V4 and a V6 layer side by side one name without family), their address conditions a list of both families. Resolved
names stay resolved: a user is its id, an interface its index.
"""

from __future__ import annotations

import errno
import json
from itertools import groupby
from typing import Final

from layergate.engine.matching import groups
from layergate.model import (
    SUBLAYER_UNIVERSAL,
    AddressMask,
    Condition,
    DataType,
    Family,
    Field,
    Filter,
    FilterFlag,
    InputError,
    Layer,
    MatchType,
    Policy,
    Range,
    Value,
)
from layergate.model.catalogue_data import BUILTIN_SUBLAYERS
from layergate.model.lines import PATHS, TOKENS, value_to_json
from layergate.model.values import BITS
from layergate.policyfile.conditions import EMPTY_WORD
from layergate.policyfile.limits import limit_words
from layergate.policyfile.names import bit_names, friendly_name, value_names

Json = dict[str, object]

_FLAG_WORDS: Final = {
    MatchType.FLAGS_ALL_SET: "all",
    MatchType.FLAGS_ANY_SET: "any",
    MatchType.FLAGS_NONE_SET: "none",
}
TOML_INTEGER_MAX: Final = (1 << 63) - 1


def compose(policy: Policy, format: str = "toml") -> str:  # noqa: A002 - the word for it
    """Return *policy* as the text of a policy file.

    Args:
        policy: as loaded; access-control lists, suffix matches and boot-time filters have no form in a file.
        format: "toml" or "json".

    Raises:
        InputError: the policy holds something that a file can't say.
    """
    if format not in ("toml", "json"):
        raise InputError(f"format '{format}'", "toml or json")
    data: dict[str, list[Json]] = {}
    sublayers = [_sublayer(sublayer) for sublayer in policy.sublayers if sublayer.name not in BUILTIN_SUBLAYERS]
    if sublayers:
        data["sublayer"] = sublayers
    tables = [_filter(list(same)) for _, same in groupby(policy.filters, key=lambda item: item.name)]
    if tables:
        data["filter"] = tables
    return json.dumps(data, indent=1) + "\n" if format == "json" else _toml(data)


def _sublayer(sublayer: object) -> Json:
    name, weight, description = (getattr(sublayer, key) for key in ("name", "weight", "description"))
    return {"name": name, "weight": weight} | ({"description": description} if description else {})


def _filter(filters: list[Filter]) -> Json:
    """Return the table of *filters*, which share a name."""
    first = filters[0]
    for item in filters:
        same = (item.sublayer, item.action, item.weight, item.flags, item.error, item.limit)
        if same != (first.sublayer, first.action, first.weight, first.flags, first.error, first.limit):
            raise InputError(f"several filters named '{first.name}'", "a name of its own for each filter")
    if first.flags & ~FilterFlag.CLEAR_ACTION_RIGHT:
        raise InputError(f"filter '{first.name}' is {first.flags!s}", "filters that a policy file can say")
    table: Json = {"name": first.name, "layer": _layers([item.layer for item in filters])}
    if first.sublayer != SUBLAYER_UNIVERSAL:
        table["sublayer"] = first.sublayer
    table["action"] = str(first.action)
    if first.flags:
        table["hard"] = True
    if first.error:
        table["error"] = errno.errorcode[first.error]
    if first.weight.type is DataType.UINT64:
        table["weight"] = first.weight.data
    elif first.weight.type is DataType.UINT8:
        table["weight_range"] = first.weight.data
    when = _when(filters)
    if when:
        table["when"] = when
    if first.limit:
        table |= limit_words(first.limit)
    if first.description:
        table["description"] = first.description
    return table


def _layers(layers: list[Layer]) -> object:
    """Return *layers* as a name or a list of names, V4 and V6 twins side by side as one name."""
    names: list[str] = []
    rest = list(layers)
    while rest:
        layer, *rest = rest
        twin = rest[0] if rest else None
        if layer.family is Family.V4 and twin and twin.family is Family.V6 and twin.base == layer.base:
            names.append(layer.base)
            rest = rest[1:]
        else:
            names.append(layer.short)
    return names[0] if len(names) == 1 else names


def _when(filters: list[Filter]) -> Json:
    """Return what *filters* of one table ask for."""
    tests: list[dict[str, tuple[Field, tuple[Condition, ...]]]] = []
    for item in filters:
        here: dict[str, tuple[Field, tuple[Condition, ...]]] = {}
        for name, run in groups(item.conditions):
            field = item.layer.field(name)
            if field is None or name in here:
                raise InputError(f"filter '{item.name}' tests {name} twice or in vain", "a policy that check accepts")
            here[name] = field, run
        tests.append(here)
    if any(list(here) != list(tests[0]) for here in tests):
        raise InputError(f"several filters named '{filters[0].name}'", "a name of its own for each filter")
    return {friendly_name(name): _merged([here[name] for here in tests], filters[0].name) for name in tests[0]}


def _merged(runs: list[tuple[Field, tuple[Condition, ...]]], name: str) -> object:
    """Return what one field's *runs*, a filter each, say together."""
    by_type: dict[DataType, tuple[Field, tuple[Condition, ...]]] = {}
    for field, run in runs:
        if by_type.setdefault(field.type, (field, run))[1] != run:
            raise InputError(f"several filters named '{name}'", "a name of its own for each filter")
    sides = list(by_type.values())
    if len(sides) == 1:
        return _said(*sides[0])
    if not all(field.is_address for field, _ in sides):
        raise InputError(
            f"filter '{name}' tests {sides[0][0].name}, of another type at each layer", "a filter for each"
        )
    for one, other in (sides, reversed(sides)):
        # { not = one address } is every address of the other family.
        if one[1][0].match is MatchType.NOT_EQUAL and other[1] == (_everything(other[0]),):
            return _said(*one)
    return _interleaved(sides, name)


def _interleaved(sides: list[tuple[Field, tuple[Condition, ...]]], name: str) -> object:
    """Return both families' alternatives as one list; "empty" belongs to both, and keeps its place."""
    said: list[object] = []
    left = [[_one(field, condition) for condition in run] for field, run in sides]
    if len({items.count(EMPTY_WORD) for items in left}) > 1:
        raise InputError(f"several filters named '{name}'", "a name of its own for each filter")
    while any(left):
        for items in left:
            while items and items[0] != EMPTY_WORD:
                said.append(items.pop(0))
        if any(left):
            said.append(EMPTY_WORD)
            for items in left:
                items.pop(0)
    return said


def _everything(field: Field) -> Condition:
    size = 4 if field.type is DataType.UINT32 else 16
    low, high = bytes(size), b"\xff" * size
    ends = (Value(field.type, int.from_bytes(end, "big") if size == 4 else end) for end in (low, high))
    return Condition(field.name, MatchType.RANGE, Value(DataType.RANGE, Range(*ends)))


def _said(field: Field, run: tuple[Condition, ...]) -> object:
    """Return the alternatives *run* as a file says them."""
    if len(run) == 1:
        if run[0].match is MatchType.NOT_EQUAL:
            return {"not": value_words(field, run[0].value)}
        return _one(field, run[0])
    return [_one(field, condition) for condition in run]


def _one(field: Field, condition: Condition) -> object:
    """Return one alternative."""
    value, how = condition.value, condition.match
    if how in _FLAG_WORDS:
        return {_FLAG_WORDS[how]: _bits(field, int(value.data))}  # type: ignore[arg-type]
    if how is MatchType.EQUAL or (how is MatchType.RANGE and isinstance(value.data, Range)):
        return value_words(field, value)
    if field.type in BITS and not field.is_address and isinstance(value.data, int):
        top = (1 << BITS[field.type]) - 1
        low, high = {
            MatchType.GREATER: (value.data + 1, top),
            MatchType.GREATER_OR_EQUAL: (value.data, top),
            MatchType.LESS: (0, value.data - 1),
            MatchType.LESS_OR_EQUAL: (0, value.data),
        }.get(how, (1, 0))
        if low <= high:
            return f"{low}-{high}"
    raise InputError(f"{how.name} on {field.name}", "a test that a policy file can say")


def _bits(field: Field, mask: int) -> list[object]:
    names: list[object] = []
    for name, bit in bit_names(field).items():
        if mask & bit:
            names.append(name)
            mask &= ~bit
    return [*names, mask] if mask else names


def value_words(field: Field, value: Value) -> object:
    """Return what a condition compares *field* with, as a file says it. Raises InputError."""
    data = value.data
    if value.type is DataType.EMPTY:
        return EMPTY_WORD
    if isinstance(data, Range):
        return f"{value_to_json(field, data.low)}-{value_to_json(field, data.high)}"
    if isinstance(data, AddressMask) and not field.is_address:
        return {"all": _bits(field, data.address), "none": _bits(field, data.mask & ~data.address)}
    if isinstance(data, AddressMask):
        bits = 32 if value.type is DataType.V4_ADDR_MASK else 128
        length = data.mask.bit_count()
        if data.mask != ((1 << length) - 1) << bits - length:
            raise InputError(f"the mask {data.mask:#x} on {field.name}", "a mask that is a prefix")
        masked = data.address & data.mask
        low = Value(field.type, masked if bits == 32 else masked.to_bytes(16, "big"))
        return f"{value_to_json(field, low)}/{length}"
    if field.type in TOKENS and value.type is not DataType.UINT32:
        raise InputError(f"{value.type.name} on {field.name}", "a user id")
    words = {number: name for name, number in value_names(field).items()}
    if isinstance(data, int) and data in words:
        return words[data]
    said = value_to_json(field, value)
    if field.name in PATHS and not str(said).startswith("/"):
        raise InputError(f"'{said}' on {field.name}", "an absolute path")
    return said


def _toml(data: dict[str, list[Json]]) -> str:
    blocks = []
    for kind, tables in data.items():
        for table in tables:
            lines = [f"[[{kind}]]", *(f"{key} = {_toml_value(value)}" for key, value in table.items())]
            blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        # TOML promises 64-bit signed integers only.
        return str(value) if value <= TOML_INTEGER_MAX else f'"{value:#x}"'
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml_value(item)}' for key, item in value.items())} }}"
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!a} is no Unicode text", "the JSON form, or another name") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
