"""The receiving half of a connection: what has arrived, what is missing, the window, and when to acknowledge.

    read             nxt                    edge
     │ waits for      │ the window           │
     │ the process    │ ··▓▓▓····▓▓··        │      ▓ arrived out of order
     └────────────────┴──────────────────────┴──

- The window's right edge never moves to the left. It moves right by a segment at least, or by half of the buffer: no
  silly windows.
- What lies outside of the window is cut off. So what waits out of order is never more than the buffer. Nor is it in
  more pieces than the buffer has room for; further ones are dropped, and come again.
- Acknowledged at once: what is out of order, what fills a gap, a FIN, more than a full segment; the first segments
  of a connection, until the process answers (then an answer may carry the ACK). Anything else within `delayed_ack_s`.

Worked example: nxt is 100; 150:200 arrives, then 100:150. The first is kept, and acknowledged at once with 100; the
second fills the gap: nxt is 200, 100 bytes are new, acknowledged at once.

Source: RFC 9293, 3.8.6.2.2 (silly windows), 3.8.6.3 (delayed ACKs), 3.10.7.4 (trimming); RFC 5681, 4.2; RFC 7323, 4.3;
Linux, tcp_input.c (quick ACKs, ping-pong mode).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from layergate.tcp.config import Config

SEGMENT_BYTES_FIRST: Final = 536
"""How long the peer's segments are taken to be until a longer one comes: TCP_MSS_DEFAULT."""
WINDOW_MAX: Final = 0xFFFF
PIECE_BYTES_MIN: Final = 64
"""What a piece out of order counts for at least: its upkeep is more than a byte."""


def first_window(config: Config, mss: int) -> int:
    """Return the window that a SYN offers, which is not scaled: whole segments of *mss* bytes, as Linux rounds it."""
    space = min(config.receive_buffer_bytes, WINDOW_MAX)
    return space - space % mss if space > mss else space


