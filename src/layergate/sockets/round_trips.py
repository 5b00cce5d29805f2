"""What the kernel's histograms of round trips are kept by, as people and scripts read it.

Worked example: by remote, (10.0.0.9 in 16 bytes, 0, 4) is "10.0.0.9"; by process, (…, 812, …) is 812.
"""

from __future__ import annotations

import socket
from typing import Final

from layergate.sockets.addresses import address_words

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def key_of(key: tuple[bytes, int, int], by: str) -> str | int | None:
    """Return struct lg_histogram_key, by its members, as what *by* says: an address, a number; all together, None."""
    address, number, family = key
    if by == "all":
        return None
    return address_words(address, _FAMILIES.get(family, socket.AF_INET)).strip("[]") if by == "remote" else number
