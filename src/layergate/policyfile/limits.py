"""A filter's limit as a file says it: `limit`, and beside it `response`, `ban` and `monitor`.

    limit = { per = "remote_address", new = 50, over = "10s" }
    ban = { for = "10m", up_to = "1d" }

Exactly one thing is counted; what else stands in the table depends on it (`_BESIDE`). `slow` and `empty` are tables of
their own, for they have no count. Times are text with a unit: 250ms, 10s, 5m, 1h, 1d. Every problem is noted, none
ends the reading. `limit_words` is the other direction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from layergate.engine import matches
from layergate.model import Action, Ban, Condition, Counted, DataType, Key, Layer, Limit, Per, Response, Value
from layergate.model.limits import (
    BAN_MS_MAX,
    COUNT_MAX,
    LAYERS_WITH_LIMITS,
    PERIOD_MS_MAX,
    PREFIX_V4_DEFAULT,
    PREFIX_V6_DEFAULT,
    UNITS_MS,
    V4_BITS,
    V6_BITS,
    duration_words,
)
from layergate.policyfile.conditions import shown
from layergate.policyfile.names import suggestion

LIMIT_KEYS: Final = ("limit", "response", "ban", "monitor")
"""The keys of a filter that this module reads."""

BYTES_MAX: Final = 1 << 40
_TCP: Final = Value(DataType.UINT8, 6)
_DURATION: Final = re.compile(rf"([0-9]{{1,12}})({'|'.join(UNITS_MS)})")
DURATION_FORM: Final = 'a number and a unit, such as "250ms", "10s", "5m", "1h", "1d"'
PREFIXES: Final = {"prefix_v4": V4_BITS, "prefix_v6": V6_BITS}
_BESIDE: Final[dict[Counted, tuple[str, ...]]] = {
    Counted.CONCURRENT: ("fair",),
    Counted.NEW: ("over",),
    Counted.CLOSED: ("over",),
    Counted.PORTS: ("over",),
    Counted.REMOTES: ("over",),
    Counted.ABNORMAL: ("over", "connections"),
}
"""What may stand beside the counted thing. `over` must."""

TABLES: Final[dict[Counted, tuple[str, ...]]] = {Counted.SLOW: ("bytes", "over", "grace"), Counted.EMPTY: ("grace",)}
"""The counted things that are tables, and what those hold, all of it."""

_ELSEWHERE: Final = {
    Counted.CLOSED: "ALE_AUTH_RECV_ACCEPT",
    Counted.PORTS: "ALE_AUTH_RECV_ACCEPT",
    Counted.REMOTES: "ALE_AUTH_CONNECT",
}
"""What is counted at one layer alone."""

_WITH_LOCAL_PORT: Final = (Per.REMOTE_ADDRESS_LOCAL_PORT, Per.TUPLE)
_ALL_KEYS: Final = tuple(
    dict.fromkeys(("per", *PREFIXES, *map(str, Counted), *(key for keys in _BESIDE.values() for key in keys)))
)

Path = tuple[str | int, ...]
Note = Callable[[Path, str, str, str], None]


@dataclass(frozen=True, slots=True)
class Around:
    """What a limit's filter is: its action (None where that is wrong) and its layers."""

    action: Action | None
    layers: tuple[Layer, ...]


def read_limit(table: dict[str, Any], around: Around, path: Path, subject: str, note: Note) -> Limit | None:
    """Return the limit of the filter *table*, None where it has none or a wrong one; *note* hears what is wrong."""
    reader = _Reader(path, subject, note)
    if "limit" not in table:
        for key in LIMIT_KEYS[1:]:
            if key in table:
                reader.wrong((key,), f"{key} without a limit", f"{key} only beside limit = {{ ... }}")
        return None
    given = table["limit"]
    for layer in around.layers:
        if layer.base not in LAYERS_WITH_LIMITS:
            accepted = f"a limit at {' or '.join(LAYERS_WITH_LIMITS)}"
            reader.wrong(("limit",), f"a limit at {layer.base}, where no connection begins", accepted)
    response = reader.response(table, around.action)
    ban = reader.ban(table, around.action)
    monitor = reader.monitor(table)
    if not isinstance(given, dict):
        reader.wrong(("limit",), f"limit = {shown(given)}", 'limit = { per = "remote_address", concurrent = 20 }')
        return None
    counted = reader.counted(given)
    if counted is None:
        reader.key(given, None, around)
        return None
    limit = reader.limit(given, counted, around)
    if reader.is_wrong or limit is None:
        return None
    return Limit(**{**limit, "response": response, "ban": ban, "monitor": monitor})


