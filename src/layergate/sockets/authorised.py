"""Which filter authorised a connection: what the running programs of `layergate run` or `trace` have written down.

Nothing is decided anew. The programs keep, with each socket of theirs, the filter that authorised its connection
(struct lg_owner); an iterator in the kernel lists them by the cookie of the socket. Where no such program runs, or the
socket is none of theirs, or no filter was needed, there is none.

Worked example: `layergate run` permits port 80 by filter 3; the server's end of a connection there has 3.

Source: kernel/bpf/authorised.bpf.c.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.iterators import run
from layergate.kernel.libbpf import BpfObject
from layergate.kernel.maps import loaded

_OBJECT: Final = Path(__file__).parent.parent / "kernel" / "objects" / "authorised.bpf.o"
_KEY_BYTES: Final = 4  # of a map of socket storage


def authorised() -> dict[int, tuple[int, int]]:
    """Return, by the cookie of its socket, who authorised a connection: map of owners (the kernel's number), filter id.

    Ids are a run's own, and a map is its run's. Without the privilege nothing is known, and nothing is returned.
    Cost: 10 ms to load the iterator where there is a run, then 0.1 µs a connection. Raises NotSupportedError.
    """
    try:
        maps = list(loaded("lg_owners", _KEY_BYTES, layout.OWNER.size))
    except OSError:
        return {}
    found = {}
    iterator = None
    try:
        for owners in maps:
            if iterator is None:
                iterator = BpfObject(_OBJECT)
                iterator.load()
            listed = run(iterator.program_fd("lg_authorised"), owners.fd)
            for cookie, number in layout.AUTHORISED.iter_unpack(listed):
                found[cookie] = owners.id, number
    finally:
        if iterator is not None:
            iterator.close()
        for owners in maps:
            os.close(owners.fd)
    return found
