"""Tracepoints: a BPF program attached to one, until the file descriptor is closed.

Two kinds: those that BTF describes (`attach_btf`: the program says which), and system calls' own (`attach_event`),
which cost nothing to any other system call. Their numbers stand in tracefs, which is mounted privately.

Worked example: `attach_event("syscalls", "sys_exit_accept4", program)` runs *program* whenever accept4 returns.

Source: bpf(2), BPF_RAW_TRACEPOINT_OPEN; perf_event_open(2), PERF_TYPE_TRACEPOINT and PERF_EVENT_IOC_SET_BPF.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from pathlib import Path
from typing import Final

from layergate.kernel.cgroups import private_mount
from layergate.kernel.libbpf import Command, bpf
from layergate.model import NotSupportedError

_SYS_PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}.get(platform.machine(), 298)
_PERF_TYPE_TRACEPOINT: Final = 2
_PERF_FLAG_FD_CLOEXEC: Final = 8
_SET_BPF: Final = 0x40042408
_ENABLE: Final = 0x2400
_ATTR_BYTES: Final = 112

_libc = ctypes.CDLL(None, use_errno=True)


def attach_btf(name: str, program: int) -> int:
    """Attach *program*, whose section names its tracepoint; return a file descriptor. Raises NotSupportedError."""
    try:
        return bpf(Command.RAW_TRACEPOINT_OPEN, struct.pack("<QI", 0, program))
    except OSError as error:
        remedy = "run as root" if os.geteuid() else "it needs CONFIG_DEBUG_INFO_BTF and CAP_PERFMON"
        raise NotSupportedError(f"tracepoint {name}", f"can't be attached: {error.strerror}", remedy) from error


def missed(program: int) -> int:
    """Return how often *program* was not run because it was at work on that processor already."""
    for line in Path(f"/proc/self/fdinfo/{program}").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "recursion_misses":
            return int(value)
    return 0


def attach_event(category: str, name: str, program: int) -> int:
    """Attach *program* to the event *name* of *category*; return a file descriptor. Raises NotSupportedError."""
    try:
        number = event_number(category, name)
        # type, size, config, sample_period, and the rest zero: no samples, only the program.
        attributes = struct.pack("<IIQQ", _PERF_TYPE_TRACEPOINT, _ATTR_BYTES, number, 1).ljust(_ATTR_BYTES, b"\0")
        buffer = ctypes.create_string_buffer(attributes, _ATTR_BYTES)
        # One event on one processor: the program runs for the tracepoint, wherever it fires.
        fd: int = _libc.syscall(_SYS_PERF_EVENT_OPEN, ctypes.byref(buffer), -1, 0, -1, _PERF_FLAG_FD_CLOEXEC)
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))  # noqa: TRY301
        try:
            fcntl.ioctl(fd, _SET_BPF, program)
            fcntl.ioctl(fd, _ENABLE, 0)
        except OSError:
            os.close(fd)
            raise
    except OSError as error:
        remedy = "run as root" if os.geteuid() else "it needs CONFIG_FTRACE_SYSCALLS and tracefs"
        raise NotSupportedError(
            f"tracepoint {category}/{name}", f"can't be attached: {error.strerror}", remedy
        ) from error
    return fd


def event_number(category: str, name: str) -> int:
    """Return the number of an event. Raises OSError."""
    root = private_mount("tracefs")
    try:
        fd = os.open(f"events/{category}/{name}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        with os.fdopen(fd, encoding="ascii") as file:
            return int(file.read())
    finally:
        os.close(root)
