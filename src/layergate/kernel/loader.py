"""The programs in the kernel: opened, given the same maps, loaded, and linked to where they run.

The objects share their maps: `calls`, `packets` and `connections` (of one cgroup), `tcx` (an instance a network
namespace, for it must be told which) and `tracing`. A link holds its program: when this process goes, the kernel
detaches everything; a pinned link stays until its pin is removed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.cgroups import Cgroup
from layergate.kernel.iterators import run
from layergate.kernel.libbpf import Attach, BpfObject, Command, bpf, kernel_has
from layergate.kernel.limits import Limits
from layergate.kernel.maps import Map
from layergate.kernel.netns import Namespace
from layergate.kernel.sweep import Sweeper
from layergate.kernel.tables import Control, Tables
from layergate.model import NotSupportedError

OBJECTS: Final = Path(__file__).parent / "objects"
CONFIG: Final = ".rodata.config"
CONTROL: Final = ".data.lg_control"
HEADERS: Final = ".data.lg_headers"
OURS: Final = ("lg_", ".data.lg_")  # what the names of maps begin with that the objects share
RING_BYTES: Final = 32 << 20

CGROUP_OBJECTS: Final = ("calls", "packets", "connections")
CGROUP_PROGRAMS: Final = {
    "lg_bind4": Attach.CGROUP_INET4_BIND,
    "lg_bind6": Attach.CGROUP_INET6_BIND,
    "lg_post_bind4": Attach.CGROUP_INET4_POST_BIND,
    "lg_post_bind6": Attach.CGROUP_INET6_POST_BIND,
    "lg_connect4": Attach.CGROUP_INET4_CONNECT,
    "lg_connect6": Attach.CGROUP_INET6_CONNECT,
    "lg_sock_release": Attach.CGROUP_INET_SOCK_RELEASE,
    "lg_egress": Attach.CGROUP_INET_EGRESS,
    "lg_ingress": Attach.CGROUP_INET_INGRESS,
    "lg_sockops": Attach.CGROUP_SOCK_OPS,
}
TCX_PROGRAMS: Final = {"lg_tcx_ingress": Attach.TCX_INGRESS, "lg_tcx_egress": Attach.TCX_EGRESS}
TRACING_PROGRAMS: Final = ("lg_set_state", "lg_send_reset")
DROPS_PROGRAM: Final = "lg_kfree_skb"  # told to whoever wants to hear of everything
SEED_PROGRAM: Final = "lg_seed"
ADOPT_PROGRAMS: Final = {"lg_listening": "lg_owners", "lg_adopt": "lg_owners", "lg_adopt_seated": "lg_seats"}
ITERATOR: Final = "bpf_iter_num_new"  # from 6.4 on
STAT_NAMES: Final = {
    layout.STAT_LOST: "lost",
    layout.STAT_FLOWS_FULL: "flows_full",
    layout.STAT_EMITTED: "written",
    layout.STAT_TABLE_FAULT: "table_faults",
    layout.STAT_UNTOLD: "kept_out",
    layout.STAT_UNCOUNTED: "uncounted",
}


def tracing_programs(emit: int) -> tuple[str, ...]:
    """Return the programs on tracepoints of a run that is told *emit* (layout.EMIT_ALL or EMIT_BLOCKS)."""
    return (*TRACING_PROGRAMS, DROPS_PROGRAM) if emit == layout.EMIT_ALL else TRACING_PROGRAMS


@dataclass(frozen=True, slots=True)
class Settings:
    """What the programs are told. *emit*: layout.EMIT_ALL or EMIT_BLOCKS. *own_cgroup*: of our making, no unit.

    *iterates*: tables are walked by the open-coded iterator, not by bpf_loop; None: where the kernel has it.
    """

    cgroup: Cgroup
    emit: int = layout.EMIT_ALL
    own_cgroup: bool = False
    ring_bytes: int = RING_BYTES
    iterates: bool | None = None

    def packed(self, netns_cookie: int = 0, *, everything: bool = False) -> bytes:
        """Return them as struct lg_config."""
        own = self.cgroup.id if self.own_cgroup else 0
        iterates = kernel_has(ITERATOR) if self.iterates is None else self.iterates
        return layout.CONFIG.pack(self.cgroup.id, own, netns_cookie, self.cgroup.level, self.emit, everything, iterates)


@dataclass(frozen=True, slots=True)
class Link:
    """A link in the kernel, by file descriptor."""

    name: str
    fd: int


class Programs:
    """All programs of one run, with their maps and links. `close` detaches what is not pinned."""

    def __init__(self, settings: Settings) -> None:
        """Load the programs of the cgroup and the tracepoints.

        A tracepoint that the kernel refuses is left out, and stands in `refused`. Raises NotSupportedError where the
        cgroup's programs can't be loaded; then nothing is left.
        """
        self.settings = settings
        self.refused: dict[str, NotSupportedError] = {}
        self.maps: dict[str, int] = {}
        self.links: list[Link] = []
        self._objects: list[BpfObject] = []
        self._tcx: dict[tuple[int, bool], BpfObject] = {}
        self._interfaces: set[tuple[int, int]] = set()
        self._pins: str | None = None
        self._adopting: BpfObject | None = None
        try:
            self._cgroup = [self._load_first(CGROUP_OBJECTS[0])]
            settings = self.settings
            self._cgroup += [self._load(name, settings.packed()) for name in CGROUP_OBJECTS[1:]]
            self._tracing = self._load_what_goes("tracing", settings.packed())
            sweep = self._load("sweep", settings.packed())
        except BaseException:
            self.close()
            raise
        self.control = Control(self.maps[CONTROL])
        self.control.beat()
        self.sweeper = Sweeper(sweep.program_fd("lg_sweep"), Map(self.maps["lg_requests"], layout.FLOW_KEY.size, 4))
        self.limits = Limits.of(self.maps)
        self.tables = Tables(self.maps["lg_tables"], self.maps[HEADERS], self.control, self.limits)
        self.flows = self._map("lg_flows", layout.FLOW_KEY, layout.FLOW)
        self.owners = Map(self.maps["lg_owners"], 4, layout.OWNER.size)
        self.seats = Map(self.maps["lg_seats"], 4, layout.SEAT.size)
        self.resets = Map(self.maps["lg_resets"], 8, layout.RESET.size)
        self.apps = Map(self.maps["lg_apps"], layout.EXE_KEY.size, 4)
        self.units = Map(self.maps["lg_units"], 8, 4)
        self.own_addresses = Map(self.maps["lg_own_addresses"], layout.ADDRESS.size, 4)
        self.exes = self._map("lg_exes", layout.EXE_KEY, layout.EXE)

    def _map(self, name: str, key: struct.Struct, value: struct.Struct) -> Map:
        return Map(self.maps[name], key.size, value.size)

    def _load_first(self, name: str) -> BpfObject:
        """Load the object *name*. A kernel may have the iterator, and yet not see through our walk by it (6.12)."""
        try:
            return self._load(name, self.settings.packed())
        except NotSupportedError:
            if self.settings.iterates is not None or not kernel_has(ITERATOR):
                raise
        self._objects.pop().close()
        self.settings = replace(self.settings, iterates=False)
        return self._load(name, self.settings.packed())

    def _load_what_goes(self, name: str, config: bytes) -> BpfObject:
        """Load the object *name* without the programs that the kernel refuses."""
        try:
            return self._load(name, config)
        except NotSupportedError:
            programs = set(self._objects[-1].programs())
        for program in programs:
            try:
                self._load(name, config, skip=programs - {program}).close()
            except NotSupportedError as error:
                self.refused[program] = error
        return self._load(name, config, skip=set(self.refused))

    def _load(self, name: str, config: bytes, skip: Collection[str] = ()) -> BpfObject:
        item = BpfObject(OBJECTS / f"{name}.bpf.o")
        self._objects.append(item)
        for program in skip:
            item.skip(program)
        names = [map_name for map_name in item.maps() if map_name.startswith(OURS)]
        for map_name in names:
            if map_name in self.maps:
                item.reuse(map_name, self.maps[map_name])
        if "lg_events" not in self.maps:
            item.set_max_entries("lg_events", self.settings.ring_bytes)
        item.set_initial_value(CONFIG, config)
        item.load()
        for map_name in names:
            if map_name not in self.maps:
                self.maps[map_name] = item.map_fd(map_name)
        return item

    def attach_tracing(self) -> None:
        """Attach the tracepoints; what the kernel refuses stands in `refused`."""
        for name in tracing_programs(self.settings.emit):
            if name in self.refused:
                continue
            attributes = struct.pack("<QI", 0, self._tracing.program_fd(name))
            try:
                self._link(
                    name,
                    Command.RAW_TRACEPOINT_OPEN,
                    attributes,
                    "tracepoints",
                    "CONFIG_DEBUG_INFO_BTF and CAP_PERFMON",
                )
            except NotSupportedError as error:
                self.refused[name] = error

    def attach_cgroup(self) -> None:
        """Attach the programs of the cgroup. Raises NotSupportedError."""
        programs = {name: item for item in self._cgroup for name in item.programs()}
        for name, attach in CGROUP_PROGRAMS.items():
            attributes = struct.pack("<IIII", programs[name].program_fd(name), self.settings.cgroup.fd, attach, 0)
            self._link(name, Command.LINK_CREATE, attributes, "cgroup hooks", "CONFIG_CGROUP_BPF and CAP_NET_ADMIN")

    def attach_interface(self, namespace: Namespace, index: int, *, everything: bool = False) -> None:
        """Attach to the interface *index* of *namespace*; *everything*: not the cgroup's flows alone.

        An interface that is gone by now is passed over; what the kernel refuses stands in `refused`.
        """
        if (namespace.cookie, index) in self._interfaces or self.refused.keys() & TCX_PROGRAMS.keys():
            return
        place = (namespace.cookie, everything)
        try:
            if place not in self._tcx:
                self._tcx[place] = self._load("tcx", self.settings.packed(namespace.cookie, everything=everything))
        except NotSupportedError as error:
            self.refused |= dict.fromkeys(TCX_PROGRAMS, error)
            return
        for name, attach in TCX_PROGRAMS.items():
            attributes = struct.pack("<IIII", self._tcx[place].program_fd(name), index, attach, 0)
            try:
                with namespace.entered():
                    self._link(
                        f"{name}_{namespace.cookie}_{index}",
                        Command.LINK_CREATE,
                        attributes,
                        "tcx",
                        "a kernel from 6.6 on",
                    )
            except NotSupportedError as error:
                if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENODEV):
                    self.refused[name] = error
                return
        self._interfaces.add((namespace.cookie, index))

    def forget_interface(self, namespace: Namespace, present: set[int]) -> None:
        """Forget the interfaces of *namespace* that are not *present* any more: an index may come again."""
        self._interfaces = {
            (cookie, index) for cookie, index in self._interfaces if cookie != namespace.cookie or index in present
        }

    def _link(self, name: str, command: Command, attributes: bytes, hook: str, needs: str) -> None:
        try:
            link = Link(name, bpf(command, attributes))
            self.links.append(link)
            if self._pins is not None:
                pin(link.fd, f"{self._pins}/{name}{self._suffix}")
        except OSError as error:
            remedy = (
                "run as root" if error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() else f"it needs {needs}"
            )
            if error.errno == errno.E2BIG:
                remedy = "64 programs are attached there already: detach some"
            raise NotSupportedError(f"{hook} ({name})", f"can't be attached: {error.strerror}", remedy) from error

    def seed(self) -> None:
        """Tell the programs whose the sockets are that were there before. Raises NotSupportedError."""
        if SEED_PROGRAM not in self.refused:
            run(self._tracing.program_fd(SEED_PROGRAM))

    def adopt(self) -> None:
        """Have the connections that are there authorised, and counted by limits, now. Raises NotSupportedError.

        Cost: 40 ms to load the iterators, once; 1.7 µs an end of a connection.
        """
        if self._adopting is None:
            self._adopting = self._load("adopt", self.settings.packed())
        for name, over in ADOPT_PROGRAMS.items():
            run(self._adopting.program_fd(name), over=self.maps[over])

    def statistics(self) -> dict[str, int]:
        """Return what the programs counted: records lost and written, flows that found no room, faults of tables."""
        cpus = os.sysconf("SC_NPROCESSORS_CONF")
        counts = Map(self.maps["lg_stats"], 4, 8 * cpus)
        result = {}
        for number, name in STAT_NAMES.items():
            values = counts.get(struct.pack("<I", number)) or b""
            result[name] = sum(struct.unpack(f"<{len(values) // 8}Q", values))
        return result

    def loaded(self) -> Iterator[tuple[str, int]]:
        """Yield name and file descriptor of every program in the kernel: its own accounting is read by them."""
        for item in (*self._cgroup, self._tracing, *self._tcx.values()):
            for name in item.programs():
                fd = item.program_fd(name)
                if fd >= 0:
                    yield name, fd

    def executable(self, device: int, inode: int) -> str | None:
        """Return the path of an executable that was seen to own a socket, or None."""
        value = self.exes.get(layout.EXE_KEY.pack(inode, device, 0))
        if value is None:
            return None
        count, complete, names = layout.EXE.unpack(value)
        if not complete:
            return None
        width = layout.EXE_NAME_BYTES
        parts = (names[start : start + width].split(b"\0", 1)[0] for start in range(0, count * width, width))
        return "/" + "/".join(part.decode(errors="surrogateescape") for part in reversed(list(parts)))

    def pin(self, directory: str) -> None:
        """Let the links, also those to come, and the sockets that wait to be destroyed outlive us. Raises OSError.

        Names end with our process id: those of a run before us may stand beside them until it is taken over.
        """
        self._pins = directory
        for link in self.links:
            pin(link.fd, f"{directory}/{link.name}{self._suffix}")
        pin(self.maps["lg_resets"], f"{directory}/resets{self._suffix}")
        pin(self.maps["lg_limits"], f"{directory}/limits{self._suffix}")
        pin(self.maps["lg_bans"], f"{directory}/bans{self._suffix}")

    @property
    def _suffix(self) -> str:
        return f"-{os.getpid()}"

    def close(self) -> None:
        """Detach what is not pinned, and let go of everything."""
        for link in self.links:
            os.close(link.fd)
        self.links.clear()
        for item in self._objects:
            item.close()
        self._objects.clear()


def pin(fd: int, path: str) -> None:
    """Pin what *fd* refers to as *path*, in a BPF file system. Raises OSError."""
    name = ctypes.create_string_buffer(path.encode())
    bpf(Command.OBJ_PIN, struct.pack("<QI", ctypes.addressof(name), fd))


def pinned(path: str) -> int:
    """Return a file descriptor of what is pinned as *path*. Raises OSError."""
    name = ctypes.create_string_buffer(path.encode())
    return bpf(Command.OBJ_GET, struct.pack("<Q", ctypes.addressof(name)))


def kernel_device(device: int) -> int:
    """Return the kernel's own number of the device that stat(2) calls *device*."""
    return os.major(device) << 20 | os.minor(device)


def drained(resets: Map) -> Iterator[tuple[int, bytes]]:
    """Yield and remove the sockets that wait to be destroyed: cookie, struct lg_reset."""
    for key in list(resets.keys()):
        value = resets.get(key)
        resets.delete(key)
        if value is not None:
            yield int.from_bytes(key, "little"), value
