"""TCP scenarios as text, in the manner of packetdrill: what arrives, what is called, what must leave, and when.

    # Comments begin with a number sign.
    +0     config timestamps=off                         Config's names; on, off, none, numbers; `rfc` for the RFCs' own
    +0     connect                                       a call
    +0     > S 1000:1000(0) win 64240 <mss 1460,nop,wscale 7>      must be sent, at this very time
    +0.01  < S. 0:0(0) ack 1001 win 65535 <mss 1460>               arrives
    +0     > . 1001:1001(0) ack 1 win 64240
    +0     event Established                             what must have been told
    +0     state ESTABLISHED                             what must be so

- `+d`: d seconds after the line before. What is sent, and not expected by then, fails the scenario; so a line at
  `+60` also says that nothing was sent in this minute.
- Segments read as tcpdump writes them: flags (S F R P . U), first:last(length), ack, win, urg, <options>. Of a
  segment that must be sent, `win` may be left out, and `<...>` stands for any options. Its payload is the stream's:
  the bytes count 0 to 250, over and over, in both directions, so that what is read can be checked too. Behind
  one that arrives, `damaged` flips a bit of it, on its way.
- `PORT:` behind the time is another peer's: `+0 50002: < S 0:0(0) win 65535`. Without it, PEER_PORT's.
- Calls: connect [ISS], listen [BACKLOG], accept, write N, read N, shutdown, close, abort. `= M` behind a call is what
  it must return; `= WrongState` that it must be refused.
- `< icmp MEANING SEQ` is an ICMP error about the segment that began at SEQ.
- Expectations: event NAME [DETAIL], and the QUANTITIES: state, cwnd, rto, available ... each with its value.
- All segments go through the wire format, of IPv4 or (`config family=v6`) IPv6.

    python -m tests.unit.tcp.scenario FILE...          plays them, and tells what happens, line by line

Source: packetdrill (Cardwell et al., USENIX ATC 2013), for the idea and the segments' notation.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from layergate.tcp import (
    LINUX,
    RFC,
    Config,
    Connection,
    End,
    Event,
    Failure,
    Flag,
    Listener,
    Segment,
    State,
    StateChanged,
    WrongStateError,
    compose_segment,
    parse_segment,
    reset_for,
)
from layergate.tcp.icmp import Complaint, Meaning
from layergate.tcp.ip import TCP, Malformed
from tests.unit.tcp.scenario_lines import PEER_PORT, Line, ScenarioError, read

LOCAL_PORT: Final = 80
ISS: Final = 1000
EPSILON_S: Final = 1e-6
"""Times are sums of floating-point numbers: equal is what differs by less than this."""
ADDRESSES: Final = {"v4": ("192.0.2.1", "192.0.2.2"), "v6": ("2001:db8::1", "2001:db8::2")}
DISPATCHES_MAX: Final = 1000
"""More segments at one moment than any scenario needs: the connection doesn't come to rest."""

OF_CONNECTIONS: Final[dict[str, Callable[[Connection], object]]] = {
    "state": lambda one: one.state.value,
    "cwnd": lambda one: one.congestion_window,
    "ssthresh": lambda one: one._sender.congestion.ssthresh,
    "rto": lambda one: round(one.rto_s, 6),
    "srtt": lambda one: round(one.srtt_s, 6) if one.srtt_s is not None else None,
    "available": lambda one: one.available,
    "room": lambda one: one.room,
    "unacknowledged": lambda one: one.unacknowledged,
    "retransmitted": lambda one: one.retransmitted,
    "peer_window": lambda one: one.peer_window,
    "mss": lambda one: one.mss,
}
OF_LISTENERS: Final[dict[str, Callable[[Listener], object]]] = {
    "half_open": lambda one: len(one.half_open),
    "waiting": lambda one: one.waiting,
    "drops": lambda one: one.drops,
    "overflows": lambda one: one.overflows,
}
_ICMP: Final = re.compile(r"icmp (?P<meaning>.+) (?P<sequence>\d+)")


class ScenarioFailure(AssertionError):
    """Something else happened than a line says."""


def stream(start: int, size: int) -> bytes:
    """Return *size* bytes of the stream, from its byte *start* on."""
    return bytes((start + at) % 251 for at in range(size))


@dataclass(slots=True)
class Peer:
    """One connection with a peer: what was told and is not expected yet, and how far it was written and read."""

    connection: Connection
    events: deque[Event] = field(default_factory=deque)
    first_sequence: int | None = None
    written: int = 0
    read: int = 0


