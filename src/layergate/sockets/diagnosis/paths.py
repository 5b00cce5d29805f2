"""What the network does to connections: segments sent again, out of order, late.

By remote address, since that is what a path is known by. Looked at is what happened between the two views, and where
that is too little to tell, the connection's whole life.

Source: tcp(7), TCP_INFO; RFC 4737 (reordering).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from layergate.sockets.diagnosis.evidence import Evidence, Rule, counted, grouped
from layergate.sockets.diagnosis.finding import Finding, Severity
from layergate.sockets.endpoint import Endpoint

_REORDERINGS: Final = 10
_OPEN: Final = ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2")


def _sent_again(one: Endpoint, was: Endpoint | None, at_least: int) -> tuple[int, int]:
    """Return how many segments were sent and sent again: between the views, or if those are too few, in all."""
    info = one.info
    assert info is not None
    before = was.info if was else None
    if before is not None:
        sent = info.data_segments_out - before.data_segments_out
        if sent >= at_least:
            return sent, info.retransmitted - before.retransmitted
    return info.data_segments_out, info.retransmitted


def retransmission(evidence: Evidence) -> Iterator[Finding]:
    """Too many segments are sent again."""
    earlier, limits = evidence.earlier(), evidence.limits
    for address, ends in grouped(evidence.tcp(*_OPEN), lambda one: one.remote_address).items():
        known = [one for one in ends if one.info is not None]
        counts = [_sent_again(one, earlier.get(one.cookie), limits.loss_segments) for one in known]
        sent, again = sum(count for count, _ in counts), sum(count for _, count in counts)
        if sent < limits.loss_segments or again < limits.loss * sent or again < limits.count:
            continue
        worst = max(known, key=lambda one: one.info.retransmitted if one.info else 0)
        yield Finding(
            "retransmission",
            Severity.WARNING,
            str(address),
            f"to {address}, {again} of {sent} segments were sent again ({100 * again / sent:.0f} %), over "
            f"{counted(len(known), 'connection')}",
            "packets are lost on the way: a full link, a bad cable or radio, a policer, too large an MTU somewhere",
            f"look where they are lost (mtr {address}); layergate trace shows what is dropped here, and by whom",
            worst.process,
            {"sent": sent, "again": again, "share": round(again / sent, 3)},
        )


def reordering(evidence: Evidence) -> Iterator[Finding]:
    """Segments arrive out of order."""
    for address, ends in grouped(evidence.tcp(*_OPEN), lambda one: one.remote_address).items():
        known = [one for one in ends if one.info is not None]
        seen = sum(one.info.reorderings_seen for one in known if one.info)
        received = sum(one.info.out_of_order_in for one in known if one.info)
        degree = max((one.info.reordering for one in known if one.info), default=3)
        if seen < _REORDERINGS and received < _REORDERINGS * 5:
            continue
        yield Finding(
            "reordering",
            Severity.WARNING,
            str(address),
            f"to {address}: {seen} times segments overtook others (by up to {degree}); {received} came in out of order",
            "several paths, or queues, carry one connection: TCP takes what is overtaken for lost, and slows down",
            "let each connection keep to one path (hash by addresses and ports, not packet by packet)",
            next((one.process for one in known if one.process), None),
            {"seen": seen, "degree": degree, "out_of_order_in": received},
        )


def rtt_jumped(evidence: Evidence) -> Iterator[Finding]:
    """Round trips take many times what they took."""
    limits = evidence.limits
    for address, ends in grouped(evidence.tcp("ESTABLISHED", "CLOSE_WAIT"), lambda one: one.remote_address).items():
        slow = [
            one
            for one in ends
            if one.info
            and 0 < one.info.rtt_min_us < 0xFFFFFFFF
            and one.info.rtt_us >= limits.rtt_factor * one.info.rtt_min_us
            and one.info.rtt_us - one.info.rtt_min_us >= limits.rtt_ms * 1000
        ]
        if not slow:
            continue
        worst = max(slow, key=lambda one: one.info.rtt_us if one.info else 0)
        assert worst.info is not None
        yield Finding(
            "rtt-jumped",
            Severity.WARNING,
            str(address),
            f"round trips to {address} take {worst.info.rtt_us / 1000:.0f} ms, and have taken "
            f"{worst.info.rtt_min_us / 1000:.1f} ms ({counted(len(slow), 'connection')})",
            "a queue on the way has filled (a link that is full, buffers that are too large), or the path has changed",
            "see what fills the link; a fair queue (fq, fq_codel, cake) keeps others' delays short",
            worst.process,
            {"rtt_ms": worst.info.rtt_us / 1000, "rtt_min_ms": worst.info.rtt_min_us / 1000, "count": len(slow)},
        )


RULES: Final[tuple[Rule, ...]] = (retransmission, reordering, rtt_jumped)
