"""The list of very many sockets: `layergate ls`, which shows owners, beside `ss`, without them and with them.

In a network namespace of its own, removed in the end: pairs of connected sockets over its loopback, held by some
processes (each may have so many descriptors only). A round runs each command once, output to nowhere; ratios are formed
within a round. The floor is `ss -tan`: one list by the kernel, in C, without owners.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.figures import Spread, ratio, spread
from layergate.model import NotSupportedError

PAIRS: Final = 50_000
ROUNDS: Final = 7
_SPARE: Final = 200  # descriptors of the interpreter
LAYERGATE: Final = os.path.join(os.path.dirname(sys.executable), "layergate")  # noqa: PTH118, PTH120
COMMANDS: Final = {"ss": ("ss", "-tan"), "layergate": (LAYERGATE, "ls"), "ss_owners": ("ss", "-tanp")}

# A share of the pairs: connected, told, held until standard input ends.
_CROWD: Final = """
import socket, sys
number, count = map(int, sys.argv[1:])
listener = socket.create_server((f"127.0.0.{number}", 8080), backlog=4096)
kept = []
for _ in range(count):
    client = socket.create_connection(listener.getsockname())
    kept += [client, listener.accept()[0]]
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """What was measured: seconds of each command, by round."""

    sockets: int
    rounds: Sequence[dict[str, float]]

    def of(self, name: str) -> Spread:
        """Return the seconds of a command."""
        return spread(self.rounds, lambda one: one[name])

    def line(self) -> dict[str, Any]:
        """Return it as a part of the history's line."""
        return {
            "sockets": self.sockets,
            **{f"{name}_s": self.of(name).rounded() for name in COMMANDS},
            "to_ss": ratio(self.rounds, "layergate", "ss").rounded(),
            "to_ss_owners": ratio(self.rounds, "layergate", "ss_owners").rounded(),
        }

    def text(self) -> str:
        """Return it for people."""
        to_ss, to_owners = ratio(self.rounds, "layergate", "ss"), ratio(self.rounds, "layergate", "ss_owners")
        shown = f"to the floor {to_ss.median:.2f} {to_ss.min:.2f}–{to_ss.max:.2f}; to ss -tanp {to_owners.median:.3f}"
        return "\n".join(
            (
                f"5  The list of {self.sockets:,} sockets: {len(self.rounds)} rounds, seconds",
                f"   ss -tan, no owners: the floor           {self.of('ss').median:.3f}",
                f"   ss -tanp                                {self.of('ss_owners').median:.3f}",
                f"   layergate ls, with owners               {self.of('layergate').median:.3f}   {shown}",
            )
        )


def measured(pairs: int = PAIRS, rounds: int = ROUNDS, check: Callable[[], None] = lambda: None) -> Listed:
    """Measure. Raises NotSupportedError; *check* may raise KeyboardInterrupt, and nothing is left."""
    if os.geteuid():
        raise NotSupportedError("bench", "it makes a network namespace", "run as root")
    with _crowd(pairs, check) as netns:
        made = []
        for _ in range(rounds):
            check()
            made.append({name: _seconds(netns, words) for name, words in COMMANDS.items()})
        return Listed(2 * pairs, made)


def _seconds(netns: str, words: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(["ip", "netns", "exec", netns, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


@contextmanager
def _crowd(pairs: int, check: Callable[[], None]) -> Iterator[str]:
    """Yield the name of a namespace with so many *pairs* of connected sockets."""
    netns = f"lg-bench-ls-{os.getpid()}"
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE) // 2
    running: list[subprocess.Popen[str]] = []
    subprocess.run(["ip", "netns", "add", netns], check=True)
    try:
        subprocess.run(["ip", "-n", netns, "link", "set", "lo", "up"], check=True)
        ports = ["sysctl", "-q", "net.ipv4.ip_local_port_range=2000 65000"]
        subprocess.run(["ip", "netns", "exec", netns, *ports], check=True)
        left = pairs
        while left > 0:
            check()
            count = min(left, room, 25_000)
            words = [sys.executable, "-c", _CROWD, str(len(running) + 1), str(count)]
            one = subprocess.Popen(
                ["ip", "netns", "exec", netns, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            running.append(one)
            left -= count
        for one in running:
            assert one.stdout is not None
            if one.stdout.readline() != "ready\n":
                raise NotSupportedError("bench", "the sockets could not be made", "raise ulimit -n")
        yield netns
    finally:
        for one in running:
            one.communicate("")
        subprocess.run(["ip", "netns", "del", netns], check=False)
