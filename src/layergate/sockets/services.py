"""Names of ports, by /etc/services: read once, for a look-up of each port by getservbyport would read it every time.

Worked example: `service_of(443, "tcp")` is "https"; `port_called("https")` is 443.

Source: services(5).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

SERVICES: Final = Path("/etc/services")


@cache
def _names() -> tuple[dict[tuple[int, str], str], dict[str, int]]:
    by_port: dict[tuple[int, str], str] = {}
    by_name: dict[str, int] = {}
    try:
        lines = SERVICES.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # a machine without names shows numbers
        lines = []
    for line in lines:
        name, *rest = line.partition("#")[0].split() or [""]
        port, slash, protocol = (rest[0] if rest else "").partition("/")
        if slash and port.isdigit():
            by_port.setdefault((int(port), protocol), name)
            for other in (name, *rest[1:]):
                by_name.setdefault(other.lower(), int(port))
    return by_port, by_name


def service_of(port: int, protocol: str) -> str | None:
    """Return what the port is called, None where it has no name."""
    return _names()[0].get((port, protocol))


def port_called(name: str) -> int | None:
    """Return the port of the service *name*, None where there is none."""
    return _names()[1].get(name.lower())
