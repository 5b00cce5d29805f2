"""The retransmission timeout, from measured round trips.

- The first sample R: SRTT = R, RTTVAR = R / 2. Later ones: RTTVAR moves a quarter of the way to |SRTT - R|, then SRTT
  an eighth of the way to R. RTO = SRTT + 4 RTTVAR, between a least and a longest.
- Each timeout doubles the RTO; a sample ends that. A segment that was sent twice gives no sample (Karn), unless
  timestamps tell which of the two was acknowledged.

Worked example, with Linux's least variance of 0.2 s: samples of 0.1 and 0.2 s make RTTVAR 0.05 then 0.0625, SRTT 0.1
then 0.1125, RTO 0.3 then 0.3625.

Source: RFC 6298, 2, 3, 5; RFC 7323, 4.
"""

from __future__ import annotations

from layergate.tcp.config import Config


class RoundTrip:
    """The round trips of one connection, and what follows for the timeout."""

    __slots__ = ("_base_s", "_config", "backoffs", "srtt_s", "variance_s")

    def __init__(self, config: Config) -> None:
        self._config = config
        self._base_s = config.rto_s_initial
        self.backoffs = 0
        self.srtt_s: float | None = None
        self.variance_s: float | None = None

    @property
    def rto_s(self) -> float:
        """Return the timeout for what is sent now."""
        return min(self._base_s * (1 << min(self.backoffs, 16)), self._config.rto_s_max)

    def sample(self, rtt_s: float) -> None:
        """Take a measured round trip in."""
        if self.srtt_s is None or self.variance_s is None:
            self.srtt_s, self.variance_s = rtt_s, rtt_s / 2
        else:
            self.variance_s += (abs(self.srtt_s - rtt_s) - self.variance_s) / 4
            self.srtt_s += (rtt_s - self.srtt_s) / 8
        config = self._config
        rto_s = self.srtt_s + max(4 * self.variance_s, config.rto_variance_s_min)
        self._base_s = min(max(rto_s, config.rto_s_min), config.rto_s_max)
        self.backoffs = 0

    def back_off(self) -> None:
        """Double the timeout."""
        self.backoffs += 1

    def established(self, *, syn_was_lost: bool) -> None:
        """Begin to send data: where the SYN's timer expired and nothing was measured, more patiently (5.7)."""
        self.backoffs = 0
        if syn_was_lost and self.srtt_s is None:
            self._base_s = self._config.rto_s_after_syn_loss
