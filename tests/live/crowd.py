"""A crowd of sockets in every state, held until standard input ends. Run inside a network namespace of its own.

    python crowd.py CONNECTIONS

Prints "ready" when all stand as they shall. Drops (nftables, in this namespace) hold the fleeting states still.
"""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
kept: list[socket.socket] = []


def keep(*made: socket.socket) -> socket.socket:
    kept.extend(made)
    return made[0]


def drop(rules: str) -> None:
    table = f"table inet crowd {{\nchain input {{\ntype filter hook input priority 0\n{rules}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=f"flush ruleset\n{table}", text=True, check=True)


def listener(port: int, family: int = socket.AF_INET, host: str | None = None, backlog: int = 1024) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((LOOPBACK[family] if host is None else host, port))
    made.listen(backlog)
    return keep(made)


def pair(to: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.socket(to.family, socket.SOCK_STREAM)
    client.connect(to.getsockname()[:2])
    server, _ = to.accept()
    keep(client, server)
    return client, server


def established(count: int, to: socket.socket) -> None:
    for number in range(count):
        client, server = pair(to)
        if number % 3 == 0:
            client.send(b"q" * (number + 1))
        if number % 6 == 0:
            server.recv(1 << 16)
            server.send(b"a" * 10)
        if number % 5 == 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def half_closed(count: int, to: socket.socket) -> None:
    for number in range(count):
        client, _ = pair(to)
        if number % 2:
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()


def time_wait(count: int, to: socket.socket) -> None:
    for _ in range(count):
        client, server = pair(to)
        client.close()
        server.recv(1)
        server.close()


def attempt(port: int) -> None:
    client = socket.socket()
    client.setblocking(False)  # noqa: FBT003
    with suppress(BlockingIOError):
        client.connect(("127.0.0.1", port))
    keep(client)


def other_owners(to: socket.socket) -> None:
    """A child that inherits a socket, and one that is given a socket which this process closes."""
    inherited, _ = pair(to)
    given, _ = pair(to)
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    if not os.fork():
        for one in kept:
            if one is not inherited:
                one.close()
        _, ancillary, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
        fds = array.array("i", ancillary[0][2])
        ours.close()
        os.write(writing, b"x")
        theirs.recv(1)  # until the parent is gone
        os._exit(fds[0] & 0)
    theirs.close()
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [given.fileno()]))])
    given.close()
    os.read(reading, 1)
    keep(ours)


def main(count: int) -> None:
    four, six = listener(8001), listener(8001, socket.AF_INET6)
    listener(8002, host="")
    dual = listener(8003, socket.AF_INET6, "::")
    listener(8004, backlog=7)
    listener(8004, backlog=9)
    for family, loopback in LOOPBACK.items():
        bound = keep(socket.socket(family, socket.SOCK_DGRAM))
        bound.bind((loopback, 8010))
        for _ in range(20):
            keep(socket.socket(family, socket.SOCK_DGRAM)).connect((loopback, 8010))
    keep(socket.socket()).bind(("127.0.0.1", 8011))
    established(count, four)
    established(count // 4, six)
    established(count // 8, dual)
    client = keep(socket.socket())
    client.connect(("127.0.0.1", 8003))  # IPv4 to a listener of IPv6: mapped addresses
    mapped, _ = dual.accept()
    keep(mapped)
    half_closed(60, four)
    time_wait(60, four)
    for _ in range(5):  # not accepted
        waiting = keep(socket.socket())
        waiting.connect(("127.0.0.1", 8004))
    other_owners(four)
    ending = [pair(four) for _ in range(12)]
    for near, _ in ending[4:8]:
        near.shutdown(socket.SHUT_WR)
    time.sleep(0.1)
    drop("tcp dport { 8001 } drop\ntcp sport { 8001, 8020 } drop\ntcp dport 8021 drop")
    listener(8020)
    for _ in range(5):
        attempt(8020)  # SYN_SENT there, SYN_RECEIVED here
        attempt(8021)
    for near, far in ending:
        near.close()  # FIN_WAIT_1, but for those that are in FIN_WAIT_2
        far.close()  # LAST_ACK, or FIN_WAIT_1
    # Let the clients' FINs through, and nothing back: the servers' sides that closed too are in CLOSING.
    drop("tcp dport 8001 tcp flags & fin == 0 drop\ntcp sport { 8001, 8020 } drop\ntcp dport 8021 drop")
    time.sleep(1.0)
    drop("tcp dport 8001 drop\ntcp sport { 8001, 8020 } drop\ntcp dport 8021 drop")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
