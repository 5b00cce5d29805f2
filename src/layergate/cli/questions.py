"""Questions as text: words, pairs of field and value, recorded lines; what they ask of, as indications.

A question in words names an event, maybe a protocol, and endpoints: `connect tcp 10.0.0.1 -> 1.2.3.4:443`. The arrow
points where the connection goes: with `accept` the remote side stands on its left. Pairs name a field as a policy file
does, or as WFP does.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

from layergate.model import LAYERS, Family, Field, Indication, InputError, Layer, Value
from layergate.model.lines import indication_from_line, normalized
from layergate.policyfile import field_name, friendly_name
from layergate.policyfile.names import friendly_names, suggestion

# "to" and "from" are for a shell, which takes the > of an arrow for itself.
_ARROWS: Final = {"->": "→", "<-": "←", "=>": "→", "to": "→", "from": "←"}
# The layers that decide a call, in their order: the first that blocks has the last word.
_EVENTS: Final = {
    "bind": ("ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT"),
    "listen": ("ALE_AUTH_LISTEN",),
    "connect": ("ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"),
    "accept": ("ALE_AUTH_RECV_ACCEPT",),
}
FORM: Final = (
    "connect [tcp|udp] [LOCAL[:PORT]] to REMOTE[:PORT], accept … REMOTE to LOCAL, listen or bind … LOCAL[:PORT]"
)


def with_arrows(words: list[str]) -> list[str]:
    """Return *words* with arrows that no option parser takes for options, the question's words together in front."""
    return [_ARROWS.get(word, word) for word in words]


class Vocabulary(Protocol):
    """What the words of a question stand for where it is asked."""

    def layers(self, name: str) -> tuple[Layer, ...]:
        """Return the layers called *name*: one, both families, or none."""

    def value(self, field: Field, text: str) -> Value | None:
        """Return *text* as a value of *field*, None for an empty one. Raises InputError."""


def pair(text: str) -> tuple[str, str]:
    """Return (field, value) of "FIELD=VALUE". Raises InputError."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--value {text}", "--value FIELD=VALUE, such as --value remote_port=443")
    return name.strip(), value.strip()


@contextmanager
def opened(name: str) -> Iterator[TextIO]:
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


def indications(lines: Iterable[str], place: str) -> Iterator[Indication]:
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


def asked_of(layer_name: str, pairs: list[tuple[str, str]], vocabulary: Vocabulary) -> Indication:
    """Return the indication that *pairs* of field and value describe at the layer *layer_name*. Raises InputError."""
    layers = vocabulary.layers(layer_name) or vocabulary.layers(layer_name.upper())
    if not layers:
        close = suggestion(layer_name.upper(), [name for layer in LAYERS for name in (layer.base, layer.short)])
        raise InputError(f"unknown layer '{layer_name}'", f"{close}a layer of WFP, such as ALE_AUTH_CONNECT")
    layer = _of_family(layers, pairs)
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
        value = vocabulary.value(field, _plain(text) if layer.family is Family.V4 else text)
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


def question(words: list[str]) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Return (layers, values) of a question in words."""
    event, *rest = " ".join(words).replace("->", " → ").replace("<-", " ← ").split()
    layers = _EVENTS.get(event)
    if layers is None:
        raise InputError(f"unknown event '{event}'", f"{suggestion(event, _EVENTS)}{FORM}")
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
            raise InputError(found, f"ADDRESS, ADDRESS:PORT or [V6]:PORT in {FORM}")
        address, port = endpoint or ("", "")
        values += [(f"{side}_address", address)] if address else []
        values += [(f"{side}_port", port)] if port else []
    return layers, values


def everyday_flags(said: list[tuple[str, str]]) -> str:
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
