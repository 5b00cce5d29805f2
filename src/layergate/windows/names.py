"""How a dump names things: keys, and the names that stand for them.

netsh prints a key as its name in fwpmu.h where its build knows one, else as a GUID in braces: older builds print more
of them. The names of one thing are made one here: a layer is FWPM_LAYER_…, a sublayer or provider of the platform its
FWPM_ name, a field its name in the catalogue; a key that nobody knows stays {guid}, in lower case.

Source: fwpmu.h of the SDK; the catalogue.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from functools import cache
from typing import Final, TypeVar

from layergate.model import FIELD_ALIASES, LAYERS
from layergate.model.catalogue_data import CONDITION_GUIDS, SUBLAYER_GUIDS

CONDITION_PREFIX: Final = "FWPM_CONDITION_"
SUBLAYER_PREFIX: Final = "FWPM_SUBLAYER_"

_MPSSVC_SUBLAYERS: Final = {
    "FWPM_SUBLAYER_MPSSVC_WSH": "b3cdd441-af90-41ba-a745-7c6008ff2300",
    "FWPM_SUBLAYER_MPSSVC_WF": "b3cdd441-af90-41ba-a745-7c6008ff2301",
    "FWPM_SUBLAYER_MPSSVC_QUARANTINE": "b3cdd441-af90-41ba-a745-7c6008ff2302",
    "FWPM_SUBLAYER_MPSSVC_EDP": "09a47e38-fa97-471b-b123-18bcd7e65071",
    "FWPM_SUBLAYER_MPSSVC_TENANT_RESTRICTIONS": "1ec6c7e1-fdd9-478a-b55f-ff8ba1d2c17d",
    "FWPM_SUBLAYER_MPSSVC_APP_ISOLATION": "ffe221c3-92a8-4564-a59f-dafb70756020",
}
_PROVIDERS: Final = {
    "FWPM_PROVIDER_IPSEC_DOSP_CONFIG": "3c6c05a9-c05c-4bb9-8338-2327814ce8bf",
    "FWPM_PROVIDER_TCP_CHIMNEY_OFFLOAD": "896aa19e-9a34-4bcb-ae79-beb9127c84b9",
    "FWPM_PROVIDER_TCP_TEMPLATES": "76cfcd30-3394-432d-bed3-441ae50e63c3",
    "FWPM_PROVIDER_MPSSVC_WSH": "4b153735-1049-4480-aab4-d1b9bdc03710",
    "FWPM_PROVIDER_MPSSVC_WF": "decc16ca-3f33-4346-be1e-8fb4ae0f3d62",
    "FWPM_PROVIDER_MPSSVC_EDP": "a90296f7-46b8-4457-8f84-b05e05d3c622",
    "FWPM_PROVIDER_MPSSVC_TENANT_RESTRICTIONS": "d0718ff9-44da-4f50-9dc2-c963a4247613",
    "FWPM_PROVIDER_MPSSVC_APP_ISOLATION": "3cc2631f-2d5d-43a0-b174-614837d863a1",
}

_NAME_OF_KEY: Final = {
    f"{{{guid}}}": name for name, guid in (*_MPSSVC_SUBLAYERS.items(), *_PROVIDERS.items(), *SUBLAYER_GUIDS.items())
} | {f"{{{layer.guid}}}": layer.name for layer in LAYERS}
_FIELDS: Final = frozenset(field.name for layer in LAYERS for field in layer.fields)
_FIELD_OF_KEY: Final = {
    f"{{{guid}}}": name
    # The catalogue's own names last: a GUID that has two names is called as the layers call it.
    for name, guid in sorted(CONDITION_GUIDS.items(), key=lambda entry: entry[0] in _FIELDS)
}
_HEX: Final = re.compile(r"[0-9A-Fa-f]{8}")
_PREFIX: Final = re.compile(r"FWPM?_[A-Z_]*?FLAG_")

_Flag = TypeVar("_Flag", bound=enum.IntFlag)


def key_name(text: str) -> str:
    """Return the key *text* as it is known: an FWPM_ name, else {guid} in lower case. "" for no key."""
    if not text.startswith("{"):
        return text
    folded = text.lower()
    return _NAME_OF_KEY.get(folded, folded)


def field_name(text: str) -> str:
    """Return the name of the field whose key is *text*, without prefix; {guid} where nobody knows it."""
    bare = text.removeprefix(CONDITION_PREFIX)
    if bare.startswith("{"):
        folded = bare.lower()
        bare = _FIELD_OF_KEY.get(folded, folded)
    return FIELD_ALIASES.get(bare, bare)


@cache
def _all_of(kind: type[enum.IntFlag]) -> int:
    """Return all bits of *kind* that have names."""
    return sum(int(flag) for flag in kind)


def flags_of(items: Iterable[str], kind: type[_Flag]) -> tuple[_Flag, tuple[str, ...]]:
    """Return (the flags of *kind* among *items*, what is none of them, as printed).

    netsh prints the bits that its build has no names for as one hexadecimal number; those with a name here are flags.
    """
    flags, known = kind(0), _all_of(kind)
    marks = []
    for item in items:
        member = kind.__members__.get(_PREFIX.sub("", item, count=1))
        if member is not None:
            flags |= member
        elif _HEX.fullmatch(item):
            bits = int(item, 16)
            flags |= kind(bits & known)
            if bits & ~known:
                marks.append(f"{bits & ~known:08x}")
        else:
            marks.append(item)
    return flags, tuple(marks)
