"""struct tcp_info and the socket's memory, as numbers with names. Older kernels send less: what is missing is 0.

Source: linux/tcp.h (struct tcp_info), linux/sock_diag.h (SK_MEMINFO_*).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_INFO: Final = struct.Struct("=8B24I4Q6I4Q2I2Q6I2HI")


class TcpInfo(NamedTuple):
    """What the kernel tells of a connection. Times are ms where they end in _ms, µs where in _us; rates are bytes/s."""

    state: int
    congestion_state: int
    retransmits: int
    """Retransmissions of the segment that is due, without an answer."""
    probes: int
    backoff: int
    options: int
    window_scales: int
    flags: int
    rto_us: int
    ato_us: int
    send_mss: int
    receive_mss: int
    unacked: int
    """Segments in flight; of a listener, connections that wait for accept."""
    sacked: int
    """Of a listener, its backlog."""
    lost: int
    retransmitting: int
    fackets: int
    last_data_sent_ms: int
    last_ack_sent_ms: int
    last_data_received_ms: int
    last_ack_received_ms: int
    path_mtu: int
    receive_ssthresh: int
    rtt_us: int
    rtt_variance_us: int
    send_ssthresh: int
    congestion_window: int
    advertised_mss: int
    reordering: int
    receive_rtt_us: int
    receive_space: int
    retransmitted: int
    """Segments that were sent again, in all."""
    pacing_rate: int
    pacing_rate_max: int
    bytes_acked: int
    bytes_received: int
    segments_out: int
    segments_in: int
    bytes_unsent: int
    rtt_min_us: int
    data_segments_in: int
    data_segments_out: int
    delivery_rate: int
    busy_us: int
    window_limited_us: int
    buffer_limited_us: int
    delivered: int
    delivered_ce: int
    bytes_sent: int
    bytes_retransmitted: int
    dsack_duplicates: int
    reorderings_seen: int
    out_of_order_in: int
    send_window: int
    """The window that the peer advertises, bytes. 0: it takes nothing now."""
    receive_window: int
    rehashed: int
    timeouts: int
    timeout_recoveries: int
    timeout_ms: int


def tcp_info(data: bytes) -> TcpInfo:
    """Return *data*, a struct tcp_info of whatever length, as a TcpInfo."""
    if len(data) < _INFO.size:
        data += bytes(_INFO.size - len(data))
    return TcpInfo._make(_INFO.unpack_from(data))


def compose_info(info: TcpInfo) -> bytes:
    """Return *info* as a struct tcp_info: the inverse of `tcp_info`."""
    return _INFO.pack(*info)


class Memory(NamedTuple):
    """What a socket holds and may hold, bytes; *drops*: packets that found no room, in all."""

    receive: int
    receive_max: int
    send: int
    send_max: int
    forward: int
    send_queued: int
    options: int
    backlog: int
    drops: int


_MEMORY: Final = struct.Struct("=9I")


def memory(data: bytes) -> Memory:
    """Return *data*, the attribute SKMEMINFO, as a Memory."""
    return Memory._make(_MEMORY.unpack_from(data + bytes(max(0, _MEMORY.size - len(data)))))
