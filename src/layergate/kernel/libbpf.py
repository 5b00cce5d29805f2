"""The little of libbpf that is used (open, load, CO-RE), by ctypes, and `bpf(2)` for the rest (links, pins, iterators).

libbpf 1.1 knows no tcx links; the kernel's own call is small. Every refusal is a `NotSupportedError` that names the
hook, the cause and the remedy.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any, Final

from layergate.model import NotSupportedError

_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 321)
_ATTR_BYTES: Final = 144
_LOG_LINES: Final = 6


class Command(enum.IntEnum):
    """Commands of bpf(2)."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    MAP_GET_NEXT_ID = 12
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    RAW_TRACEPOINT_OPEN = 17
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    LINK_CREATE = 28
    LINK_UPDATE = 29
    ENABLE_STATS = 32
    ITER_CREATE = 33


class Attach(enum.IntEnum):
    """Attach types of LINK_CREATE."""

    CGROUP_INET_INGRESS = 0
    CGROUP_INET_EGRESS = 1
    CGROUP_SOCK_OPS = 3
    CGROUP_INET4_BIND = 8
    CGROUP_INET6_BIND = 9
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_INET4_POST_BIND = 12
    CGROUP_INET6_POST_BIND = 13
    TRACE_ITER = 28
    CGROUP_INET_SOCK_RELEASE = 34
    TCX_INGRESS = 46
    TCX_EGRESS = 47


_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: Command, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make the system call of BPF; a buffer of *attributes* is written back to. Returns its result; raises OSError."""
    buffer = ctypes.create_string_buffer(attributes, _ATTR_BYTES) if isinstance(attributes, bytes) else attributes
    result: int = _libc.syscall(_SYS_BPF, int(command), ctypes.byref(buffer), ctypes.sizeof(buffer))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), command.name)
    return result


def _library() -> Any:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise NotSupportedError("libbpf", "libbpf.so.1 is not installed", "apt-get install libbpf1") from error
    pointer, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    for name, result, arguments in (
        ("bpf_object__open_mem", pointer, (pointer, size, pointer)),
        ("bpf_object__load", number, (pointer,)),
        ("bpf_object__close", None, (pointer,)),
        ("bpf_object__find_map_by_name", pointer, (pointer, text)),
        ("bpf_object__find_program_by_name", pointer, (pointer, text)),
        ("bpf_object__next_map", pointer, (pointer, pointer)),
        ("bpf_object__next_program", pointer, (pointer, pointer)),
        ("bpf_map__name", text, (pointer,)),
        ("bpf_map__fd", number, (pointer,)),
        ("bpf_map__reuse_fd", number, (pointer, number)),
        ("bpf_map__set_max_entries", number, (pointer, ctypes.c_uint32)),
        ("bpf_map__set_initial_value", number, (pointer, pointer, size)),
        ("bpf_program__name", text, (pointer,)),
        ("bpf_program__fd", number, (pointer,)),
        ("bpf_program__set_autoload", number, (pointer, ctypes.c_bool)),
        ("libbpf_set_print", pointer, (pointer,)),
        ("btf__load_vmlinux_btf", pointer, ()),
        ("btf__find_by_name_kind", ctypes.c_int32, (pointer, text, ctypes.c_uint32)),
        ("btf__type_by_id", pointer, (pointer, ctypes.c_uint32)),
        ("btf__name_by_offset", text, (pointer, ctypes.c_uint32)),
        ("btf__free", None, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)
    return library


class Log:
    """What libbpf prints, kept to explain a refusal; libbpf has one printer a process."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._vsnprintf = _libc.vsnprintf
        self._callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(self._take)

    def _take(self, level: int, pattern: bytes, arguments: int) -> int:
        if level > 0:  # LIBBPF_WARN is 0; information and debugging are nobody's business here
            return 0
        buffer = ctypes.create_string_buffer(1 << 16)
        self._vsnprintf(buffer, ctypes.c_size_t(len(buffer)), ctypes.c_char_p(pattern), ctypes.c_void_p(arguments))
        self.lines += buffer.value.decode(errors="replace").rstrip().splitlines()
        return 0

    def install(self, library: Any) -> None:
        """Have *library* print here from now on, and forget what came before."""
        self.lines.clear()
        library.libbpf_set_print(ctypes.cast(self._callback, ctypes.c_void_p))

    def tail(self) -> str:
        """Return the lines that help: the verifier's last words."""
        noise = ("processed ", "-- END", "-- BEGIN", "max_states", "libbpf: failed to load object")
        useful = [line for line in self.lines if line.strip() and not any(word in line for word in noise)]
        return " | ".join(line.removeprefix("libbpf: ") for line in useful[-_LOG_LINES:])


_log = Log()
_loaded: list[Any] = []


def library() -> Any:
    """Return libbpf, loaded once. Raises NotSupportedError."""
    if not _loaded:
        _loaded.append(_library())
    return _loaded[0]


