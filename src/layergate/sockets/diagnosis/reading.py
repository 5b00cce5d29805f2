"""The evidence of a live network namespace: the table, /proc/net's counters and the settings.

Source: proc(5) (net/snmp, net/netstat, net/sockstat), sysctl net.core and net.ipv4.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from layergate.kernel import iterators
from layergate.sockets import table
from layergate.sockets.diagnosis.evidence import Counters, Evidence, Limits, View
from layergate.sockets.namespaces import HERE, Place

# The namespace of the thread that opens them, also while it is elsewhere for a moment.
_NET: Final = Path("/proc/thread-self/net")
_SETTINGS: Final = Path("/proc/sys/net")
SETTINGS: Final = (
    "core/somaxconn", "ipv4/tcp_abort_on_overflow", "ipv4/tcp_syncookies", "ipv4/tcp_max_syn_backlog",
    "ipv4/ip_local_port_range", "ipv4/tcp_tw_reuse", "ipv4/tcp_max_tw_buckets", "ipv4/tcp_fin_timeout",
    "ipv4/tcp_mem", "ipv4/tcp_max_orphans", "ipv4/tcp_keepalive_time",
)  # fmt: skip


def counters() -> Counters:
    """Return the counters of the thread's network namespace."""
    found: dict[str, dict[str, int]] = {}
    for name in ("snmp", "netstat"):
        lines = _lines(_NET / name)
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            group, *words = names.split()
            found[group.rstrip(":")] = dict(zip(words, map(int, values.split()[1:]), strict=False))
    for line in _lines(_NET / "sockstat"):
        group, *words = line.split()
        found[f"sockstat {group.rstrip(':')}"] = dict(zip(words[::2], map(int, words[1::2]), strict=False))
    return found


def settings() -> dict[str, str]:
    """Return the settings of the thread's network namespace, as "core.somaxconn": "4096"."""
    return {name.replace("/", "."): text for name in SETTINGS if (text := " ".join(_lines(_SETTINGS / name)))}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:  # another kernel may lack it
        return []


def evidence(seconds: float, limits: Limits, place: Place = HERE, programs: iterators.Owners | None = None) -> Evidence:
    """Look at *place* twice, *seconds* apart. Raises NotSupportedError."""
    before = _view(place, programs)
    time.sleep(seconds)
    after = _view(place, programs)
    namespace = place.open()
    try:
        with namespace.entered():
            return Evidence(before, after, settings(), limits)
    finally:
        namespace.close()


def _view(place: Place, programs: iterators.Owners | None) -> View:
    now = time.monotonic()
    endpoints = tuple(table.read(table.Question(), (place,), programs).endpoints)
    namespace = place.open()
    try:
        with namespace.entered():
            return View(now, endpoints, counters())
    finally:
        namespace.close()
