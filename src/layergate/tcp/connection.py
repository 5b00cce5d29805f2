"""A TCP connection: segments in, segments and events out.

    process(segment, now)     a segment that arrived for it
    dispatch(now)             the next segment to send, until None; what time is due happens here
    poll_at()                 when dispatch has something to do next; None: only when something comes
    events()                  what happened since the last call
    write, read, shutdown_write, close, abort      what the process does
    unreachable(complaint)    an ICMP error that quotes one of its segments

It has no clock, no sockets and no chance of its own: time and the first sequence number are arguments. It moves only as
`states` allows. Nothing that arrives raises, and nothing that arrives makes it keep more than its buffers hold.

- `close` means that nobody reads any more: what was not read, or still comes, is answered by a RST, as Linux does. The
  connection then lives on until its end by itself. `shutdown_write` ends one direction, and the other goes on.
- A segment's ACK is taken before its data, and these before its FIN (RFC 9293, 3.10.7.4).
- At most one answer waits to be sent that is not an ACK: a RST to what makes no sense.

Worked example, a client's handshake and one byte, time in seconds, delays of 5 ms:

    client = Connection.connect(config, local, remote, sequence=1000, now=0.0)
    client.dispatch(0.0)          S 1000:1000(0) win 65535 <mss 1460,...>       and then None
    client.process(syn_ack, 0.01)                                               S. 7000:7000(0) ack 1001
    client.events()               StateChanged SYN_SENT → ESTABLISHED, Established
    client.dispatch(0.01)         . 1001:1001(0) ack 7001
    client.write(b"x"); client.dispatch(0.02)     P. 1001:1002(1) ack 7001

Source: RFC 9293, 3.5 to 3.10; RFC 1122, 4.2; RFC 7323; RFC 5961, 3 and 4 (RST and SYN that are not exactly right);
Linux 6.18 (net/ipv4/tcp_input.c, tcp_timer.c, tcp_minisocks.c) where it does otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Self

from layergate.tcp.checksum import Address
from layergate.tcp.config import MSS_DEFAULT_V4, MSS_DEFAULT_V6, MSS_MIN, WINDOW_SCALE_MAX, Config
from layergate.tcp.events import (
    DataArrived,
    EndOfStream,
    Established,
    Event,
    Failure,
    Refused,
    Reset,
    StateChanged,
    TimedOut,
    Unreachable,
    Vanished,
)
from layergate.tcp.icmp import Complaint, Meaning
from layergate.tcp.receiving import WINDOW_MAX, Receiver, first_window
from layergate.tcp.rtt import RoundTrip
from layergate.tcp.sending import Sender
from layergate.tcp.sequence import MASK, distance, unwrap
from layergate.tcp.states import SYNCHRONIZED, TRANSITIONS, Cause, State
from layergate.tcp.wire import (
    NOP,
    Flag,
    Option,
    Segment,
    mss_option,
    timestamps_option,
    window_scale_option,
)

TIMESTAMP_BYTES: Final = 12
"""What the timestamps option takes of each segment, its no-operations counted."""
_MS: Final = 1000
_FATAL: Final = frozenset(
    {Meaning.NETWORK_UNREACHABLE, Meaning.HOST_UNREACHABLE, Meaning.PROTOCOL_UNREACHABLE, Meaning.PORT_UNREACHABLE,
     Meaning.PROHIBITED}
)  # fmt: skip
_READS: Final = (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2)
_SENDS: Final = (State.ESTABLISHED, State.CLOSE_WAIT)
_OPENING: Final = (State.SYN_SENT, State.SYN_RECEIVED)
_FIN_ACKED: Final = (State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK)


class WrongStateError(Exception):
    """A call that the connection's state doesn't allow. *call*, *state*."""

    def __init__(self, call: str, state: State) -> None:
        super().__init__(f"{call} in {state}")
        self.call, self.state = call, state


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that runs. *kind*: retransmit, persist, keepalive, time_wait; *tries*: how often it fired in vain."""

    kind: str
    at: float
    tries: int


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection."""

    address: Address
    port: int


class Connection:
    """One connection, made by `connect` or `accept`.

    *sequence*: its first sequence number; *stamp*: what is added to the milliseconds that its timestamps tell, the same
    number where it is None.
    """

    def __init__(
        self, config: Config, local: End, remote: End, *, sequence: int, now: float, stamp: int | None = None
    ) -> None:
        self.config, self.local, self.remote = config, local, remote
        self.state = State.CLOSED
        self.failure: Failure | None = None
        self.is_orphan = False
        self.iss = sequence
        self._stamp_offset = sequence if stamp is None else stamp
        self.irs: int | None = None
        self.opened = self.changed = now
        self.segments_out = self.segments_in = 0
        self._is_passive = False
        self._mss = config.mss_for(local.address)
        self._rtt = RoundTrip(config)
        self._sender = Sender(config, sequence + 1, mss=self._mss, rtt=self._rtt)
        self._receiver = Receiver(config, 0, mss=self._mss, shift=0, window=first_window(config, self._mss))
        self._is_handshaking = True  # our SYN is not acknowledged yet
        self._peer_shift = 0
        self._has_scale = self._has_timestamps = False
        self._recent = 0  # TS.Recent
        self._events: list[Event] = []
        self._reset: Segment | None = None
        self._handshake_due = False
        self._handshake_at: float | None = None
        self._handshake_sent: float | None = None
        self._handshakes = self._handshake_losses = 0  # how often our SYN was sent, and how often its timer expired
        self._expires: float | None = None
        self._keepalive_at: float | None = None
        self._keepalives = 0
        self._keepalive_due = False
        self._heard = now
        self._soft: Meaning | None = None
        self._invalid_answered = -1e9

    @classmethod
    def connect(
        cls, config: Config, local: End, remote: End, *, sequence: int, now: float, stamp: int | None = None
    ) -> Self:
        """Return a connection that is being opened from here: `dispatch` gives its SYN."""
        self = cls(config, local, remote, sequence=sequence, now=now, stamp=stamp)
        self._move(Cause.CONNECT, now)
        self._handshake_due = True
        return self

    @classmethod
    def accept(
        cls,
        config: Config,
        local: End,
        remote: End,
        syn: Segment,
        *,
        sequence: int,
        now: float,
        stamp: int | None = None,
    ) -> Self:
        """Return a connection that *syn* opens: `dispatch` gives its SYN-ACK."""
        self = cls(config, local, remote, sequence=sequence, now=now, stamp=stamp)
        self._is_passive = True
        self.state = State.LISTEN  # the listener's, whose row of the table it is
        self._learn(syn)
        self._move(Cause.SYN, now)
        self._handshake_due = True
        return self

    # --- what is known of it ------------------------------------------------------------------------------------------

    @property
    def is_passive(self) -> bool:
        """Whether the peer opened it."""
        return self._is_passive

    @property
    def available(self) -> int:
        """How many bytes can be read."""
        return self._receiver.available

    @property
    def received(self) -> int:
        """How many bytes have come, in order, since the peer's SYN."""
        return self._receiver.nxt - self.irs - 1 - self._receiver.has_ended if self.irs is not None else 0

    @property
    def has_ended(self) -> bool:
        """Whether the peer sends nothing more, and all that it sent has come."""
        return self._receiver.has_ended

    @property
    def room(self) -> int:
        """How many bytes can be written."""
        return self._sender.room if not self._sender.fin_queued else 0

    @property
    def unacknowledged(self) -> int:
        """How many bytes were written and not acknowledged."""
        return self._sender.unacknowledged

    @property
    def peer_window(self) -> int:
        """How many bytes the peer takes from what it last acknowledged on."""
        return self._sender.window

    @property
    def mss(self) -> int:
        """The longest payload that is sent."""
        return self._sender.mss

    @property
    def congestion_window(self) -> int:
        """How many segments may be on their way."""
        return self._sender.congestion.cwnd

    @property
    def retransmitted(self) -> int:
        """How many segments with data were sent again."""
        return self._sender.retransmitted

    @property
    def srtt_s(self) -> float | None:
        """The smoothed round trip; None where none was measured."""
        return self._rtt.srtt_s

    @property
    def rto_s(self) -> float:
        """The timeout of what is sent now."""
        return self._rtt.rto_s

    @property
    def heard(self) -> float:
        """When the peer was last heard of, by an acknowledgment that made sense."""
        return self._heard

    @property
    def sent(self) -> float | None:
        """When data were last sent; None where none were."""
        return self._sender.last_sent

    @property
    def in_flight(self) -> int:
        """How many segments are on their way."""
        return self._sender.in_flight

    @property
    def timer(self) -> Timer | None:
        """The timer that will fire next, but for that of a delayed ACK."""
        rows = (
            ("retransmit", self._handshake_at, max(self._handshakes - 1, 0)),
            ("time_wait", self._expires, 0),
            ("keepalive", self._keepalive_at if self._is_live else None, self._keepalives),
            ("retransmit", self._sender.timer if self._sender.in_flight else None, self._rtt.backoffs),
            ("persist", None if self._sender.in_flight else self._sender.timer, self._sender.unanswered),
        )
        running = [Timer(kind, at, tries) for kind, at, tries in rows if at is not None]
        return min(running, key=lambda timer: timer.at, default=None)

    def events(self) -> list[Event]:
        """Return what happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    # --- what the process does ----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Take as much of *data* as there is room for; return how many bytes. Raises WrongStateError."""
        if self.state not in (*_SENDS, *_OPENING):
            raise WrongStateError("write", self.state)
        return self._sender.write(data)

    def read(self, byte_count: int, now: float) -> bytes:
        """Return up to *byte_count* bytes of the stream; b"" where there are none."""
        data = self._receiver.read(byte_count)
        if data and self.state in _READS and self._receiver.opens_window():
            self._receiver.ack_at = now
        return data

    def shutdown_write(self, now: float) -> None:
        """Send a FIN behind what was written; go on reading. Raises WrongStateError."""
        if self.state not in (*_SENDS, State.SYN_RECEIVED):
            raise WrongStateError("shutdown", self.state)
        self._sender.fin_queued = True
        self._move(Cause.CLOSE, now)

    def close(self, now: float) -> None:
        """Let go of the connection: nobody reads any more, what was written is still sent."""
        if self.is_orphan:
            return
        self.is_orphan = True
        if self.state in (State.CLOSED, State.TIME_WAIT):
            return
        if self.state is State.SYN_SENT:
            self._move(Cause.CLOSE, now)
        elif self._receiver.available:
            self._answer_by_reset()
            self._move(Cause.ABORT, now)
        else:
            if self.state in (*_SENDS, State.SYN_RECEIVED):
                self._sender.fin_queued = True
                self._move(Cause.CLOSE, now)
            if self.state is State.FIN_WAIT_2:
                self._expires = now + self.config.fin_wait_2_s

    def abort(self, now: float) -> None:
        """End the connection at once; the peer is told by a RST."""
        self.is_orphan = True
        if self.state is State.CLOSED:
            return
        # Without a RST only where the peer knows already that nothing more comes.
        if self.state in SYNCHRONIZED and (self.state not in (State.CLOSING, State.LAST_ACK) or self._sender.waits):
            self._answer_by_reset()
        self._move(Cause.ABORT, now)

    # --- what arrives -------------------------------------------------------------------------------------------------

    def process(self, segment: Segment, now: float) -> None:
        """Take a segment in that is for this connection. Cost: O(its length)."""
        self.segments_in += 1
        if self.state is State.CLOSED:
            self._reset = reset_for(segment)
        elif self.state is State.SYN_SENT:
            self._in_syn_sent(segment, now)
        elif self.irs is not None:
            self._in_others(segment, now)

    def unreachable(self, complaint: Complaint, now: float) -> None:
        """Take an ICMP error in that quotes a segment of this connection."""
        sequence = unwrap(complaint.sequence, self._sender.una)
        if not self._first_unacknowledged <= sequence <= self._sender.nxt or complaint.meaning not in _FATAL:
            return
        self._soft = complaint.meaning
        if self.state is State.SYN_SENT:
            if complaint.meaning is Meaning.PORT_UNREACHABLE:
                self._fail(Refused(now), Cause.UNREACHABLE, now)
            else:
                self._fail(Unreachable(now, complaint.meaning), Cause.UNREACHABLE, now)

    @property
    def _first_unacknowledged(self) -> int:
        return self._sender.una - self._is_handshaking

    def _in_syn_sent(self, segment: Segment, now: float) -> None:
        flags = segment.flags
        if flags & Flag.ACK and unwrap(segment.acknowledgment, self._sender.nxt) != self.iss + 1:
            self._reset = reset_for(segment)
            if self.config.syn_again_s is not None and not self._handshake_losses and not self._handshake_due:
                # The peer holds on to an older connection, and lets go of it by our RST.
                self._handshake_at = now + self.config.syn_again_s
            return
        if flags & Flag.RST:
            if flags & Flag.ACK:
                self._fail(Refused(now), Cause.RST, now)
            return
        if not flags & Flag.SYN:
            return
        self._learn(segment)
        if flags & Flag.ACK:
            self._establish(Cause.SYN_ACK, segment, now)
            self._receiver.ack_at = now
            self._take_stream(segment, now)
        else:
            self._move(Cause.SYN, now)  # both open at once
            self._handshake_due = True

    def _learn(self, syn: Segment) -> None:
        """Take the peer's first sequence number and options from its SYN."""
        config = self.config
        self.irs = syn.sequence
        is_v4 = isinstance(self.local.address, IPv4Address)
        peer_mss = syn.mss or (MSS_DEFAULT_V4 if is_v4 else MSS_DEFAULT_V6)  # of 0 too, as Linux does
        mss = max(min(peer_mss, self._mss), MSS_MIN)
        stamps = syn.timestamps
        self._has_timestamps = config.timestamps and stamps is not None
        if stamps is not None:
            self._recent = stamps[0]
        taken = TIMESTAMP_BYTES if self._has_timestamps else 0
        shift = 0
        if config.window_scale is not None and syn.window_scale is not None:
            self._has_scale, shift = True, config.window_scale
            self._peer_shift = min(syn.window_scale, WINDOW_SCALE_MAX)
        self._sender.mss = mss - taken
        mss = self._mss - taken
        # Who opened has offered a window already, before the options were known; and holds to it.
        window = first_window(config, mss) if self._is_passive else self._receiver.edge - self._receiver.nxt
        self._receiver = Receiver(config, syn.sequence + 1, mss=mss, shift=shift, window=window)
        self._sender.update_window(syn.window, syn.sequence, self._sender.una)

    def _establish(self, cause: Cause, segment: Segment, now: float) -> None:
        losses = self._handshake_losses
        # Sent more than once, only a timestamp tells which of them was answered (Karn).
        if self._handshakes == 1 and self._handshake_sent is not None:
            self._rtt.sample(now - self._handshake_sent)
        elif (echoed_s := self._echoed(segment, now)) is not None:
            self._rtt.sample(echoed_s)
        self._rtt.established(syn_was_lost=losses > 0)
        self._sender.congestion.established(syn_losses=losses)
        ack = unwrap(segment.acknowledgment, self._sender.una)
        self._sender.update_window(self._window(segment), unwrap(segment.sequence, self._receiver.nxt), ack)
        self._handshake_at, self._handshake_due, self._is_handshaking = None, False, False
        self._watch(now)
        if self.state in _OPENING:  # else it was closed in the middle of the handshake
            self._move(cause, now)
        self._events.append(Established(now))

    def _window(self, segment: Segment) -> int:
        """Return the window that *segment* offers, in bytes: a SYN's is never scaled (RFC 7323, 2.2)."""
        return segment.window if segment.flags & Flag.SYN else segment.window << self._peer_shift

    def _in_others(self, segment: Segment, now: float) -> None:
        flags = segment.flags
        receiver = self._receiver
        start = unwrap(segment.sequence, receiver.nxt)
        end = start + segment.length
        opening = self._is_handshaking
        crosses = opening and (flags & (Flag.SYN | Flag.RST)) == Flag.SYN and start == self.irs
        if crosses:
            if not flags & Flag.ACK:
                self._handshake_due = True  # our SYN-ACK was lost
                return
            start += 1  # both opened at once: its SYN is known already
        if not receiver.accepts(start, end):
            self._not_acceptable(segment, now)
            return
        if opening and self._is_passive and flags & (Flag.RST | Flag.SYN):
            # Not worth a question while nothing was said yet: the peer has changed its mind (tcp_check_req).
            self._reset = reset_for(segment)
            self._fail(Reset(now), Cause.RST if flags & Flag.RST else Cause.ABORT, now)
            return
        if flags & Flag.RST:
            self._by_reset(start, now)
            return
        if flags & Flag.SYN and not crosses:
            self._ask_again(segment, now)
            return
        if not flags & Flag.ACK:
            return
        ack = unwrap(segment.acknowledgment, self._sender.nxt)
        if opening and not self.iss < ack <= self._sender.nxt:
            self._reset = reset_for(segment)
            return
        self._remember_stamp(segment, start)
        if opening:
            self._establish(Cause.ACK_OF_SYN, segment, now)
        if not self._take_ack(segment, ack, now, opening=opening):
            return
        self._take_stream(segment, now)

    def completes(self, segment: Segment) -> bool:
        """Whether *segment* would complete the handshake of a connection that the peer opened."""
        if self.state is not State.SYN_RECEIVED or segment.flags & (Flag.SYN | Flag.RST | Flag.ACK) != Flag.ACK:
            return False
        start = unwrap(segment.sequence, self._receiver.nxt)
        ack = unwrap(segment.acknowledgment, self._sender.nxt)
        return self._receiver.accepts(start, start + segment.length) and self.iss < ack <= self._sender.nxt

    def _remember_stamp(self, segment: Segment, start: int) -> None:
        """Keep the peer's time, to be echoed: of a segment that covers what was last acknowledged (RFC 7323, 4.3)."""
        stamps = segment.timestamps if self._has_timestamps else None
        if stamps is not None and start <= self._receiver.acknowledged and distance(self._recent, stamps[0]) >= 0:
            self._recent = stamps[0]

    def _not_acceptable(self, segment: Segment, now: float) -> None:
        if segment.flags & Flag.RST:
            return
        if self.state is State.TIME_WAIT and segment.flags & Flag.FIN:
            self._expires = now + self.config.time_wait_s
        # Of a repetition too: else its ACK would echo what was sent long before it, and be taken for a slow round trip.
        self._remember_stamp(segment, unwrap(segment.sequence, self._receiver.nxt))
        self._ask_again(segment, now)

    def _ask_again(self, segment: Segment, now: float) -> None:
        """Answer what fits nowhere with an ACK of what does; one without data not more often than is configured."""
        if not segment.payload:
            if now - self._invalid_answered < self.config.invalid_ack_interval_s:
                return
            self._invalid_answered = now
        self._receiver.ack_at = now

    def _by_reset(self, start: int, now: float) -> None:
        if start != self._receiver.nxt:
            # Near the mark only: whoever sent it must show that it knows better (RFC 5961, 3.2).
            if now - self._invalid_answered >= self.config.invalid_ack_interval_s:
                self._invalid_answered = now
                self._receiver.ack_at = now
            return
        if self.state is State.TIME_WAIT:
            self._move(Cause.RST, now)
        else:
            self._fail(Reset(now), Cause.RST, now)

    def _take_ack(self, segment: Segment, ack: int, now: float, *, opening: bool) -> bool:
        """Take the acknowledgment in; return whether the rest of the segment is to be looked at."""
        sender = self._sender
        if ack > sender.nxt or ack < sender.una_least:
            self._ask_again(segment, now)  # of something that was never sent, or long ago (RFC 5961, 5.2)
            return False
        self._keepalives = sender.unanswered = 0
        self._heard = now
        self._watch(now)
        window = self._window(segment)
        sequence = unwrap(segment.sequence, self._receiver.nxt)
        if ack > sender.una:
            sender.acknowledge(ack, now, echoed_s=self._echoed(segment, now))
            sender.update_window(window, sequence, ack)
        elif ack == sender.una:
            changed = sender.update_window(window, sequence, ack)
            if sender.in_flight and not changed and not segment.length and not opening:
                sender.duplicate()
        if sender.all_acknowledged and self.state in _FIN_ACKED:
            new = self._move(Cause.ACK_OF_FIN, now)
            if new is State.FIN_WAIT_2 and self.is_orphan:
                self._expires = now + self.config.fin_wait_2_s
            return new is not State.CLOSED
        return True

    def _echoed(self, segment: Segment, now: float) -> float | None:
        stamps = segment.timestamps if self._has_timestamps else None
        if stamps is None:
            return None
        passed_ms = (self._stamp(now) - stamps[1]) & MASK
        # An echo from the future, or from days ago, measures nothing.
        return passed_ms / _MS if stamps[1] and passed_ms < MASK >> 1 else None

    def _take_stream(self, segment: Segment, now: float) -> None:
        fin = bool(segment.flags & Flag.FIN)
        payload = segment.payload
        if not payload and not fin:
            return
        start = unwrap(segment.sequence, self._receiver.nxt) + bool(segment.flags & Flag.SYN)
        receiver = self._receiver
        if payload and self.is_orphan and self.state is not State.TIME_WAIT and start + len(payload) > receiver.nxt:
            self._reset = reset_for(segment)
            self._fail(Reset(now), Cause.DATA_AFTER_CLOSE, now)
            return
        if self.state not in _READS:
            if self.state is State.TIME_WAIT or start < receiver.nxt:
                receiver.ack_at = now  # what was sent again; what lies behind the FIN is nothing
            return
        had_ended = receiver.has_ended
        grown = receiver.take(start, payload, fin=fin, now=now)
        if grown:
            self._arrived(grown, now)
        if receiver.has_ended and not had_ended:
            self._events.append(EndOfStream(now))
            self._move(Cause.FIN, now)

    def _arrived(self, byte_count: int, now: float) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(last, DataArrived):
            self._events[-1] = DataArrived(last.time, last.byte_count + byte_count)
        else:
            self._events.append(DataArrived(now, byte_count))

    # --- time ---------------------------------------------------------------------------------------------------------

    def poll_at(self) -> float | None:
        """Return when `dispatch` has something to do; a moment that has passed: now. Cost: O(1)."""
        if self._reset is not None or self._handshake_due or self._keepalive_due:
            return self.changed
        if self.state is State.CLOSED:
            return None
        due = [self._handshake_at, self._expires, self._receiver.ack_at]
        if self._is_live:
            due += [self._sender.timer, self._keepalive_at]
        return min((one for one in due if one is not None), default=None)

    def _advance(self, now: float) -> None:
        if self._expires is not None and now >= self._expires:
            self._move(Cause.EXPIRY, now)
        if self._handshake_at is not None and now >= self._handshake_at:
            self._handshake_expired(now)
        if self._is_live and self._sender.timer is not None and now >= self._sender.timer:
            self._sender_expired(now)
        if self._is_live and self._keepalive_at is not None and now >= self._keepalive_at:
            self._keepalive_expired(now)

    @property
    def _is_live(self) -> bool:
        return self.state not in (State.CLOSED, State.LISTEN, State.TIME_WAIT, *_OPENING)

    def _handshake_expired(self, now: float) -> None:
        config = self.config
        if self._is_passive:
            retries, linear = config.syn_ack_retries, 0
        else:
            retries, linear = config.syn_retries + config.syn_linear_timeouts, config.syn_linear_timeouts
        limit_s = config.give_up_after_s(config.syn_retries, config.rto_s_initial)
        late = not self._is_passive and self._handshake_losses > 0 and now - self.opened >= limit_s
        if self._handshake_losses >= retries or late:
            if self._soft is not None and not self._is_passive:
                self._fail(Unreachable(now, self._soft), Cause.TIMEOUT, now)
            else:
                self._fail(TimedOut(now), Cause.TIMEOUT, now)
            return
        self._handshake_losses += 1
        if self._handshake_losses > linear:
            self._rtt.back_off()
        self._handshake_due = True

    def _sender_expired(self, now: float) -> None:
        sender, config = self._sender, self.config
        retries = config.orphan_retries if self.is_orphan else config.retries
        since = sender.waits_since
        if since is not None and not sender.window:
            since = max(since, self._heard)  # who takes nothing, but answers, is there (RFC 9293, 3.8.6.1)
        limit_s = config.user_timeout_s if config.user_timeout_s is not None else config.give_up_after_s(retries)
        silent = now - since >= limit_s if since is not None else sender.unanswered >= retries
        if silent:
            failure = TimedOut(now) if self._soft is None else Unreachable(now, self._soft)
            self._fail(failure, Cause.TIMEOUT, now)
            return
        sender.expire(now)

    def _watch(self, now: float) -> None:
        """Something was heard: ask again whether the peer is there when nothing was for a while."""
        if self.config.keepalive:
            self._keepalive_at = now + self.config.keepalive_idle_s

    def _keepalive_expired(self, now: float) -> None:
        config, sender = self.config, self._sender
        if sender.in_flight or sender.unacknowledged:
            self._keepalive_at = now + config.keepalive_idle_s  # what is sent asks already
            return
        if self._keepalives >= config.keepalive_probes:
            self._answer_by_reset()
            self._fail(Vanished(now), Cause.TIMEOUT, now)
            return
        self._keepalives += 1
        self._keepalive_due = True
        self._keepalive_at = now + config.keepalive_interval_s

    # --- what leaves --------------------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> Segment | None:
        """Do what is due, and return the next segment to send; None where there is none now."""
        segment = self._next(now)
        if segment is not None:
            self.segments_out += 1
        return segment

    def _next(self, now: float) -> Segment | None:
        self._advance(now)
        if self._reset is not None:
            reset, self._reset = self._reset, None
            return reset
        if self._handshake_due:
            return self._handshake(now)
        if self.state in (State.CLOSED, State.LISTEN, State.SYN_SENT):
            return None
        if self._keepalive_due or (self._is_live and self._sender.take_probe(now)):
            self._keepalive_due = False
            return self._make(Flag.ACK, self._sender.una - 1, now)
        piece = self._sender.next_piece(now) if self._is_live else None
        if piece is not None:
            flags = Flag.ACK | (Flag.PSH if piece.pushes else Flag.NONE) | (Flag.FIN if piece.fin else Flag.NONE)
            if piece.payload:
                self._receiver.answered(now)
            return self._make(flags, piece.start, now, piece.payload)
        if self._receiver.ack_at is not None and now >= self._receiver.ack_at:
            return self._make(Flag.ACK, self._sender.nxt, now)
        return None

    def _handshake(self, now: float) -> Segment:
        self._handshake_due = False
        self._handshake_sent = now
        self._handshakes += 1
        self._handshake_at = now + self._rtt.rto_s
        config = self.config
        is_answer = self.irs is not None
        options: list[Option] = [mss_option(self._mss)]
        if self._has_timestamps if is_answer else config.timestamps:
            options += [NOP, NOP, timestamps_option(self._stamp(now), self._recent if is_answer else 0)]
        shift = self._receiver.shift if is_answer else config.window_scale
        if shift is not None and (not is_answer or self._has_scale):
            options += [NOP, window_scale_option(shift)]
        return Segment(
            self.local.port,
            self.remote.port,
            self.iss & MASK,
            self._receiver.nxt & MASK if is_answer else 0,
            Flag.SYN | Flag.ACK if is_answer else Flag.SYN,
            min(self._receiver.edge - self._receiver.nxt, WINDOW_MAX),
            options=tuple(options),
        )

    def _make(self, flags: Flag, sequence: int, now: float, payload: bytes = b"") -> Segment:
        options: tuple[Option, ...] = ()
        if self._has_timestamps:
            options = (NOP, NOP, timestamps_option(self._stamp(now), self._recent))
        window = self._receiver.advertise()
        return Segment(
            self.local.port,
            self.remote.port,
            sequence & MASK,
            self._receiver.nxt & MASK,
            flags,
            window,
            options=options,
            payload=payload,
        )

    def _stamp(self, now: float) -> int:
        """Return the time as the timestamps option has it: milliseconds."""
        return (int(now * _MS) + self._stamp_offset) & MASK

    def _answer_by_reset(self) -> None:
        self._reset = Segment(
            self.local.port,
            self.remote.port,
            self._sender.nxt & MASK,
            self._receiver.nxt & MASK,
            Flag.RST | Flag.ACK,
            0,
        )

    # --- moving -------------------------------------------------------------------------------------------------------

    def _move(self, cause: Cause, now: float) -> State:
        old, new = self.state, TRANSITIONS[self.state, cause]
        self.state, self.changed = new, now
        self._events.append(StateChanged(now, old, new, cause))
        if new in (State.CLOSED, State.TIME_WAIT):
            self._handshake_at = self._keepalive_at = None
            self._handshake_due = self._keepalive_due = False
        if new is State.TIME_WAIT:
            self._expires = now + self.config.time_wait_s
        if new is State.CLOSED:
            self._expires = self._receiver.ack_at = None
        return new

    def _fail(self, failure: Failure, cause: Cause, now: float) -> None:
        self.failure = failure
        self._move(cause, now)
        self._events.append(failure)

    def admits(self, syn: Segment) -> bool:
        """Whether *syn* may begin a new connection in this one's place: it is in TIME_WAIT, and *syn* is newer.

        Newer is a higher sequence number, or, where both have timestamps, a later time (RFC 9293, 3.6.1; RFC 6191).
        """
        if self.state is not State.TIME_WAIT or (syn.flags & (Flag.SYN | Flag.ACK | Flag.RST | Flag.FIN)) != Flag.SYN:
            return False
        if unwrap(syn.sequence, self._receiver.nxt) > self._receiver.nxt:
            return True
        stamps = syn.timestamps
        return self._has_timestamps and stamps is not None and unwrap(stamps[0], self._recent) > self._recent

    def give_way(self, now: float) -> None:
        """End in TIME_WAIT for a newer connection between the same ends."""
        self._move(Cause.SYN, now)


def reset_for(segment: Segment) -> Segment | None:
    """Return the RST for a segment that is nobody's; None for a RST. Source: RFC 9293, 3.10.7.1."""
    if segment.flags & Flag.RST:
        return None
    if segment.flags & Flag.ACK:
        return Segment(segment.destination_port, segment.source_port, segment.acknowledgment, 0, Flag.RST, 0)
    return Segment(
        segment.destination_port,
        segment.source_port,
        0,
        (segment.sequence + segment.length) & MASK,
        Flag.RST | Flag.ACK,
        0,
    )