class _Reader:
    """Reads one limit."""

    def __init__(self, path: Path, subject: str, note: Note) -> None:
        self.path, self.subject, self.note = path, subject, note
        self.is_wrong = False

    def wrong(self, path: Path, found: str, accepted: str) -> None:
        """Note one problem at *path* below the filter."""
        self.is_wrong = True
        label = f"{self.subject}, {'.'.join(map(str, path))}" if len(path) > 1 else self.subject
        self.note((*self.path, *path), label, found, accepted)

    # --- beside the limit -------------------------------------------------------------------------------------------

    def response(self, table: dict[str, Any], action: Action | None) -> Response:
        """Return how what is past the limit is blocked."""
        value = table.get("response", Response.DROP)
        listed = ", ".join(f'"{word}"' for word in Response)
        if not isinstance(value, str) or value not in list(Response):
            close = suggestion(value, Response) if isinstance(value, str) else ""
            self.wrong(("response",), f"response = {shown(value)}", f"{close}one of {listed}")
            return Response.DROP
        if "response" in table and action is Action.PERMIT:
            self.wrong(("response",), "response on a permit", 'response only with action = "block"')
        return Response(value)

    def ban(self, table: dict[str, Any], action: Action | None) -> Ban | None:
        """Return how long those past the limit are banned, None where they are not."""
        if "ban" not in table:
            return None
        value = table["ban"]
        if action is Action.PERMIT:
            self.wrong(("ban",), "ban on a permit", 'ban only with action = "block"')
        if isinstance(value, dict):
            self._known(value, ("for", "up_to"), ("ban",))
            if "for" not in value:
                self.wrong(("ban",), "no time in ban", 'ban = { for = "10m", up_to = "1d" }')
            length = self._duration(value, "for", BAN_MS_MAX, ("ban",))
            up_to = self._duration(value, "up_to", BAN_MS_MAX, ("ban",))
            if length and up_to and up_to < length:
                found = f"up_to = '{duration_words(up_to)}', less than for = '{duration_words(length)}'"
                self.wrong(("ban", "up_to"), found, "the longest time that doubling leads to")
            return Ban(length, up_to) if length else None
        length = self._duration(table, "ban", BAN_MS_MAX, ())
        return Ban(length) if length else None

    def monitor(self, table: dict[str, Any]) -> bool:
        """Return whether what is past the limit is only told."""
        value = table.get("monitor", False)
        if not isinstance(value, bool):
            self.wrong(("monitor",), f"monitor = {shown(value)}", "true or false")
        return value is True

    # --- the limit --------------------------------------------------------------------------------------------------

    def counted(self, given: dict[str, Any]) -> Counted | None:
        """Return the one thing that is counted; unknown keys are noted."""
        self._known(given, _ALL_KEYS, ("limit",))
        found = [one for one in Counted if one in given]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(Counted)
        if found:
            said = " and ".join(found)
            self.wrong(("limit", found[1]), f"{said} together", "one counted thing; a filter of its own for each")
        else:
            self.wrong(("limit",), "a limit that counts nothing", f"exactly one of {listed}")
        return None

    def limit(self, given: dict[str, Any], counted: Counted, around: Around) -> dict[str, Any] | None:
        """Return the parts of a limit on *counted*, None where its key is wrong."""
        beside = _BESIDE.get(counted, ())
        for name in given:
            if name in _ALL_KEYS and name not in ("per", *PREFIXES, counted, *beside):
                self.wrong(("limit", name), f"{name} beside {counted}", _accepted_beside(counted))
        for layer in around.layers:
            if counted in _ELSEWHERE and layer.base in LAYERS_WITH_LIMITS and layer.base != _ELSEWHERE[counted]:
                found = f"{counted} is not counted at {layer.base}"
                self.wrong(("limit", counted), found, f"{counted} at {_ELSEWHERE[counted]}")
        parts: dict[str, Any] = {"counted": counted, "key": self.key(given, counted, around)}
        if counted in TABLES:
            parts |= self._table(given[counted], counted)
        else:
            # Of many connections each may be one too many: whose every connection is reset is an attacker.
            least = 0 if counted is Counted.ABNORMAL and "connections" in given else 1
            parts["count"] = self._count(given, counted, COUNT_MAX, ("limit",), least=least)
            if counted.has_period:
                if "over" not in given:
                    self.wrong(("limit",), f"{counted} without a period", f'over = "10s" beside {counted}')
                parts["over_ms"] = self._duration(given, "over", PERIOD_MS_MAX, ("limit",))
        if "connections" in given and counted is Counted.ABNORMAL:
            parts["connections"] = self._count(given, "connections", COUNT_MAX, ("limit",))
            if parts["key"] and parts["key"].per is Per.TUPLE:
                self.wrong(("limit", "connections"), "connections per tuple, which is one", "another per")
        if "fair" in given and counted is Counted.CONCURRENT:
            parts["fair"] = self._fair(given, parts["key"], around)
        if counted.is_of_one_connection and not parts.get("connections") and around.action is Action.PERMIT:
            found = f"a permit that waits until a connection is {counted}"
            self.wrong(("limit", counted), found, 'action = "block"; what is not past the limit goes on anyway')
        return None if self.is_wrong or parts["key"] is None else parts

    def key(self, given: dict[str, Any], counted: Counted | None, around: Around) -> Key | None:
        """Return over what is counted; the connection itself where one connection is past the limit."""
        is_one = counted is not None and counted.is_of_one_connection and "connections" not in given
        if "per" not in given and is_one:
            self._prefixes(given, None)
            return Key(Per.TUPLE)
        per = self._per(given, "per", around, is_one=is_one)
        if per is None:
            return None
        if per is Per.REMOTE_PREFIX or "fair" not in given:
            return Key(per, *self._prefixes(given, per))
        return Key(per)

    def _per(self, given: dict[str, Any], name: str, around: Around, *, is_one: bool) -> Per | None:
        value = given.get(name)
        listed = ", ".join(f'"{word}"' for word in Per)
        if not isinstance(value, str) or value not in list(Per):
            found = f"{name} = {shown(value)}" if name in given else f"no {name}"
            close = suggestion(value, Per) if isinstance(value, str) else ""
            self.wrong(("limit", name), found, f"{close}one of {listed}")
            return None
        per = Per(value)
        if per in _WITH_LOCAL_PORT and not is_one and any(one.base == "ALE_AUTH_CONNECT" for one in around.layers):
            found = f'{name} = "{per}" at ALE_AUTH_CONNECT, where no local port is known yet'
            self.wrong(("limit", name), found, '"remote_address", "remote_prefix", "app", "unit" or "all"')
        return per

    def _prefixes(self, given: dict[str, Any], per: Per | None) -> tuple[int, int]:
        """Return the lengths for both families: whole addresses where *per* is no prefix."""
        if per is not Per.REMOTE_PREFIX:
            for name in PREFIXES:
                if name in given:
                    self.wrong(("limit", name), f"{name} without a prefix", 'per = "remote_prefix"')
            return V4_BITS, V6_BITS
        lengths = [PREFIX_V4_DEFAULT, PREFIX_V6_DEFAULT]
        for place, (name, bits) in enumerate(PREFIXES.items()):
            if name in given:
                value = given[name]
                if type(value) is int and 1 <= value <= bits:
                    lengths[place] = value
                else:
                    self.wrong(("limit", name), f"{name} = {shown(value)}", f"1 to {bits}")
        return lengths[0], lengths[1]

    def _fair(self, given: dict[str, Any], key: Key | None, around: Around) -> Key | None:
        """Return over what a total is shared."""
        if key is not None and key.per is not Per.ALL:
            self.wrong(("limit", "fair"), f'fair with per = "{key.per}"', 'fair only with per = "all"')
        per = self._per(given, "fair", around, is_one=False)
        if per is Per.ALL:
            self.wrong(("limit", "fair"), 'fair = "all"', 'those among whom the total is shared, "remote_address"')
        return None if per is None else Key(per, *self._prefixes(given, per))

    def _table(self, value: object, counted: Counted) -> dict[str, int]:
        """Return the parts of `slow` and `empty`."""
        keys = TABLES[counted]
        form = ", ".join(f"{key} = {'100' if key == 'bytes' else chr(34) + '10s' + chr(34)}" for key in keys)
        if not isinstance(value, dict):
            self.wrong(("limit", counted), f"{counted} = {shown(value)}", f"{counted} = {{ {form} }}")
            return {}
        self._known(value, keys, ("limit", counted))
        parts = {}
        for key in keys:
            if key not in value:
                self.wrong(("limit", counted), f"{counted} without {key}", f"{counted} = {{ {form} }}")
            elif key == "bytes":
                parts[key] = self._count(value, key, BYTES_MAX, ("limit", counted))
            else:
                parts[f"{key}_ms"] = self._duration(value, key, PERIOD_MS_MAX, ("limit", counted))
        return parts

    # --- values -----------------------------------------------------------------------------------------------------

    def _known(self, table: dict[str, Any], known: tuple[str, ...], path: Path) -> None:
        for name in table:
            if name not in known:
                accepted = f"{suggestion(name, known)}one of {', '.join(known)}"
                self.wrong((*path, name), f"unknown key {shown(name)}", accepted)

    def _count(self, table: dict[str, Any], name: str, top: int, path: Path, *, least: int = 1) -> int:
        value = table[name]
        if type(value) is int and least <= value <= top:
            return value
        is_none_allowed = value == 0 and type(value) is int and name != "bytes"
        why = "; to allow none, a block without a limit" if is_none_allowed else ""
        self.wrong((*path, name), f"{name} = {shown(value)}", f"a whole number from {least} to {top}{why}")
        return 0

    def _duration(self, table: dict[str, Any], name: str, top: int, path: Path) -> int:
        """Return the time table[name] in milliseconds, 0 where there is none or a wrong one."""
        if name not in table:
            return 0
        value = table[name]
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            close = f"did you mean '{value}s'? " if type(value) is int and value > 0 else ""
            self.wrong((*path, name), f"{name} = {shown(value)}", f"{close}{DURATION_FORM}")
            return 0
        milliseconds = int(found[1]) * UNITS_MS[found[2]]
        if not 1 <= milliseconds <= top:
            self.wrong((*path, name), f"{name} = {shown(value)}", f"more than 0, and {duration_words(top)} at most")
            return 0
        return milliseconds


