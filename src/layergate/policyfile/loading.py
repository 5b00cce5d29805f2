"""A policy file's data as a policy: sublayers and filters with ids, families and conditions.

- Every problem of the file is found before anything is refused: one `PolicyError` with all of them, in the file's
  order.
- A filter's layer without a family means both: it becomes a V4 and a V6 filter, V4 first. A condition on an address
  of one family leaves only that family's filter. A filter that leaves none is an error.
- Ids count from 1 in the file's order, a filter's layers in the order in which it names them.
- The platform's own sublayers are known without a definition, by their full name or without FWPM_SUBLAYER_.

Source: docs, "Policy file"; Microsoft, FwpmFilterAdd0 (what a filter needs, and what it can't have).
"""

from __future__ import annotations

import errno
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from layergate.engine import condition_problem
from layergate.model import (
    FIELD_ALIASES,
    LAYERS,
    SUBLAYER_UNIVERSAL,
    Action,
    Condition,
    DataType,
    Family,
    Filter,
    FilterFlag,
    Layer,
    Policy,
    PolicyError,
    Problem,
    Sublayer,
    Value,
    layers_named,
)
from layergate.model.catalogue_data import BUILTIN_SUBLAYERS
from layergate.model.values import EMPTY
from layergate.policyfile.conditions import Context, WrongValueError, is_text, read_conditions, shown
from layergate.policyfile.limits import Around, protocol_problem, read_limit
from layergate.policyfile.names import FIELD_NAMES, Resolver, field_name, friendly_name, friendly_names, suggestion
from layergate.policyfile.places import Places
from layergate.policyfile.reading import parse, read_file

SUBLAYER_PREFIX: Final = "FWPM_SUBLAYER_"
SUBLAYER_KEYS: Final = ("name", "weight", "description")
FILTER_KEYS: Final = (
    "name",
    "layer",
    "sublayer",
    "action",
    "hard",
    "error",
    "weight",
    "weight_range",
    "when",
    "limit",
    "response",
    "ban",
    "monitor",
    "description",
)
TABLES: Final = ("sublayer", "filter")
TOP_KEYS: Final = (*TABLES, "$schema")
ACTIONS: Final = (Action.PERMIT, Action.BLOCK)
"""What a file's filter can say: a callout is a function, and no file holds one."""

UNKNOWN_MAX: Final = 100
"""Above this many unknown keys a file was meant for something else: one problem says more than all of them."""

SUBLAYER_WEIGHT_MAX: Final = 0xFFFF
WEIGHT_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF
WEIGHT_RANGE_MAX: Final = 15

FOREIGN_BYTES: Final = 1 << 20
"""A file of this size without a single table of ours is not searched for the lines of its keys."""

CALLS: Final = frozenset({"ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT", "ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"})
"""The layers at which a call fails when it is blocked, and can fail with an errno of the filter's choice."""

