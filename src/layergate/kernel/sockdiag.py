"""Destroying sockets (SOCK_DESTROY): the application gets ECONNABORTED, its peer a RST; a listener's accept fails.

A socket is named by its ends and its cookie: another that has taken its place is left alone.
Source: linux/inet_diag.h, sock_diag(7).
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from layergate.kernel.layout_generated import (
    RESET,
    RESET_LOCAL,
    RESET_LOCAL_PORT,
    RESET_REMOTE,
    RESET_REMOTE_PORT,
    RESET_V6,
)

NETLINK_SOCK_DIAG: Final = 4
SOCK_DESTROY: Final = 21
NLM_F_REQUEST_ACK: Final = 0x5
NLMSG_ERROR: Final = 2
_GONE: Final = (errno.ENOENT, errno.ESTALE)


def address_bytes(halves: tuple[int, ...], *, v6: bool) -> bytes:
    """Return an address of two 64-bit halves as 16 bytes in network order, IPv4 first and padded."""
    high, low = halves
    return struct.pack(">QQ", high, low) if v6 else struct.pack(">I12x", low & 0xFFFFFFFF)


class Destroyer:
    """Destroys sockets of the network namespace in which it was made."""

    def __init__(self) -> None:
        """Open the socket. Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        self._socket.settimeout(1.0)

    def destroy(self, cookie: int, reset: bytes) -> bool:
        """Destroy the socket *cookie* whose ends are in *reset* (struct lg_reset). Returns whether it was there."""
        fields = RESET.unpack(reset)
        v6 = bool(fields[RESET_V6])
        identity = struct.pack(">HH", fields[RESET_LOCAL_PORT], fields[RESET_REMOTE_PORT])
        identity += address_bytes(fields[RESET_LOCAL], v6=v6) + address_bytes(fields[RESET_REMOTE], v6=v6)
        identity += struct.pack("=III", 0, cookie & 0xFFFFFFFF, cookie >> 32)
        return self.destroy_socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.IPPROTO_TCP, identity)

    def destroy_socket(self, family: int, protocol: int, identity: bytes) -> bool:
        """Destroy the socket of *identity* (struct inet_diag_sockid). Returns whether it was there. Raises OSError."""
        request = struct.pack("=BBBBI", family, protocol, 0, 0, 0xFFFFFFFF) + identity
        self._socket.send(struct.pack("=IHHII", 16 + len(request), SOCK_DESTROY, NLM_F_REQUEST_ACK, 1, 0) + request)
        answer = self._socket.recv(4096)
        kind, error = struct.unpack_from("=4xH", answer)[0], struct.unpack_from("=i", answer, 16)[0]
        if kind == NLMSG_ERROR and error and -error not in _GONE:
            raise OSError(-error, "SOCK_DESTROY")
        return bool(kind == NLMSG_ERROR and error == 0)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
