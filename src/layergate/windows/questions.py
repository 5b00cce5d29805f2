r"""What the words of a question stand for on the host of a dump: applications by path, tokens by their SIDs.

An application is a device path there (`\device\harddiskvolume3\windows\explorer.exe`, lower case). A question may
give it as Windows shows it (`C:\Windows\explorer.exe`) or by its file name: then the dump's own filters say which
path is meant. A token is a list of SIDs; Everyone is in every token but the anonymous one's.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from layergate.engine.sddl import sid_of
from layergate.model import DataType, InputError, Policy, Token, Value
from layergate.model.lines import PATHS
from layergate.windows.values import path_text

EVERYONE: Final = "S-1-1-0"
ANONYMOUS: Final = "S-1-5-7"
_SID: Final = re.compile(r"S-1-\d+(-\d+)*")
_DEVICE: Final = re.compile(r"(\\device\\[^\\]+)(\\.*)")
_DRIVE: Final = re.compile(r"[a-z]:(\\.*)")
LISTED_MAX: Final = 5


def app_id(text: str, policy: Policy) -> bytes:
    """Return the application id that *text* is on the host of *policy*: lower case, UTF-16LE, a NUL at its end.

    Raises InputError where a file name, or a path on a drive, stands for several applications of the filters.
    """
    path = text.strip().lower().replace("/", "\\")
    if _DEVICE.fullmatch(path):
        return _encoded(path)
    drive = _DRIVE.fullmatch(path)
    known = _known(policy)
    if drive:
        meant = [one for one in known if _tail(one) == drive[1]]
        return _encoded(_only(text, meant) or f"{_volume(known)}{drive[1]}")
    return _encoded(_only(text, [one for one in known if one == path or one.endswith(f"\\{path}")]) or path)


def _tail(path: str) -> str | None:
    found = _DEVICE.fullmatch(path)
    return found[2] if found else None


def _volume(known: list[str]) -> str:
    """Return the device that most of the *known* applications are on: no filter names one on the drive asked for."""
    devices = Counter(found[1] for one in known if (found := _DEVICE.fullmatch(one)))
    return devices.most_common(1)[0][0] if devices else r"\device\harddiskvolume"


def _known(policy: Policy) -> list[str]:
    """Return the paths of all applications that filters of *policy* test."""
    ids = {
        condition.value.data
        for item in policy.filters
        for condition in item.conditions
        if condition.field in PATHS and isinstance(condition.value.data, bytes)
    }
    return sorted(path_text(one) for one in ids)


def _only(text: str, meant: list[str]) -> str | None:
    if len(meant) > 1:
        listed = ", ".join(meant[:LISTED_MAX]) + (" …" if len(meant) > LISTED_MAX else "")
        raise InputError(f"'{text}' stands for {len(meant)} applications", f"one of {listed}")
    return meant[0] if meant else None


def _encoded(path: str) -> bytes:
    return f"{path}\0".encode("utf-16-le", "surrogatepass")


def token(text: str) -> Value:
    """Return the token that holds the SIDs listed in *text*, abbreviations of SDDL included. Raises InputError."""
    sids = {sid_of(word.strip()) for word in text.split(",") if word.strip()}
    wrong = sorted(sid for sid in sids if not _SID.fullmatch(sid))
    if wrong or not sids:
        found = f"'{wrong[0]}' is no SID" if wrong else "no SID"
        raise InputError(found, "SIDs and their abbreviations, separated by commas: S-1-5-18,BA")
    return Value(DataType.TOKEN_ACCESS_INFORMATION, Token(frozenset(sids if ANONYMOUS in sids else sids | {EVERYONE})))


def sid(text: str) -> Value:
    """Return the SID *text*, maybe abbreviated, as a value. Raises InputError."""
    found = sid_of(text.strip())
    if not _SID.fullmatch(found):
        raise InputError(f"'{text}' is no SID", "a SID, S-1-15-2-…, or its abbreviation in SDDL")
    return Value(DataType.SID, found)