_INTEGER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_ERRNOS: Final = {name: number for number, name in errno.errorcode.items()} | {"EAGAIN": errno.EAGAIN}
_BUILTIN: Final = {
    spelling.casefold(): name for name in BUILTIN_SUBLAYERS for spelling in (name, name.removeprefix(SUBLAYER_PREFIX))
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy, and what is odd about its file without being wrong."""

    policy: Policy
    warnings: tuple[Problem, ...] = ()


def load_file(path: str, resolver: Resolver) -> Loaded:
    """Return the policy in the file *path*: JSON where its name ends in .json, else TOML. Raises PolicyError."""
    return load_text(read_file(path), file=path, resolver=resolver)


def load_text(text: bytes | str, *, file: str, resolver: Resolver) -> Loaded:
    """Return the policy that *text* is.

    Args:
        text: the file's content.
        file: the file's name: says whether it is JSON, and stands in every problem.
        resolver: what names stand for.

    Raises:
        PolicyError: with all problems of the file.
    Cost: O(size).
    """
    data, places = parse(text, file)
    unknown = [key for key in data if key not in TOP_KEYS]
    is_foreign = len(text) > FOREIGN_BYTES and not any(key in data for key in TABLES)
    if unknown and (len(unknown) > UNKNOWN_MAX or is_foreign):
        found = f"no policy: unknown keys ({len(unknown)}), such as {shown(unknown[0])}"
        raise PolicyError((Problem(file, 1, "", found, "tables of sublayers and filters"),))
    return _Reader(file, places(), resolver).read(data)


def builtin_sublayer(name: str) -> str | None:
    """Return the full name of the platform's own sublayer *name*, None where it is none."""
    return _BUILTIN.get(name.casefold())


class _Reader:
    """Reads one file, and collects its problems."""

    def __init__(self, file: str, places: Places, resolver: Resolver) -> None:
        self.file, self.places, self.resolver = file, places, resolver
        # Dictionaries keep the order and drop what both families of a filter find alike.
        self.problems: dict[Problem, None] = {}
        self.warnings: dict[Problem, None] = {}
        self.sublayers: dict[str, Sublayer] = {}
        self.filters: list[Filter] = []
        self.lines: dict[tuple[str, str], int | None] = {}

    def read(self, data: dict[str, Any]) -> Loaded:
        """Return the policy of the whole file."""
        self.known_keys(data, TOP_KEYS, (), "")
        for index, table in self.tables(data, "sublayer"):
            self.sublayer(table, index)
        declared = dict(self.sublayers)
        for index, table in self.tables(data, "filter"):
            self.filter(table, index)
        if self.problems:
            raise PolicyError(tuple(sorted(self.problems, key=lambda problem: problem.line or 0)))
        used = {item.sublayer for item in self.filters}
        builtin = (name for name in BUILTIN_SUBLAYERS if name in used)
        policy = Policy(
            sublayers=(
                *declared.values(),
                *(Sublayer(name, *BUILTIN_SUBLAYERS[name]) for name in builtin),
            ),
            filters=tuple(self.filters),
            last_id=len(self.filters),
        )
        return Loaded(policy, tuple(self.warnings))

    def problem(self, path: tuple[str | int, ...], subject: str, found: str, accepted: str) -> None:
        """Note one problem at *path*."""
        self.problems[Problem(self.file, self.places.line(*path), subject, found, accepted)] = None

    def tables(self, data: dict[str, Any], kind: str) -> Iterable[tuple[int, dict[str, Any]]]:
        """Yield (index, table) of the tables [[kind]]."""
        tables = data.get(kind, [])
        if not isinstance(tables, list):
            found = f"[{kind}], one table" if isinstance(tables, dict) else shown(tables)
            self.problem((kind,), kind, found, f"[[{kind}]] for each {kind}")
            return
        for index, table in enumerate(tables):
            if isinstance(table, dict):
                yield index, table
            else:
                self.problem((kind, index), f"{kind} #{index + 1}", shown(table), f"a table, [[{kind}]]")

    def known_keys(
        self, table: dict[str, Any], known: tuple[str, ...], path: tuple[str | int, ...], subject: str
    ) -> None:
        """Note every key of *table* that is not *known*."""
        for key in table:
            if key not in known:
                listed = ", ".join(name for name in known if not name.startswith("$"))
                self.problem(
                    (*path, key), subject, f"unknown key {shown(key)}", f"{suggestion(key, known)}one of {listed}"
                )

    def name(self, table: dict[str, Any], kind: str, index: int) -> tuple[str | None, str]:
        """Return (the table's name, None where it has no good one; what to call it in a problem)."""
        name = table.get("name")
        if isinstance(name, str) and name and is_text(name) and not _has_controls(name):
            subject = f"{kind} '{name}'"
            if (kind, name) in self.lines:
                line = self.lines[kind, name]
                taken = f" (line {line})" if line else ""
                self.problem(
                    (kind, index, "name"), subject, f"the name is taken{taken}", f"a name of its own for each {kind}"
                )
            else:
                self.lines[kind, name] = self.places.line(kind, index)
            return name, subject
        subject = f"{kind} #{index + 1}"
        found = f"name = {shown(name)}" if "name" in table else "no name"
        self.problem((kind, index, "name"), subject, found, 'name = "some text", without control characters')
        return None, subject

    def text(self, table: dict[str, Any], key: str, path: tuple[str | int, ...], subject: str) -> str:
        """Return the text table[key], "" where there is none."""
        value = table.get(key, "")
        if isinstance(value, str) and is_text(value):
            return value
        self.problem((*path, key), subject, f"{key} = {shown(value)}", "text")
        return ""

    def integer(
        self, table: dict[str, Any], key: str, top: int, path: tuple[str | int, ...], subject: str
    ) -> int | None:
        """Return the integer table[key], 0 to *top*, as a number or as text; None where it is none."""
        value = table[key]
        number = value
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            number = int(value, 16) if value[:2] in ("0x", "0X") else int(value)
        if type(number) is int and 0 <= number <= top:
            return number
        self.problem((*path, key), subject, f"{key} = {shown(value)}", f"0 to {top if top < WEIGHT_MAX else hex(top)}")
        return None

    def sublayer(self, table: dict[str, Any], index: int) -> None:
        """Read one [[sublayer]]."""
        path = ("sublayer", index)
        name, subject = self.name(table, "sublayer", index)
        self.known_keys(table, SUBLAYER_KEYS, path, subject)
        weight = None
        if "weight" in table:
            weight = self.integer(table, "weight", SUBLAYER_WEIGHT_MAX, path, subject)
        else:
            self.problem(path, subject, "no weight", f"weight = 0 to {SUBLAYER_WEIGHT_MAX}")
        description = self.text(table, "description", path, subject)
        builtin = builtin_sublayer(name) if name else None
        if builtin:
            weight_builtin = BUILTIN_SUBLAYERS[builtin][0]
            self.problem(
                (*path, "name"),
                subject,
                f"{builtin} is the platform's own, of weight {weight_builtin}",
                "another name; the platform's sublayers need no definition",
            )
        if name:
            # Kept also where its weight is wrong: its filters are not to be called wrong for it.
            self.sublayers.setdefault(name, Sublayer(name, weight or 0, description))

    def filter(self, table: dict[str, Any], index: int) -> None:
        """Read one [[filter]]; note its problems, or add what it stands for."""
        problems = len(self.problems)
        path = ("filter", index)
        name, subject = self.name(table, "filter", index)
        self.known_keys(table, FILTER_KEYS, path, subject)
        layers = self.layers(table, path, subject)
        sublayer = self.sublayer_of(table, path, subject)
        action = self.action(table, path, subject)
        hard = self.hard(table, action, path, subject)
        error = self.error(table, action, layers, path, subject)
        weight = self.weight(table, path, subject)
        description = self.text(table, "description", path, subject)
        found = self.conditions(table, layers, path, subject)
        limit = read_limit(table, Around(action, layers), path, subject, self.problem)
        for _, conditions in found if limit else ():
            trouble = protocol_problem(conditions)
            if trouble:
                self.problem((*path, "limit"), subject, trouble, 'protocol = "tcp", or no condition on it')
        if len(self.problems) > problems or name is None or action is None or sublayer is None:
            return
        if not found:
            self.problem(
                (*path, "when"),
                subject,
                "no filter at all: what it asks for has no address family in common with its layer",
                "addresses of one family that the layer has",
            )
        for layer, conditions in found:
            self.filters.append(
                Filter(
                    id=len(self.filters) + 1,
                    name=name,
                    layer=layer,
                    sublayer=sublayer,
                    action=action,
                    conditions=conditions,
                    weight=weight,
                    flags=FilterFlag.CLEAR_ACTION_RIGHT if hard else FilterFlag.NONE,
                    error=error,
                    limit=limit,
                    line=self.places.line(*path) or 0,
                    description=description,
                )
            )

    def layers(self, table: dict[str, Any], path: tuple[str | int, ...], subject: str) -> tuple[Layer, ...]:
        """Return the layers that a filter names, V4 before V6."""
        given = table.get("layer")
        names = given if isinstance(given, list) else [given]
        found: dict[str, Layer] = {}
        for place, name in enumerate(names):
            where = (*path, "layer", place) if isinstance(given, list) else (*path, "layer")
            layers = layers_named(name) or layers_named(name.upper()) if _is_name(name) else ()
            if not layers:
                wrong = "no layer" if "layer" not in table else f"unknown layer {shown(name)}"
                known = dict.fromkeys(spelling for layer in LAYERS for spelling in (layer.base, layer.short))
                close = suggestion(name.upper().removeprefix("FWPM_LAYER_"), known) if _is_name(name) else ""
                self.problem(
                    where, subject, wrong, f"{close}a layer of WFP, such as ALE_AUTH_CONNECT or INBOUND_TRANSPORT_V4"
                )
            for layer in layers:
                if layer.name in found:
                    self.problem(where, subject, f"the layer {layer.short} is named twice", "every layer once")
                found[layer.name] = layer
        if not names:
            self.problem((*path, "layer"), subject, "no layer in the list", "at least one layer")
        return tuple(found.values())

    def sublayer_of(self, table: dict[str, Any], path: tuple[str | int, ...], subject: str) -> str | None:
        """Return the name of a filter's sublayer, UNIVERSAL where it names none."""
        name = table.get("sublayer", SUBLAYER_UNIVERSAL)
        if isinstance(name, str):
            if name in self.sublayers:
                return name
            builtin = builtin_sublayer(name)
            if builtin:
                return builtin
        builtins = [spelling.removeprefix(SUBLAYER_PREFIX) for spelling in BUILTIN_SUBLAYERS]
        close = suggestion(name, [*self.sublayers, *builtins]) if isinstance(name, str) else ""
        declared = ", ".join(f"'{known}'" for known in self.sublayers)
        listed = f"one of {declared}, or" if declared else "a [[sublayer]] of this file, or"
        self.problem(
            (*path, "sublayer"),
            subject,
            f"unknown sublayer {shown(name)}",
            f"{close}{listed} one of WFP's own (UNIVERSAL)",
        )
        return None

    def action(self, table: dict[str, Any], path: tuple[str | int, ...], subject: str) -> Action | None:
        """Return a filter's action."""
        value = table.get("action")
        if isinstance(value, str) and value in ACTIONS:
            return Action(value)
        found = f"action = {shown(value)}" if "action" in table else "no action"
        close = suggestion(value, ACTIONS) if isinstance(value, str) else ""
        self.problem((*path, "action"), subject, found, f"{close}permit or block")
        return None

    def hard(self, table: dict[str, Any], action: Action | None, path: tuple[str | int, ...], subject: str) -> bool:
        """Return whether a permit is hard."""
        value = table.get("hard", False)
        if not isinstance(value, bool):
            self.problem((*path, "hard"), subject, f"hard = {shown(value)}", "true or false")
        elif value and action is Action.BLOCK:
            self.problem(
                (*path, "hard"), subject, "hard = true on a block", "hard only on a permit: a block is always hard"
            )
        return value is True

    def error(
        self,
        table: dict[str, Any],
        action: Action | None,
        layers: tuple[Layer, ...],
        path: tuple[str | int, ...],
        subject: str,
    ) -> int:
        """Return the errno that a blocked call gets, 0 where none is asked for."""
        if "error" not in table:
            return 0
        value = table["error"]
        where = (*path, "error")
        number = _ERRNOS.get(value) if isinstance(value, str) else None
        if number is None:
            close = suggestion(value, _ERRNOS) if isinstance(value, str) else ""
            self.problem(
                where, subject, f"error = {shown(value)}", f"{close}the name of an errno, such as ECONNREFUSED"
            )
        if action is Action.PERMIT:
            self.problem(where, subject, "error on a permit", 'error only with action = "block"')
        for layer in layers:
            if layer.base not in CALLS:
                self.problem(
                    where,
                    subject,
                    f"error at {layer.base}, where no call fails",
                    f"error at {', '.join(sorted(CALLS))}",
                )
        return number or 0

    def weight(self, table: dict[str, Any], path: tuple[str | int, ...], subject: str) -> Value:
        """Return a filter's weight: explicit, automatic in a range, or automatic."""
        if "weight" in table and "weight_range" in table:
            self.problem((*path, "weight_range"), subject, "weight and weight_range together", "one of the two")
        if "weight" in table:
            number = self.integer(table, "weight", WEIGHT_MAX, path, subject)
            return EMPTY if number is None else Value(DataType.UINT64, number)
        if "weight_range" in table:
            number = self.integer(table, "weight_range", WEIGHT_RANGE_MAX, path, subject)
            return EMPTY if number is None else Value(DataType.UINT8, number)
        return EMPTY

    def conditions(
        self, table: dict[str, Any], layers: tuple[Layer, ...], path: tuple[str | int, ...], subject: str
    ) -> list[tuple[Layer, tuple[Condition, ...]]]:
        """Return the layers that a filter stands at, each with its conditions."""
        when = table.get("when", {})
        where = (*path, "when")
        if not isinstance(when, dict):
            self.problem(where, subject, f"when = {shown(when)}", "when = { field = value, ... }")
            return []
        fields: dict[str, str] = {}
        for key in when:
            wfp = field_name(key)
            canonical = FIELD_ALIASES.get(wfp, wfp) if wfp else None
            if wfp is None or canonical is None:
                known = [name for layer in layers for name in _names_at(layer)] or list(FIELD_NAMES)
                listed = (
                    f"a field of {layers[0].base}: {friendly_names(layers[0].fields)}"
                    if layers
                    else "a field of the layer"
                )
                self.problem(
                    (*where, key),
                    f"{subject}, when.{key}",
                    f"unknown field {shown(key)}",
                    f"{suggestion(key, known)}{listed}",
                )
            elif canonical in fields.values():
                self.problem(
                    (*where, key), f"{subject}, when.{key}", f"{canonical} is tested twice", "one list of its values"
                )
            else:
                fields[key] = canonical
        families = frozenset(layer.family for layer in layers if layer.family) or frozenset(Family)
        result = []
        for layer in layers:
            conditions = self.conditions_at(
                layer, {key: (fields[key], when[key]) for key in fields}, families, where, subject
            )
            if conditions is not None:
                result.append((layer, conditions))
        return result

    def conditions_at(
        self,
        layer: Layer,
        tests: dict[str, tuple[str, object]],
        families: frozenset[Family],
        where: tuple[str | int, ...],
        subject: str,
    ) -> tuple[Condition, ...] | None:
        """Return the conditions of *tests* (key -> field, value) at *layer*; None where they leave it no filter."""
        result: list[Condition] = []
        is_left = True
        for key, (wfp, data) in tests.items():
            here = (*where, key)
            label = f"{subject}, when.{key}"
            field = layer.field(wfp)
            if field is None:
                self.problem(
                    here,
                    label,
                    f"{layer.base} has no field {friendly_name(wfp)}",
                    f"its fields: {friendly_names(layer.fields)}",
                )
                continue
            context = Context(self.resolver, families, self.warner(here, label))
            try:
                found = read_conditions(field, data, context)
            except WrongValueError as error:
                self.problem((*here, *error.path), label, error.found, error.accepted)
                continue
            for condition in found or ():
                trouble = condition_problem(field, condition)
                if trouble:
                    self.problem(here, label, trouble, f"another value for {friendly_name(wfp)}")
            is_left = is_left and found is not None
            result += found or ()
        return tuple(result) if is_left else None

    def warner(self, path: tuple[str | int, ...], subject: str) -> _Warner:
        """Return what notes a warning at *path*."""
        return _Warner(self, path, subject)


@dataclass(frozen=True, slots=True)
class _Warner:
    """Notes warnings on one key."""

    reader: _Reader
    path: tuple[str | int, ...]
    subject: str

    def __call__(self, found: str, accepted: str) -> None:
        """Note one warning."""
        line = self.reader.places.line(*self.path)
        self.reader.warnings[Problem(self.reader.file, line, self.subject, found, accepted)] = None


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str)


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(letter) == "Cc" for letter in text)


def _names_at(layer: Layer) -> list[str]:
    return [name for field in layer.fields for name in (friendly_name(field.name), field.name)]


__all__ = ["CALLS", "FILTER_KEYS", "SUBLAYER_KEYS", "Loaded", "builtin_sublayer", "load_file", "load_text"]
