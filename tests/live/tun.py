"""A simulated host on a real wire: a TUN device in a network namespace, whose other end is a link of a world.

    the namespace's kernel ── TUN device ── Bridge ── sim.Link (delay, loss, reordering) ── sim.Host

The world's time is the machine's: `Bridge.run` lets it pass, and carries packets both ways, until something has
happened. What the kernel sends while nobody carries waits in the device.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from layergate.kernel.netns import Namespace
from layergate.sim.host import Host
from layergate.sim.link import Link, LinkConfig
from layergate.sim.recording import Recording
from layergate.sim.world import World
from tests.live.lab import ip

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
NAME = "lg-tun"
KERNEL = {4: "10.99.0.1", 6: "fd99::1"}
SIMULATED = {4: "10.99.0.2", 6: "fd99::2"}
PACKET_BYTES_MAX = 65536
TICK_S = 0.02


def open_tun(netns: str) -> int:
    """Return a TUN device in *netns*, up, with the kernel's addresses."""
    entered = Namespace(netns)
    try:
        with entered.entered():
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", NAME.encode(), IFF_TUN | IFF_NO_PI))
    finally:
        entered.close()
    ip("-n", netns, "addr", "add", f"{KERNEL[4]}/24", "dev", NAME)
    ip("-n", netns, "addr", "add", f"{KERNEL[6]}/64", "dev", NAME, "nodad")
    ip("-n", netns, "link", "set", NAME, "up")
    return fd


class Bridge:
    """A simulated host on a TUN device. Use it as a context manager."""

    def __init__(self, netns: str, config: LinkConfig | None = None, *, seed: int = 0) -> None:
        self.world = World(seed)
        self.host = Host(self.world, Recording(keeps=False), "simulated")
        self._link = Link(self.world, self.host.recording, ("kernel", "simulated"), config)
        self.host.plug(self._link, 1, [f"{SIMULATED[4]}/24", f"{SIMULATED[6]}/64"])
        self._link.attach(0, self._to_kernel)
        self._fd = open_tun(netns)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the device, which removes it."""
        os.close(self._fd)

    def _to_kernel(self, packet: bytes) -> None:
        os.write(self._fd, packet)

    def run(self, is_over: Callable[[], bool], *, seconds: float) -> bool:
        """Carry packets until *is_over*, or for *seconds*; return which."""
        end = time.monotonic() + seconds
        while not is_over():
            now = time.monotonic()
            if now > end:
                return False
            self.world.run(until=now - self._began)
            ready, _, _ = select.select([self._fd], [], [], TICK_S if self.world.is_quiet else 0.001)
            while ready:
                try:
                    packet = os.read(self._fd, PACKET_BYTES_MAX)
                except BlockingIOError:
                    break
                self.world.run(until=time.monotonic() - self._began)
                self._link.transmit(0, packet)
        return True
