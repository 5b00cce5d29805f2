"""The TCP segments of a network namespace as they come and go, by a packet socket: the beginning of each is kept.

Every interface is listened to; what goes over loopback, which the kernel shows twice, is taken once. Nothing is
attached to an interface, and nobody's packets are delayed. What comes faster than it is read is lost, and counted.

Example: `with Sniffer() as sniffer: packets = list(sniffer.packets(10.0))` gives ten seconds of `Captured`, whose
*packet* begins with the IP header. Needs CAP_NET_RAW. Source: packet(7).
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

from layergate.capture.pcapng import Captured
from layergate.model import NotSupportedError

SNAPPED_BYTES: Final = 128  # IPv6 with an extension, and TCP's header
BUFFER_BYTES: Final = 64 << 20
_ALL: Final = 3  # ETH_P_ALL
_OUTGOING, _LOOPBACK = 4, 772  # PACKET_OUTGOING, ARPHRD_LOOPBACK
_SOL_PACKET, _STATISTICS = 263, 6
_ATTACH_FILTER, _RCVBUFFORCE, _TIMESTAMPNS = 26, 33, 35
_TIMESPEC: Final = struct.Struct("@ll")
_ROOM: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_AT_ONCE: Final = 256
_STATISTICS_FORM: Final = struct.Struct("<II")  # seen, dropped; both since they were last asked for
# Classic BPF on the network header: TCP of either family, or nothing. (code, if true, if false, k)
_LOAD, _SHIFT, _EQUAL, _RETURN = 0x30, 0x74, 0x15, 0x06
_PROGRAM: Final = (
    (_LOAD, 0, 0, 0),
    (_SHIFT, 0, 0, 4),
    (_EQUAL, 0, 2, 4),
    (_LOAD, 0, 0, 9),
    (_EQUAL, 4, 5, 6),
    (_EQUAL, 0, 4, 6),
    (_LOAD, 0, 0, 6),
    (_EQUAL, 1, 0, 6),
    (_EQUAL, 0, 1, 0),  # hop-by-hop options: TCP may come behind them
    (_RETURN, 0, 0, SNAPPED_BYTES),
    (_RETURN, 0, 0, 0),
)


class Sniffer:
    """A packet socket in our own namespace. Use it as a context manager."""

    def __init__(self) -> None:
        """Open it. Raises NotSupportedError: not privileged."""
        self._lost = 0
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        except PermissionError as error:
            raise NotSupportedError("live capture", "a packet socket needs CAP_NET_RAW", "run as root") from error
        code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in _PROGRAM))
        try:
            form = struct.pack("@HP", len(_PROGRAM), ctypes.addressof(code))
            self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, form)
            self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, BUFFER_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)  # when it came, not when it was read
            self._socket.setblocking(False)  # noqa: FBT003 (the standard library's own)
            with suppress(BlockingIOError):  # what came before the filter
                while True:
                    self._socket.recv(1)
        except OSError as error:
            self._socket.close()
            raise NotSupportedError("live capture", str(error.strerror), "run as root") from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Close it."""
        self._socket.close()

    def packets(self, seconds: float) -> Iterator[Captured | None]:
        """Yield what comes within *seconds*, and None each time that there was nothing for a while, or much."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], min(left, 0.25))[0]:
                for _ in range(_AT_ONCE):
                    try:
                        data, told, _, (interface, _, kind, hardware, _) = self._socket.recvmsg(SNAPPED_BYTES, _ROOM)
                    except BlockingIOError:
                        break
                    if hardware != _LOOPBACK or kind != _OUTGOING:
                        whole, nanoseconds = _TIMESPEC.unpack(told[0][2]) if told else (time.time(), 0)
                        yield Captured(whole + nanoseconds / 1e9, interface, data)
            yield None

    @property
    def lost(self) -> int:
        """How many segments nobody had time to read, by now."""
        _, dropped = _STATISTICS_FORM.unpack(self._socket.getsockopt(_SOL_PACKET, _STATISTICS, _STATISTICS_FORM.size))
        self._lost += dropped
        return self._lost
