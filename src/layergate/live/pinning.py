"""What outlives us: links pinned in a BPF file system of our own, in the machine's own mount namespace.

`ip netns exec` and containers have mount namespaces that end with them, and their pins with those. So the file system
is mounted where process 1 is (where that is hidden from us, where our topmost ancestor is), and reached through its
/proc/PID/root. A directory a control group: the next run for it takes over.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.loader import pinned
from layergate.kernel.maps import Map
from layergate.model import NotSupportedError

PLACE: Final = "/run/layergate/bpf"
_BPF_FS_MAGIC: Final = 0xCAFE4A11
RESETS: Final = "resets"
LIMITS: Final = "limits"
BANS: Final = "bans"

_libc = ctypes.CDLL(None, use_errno=True)


@cache
def _host() -> int:
    """Return the process whose mount namespace is the machine's, as far as we may see."""
    ancestors, pid = [], os.getpid()
    while pid > 1:
        ancestors.append(pid)
        with suppress(OSError):
            pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            continue
        break
    for candidate in (1, *reversed(ancestors)):
        with suppress(OSError):
            Path(f"/proc/{candidate}/root/proc").stat()
            os.close(os.open(f"/proc/{candidate}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
            return candidate
    return os.getpid()


def _from_here() -> str:
    return f"/proc/{_host()}/root{PLACE}"


def _is_mounted() -> bool:
    buffer = ctypes.create_string_buffer(120)
    if _libc.statfs(_from_here().encode(), buffer):
        return False
    return bool(struct.unpack_from("@l", buffer)[0] == _BPF_FS_MAGIC)


def directory(cgroup: int) -> str:
    """Return the directory for the pins of control group *cgroup* (an id), made anew. Raises NotSupportedError."""
    if not _is_mounted():
        script = f"mkdir -p {PLACE} && mount -t bpf -o mode=0700 layergate {PLACE}"
        command = [
            shutil.which("nsenter") or "/usr/bin/nsenter",
            f"--target={_host()}",
            "--mount",
            "--",
            "sh",
            "-c",
            script,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotSupportedError(
                "--pin", f"{PLACE} can't be mounted: {done.stderr.strip()}", "run as root, outside of a container"
            )
    path = f"{_from_here()}/{cgroup}"
    os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103 (through /proc/1/root)
    return path


def left() -> list[Path]:
    """Return the directories of pins that are there."""
    if not _is_mounted():
        return []
    return sorted(path for path in Path(_from_here()).iterdir() if path.is_dir())


def names(place: Path) -> set[str]:
    """Return what is pinned in *place*."""
    with suppress(FileNotFoundError):
        return {path.name for path in place.iterdir()}
    return set()


def waiting(place: Path, among: set[str]) -> Iterator[Map]:
    """Yield the maps, *among* the names in *place*, of sockets that wait for somebody to destroy them."""
    for name in among:
        if name.startswith(RESETS):
            with suppress(OSError):
                fd = pinned(str(place / name))
                try:
                    yield Map(fd, 8, layout.RESET.size)
                finally:
                    os.close(fd)


def banned(place: Path, among: set[str]) -> Iterator[tuple[Map, Map]]:
    """Yield the limits and the bans of each run that has pins *among* the names in *place*."""
    for name in among:
        if name.startswith(BANS):
            with suppress(OSError), ExitStack() as leave:
                limits = pinned(str(place / name.replace(BANS, LIMITS, 1)))
                leave.callback(os.close, limits)
                bans = pinned(str(place / name))
                leave.callback(os.close, bans)
                yield Map(limits, 4, layout.LIMIT.size), Map(bans, layout.COUNT_KEY.size, layout.BAN.size)


def owner(name: str) -> int:
    """Return the process that made the pin *name*; 0 where it is gone."""
    pid = name.rpartition("-")[2]
    return int(pid) if pid.isdigit() and Path(f"/proc/{pid}").exists() else 0


def remove(place: Path, only: set[str] | None = None) -> int:
    """Remove the pins of *place* (or *only* those): the kernel detaches what nothing else holds. Returns how many."""
    count = 0
    for name in names(place):
        if only is None or name in only:
            with suppress(FileNotFoundError):
                (place / name).unlink()
                count += 1
    with suppress(OSError):
        place.rmdir()
    return count
