"""Who holds a socket: processes and their file descriptors, read in one walk over the tables of open files.

- The kernel's iterators tell it (kernel/iterators.py), all processes at one moment; where they don't load, /proc does,
  one directory a process, as far as we may read it.
- A socket may have several holders (inherited, passed on, duplicated) or none (TIME_WAIT, not accepted yet, left
  behind). A holder that is gone when /proc is asked is passed over.
- A socket is known by its inode, which no two sockets of the machine share, whatever their namespaces.

Worked example: nginx's master (pid 811) opens a listener and forks a worker (812): `holders(inode)` is ((811, 6),
(812, 6)), and `process_of(inode)` the worker, which accepts.

Source: kernel/bpf/task_iter.c; proc(5).
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from layergate.kernel import iterators
from layergate.kernel import sockets_layout_generated as layout
from layergate.model import NotSupportedError

_SOCKET: Final = "socket:["
_WORDS: Final = 4  # struct lg_held


class Holder(NamedTuple):
    """A file descriptor that is the socket."""

    pid: int
    fd: int


class Facts(NamedTuple):
    """A process. *name*: its command name, which it may change; *app*: its executable; *cgroup*: an id, 0 unknown."""

    pid: int
    name: str
    app: str | None
    user: int | None
    cgroup: int


class Owners:
    """Sockets by inode, processes by number, at the moment when they were read."""

    def __init__(self, held: Iterable[tuple[int, int, int]] | array[int], processes: Iterable[Facts]) -> None:
        """Take *held*: (inode, pid, fd) each, or an array of struct lg_held."""
        if not isinstance(held, array):
            held = array("I", [word for one in held for word in (*one, 0)])
        inodes, pids, fds = held[0::_WORDS], held[1::_WORDS], held[2::_WORDS]
        self._last: dict[int, int] = dict(zip(inodes, pids, strict=True))
        self._held = (inodes, pids, fds)
        self._all: dict[int, tuple[Holder, ...]] | None = None
        self.processes = {facts.pid: facts for facts in processes}

    def holders(self, inode: int) -> tuple[Holder, ...]:
        """Return who holds the socket *inode*, by pid and descriptor. Cost: 2 µs a socket of the table, once."""
        if self._all is None:
            gathered: dict[int, list[Holder]] = {}
            for number, pid, fd in zip(*self._held, strict=True):
                gathered.setdefault(number, []).append(Holder(pid, fd))
            self._all = {number: tuple(sorted(holders)) for number, holders in gathered.items()}
        return self._all.get(inode, ())

    def pid_of(self, inode: int) -> int:
        """Return the process that has the socket *inode*, of several the last; 0: nobody. Cost: a look-up."""
        return self._last.get(inode, 0)

    def process_of(self, inode: int) -> Facts | None:
        """Return the process that has the socket *inode*, of several the last."""
        pid = self._last.get(inode)
        return None if pid is None else self.processes.get(pid)

    def words(self) -> dict[int, str]:
        """Return what the list shows of who has each socket, by inode: nginx[812], nginx[812] +2. Cost: 0.1 µs each."""
        names = {pid: f"{_harmless(facts.name)}[{pid}]" for pid, facts in self.processes.items()}
        found = {inode: names.get(pid, "") for inode, pid in self._last.items()}
        if len(self._last) < len(self._held[0]):
            count = Counter(inode for inode, _ in {*zip(*self._held[:2], strict=True)})
            found |= {inode: f"{found[inode]} +{others - 1}" for inode, others in count.items() if others > 1}
        return found

    def has(self, pid: int) -> bool:
        """Whether the process *pid* holds any socket."""
        return pid in self._held[1]


def _harmless(name: str) -> str:
    """Return a name, which a process chooses, so that it stays in its line."""
    return name if name.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)


NOBODY: Final = Owners((), ())


def read(programs: iterators.Owners | None = None) -> Owners:
    """Return who holds which socket now: by *programs*, or by ones loaded for this once, or from /proc."""
    if programs is not None:
        return _from_kernel(programs)
    try:
        with iterators.Owners() as loaded:
            return _from_kernel(loaded)
    except NotSupportedError:
        return from_proc()


def _from_kernel(programs: iterators.Owners) -> Owners:
    held = array("I")
    held.frombytes(programs.held())
    return Owners(held, map(_facts, layout.PROCESS.iter_unpack(programs.processes())))


def _facts(record: tuple[int | bytes, ...]) -> Facts:
    cgroup, _, pid, user, path_bytes, _, name, path = record
    assert isinstance(name, bytes)
    assert isinstance(path, bytes)
    assert isinstance(path_bytes, int)
    app = os.fsdecode(path[: path_bytes - 1]).removesuffix(" (deleted)") if path_bytes else None
    return Facts(pid, os.fsdecode(name.split(b"\0", 1)[0]), app, user, cgroup)  # type: ignore[arg-type]


# --- without the kernel's iterators ---------------------------------------------------------------------------------


def from_proc() -> Owners:
    """Return what /proc tells: of other users' processes only root is told. Cost: 10 µs an open file."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 (names are all that is wanted)
    held = list(_held_in_proc(pids))
    return Owners(held, filter(None, map(_facts_in_proc, {pid for _, pid, _ in held})))


def _held_in_proc(pids: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    for pid in pids:
        directory = f"/proc/{pid}/fd"
        with suppress(OSError):
            for name in os.listdir(directory):  # noqa: PTH208
                with suppress(OSError):
                    target = os.readlink(f"{directory}/{name}")  # noqa: PTH115 (a path that is none)
                    if target.startswith(_SOCKET):
                        yield int(target[len(_SOCKET) : -1]), pid, int(name)


def _facts_in_proc(pid: int) -> Facts | None:
    place = Path(f"/proc/{pid}")
    try:
        name = os.fsdecode((place / "comm").read_bytes().rstrip(b"\n"))
        user = place.stat().st_uid
    except OSError:
        return None
    app = None
    with suppress(OSError):
        app = str((place / "exe").readlink()).removesuffix(" (deleted)")
    return Facts(pid, name, app, user, 0)
