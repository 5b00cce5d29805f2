"""Values, tests and names as people read them: in the answers of `explain`, in the views of `layergate windows`.

A field has its short name of policy files; bits, protocols, directions, profiles and well-known SIDs their words; an
application is a path (`is_short`: its last part). A security descriptor is whom it lets match.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Final

from layergate.engine.sddl import entries
from layergate.model import (
    AddressMask,
    Condition,
    DataType,
    Field,
    Indication,
    Layer,
    MatchType,
    Range,
    Token,
    Value,
)
from layergate.model.lines import PATHS, address_text, indication_line, value_to_json
from layergate.policyfile.names import bit_names, friendly_name, value_names
from layergate.windows.filters import is_never
from layergate.windows.values import wide_text

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


def bare(sublayer: str) -> str:
    """Return the name of a sublayer without the platform's prefix."""
    return sublayer.removeprefix("FWPM_SUBLAYER_")


def field_words(name: str, *, is_windows: bool = False) -> str:
    """Return what people call the field *name*; on Windows a unit is a package."""
    return (_NAMES.get(name) if is_windows else None) or friendly_name(name)


def run_words(layer: Layer, run: tuple[Condition, ...], *, is_short: bool = False) -> str:
    """Return what the alternatives *run* ask for."""
    field = layer.field(run[0].field)
    if field is None or any(is_never(one) for one in run):
        return " or ".join(str(one.value.data) for one in run)
    shown = [
        _MATCHES.get(one.match, "") + value_words(field, one.value, is_short=is_short)
        for one in run[:ALTERNATIVES_SHOWN_MAX]
    ]
    shown += [f"{len(run) - len(shown)} more"] if len(run) > len(shown) else []
    return " or ".join(shown)


def value_words(field: Field, value: Value, *, is_short: bool = False) -> str:
    """Return *value* of *field* for people; *is_short*: an application is the last part of its path."""
    data = value.data
    if isinstance(data, Range):
        return f"{value_words(field, data.low)}-{value_words(field, data.high)}"
    if isinstance(data, AddressMask):
        return prefix_words(data, is_v6=value.type is DataType.V6_ADDR_MASK)
    if value.type is DataType.EMPTY:
        return "empty"
    if isinstance(data, int):
        return _number(field, data)
    if field.is_address and isinstance(data, bytes):
        return address_text(data)
    if isinstance(data, bytes) and field.name in PATHS:
        path = path_words(data)
        return path.rpartition("\\" if "\\" in path else "/")[2] if is_short else path
    if isinstance(data, bytes):
        return str(value_to_json(field, value))
    if isinstance(data, Token):
        return f"a token with {', '.join(sorted(map(_sid, data.sids)))}"
    if value.type is DataType.SECURITY_DESCRIPTOR:
        return _descriptor(str(data))
    return _sid(str(data)) if value.type is DataType.SID else str(data)


def prefix_words(mask: AddressMask, *, is_v6: bool) -> str:
    """Return an address and its mask as a prefix, or with the mask where it has holes."""
    address = ipaddress.IPv6Address(mask.address) if is_v6 else ipaddress.IPv4Address(mask.address)
    bits = 128 if is_v6 else 32
    length = mask.mask.bit_count()
    if mask.mask == ((1 << length) - 1) << (bits - length):
        return f"{address}/{length}"
    return f"{address} masked by {ipaddress.ip_address(mask.mask)}"


def witness_words(indication: Indication, *, is_windows: bool = False) -> str:
    """Return the values of *indication* as words: "protocol tcp, remote_port 443"."""
    words = (
        f"{field_words(field.name, is_windows=is_windows)} {value_words(field, indication.values[field.name])}"
        for field in indication.layer.fields
        if field.name in indication.values and not isinstance(indication.values[field.name].data, Token)
    )
    return ", ".join(words) or "anything, with nothing known of it"


def witness_line(indication: Indication) -> dict[str, object]:
    """Return *indication* as a line that `explain --indication` takes; an assumed token stands in no value."""
    known = {name: value for name, value in indication.values.items() if not isinstance(value.data, Token)}
    plain = replace(indication, values=known)
    return indication_line(plain, action=None, filter_id=None, filter_name=None, sublayer=None, version=1)


def path_words(data: bytes) -> str:
    """Return an application's path: UTF-16 with a NUL at its end where Windows wrote it, UTF-8 on Linux."""
    return (wide_text(data) if data.endswith(b"\0\0") else "") or data.decode("utf-8", "surrogateescape")


def _number(field: Field, number: int) -> str:
    if field.is_address and field.type is DataType.UINT32:
        return address_text(number)
    bits = bit_names(field)
    if bits:
        names = [name for name, bit in bits.items() if number & bit]
        rest = number & ~sum(bits.values())
        return "|".join([*names, *([f"{rest:#x}"] if rest else [])]) or "none set"
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
