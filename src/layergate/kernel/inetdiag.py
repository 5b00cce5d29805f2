"""The kernel's list of sockets, by netlink (NETLINK_SOCK_DIAG): asked for, received, cut into messages.

Nothing is interpreted here but the frame: `sockets.endpoint` reads a message, and reads of it only what is asked for.

- A dump is one question and many answers: `dump` yields each datagram as it came; `messages` cuts one into sockets.
- The kernel walks its tables while they change. A socket that moves meanwhile may be missed or told twice: a dump is no
  snapshot. NLM_F_DUMP_INTR says that this happened; `Dump.is_torn` keeps it.
- A family and a protocol a question. An AF_INET6 question gives IPv6 sockets alone, dual-stack listeners among them.

Worked example: all TCP sockets of IPv4 in the states ESTABLISHED and LISTEN, with tcp_info:
`Dump(AF_INET, IPPROTO_TCP, states=1 << 1 | 1 << 10, extensions=(INFO,))`.

Source: linux/inet_diag.h, linux/sock_diag.h, sock_diag(7), netlink(7).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from layergate.model import NotSupportedError

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST: Final = 0x1
NLM_F_REQUEST_DUMP: Final = 0x301
NLM_F_DUMP_INTR: Final = 0x10
HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
REQUEST: Final = struct.Struct("=BBBBI48x")  # struct inet_diag_req_v2 with an empty struct inet_diag_sockid
ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr
MESSAGE: Final = struct.Struct("=IH10xBBBBHH16s16sIQIIIII")
"""struct nlmsghdr and struct inet_diag_msg in one: length, type, family, state, timer, retransmits, local and remote
port (in network order: their bytes are swapped), local and remote address, interface, cookie, expires (ms), receive
queue, send queue, user, inode. The attributes follow."""

# Attributes, which are also the numbers of the extensions that a question may ask for (1 << number - 1).
MEMINFO, INFO, VEGASINFO, CONG, TOS, TCLASS, SKMEMINFO, SHUTDOWN = range(1, 9)
SKV6ONLY: Final = 11
MARK: Final = 15
SK_BPF_STORAGES: Final = 20
CGROUP_ID: Final = 21
SOCKOPT: Final = 22
REQ_SK_BPF_STORAGES: Final = 2
SK_DIAG_BPF_STORAGE_REQ_MAP_FD: Final = 1

ALL_STATES: Final = 0xFFFFFFFF
_RECEIVE_BYTES: Final = 1 << 16  # the kernel fills at most 32 KiB at a time
_TIMEOUT_S: Final = 10.0
_ENOENT, _EOPNOTSUPP = 2, 95


class Dump:
    """One question: the sockets of *family* and *protocol* in the network namespace of the calling thread.

    Args:
        family: AF_INET or AF_INET6.
        protocol: IPPROTO_TCP, IPPROTO_UDP, …
        states: a bit a state (1 << TCP_ESTABLISHED…).
        extensions: attributes to send with each socket: INFO, SKMEMINFO, CONG…
        storages: file descriptors of BPF socket storages whose values are to come with each socket.
    """

    def __init__(
        self,
        family: int,
        protocol: int,
        *,
        states: int = ALL_STATES,
        extensions: Iterable[int] = (),
        storages: Iterable[int] = (),
    ) -> None:
        wanted = sum(1 << number - 1 for number in extensions)
        request = REQUEST.pack(family, protocol, wanted, 0, states)
        maps = b"".join(struct.pack("=HHI", 8, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, fd) for fd in storages)
        if maps:
            request += ATTRIBUTE.pack(4 + len(maps), REQ_SK_BPF_STORAGES) + maps
        self._request = HEADER.pack(16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + request
        self.is_torn = False

    def __iter__(self) -> Iterator[bytes]:
        """Ask, and yield each datagram. A protocol that the kernel lacks has no sockets.

        Raises NotSupportedError where the kernel refuses, or does not answer within ten seconds.
        """
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as asking:
            asking.settimeout(_TIMEOUT_S)
            try:
                asking.send(self._request)
                receive = asking.recv
                while True:
                    datagram = receive(_RECEIVE_BYTES)
                    _, kind, flags, _, _ = HEADER.unpack_from(datagram)
                    self.is_torn |= bool(flags & NLM_F_DUMP_INTR)
                    if kind == SOCK_DIAG_BY_FAMILY:
                        yield datagram
                        # The end may share a datagram with the last sockets.
                        if HEADER.unpack_from(datagram, len(datagram) - 20)[:2] == (20, NLMSG_DONE):
                            return
                        continue
                    _end(datagram)
                    return
            except OSError as error:
                raise NotSupportedError(
                    "sock_diag", f"the kernel's list of sockets can't be had: {error.strerror or error}",
                    "a kernel with CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG",
                ) from error  # fmt: skip


def _end(datagram: bytes) -> None:
    """Take NLMSG_DONE or NLMSG_ERROR. Raises OSError where it tells of more than a protocol that is not there."""
    number = -struct.unpack_from("=i", datagram, HEADER.size)[0]
    if number not in (0, _ENOENT, _EOPNOTSUPP):
        raise OSError(number, os.strerror(number))


def messages(datagram: bytes) -> Iterator[int]:
    """Yield where each socket's MESSAGE begins in *datagram*. Cost: about 0.5 µs a socket."""
    offset, end = 0, len(datagram) - MESSAGE.size
    unpack = HEADER.unpack_from
    while offset <= end:
        length, kind, _, _, _ = unpack(datagram, offset)
        if kind != SOCK_DIAG_BY_FAMILY:
            return
        yield offset
        offset += length + 3 & ~3


def attributes(datagram: bytes, start: int, end: int) -> dict[int, bytes]:
    """Return the attributes that stand between *start* and *end*, by number."""
    found = {}
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(datagram, start)
        if length < 4:
            break
        found[kind & 0x3FFF] = datagram[start + 4 : start + length]
        start += length + 3 & ~3
    return found


class Asker:
    """Asks for single sockets, of the network namespace in which it was made. Cost: 15 µs a socket."""

    def __init__(self) -> None:
        """Open the socket. Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        self._socket.settimeout(1.0)

    def ask(self, family: int, protocol: int, identity: bytes, extensions: Iterable[int] = ()) -> bytes | None:
        """Return the message of the socket *identity* (struct inet_diag_sockid), None where it is gone."""
        wanted = sum(1 << number - 1 for number in extensions)
        request = REQUEST.pack(family, protocol, wanted, 0, ALL_STATES)[:-48] + identity
        self._socket.send(HEADER.pack(16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + request)
        answer = self._socket.recv(_RECEIVE_BYTES)
        return answer if HEADER.unpack_from(answer)[1] == SOCK_DIAG_BY_FAMILY else None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
