"""A listener: connections that are being opened, and those that wait to be accepted; both bounded, as Linux's are.

    SYN ──→ SYN queue (SYN_RECEIVED) ──ACK──→ accept queue (ESTABLISHED) ──accept──→ the process

- The backlog, cut to `somaxconn`, bounds both. Each queue holds one more than that (Linux tests for "more than").
- A SYN is dropped while either queue is full, or while more than three quarters of `syn_backlog_max` are half open; the
  peer sends it again, and believes that the network is slow.
- An ACK that would complete a handshake while the accept queue is full is dropped: the peer believes that it is
  connected, this end doesn't; the SYN-ACK is sent again, until there is room or it is given up. With
  `abort_on_overflow` it is answered by a RST instead.

Worked example: a backlog of 1. Two clients connect and wait in the accept queue; the third one's SYN is dropped. Had
its SYN come while there was room, and its ACK after the second one's, its ACK would be dropped.

Source: Linux 6.18, net/ipv4/tcp_input.c (tcp_conn_request), tcp_minisocks.c (tcp_check_req), include/net/sock.h
(sk_acceptq_is_full), include/net/inet_connection_sock.h (inet_csk_reqsk_queue_is_full); tcp_syncookies off.
"""

from __future__ import annotations

from collections import deque

from layergate.tcp.config import Config
from layergate.tcp.connection import Connection, End, reset_for
from layergate.tcp.states import TRANSITIONS, Cause, State
from layergate.tcp.wire import Segment


class Listener:
    """A listener at *local*, with what is being opened through it.

    *overflows*: what found the accept queue full. *drops*: SYNs that found no room, for either reason.
    """

    def __init__(self, config: Config, local: End, backlog: int) -> None:
        self.config, self.local = config, local
        self.backlog = 0
        self.limit(backlog)
        self.state = TRANSITIONS[State.CLOSED, Cause.LISTEN]
        self.half_open: set[Connection] = set()
        self.overflows = self.drops = 0
        self._accepted: deque[Connection] = deque()

    def limit(self, backlog: int) -> None:
        """Let both queues hold what a *backlog* lets them."""
        self.backlog = min(max(backlog, 0), self.config.somaxconn)

    @property
    def waiting(self) -> int:
        """How many connections wait to be accepted."""
        return len(self._accepted)

    @property
    def is_full(self) -> bool:
        """Whether no more may wait to be accepted."""
        return len(self._accepted) > self.backlog

    def open(
        self,
        syn: Segment,
        local: End,
        remote: End,
        config: Config | None = None,
        *,
        sequence: int,
        now: float,
        stamp: int | None = None,
    ) -> Connection | None:
        """Return the connection that *syn* opens; None after `close`, and where there is no room, which is counted.

        *config*: its own, where the way to *remote* has another MTU.
        """
        if self.state is not State.LISTEN:
            return None
        if self.is_full:
            self.overflows += 1
            self.drops += 1
            return None
        most = self.config.syn_backlog_max
        if len(self.half_open) > self.backlog or most - len(self.half_open) < most >> 2:
            self.drops += 1
            return None
        connection = Connection.accept(
            config or self.config, local, remote, syn, sequence=sequence, now=now, stamp=stamp
        )
        self.half_open.add(connection)
        return connection

    def admits(self, connection: Connection, segment: Segment) -> Segment | bool:
        """Whether *segment* may be processed by *connection*, which is half open; else False, or the RST to send.

        After a RST the caller forgets the connection, and says so by `ended`.
        """
        if not self.is_full or not connection.completes(segment):
            return True
        self.overflows += 1
        self.drops += 1
        if not self.config.abort_on_overflow:
            return False
        reset = reset_for(segment)
        assert reset is not None
        return reset

    def established(self, connection: Connection) -> None:
        """The handshake of *connection* is done: it waits to be accepted."""
        self.half_open.discard(connection)
        self._accepted.append(connection)

    def ended(self, connection: Connection) -> None:
        """*connection* was given up while it was half open."""
        self.half_open.discard(connection)

    def accept(self) -> Connection | None:
        """Return the connection that has waited the longest, None where none waits."""
        return self._accepted.popleft() if self._accepted else None

    def close(self, now: float, cause: Cause = Cause.CLOSE) -> list[Connection]:
        """End the listener, by close or abort; return what it takes with it.

        Half-open ones vanish; waiting ones are reset, and still have their RST to send.
        """
        if self.state is not State.LISTEN:
            return []
        self.state = TRANSITIONS[self.state, cause]
        taken = [*sorted(self.half_open, key=lambda one: one.opened), *self._accepted]
        for connection in self._accepted:
            connection.abort(now)
        self.half_open.clear()
        self._accepted.clear()
        return taken