def _accepted_beside(counted: Counted) -> str:
    beside = ["per", *_BESIDE.get(counted, ())]
    inside = f"; {', '.join(TABLES[counted])} in the table {counted}" if counted in TABLES else ""
    return f"beside {counted}: {', '.join(beside)}{inside}"


def protocol_problem(conditions: tuple[Condition, ...]) -> str | None:
    """Return why a filter of *conditions* can't have a limit: it is for another protocol than TCP."""
    tests = [one for one in conditions if one.field == "IP_PROTOCOL"]
    if tests and not any(matches(_TCP, one) for one in tests):
        return "a limit on another protocol than TCP, which has no connections to count"
    return None


def limit_words(limit: Limit) -> dict[str, object]:
    """Return the keys of a filter's table that say *limit*, in the file's order."""
    said: dict[str, object] = {}
    key, counted = limit.key, limit.counted
    if not (limit.is_of_one_connection and key == Key(Per.TUPLE)):
        said["per"] = str(key.per)
    prefixed = next((one for one in (key, limit.fair) if one is not None and one.per is Per.REMOTE_PREFIX), None)
    if prefixed is not None:
        said |= {"prefix_v4": prefixed.prefix_v4, "prefix_v6": prefixed.prefix_v6}
    if counted in TABLES:
        times = {"over": limit.over_ms, "grace": limit.grace_ms}
        said[counted] = {
            name: limit.bytes if name == "bytes" else duration_words(times[name]) for name in TABLES[counted]
        }
    else:
        said[counted] = limit.count
        if limit.over_ms:
            said["over"] = duration_words(limit.over_ms)
    if limit.connections:
        said["connections"] = limit.connections
    if limit.fair:
        said["fair"] = str(limit.fair.per)
    table: dict[str, object] = {"limit": {str(name): value for name, value in said.items()}}
    if limit.response is not Response.DROP:
        table["response"] = str(limit.response)
    if limit.ban:
        length = duration_words(limit.ban.for_ms)
        table["ban"] = {"for": length, "up_to": duration_words(limit.ban.up_to_ms)} if limit.ban.up_to_ms else length
    if limit.monitor:
        table["monitor"] = True
    return table
