"""The connection table of a simulated host: what its kernel would tell, in the kernel's own messages.

So the list, its words and the diagnosis look at a simulated host exactly as they look at a real one: `view(host)` is
the table and the counters of a moment, `settings(host)` what sysctl would say.

- A socket's inode is its number at the host; 0 where no process has it: not accepted yet, left behind, TIME_WAIT.
- A process's name is the last part of its executable's path.
- Figures that the simulated TCP doesn't keep (pacing, delivery rates, memory of single packets) are 0.

Worked example: five connections that a server never closes, two minutes later: five endpoints in CLOSE_WAIT, each with
the server as its process, and an acknowledgement that came 120 s ago. `diagnose` calls it a close-wait-leak.

Source: linux/inet_diag.h; linux/tcp.h (struct tcp_info).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from layergate.kernel import inetdiag
from layergate.model import Process
from layergate.sim.host import Host
from layergate.sim.streams import Half, ListenerSocket
from layergate.sockets import states
from layergate.sockets.diagnosis.evidence import Counters, View
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.owners import Facts, Owners
from layergate.sockets.tcp_info import TcpInfo, compose_info
from layergate.tcp import Connection, End, State

NO_INFO: Final = TcpInfo._make([0] * len(TcpInfo._fields))
_TIMERS: Final = {name: number for number, name in enumerate(states.TIMERS) if name}
_US, _MS = 1_000_000, 1_000
_ANY: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - what nobody is connected to


def view(host: Host) -> View:
    """Return the host's table and counters as they are now. Cost: O(sockets)."""
    sockets = [*_listeners(host), *_connections(host)]
    held = [(number, process.pid or 0, number) for number, process, _ in sockets if process is not None]
    owners = Owners(held, {facts.pid: facts for facts in map(_facts, (row[1] for row in sockets)) if facts}.values())
    return View(
        host.world.now, tuple(Endpoint("tcp", message, owners=owners) for _, _, message in sockets), _counters(host)
    )


def settings(host: Host) -> dict[str, str]:
    """Return the host's settings by sysctl's names, without net."""
    config, (low, high) = host.config, host.tcp.port_range
    return {
        "core.somaxconn": str(config.somaxconn),
        "ipv4.ip_local_port_range": f"{low} {high}",
        "ipv4.tcp_abort_on_overflow": str(int(config.abort_on_overflow)),
        "ipv4.tcp_fin_timeout": f"{config.fin_wait_2_s:.0f}",
        "ipv4.tcp_max_syn_backlog": str(config.syn_backlog_max),
        "ipv4.tcp_syncookies": "0",
        "ipv4.tcp_tw_reuse": "0",
    }


def _facts(process: Process | None) -> Facts | None:
    if process is None or process.app is None:
        return None
    return Facts(process.pid or 0, process.app.rpartition("/")[2], process.app, process.user, 0)


Row = tuple[int, Process | None, bytes]
"""A socket: its inode, whose it is (None: nobody's), and the kernel's message."""


def _connections(host: Host) -> Iterator[Row]:
    for half in host.tcp.halves.values():
        connection = half.connection
        is_held = not connection.is_orphan and half.listener is None and connection.state is not State.TIME_WAIT
        yield half.number, half.process if is_held else None, _connection(host, half, half.number if is_held else 0)


def _listeners(host: Host) -> Iterator[Row]:
    for one in host.tcp.listeners.values():
        yield one.number, one.process, _listener(one)


