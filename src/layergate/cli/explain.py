"""`layergate explain`: what a policy says of one situation, or of recorded indications, and why.

Three ways to ask:

    layergate explain connect tcp 10.0.0.1 -> 1.2.3.4:443 --app /usr/bin/curl --policy F
    layergate explain --layer ALE_AUTH_CONNECT --value remote_port=443 --policy F
    layergate trace --json -- curl ... | layergate explain --indication - --policy F --json

The arrow of the first form points where the connection goes: with `accept` the remote side stands on its left. Exit
status of the first two: 0 permitted, 1 blocked; of the third 0, whatever the verdicts are; 2 where the question
makes no sense.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TextIO

from layergate.cli import output
from layergate.engine import Ordered, classify, in_order
from layergate.engine.explanation import Account, Asked, Fate, account
from layergate.live.names import SystemResolver
from layergate.model import (
    LAYERS,
    Action,
    Condition,
    DataType,
    Family,
    Field,
    Indication,
    InputError,
    Layer,
    MatchType,
    Value,
    Verdict,
    layers_named,
)
from layergate.model.lines import indication_from_line, normalized, value_to_json, verdict_line
from layergate.policyfile import field_name, friendly_name, load_file, value_from_text
from layergate.policyfile.composing import value_words
from layergate.policyfile.names import bit_names, friendly_names, suggestion

NAME: Final = "explain"
HELP: Final = "say what a policy decides in a situation, and why"

# "to" and "from" are for a shell, which takes the > of an arrow for itself.
_ARROWS: Final = {"->": "→", "<-": "←", "=>": "→", "to": "→", "from": "←"}
# The layers that decide a call, in their order: the first that blocks has the last word.
_EVENTS: Final = {
    "bind": ("ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT"),
    "listen": ("ALE_AUTH_LISTEN",),
    "connect": ("ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"),
    "accept": ("ALE_AUTH_RECV_ACCEPT",),
}
_OWNERS: Final = ("app", "user", "unit")
_FORM: Final = (
    "connect [tcp|udp] [LOCAL[:PORT]] to REMOTE[:PORT], accept … REMOTE to LOCAL, listen or bind … LOCAL[:PORT]"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.replace("`", "")
    parser.add_argument("question", nargs="*", metavar="WORD", help=f"the situation in words: {_FORM}")
    parser.add_argument("--policy", required=True, metavar="FILE", help="the policy")
    parser.add_argument("--layer", help="the layer, with or without its family")
    parser.add_argument("--value", action="append", default=[], metavar="FIELD=VALUE", help="what is known there")
    parser.add_argument("--indication", metavar="FILE", help="indications as JSON Lines, - for standard input")
    for owner in _OWNERS:
        parser.add_argument(f"--{owner}", help=f"the socket's {owner}")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def prepare(words: list[str]) -> list[str]:
    """Return *words* with arrows that no option parser takes for options, the question's words together in front."""
    return [_ARROWS.get(word, word) for word in words]


def run(arguments: argparse.Namespace) -> int:
    """Answer."""
    asked = [bool(arguments.question), bool(arguments.layer), bool(arguments.indication)]
    if sum(asked) != 1:
        raise InputError("not one question", f"--layer with --value, --indication FILE, or {_FORM}")
    if arguments.indication and (arguments.value or any(getattr(arguments, owner) for owner in _OWNERS)):
        raise InputError("--value beside --indication", "values from one of the two")
    ordered = in_order(load_file(arguments.policy, SystemResolver()).policy)
    if arguments.indication:
        with _opened(arguments.indication) as lines:
            for indication in _indications(lines, arguments.indication):
                _answer(ordered, indication, is_json=arguments.json)
        return 0
    values = [_pair(text) for text in arguments.value]
    values += [(owner, getattr(arguments, owner)) for owner in _OWNERS if getattr(arguments, owner) is not None]
    layers: tuple[str, ...] = (arguments.layer,)
    if arguments.question:
        layers, said = _question(arguments.question)
        values = said + values
        if not any(field_name(name) == "FLAGS" for name, _ in values):
            values.append(("flags", _flags(said)))
    asked_of = [normalized(_asked_of(layer, values)) for layer in layers]
    decisive = next((one for one in asked_of if _blocks(ordered, one)), asked_of[-1])
    verdict = _answer(ordered, decisive, is_json=arguments.json)
    return 1 if verdict.action is Action.BLOCK else 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--value {text}", "--value FIELD=VALUE, such as --value remote_port=443")
    return name.strip(), value.strip()


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """Open the file *name*, standard input for -."""
    if name == "-":
        yield sys.stdin
        return
    try:
        with open(name, encoding="utf-8") as file:  # noqa: PTH123 - any file name, also one that pathlib would tidy
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", "a file of JSON Lines", place=name) from None


