"""What the scripts of live tests say: both ends of connections, and a report as JSON. Needs nothing but Python."""

import errno
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

__all__ = [
    "attempt",
    "connect",
    "errno",
    "listen",
    "os",
    "pair",
    "pause",
    "report",
    "reset",
    "socket",
    "sys",
    "threading",
    "time",
    "until_end",
]

TIMEOUT_S = 5.0


def family_of(address: str) -> int:
    """Return the address family of *address*."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listen(address: str = "127.0.0.1", port: int = 0, *, only: bool = False) -> socket.socket:
    """Return a listener; *only*: IPv6 alone."""
    listener = socket.socket(family_of(address))
    listener.settimeout(TIMEOUT_S)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family_of(address) == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    listener.bind((address, port))
    listener.listen(64)
    return listener


def connect(
    address: str, port: int, *, bound: tuple[str, int] | None = None, seconds: float = TIMEOUT_S
) -> socket.socket:
    """Return a socket that is connected; *bound*: from there."""
    client = socket.socket(family_of(address))
    client.settimeout(seconds)
    if bound:
        client.bind(bound)
    client.connect((address, port))
    return client


def pair(address: str = "127.0.0.1") -> tuple[socket.socket, socket.socket, socket.socket]:
    """Return a listener, a client and the accepted socket."""
    listener = listen(address)
    client = connect(address, listener.getsockname()[1])
    accepted, _ = listener.accept()
    accepted.settimeout(TIMEOUT_S)
    return listener, client, accepted


def reset(end: socket.socket) -> None:
    """Close with a RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def attempt(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return "done", or the name of the error that *call* fails with."""
    try:
        call(*arguments, **options)
    except TimeoutError as error:
        return errno.errorcode[error.errno] if error.errno else "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def report(*facts: object, **named: object) -> None:
    """Say what happened: the positional facts as a list, or the named ones as an object."""
    sys.stdout.write(json.dumps(named or list(facts)) + "\n")
    sys.stdout.flush()


def pause() -> None:
    """Tell the test that a point is reached, and wait until it lets us go on."""
    sys.stdout.write("\n")
    sys.stdout.flush()
    sys.stdin.readline()


def until_end() -> None:
    """Wait until the test closes our standard input."""
    sys.stdin.read()
