"""Network namespaces: entered for a moment, told apart by their cookie; their interfaces, listed and watched."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from layergate.model import InputError

SO_NETNS_COOKIE: Final = 71
CLONE_NEWNET: Final = 0x40000000
RTMGRP_LINK: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Namespace:
    """A network namespace, by name (as `ip netns` has it), or the one that this process is in (None)."""

    def __init__(self, name: str | None = None, *, path: str | None = None) -> None:
        """Open it, by *name* or by the *path* of its file. Raises InputError."""
        path = path or (f"/run/netns/{name}" if name else "/proc/self/ns/net")
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"there is no network namespace {name or path}", "ip netns list names them") from error
        self.name = name
        self._elsewhere = path != "/proc/self/ns/net"
        with self.entered():
            self.cookie = own_cookie()

    @classmethod
    def of_process(cls, pid: int) -> Self:
        """Return the namespace that process *pid* is in. Raises InputError."""
        return cls(path=f"/proc/{pid}/ns/net")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the namespace for the time of a `with` block (this thread only)."""
        if not self._elsewhere:
            yield
            return
        here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self._fd)
            try:
                yield
            finally:
                _setns(here)
        finally:
            os.close(here)

    def interfaces(self) -> dict[int, str]:
        """Return the interfaces by index."""
        with self.entered():
            return dict(socket.if_nameindex())

    def watch(self) -> socket.socket:
        """Return a socket that is readable when an interface came or went."""
        with self.entered():
            watcher = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
            )
        watcher.bind((0, RTMGRP_LINK))
        return watcher

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def own_cookie() -> int:
    """Return the cookie of the network namespace that this thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        cookie: int = struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]
    return cookie
