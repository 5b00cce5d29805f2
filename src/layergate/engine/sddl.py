"""Security descriptors as text (SDDL), and whether they grant a token the right that filters ask for.

A filter's condition on a token is an access check: the descriptor's discretionary list is read from its first entry to
its last, until one that names a SID of the token denies or allows the right to match (0x1, CC). No list at all grants
everybody; an entry of a kind that this check can't judge (conditional, object, callback) is passed over.

Worked example: O:LSD:(D;;CC;;;S-1-5-7)(A;;CC;;;WD) grants every token that does not hold S-1-5-7 (anonymous).
Source: Microsoft, "Security Descriptor String Format", "ACE Strings", "SID Strings"; real dumps use CC as the right.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MATCH_RIGHT: Final = 0x1

# Two letters a right, as far as their bits or mappings hold MATCH_RIGHT; the others grant nothing here.
_RIGHTS: Final = {
    "CC": MATCH_RIGHT,
    "GA": MATCH_RIGHT,
    "GX": 0,
    "FA": MATCH_RIGHT,
    "KA": MATCH_RIGHT,
    "FR": MATCH_RIGHT,
}
_INHERIT_ONLY: Final = "IO"
_ACE: Final = re.compile(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_SIDS: Final = {
    "AA": "S-1-5-32-579",
    "AC": "S-1-15-2-1",
    "AN": "S-1-5-7",
    "AO": "S-1-5-32-548",
    "AS": "S-1-18-1",
    "AU": "S-1-5-11",
    "BA": "S-1-5-32-544",
    "BG": "S-1-5-32-546",
    "BO": "S-1-5-32-551",
    "BU": "S-1-5-32-545",
    "CG": "S-1-3-1",
    "CO": "S-1-3-0",
    "CY": "S-1-5-32-569",
    "ED": "S-1-5-9",
    "ER": "S-1-5-32-573",
    "HA": "S-1-5-32-578",
    "HI": "S-1-16-12288",
    "IS": "S-1-5-32-568",
    "IU": "S-1-5-4",
    "LS": "S-1-5-19",
    "LU": "S-1-5-32-559",
    "LW": "S-1-16-4096",
    "ME": "S-1-16-8192",
    "MU": "S-1-5-32-558",
    "NO": "S-1-5-32-556",
    "NS": "S-1-5-20",
    "NU": "S-1-5-2",
    "OW": "S-1-3-4",
    "PO": "S-1-5-32-550",
    "PS": "S-1-5-10",
    "PU": "S-1-5-32-547",
    "RC": "S-1-5-12",
    "RD": "S-1-5-32-555",
    "RE": "S-1-5-32-552",
    "RM": "S-1-5-32-580",
    "RU": "S-1-5-32-554",
    "SI": "S-1-16-16384",
    "SO": "S-1-5-32-549",
    "SS": "S-1-18-2",
    "SU": "S-1-5-6",
    "SY": "S-1-5-18",
    "UD": "S-1-5-84-0-0-0-0-0",
    "WD": "S-1-1-0",
    "WR": "S-1-5-33",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a discretionary list that says something of the right to match."""

    allows: bool
    sid: str


@lru_cache(maxsize=4096)
def entries(sddl: str) -> tuple[Entry, ...] | None:
    """Return what *sddl* says of the right to match, in its order; None where it has no list. Cost: O(length)."""
    _, found, rest = sddl.partition("D:")
    if not found:
        return None
    flags, _, _ = rest.partition("(")
    if "NO_ACCESS_CONTROL" in flags:
        return None
    result = []
    for text in _ACE.findall(rest.partition("S:")[0]):
        kind, flags, rights, _, _, sid = [*str(text).split(";"), "", "", "", "", "", ""][:6]
        inherits_only = _INHERIT_ONLY in (flags[place : place + 2] for place in range(0, len(flags), 2))
        if kind in ("A", "D") and not inherits_only and _mask(rights) & MATCH_RIGHT:
            result.append(Entry(kind == "A", sid_of(sid)))
    return tuple(result)


def sid_of(text: str) -> str:
    """Return the SID that *text* is: S-1-… as it is, an abbreviation in full."""
    return _SIDS.get(text, text)


def _mask(rights: str) -> int:
    if rights.startswith("0x"):
        try:
            return int(rights, 16)
        except ValueError:
            return 0
    if rights.isdecimal():
        return int(rights)
    return MATCH_RIGHT if any(_RIGHTS.get(rights[place : place + 2]) for place in range(0, len(rights), 2)) else 0


def grants(sddl: str, sids: AbstractSet[str]) -> bool:
    """Whether the descriptor *sddl* grants a token that holds *sids* the right to match. Cost: O(entries)."""
    listed = entries(sddl)
    if listed is None:
        return True
    return next((entry.allows for entry in listed if entry.sid in sids), False)
