"""A host's TCP: which connection or listener a segment is for, and the gate's layers on its way in and out.

One order holds for every segment, and for what it brings about:

    in    the layers of the packet; TCP takes it in; what TCP says (established, bytes in order) passes its layers; what
    TCP
          sends in answer; the end of the connection, if it has ended
    out   the layers of the packet; the wire

- A block at the layer that authorised the flow, at FLOW_ESTABLISHED or at STREAM resets the connection: its process
  hears ECONNABORTED, its peer a RST. A block of a packet drops the packet, and TCP sends it again as it does.
- A connection's end is indicated once, when Linux closes its socket: when it is CLOSED, enters TIME_WAIT, or is in
  FIN_WAIT_2 with nobody who holds it. A process that ends it by a RST closes first; a block, and keepalive, send first.
- A listener that AUTH_LISTEN blocks is destroyed: what was bound stays bound, and nobody listens.

Source: docs, "The kernel" (what a block does); Linux 6.18, net/ipv4/tcp_ipv4.c (tcp_v4_rcv).
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from layergate.ale.living import LOOK_S
from layergate.model import Decided, Filter, Flag, Process
from layergate.model.limits import Response
from layergate.path import AUTHORIZED_AT, Call, Delivered, Endpoint
from layergate.path import Host as Role
from layergate.path import Segment as Passing
from layergate.sim.gate import Where
from layergate.sim.world import Event, Signal
from layergate.tcp import (
    Connection,
    DataArrived,
    End,
    EndOfStream,
    Established,
    Listener,
    Refused,
    Reset,
    Segment,
    State,
    StateChanged,
    Unreachable,
    Vanished,
    compose_segment,
    parse_segment,
    reset_for,
)
from layergate.tcp import Flag as Control
from layergate.tcp.icmp import Complaint, Meaning
from layergate.tcp.ip import TCP, Malformed, Packet, make_packet
from layergate.tcp.sequence import distance

if TYPE_CHECKING:
    from layergate.sim.host import Host, Interface

EPHEMERAL: Final = (32768, 60999)
"""ip_local_port_range."""
SYNS_REMEMBERED: Final = 65536
_ENDED: Final = (State.CLOSED, State.TIME_WAIT)
_LIVING: Final = (State.ESTABLISHED, State.CLOSE_WAIT)  # whoever closed has said what he had to say
# Where a block ends the connection; elsewhere it drops a packet.
_RESETS: Final = frozenset({*AUTHORIZED_AT.values(), "ALE_FLOW_ESTABLISHED", "STREAM"})
_UNREACHABLE: Final = {
    Meaning.NETWORK_UNREACHABLE: errno.ENETUNREACH,
    Meaning.PROTOCOL_UNREACHABLE: errno.ENOPROTOOPT,
    Meaning.PORT_UNREACHABLE: errno.ECONNREFUSED,
}


@dataclass(eq=False)
class Half:
    """One host's half of a connection: TCP's, and what the gate must know of it.

    *number*: the socket's at its host. *error*: what its process is to hear, an errno, once. *listener*: whose child it
    is. *resets_first*: its end is told after the RST that it sends, not before.
    """

    connection: Connection
    interface: Interface
    endpoint: Endpoint
    role: Role
    flow: int
    process: Process | None
    changed: Signal
    listener: ListenerSocket | None = None
    error: int | None = None
    history: list[StateChanged] = field(default_factory=list)
    number: int = 0
    is_closed: bool = False
    resets_first: bool = False
    _high: int | None = None
    _inbound: Where | None = None
    _outbound: Where | None = None
    timer: Event | None = None

    def where(self, *, inbound: bool) -> Where:
        """Return what is known of a packet of this connection."""
        found = self._inbound if inbound else self._outbound
        if found is None:
            connection, interface = self.connection, self.interface
            found = Where(
                TCP,
                connection.local,
                connection.remote,
                self.process,
                interface.index,
                Flag.IS_LOOPBACK if interface.index == 1 else Flag(0),
                inbound,
                self.role,
                self.flow,
            )
            if inbound:
                self._inbound = found
            else:
                self._outbound = found
        return found

    def fresh_bytes(self, segment: Segment) -> int:
        """Return how many bytes of *segment* were never sent before; SYN and FIN are none."""
        start = segment.sequence + bool(segment.flags & Control.SYN)
        end = start + len(segment.payload)
        if self._high is None or segment.flags & Control.SYN:
            self._high = end & 0xFFFFFFFF
            return len(segment.payload)
        fresh = min(distance(self._high, end & 0xFFFFFFFF), len(segment.payload))
        if fresh <= 0:
            return 0
        self._high = end & 0xFFFFFFFF
        return fresh


@dataclass(eq=False)
class ListenerSocket:
    """A listener with whose it is, and its number. *arrived* fires when a connection waits to be accepted."""

    listener: Listener
    process: Process
    arrived: Signal
    number: int
    halves: dict[Connection, Half] = field(default_factory=dict)
    is_open: bool = True


class TcpStack:
    """TCP of one host."""

    def __init__(self, host: Host) -> None:
        self.host, self.world, self.gate = host, host.world, host.gate
        self.halves: dict[tuple[End, End], Half] = {}
        self.listeners: dict[End, ListenerSocket] = {}
        self.bound: set[End] = set()
        self.port_range = EPHEMERAL
        self._numbers = itertools.count(1)
        self._looking: Event | None = None
        self._syns: dict[tuple[End, End], tuple[int, int]] = {}  # the SYN that each flow was opened by, and its number

    # --- ports --------------------------------------------------------------------------------------------------------

    def free_port(self, local: End, remote: End | None = None) -> int:
        """Return a port that nobody has: towards *remote*, one may serve many peers. Raises OSError."""
        low, high = self.port_range
        count = high - low + 1
        first = self.host.random.randrange(count)
        for step in range(count):
            port = low + (first + step) % count
            if remote is None:
                if not self.is_taken(End(local.address, port)):
                    return port
            elif (End(local.address, port), remote) not in self.halves and End(local.address, port) not in self.bound:
                return port
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def is_taken(self, end: End) -> bool:
        """Whether somebody is bound to *end*, or to all addresses at its port."""
        return any(
            one.port == end.port
            and one.address.version == end.address.version
            and (one.address == end.address or one.address.is_unspecified or end.address.is_unspecified)
            for one in self.bound
        )

    # --- calls --------------------------------------------------------------------------------------------------------

    def connect(self, local: End, remote: End, process: Process, flow: int, interface: Interface) -> Half:
        """Begin a connection that is authorised; its SYN leaves at once."""
        sequence, stamp = self._start(local, remote)
        connection = Connection.connect(
            interface.config, local, remote, sequence=sequence, now=self.world.now, stamp=stamp
        )
        half = Half(
            connection, interface, Endpoint(Role.CLIENT, bound=True), Role.CLIENT, flow, process, Signal(self.world)
        )
        half.number = next(self._numbers)
        self.halves[local, remote] = half
        self.pump(half)
        return half

    def _start(self, local: End, remote: End) -> tuple[int, int]:
        """Return the first sequence number between these ends now, and what their timestamps count from.

        Both grow with time, so that a later connection between the same ends is told from an earlier one (RFC 9293,
        3.4.1; RFC 6528): the number by one each 4 microseconds.
        """
        chance = self.world.random(f"ends {local} {remote}")
        return (chance.getrandbits(32) + int(self.world.now / 4e-6)) & 0xFFFFFFFF, chance.getrandbits(32)

    def listen(self, local: End, backlog: int, process: Process) -> ListenerSocket:
        """Listen at *local*."""
        socket = ListenerSocket(
            Listener(self.host.config, local, backlog), process, Signal(self.world), next(self._numbers)
        )
        self.listeners[local] = socket
        return socket

    def stop_listening(self, socket: ListenerSocket) -> None:
        """End a listener: who waits to be accepted is reset, who is half open is forgotten."""
        socket.is_open = False
        self.listeners.pop(socket.listener.local, None)
        for connection in socket.listener.close(self.world.now):
            half = socket.halves.pop(connection)
            half.listener = None
            if connection.state is State.SYN_RECEIVED:
                self._forget(half)
            else:
                self.pump(half)

    def forget(self) -> None:
        """Lose everything, and tell nobody."""
        for half in list(self.halves.values()):
            half.error = errno.ENETDOWN
            self._forget(half)
            half.changed.fire()
        self.listeners.clear()
        self.bound.clear()

    def _forget(self, half: Half) -> None:
        ends = half.connection.local, half.connection.remote
        if self.halves.get(ends) is half:
            del self.halves[ends]
            self.gate.close(half.where(inbound=False).key)
        if half.timer is not None:
            half.timer.cancel()
            half.timer = None

    # --- segments in --------------------------------------------------------------------------------------------------

    def receive(self, interface: Interface, packet: Packet) -> None:
        """Take a packet in that holds a segment."""
        segment = parse_segment(packet.payload, packet.source, packet.destination)
        if isinstance(segment, Malformed):
            self.host.counts[segment.reason] += 1
            return
        local = End(packet.destination, segment.destination_port)
        remote = End(packet.source, segment.source_port)
        half, listener = self.halves.get((local, remote)), self._listener_at(local)
        if half is not None and listener is not None and half.connection.admits(segment):
            half.connection.give_way(self.world.now)
            self._forget(half)
            half = None
        if half is not None:
            self._to_connection(half, segment)
        else:
            self._to_port(listener, interface, local, remote, segment)

    def _listener_at(self, local: End) -> ListenerSocket | None:
        found = self.listeners.get(local)
        if found is None:
            any_of = [
                one for end, one in self.listeners.items() if end.port == local.port and end.address.is_unspecified
            ]
            # One of its own family before one at ::, which takes IPv4 too.
            any_of.sort(key=lambda one: one.listener.local.address.version != local.address.version)
            found = next((one for one in any_of if one.listener.local.address.version >= local.address.version), None)
        return found

    def _to_connection(self, half: Half, segment: Segment) -> None:
        connection = half.connection
        where = half.where(inbound=True)
        self._mind_policy(half, where)
        blocked = self.gate.passes(Passing(int(segment.flags), inbound=True), half.endpoint, where)
        if blocked is not None:
            if blocked.indication.layer.base in _RESETS:
                self.reset(half)
            return
        if _is_abnormal(segment):
            past = self.gate.counter.abnormal(where.key, self.world.now)
            if self._ends(half, past, itself=not segment.flags & Control.RST):
                return
        if half.listener is not None and connection in half.listener.listener.half_open:
            admitted = half.listener.listener.admits(connection, segment)
            if isinstance(admitted, Segment):
                half.listener.listener.ended(connection)
                self._forget(half)
                self._send_kernels(half.interface, connection.local, connection.remote, admitted, half.endpoint)
            if admitted is not True:
                return
        connection.process(segment, self.world.now)
        self.pump(half)

    def _to_port(
        self, socket: ListenerSocket | None, interface: Interface, local: End, remote: End, segment: Segment
    ) -> None:
        """A segment of no connection: for a listener, or for nobody."""
        is_syn = segment.flags & (Control.SYN | Control.ACK | Control.RST | Control.FIN) == Control.SYN
        flow = self._begin(local, remote, segment) if is_syn else None
        where = self.host.where(interface, TCP, local, remote, inbound=True)
        where.process = socket.process if socket else None
        endpoint = Endpoint(where.role or Role.SERVER, has_socket=socket is not None)
        blocked = self.gate.passes(Passing(int(segment.flags), inbound=True), endpoint, where)
        if blocked is not None:
            self.end_sharing(blocked)
            limit = blocked.filter.limit if blocked.filter is not None else None
            refusal = reset_for(segment)
            if socket and limit is not None and limit.response is Response.REFUSE and refusal is not None:
                self._transmit(interface, local, remote, refusal)
            return
        if socket is not None and flow is not None:
            self._open(socket, interface, endpoint, segment, where)
        else:
            # A listener answers an ACK so, and says nothing to what is neither that nor a SYN.
            answer = reset_for(segment) if socket is None or segment.flags & Control.ACK else None
            if answer is not None:
                self._send_kernels(interface, local, remote, answer, endpoint)

    def _begin(self, local: End, remote: End, syn: Segment) -> int:
        """Return the flow that *syn* opens: as its sender told it, or a new one where its sender is nobody here."""
        number, role = self.host.recording.find(TCP, local, remote)
        known = self._syns.get((local, remote))
        if number is not None and role is Role.SERVER and known == (syn.sequence, number):
            return number  # sent again
        if number is None or role is not Role.SERVER or (known is not None and known[1] == number):
            number = self.host.recording.open(TCP, remote, local)
        self._syns[local, remote] = syn.sequence, number
        if len(self._syns) > SYNS_REMEMBERED:
            del self._syns[next(iter(self._syns))]
        self.gate.close(Where(TCP, local, remote).key)
        return number

    def _open(
        self, socket: ListenerSocket, interface: Interface, endpoint: Endpoint, syn: Segment, where: Where
    ) -> None:
        assert where.remote is not None
        assert where.flow is not None
        sequence, stamp = self._start(where.local, where.remote)
        connection = socket.listener.open(
            syn, where.local, where.remote, interface.config, sequence=sequence, now=self.world.now, stamp=stamp
        )
        if connection is None:
            return
        endpoint.authorized = True
        half = Half(
            connection, interface, endpoint, Role.SERVER, where.flow, socket.process, Signal(self.world), socket
        )
        half.number = next(self._numbers)
        self.halves[where.local, where.remote] = socket.halves[connection] = half
        self.pump(half)

    # --- limits -------------------------------------------------------------------------------------------------------

    def end_sharing(self, blocked: Decided) -> None:
        """A limit has blocked: end the connections of the same key, where it says so."""
        item = blocked.filter
        if item is not None and item.limit is not None and item.limit.response is Response.RESET:
            self._reset_all(self.gate.counter.sharing(item, blocked.indication))

    def _reset_all(self, flows: Iterable[Hashable]) -> None:
        wanted = set(flows)
        for half in [one for one in self.halves.values() if one.where(inbound=False).key in wanted]:
            self.reset(half)

    def _ends(self, half: Half, past: Iterable[Filter], *, itself: bool = True) -> bool:
        """Whether the connection of *half* is ended, for it has got past limits; others of its key are, too.

        *itself*: not if False, for it ends anyway.
        """
        key, is_ended = half.where(inbound=False).key, False
        for item in past:
            assert item.limit is not None
            if item.limit.monitor:
                continue
            others = self.gate.counter.sharing_with(item, key) if item.limit.response is Response.RESET else []
            self._reset_all({*others, key} if itself else {*others} - {key})
            is_ended = itself
        return is_ended

    def _look(self) -> None:
        """See, each second, who of the living has received too little."""
        halves: dict[Hashable, Half] = {one.where(inbound=False).key: one for one in self.halves.values()}

        def received(flow: Hashable) -> int | None:
            half = halves.get(flow)
            return half.connection.received if half is not None and half.connection.state in _LIVING else None

        for flow, item in self.gate.counter.living(received, self.world.now):
            self._ends(halves[flow], (item,))
        self._looking = None
        self._look_later()

    def _look_later(self) -> None:
        if self._looking is None and self.gate.counter.looks:
            self._looking = self.world.after(LOOK_S, self._look)

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def pump(self, half: Half) -> None:
        """Let TCP say what happened, and send what it has to send; then wait for what is next."""
        connection, now = half.connection, self.world.now
        while True:
            heard = self._hear_all(half)
            if connection.state is State.CLOSED and not half.resets_first:
                self._close(half)
            segment = connection.dispatch(now)
            if segment is not None:
                self._hear_all(half)  # what time brought comes before what it makes TCP send
                self._send(half, segment)
            elif not heard and not self._hear_all(half):
                break
        self._end(half)
        self._wait(half)
        half.changed.fire()

    def _hear_all(self, half: Half) -> bool:
        events = half.connection.events()
        for event in events:
            self._hear(half, event)
        return bool(events)

    def _hear(self, half: Half, event: object) -> None:
        if isinstance(event, StateChanged):
            half.history.append(event)
            if event.new is State.CLOSED and half.listener is not None:
                half.listener.listener.ended(half.connection)
        elif isinstance(event, Established):
            where = half.where(inbound=half.role is Role.SERVER)
            if self.gate.passes(Call.ESTABLISHED, half.endpoint, where) is not None:
                self._abort(half)
                return
            self.gate.counter.established(where.key)
            self._look_later()
            if half.listener is not None:
                half.listener.listener.established(half.connection)
                half.listener.arrived.fire()
        elif isinstance(event, DataArrived):
            if self.gate.passes(Delivered(), half.endpoint, half.where(inbound=True)) is not None:
                self._abort(half)
        elif not isinstance(event, EndOfStream):
            half.resets_first = half.resets_first or isinstance(event, Vanished)
            half.error = half.error or _errno_of(event, half.history)

    def reset(self, half: Half) -> None:
        """The policy ends a connection: its process hears ECONNABORTED, its peer a RST."""
        self._abort(half)
        self.pump(half)

    def _abort(self, half: Half) -> None:
        if half.connection.state not in _ENDED:
            half.error, half.resets_first = errno.ECONNABORTED, True
            half.connection.abort(self.world.now)

    def _end(self, half: Half) -> None:
        connection = half.connection
        if connection.state in _ENDED or (connection.state is State.FIN_WAIT_2 and connection.is_orphan):
            self._close(half)
        if connection.state is State.CLOSED:
            self._forget(half)

    def _close(self, half: Half) -> None:
        """Tell the end of a connection, once; what was never established from outside was no socket yet."""
        if half.is_closed:
            return
        half.is_closed = True
        if half.role is Role.CLIENT or any(one.new is State.ESTABLISHED for one in half.history):
            self.gate.passes(Call.CLOSURE, half.endpoint, half.where(inbound=False))
        self.gate.close(half.where(inbound=False).key)

    def _wait(self, half: Half) -> None:
        due = half.connection.poll_at()
        timer = half.timer
        if timer is not None and not timer.cancelled and due is not None and self.world.now < timer.time <= due:
            return  # it wakes early, and waits again
        if timer is not None:
            timer.cancel()
        half.timer = None if due is None else self.world.at(due, lambda: self._wake(half))

    def _wake(self, half: Half) -> None:
        half.timer = None
        self.pump(half)

    def unreachable(self, complaint: Complaint) -> None:
        """Take an ICMP error in that quotes a segment of ours."""
        local = End(complaint.source, complaint.source_port)
        remote = End(complaint.destination, complaint.destination_port)
        half = self.halves.get((local, remote))
        if half is not None:
            half.connection.unreachable(complaint, self.world.now)
            self.pump(half)

    # --- segments out -------------------------------------------------------------------------------------------------

    def _mind_policy(self, half: Half, where: Where) -> None:
        known = self.gate.flows.get(where.key) is not None
        half.endpoint.reauthorize = known and self.gate.flows.is_due(where.key)

    def _send(self, half: Half, segment: Segment) -> None:
        where = half.where(inbound=False)
        self._mind_policy(half, where)
        passing = Passing(int(segment.flags), inbound=False, stream_bytes=half.fresh_bytes(segment))
        blocked = self.gate.passes(passing, half.endpoint, where)
        if blocked is None:
            self._transmit(half.interface, half.connection.local, half.connection.remote, segment)
        elif blocked.indication.layer.base in _RESETS:
            self._abort(half)

    def _send_kernels(
        self, interface: Interface, local: End, remote: End, segment: Segment, endpoint: Endpoint
    ) -> None:
        """Send what no socket sends: a RST to what is nobody's."""
        where = self.host.where(interface, TCP, local, remote, inbound=False)
        if self.gate.passes(Passing(int(segment.flags), inbound=False), endpoint, where) is None:
            self._transmit(interface, local, remote, segment)

    def _transmit(self, interface: Interface, local: End, remote: End, segment: Segment) -> None:
        payload = compose_segment(segment, local.address, remote.address)
        self.host.send(interface, make_packet(local.address, remote.address, TCP, payload))


def _is_abnormal(segment: Segment) -> bool:
    """Whether a peer's segment to a connection is odd: a SYN again, a RST, a window that is closed."""
    is_syn = segment.flags & (Control.SYN | Control.ACK) == Control.SYN
    return is_syn or bool(segment.flags & Control.RST) or not segment.window


def _errno_of(failure: object, history: list[StateChanged]) -> int:
    """Return what a process hears of *failure*, as Linux says it."""
    if isinstance(failure, Refused):
        return errno.ECONNREFUSED
    if isinstance(failure, Reset):
        last = history[-1].old if history else None
        return errno.EPIPE if last is State.CLOSE_WAIT else errno.ECONNRESET
    if isinstance(failure, Unreachable):
        return _UNREACHABLE.get(failure.meaning, errno.EHOSTUNREACH)
    return errno.ETIMEDOUT