class Receiver:
    """The receiving half.

    *start*: the number of the first byte, one behind the peer's SYN; *window*: what our SYN offers.
    """

    __slots__ = (
        "_buffer",
        "_config",
        "_last_data",
        "_later",
        "_quick",
        "_segment_bytes",
        "ack_at",
        "acknowledged",
        "edge",
        "fin_at",
        "is_interactive",
        "mss",
        "nxt",
        "shift",
    )

    def __init__(self, config: Config, start: int, *, mss: int, shift: int, window: int) -> None:
        self._config = config
        self.mss, self.shift = mss, shift
        self.nxt = self.acknowledged = start
        self.edge = start + window
        self.fin_at: int | None = None
        self.ack_at: float | None = None
        self.is_interactive = False
        self._quick = config.quick_acks
        self._buffer = bytearray()
        self._later: list[tuple[int, bytes]] = []  # by start; neither overlap nor touch nxt
        self._last_data: float | None = None
        self._segment_bytes = min(mss, SEGMENT_BYTES_FIRST)

    @property
    def available(self) -> int:
        """How many bytes the process can read."""
        return len(self._buffer)

    @property
    def has_ended(self) -> bool:
        """Whether the peer's FIN, and all before it, has arrived."""
        return self.fin_at is not None and self.nxt > self.fin_at

    @property
    def has_gap(self) -> bool:
        """Whether something waits out of order."""
        return bool(self._later)

    def accepts(self, start: int, end: int) -> bool:
        """Whether a segment from *start* to *end* belongs here: some of it in the window, or empty at its edges."""
        return end >= self.nxt and start <= self.edge and not (end == self.nxt and start < end)

    def take(self, start: int, payload: bytes, *, fin: bool, now: float) -> int:
        """Take what a segment brings in; return by how many bytes the stream grew."""
        end = start + len(payload)
        if fin and end <= self.edge and self.fin_at is None and not self._reaches_beyond(end):
            self.fin_at = end
        if self.fin_at is not None:
            end = min(end, self.fin_at)
        cut_start, cut_end = max(start, self.nxt), min(end, self.edge)
        data = payload[cut_start - start : cut_end - start] if cut_end > cut_start else b""
        self._last_data = now
        self._segment_bytes = min(max(self._segment_bytes, len(payload)), self.mss)
        if cut_start > self.nxt:
            if data:
                self._keep(cut_start, data)
            self.ack_at = now
            return 0
        before, had_gap = self.nxt, bool(self._later)
        self._buffer += data
        self.nxt += len(data)
        if had_gap:
            self._fill()
        grown = self.nxt - before
        if self.fin_at == self.nxt:
            self.nxt += 1
            self.ack_at = now
        elif had_gap or not data:
            self.ack_at = now
        else:
            self._delay(now)
        return grown

    def _reaches_beyond(self, end: int) -> bool:
        """Whether something waits that stands behind *end*: then there can be no FIN."""
        return bool(self._later) and self._later[-1][0] + len(self._later[-1][1]) > end

    def _delay(self, now: float) -> None:
        full = self.nxt - self.acknowledged > self._segment_bytes
        quick = self._quick > 0 and not self.is_interactive
        due = now if full or quick else now + self._config.delayed_ack_s
        self.ack_at = due if self.ack_at is None else min(self.ack_at, due)

    def _keep(self, start: int, data: bytes) -> None:
        """Keep *data* for later: only those of its bytes that are not there yet."""
        at = bisect_left(self._later, (start, b""))
        if at:
            before, kept = self._later[at - 1]
            cut = before + len(kept) - start
            if cut > 0:
                start, data = start + cut, data[cut:]
        pieces = []
        while data:
            if at < len(self._later) and self._later[at][0] < start + len(data):
                following, kept = self._later[at]
                if following > start:
                    pieces.append((start, data[: following - start]))
                cut = following + len(kept) - start
                start, data = start + cut, data[cut:]
                at += 1
            else:
                pieces.append((start, data))
                break
        for piece in pieces:
            if (len(self._later) + 1) * PIECE_BYTES_MIN <= self._config.receive_buffer_bytes:
                self._later.insert(bisect_left(self._later, piece), piece)

    def _fill(self) -> None:
        count = 0
        for start, data in self._later:
            if start > self.nxt:
                break
            count += 1
            fresh = data[self.nxt - start :]
            self._buffer += fresh
            self.nxt += len(fresh)
        del self._later[:count]

    def read(self, byte_count: int) -> bytes:
        """Return the next *byte_count* bytes of the stream, or what is there of them."""
        data = bytes(self._buffer[:byte_count])
        del self._buffer[:byte_count]
        return data

    def opens_window(self) -> bool:
        """Whether the window has grown so much by what was read that the peer should hear of it (Linux: to twice)."""
        return self._space() >= max(2 * (self.edge - self.nxt), self._step) and not self.has_ended

    @property
    def _step(self) -> int:
        """By how much the window opens at least (RFC 9293, 3.8.6.2.2)."""
        return min(self.mss, self._config.receive_buffer_bytes // 2)

    def _space(self) -> int:
        return max(self._config.receive_buffer_bytes - len(self._buffer), 0)

    def advertise(self) -> int:
        """Return the window to send, in the units of the wire, and hold to it: nothing more is due."""
        space = self._space()
        if space >= self._step:
            wanted = self.nxt + min(space, WINDOW_MAX << self.shift)
            self.edge = max(self.edge, wanted)
        # Cut to whole units it may seem to shrink; what was promised before is taken all the same (RFC 7323, 2.4).
        units = min(max(self.edge - self.nxt, 0) >> self.shift, WINDOW_MAX)
        self.ack_at = None
        self.acknowledged = self.nxt
        self._quick = max(self._quick - 1, 0)
        return units

    def answered(self, now: float) -> None:
        """The process sent data: shortly after some arrived, it answers, and its answers may carry the ACKs."""
        if self._last_data is not None and now - self._last_data < self._config.delayed_ack_s:
            self.is_interactive = True
