"""Executables and units that a policy names, as the kernel knows them: by device and inode, by the id of a cgroup.

A package upgrade renames a new file into place: the new file gets the same number within a second, and the old one
keeps it, for processes may still run it. Its descriptor stays open, so that its inode is not given to another file
meanwhile.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from layergate.compile import Compiled
from layergate.kernel import layout_generated as layout
from layergate.kernel.cgroups import Hierarchy, unit_of
from layergate.kernel.loader import Programs, kernel_device

_NUMBER_BYTES: Final = 4


class Identities:
    """Keeps the maps of applications and units in step with the file system and the cgroups."""

    def __init__(self, programs: Programs, hierarchy: Hierarchy) -> None:
        self._programs, self._hierarchy = programs, hierarchy
        self._apps: dict[bytes, int] = {}
        self._units: dict[str, int] = {}
        self._files: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._groups: dict[int, str] = {}
        self._paths: dict[int, str | None] = {}
        self._changed = False

    def name(self, compiled: Compiled) -> None:
        """Take the names of *compiled*; those that came before keep their numbers."""
        self._apps = {path: number for number, path in enumerate(compiled.apps, 1)}
        self._units = {unit: number for number, unit in enumerate(compiled.units, 1)}
        self.refresh()

    def refresh(self) -> None:
        """Look at the files and cgroups again. Cost: a stat an application, a walk over the cgroups for units."""
        self._changed = False
        try:
            for executable, number in self._apps.items():
                with suppress(OSError):
                    self._file(executable, number)
            if self._units or self._groups:
                self._follow_units()
        finally:
            if self._changed:
                self._programs.control.named()

    def _follow_units(self) -> None:
        found: dict[str, int] = {}
        for path in self._hierarchy.paths():
            named = self._units.get(path) or self._units.get(path.rpartition("/")[2])
            if named:
                found[path] = named
        for path, number in found.items():
            with suppress(OSError):
                group = self._hierarchy.open(path)
                os.close(group.fd)
                if self._groups.get(group.id) != path:
                    self._groups[group.id] = path
                    self._changed = True
                    self._programs.units.set(group.id.to_bytes(8, "little"), number.to_bytes(_NUMBER_BYTES, "little"))
        for group_id in [group_id for group_id, path in self._groups.items() if path not in found]:
            self._changed = True
            self._programs.units.delete(group_id.to_bytes(8, "little"))
            del self._groups[group_id]

    def _file(self, path: bytes, number: int) -> None:
        facts = os.stat(path)  # noqa: PTH116 (bytes)
        identity = (kernel_device(facts.st_dev), facts.st_ino)
        known = self._files.get(identity)
        if known is not None and known[1] == path:
            return
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        facts = os.fstat(fd)
        identity = (kernel_device(facts.st_dev), facts.st_ino)
        self._files[identity] = (fd, path)
        key = layout.EXE_KEY.pack(identity[1], identity[0], 0)
        self._changed = True
        self._programs.apps.set(key, number.to_bytes(_NUMBER_BYTES, "little"))

    def app(self, device: int, inode: int, pid: int) -> str | None:
        """Return the path of the executable (*device*, *inode*), as the policy names it if it does."""
        known = self._files.get((device, inode))
        if known is not None:
            return os.fsdecode(known[1])
        path = self._programs.executable(device, inode)
        if path is not None:
            return path
        # The path was too long for the programs: /proc tells it, and counts only if it is the same file.
        with suppress(OSError):
            facts = Path(f"/proc/{pid}/exe").stat()
            if (kernel_device(facts.st_dev), facts.st_ino) == (device, inode):
                return str(Path(f"/proc/{pid}/exe").readlink())
        return None

    def unit(self, cgroup: int) -> str | None:
        """Return the unit of the control group *cgroup*, an id."""
        if cgroup not in self._paths:
            self._paths[cgroup] = self._hierarchy.path_of(cgroup)
        path = self._paths[cgroup]
        return unit_of(path) if path is not None else None

    def close(self) -> None:
        """Let go of the files."""
        for fd, _ in self._files.values():
            os.close(fd)
        self._files.clear()
