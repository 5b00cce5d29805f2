"""Connections that don't move: left half closed, never answered, to peers that are gone, silent and unprobed.

How long a connection is in a state, the kernel doesn't say. In CLOSE_WAIT and FIN_WAIT_2 nothing but the state's end
would be acknowledged, so it is there at least since the last acknowledgement that came in.

Source: RFC 9293, 3.6; tcp(7); net/ipv4/tcp_timer.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from layergate.sockets.diagnosis.evidence import (
    Evidence,
    Rule,
    by_process,
    counted,
    grouped,
    most_common,
    seconds_words,
)
from layergate.sockets.diagnosis.finding import Finding, Severity
from layergate.sockets.endpoint import Endpoint

_RETRIES_MANY: Final = 3


def _still_s(one: Endpoint) -> float:
    """Return for how long no acknowledgement has come, seconds."""
    return one.info.last_ack_received_ms / 1000 if one.info else 0.0


def _tries(one: Endpoint) -> int:
    timer = one.timer
    return timer.tries if timer and timer.kind == "retransmit" else 0


def close_wait_leak(evidence: Evidence) -> Iterator[Finding]:
    """The peer has closed, the application doesn't: it leaks descriptors."""
    patience = evidence.limits.patience_s
    waiting = (one for one in evidence.tcp("CLOSE_WAIT") if one.inode and _still_s(one) >= patience)
    for process, ends in by_process(waiting).items():
        if len(ends) < evidence.limits.count:
            continue
        least = min(map(_still_s, ends))
        yield Finding(
            "close-wait-leak",
            Severity.ERROR,
            f"{process.name}[{process.pid}]" if process else "nobody",
            f"{len(ends)} connections in CLOSE_WAIT for {seconds_words(least)} at least; "
            f"peers: {most_common(one.remote_address for one in ends)}",
            "the peers have closed, and the application has not: it doesn't read the end of the stream, or forgets to "
            "close; each holds a descriptor until the process has no more",
            "mend the application (close when recv returns 0), restart it, or for now: layergate close state:close_wait"
            + (f" pid:{process.pid}" if process else ""),
            process,
            {
                "count": len(ends),
                "seconds_min": round(least, 1),
                "unread_bytes": sum(one.receive_queue for one in ends),
            },
        )


def fin_wait_2_stuck(evidence: Evidence) -> Iterator[Finding]:
    """We have closed our direction, the peer doesn't close its own."""
    patience = evidence.limits.patience_s
    waiting = (one for one in evidence.tcp("FIN_WAIT_2") if one.inode and _still_s(one) >= patience)
    for process, ends in by_process(waiting).items():
        if len(ends) < evidence.limits.count:
            continue
        least = min(map(_still_s, ends))
        yield Finding(
            "fin-wait-2-stuck",
            Severity.WARNING,
            f"{process.name}[{process.pid}]" if process else "nobody",
            f"{len(ends)} connections in FIN_WAIT_2 for {seconds_words(least)} at least; "
            f"peers: {most_common(one.remote for one in ends)}",
            "we have shut down sending and still hold the socket; the peer has acknowledged and does not close. Only a "
            "socket that nobody holds is given up after net.ipv4.tcp_fin_timeout",
            "look at the peer (there they are in CLOSE_WAIT); let the application close what it has shut down",
            process,
            {"count": len(ends), "seconds_min": round(least, 1)},
        )


def last_ack_stuck(evidence: Evidence) -> Iterator[Finding]:
    """Our FIN is not acknowledged."""
    ending = (one for one in evidence.tcp("LAST_ACK", "FIN_WAIT_1", "CLOSING") if _tries(one) >= _RETRIES_MANY - 1)
    for address, ends in grouped(ending, lambda one: one.remote_address).items():
        if max(map(_still_s, ends)) < evidence.limits.patience_s / 10:
            continue
        yield Finding(
            "last-ack-stuck",
            Severity.WARNING,
            str(address),
            f"{counted(len(ends), 'connection')} to {address} can't end: the FIN was sent up to "
            f"{max(map(_tries, ends)) + 1} times in {', '.join(sorted({one.state for one in ends}))}, no answer for "
            f"{seconds_words(max(map(_still_s, ends)))}",
            "the peer is gone, or something on the way drops its answers",
            "nothing leaks for ever: they end after net.ipv4.tcp_orphan_retries; see whether the peer can be reached",
            None,
            {"count": len(ends), "tries_max": max(map(_tries, ends))},
        )


