"""The columns of the list: what each shows, how it is sorted, and whether the kernel has to be asked for more.

A cell is text; a value that is not known is empty. Sizes and times are shortened as people read them (1.2M, 3.4s).

Worked example: `rows(endpoints, by_name("local", "rtt"))` gives lists of two cells.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from layergate.model import InputError
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.filters import FIGURES
from layergate.sockets.lines import interface_name, service_name
from layergate.sockets.subject import Subject

Key = Callable[[Endpoint], object]
_KILO: Final = 1000
_SIZES: Final = ("", "k", "M", "G", "T")


@dataclass(frozen=True, slots=True)
class Column:
    """*needs_details*: it shows figures that the kernel is asked for apart; *needs_filters*: what authorised it."""

    name: str
    title: str
    cell: Callable[[Endpoint], str]
    key: Key
    is_number: bool = False
    needs_details: bool = False
    needs_filters: bool = False


def size_words(count: float) -> str:
    """Return a size as people read it: 999, 1.2k, 34M."""
    value = float(count)
    for suffix in _SIZES:
        if value < _KILO or suffix == _SIZES[-1]:
            break
        value /= _KILO
    return f"{value:.0f}{suffix}" if not suffix or value >= 10 else f"{value:.1f}{suffix}"


def time_words(seconds: float | None) -> str:
    """Return a time as people read it: 0.4ms, 12ms, 3.4s, 5m, 2h, 3d; nothing where it is not known."""
    if seconds is None:
        return ""
    for limit, unit, factor in ((1.0, "ms", 1e3), (60.0, "s", 1.0), (3600.0, "m", 1 / 60), (86400.0, "h", 1 / 3600)):
        if seconds < limit:
            value = seconds * factor
            return f"{value:.0f}{unit}" if value >= 10 else f"{value:.1f}{unit}"
    return f"{seconds / 86400:.0f}d"


def process_words(one: Subject) -> str:
    """Return the process that has it, and how many others: nginx[812] +2."""
    process = one.process
    if process is None:
        return ""
    others = len({holder.pid for holder in one.holders}) - 1
    return f"{process.name}[{process.pid}]" + (f" +{others}" if others > 0 else "")


def age_words(one: Endpoint) -> str:
    """Return the age; >3s where it is no more than a bound."""
    age = one.age_s
    return "" if age is None else ("" if one.age_is_exact else ">") + time_words(age)


def timer_words(one: Endpoint) -> str:
    """Return the timer: retransmit 0.4s ×3."""
    timer = one.timer
    if timer is None:
        return ""
    return f"{timer.kind} {time_words(timer.expires_ms / 1000)}" + (f" ×{timer.tries}" if timer.tries else "")


def _figure(name: str, words: Callable[[float], str]) -> tuple[Callable[[Endpoint], str], Key]:
    figure = FIGURES[name]

    def cell(one: Endpoint) -> str:
        value = figure(one) if one.state not in ("LISTEN", "BOUND") else None
        return "" if value is None else words(value)

    return cell, lambda one: -1.0 if (value := figure(one)) is None else value


@cache
def _address_key(address: str | None) -> tuple[int, int]:
    if address is None:
        return (0, 0)
    number = ipaddress.ip_address(address)
    return (number.version, int(number))


def _count(value: float) -> str:
    return f"{value:.0f}" if value else ""


def _own(*parts: str) -> tuple[Callable[[Endpoint], str], Key]:
    return _figure(parts[0], _count)


COLUMNS: Final = (
    Column("protocol", "PROTO", lambda one: one.protocol, lambda one: one.protocol),
    Column("state", "STATE", lambda one: one.state, lambda one: one.state),
    Column("recv", "RECV-Q", lambda one: str(one.receive_queue), lambda one: one.receive_queue, is_number=True),
    Column("send", "SEND-Q", lambda one: str(one.send_queue), lambda one: one.send_queue, is_number=True),
    Column("local", "LOCAL", lambda one: one.local, lambda one: (_address_key(one.local_address), one.local_port)),
    Column("remote", "REMOTE", lambda one: one.remote or "-",
           lambda one: (_address_key(one.remote_address), one.remote_port)),
    Column("service", "SERVICE", lambda one: service_name(one) or "", lambda one: service_name(one) or ""),
    Column("process", "PROCESS", process_words, lambda one: (p.name, p.pid) if (p := one.process) else ("", 0)),
    Column("pid", "PID", lambda one: str(p.pid) if (p := one.process) else "",
           lambda one: p.pid if (p := one.process) else 0, is_number=True),
    Column("user", "USER", lambda one: str(one.user), lambda one: one.user, is_number=True),
    Column("age", "AGE", age_words, lambda one: one.age_s or -1.0, is_number=True, needs_details=True),
    Column("idle", "IDLE", *_figure("idle", time_words), is_number=True, needs_details=True),
    Column("sent", "SENT", *_figure("sent", size_words), is_number=True, needs_details=True),
    Column("received", "RECEIVED", *_figure("received", size_words), is_number=True, needs_details=True),
    Column("rtt", "RTT", *_figure("rtt", lambda value: time_words(value) if value else ""), is_number=True,
           needs_details=True),
    Column("retransmitted", "RETR", *_own("retransmitted"), is_number=True, needs_details=True),
    Column("congestion", "CONGESTION", lambda one: one.congestion or "", lambda one: one.congestion or "",
           needs_details=True),
    Column("timer", "TIMER", timer_words, lambda one: t.expires_ms if (t := one.timer) else -1),
    Column("interface", "IF", lambda one: interface_name(one) or "", lambda one: one.interface),
    Column("filter", "FILTER", lambda one: one.filter_name or (f"#{one.filter}" if one.filter else ""),
           lambda one: one.filter_name or "", needs_filters=True),
    Column("netns", "NETNS", lambda one: one.namespace or "", lambda one: one.namespace or ""),
)  # fmt: skip

BY_NAME: Final = {column.name: column for column in COLUMNS}
PLAIN: Final = ("protocol", "state", "recv", "send", "local", "remote", "process")
WIDE: Final = (
    "protocol", "state", "recv", "send", "local", "remote", "service", "age", "idle", "sent", "received", "rtt",
    "retransmitted", "congestion", "timer", "filter", "user", "process",
)  # fmt: skip


def by_name(names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns called *names*. Raises InputError."""
    for name in names:
        if name not in BY_NAME:
            raise InputError(f"no column is called '{name}'", f"there are {', '.join(BY_NAME)}")
    return tuple(BY_NAME[name] for name in names)


def row_text(one: Subject) -> str:
    """Return the row that words without a key are looked for in: what the plain list shows."""
    cells = (one.protocol, one.state, one.local, one.remote or "", service_name(one) or "", process_words(one))
    return "  ".join(cells)
