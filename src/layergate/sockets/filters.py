"""Filter words: `state:established port:443 app:nginx remote:10.0.0.0/8 rtt:>100ms !user:root /regex/`.

- Words stand side by side and all must hold; the values of one word stand with commas and one must.
- `!` before a word turns it. A word without a key is looked for in the row as it is shown; `/…/` is a regular
  expression searched there, in any case.
- Numbers take `>`, `<`, `>=`, `<=`, and units: ms, s, m, h; k, M. A port takes a range (`8000-8999`) or a service's
  name.
- A word that says something of figures (rtt, age, retransmitted…) holds of no endpoint that has none.

Worked example: `parse(["port:80,443", "!app:nginx"])` holds of every endpoint with one of these ports at
either end that is not nginx's.

Source: the words are those of rustnet where it has them (`port:`, `process:`, `state:`).
"""

from __future__ import annotations

import ipaddress
import operator
import pwd
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import PurePosixPath
from typing import Final

from layergate.model import InputError
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.lines import no_unit
from layergate.sockets.services import port_called, service_of
from layergate.sockets.states import states_called
from layergate.sockets.subject import Subject

Test = Callable[[Subject], bool]
Text = Callable[[Subject], str]
Unit = Callable[[int], str | None]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NUMBER: Final = re.compile(r"(?P<sign>[<>]=?|=|)(?P<number>\d+(?:\.\d+)?)(?P<unit>us|ms|s|m|h|d|k|M|)")
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "k": 1e3, "M": 1e6, "": 1.0}
_SIGNS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq,
                 "": operator.eq}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filter:
    """What must hold.

    *needs_details*: it looks at figures that the kernel is asked for apart; *needs_filters*: at what authorised it.
    """

    words: tuple[str, ...]
    tests: tuple[Test, ...]
    needs_details: bool
    needs_filters: bool = False

    def __call__(self, endpoint: Subject) -> bool:
        """Whether it holds of *endpoint*."""
        return all(test(endpoint) for test in self.tests)


def parse(words: Sequence[str], text: Text, unit: Unit = no_unit) -> Filter:
    """Return *words* as a filter. Raises InputError for the first that is none.

    Args:
        words: as a user wrote them.
        text: gives an endpoint's row, for words without a key.
        unit: gives the unit of a control group's id.
    """
    tests = tuple(_word(word, text, unit) for word in words)
    keys = {word.lstrip("!").partition(":")[0] for word in words if not word.lstrip("!").startswith("/")}
    return Filter(tuple(words), tests, bool(keys & FIGURES.keys()), "filter" in keys)


def _word(word: str, text: Text, unit: Unit) -> Test:
    if word.startswith("!") and len(word) > 1:
        test = _word(word[1:], text, unit)
        return lambda one: not test(one)
    if len(word) > 1 and word.startswith("/") and word.endswith("/"):
        try:
            pattern = re.compile(word[1:-1], re.IGNORECASE)
        except re.error as error:
            raise InputError(f"{word} is no regular expression: {error}", "as Python's re understands it") from error
        return lambda one: pattern.search(text(one)) is not None
    key, colon, values = word.partition(":")
    if not colon or not key.isidentifier():
        if not word:
            raise InputError("an empty filter word", "a word like state:established, or a text to look for")
        wanted = word.lower()
        return lambda one: wanted in text(one).lower()
    maker = _KEYS.get(key)
    if maker is None and key in FIGURES:
        maker = _figure(key)
    if key == "unit":
        maker = partial(_unit, unit)
    if maker is None:
        raise InputError(
            f"no filter word begins with '{key}:'", f"there are {', '.join(sorted({*_KEYS, *FIGURES, 'unit'}))}"
        )
    if not values:
        raise InputError(f"'{word}' names nothing", f"{key}:VALUE, or several with commas")
    tests = tuple(maker(value) for value in values.split(","))
    return tests[0] if len(tests) == 1 else lambda one: any(test(one) for test in tests)


# --- words ----------------------------------------------------------------------------------------------------------


def _protocol(value: str) -> Test:
    wanted = value.lower()
    if wanted not in ("tcp", "udp"):
        raise InputError(f"no protocol '{value}' is listed", "tcp or udp")
    return lambda one: one.protocol == wanted


def _state(value: str) -> Test:
    wanted = frozenset(states_called(value))
    return lambda one: one.state in wanted


def _ports(value: str) -> range:
    first, dash, last = value.partition("-")
    if value.isdigit() or (dash and first.isdigit() and last.isdigit()):
        ports = range(int(first), int(last or first) + 1)
        if ports and ports[-1] < 1 << 16:
            return ports
        raise InputError(f"no port is '{value}'", "0 to 65535, or a range like 8000-8999")
    number = port_called(value)
    if number is None:
        raise InputError(f"no port is called '{value}'", "a number, a range like 8000-8999, or a name of /etc/services")
    return range(number, number + 1)


def _port(value: str) -> Test:
    ports = _ports(value)
    return lambda one: one.local_port in ports or (one.remote_port in ports and not one.has_no_remote)


def _local_port(value: str) -> Test:
    ports = _ports(value)
    return lambda one: one.local_port in ports


def _remote_port(value: str) -> Test:
    ports = _ports(value)
    return lambda one: one.remote_port in ports and not one.has_no_remote


