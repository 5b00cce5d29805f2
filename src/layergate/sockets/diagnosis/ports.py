"""Local ports: how much of the range is taken towards one destination; many short connections.

A connection is told apart by both ends. Towards one remote address and port, from one local address, there are no more
connections than the range has ports, and a TIME_WAIT holds its port for a minute (net.ipv4.tcp_tw_reuse lets a connect
take it over after a second, where both use timestamps).

Source: ip(7), ip_local_port_range; tcp(7), tcp_tw_reuse; net/ipv4/inet_hashtables.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from layergate.sockets.diagnosis.evidence import Evidence, Rule, grouped, most_common
from layergate.sockets.diagnosis.finding import Finding, Severity
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.owners import Facts

TIME_WAIT_S: Final = 60


def port_range(evidence: Evidence) -> range:
    """Return the ports that connect() chooses from."""
    first, last = evidence.numbers("ipv4.ip_local_port_range", (32768, 60999))[:2]
    return range(first, last + 1)


def _owner_towards(evidence: Evidence, ends: list[Endpoint]) -> Facts | None:
    """Return who has a live connection to where *ends* went: a TIME_WAIT is nobody's."""
    for one in ends:
        if one.process:
            return one.process
    remote = ends[0].remote
    return next((one.process for one in (*evidence.endpoints, *evidence.before.endpoints)
                 if one.remote == remote and one.process), None)  # fmt: skip


def ports_used(evidence: Evidence) -> Iterator[Finding]:
    """The range is nearly used up towards one destination."""
    ports = port_range(evidence)
    leaving = (
        one
        for one in evidence.endpoints
        if one.protocol == "tcp" and not one.has_no_remote and one.local_port in ports and one.state != "SYN_RECEIVED"
    )
    towards = grouped(leaving, lambda one: (one.local_address, one.remote))
    for (local, remote), ends in towards.items():
        used = len({one.local_port for one in ends})
        if used < evidence.limits.share * len(ports):
            continue
        waiting = sum(one.state == "TIME_WAIT" for one in ends)
        reuse = evidence.number("ipv4.tcp_tw_reuse", 2)
        yield Finding(
            "ports-exhausted",
            Severity.ERROR,
            str(remote),
            f"{used} of {len(ports)} local ports ({ports[0]}-{ports[-1]}) of {local} are taken towards {remote}; "
            f"{waiting} by TIME_WAIT",
            "each connection needs a port of its own, and keeps it for a minute after it has ended; when there is none "
            "left, connect fails with EADDRNOTAVAIL",
            "keep connections open and use them again; net.ipv4.tcp_tw_reuse=1"
            + (" (it is on already)" if reuse == 1 else "")
            + "; widen net.ipv4.ip_local_port_range; more addresses at either end",
            _owner_towards(evidence, ends),
            {"used": used, "range": len(ports), "time_wait": waiting, "local": local, "tcp_tw_reuse": reuse},
        )


def time_wait_limit(evidence: Evidence) -> Iterator[Finding]:
    """So many TIME_WAIT that the kernel drops them early."""
    limit = evidence.number("ipv4.tcp_max_tw_buckets", 0)
    count = evidence.counter("sockstat TCP", "tw")
    overflowed = evidence.grown("TcpExt", "TCPTimeWaitOverflow")
    if not overflowed and (not limit or count < evidence.limits.share * limit):
        return
    yield Finding(
        "time-wait-limit",
        Severity.WARNING,
        "host",
        f"{count} TIME_WAIT, and net.ipv4.tcp_max_tw_buckets is {limit}; {overflowed} ended early",
        "more connections end in a minute than the kernel is told to remember: old segments may hit new connections",
        "raise net.ipv4.tcp_max_tw_buckets, or keep connections open",
        None,
        {"time_wait": count, "limit": limit, "ended_early": overflowed},
    )


def short_connections(evidence: Evidence) -> Iterator[Finding]:
    """Many short connections to one place, where one long one would do."""
    ports = port_range(evidence)
    ended = (one for one in evidence.tcp("TIME_WAIT") if one.local_port in ports and one.remote_port not in ports)
    for remote, ends in grouped(ended, lambda one: one.remote).items():
        if len(ends) < evidence.limits.short:
            continue
        owner = _owner_towards(evidence, ends)
        yield Finding(
            "short-connections",
            Severity.WARNING,
            str(remote),
            f"{len(ends)} connections to {remote} were ended by this side in the last minute "
            f"({len(ends) / TIME_WAIT_S:.0f} a second); from {most_common(one.local_address for one in ends)}",
            "each costs a handshake, a slow start, a port for a minute; the side that closes first pays",
            "keep one connection and use it again (HTTP keep-alive, a pool)",
            owner,
            {"count": len(ends), "per_second": round(len(ends) / TIME_WAIT_S, 1)},
        )


RULES: Final[tuple[Rule, ...]] = (ports_used, time_wait_limit, short_connections)
