"""Control groups (version 2): found, made, joined, removed. The hierarchy is mounted privately, never looked for.

`ip netns exec` enters a mount namespace whose /sys has no cgroup2, and some machines mount it elsewhere. So the tree is
had by `fsmount(2)`: a mount without a place, reached through its file descriptor alone.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from layergate.model import InputError, NotSupportedError

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every architecture
_FSCONFIG_CMD_CREATE: Final = 6
_CLOEXEC: Final = 1
_MOUNTS: Final = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
_UNIT_ENDS: Final = (".service", ".scope", ".socket", ".mount", ".swap")
_REMOVE_TRIES: Final = 20
_REMOVE_WAIT_S: Final = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


def private_mount(kind: str) -> int:
    """Return a file descriptor of a mount of *kind* ("cgroup2", "bpf") that has no place. Raises OSError."""

    def call(number: int, *arguments: object) -> int:
        result: int = _libc.syscall(number, *arguments)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    context = call(_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A control group, by an open directory. *path* is as in /proc/PID/cgroup; *level* is 0 for the root."""

    fd: int
    path: str
    id: int

    @property
    def level(self) -> int:
        """How deep it lies below the root."""
        return len(PurePosixPath(self.path).parts) - 1


class Hierarchy:
    """The cgroup2 tree."""

    def __init__(self) -> None:
        """Mount the tree privately. Raises NotSupportedError."""
        try:
            self._root = private_mount("cgroup2")
        except OSError as error:
            remedy = "run as root" if os.geteuid() else "boot a kernel with CONFIG_CGROUPS and CONFIG_CGROUP_BPF"
            raise NotSupportedError("cgroup2", f"can't be mounted: {error.strerror}", remedy) from error

    def open(self, path: str) -> Cgroup:
        """Return the control group at *path*, counted from the root of the tree. Raises FileNotFoundError."""
        fd = os.open(path.lstrip("/") or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        return Cgroup(fd, "/" + path.strip("/"), os.fstat(fd).st_ino)

    def find(self, name: str) -> Cgroup:
        """Return the control group that a user names: a path in the tree or in the file system. Raises InputError."""
        candidates = [name]
        candidates += [name.removeprefix(mount) or "/" for mount in _MOUNTS if f"{name}/".startswith(f"{mount}/")]
        for candidate in candidates:
            with suppress(FileNotFoundError, NotADirectoryError):
                return self.open(candidate)
        raise InputError(f"there is no control group {name}", "name one as in /proc/PID/cgroup, or by its directory")

    def unit(self, name: str) -> Cgroup:
        """Return the control group of the systemd unit *name*. Raises InputError."""
        for path in self.paths():
            if path.rpartition("/")[2] == name:
                return self.open(path)
        raise InputError(f"no unit {name} has a control group", "is it running? systemctl status says so")

    def own(self) -> str:
        """Return the path of this process's control group."""
        with open("/proc/self/cgroup", encoding="ascii") as lines:  # noqa: PTH123 (a kernel file)
            for line in lines:
                if line.startswith("0::"):
                    return line[3:].strip()
        return "/"

    def make(self, path: str) -> Cgroup:
        """Make the control group *path*. Raises NotSupportedError."""
        try:
            os.mkdir(path.lstrip("/"), dir_fd=self._root)
        except OSError as error:
            raise NotSupportedError("cgroup2", f"{path} can't be made: {error.strerror}", "run as root") from error
        return self.open(path)

    def join(self, cgroup: Cgroup, pid: int = 0) -> None:
        """Move process *pid* (0: this one) into *cgroup*. Raises OSError."""
        fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup.fd)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)

    def members(self, cgroup: Cgroup) -> list[int]:
        """Return the processes of *cgroup* itself."""
        fd = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=cgroup.fd)
        with os.fdopen(fd, encoding="ascii") as lines:
            return [int(line) for line in lines]

    def remove(self, cgroup: Cgroup, *, keep_in: str) -> None:
        """Remove *cgroup* and what is below it; processes that still run move to *keep_in*. Never raises OSError."""
        below = sorted((path for path in self.paths(cgroup.path)), key=len, reverse=True)
        for _ in range(_REMOVE_TRIES):
            left = False
            for path in [*below, cgroup.path]:
                with suppress(FileNotFoundError):
                    try:
                        group = self.open(path)
                    except OSError:
                        continue
                    try:
                        for pid in self.members(group):
                            with suppress(OSError):
                                self.join(self.open(keep_in), pid)
                    finally:
                        os.close(group.fd)
                    try:
                        os.rmdir(path.lstrip("/"), dir_fd=self._root)
                    except FileNotFoundError:
                        continue
                    except OSError:
                        left = True
            if not left:
                return
            time.sleep(_REMOVE_WAIT_S)

    def paths(self, below: str = "/") -> Iterator[str]:
        """Yield the paths of all control groups below *below*."""
        start = below.strip("/") or "."
        with suppress(FileNotFoundError):
            for directory, names, _, _ in os.fwalk(start, dir_fd=self._root):
                base = "" if directory == "." else "/" + directory.removeprefix("./")
                for name in names:
                    yield f"{base}/{name}"

    def path_of(self, number: int) -> str | None:
        """Return the path of the control group with id *number*, or None. Cost: O(groups)."""
        if os.fstat(self._root).st_ino == number:
            return "/"
        for path in self.paths():
            with suppress(FileNotFoundError):
                if os.stat(path.lstrip("/"), dir_fd=self._root).st_ino == number:
                    return path
        return None

    def ids(self) -> dict[int, str]:
        """Return the paths of all control groups by their ids. Cost: O(groups)."""
        found = {os.fstat(self._root).st_ino: "/"}
        for path in self.paths():
            with suppress(FileNotFoundError):
                found[os.stat(path.lstrip("/"), dir_fd=self._root).st_ino] = path
        return found

    def close(self) -> None:
        """Let go of the mount."""
        os.close(self._root)


def unit_of(path: str) -> str | None:
    """Return the unit of a control group: systemd's where it has one, else the path; None for the root.

    Worked example: /system.slice/nginx.service/workers -> nginx.service; /user.slice/user-0.slice/session-1.scope ->
    session-1.scope; /lg-demo -> /lg-demo.
    """
    for part in PurePosixPath(path).parts:
        if part.endswith(_UNIT_ENDS):
            return part
    return path if path != "/" else None