class Player:
    """A host with one listener at most, and its peers; the network is the scenario."""

    def __init__(self, *, tell: Callable[[str], object] | None = None) -> None:
        self.now = 0.0
        self.config = Config()
        self.family = "v4"
        self.listener: Listener | None = None
        self.peers: dict[int, Peer] = {}
        self.sent: deque[tuple[float, int, Segment]] = deque()
        self.last_checksum = 0
        self._line = Line("", 0.0, PEER_PORT, "", "")
        self._tell = tell or (lambda _: None)
        self._due = 0.0

    def play(self, lines: list[Line]) -> None:
        """Play all *lines*. Raises ScenarioFailure, and ScenarioError for what only shows on the way."""
        for line in lines:
            self._line = line
            self._due += line.delay_s
            self._advance(self._due)
            if line.verb != ">":
                self._nothing_unexpected()
            self._do(line)
        self._nothing_unexpected()
        for port, peer in self.peers.items():
            left = [event for event in peer.events if isinstance(event, Failure)]
            if left:
                self._fail(f"{port} was told {left[0]}, and no line says so")

    # --- the host ---

    def _ends(self, port: int) -> tuple[End, End]:
        local, remote = ADDRESSES[self.family]
        return End(ip_address(local), LOCAL_PORT), End(ip_address(remote), port)

    def _advance(self, time: float) -> None:
        for _ in range(DISPATCHES_MAX):
            times = (peer.connection.poll_at() for peer in self.peers.values())
            due = min((at for at in times if at is not None), default=None)
            if due is None or due > time + EPSILON_S:
                self.now = max(self.now, time)
                return
            self.now = max(self.now, due)
            self._pump()
        self._fail("the connection does not come to rest")

    def _pump(self) -> None:
        for port, peer in list(self.peers.items()):
            connection = peer.connection
            for _ in range(DISPATCHES_MAX):
                for event in connection.events():
                    self._hear(peer, event)
                segment = connection.dispatch(self.now)
                if segment is None:
                    break
                self._send(port, segment)
            else:
                self._fail("the connection does not come to rest")
            for event in connection.events():
                self._hear(peer, event)

    def _hear(self, peer: Peer, event: Event) -> None:
        self._tell(f"         {self.now:9.4f}   {event}")
        if not isinstance(event, StateChanged):
            peer.events.append(event)
        listener = self.listener
        if listener is None or peer.connection not in listener.half_open:
            return
        if isinstance(event, StateChanged) and event.new is State.ESTABLISHED:
            listener.established(peer.connection)
        elif isinstance(event, StateChanged) and event.new is State.CLOSED:
            listener.ended(peer.connection)

    def _send(self, port: int, segment: Segment) -> None:
        local, remote = self._ends(port)
        data = compose_segment(segment, local.address, remote.address)
        parsed = parse_segment(data, local.address, remote.address)
        if parsed != segment:
            self._fail(f"on the wire {segment} became {parsed}")
        self._tell(f"+{self.now - self._due:<8.4f}{self.now:9.4f} > {segment}")
        self.sent.append((self.now, port, segment))
        self.last_checksum = int.from_bytes(data[16:18], "big")

    def _receive(self, line: Line) -> None:
        assert line.segment is not None
        local, remote = self._ends(line.port)
        peer = self.peers.get(line.port)
        sent = replace(line.segment, source_port=line.port, destination_port=LOCAL_PORT)
        if sent.flags & Flag.SYN and (peer is None or peer.first_sequence is None):
            first = sent.sequence
        else:
            first = peer.first_sequence if peer is not None and peer.first_sequence is not None else sent.sequence
        offset = sent.sequence - first - 1 & 0xFFFFFFFF if not sent.flags & Flag.SYN else 0
        sent = replace(sent, payload=stream(offset, len(sent.payload)))
        data = bytearray(compose_segment(sent, remote.address, local.address))
        if line.damaged:
            data[-1] ^= 1
        segment = parse_segment(bytes(data), remote.address, local.address)
        if isinstance(segment, Malformed):
            return
        if peer is not None and self.listener is not None and peer.connection.admits(segment):
            peer.connection.give_way(self.now)
            self._pump()
            del self.peers[line.port]
            peer = None
        if peer is None or (peer.connection.state is State.CLOSED and segment.flags & Flag.SYN):
            peer = self._to_port(line.port, segment)
        elif self._admitted(line.port, peer, segment):
            peer.connection.process(segment, self.now)
        if peer is not None and segment.flags & Flag.SYN and peer.first_sequence is None:
            peer.first_sequence = segment.sequence
        self._pump()

    def _admitted(self, port: int, peer: Peer, segment: Segment) -> bool:
        if self.listener is None or peer.connection not in self.listener.half_open:
            return True
        answer = self.listener.admits(peer.connection, segment)
        if isinstance(answer, Segment):
            self.listener.ended(peer.connection)
            del self.peers[port]
            self._send(port, answer)
        return answer is True

    def _to_port(self, port: int, segment: Segment) -> Peer | None:
        local, remote = self._ends(port)
        if self.listener is not None and segment.flags & (Flag.SYN | Flag.ACK | Flag.RST) == Flag.SYN:
            connection = self.listener.open(segment, local, remote, sequence=ISS, now=self.now)
            if connection is not None:
                self.peers[port] = Peer(connection)
            return self.peers.get(port)
        answer = reset_for(segment)
        if answer is not None:
            self._send(port, answer)
        return None

    # --- the lines ---

    def _do(self, line: Line) -> None:
        if line.verb == ">":
            self._expect_segment(line)
        elif line.verb == "<":
            self._tell(f"+{line.delay_s:<8}{self.now:9.4f} < {line.rest}")
            if line.segment is None:
                self._unreachable(line)
            else:
                self._receive(line)
        elif line.verb == "event":
            self._expect_event(line)
        elif line.verb == "checksum":
            self._expect(line, f"0x{self.last_checksum:04x}")
        elif line.verb in OF_LISTENERS:
            if self.listener is None:
                raise ScenarioError(line.place, f"`{line.verb}` before `listen`")
            self._expect(line, OF_LISTENERS[line.verb](self.listener))
        elif line.verb in OF_CONNECTIONS:
            self._expect(line, OF_CONNECTIONS[line.verb](self._peer(line).connection))
        else:
            self._tell(f"+{line.delay_s:<8}{self.now:9.4f}   {line.verb} {line.rest}")
            self._call(line)
            self._pump()

    def _peer(self, line: Line) -> Peer:
        if line.port not in self.peers:
            raise ScenarioError(line.place, f"`{line.verb}`: there is no connection with port {line.port}")
        return self.peers[line.port]

    def _call(self, line: Line) -> None:
        given, _, wanted = (part.strip() for part in line.rest.partition("="))
        if line.verb == "config":
            self._configure(line)
            return
        if line.verb in ("connect", "listen", "write", "read") and given and not given.isdecimal():
            raise ScenarioError(line.place, f"`{line.verb} {given}`: {given} is no number")
        count = int(given) if given else None
        if line.verb in ("write", "read") and count is None:
            raise ScenarioError(line.place, f"`{line.verb}` needs a number of bytes")
        try:
            got = self._called(line, count)
        except WrongStateError:
            got = "WrongState"
        if wanted and str(got) != wanted:
            self._fail(f"it returned {got}, not {wanted}")
        if not wanted and got == "WrongState":
            self._fail(f"refused in {self._peer(line).connection.state}")

    def _called(self, line: Line, count: int | None) -> object:
        match line.verb:
            case "connect":
                local, remote = self._ends(line.port)
                iss = ISS if count is None else count
                self.peers[line.port] = Peer(Connection.connect(self.config, local, remote, sequence=iss, now=self.now))
                return None
            case "listen":
                backlog = self.config.somaxconn if count is None else count
                self.listener = Listener(self.config, self._ends(line.port)[0], backlog)
                return None
            case "accept":
                if self.listener is None:
                    raise ScenarioError(line.place, "`accept` before `listen`")
                connection = self.listener.accept()
                return None if connection is None else connection.remote.port
        peer = self._peer(line)
        connection = peer.connection
        match line.verb:
            case "write":
                assert count is not None
                taken = connection.write(stream(peer.written, count))
                peer.written += taken
                return taken
            case "read":
                assert count is not None
                data = connection.read(count, self.now)
                if data != stream(peer.read, len(data)):
                    self._fail(f"what was read is not the stream from {peer.read} on")
                peer.read += len(data)
                return len(data)
            case "shutdown":
                connection.shutdown_write(self.now)
            case "close":
                connection.close(self.now)
            case "abort":
                connection.abort(self.now)
        return None

    def _configure(self, line: Line) -> None:
        config = self.config
        for word in line.rest.split():
            name, equals, value = word.partition("=")
            if word in ("rfc", "linux"):
                config = RFC if word == "rfc" else LINUX
            elif name == "family" and value in ADDRESSES:
                self.family = value
            elif not equals or name not in Config.__dataclass_fields__:
                raise ScenarioError(line.place, f"`{word}`: Config has no `{name}`; write NAME=VALUE, `rfc` or `linux`")
            else:
                try:
                    config = replace(config, **{name: _value(value)})
                except ValueError as error:
                    raise ScenarioError(line.place, f"`{word}`: {error}") from error
        self.config = config

    def _unreachable(self, line: Line) -> None:
        match = _ICMP.fullmatch(line.rest)
        if match is None or match["meaning"] not in list(Meaning):
            raise ScenarioError(line.place, f"`{line.rest}`: write `icmp MEANING SEQ`, of {', '.join(Meaning)}")
        local, remote = self._ends(line.port)
        self._peer(line).connection.unreachable(
            Complaint(
                Meaning(match["meaning"]),
                local.address,
                remote.address,
                TCP,
                LOCAL_PORT,
                line.port,
                int(match["sequence"]),
            ),
            self.now,
        )
        self._pump()

    # --- what must be so ---

    def _expect_segment(self, line: Line) -> None:
        assert line.segment is not None
        if not self.sent:
            self._fail(f"`{line.rest}` was not sent; nothing was")
        time, port, segment = self.sent.popleft()
        wanted = replace(line.segment, source_port=LOCAL_PORT, destination_port=line.port)
        if line.any_window:
            wanted = replace(wanted, window=segment.window)
        if line.any_options:
            wanted = replace(wanted, options=segment.options)
        if str(wanted) != str(segment) or port != line.port:
            self._fail(f"expected {line.port}: > {wanted}\n  but sent {port}: > {segment}")
        if abs(time - self._due) > EPSILON_S:
            self._fail(f"{segment} was sent at {time:.6f} s, not at {self._due:.6f} s")
        peer = self.peers.get(port)
        if segment.payload and peer is not None:
            offset = segment.sequence - peer.connection.iss - 1 & 0xFFFFFFFF
            if segment.payload != stream(offset, len(segment.payload)):
                self._fail(f"the payload of {segment} is not the stream's")

    def _expect_event(self, line: Line) -> None:
        name, _, detail = line.rest.partition(" ")
        peer = self._peer(line)
        told = [_words(event) for event in peer.events]
        while peer.events:
            event = peer.events.popleft()
            if type(event).__name__ == name:
                if detail and _words(event) != line.rest:
                    self._fail(f"told was {_words(event)}")
                return
            if isinstance(event, Failure):
                break
        self._fail(f"`{line.rest}` was not told; there was {', '.join(told) or 'nothing'}")

    def _expect(self, line: Line, got: object) -> None:
        same = str(got) == line.rest
        if isinstance(got, float) and not same:
            try:
                same = abs(got - float(line.rest)) < EPSILON_S
            except ValueError as error:
                raise ScenarioError(line.place, f"`{line.verb} {line.rest}`: that is no number") from error
        if not same:
            self._fail(f"{line.verb} is {got}, not {line.rest}")

    def _nothing_unexpected(self) -> None:
        if self.sent:
            time, port, segment = self.sent[0]
            self._fail(f"at {time:.6f} s was sent, and no line expects it: {port}: > {segment}")

    def _fail(self, finding: str) -> None:
        raise ScenarioFailure(f"{self._line.place}: {finding}")


def _words(event: Event) -> str:
    """Return an event as a line writes it: its name, and what it says besides the time."""
    values = [getattr(event, name) for name in event.__dataclass_fields__ if name != "time"]
    return " ".join([type(event).__name__, *map(str, values)])


def _value(text: str) -> object:
    named: dict[str, object] = {"on": True, "off": False, "none": None}
    if text in named:
        return named[text]
    return float(text) if "." in text else int(text)


def main(paths: list[str]) -> int:
    """Play the files at *paths*, and tell what happens."""
    status = 0
    for path in paths:
        sys.stdout.write(f"{path}\n")
        try:
            Player(tell=lambda text: sys.stdout.write(f"  {text}\n")).play(read(Path(path)))
        except (ScenarioError, ScenarioFailure) as error:
            sys.stdout.write(f"FAILED {error}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
