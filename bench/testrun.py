"""The kernel's classifier alone, by test runs (BPF_PROG_TEST_RUN): nothing is attached, no packet is sent.

`bench/classify.bpf.c` is built with the flags and headers of layergate's own programs and runs `classify`, the very
function that the hooks call, on headers that user space put into a map. It serves the benchmark (ns a run, beside a
program that does all but the walk) and the parity tests (what was decided is read back).
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from layergate.compile import KERNEL_WORDS, Compiled
from layergate.kernel import layout_generated as layout
from layergate.kernel.libbpf import BpfObject, Command, bpf, kernel_has
from layergate.kernel.limits import Limits
from layergate.kernel.loader import CONFIG, CONTROL, HEADERS, ITERATOR, OURS
from layergate.kernel.tables import Control, Tables
from layergate.model import Layer, NotSupportedError, Value
from tools import build_bpf

HERE: Final = Path(__file__).parent
KEYS: Final = 8192
PACKET: Final = bytes(64)
# prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration
_TEST_RUN: Final = struct.Struct("<IIIIQQII")
_RETVAL_AT, _DURATION_AT = 4, 36
# In the record, the key stands from the addresses on; what is decided, where these members are.
_KEY_AT: Final = struct.calcsize("<8Q")
_KEY: Final = struct.Struct(f"<{KERNEL_WORDS}I")


class KernelClassifier:
    """The classifier in the kernel, with the tables of one version. Use it as a context manager.

    *iterates*: by the open-coded iterator, else by bpf_loop. Raises NotSupportedError.
    """

    def __init__(self, *, iterates: bool | None = None) -> None:
        with tempfile.TemporaryDirectory(prefix="lg-classify-") as directory:
            target = Path(directory) / "classify.bpf.o"
            if not build_bpf.compile_one(build_bpf.compile_command(), HERE.parent, HERE / "classify.bpf.c", target):
                raise NotSupportedError("bench", "clang refused bench/classify.bpf.c", "its messages are above")
            self._object = BpfObject(target)
        walks = kernel_has(ITERATOR) if iterates is None else iterates
        self._object.set_initial_value(CONFIG, layout.CONFIG.pack(0, 0, 0, 0, layout.EMIT_BLOCKS, 0, walks))
        self._object.load()
        fds = {name: self._object.map_fd(name) for name in self._object.maps() if name.startswith((*OURS, "bench_"))}
        self._control = Control(fds[CONTROL])
        self._tables = Tables(fds["lg_tables"], fds[HEADERS], self._control, Limits.of(fds))
        self._headers = mmap.mmap(fds["bench_headers"], _pages(KEYS * layout.RECORD.size))
        self._next = mmap.mmap(fds["bench_next"], mmap.PAGESIZE)
        self._programs = {name: self._object.program_fd(name) for name in ("bench_nothing", "bench_decide")}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Unload."""
        self._headers.close()
        self._next.close()
        self._control.close()
        self._object.close()

    def put(self, compiled: Compiled) -> None:
        """Put *compiled* in force. Raises NotSupportedError, OSError."""
        self._tables.put(compiled)

    def load(self, layer: Layer, keys: Sequence[Sequence[int]]) -> None:
        """Let the runs to come go through *keys* (`Layout.key`), over and over where there are fewer than KEYS."""
        record = bytearray(layout.RECORD.size)
        size = layout.RECORD.size
        blank = layout.RECORD.unpack(bytes(record))
        fields = list(blank)
        fields[layout.RECORD_LAYER] = layer.id
        record[:] = layout.RECORD.pack(*fields)
        for place in range(KEYS):
            _KEY.pack_into(record, _KEY_AT, *keys[place % len(keys)][:KERNEL_WORDS])
            self._headers[place * size : (place + 1) * size] = record

    def run(self, program: str = "bench_decide", count: int = KEYS) -> float:
        """Run *program* on the next *count* headers, from the first on; return the mean time of a run, ns."""
        self._next[:4] = bytes(4)
        data = ctypes.create_string_buffer(PACKET, len(PACKET))
        packed = _TEST_RUN.pack(self._programs[program], 0, len(PACKET), 0, ctypes.addressof(data), 0, count, 0)
        attributes = ctypes.create_string_buffer(packed, 144)
        bpf(Command.PROG_TEST_RUN, attributes)
        return float(struct.unpack_from("<I", attributes, _DURATION_AT)[0])

    def decided(self, count: int) -> list[tuple[int, int, bool]]:
        """Return what the last runs decided on the first *count* headers: action (1 permit, 2 block), filter, hard."""
        size = layout.RECORD.size
        made = []
        for place in range(count):
            fields = layout.RECORD.unpack_from(self._headers, place * size)
            made.append(
                (
                    fields[layout.RECORD_ACTION],
                    fields[layout.RECORD_FILTER],
                    bool(fields[layout.RECORD_HARD]),
                )
            )
        return made

    def decide(
        self, compiled: Compiled, layer: Layer, asked: Sequence[Mapping[str, Value]]
    ) -> list[tuple[int, int, bool]]:
        """Return what is decided on each of *asked*, at most KEYS, at *layer*."""
        table = compiled.table(layer)
        if table is None:
            return [(layout.PERMIT, 0, False)] * len(asked)
        self.load(layer, [table.layout.key(values) for values in asked])
        self.run(count=len(asked))
        return self.decided(len(asked))


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
