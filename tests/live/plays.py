"""The calls of a scenario, on real sockets: what `layergate.sim` plays in a world of its own. Needs nothing but Python.

Calls come one after another, each is given time to settle, and a call that fails goes into the report. Where the
scenario changes the policy, the test is told (`pause`), and the calls wait.
"""

import errno
import os
import socket
import sys
import time
from collections.abc import Iterable

from ends import pause, report, reset

SETTLE_S = 0.03
PATIENCE_S = 5.0
ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - in a namespace of its own
LOOPBACK = {4: "127.0.0.1", 6: "::1"}

__all__ = ["play"]


class Players:
    """The sockets of a scenario, by name."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.sockets: dict[str, socket.socket] = {}

    def new(self, name: str) -> socket.socket:
        """Return the socket *name*, made where it is not there."""
        if name not in self.sockets:
            made = socket.socket(socket.AF_INET if self.version == 4 else socket.AF_INET6)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.version == 6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.sockets[name] = made
        return self.sockets[name]

    def bind(self, name: str, port: int = 0, **_: object) -> None:
        """Bind to all addresses."""
        self.new(name).bind((ANY[self.version], port))

    def listen(self, name: str, port: int, backlog: int = 128, **_: object) -> None:
        """Bind and listen."""
        made = self.new(name)
        if not made.getsockname()[1]:
            made.bind((ANY[self.version], port))
        made.listen(backlog)

    def connect(self, name: str, port: int, local_port: int = 0, **_: object) -> None:
        """Connect."""
        made = self.new(name)
        if local_port:
            made.bind((ANY[self.version], local_port))
        made.connect((LOOPBACK[self.version], port))

    def accept(self, name: str, listener: str, **_: object) -> None:
        """Accept."""
        self.sockets[name], _ = self.sockets[listener].accept()

    def send(self, name: str, byte_count: int, **_: object) -> None:
        """Send all."""
        self.sockets[name].sendall(bytes(byte_count))

    def receive(self, name: str, byte_count: int, **_: object) -> None:
        """Receive so many bytes, or everything up to the end."""
        count = 0
        while byte_count < 0 or count < byte_count:
            data = self.sockets[name].recv(1 << 16 if byte_count < 0 else byte_count - count)
            if not data:
                return
            count += len(data)

    def shutdown(self, name: str, **_: object) -> None:
        """Send nothing more."""
        self.sockets[name].shutdown(socket.SHUT_WR)

    def close(self, name: str, **_: object) -> None:
        """Close."""
        self.sockets[name].close()

    def reset(self, name: str, **_: object) -> None:
        """Close by a RST."""
        reset(self.sockets[name])


def play(version: int, calls: Iterable[dict]) -> None:
    """Play *calls*, over IPv*version*; report what each ended by."""
    players = Players(version)
    outcomes = []
    for call in calls:
        verb = call.pop("verb")
        if verb == "wait":
            time.sleep(call["seconds"])
            continue
        if verb == "policy":
            pause()
            continue
        name, within = call.pop("name"), call.pop("within_s")
        for held in players.sockets.values():
            if held.fileno() >= 0:
                held.settimeout(within or PATIENCE_S)
        if verb in ("bind", "listen", "connect"):
            players.new(name).settimeout(within or PATIENCE_S)
        try:
            getattr(players, verb)(name, **call)
            outcomes.append("done")
        except TimeoutError as error:
            outcomes.append(errno.errorcode[error.errno] if error.errno else "timeout")
        except OSError as error:
            outcomes.append(errno.errorcode.get(error.errno or 0, str(error)))
        time.sleep(SETTLE_S)
    report(*outcomes)
    sys.stdout.flush()
    os._exit(0)  # what a scenario left open is not closed by Python, in an order of its own
