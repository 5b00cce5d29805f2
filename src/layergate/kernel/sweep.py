"""What is forgotten each second: flows that ended, handshakes that never did, keys without a connection.

The tables are walked in the kernel (bpf/sweep.bpf.c), for a flood fills them faster than they can be read here. A
handshake has no socket whose end would be told: it is over when the kernel lists it no more (sock_diag, SYN_RECV). One
that was answered with a SYN cookie is never listed: it is counted as half-open for a second.

Worked example: 100,000 flows are walked in some 20 ms; 1,000 handshakes are listed in 4 ms.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.inetdiag import MESSAGE, Dump, messages
from layergate.kernel.libbpf import Command, bpf
from layergate.kernel.maps import Map, update_batch
from layergate.kernel.netns import Namespace

# prog_fd, retval, sizes and addresses of data, repeat, duration, the same of the context: it is written back in place
_TEST_RUN: Final = struct.Struct("<IIIIQQIIIIQQ")
_SYN_RECV: Final = 1 << 3
_REQUESTS_MAX: Final = 16_384
CLOSED_KEPT_NS: Final = 2_000_000_000  # the last segments of a closed flow may be on their way
WAITING_KEPT_NS: Final = 65_000_000_000  # a TIME_WAIT lasts 60 s
OPENING_KEPT_NS: Final = 130_000_000_000  # a handshake is given up after 127 s
ASKING_KEPT_NS: Final = 1_000_000_000
FLOWS_MANY: Final = 150_000  # of 262,144: what only waits is forgotten sooner from here on


class Sweeper:
    """The sweep of one run's tables."""

    def __init__(self, program: int, requests: Map) -> None:
        self._program, self._requests = program, requests
        self._round = self._flows = 0

    def sweep(self, namespaces: Iterable[Namespace]) -> None:
        """Sweep; the handshakes of *namespaces* are listed first. Raises OSError, NotSupportedError."""
        self._round += 1
        found = [key for namespace in namespaces for key in handshakes(namespace)][:_REQUESTS_MAX]
        if found:
            update_batch(self._requests.fd, b"".join(found), struct.pack("<I", self._round) * len(found), len(found))
        # A TIME_WAIT may still answer for a minute; where room is scarce, its flow is forgotten sooner.
        waiting_ns = WAITING_KEPT_NS if self._flows < FLOWS_MANY else CLOSED_KEPT_NS
        told = layout.SWEEP.pack(CLOSED_KEPT_NS, waiting_ns, OPENING_KEPT_NS, ASKING_KEPT_NS, self._round, 0, 0, 0)
        context = ctypes.create_string_buffer(told, layout.SWEEP.size)
        place = ctypes.addressof(context)
        size = layout.SWEEP.size
        bpf(Command.PROG_TEST_RUN, _TEST_RUN.pack(self._program, 0, 0, 0, 0, 0, 0, 0, size, 0, place, 0))
        self._flows = layout.SWEEP.unpack(context.raw)[layout.SWEEP_FLOWS]


def handshakes(namespace: Namespace) -> Iterator[bytes]:
    """Yield the flow (struct lg_flow_key) of each handshake that the kernel has in *namespace*."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with namespace.entered():
            datagrams = list(Dump(family, socket.IPPROTO_TCP, states=_SYN_RECV))
        for datagram in datagrams:
            for start in messages(datagram):
                fields = MESSAGE.unpack_from(datagram, start)
                ports, addresses = fields[6:8], fields[8:10]
                (low, low_port), (high, high_port) = sorted(
                    (_address(address, family), socket.ntohs(port))
                    for address, port in zip(addresses, ports, strict=True)
                )
                v6 = family == socket.AF_INET6 and any(addresses[0][:10])
                yield layout.FLOW_KEY.pack(namespace.cookie, *_halves(low), *_halves(high), low_port, high_port, v6)


def _address(raw: bytes, family: int) -> int:
    number = int.from_bytes(raw[:4] if family == socket.AF_INET else raw, "big")
    # An IPv4 address in IPv6 clothes is IPv4.
    return number & 0xFFFFFFFF if family == socket.AF_INET6 and number >> 32 == 0xFFFF else number


def _halves(address: int) -> tuple[int, int]:
    return address >> 64, address & (1 << 64) - 1
