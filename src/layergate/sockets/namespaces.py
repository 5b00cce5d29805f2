"""Network namespaces: the one that we are in, those that have a name, those that only a process is in.

A namespace is told by the inode of its file; its name is the one that `ip netns` gave it, else that of a process in it.

Worked example: a container's, in which nothing but nginx (pid 812) runs, is `pid:812`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from layergate.kernel.netns import Namespace
from layergate.model import InputError

NAMED: Final = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Place:
    """A network namespace. *name*: None for the one that we are in. *path*: its file."""

    name: str | None = None
    path: str | None = None

    def open(self) -> Namespace:
        """Open it. Raises InputError."""
        return Namespace(path=self.path)


HERE: Final = Place()


def named(name: str) -> Place:
    """Return the namespace called *name*, or that of a process: "pid:812". Raises InputError."""
    pid = name.removeprefix("pid:")
    path = f"/proc/{pid}/ns/net" if pid != name and pid.isdigit() else str(NAMED / name)
    if not os.path.exists(path):  # noqa: PTH110 (a link that points nowhere in the file system)
        raise InputError(
            f"there is no network namespace {name}", "ip netns list names them; pid:N is that of a process"
        )
    return Place(name, path)


def every() -> list[Place]:
    """Return all network namespaces that can be found, ours first. Cost: a stat a process."""
    found = {os.stat("/proc/self/ns/net").st_ino: HERE}  # noqa: PTH116
    with suppress(OSError):
        for path in sorted(NAMED.iterdir()):
            with suppress(OSError):
                found.setdefault(path.stat().st_ino, Place(path.name, str(path)))
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):  # noqa: PTH208
        path_of = f"/proc/{pid}/ns/net"
        with suppress(OSError):
            found.setdefault(os.stat(path_of).st_ino, Place(f"pid:{pid}", path_of))  # noqa: PTH116
    return list(found.values())
