"""The programs that tell states and round trips (bpf/states.bpf.c): loaded, attached, read.

- All of it ends with `close`, or with this process: nothing is pinned.
- A full ring loses transitions, never changes what sockets do; what was lost is counted.
- Without the events of accept() (no tracefs) accepted sockets keep their listener's owner until they close.

Worked example: `with States(netns=cookie) as states: states.transitions()` yields what the ring holds, by the members
of struct lg_transition.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from layergate.kernel import sockets_layout_generated as layout
from layergate.kernel import tracepoints
from layergate.kernel.iterators import run
from layergate.kernel.libbpf import BpfObject
from layergate.kernel.maps import Map
from layergate.kernel.ring import Record, Ring
from layergate.model import NotSupportedError

OBJECT: Final = Path(__file__).parent / "objects" / "states.bpf.o"
RING_BYTES: Final = 32 << 20
_BTF: Final = {"lg_state": "inet_sock_set_state", "lg_probe": "tcp_probe"}
_CALLS: Final = ("sys_exit_accept", "sys_exit_accept4")
_COUNTS: Final = {layout.COUNT_LOST: "lost", layout.COUNT_TOLD: "told", layout.COUNT_NO_ROOM: "no_room"}


class States:
    """The running programs. Use it as a context manager."""

    def __init__(
        self,
        *,
        netns: int = 0,
        want: int = layout.WANT_TRANSITIONS,
        by: int = layout.BY_ALL,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        """Load and attach them. Raises NotSupportedError; then nothing is left.

        Args:
            netns: the cookie of the network namespace that is watched; 0: all.
            want: WANT_TRANSITIONS, WANT_ROUND_TRIPS, or both.
            by: BY_ALL, BY_REMOTE, BY_LOCAL_PORT or BY_PROCESS: what histograms are kept by.
            ring_bytes: a power of two.
        """
        self.refused: list[NotSupportedError] = []
        self._fds: list[int] = []
        self._object = BpfObject(OBJECT)
        self._ring: Ring | None = None
        try:
            self._object.set_max_entries("lg_transitions", ring_bytes)
            self._object.set_initial_value(".rodata.config", layout.WATCH_CONFIG.pack(netns, by, want))
            if not want & layout.WANT_ROUND_TRIPS:
                self._object.skip("lg_probe")
            self._object.load()
            self._ring = Ring(self._object.map_fd("lg_transitions"), ring_bytes, layout.TRANSITION)
            self._attach(with_probe=bool(want & layout.WANT_ROUND_TRIPS))
            run(self._object.program_fd("lg_older"))
        except BaseException:
            self.close()
            raise

    def _attach(self, *, with_probe: bool) -> None:
        for call in _CALLS:
            try:
                self._fds.append(tracepoints.attach_event("syscalls", call, self._object.program_fd("lg_accepted")))
            except NotSupportedError as error:
                self.refused.append(error)
        for program, name in _BTF.items():
            if program != "lg_probe" or with_probe:
                self._fds.append(tracepoints.attach_btf(name, self._object.program_fd(program)))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Detach everything."""
        self.close()

    @property
    def ring(self) -> Ring:
        """The ring of transitions."""
        assert self._ring is not None
        return self._ring

    def transitions(self) -> Iterator[Record]:
        """Yield the transitions that wait, by the members of struct lg_transition. Cost: 1 µs each."""
        return self.ring.read()

    def histograms(self) -> list[tuple[tuple[bytes, int, int], tuple[int, ...]]]:
        """Return the histograms of round trips: (address, number, family) and (count, sum, least, greatest, *slots)."""
        found = Map(self._object.map_fd("lg_histograms"), layout.HISTOGRAM_KEY.size, layout.HISTOGRAM.size)
        return [(layout.HISTOGRAM_KEY.unpack(key), layout.HISTOGRAM.unpack(value)) for key, value in found.items()]

    def counts(self) -> dict[str, int]:
        """Return how many transitions were told and lost, and how many samples found no room.

        Lost are also those that interrupted the program at work: the kernel counts them.
        """
        cpus = os.sysconf("SC_NPROCESSORS_CONF")
        counts = Map(self._object.map_fd("lg_counts"), 4, 8 * cpus)
        result = {}
        for number, name in _COUNTS.items():
            values = counts.get(struct.pack("<I", number)) or b""
            result[name] = sum(struct.unpack(f"<{len(values) // 8}Q", values))
        result["lost"] += tracepoints.missed(self._object.program_fd("lg_state"))
        return result

    def close(self) -> None:
        """Detach everything, and let go."""
        while self._fds:
            os.close(self._fds.pop())
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._object.close()
