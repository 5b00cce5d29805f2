"""A link of our own between two network namespaces, whose delay and losses a test chooses: packets pass through here.

    python relay.py HERE THERE MILLISECONDS

Makes a tun interface `lg-link` in each: 10.79.0.1 and fd79::1 in HERE, 10.79.0.2 and fd79::2 in THERE. Says "ready",
then obeys lines of standard input and answers each "done": `delay MS`, `lose PERCENT`, `reorder PERCENT` (so many
packets wait four times as long). Ends with its input.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

from layergate.kernel.netns import Namespace

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
NAME = "lg-link"
PACKET_BYTES = 1 << 16


def interface(netns: str, number: int) -> int:
    """Make the interface in *netns*; return its file descriptor."""
    namespace = Namespace(netns)
    with namespace.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", NAME.encode(), IFF_TUN_NO_PI))
    namespace.close()
    for words in (
        ("addr", "add", f"10.79.0.{number}/24", "dev", NAME),
        ("addr", "add", f"fd79::{number}/64", "dev", NAME, "nodad"),
        ("link", "set", NAME, "up"),
    ):
        subprocess.run(["ip", "-n", netns, *words], check=True)
    return fd


def main(here: str, there: str, delay_ms: float) -> None:
    """Pass packets on."""
    chance = random.Random(1)
    ends = {}
    first, second = interface(here, 1), interface(there, 2)
    ends[first], ends[second] = second, first
    wanted = {"delay": delay_ms, "lose": 0.0, "reorder": 0.0}
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([*ends, 0], [], [], timeout)
        now = time.monotonic()
        if 0 in readable:
            line = os.read(0, 4096).decode()
            if not line:
                return
            for command in line.splitlines():
                name, value = command.split()
                wanted[name] = float(value)
                sys.stdout.write("done\n")
                sys.stdout.flush()
        for fd in readable:
            while fd in ends:
                try:
                    packet = os.read(fd, PACKET_BYTES)
                except BlockingIOError:
                    break
                if chance.random() * 100 < wanted["lose"]:
                    continue
                count += 1
                late = 4 if chance.random() * 100 < wanted["reorder"] else 1
                heapq.heappush(waiting, (now + late * wanted["delay"] / 1000, count, ends[fd], packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, fd, packet = heapq.heappop(waiting)
            os.write(fd, packet)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
