"""BPF iterators: programs that the kernel runs over what is there (open files, processes) while their output is read.

Worked example: `with Owners() as owners: held = owners.held()` gives a struct lg_held for every file descriptor of the
machine that is a socket, in one walk.

Source: kernel/bpf/bpf_iter.c; Documentation/bpf/bpf_iterators.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Final, Self

from layergate.kernel.libbpf import Attach, BpfObject, Command, bpf
from layergate.model import NotSupportedError

OBJECT: Final = Path(__file__).parent / "objects" / "owners.bpf.o"
_READ_BYTES: Final = 1 << 20


def run(program: int, over: int | None = None) -> bytes:
    """Run the iterator *program* to its end, *over* a map where it is one over maps (both by file descriptor).

    Returns what it wrote. Raises NotSupportedError.
    """
    info = ctypes.create_string_buffer(struct.pack("<I", over), 4) if over is not None else None
    at = (ctypes.addressof(info), len(info)) if info is not None else (0, 0)
    try:
        link = bpf(Command.LINK_CREATE, struct.pack("<IIIIQI", program, 0, Attach.TRACE_ITER, 0, *at))
        try:
            walk = bpf(Command.ITER_CREATE, struct.pack("<II", link, 0))
        finally:
            os.close(link)
        try:
            parts = []
            while part := os.read(walk, _READ_BYTES):
                parts.append(part)
        finally:
            os.close(walk)
    except OSError as error:
        raise NotSupportedError("BPF iterator", str(error.strerror), "it needs root (CAP_BPF, CAP_PERFMON)") from error
    return b"".join(parts)


class Owners:
    """The iterators of `bpf/owners.bpf.c`, loaded once and run as often as asked. Use it as a context manager."""

    def __init__(self) -> None:
        """Load them. Cost: about 50 ms. Raises NotSupportedError."""
        self._object = BpfObject(OBJECT)
        try:
            self._object.load()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Let go of the programs."""
        self.close()

    def held(self) -> bytes:
        """Return a struct lg_held for each file descriptor that is a socket. Cost: 0.3 µs an open file."""
        return run(self._object.program_fd("lg_held"))

    def processes(self) -> bytes:
        """Return a struct lg_process for each process of our pid namespace. Cost: 5 µs a process."""
        return run(self._object.program_fd("lg_processes"))

    def close(self) -> None:
        """Let go of the programs."""
        self._object.close()
