"""Listeners: connections that wait for accept, those that found no room, half-open ones, floods.

Three numbers rule the accept queue. The application asks for a backlog; the kernel cuts it to net.core.somaxconn
without a word; the queue holds one more than that. What comes when it is full is dropped, and the client sends again,
or (with net.ipv4.tcp_abort_on_overflow) is reset. The SYN queue before it is as long as the backlog, and where SYN
cookies are on, a full one costs TCP's options and not the connection.

Source: listen(2), tcp(7); net/ipv4/tcp_ipv4.c (tcp_conn_request), inet_connection_sock.c.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from layergate.sockets.diagnosis.evidence import Evidence, Rule, grouped, most_common
from layergate.sockets.diagnosis.finding import Finding, Severity
from layergate.sockets.endpoint import Endpoint


def _overflow_words(evidence: Evidence, listener: Endpoint) -> str:
    """Say what somaxconn, the backlog and tcp_abort_on_overflow do together."""
    limit = evidence.number("core.somaxconn", 4096)
    backlog = listener.send_queue
    cut = f"cut to net.core.somaxconn ({limit}), if it asked for more" if backlog == limit else "as it asked for"
    abort = evidence.number("ipv4.tcp_abort_on_overflow", 0)
    then = (
        "clients are reset at once (net.ipv4.tcp_abort_on_overflow is on)"
        if abort
        else "clients' handshakes are dropped: they believe to be connected or send again, and see delays of seconds"
    )
    length = f"the queue holds {backlog + 1}: the application's backlog of {backlog}, {cut}, and one"
    return f"{length}. When it is full, {then}"


def _raise_words(evidence: Evidence, listener: Endpoint) -> str:
    limit = evidence.number("core.somaxconn", 4096)
    if listener.send_queue >= limit:
        return f"and raise net.core.somaxconn ({limit}), which cuts its backlog"
    return f"and let it ask for a longer backlog (it may have {limit}: net.core.somaxconn)"


def accept_queue(evidence: Evidence) -> Iterator[Finding]:
    """An accept queue that is full, or has just turned connections away."""
    earlier = evidence.earlier()
    for one in evidence.tcp("LISTEN"):
        drops = one.memory.drops if one.memory else 0
        was = earlier.get(one.cookie)
        before = was.memory.drops if was and was.memory else 0
        new = max(drops - before, 0)
        is_full = one.receive_queue > one.send_queue
        if not is_full and not new:
            continue
        state = f"{one.receive_queue} connections wait for accept, and {one.send_queue + 1} are all that fit"
        lost = f"; {new} turned away in {evidence.seconds:.1f} s, {drops} since it listens" if drops else ""
        yield Finding(
            "accept-queue-full" if is_full else "accept-queue-overflow",
            Severity.ERROR,
            one.local,
            f"{one.local}: {state}{lost}",
            "the application accepts more slowly than connections come, or not at all. "
            + _overflow_words(evidence, one),
            f"see why it doesn't accept (blocked, too few workers), {_raise_words(evidence, one)}",
            one.process,
            {"waiting": one.receive_queue, "backlog": one.send_queue, "dropped": new, "dropped_in_all": drops,
             "somaxconn": evidence.number("core.somaxconn", 4096),
             "abort_on_overflow": evidence.number("ipv4.tcp_abort_on_overflow", 0)},
        )  # fmt: skip


def syn_flood(evidence: Evidence) -> Iterator[Finding]:
    """Half-open connections that nobody completes."""
    listeners = {one.local_port: one for one in evidence.tcp("LISTEN")}
    half_open = grouped(evidence.tcp("SYN_RECEIVED"), lambda one: (one.local_address, one.local_port))
    for (address, port), ends in half_open.items():
        unanswered = [one for one in ends if one.timer and one.timer.tries]
        listener = listeners.get(port)
        room = listener.send_queue if listener else 0
        if len(ends) < evidence.limits.flood and not (room and len(ends) >= room and len(unanswered) * 2 > len(ends)):
            continue
        sources = Counter(str(one.remote_address) for one in ends)
        cookies = evidence.grown("TcpExt", "SyncookiesSent")
        many = len(sources) > len(ends) // 2
        yield Finding(
            "syn-flood",
            Severity.ERROR,
            f"{ends[0].local}",
            f"{len(ends)} half-open connections to {address}:{port} (room for {room}), {len(unanswered)} of them with "
            f"the SYN-ACK sent again; from {len(sources)} {'address' if len(sources) == 1 else 'addresses'}: "
            f"{most_common(str(one.remote_address) for one in ends)}"
            + (f"; {cookies} SYN cookies sent in {evidence.seconds:.1f} s" if cookies else ""),
            "SYNs come whose sender doesn't answer our SYN-ACK: a flood with forged senders, or a filter drops our "
            "answers",
            ("the senders are forged: net.ipv4.tcp_syncookies=1 keeps the port open" if many else
             "block the sender: layergate guard, or a filter at INBOUND_TRANSPORT") + "; if the clients are real, look "
            "for what drops SYN-ACKs on the way back",
            listener.process if listener else None,
            {"half_open": len(ends), "sources": len(sources), "top_source": sources.most_common(1)[0][0],
             "top_count": sources.most_common(1)[0][1], "cookies": cookies},
        )  # fmt: skip


def syn_queue(evidence: Evidence) -> Iterator[Finding]:
    """The SYN queue overflows: cookies are sent, or SYNs are dropped."""
    cookies = evidence.grown("TcpExt", "SyncookiesSent")
    dropped = evidence.grown("TcpExt", "TCPReqQFullDrop")
    if not cookies and not dropped:
        return
    mode = evidence.number("ipv4.tcp_syncookies", 1)
    yield Finding(
        "syn-queue-full",
        Severity.WARNING if cookies and not dropped else Severity.ERROR,
        "host",
        f"in {evidence.seconds:.1f} s {cookies} SYN cookies were sent and {dropped} SYNs dropped: a SYN queue is full",
        "more half-open connections than a listener's backlog: a burst, or a flood; "
        + ("with cookies connections still come, without some of TCP's options" if mode else "cookies are off"),
        "net.ipv4.tcp_syncookies=1; a longer backlog (and net.ipv4.tcp_max_syn_backlog); see syn-flood for who it is",
        None,
        {"cookies": cookies, "dropped": dropped, "tcp_syncookies": mode},
    )


RULES: Final[tuple[Rule, ...]] = (accept_queue, syn_flood, syn_queue)