def syn_sent_stuck(evidence: Evidence) -> Iterator[Finding]:
    """A connect that nobody answers, not even with a refusal."""
    asking = (
        one for one in evidence.tcp("SYN_SENT") if max(_tries(one), one.info.retransmitted if one.info else 0) >= 1
    )
    for remote, ends in grouped(asking, lambda one: one.remote).items():
        process = next((one.process for one in ends if one.process), None)
        tries = max(max(_tries(one), one.info.retransmitted if one.info else 0) for one in ends)
        yield Finding(
            "syn-sent-stuck",
            Severity.ERROR,
            str(remote),
            f"{counted(len(ends), 'connect')} to {remote} without an answer: the SYN was sent up to {tries + 1} times",
            "the SYN or its answer is dropped on the way (a packet filter), the host is down, or its queue is full. "
            "A port that nobody listens on would have refused at once",
            "layergate trace shows whether a filter here drops it; look at filters on the way, and at the peer's queue",
            process,
            {"count": len(ends), "tries": tries},
        )


def dead_peer(evidence: Evidence) -> Iterator[Finding]:
    """Data, or probes, that a peer doesn't acknowledge any more."""
    for one in evidence.tcp("ESTABLISHED", "CLOSE_WAIT"):
        info = one.info
        if info is None:
            continue
        tries = max(_tries(one), info.backoff if info.unacked else 0)
        probed = one.timer is not None and one.timer.kind == "keepalive" and info.probes > 1
        if tries < _RETRIES_MANY and not probed:
            continue
        how = f"{one.send_queue} bytes, sent {tries + 1} times" if tries >= _RETRIES_MANY else f"{info.probes} probes"
        yield Finding(
            "dead-peer",
            Severity.ERROR,
            str(one.remote),
            f"{one.remote} acknowledges nothing: {how}; its last acknowledgement came "
            f"{seconds_words(_still_s(one))} ago",
            "the peer is gone without a word (power, cable, a NAT that forgot), or the way to it is cut",
            "the kernel gives up after net.ipv4.tcp_retries2, a quarter of an hour; TCP_USER_TIMEOUT makes it sooner. "
            f"Now: layergate close remote:{one.remote}",
            one.process,
            {"tries": tries, "unacknowledged_bytes": one.send_queue, "silent_s": round(_still_s(one), 1)},
        )


def idle_unprobed(evidence: Evidence) -> Iterator[Finding]:
    """Long silent connections that nothing probes: they may be dead, and nobody would know."""
    silent = [
        one
        for one in evidence.tcp("ESTABLISHED")
        if one.timer is None and one.inode and (one.idle_s or 0.0) >= evidence.limits.idle_s
    ]
    for process, ends in by_process(silent).items():
        longest = max(one.idle_s or 0.0 for one in ends)
        yield Finding(
            "idle-unprobed",
            Severity.WARNING,
            f"{process.name}[{process.pid}]" if process else "nobody",
            f"{counted(len(ends), 'connection')} silent for up to {seconds_words(longest)}, without keepalive; "
            f"peers: {most_common(one.remote for one in ends)}",
            "a peer that is gone would never be noticed, and a NAT or a firewall on the way forgets silent connections",
            "let the application set SO_KEEPALIVE (and TCP_KEEPIDLE: two hours is the default), or probe by itself",
            process,
            {"count": len(ends), "idle_s_max": round(longest, 1)},
        )


RULES: Final[tuple[Rule, ...]] = (
    close_wait_leak,
    fin_wait_2_stuck,
    last_ack_stuck,
    syn_sent_stuck,
    dead_peer,
    idle_unprobed,
)
