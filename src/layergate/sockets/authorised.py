"""Which filter authorised a connection: what the running programs of `layergate run` or `trace` have written down.

Nothing is decided anew. The programs keep, with each socket of theirs, the filter that authorised its connection
(struct lg_owner); iterators in the kernel list them by the cookie of the socket. Where no such program runs, or the
socket is none of theirs, or no filter was needed, there is none.

Worked example: `layergate run` permits port 80 by filter 3; the server's end of a connection there has 3.

Source: kernel/bpf/authorised.bpf.c.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from layergate.kernel import layout_generated as layout
from layergate.kernel.iterators import run
from layergate.kernel.libbpf import BpfObject
from layergate.kernel.maps import loaded
from layergate.live.record import Record, read_all

_OBJECT: Final = Path(__file__).parent.parent / "kernel" / "objects" / "authorised.bpf.o"
_KEY_BYTES: Final = 4  # of a map of socket storage, and of an array
# The iterator over each map of owners, and the bytes of its values.
_ITERATORS: Final = {
    "lg_owners": ("lg_authorised", layout.OWNER.size),
    "lg_seats": ("lg_seated", layout.SEAT.size),
}


class Authorisation(NamedTuple):
    """The filter that authorised a connection, by its id, which is a run's own. *run*: None where it has no record."""

    filter: int
    run: Record | None

    @property
    def name(self) -> str | None:
        """The filter's name, where its run tells it."""
        return self.run.filters.get(self.filter) if self.run else None


def authorised() -> dict[int, Authorisation]:
    """Return what authorised each connection of a run, by the cookie of its socket.

    Without the privilege nothing is known, and nothing is returned.
    Cost: 10 ms to load the iterator where there is a run, then 0.1 µs a connection. Raises NotSupportedError.
    """
    try:
        maps = [
            (iterator, one)
            for name, (iterator, value_bytes) in _ITERATORS.items()
            for one in loaded(name, _KEY_BYTES, value_bytes)
        ]
    except OSError:
        return {}
    found = {}
    runs = {owners: one for one in read_all() for owners in one.owners} if maps else {}
    programs = None
    try:
        for iterator, owners in maps:
            if programs is None:
                programs = BpfObject(_OBJECT)
                programs.load()
            listed = run(programs.program_fd(iterator), owners.fd)
            for cookie, number in layout.AUTHORISED.iter_unpack(listed):
                found[cookie] = Authorisation(number, runs.get(owners.id))
    finally:
        if programs is not None:
            programs.close()
        for _, owners in maps:
            os.close(owners.fd)
    return found
