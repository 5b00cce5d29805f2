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
RTM_NEWADDR, RTM_GETADDR, NLMSG_DONE = 20, 22, 3
NLM_F_REQUEST_DUMP: Final = 0x301
IFA_ADDRESS, IFA_LOCAL = 1, 2
_HEADER: Final = 16  # struct nlmsghdr
_ADDRESS_HEADER: Final = 8  # struct ifaddrmsg
_WATCHED: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

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

    def addresses(self) -> set[tuple[int, bytes]]:
        """Return the host's own addresses there: (address family, address in network order). Raises OSError."""
        with self.entered(), self._route_socket() as asking:
            # struct nlmsghdr, struct ifaddrmsg: all families
            asking.send(struct.pack("=IHHIIBBBBI", 24, RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0, 0, 0, 0, 0, 0))
            found: set[tuple[int, bytes]] = set()
            while True:
                answer = asking.recv(1 << 16)
                while answer:
                    length, kind = struct.unpack_from("=IH", answer)
                    if kind == NLMSG_DONE or length < _HEADER:
                        return found
                    if kind == RTM_NEWADDR:
                        found.add((answer[_HEADER], _address_of(answer[_HEADER + _ADDRESS_HEADER : length])))
                    answer = answer[(length + 3) & ~3 :]

    def watch(self) -> socket.socket:
        """Return a socket that has something to read when interfaces or addresses came or went. Raises OSError."""
        with self.entered():
            watcher = self._route_socket()
        watcher.settimeout(0)
        watcher.bind((0, _WATCHED))
        return watcher

    @staticmethod
    def _route_socket() -> socket.socket:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def _address_of(attributes: bytes) -> bytes:
    """Return the local address among *attributes*: on a point-to-point link, ours and not the peer's."""
    found: dict[int, bytes] = {}
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        found[kind] = attributes[4:length]
        attributes = attributes[max(4, (length + 3) & ~3) :]
    return found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")


def changed(watcher: socket.socket) -> bool:
    """Whether *watcher* (of `Namespace.watch`) has heard of a change since the last call."""
    heard = False
    while True:
        try:
            watcher.recv(1 << 16)
        except BlockingIOError:
            return heard
        except OSError:  # ENOBUFS: more happened than there was room for
            pass
        heard = True


def own_cookie() -> int:
    """Return the cookie of the network namespace that this thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        cookie: int = struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]
    return cookie
