"""How much may be on its way: slow start, congestion avoidance, fast retransmit and NewReno's fast recovery.

Windows count segments, as Linux's do. What the RFCs say by inflating the window with each duplicate ACK is said here
from the other side, as Linux says it: each duplicate ACK means that one segment has left the network, so that fewer are
in flight. The window itself then doesn't jump.

- OPEN: an ACK of new data opens the window, by what it acknowledges below *ssthresh*, above by one a round trip; only
  while the window is what holds the sender back.
- RECOVERY, begun by the third duplicate ACK: half of the flight becomes the window. The first segment is sent again at
  once. A partial ACK, one that doesn't cover all that was sent by then, shows the next hole: the same again.
- LOSS, begun by a timeout: the window is one segment, and all that was in flight is sent again as it opens.
- Duplicate ACKs of what was sent before the last of these began say nothing new (RFC 6582, 3.2, step 1); in LOSS they
  don't even count, until something new was sent.

Worked example: 10 in flight, the first is lost. Three duplicate ACKs: ssthresh 5, window 5, in flight 10 - 3. Two more,
in flight 5, one more, in flight 4: a new segment may leave.

Source: RFC 5681, 3, 4.1; RFC 6582, 3.2; RFC 6928 (the initial window); RFC 3042 (new segments for the first two
duplicate ACKs).
"""

from __future__ import annotations

import enum
from typing import Final

from layergate.tcp.config import Config

SSTHRESH_MAX: Final = 0x7FFF_FFFF
"""As high as possible: RFC 5681, 3.1. Linux's TCP_INFINITE_SSTHRESH."""


class Phase(enum.StrEnum):
    """What the sender does about losses."""

    OPEN = "open"
    RECOVERY = "recovery"
    LOSS = "loss"


class NewReno:
    """The congestion window of one connection, in segments."""

    __slots__ = ("_config", "_gained", "cwnd", "duplicates", "phase", "recover", "ssthresh")

    def __init__(self, config: Config, start: int) -> None:
        """Begin with the initial window; *start* is the first sequence number."""
        self._config = config
        self.cwnd = config.initial_window_segments
        self.ssthresh = SSTHRESH_MAX
        self.phase = Phase.OPEN
        self.duplicates = 0
        self.recover = start - 1  # the first window's losses are nobody's old news
        self._gained = 0

    def established(self, *, syn_losses: int) -> None:
        """Begin to send data: with one segment where the handshake was lost more than once (RFC 5681, 3.1)."""
        if syn_losses > 1:
            self.cwnd = 1

    def acknowledged(self, segments: int, una: int, *, limited: bool) -> bool:
        """Take an ACK of *segments* segments in, up to *una*; return whether the segment at *una* is lost.

        *limited*: whether the window held the sender back.
        """
        if self.phase is Phase.RECOVERY:
            if una < self.recover:
                # One of them filled the hole; as many of the others as there are were counted as duplicates before.
                self.duplicates = max(self.duplicates - max(segments - 1, 0), 0)
                return True
            self.cwnd = self.ssthresh
        self.duplicates = 0
        if self.phase is not Phase.OPEN and una >= self.recover:
            was_loss = self.phase is Phase.LOSS
            self.phase = Phase.OPEN
            if not was_loss:
                return False
        if limited or self.phase is Phase.LOSS:
            self._grow(segments)
        return False

    def _grow(self, segments: int) -> None:
        if self.cwnd < self.ssthresh:
            used = min(segments, self.ssthresh - self.cwnd)
            self.cwnd += used
            segments -= used
        self._gained += segments
        if self._gained >= self.cwnd:
            self._gained -= self.cwnd
            self.cwnd += 1

    def duplicate(self, una: int, end: int, flight: int) -> bool:
        """Take a duplicate ACK in, with *flight* segments out up to *end*; return whether the first of them is lost."""
        if self.phase is Phase.LOSS and end <= self.recover:
            return False  # what left the network was counted as lost already
        self.duplicates = min(self.duplicates + 1, flight)
        if self.phase is not Phase.OPEN or self.duplicates < self._config.duplicate_acks or una <= self.recover:
            return False
        self._reduce(flight)
        self.phase, self.recover, self.cwnd = Phase.RECOVERY, end, self.ssthresh
        return True

    def timed_out(self, end: int, flight: int, *, again: bool) -> None:
        """All *flight* segments up to *end* are lost. *again*: so was the first one's retransmission."""
        if not again:
            self._reduce(flight)
        self.phase, self.recover, self.cwnd, self.duplicates = Phase.LOSS, end, 1, 0

    def idled(self, rtos: float) -> None:
        """Nothing was sent for so many timeouts: halve the window for each, down to the initial one."""
        floor = min(self._config.initial_window_segments, self.cwnd)
        self.cwnd = max(self.cwnd >> min(int(rtos), 32), floor)
        self._gained = 0

    def _reduce(self, flight: int) -> None:
        self.ssthresh = max(flight // 2, 2)
        self._gained = 0
