"""Endpoints for tests, composed as the kernel would tell them."""

from __future__ import annotations

import socket
import struct

from layergate.kernel import inetdiag
from layergate.sockets import states
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.owners import NOBODY, Facts, Owners
from layergate.sockets.tcp_info import TcpInfo

INFO = struct.Struct("=8B24I4Q6I4Q2I2Q6I2HI")
NO_INFO = TcpInfo._make([0] * len(TcpInfo._fields))
NGINX = Facts(pid=812, name="nginx", app="/usr/sbin/nginx", user=33, cgroup=4711)
CURL = Facts(pid=900, name="curl", app="/usr/bin/curl", user=1000, cgroup=1)
OWNERS = Owners([(101, 811, 6), (101, 812, 6), (102, 900, 3)], [NGINX, CURL, NGINX._replace(pid=811)])


def end(text: str) -> tuple[bytes, int]:
    """Return "10.0.0.1:80" or "[fd00::1]:80" as 16 bytes and a port."""
    address, _, port = text.rpartition(":")
    family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET
    return socket.inet_pton(family, address.strip("[]")).ljust(16, b"\0"), int(port)


def endpoint(
    state: str = "ESTABLISHED",
    local: str = "10.0.0.1:80",
    remote: str | None = "10.0.0.9:40112",
    *,
    protocol: str = "tcp",
    inode: int = 0,
    cookie: int = 1,
    user: int = 0,
    queues: tuple[int, int] = (0, 0),
    timer: tuple[int, int, int] = (0, 0, 0),
    owners: Owners = NOBODY,
    namespace: str | None = None,
    congestion: str | None = "cubic",
    memory: tuple[int, ...] | None = None,
    **figures: int,
) -> Endpoint:
    """Return an endpoint. *timer*: the kernel's kind, expires (ms), tries; *figures*: members of TcpInfo."""
    names = states.TCP_STATES if protocol == "tcp" else states.UDP_STATES
    number = states.CLOSED if state == "BOUND" else names.index(state)
    (near, near_port), (far, far_port) = end(local), end(remote or ("[::]:0" if "[" in local else "0.0.0.0:0"))
    family = socket.AF_INET6 if "[" in local else socket.AF_INET
    attributes = b""
    if figures:
        attributes += struct.pack("=HH", 4 + INFO.size, inetdiag.INFO) + INFO.pack(*NO_INFO._replace(**figures))
        name = (congestion or "").encode() + b"\0"
        attributes += (struct.pack("=HH", 4 + len(name), inetdiag.CONG) + name).ljust(4 + (len(name) + 3 & ~3), b"\0")
    if memory:
        attributes += struct.pack("=HH9I", 40, inetdiag.SKMEMINFO, *memory)
    datagram = inetdiag.MESSAGE.pack(
        inetdiag.MESSAGE.size + len(attributes), inetdiag.SOCK_DIAG_BY_FAMILY, family, number, timer[0], timer[2],
        socket.htons(near_port), socket.htons(far_port), near, far, 0, cookie, timer[1], *queues, user, inode,
    ) + attributes  # fmt: skip
    return Endpoint(protocol, datagram, owners=owners, namespace=namespace)
