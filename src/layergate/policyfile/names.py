"""The names that a policy file uses: short Linux names for fields, words for values, and who resolves the rest.

`FIELD_NAMES` maps a short name to WFP's. WFP's own names are understood everywhere too, with or without
FWPM_CONDITION_. A field that the table does not single out is called as in WFP, in lower case, without IP_ and ALE_.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from layergate.model import FIELD_ALIASES, LAYERS, AddressType, DataType, Direction, Field, Flag, ReauthorizeReason
from layergate.model.lines import TOKENS

PREFIX: Final = "FWPM_CONDITION_"
SUGGESTION_LENGTH_MAX: Final = 100

_SHORT: Final = {
    "app": "ALE_APP_ID",
    "user": "ALE_USER_ID",
    "unit": "ALE_PACKAGE_ID",
    "protocol": "IP_PROTOCOL",
    "local_address": "IP_LOCAL_ADDRESS",
    "local_port": "IP_LOCAL_PORT",
    "remote_address": "IP_REMOTE_ADDRESS",
    "remote_port": "IP_REMOTE_PORT",
    "icmp_type": "ICMP_TYPE",
    "icmp_code": "ICMP_CODE",
    "direction": "DIRECTION",
    "interface": "INTERFACE_INDEX",
    "flags": "FLAGS",
    "reauthorize_reason": "REAUTHORIZE_REASON",
    "local_address_type": "IP_LOCAL_ADDRESS_TYPE",
}


def _field_names() -> dict[str, str]:
    """Return the table: the names above, then every other field of the catalogue that is not reserved."""
    names = dict(_SHORT)
    taken = set(names.values())
    for field in dict.fromkeys(field.name for layer in LAYERS for field in layer.fields):
        if field not in taken and not field.startswith("RESERVED"):
            names.setdefault(field.removeprefix("IP_").removeprefix("ALE_").lower(), field)
    return names


FIELD_NAMES: Final[Mapping[str, str]] = _field_names()
"""Short name -> WFP's name, without its prefix."""

_FRIENDLY: Final = {wfp: short for short, wfp in FIELD_NAMES.items()}
_KNOWN: Final = frozenset(field.name for layer in LAYERS for field in layer.fields) | frozenset(FIELD_ALIASES)

PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "sctp": 132,
}
"""The protocols whose names need no resolver. Source: IANA, Protocol Numbers."""

_ENUMS: Final[dict[str, type[enum.IntEnum]]] = {
    "DIRECTION": Direction,
    "IP_LOCAL_ADDRESS_TYPE": AddressType,
    "IP_DESTINATION_ADDRESS_TYPE": AddressType,
    "EMBEDDED_LOCAL_ADDRESS_TYPE": AddressType,
}
_BITS: Final[dict[str, Mapping[str, int]]] = {
    "FLAGS": {flag.name.removeprefix("IS_").lower(): int(flag) for flag in Flag if flag.name},
    "REAUTHORIZE_REASON": {reason.name.lower(): int(reason) for reason in ReauthorizeReason if reason.name},
}


class Resolver(Protocol):
    """What a policy's names stand for on a host. Every method returns None where the host doesn't know the name."""

    def user(self, name: str) -> int | None:
        """Return the id of the user *name*."""

    def service(self, name: str) -> int | None:
        """Return the port of the service *name*."""

    def protocol(self, name: str) -> int | None:
        """Return the number of the IP protocol *name*."""

    def executable(self, path: str) -> str | None:
        """Return the canonical path of the executable at *path*, None where there is none."""

    def interface(self, name: str) -> int | None:
        """Return the index of the interface *name*."""

    def unit(self, name: str) -> str | None:
        """Return the unit or cgroup *name* in the form in which sockets report it."""


@dataclasses.dataclass(frozen=True, slots=True)
class TableResolver:
    """A resolver that knows what its tables say: for the policy of another host, and for tests.

    Executables are all there and all canonical, except the *missing* ones; a unit's name is taken as it is.
    """

    users: Mapping[str, int] = dataclasses.field(default_factory=dict)
    services: Mapping[str, int] = dataclasses.field(default_factory=dict)
    protocols: Mapping[str, int] = dataclasses.field(default_factory=dict)
    interfaces: Mapping[str, int] = dataclasses.field(default_factory=dict)
    missing: frozenset[str] = frozenset()

    def user(self, name: str) -> int | None:
        """Return the id of the user *name*."""
        return self.users.get(name)

    def service(self, name: str) -> int | None:
        """Return the port of the service *name*."""
        return self.services.get(name)

    def protocol(self, name: str) -> int | None:
        """Return the number of the IP protocol *name*."""
        return self.protocols.get(name)

    def executable(self, path: str) -> str | None:
        """Return *path*, None where it is missing."""
        return None if path in self.missing else path

    def interface(self, name: str) -> int | None:
        """Return the index of the interface *name*."""
        return self.interfaces.get(name)

    def unit(self, name: str) -> str | None:
        """Return *name*."""
        return name


def field_name(key: str) -> str | None:
    """Return WFP's name of the field that *key* means (a short name or WFP's), or None where nothing is so called."""
    known = FIELD_NAMES.get(key)
    if known is not None:
        return known
    bare: str = key.upper().removeprefix(PREFIX)
    return bare if bare in _KNOWN else None


def friendly_name(wfp: str) -> str:
    """Return the short name of the field *wfp*; WFP's own where it has none."""
    return _FRIENDLY.get(wfp, wfp)


def friendly_names(fields: Iterable[Field]) -> str:
    """Return the short names of *fields* for a message, those of everyday use first."""
    names = {friendly_name(field.name) for field in fields if not field.name.startswith("RESERVED")}
    return ", ".join([*(name for name in _SHORT if name in names), *sorted(names - set(_SHORT))])


def bit_names(field: Field) -> Mapping[str, int]:
    """Return the names of the bits of *field*; none where its bits have no names."""
    return _BITS.get(field.name, {})


def value_names(field: Field) -> Mapping[str, int]:
    """Return the words that stand for numbers in *field*, without a resolver."""
    if field.name.endswith("PROTOCOL") and field.type is DataType.UINT8:
        return PROTOCOLS
    kind = _ENUMS.get(field.name)
    return {member.name.lower(): int(member) for member in kind} if kind else {}


def resolve_number(field: Field, text: str, resolver: Resolver) -> int | None:
    """Return the number that the word *text* stands for in *field*, or None."""
    known = value_names(field).get(text.lower())
    if known is not None:
        return known
    if field.name.endswith("PROTOCOL") and field.type is DataType.UINT8:
        return resolver.protocol(text)
    if field.name.endswith("_PORT") and field.type is DataType.UINT16:
        return resolver.service(text)
    if field.name.endswith("INTERFACE_INDEX"):
        return resolver.interface(text)
    return resolver.user(text) if field.type in TOKENS else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'? `` where something *known* is close to *word*, else the empty text."""
    known = list(known)
    folded = {name.casefold(): name for name in known}
    # Nothing that long is a slip of the pen, and comparing it would take long.
    is_short = len(word) <= SUGGESTION_LENGTH_MAX
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6) if is_short else []
    return f"did you mean '{folded[close[0]]}'? " if close else ""