def _indications(lines: Iterable[str], place: str) -> Iterator[Indication]:
    """Yield the indications among *lines*, where they are classified; lines of another kind are passed over."""
    name = "standard input" if place == "-" else place
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(
                    f"no JSON: {line.strip()[:60]}", "one JSON object a line", place=name, line=number
                ) from None
            if not isinstance(data, dict):
                raise InputError("no JSON object", "one JSON object a line", place=name, line=number)
            if data.get("kind") == "indication":
                yield normalized(indication_from_line(data, name, number))
    except UnicodeDecodeError:
        raise InputError("no UTF-8", "JSON Lines in UTF-8", place=name, line=number + 1) from None


def _asked_of(layer_name: str, pairs: list[tuple[str, str]]) -> Indication:
    """Return the indication that *pairs* of field and value describe at the layer *layer_name*."""
    layers = layers_named(layer_name) or layers_named(layer_name.upper())
    if not layers:
        close = suggestion(layer_name.upper(), [name for layer in LAYERS for name in (layer.base, layer.short)])
        raise InputError(f"unknown layer '{layer_name}'", f"{close}a layer of WFP, such as ALE_AUTH_CONNECT")
    layer = _of_family(layers, pairs)
    resolver = SystemResolver()
    values: dict[str, Value] = {}
    given: set[str] = set()
    for name, text in pairs:
        wfp = field_name(name)
        field = layer.field(wfp) if wfp else None
        if field is None:
            known = [spelling for item in layer.fields for spelling in (friendly_name(item.name), item.name)]
            raise InputError(
                f"{layer.short} has no field '{name}'",
                f"{suggestion(name, known)}its fields: {friendly_names(layer.fields)}",
            )
        if field.name in given:
            raise InputError(f"{name} is given twice", "every value once")
        given.add(field.name)
        value = value_from_text(field, _plain(text) if layer.family is Family.V4 else text, resolver)
        if value is not None:
            values[field.name] = value
    return Indication(layer, values)


def _of_family(layers: tuple[Layer, ...], pairs: list[tuple[str, str]]) -> Layer:
    """Return the one of *layers* that the addresses among *pairs* belong to; V4 where they don't say."""
    if len(layers) == 1:
        return layers[0]
    families = {family for name, text in pairs if (family := _family_of(name, text))}
    if len(families) > 1:
        raise InputError("addresses of both families", "addresses of one family")
    wanted = families.pop() if families else Family.V4
    return next(layer for layer in layers if layer.family is wanted)


def _family_of(name: str, text: str) -> Family | None:
    """Return the family of an address; a v4-mapped one is IPv4."""
    if not (field_name(name) or "").endswith("ADDRESS"):
        return None
    try:
        version = ipaddress.ip_address(_plain(text)).version
    except ValueError:
        return None
    return Family.V4 if version == 4 else Family.V6


def _plain(text: str) -> str:
    """Return *text*; the IPv4 address where it is a v4-mapped one."""
    try:
        mapped = ipaddress.IPv6Address(text).ipv4_mapped
    except ValueError:
        return text
    return text if mapped is None else str(mapped)


