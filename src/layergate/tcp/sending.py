"""The sending half of a connection: what waits, what is on its way, and when which of it is sent (again).

Sequence numbers are plain integers here (`sequence`). The stream of what is sent is one line of numbers:

    una            nxt              end
     │ on its way   │ waits          │ room in the buffer
     └──────────────┴────────────────┴───────────────────
     acknowledged up to una; sent up to nxt; the window of the peer ends at una + window; FIN takes the number end

- `next_piece` says what is to be sent at this moment, one segment a call, None where nothing may be. First what is
  lost, then what is new: as far as the peer's window, the congestion window and Nagle allow.
- A short segment waits while an earlier short one is not acknowledged (Nagle, in Minshall's form, as Linux has it).
- A segment shorter than the peer could take waits for a better window (silly window avoidance on the sender's side):
  until the timer expires.
- The timer runs while something is on its way. It expires: all of that is lost, and sent again as the window opens.
- Nothing on its way, and no room in the peer's window: the same timer asks for the window, each time twice as late.

Worked example: 5,000 bytes wait, the MSS is 1,460, the peer's window 4,000, nothing is on its way. Pieces of 1,460 and
1,460 leave. The window leaves 1,080 of what waits: less than a segment and less than half of the largest window that
was ever offered (4,000 / 2), so they wait for an ACK.

Source: RFC 9293, 3.7.2 (retransmission), 3.7.4 (Nagle), 3.8.6.1 (zero-window probes), 3.8.6.2.1 (silly windows);
RFC 6298, 5; Minshall, "A Suggested Modification to Nagle's Algorithm"; Linux, tcp_output.c (tcp_nagle_check).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from layergate.tcp.config import Config
from layergate.tcp.congestion import NewReno
from layergate.tcp.rtt import RoundTrip

PROBE_BACKOFFS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """What a segment carries of the stream. *is_new*: never sent before; *pushes*: nothing more waits behind it."""

    start: int
    payload: bytes
    fin: bool = False
    is_new: bool = True
    pushes: bool = False


@dataclass(slots=True)
class _Sent:
    start: int
    end: int
    fin: bool
    time: float
    first_resent: float | None = None


class Sender:
    """The sending half. *start*: the number of the first byte, one behind the SYN's."""

    __slots__ = (
        "_at_once",
        "_buffer",
        "_config",
        "_fin_at",
        "_is_limited",
        "_lost",
        "_overrides",
        "_probes",
        "_sent",
        "_small_end",
        "_start",
        "_timer",
        "_wants_probe",
        "_window_max",
        "congestion",
        "fin_queued",
        "last_sent",
        "mss",
        "nxt",
        "retransmitted",
        "rtt",
        "una",
        "unanswered",
        "window",
        "window_ack",
        "window_sequence",
    )

    def __init__(self, config: Config, start: int, *, mss: int, rtt: RoundTrip) -> None:
        self._config = config
        self.mss = mss
        self.una = self.nxt = start
        self.window = 0
        self.window_sequence = self.window_ack = -1
        self.fin_queued = False
        self.rtt = rtt
        self.congestion = NewReno(config, start)
        self.retransmitted = 0
        self.last_sent: float | None = None
        self._buffer = bytearray()  # from una on
        self._sent: deque[_Sent] = deque()  # all that is not acknowledged, in order
        self._lost: deque[_Sent] = deque()  # of these, what is to be sent again, in order
        self._at_once = False
        self._fin_at: int | None = None  # once it was sent
        self._small_end = self._start = start
        self._timer: float | None = None
        self._probes = 0
        self._wants_probe = False
        self._overrides = False  # the timer expired on a silly window
        self.unanswered = 0  # probes since the peer was last heard of
        self._window_max = 0
        self._is_limited = False

    # --- what is known of it ------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The number behind the last byte that was given."""
        return self.una + len(self._buffer)

    @property
    def unacknowledged(self) -> int:
        """How many bytes wait or are on their way."""
        return len(self._buffer)

    @property
    def room(self) -> int:
        """How many bytes the buffer takes."""
        return max(self._config.send_buffer_bytes - len(self._buffer), 0)

    @property
    def una_least(self) -> int:
        """The oldest acknowledgment that may still be on its way: no older than the largest window (RFC 5961, 5.2)."""
        return max(self.una - self._window_max, self._start)

    @property
    def in_flight(self) -> int:
        """How many segments are on their way."""
        return len(self._sent) - len(self._lost)

    @property
    def all_acknowledged(self) -> bool:
        """Whether everything, the FIN too, has arrived."""
        return self._fin_at is not None and self.una > self._fin_at

    @property
    def waits(self) -> bool:
        """Whether something, be it the FIN, was not sent yet."""
        return self.nxt < self.end or (self.fin_queued and self._fin_at is None)

    @property
    def timer(self) -> float | None:
        """When to send again, or to ask for the window; None while there is nothing to wait for."""
        return self._timer

    @property
    def waits_since(self) -> float | None:
        """When the first segment that is not acknowledged was first sent again; None where none was.

        Linux begins to count there (retransmits_timed_out): a timeout later than when it was sent.
        """
        return self._sent[0].first_resent if self._sent else None

    # --- what the process gives ---------------------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Take as much of *data* as there is room for; return how many bytes."""
        size = min(len(data), self.room)
        self._buffer += data[:size]
        return size

    # --- what the peer says -------------------------------------------------------------------------------------------

    def acknowledge(self, ack: int, now: float, *, echoed_s: float | None) -> int:
        """Take an acknowledgment of new numbers in. *echoed_s*: the round trip that a timestamp tells.

        Returns:
            how many bytes of the stream are acknowledged for the first time.
        """
        segments = 0
        was_resent = False
        measured: float | None = None
        while self._sent and self._sent[0].end <= ack:
            record = self._sent.popleft()
            segments += 1
            was_resent = was_resent or record.first_resent is not None
            measured = now - record.time if measured is None else measured
            if self._lost and self._lost[0] is record:
                self._lost.popleft()
        if self._sent and self._sent[0].start < ack:
            self._sent[0].start = ack  # a part of a segment
        acked = min(ack - self.una, len(self._buffer))
        del self._buffer[:acked]
        # The FIN stands behind the buffer: una passes end by one.
        self.una = ack
        self.nxt = max(self.nxt, ack)
        # What waited behind a hole at the peer tells of the hole, not of the way: then a timestamp, or nothing.
        sample = echoed_s if was_resent or measured is None else measured
        if sample is not None:
            self.rtt.sample(sample)
        self._probes = 0
        if self.congestion.acknowledged(segments, ack, limited=self._is_limited):
            self._lose_first()
        self._timer = self._expiry(now) if self._sent else None
        return acked

    def duplicate(self) -> None:
        """Take an acknowledgment in that says nothing but that a segment arrived out of order."""
        if self.congestion.duplicate(self.una, self.nxt, self.in_flight):
            self._lose_first()

    def _lose_first(self) -> None:
        if self._sent and not (self._lost and self._lost[0] is self._sent[0]):
            self._lost.appendleft(self._sent[0])
        self._at_once = True

    def update_window(self, window: int, sequence: int, ack: int) -> bool:
        """Take a window in from a segment of *sequence* and *ack*, unless it is older; return whether it changed."""
        if (sequence, ack) < (self.window_sequence, self.window_ack):
            return False
        changed = window != self.window
        self.window, self.window_sequence, self.window_ack = window, sequence, ack
        self._window_max = max(self._window_max, window)
        if window and self._probes:
            self._probes = 0
            self._timer = None
        return changed

    # --- time ---------------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """The timer expired: send again what is on its way, or ask for the window."""
        if not self._sent:
            self._wants_probe = True
            self._probes += 1
            self.unanswered += 1
            self._timer = None
            return
        again = self._sent[0].first_resent is not None
        self.congestion.timed_out(self.nxt, len(self._sent), again=again)
        self._lost = deque(self._sent)
        self._small_end = self.una
        self.rtt.back_off()
        self._timer = self._expiry(now)

    def _expiry(self, now: float) -> float:
        """Return when what is sent now is lost; no later than the user's patience ends."""
        expiry, since, user_timeout_s = now + self.rtt.rto_s, self.waits_since, self._config.user_timeout_s
        if since is None or user_timeout_s is None or since + user_timeout_s <= now:
            return expiry
        return min(expiry, since + user_timeout_s)

    # --- what leaves --------------------------------------------------------------------------------------------------

    def take_probe(self, now: float) -> bool:
        """Whether the peer's window is to be asked for now; true once a time."""
        if not self._wants_probe:
            return False
        self._wants_probe = False
        if self.window > 0 and self.waits:
            self._overrides = True  # it is open, though not far: send what fits, and hear what comes
            return False
        backed_off = self.rtt.rto_s * (1 << min(self._probes, PROBE_BACKOFFS_MAX))
        self._timer = now + min(backed_off, self._config.rto_s_max)
        return True

    def next_piece(self, now: float) -> Piece | None:
        """Return what is to be sent now, and take it as sent; None where nothing is, or may be."""
        piece = self._again(now) or self._fresh(now)
        self._overrides = False
        if piece is not None:
            self.last_sent = now
            # The first that is on its way, for the first time or again, starts the timer anew.
            if self._timer is None or piece.start <= self.una:
                self._timer = self._expiry(now)
                self._probes = 0
        elif self._timer is None and not self._sent and self.waits:
            self._timer = now + self.rtt.rto_s  # only an open window can help: ask for it
        return piece

    @property
    def _has_turn(self) -> bool:
        return self.in_flight - self.congestion.duplicates < self.congestion.cwnd

    def _again(self, now: float) -> Piece | None:
        if not self._lost or not (self._at_once or self._has_turn):
            return None
        self._at_once = False
        record = self._lost.popleft()
        record.time = now
        if record.first_resent is None:
            record.first_resent = now
        self.retransmitted += 1
        payload = self._payload(record.start, record.end - record.fin)
        return Piece(record.start, payload, record.fin, is_new=False, pushes=bool(payload) and record.end >= self.end)

    def _fresh(self, now: float) -> Piece | None:
        if not self.waits or self._lost:
            return None
        if not self._has_turn:
            self._is_limited = True
            return None
        waiting = self.end - self.nxt
        usable = self.una + self.window - self.nxt
        size = min(self.mss, waiting, usable)
        takes_all = size == waiting
        fin = self.fin_queued and takes_all and usable > size  # it takes a number in the window too
        if size <= 0 and not fin:
            return None
        if size < self.mss and not fin and not self._may_be_short(size, takes_all=takes_all):
            return None
        if self._config.slow_start_after_idle and not self._sent and self.last_sent is not None:
            self.congestion.idled((now - self.last_sent) / self.rtt.rto_s)
        self._is_limited = self.in_flight + 1 >= self.congestion.cwnd
        record = _Sent(self.nxt, self.nxt + size + fin, fin, now)
        self._sent.append(record)
        self.nxt = record.end
        if fin:
            self._fin_at = record.end - 1
        if size < self.mss:
            self._small_end = record.end
        return Piece(record.start, self._payload(record.start, record.start + size), fin, pushes=takes_all and size > 0)

    def _may_be_short(self, size: int, *, takes_all: bool) -> bool:
        """Silly windows, then Nagle: a short segment must be all there is, or a fair part of the peer's window."""
        if not takes_all:
            return self._overrides or size * 2 >= self._window_max
        return not (self._config.nagle and self._sent and self.una < self._small_end)

    def _payload(self, start: int, end: int) -> bytes:
        return bytes(self._buffer[start - self.una : end - self.una])
