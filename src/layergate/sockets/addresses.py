"""Addresses of the kernel's messages as people write them."""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import Final

_MAPPED: Final = bytes(10) + b"\xff\xff"


@lru_cache(maxsize=1 << 16)
def address_words(data: bytes, family: int) -> str:
    """Return an address of a message as text, IPv6 in brackets; v4-mapped as IPv4."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[:4])
    if data.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, data[12:])
    return f"[{socket.inet_ntop(socket.AF_INET6, data)}]"