def _blocks(ordered: Ordered, indication: Indication) -> bool:
    return classify(ordered, indication).action is Action.BLOCK


def _question(words: list[str]) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Return (layers, values) of a question in words."""
    event, *rest = " ".join(words).replace("->", " → ").replace("<-", " ← ").split()
    layers = _EVENTS.get(event)
    if layers is None:
        raise InputError(f"unknown event '{event}'", f"{suggestion(event, _EVENTS)}{_FORM}")
    values: list[tuple[str, str]] = []
    if rest and not _endpoint(rest[0]) and rest[0] not in ("→", "←"):
        # The protocol is said in any case; a layer that has no such field (listen) can do without it.
        protocol = rest.pop(0)
        values += [("protocol", protocol)] if event != "listen" else []
    arrow = next((word for word in rest if word in ("→", "←")), None)
    if event in ("bind", "listen"):
        sides = {"local": rest}
    elif arrow is None:
        sides = {"remote" if event == "connect" else "local": rest}
    else:
        place = rest.index(arrow)
        left, right = rest[:place], rest[place + 1 :]
        is_local_left = (event == "connect") is (arrow == "→")
        sides = {"local": left, "remote": right} if is_local_left else {"remote": left, "local": right}
    for side, said in sides.items():
        endpoint = _endpoint(said[0]) if len(said) == 1 else None
        if said and endpoint is None:
            lost = "; the shell took '>' for itself: say to, or quote the arrow" if said[-1].endswith("-") else ""
            found = f"'{' '.join(said)}' is no endpoint{lost}"
            raise InputError(found, f"ADDRESS, ADDRESS:PORT or [V6]:PORT in {_FORM}")
        address, port = endpoint or ("", "")
        values += [(f"{side}_address", address)] if address else []
        values += [(f"{side}_port", port)] if port else []
    return layers, values


def _flags(said: list[tuple[str, str]]) -> str:
    """Return the flags of an everyday situation: a kernel knows them always, and loopback shows in the addresses."""
    addresses = [_plain(text) for name, text in said if name.endswith("_address")]
    return "loopback" if any(ipaddress.ip_address(address).is_loopback for address in addresses) else "0"


def _endpoint(text: str) -> tuple[str, str] | None:
    """Return (address, port) of "10.0.0.1", "10.0.0.1:80", "::1", "[::1]:80" or ":80", None where it is none."""
    address, colon, port = text.rpartition(":")
    if text.startswith("["):
        bare, bracket, port = text[1:].partition("]")
        return (bare, port.removeprefix(":")) if bracket and _is_address(bare) else None
    if _is_address(text):
        return text, ""
    return (address, port) if colon and (not address or _is_address(address)) else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _answer(ordered: Ordered, indication: Indication, *, is_json: bool) -> Verdict:
    """Print the verdict on *indication*, and return it."""
    layer, values = indication.layer, indication.values
    verdict = classify(ordered, indication)
    if is_json:
        output.json_line(verdict_line(verdict, layer))
        return verdict
    sys.stdout.write(f"{_short(verdict, layer)}\n")
    for told in account(ordered, indication, verdict):
        sys.stdout.write("\n".join(_sublayer(told, layer, values)) + "\n")
    return verdict


def _short(verdict: Verdict, layer: Layer) -> str:
    """Return the answer in one line."""
    decided = verdict.filter
    if decided is None:
        permitted = output.paint("permitted", "green")
        return f"{permitted} at {layer.short}: no filter matched, and what nothing matches is permitted"
    word = output.paint("blocked", "red") if verdict.action is Action.BLOCK else output.paint("permitted", "green")
    heard = [told for told in verdict.sublayers if told.decided]
    place = next(index for index, told in enumerate(heard) if told.decided is decided)
    overridden = [told.decided for told in heard[:place] if told.decided and told.decided.action is not decided.action]
    refused = [
        told.decided for told in heard[place + 1 :] if told.decided and told.decided.action is not decided.action
    ]
    if overridden:
        why = f"it overrides the soft {overridden[0].action} '{overridden[0].name}'"
    elif refused:
        why = f"it is hard, so the {refused[0].action} '{refused[0].name}' below it was not heard"
    elif verdict.action is Action.BLOCK:
        why = "no permit above it matched"
    else:
        why = "no block above it matched, and none below"
    sublayer = verdict.sublayer.name.removeprefix("FWPM_SUBLAYER_") if verdict.sublayer else ""
    return f"{word} at {layer.short} by '{decided.name}' in sublayer {sublayer}: {why}"


def _sublayer(told: Account, layer: Layer, values: Mapping[str, Value]) -> list[str]:
    """Return the lines on one sublayer."""
    name = told.told.sublayer.name.removeprefix("FWPM_SUBLAYER_")
    head = f"  sublayer {output.paint(name, 'bold')} (weight {told.told.sublayer.weight:#x}): {told.told.effect}"
    rows = [
        (
            f"#{asked.filter.id}",
            str(asked.filter.action)
            + (" (hard)" if asked.filter.hard and asked.filter.action is Action.PERMIT else ""),
            f"'{asked.filter.name}'",
            _fate(asked, told, layer, values),
        )
        for asked in told.asked
    ]
    return [head, *output.columns(rows, indent=4)]


def _fate(asked: Asked, told: Account, layer: Layer, values: Mapping[str, Value]) -> str:
    """Return what became of one filter, in words."""
    if asked.fate is Fate.DECIDED:
        return "matched, and decided for the sublayer"
    if asked.fate is Fate.LOST:
        by = f"'{told.told.decided.name}'" if told.told.decided else "another"
        return f"lost: it matches too, but {by} above it had ended the sublayer"
    missed = asked.missed[0]
    field = layer.field(missed.field)
    if field is None:
        return "missed"
    value = values.get(field.name)
    known = (
        f"{friendly_name(field.name)} is {_shown(field, value)}" if value else f"{friendly_name(field.name)} is unknown"
    )
    return f"missed: {known}, asked for {_wanted(field, missed.run)}"


def _shown(field: Field, value: Value | None) -> str:
    """Return a value for people."""
    if value is None:
        return "empty"
    bits = bit_names(field)
    if bits and isinstance(value.data, int):
        names = [name for name, bit in bits.items() if value.data & bit]
        return ", ".join(names) or "none set"
    try:
        return str(value_words(field, Value(DataType.UINT32, value.data) if field.name.endswith("USER_ID") else value))
    except InputError:
        return str(value_to_json(field, value))


def _wanted(field: Field, run: tuple[Condition, ...]) -> str:
    """Return what a run of conditions asks for, for people."""
    words = {
        MatchType.EQUAL: "",
        MatchType.RANGE: "",
        MatchType.NOT_EQUAL: "not ",
        MatchType.GREATER: "more than ",
        MatchType.LESS: "less than ",
        MatchType.GREATER_OR_EQUAL: "at least ",
        MatchType.LESS_OR_EQUAL: "at most ",
        MatchType.FLAGS_ALL_SET: "all of ",
        MatchType.FLAGS_ANY_SET: "any of ",
        MatchType.FLAGS_NONE_SET: "none of ",
        MatchType.EQUAL_CASE_INSENSITIVE: "in any case ",
        MatchType.PREFIX: "ending in ",
        MatchType.NOT_PREFIX: "not ending in ",
    }
    return " or ".join(f"{words[one.match]}{_compared(field, one)}" for one in run)


def _compared(field: Field, condition: Condition) -> str:
    if bit_names(field):
        return _shown(field, condition.value)
    try:
        return str(value_words(field, condition.value))
    except InputError:
        return str(condition.value.data)
