"""Buffers: a peer that takes nothing more, an application that doesn't read, memory that runs short, packets dropped.

Source: tcp(7), tcp_mem; net/ipv4/tcp_output.c (tcp_probe_timer); linux/snmp.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from layergate.sockets.diagnosis.evidence import Evidence, Rule, by_process, counted, grouped, most_common
from layergate.sockets.diagnosis.finding import Finding, Severity

_FULL: Final = 0.9
_OPEN: Final = ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2")


def zero_window(evidence: Evidence) -> Iterator[Finding]:
    """A peer has closed its window: its application doesn't read."""
    closed = [one for one in evidence.tcp(*_OPEN) if one.timer and one.timer.kind == "persist" and one.send_queue]
    for address, ends in grouped(closed, lambda one: one.remote_address).items():
        waiting = sum(one.send_queue for one in ends)
        yield Finding(
            "zero-window",
            Severity.WARNING,
            str(address),
            f"{address} takes nothing more on {counted(len(ends), 'connection')}: {waiting} bytes wait here, probed "
            f"{max(one.info.probes if one.info else 0 for one in ends)} times",
            "the application there doesn't read what it got: its buffer is full, and it says so (a window of 0)",
            "look at the application there; here, set a limit on how long to wait for it",
            next((one.process for one in ends if one.process), None),
            {"count": len(ends), "waiting_bytes": waiting},
        )


def unread(evidence: Evidence) -> Iterator[Finding]:
    """Our application doesn't read."""
    earlier = evidence.earlier()
    full = []
    for one in evidence.tcp("ESTABLISHED", "CLOSE_WAIT"):
        was, held = earlier.get(one.cookie), one.memory
        if held is None or was is None or was.memory is None or not one.inode or not one.receive_queue:
            continue
        stands = one.receive_queue >= was.receive_queue and was.receive_queue > 0
        if stands and held.receive >= _FULL * held.receive_max and was.memory.receive >= _FULL * was.memory.receive_max:
            full.append(one)
    for process, ends in by_process(full).items():
        waiting = sum(one.receive_queue for one in ends)
        yield Finding(
            "receive-buffer-full",
            Severity.WARNING,
            f"{process.name}[{process.pid}]" if process else "nobody",
            f"{waiting} bytes wait to be read on {counted(len(ends), 'connection')} whose buffers are full, and stayed "
            f"so for {evidence.seconds:.1f} s; peers: {most_common(one.remote for one in ends)}",
            "the application doesn't read, or more slowly than its peers send: they see a window of 0",
            "see what it is busy with; a larger buffer (net.ipv4.tcp_rmem) only helps against bursts",
            process,
            {"count": len(ends), "waiting_bytes": waiting},
        )


def memory_pressure(evidence: Evidence) -> Iterator[Finding]:
    """TCP's memory runs short."""
    pages = evidence.counter("sockstat TCP", "mem")
    _, pressure, limit = (*evidence.numbers("ipv4.tcp_mem", ()), 0, 0, 0)[:3]
    pruned = evidence.grown("TcpExt", "PruneCalled") + evidence.grown("TcpExt", "TCPRcvQDrop")
    began = evidence.grown("TcpExt", "TCPMemoryPressures")
    failed = evidence.grown("TcpExt", "TCPAbortOnMemory")
    if not (began or failed or (pressure and pages >= pressure)):
        return
    yield Finding(
        "memory-pressure",
        Severity.ERROR if failed or (limit and pages >= limit) else Severity.WARNING,
        "host",
        f"TCP holds {pages} pages; from {pressure} on it saves, {limit} is its limit (net.ipv4.tcp_mem). In "
        f"{evidence.seconds:.1f} s: pressure began {counted(began, 'time')}, {pruned} queues were cut, {failed} "
        "connections were ended for want of memory",
        "many connections hold data that is not read or not acknowledged; buffers shrink, and windows close",
        "layergate ls --sort=-recv --wide shows who holds it; raise net.ipv4.tcp_mem if the machine has the memory",
        None,
        {"pages": pages, "pressure": pressure, "limit": limit, "pruned": pruned, "ended": failed},
    )


def orphans(evidence: Evidence) -> Iterator[Finding]:
    """Connections that no process has any more, near the limit from which on they are reset."""
    count = evidence.counter("sockstat TCP", "orphan")
    limit = evidence.number("ipv4.tcp_max_orphans", 0)
    if not limit or count < evidence.limits.share * limit:
        return
    yield Finding(
        "orphans",
        Severity.WARNING,
        "host",
        f"{count} connections belong to no process any more; from {limit} on (net.ipv4.tcp_max_orphans) they are reset",
        "processes close while data is still under way to peers that don't take it",
        "see last-ack-stuck and zero-window for who they are; lower net.ipv4.tcp_orphan_retries",
        None,
        {"count": count, "limit": limit},
    )


def datagrams_dropped(evidence: Evidence) -> Iterator[Finding]:
    """A UDP socket's buffer is full: what comes is dropped."""
    earlier = evidence.earlier()
    for one in evidence.endpoints:
        was = earlier.get(one.cookie)
        if one.protocol != "udp" or one.memory is None or was is None or was.memory is None:
            continue
        new = one.memory.drops - was.memory.drops
        if new <= 0:
            continue
        yield Finding(
            "udp-drops",
            Severity.WARNING,
            one.local,
            f"{one.local}: {new} datagrams found no room in {evidence.seconds:.1f} s, {one.memory.drops} in all; "
            f"{one.memory.receive} of {one.memory.receive_max} bytes are taken",
            "they come faster than the application reads",
            "see what it is busy with; let it ask for more (SO_RCVBUF, up to net.core.rmem_max)",
            one.process,
            {"dropped": new, "dropped_in_all": one.memory.drops},
        )


RULES: Final[tuple[Rule, ...]] = (zero_window, unread, memory_pressure, orphans, datagrams_dropped)