class BpfObject:
    """One BPF object: opened, configured, loaded; closed with `close`, which keeps what its file descriptors hold."""

    def __init__(self, path: Path) -> None:
        """Open *path*. Raises NotSupportedError where the object is missing or unreadable."""
        self.name = path.name.removesuffix(".bpf.o")
        self._library = library()
        _log.install(self._library)
        try:
            self._image = path.read_bytes()
        except OSError as error:
            raise NotSupportedError(f"{self.name} object", f"{path} can't be read", "make setup builds it") from error
        self._object = self._library.bpf_object__open_mem(self._image, len(self._image), None)
        if not self._object:
            raise NotSupportedError(
                f"{self.name} object", f"libbpf can't open it: {_log.tail()}", "make setup builds it anew"
            )

    def maps(self) -> dict[str, Any]:
        """Return the maps by name."""
        return self._each("map")

    def programs(self) -> dict[str, Any]:
        """Return the programs by name."""
        return self._each("program")

    def _each(self, kind: str) -> dict[str, Any]:
        following = getattr(self._library, f"bpf_object__next_{kind}")
        name_of = getattr(self._library, f"bpf_{kind}__name")
        result, item = {}, following(self._object, None)
        while item:
            result[name_of(item).decode()] = item
            item = following(self._object, item)
        return result

    def reuse(self, name: str, fd: int) -> None:
        """Let the map *name* be the one of *fd*."""
        self._library.bpf_map__reuse_fd(self.maps()[name], fd)

    def set_max_entries(self, name: str, count: int) -> None:
        """Let the map *name* hold *count* entries (a ring: bytes)."""
        self._library.bpf_map__set_max_entries(self.maps()[name], count)

    def set_initial_value(self, name: str, value: bytes) -> None:
        """Let the read-only data *name* begin as *value*."""
        pointer = self.maps()[name]
        buffer = ctypes.create_string_buffer(value, len(value))
        result = self._library.bpf_map__set_initial_value(pointer, buffer, len(value))
        if result:
            raise OSError(-result, f"{name}: {os.strerror(-result)}")

    def skip(self, program: str) -> None:
        """Do not load *program*."""
        self._library.bpf_program__set_autoload(self.programs()[program], False)  # noqa: FBT003 (libbpf's signature)

    def load(self) -> None:
        """Load the object into the kernel. Raises NotSupportedError with the verifier's last words."""
        _log.install(self._library)
        result = self._library.bpf_object__load(self._object)
        if result:
            number = abs(result)
            if number in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
                raise NotSupportedError("BPF", "not permitted", "run as root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)")
            raise NotSupportedError(
                f"{self.name} programs",
                f"the kernel refuses them: {os.strerror(number)}: {_log.tail() or 'it does not say why'}",
                f"this kernel ({platform.release()}) can't run them; layergate doctor says what is available",
            )

    def map_fd(self, name: str) -> int:
        """Return the file descriptor of the map *name*."""
        fd: int = self._library.bpf_map__fd(self.maps()[name])
        return fd

    def program_fd(self, name: str) -> int:
        """Return the file descriptor of the program *name*."""
        fd: int = self._library.bpf_program__fd(self.programs()[name])
        return fd

    def close(self) -> None:
        """Let go of the object. Its links and what they hold stay."""
        if self._object:
            self._library.bpf_object__close(self._object)
            self._object = None


BTF_KIND_ENUM: Final = 6
BTF_KIND_FUNC: Final = 12
_BTF_TYPE_BYTES: Final = 12


def kernel_enum(name: str) -> dict[int, str]:
    """Return the members of the kernel's enum *name* by number, from its BTF; {} where it has none. Cost: ~20 ms."""
    lib = library()
    btf = lib.btf__load_vmlinux_btf()
    if not btf:
        return {}
    try:
        number = lib.btf__find_by_name_kind(btf, name.encode(), BTF_KIND_ENUM)
        if number < 0:
            return {}
        start = lib.btf__type_by_id(btf, number)
        info = ctypes.c_uint32.from_address(start + 4).value
        members = {}
        for index in range(info & 0xFFFF):
            place = start + _BTF_TYPE_BYTES + 8 * index
            label = lib.btf__name_by_offset(btf, ctypes.c_uint32.from_address(place).value)
            members[ctypes.c_int32.from_address(place + 4).value & 0xFFFFFFFF] = label.decode()
        return members
    finally:
        lib.btf__free(btf)


@cache
def kernel_has(function: str) -> bool:
    """Whether the kernel's BTF lists *function*. Cost: ~20 ms, once."""
    lib = library()
    btf = lib.btf__load_vmlinux_btf()
    if not btf:
        return False
    try:
        return bool(lib.btf__find_by_name_kind(btf, function.encode(), BTF_KIND_FUNC) > 0)
    finally:
        lib.btf__free(btf)
