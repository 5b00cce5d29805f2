"""Segments that nobody would send, at every state: nothing raises, hangs, or is kept beyond the buffers.

    python -m tests.unit.tcp.fuzz [COUNT] [--seed SEED]

Every input is a connection in one of the eleven states (in LISTEN a listener), some with data written, read or out of
order, and then a dozen segments: random ones, likely ones with numbers near the windows' edges, those that the
connection has sent itself, and bytes with flipped bits; in between calls, ICMP errors and time. After each, what must
hold is looked at. A seed repeats a run, and a failure names the input by its number.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import replace
from typing import Final

from layergate.tcp import (
    LINUX,
    RFC,
    Config,
    Connection,
    End,
    Flag,
    Listener,
    Segment,
    State,
    WrongStateError,
    compose_segment,
    parse_segment,
    reset_for,
)
from layergate.tcp.icmp import Complaint, Meaning, complaint, parse_icmp
from layergate.tcp.ip import TCP, Malformed, parse_packet
from layergate.tcp.receiving import PIECE_BYTES_MIN
from layergate.tcp.udp import parse_datagram
from layergate.tcp.wire import NOP, Option, mss_option, timestamps_option, window_scale_option
from tests.unit.tcp.situations import ISS, LOCAL, NOW, PEER_ISS, REMOTE, at, segment, syn

DISPATCHES_MAX: Final = 5000
WAKES_MAX: Final = 400
STEPS: Final = 12
CONFIGS: Final = tuple(
    replace(base, **change)
    for base in (LINUX, RFC)
    for change in (
        {},
        {"timestamps": False, "window_scale": None},
        {"receive_buffer_bytes": 1000, "send_buffer_bytes": 1000, "keepalive": True, "keepalive_idle_s": 30.0},
        {"mss": 100, "receive_buffer_bytes": 40_000, "window_scale": 14, "quick_acks": 0, "nagle": False},
        {"receive_buffer_bytes": 1, "window_scale": None, "retries": 2, "user_timeout_s": 3.0},
    )
)
LIKELY_FLAGS: Final = (
    *(Flag.ACK, Flag.ACK, Flag.ACK, Flag.ACK | Flag.PSH, Flag.ACK | Flag.FIN, Flag.RST, Flag.RST | Flag.ACK, Flag.SYN),
    *(Flag.SYN | Flag.ACK, Flag.SYN | Flag.FIN, Flag.NONE, Flag.FIN, Flag.SYN | Flag.RST, Flag.ACK | Flag.URG),
)


class Subject:
    """What is fuzzed: one connection with what it sent last, or none in LISTEN until a SYN opens one."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.now = NOW
        self.config: Config = source.choice(CONFIGS)
        self.sent: list[Segment] = []
        self.listener: Listener | None = None
        self.connection: Connection | None = None
        state = source.choice(list(State))
        if state is State.LISTEN:
            self.listener = Listener(self.config, LOCAL, source.choice((0, 1, 5)))
        else:
            self.connection = at(state, self.config, orphan=source.random() < 0.3)
            if source.random() < 0.5 and state in (State.ESTABLISHED, State.CLOSE_WAIT, State.SYN_SENT):
                self.connection.write(source.randbytes(source.choice((1, 3000, 100_000))))
            self.settle()

    # --- what is done to it ---

    def step(self) -> None:
        """Do one thing to it, and look."""
        kind = self.source.random()
        if kind < 0.75:
            self.arrive(self.chosen())
        elif kind < 0.85:
            self.call()
        elif kind < 0.9 and self.connection is not None:
            self.connection.unreachable(self.complaint(), self.now)
        else:
            self.now += self.source.choice((0.001, 0.05, 0.5, 5.0, 100.0))
        self.settle()

    def arrive(self, one: Segment) -> None:
        """Let a segment arrive, as a host would."""
        connection = self.connection
        if connection is not None and self.listener is not None and connection in self.listener.half_open:
            answer = self.listener.admits(connection, one)
            if answer is not True:
                return
        if connection is not None and connection.admits(one):
            connection.give_way(self.now)
        elif connection is not None:
            connection.process(one, self.now)
        elif self.listener is not None and one.flags & (Flag.SYN | Flag.ACK | Flag.RST) == Flag.SYN:
            remote = End(REMOTE.address, one.source_port)
            self.connection = self.listener.open(one, LOCAL, remote, sequence=ISS, now=self.now)
        else:
            answer = reset_for(one)
            assert answer is None or answer.flags & Flag.RST

    def call(self) -> None:
        """A call of the process."""
        connection, source = self.connection, self.source
        if connection is None:
            return
        try:
            match source.randrange(6):
                case 0 | 1:
                    connection.write(source.randbytes(source.choice((0, 1, 2000))))
                case 2 | 3:
                    connection.read(source.choice((0, 1, 500, 100_000)), self.now)
                case 4:
                    connection.shutdown_write(self.now)
                case 5 if source.random() < 0.8:
                    connection.close(self.now)
                case 5:
                    connection.abort(self.now)
        except WrongStateError:
            pass

    def complaint(self) -> Complaint:
        """An ICMP error about a segment of ours, or of nobody's."""
        number = (ISS + self.source.choice((0, 1, 2, -1, 500, 1 << 31))) & 0xFFFFFFFF
        meaning = self.source.choice(list(Meaning))
        return Complaint(meaning, LOCAL.address, REMOTE.address, TCP, LOCAL.port, REMOTE.port, number)

    # --- segments ---

    def chosen(self) -> Segment:
        """A segment: likely, random, its own, or damaged on its way."""
        source = self.source
        kind = source.random()
        if kind < 0.6:
            one = self.likely()
        elif kind < 0.8:
            one = self.random_one()
        elif self.sent and kind < 0.85:
            one = source.choice(self.sent)
        else:
            one = self.damaged(self.likely())
        return one

    def near(self) -> int:
        """A number near one that means something to the connection."""
        connection, source = self.connection, self.source
        marks = [PEER_ISS, PEER_ISS + 1]
        if connection is not None:
            receiver = connection._receiver
            marks += [receiver.nxt, receiver.nxt, receiver.edge, connection.irs or 0]
        return source.choice(marks) + source.choice(
            (0, 0, 0, 1, -1, 2, 100, 1460, -1460, source.randrange(-70000, 70000))
        )

    def ack(self) -> int:
        """The same for an acknowledgment."""
        connection, source = self.connection, self.source
        marks = [ISS, ISS + 1]
        if connection is not None:
            marks += [connection._sender.una, connection._sender.nxt, connection._sender.nxt]
        return source.choice(marks) + source.choice((0, 0, 0, 0, 1, -1, 50, source.randrange(-70000, 70000)))

    def likely(self) -> Segment:
        """A segment that might make sense."""
        source = self.source
        size = source.choice((0, 0, 0, 1, 10, 536, 1460, source.randrange(3000)))
        options = (NOP, NOP, timestamps_option(source.choice((0, 1, 5, 1 << 31)), source.getrandbits(32)))
        if source.random() < 0.3:
            options = (mss_option(source.choice((0, 1, 536, 65535))), window_scale_option(source.choice((0, 7, 255))))
        return segment(
            source.choice(LIKELY_FLAGS),
            self.near(),
            self.ack(),
            source.randbytes(size),
            window=source.choice((0, 1, 100, 65535)),
            options=options if source.random() < 0.5 else (),
        )

    def random_one(self) -> Segment:
        """A segment of anything."""
        source = self.source
        kinds = [Option(source.randrange(2, 256), source.randbytes(source.randrange(6))) for _ in range(4)]
        return Segment(
            source.getrandbits(16),
            source.getrandbits(16),
            source.getrandbits(32),
            source.getrandbits(32),
            Flag(source.getrandbits(12)),
            source.getrandbits(16),
            source.getrandbits(16),
            tuple(kinds[: source.randrange(5)]),
            source.randbytes(source.choice((0, 0, 1, 1460, 65000))),
        )

    def damaged(self, one: Segment) -> Segment:
        """A segment whose bytes were changed, if any can be read from them; else the peer's SYN."""
        source = self.source
        data = bytearray(compose_segment(one, REMOTE.address, LOCAL.address))
        for _ in range(source.randrange(1, 5)):
            data[source.randrange(min(len(data), 60))] ^= 1 << source.randrange(8)
        data = data[: source.choice((len(data), source.randrange(len(data) + 1)))]
        for parse in (parse_segment, parse_datagram, parse_icmp):
            parse(bytes(data), REMOTE.address, LOCAL.address)
        packet = parse_packet(bytes(data), whole=source.random() < 0.5)
        icmp = parse_icmp(bytes(data), REMOTE.address, LOCAL.address)
        if not isinstance(icmp, Malformed):
            complaint(icmp, is_v4=True)
        assert isinstance(packet, Malformed) or packet.payload is not None
        read = parse_segment(bytes(data), REMOTE.address, LOCAL.address, verify=False)
        return syn() if isinstance(read, Malformed) else read

    # --- what must hold ---

    def settle(self) -> None:
        """Send what is to be sent, and look whether all is as it must be."""
        connection = self.connection
        if connection is None:
            return
        for event in connection.events():
            assert event.time <= self.now
        count = 0
        while (one := connection.dispatch(self.now)) is not None:
            count += 1
            assert count < DISPATCHES_MAX, "it never stops sending"
            data = compose_segment(one, LOCAL.address, REMOTE.address)
            assert parse_segment(data, LOCAL.address, REMOTE.address) == one
            self.sent = [*self.sent[-9:], one]
        due = connection.poll_at()
        assert due is None or due > self.now, f"due at {due}, and nothing to do at {self.now}"
        assert connection.state is not State.CLOSED or due is None
        sender, receiver = connection._sender, connection._receiver
        kept = len(receiver._buffer) + sum(len(data) for _, data in receiver._later)
        assert kept <= self.config.receive_buffer_bytes, kept
        assert len(sender._buffer) <= self.config.send_buffer_bytes
        assert len(sender._sent) <= len(sender._buffer) + 1
        assert len(sender._lost) <= len(sender._sent)
        assert sender.una <= sender.nxt <= sender.end + 2
        assert len(receiver._later) * PIECE_BYTES_MIN <= self.config.receive_buffer_bytes
        starts = [start for start, _ in receiver._later]
        assert starts == sorted(set(starts))
        assert not starts or starts[0] > receiver.nxt

    def run_out(self) -> None:
        """Let time pass, from timer to timer, until nothing is due any more: unanswered, everything is given up."""
        connection = self.connection
        if connection is None:
            return
        for _ in range(WAKES_MAX):
            due = connection.poll_at()
            if due is None:
                return
            self.now = max(due, self.now)
            self.settle()
        raise AssertionError(f"nobody answers, and yet in {connection.state} it never rests")


def fuzz(count: int, seed: int) -> dict[State, int]:
    """Try *count* inputs of *seed*; return how often each state was where one ended."""
    ends: dict[State, int] = dict.fromkeys(State, 0)
    for number in range(count):
        source = random.Random(f"{seed}/{number}")
        try:
            subject = Subject(source)
            for _ in range(STEPS):
                subject.step()
            ends[subject.connection.state if subject.connection is not None else State.LISTEN] += 1
            if number % 10 == 0:
                subject.run_out()
        except BaseException:
            sys.stderr.write(f"fuzz: input {number} of seed {seed}\n")
            raise
    return ends


def main() -> int:
    """Fuzz, and tell how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begin = time.monotonic()
    ends = fuzz(arguments.count, arguments.seed)
    told = ", ".join(f"{state} {count}" for state, count in ends.items())
    sys.stdout.write(
        f"fuzz: {arguments.count} inputs of {STEPS} steps, seed {arguments.seed}: {time.monotonic() - begin:.0f} s; "
        f"ended in {told}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
