"""Everything about a connection that can be tuned, and where each default comes from.

The defaults are those of Linux 6.18 on an Ethernet, as far as a number can say it: sysctls under net.ipv4 by their
name, constants of include/net/tcp.h in capitals. `RFC` differs where the RFCs have another number.

Worked example: an impatient host for a test is `Config(syn_retries=1, retries=3, time_wait_s=1.0)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from layergate.tcp.checksum import Address

_HEADERS_V4: Final = 20 + 20  # IP and TCP without options: what the MSS leaves out (RFC 9293, 3.7.1)
_HEADERS_V6: Final = 40 + 20
_PACKET_BYTES_MAX_V4: Final = 0xFFFF  # Linux's IPV4_MAX_PMTU: less than loopback's MTU
MSS_DEFAULT_V4: Final = 536
"""What a peer takes that sends no MSS option (RFC 9293, 3.7.1)."""
MSS_DEFAULT_V6: Final = 1220
"""The same over IPv6."""
MSS_MIN: Final = 48
"""Linux's tcp_min_snd_mss, and like it with the options counted in: less is not believed."""
WINDOW_SCALE_MAX: Final = 14
"""RFC 7323, 2.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a host's TCP behaves. Times in seconds, sizes in bytes.

    Raises:
        ValueError: a number that no connection could live with.
    """

    mtu: int = 1500
    """Ethernet's."""
    mss: int | None = None
    """The longest payload that is asked for, options counted in; None for what the MTU leaves."""
    send_buffer_bytes: int = 87040
    """What Linux grows tcp_wmem's 16 384 to for ten segments of an Ethernet, as `ss -tm` shows it."""
    receive_buffer_bytes: int = 65536
    """Half of tcp_rmem's 131 072: the other half is for the packets' own upkeep. It stays as it is; Linux's grows."""
    window_scale: int | None = 7
    """The shift that is offered: enough for tcp_rmem's 6 291 456. None: the option isn't sent, nor taken up."""
    timestamps: bool = True
    """tcp_timestamps."""
    nagle: bool = True
    """Hold a short segment back while an earlier one is not acknowledged; off is TCP_NODELAY."""
    initial_window_segments: int = 10
    """TCP_INIT_CWND; RFC 6928."""
    slow_start_after_idle: bool = True
    """tcp_slow_start_after_idle; RFC 5681, 4.1."""
    duplicate_acks: int = 3
    """tcp_reordering: how many duplicate ACKs say that a segment is lost; RFC 5681, 3.2."""
    delayed_ack_s: float = 0.04
    """TCP_ATO_MIN. RFC 1122, 4.2.3.2: less than half a second."""
    quick_acks: int = 16
    """TCP_MAX_QUICKACKS: how many segments of a new connection are acknowledged at once."""
    rto_s_initial: float = 1.0
    """TCP_TIMEOUT_INIT; RFC 6298, 2.1."""
    rto_s_after_syn_loss: float = 3.0
    """TCP_TIMEOUT_FALLBACK; RFC 6298, 5.7."""
    rto_s_min: float = 0.2
    """tcp_rto_min_us."""
    rto_variance_s_min: float = 0.2
    """Linux holds the variance's share of the timeout above tcp_rto_min_us, rather than the sum."""
    rto_s_max: float = 120.0
    """tcp_rto_max_ms; RFC 6298, 2.5."""
    syn_again_s: float | None = 0.008
    """TCP_TIMEOUT_MIN, two ticks of 250 Hz: when a SYN that met an older connection is repeated. None: no sooner."""
    syn_retries: int = 6
    """tcp_syn_retries: how often a SYN is sent again besides the linear ones; no longer than so many would take."""
    syn_linear_timeouts: int = 4
    """tcp_syn_linear_timeouts: so many at the first timeout, before it begins to double."""
    syn_ack_retries: int = 5
    """tcp_synack_retries."""
    retries: int = 15
    """tcp_retries2: a connection whose peer is silent is given up after the time that so many would take."""
    orphan_retries: int = 8
    """tcp_orphan_retries is 0, which means 8: the same after close."""
    user_timeout_s: float | None = None
    """TCP_USER_TIMEOUT; RFC 9293, 3.8.3."""
    keepalive: bool = False
    """SO_KEEPALIVE; RFC 9293, 3.8.4."""
    keepalive_idle_s: float = 7200.0
    """tcp_keepalive_time."""
    keepalive_interval_s: float = 75.0
    """tcp_keepalive_intvl."""
    keepalive_probes: int = 9
    """tcp_keepalive_probes."""
    fin_wait_2_s: float = 60.0
    """tcp_fin_timeout: how long a connection that nobody holds any more waits for the peer's FIN."""
    time_wait_s: float = 60.0
    """TCP_TIMEWAIT_LEN. RFC 9293, 3.4.2: twice the segment's life of two minutes."""
    invalid_ack_interval_s: float = 0.5
    """tcp_invalid_ratelimit: of segments without data that fit nowhere, one in this time is answered."""
    abort_on_overflow: bool = False
    """tcp_abort_on_overflow."""
    somaxconn: int = 4096
    """net.core.somaxconn."""
    syn_backlog_max: int = 4096
    """tcp_max_syn_backlog of a machine with much memory."""

    def __post_init__(self) -> None:
        mss = self.mss_for(IPv4Address(0))
        window_scale = self.window_scale or 0
        if not MSS_MIN <= mss <= 0xFFFF or self.mtu < MSS_MIN + _HEADERS_V6:
            raise ValueError(f"mss {mss}, mtu {self.mtu}: segments hold {MSS_MIN} to 65535 bytes")
        if min(self.send_buffer_bytes, self.receive_buffer_bytes) < 1:
            raise ValueError("a buffer holds at least a byte")
        if not 0 <= window_scale <= WINDOW_SCALE_MAX:
            raise ValueError(f"window_scale {window_scale}: 0 to {WINDOW_SCALE_MAX}")
        if self.receive_buffer_bytes < 2 << window_scale and window_scale:
            raise ValueError(
                f"receive_buffer_bytes {self.receive_buffer_bytes}: with window_scale {window_scale} a window is told "
                f"in units of {1 << window_scale} bytes, and two at least must fit"
            )
        if self.initial_window_segments < 1 or self.duplicate_acks < 1:
            raise ValueError("initial_window_segments and duplicate_acks are at least 1")
        if not 0 < self.rto_s_min <= self.rto_s_initial <= self.rto_s_max:
            raise ValueError("0 < rto_s_min <= rto_s_initial <= rto_s_max")

    def mss_for(self, address: Address) -> int:
        """Return the MSS to ask for, of *address*'s family."""
        if self.mss is not None:
            return self.mss
        if isinstance(address, IPv4Address):
            return min(self.mtu, _PACKET_BYTES_MAX_V4) - _HEADERS_V4
        return self.mtu - _HEADERS_V6

    def give_up_after_s(self, retries: int, first_s: float | None = None) -> float:
        """Return how long *retries* timeouts take, each twice the one before, up to the longest.

        The first is *first_s*, or the least. Linux counts time rather than retries: with 15 it is 924.6 s.
        """
        total, timeout = 0.0, self.rto_s_min if first_s is None else first_s
        for _ in range(retries + 1):
            total += timeout
            timeout = min(timeout * 2, self.rto_s_max)
        return total


LINUX: Final = Config()
RFC: Final = Config(
    syn_again_s=None,
    syn_linear_timeouts=0,
    rto_s_min=1.0,
    rto_variance_s_min=0.001,  # the clock's granularity, G
    time_wait_s=240.0,
    quick_acks=0,
)
"""What the RFCs say where Linux says something else: RFC 6298, 2.3, 2.4; RFC 9293, 3.4.2; no quick ACKs."""