def _connection(host: Host, half: Half, inode: int) -> bytes:
    connection, now = half.connection, host.world.now
    timer = connection.timer
    tries = timer.tries if timer else 0
    figures = NO_INFO._replace(
        state=states.TCP_STATES.index(connection.state),
        retransmits=tries if timer and timer.kind == "retransmit" else 0,
        probes=tries if timer and timer.kind in ("keepalive", "persist") else 0,
        backoff=tries if timer and timer.kind == "retransmit" else 0,
        rto_us=round(connection.rto_s * _US),
        send_mss=connection.mss,
        unacked=connection.in_flight,
        last_data_sent_ms=_ago_ms(now, connection.sent if connection.sent is not None else connection.opened),
        last_data_received_ms=_ago_ms(now, connection.heard),
        last_ack_received_ms=_ago_ms(now, connection.heard),
        rtt_us=round((connection.srtt_s or 0) * _US),
        congestion_window=connection.congestion_window,
        retransmitted=connection.retransmitted + (tries if connection.state is State.SYN_SENT else 0),
        segments_out=connection.segments_out,
        segments_in=connection.segments_in,
        data_segments_out=connection.segments_out,
        data_segments_in=connection.segments_in,
        send_window=connection.peer_window,
    )
    no_info = connection.state in (State.TIME_WAIT, State.SYN_RECEIVED)
    return _message(
        states.TCP_STATES.index(connection.state),
        connection.local,
        connection.remote,
        inode=inode,
        number=half.number,
        user=(half.process.user or 0) if half.process else 0,
        timer=(_TIMERS[timer.kind], max(round((timer.at - now) * _MS), 0), tries) if timer else (0, 0, 0),
        queues=(connection.available, connection.unacknowledged),
        info=None if no_info else figures,
    )


def _listener(one: ListenerSocket) -> bytes:
    listener = one.listener
    return _message(
        states.LISTEN,
        listener.local,
        None,
        inode=one.number,
        number=one.number,
        user=one.process.user or 0,
        queues=(listener.waiting, listener.backlog),
        info=NO_INFO._replace(state=states.LISTEN, unacked=listener.waiting, sacked=listener.backlog),
        drops=listener.drops,
    )


def _ago_ms(now: float, then: float) -> int:
    return round((now - then) * _MS)


def _message(
    state: int,
    local: End,
    remote: End | None,
    *,
    inode: int,
    number: int,
    user: int,
    queues: tuple[int, int],
    timer: tuple[int, int, int] = (0, 0, 0),
    info: TcpInfo | None = None,
    drops: int = 0,
) -> bytes:
    """Return a struct inet_diag_msg with its attributes. *timer*: kind, expires (ms), tries."""
    version = local.address.version
    far = socket.inet_pton(_FAMILIES[version], _ANY[version]) if remote is None else remote.address.packed
    attributes = b""
    if info is not None:
        data = compose_info(info)
        attributes += inetdiag.ATTRIBUTE.pack(4 + len(data), inetdiag.INFO) + data
    attributes += inetdiag.ATTRIBUTE.pack(40, inetdiag.SKMEMINFO) + struct.pack("=9I", *(0,) * 8, drops)
    return (
        inetdiag.MESSAGE.pack(
            inetdiag.MESSAGE.size + len(attributes),
            inetdiag.SOCK_DIAG_BY_FAMILY,
            _FAMILIES[version],
            state,
            timer[0],
            timer[2],
            socket.htons(local.port),
            socket.htons(remote.port if remote else 0),
            local.address.packed.ljust(16, b"\0"),
            far.ljust(16, b"\0"),
            0,
            number,
            timer[1],
            *queues,
            user,
            inode,
        )
        + attributes
    )


_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def _counters(host: Host) -> Counters:
    listeners: Iterable[ListenerSocket] = host.tcp.listeners.values()
    overflows = sum(one.listener.overflows for one in listeners)
    drops = sum(one.listener.drops for one in listeners)
    connections: list[Connection] = [half.connection for half in host.tcp.halves.values()]
    return {
        "TcpExt": {
            "ListenOverflows": overflows,
            "ListenDrops": drops,
            "TCPReqQFullDrop": drops - overflows,
        },
        "sockstat TCP": {
            "inuse": len(connections),
            "orphan": sum(one.is_orphan and one.state is not State.TIME_WAIT for one in connections),
            "tw": sum(one.state is State.TIME_WAIT for one in connections),
        },
    }