def _prefix(value: str) -> Callable[[str | None], bool]:
    bare = value.strip("[]")
    try:
        network = ipaddress.ip_network(bare, strict=False)
    except ValueError as error:
        raise InputError(
            f"'{value}' is no address", "an address or a prefix: 10.0.0.1, 10.0.0.0/8, fd00::/8"
        ) from error
    known: dict[str | None, bool] = {None: False}

    def within(address: str | None) -> bool:
        if address not in known:
            known[address] = ipaddress.ip_address(str(address).partition("%")[0]) in network
        return known[address]

    return within


def _end(value: str) -> tuple[Callable[[str | None], bool], range | None]:
    """Return the tests of "ADDRESS" or "ADDRESS:PORT"."""
    address, colon, port = value.rpartition(":")
    if colon and (address.endswith("]") or ":" not in address):
        return (_prefix(address) if address else lambda _: True), _ports(port)
    return _prefix(value), None


def _local(value: str) -> Test:
    within, ports = _end(value)
    return lambda one: within(one.local_address) and (ports is None or one.local_port in ports)


def _remote(value: str) -> Test:
    within, ports = _end(value)
    return lambda one: within(one.remote_address) and (ports is None or one.remote_port in ports)


def _address(value: str) -> Test:
    local, remote = _local(value), _remote(value)
    return lambda one: local(one) or remote(one)


def _app(value: str) -> Test:
    """A name: of the executable, or the command; a pattern with * or ?; a path: the executable's."""
    wanted = value if "/" in value else value.lower()

    def fits(name: str) -> bool:
        return fnmatchcase(name, wanted) if any(char in wanted for char in "*?[") else wanted in name

    def test(one: Subject) -> bool:
        process = one.process
        if process is None:
            return False
        app = process.app or ""
        if "/" in wanted:
            return fits(app)
        return fits(PurePosixPath(app).name.lower()) or fits(process.name.lower())

    return test


def _filter(value: str) -> Test:
    """A part of the name of the filter that authorised it."""
    wanted = value.lower()
    return lambda one: wanted in (getattr(one, "filter_name", None) or "").lower()


def _pid(value: str) -> Test:
    if not value.isdigit():
        raise InputError(f"'{value}' is no process number", "pid:NUMBER")
    wanted = int(value)
    return lambda one: any(holder.pid == wanted for holder in one.holders)


def _user(value: str) -> Test:
    if value.isdigit():
        wanted = int(value)
    else:
        try:
            wanted = pwd.getpwnam(value).pw_uid
        except KeyError as error:
            raise InputError(f"there is no user '{value}'", "a name or a number that passwd knows") from error
    return lambda one: one.user == wanted


def _service(value: str) -> Test:
    wanted = value.lower()
    return lambda one: wanted in (service_of(one.local_port, one.protocol), service_of(one.remote_port, one.protocol))


def _unit(unit: Unit, value: str) -> Test:
    """A systemd unit, with or without its kind, or a part of a control group's path."""

    def test(one: Subject) -> bool:
        process = one.process
        name = unit(process.cgroup) if process and process.cgroup else None
        return name is not None and (value in {name, name.rpartition(".")[0]} or ("/" in value and value in name))

    return test


def _family(value: str) -> Test:
    if value not in ("4", "6"):
        raise InputError(f"there is no IP version '{value}'", "family:4 or family:6")
    wanted = int(value)
    return lambda one: one.family == wanted


def _namespace(value: str) -> Test:
    wanted = None if value in ("", "here") else value
    return lambda one: one.namespace == wanted


_KEYS: Final[dict[str, Callable[[str], Test]]] = {
    "protocol": _protocol, "proto": _protocol, "state": _state,
    "port": _port, "local_port": _local_port, "lport": _local_port, "remote_port": _remote_port, "rport": _remote_port,
    "local": _local, "remote": _remote, "address": _address,
    "app": _app, "process": _app, "pid": _pid, "user": _user, "filter": _filter,
    "service": _service, "family": _family, "netns": _namespace,
}  # fmt: skip


# --- figures --------------------------------------------------------------------------------------------------------

FIGURES: Final[dict[str, Callable[[Subject], float | None]]] = {
    "rtt": lambda one: one.info.rtt_us / 1e6 if one.info else None,
    "age": lambda one: one.age_s,
    "idle": lambda one: one.idle_s,
    "retransmitted": lambda one: one.info.retransmitted if one.info else None,
    "sent": lambda one: one.info.bytes_sent if one.info else None,
    "received": lambda one: one.info.bytes_received if one.info else None,
    "receive_queue": lambda one: one.receive_queue,
    "send_queue": lambda one: one.send_queue,
}


def _figure(key: str) -> Callable[[str], Test]:
    figure = FIGURES[key]

    def maker(value: str) -> Test:
        match = _NUMBER.fullmatch(value)
        if match is None:
            raise InputError(f"{key}:{value} compares with nothing", f"{key}:>NUMBER, with a unit: 100ms, 5m, 10k")
        bound, compare = float(match["number"]) * _UNITS[match["unit"]], _SIGNS[match["sign"]]

        def test(one: Subject) -> bool:
            found = figure(one)
            return found is not None and compare(found, bound)

        return test

    return maker


def only(endpoints: Iterable[Endpoint], wanted: Filter | None) -> list[Endpoint]:
    """Return those of *endpoints* of which *wanted* holds; all where there is none."""
    return list(endpoints) if wanted is None or not wanted.tests else [one for one in endpoints if wanted(one)]
