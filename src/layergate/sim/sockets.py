r"""What a process does: sockets with the calls and the errors that Linux's have, as coroutines of the world.

    program = host.program("/usr/bin/curl")
    client = program.tcp()
    await client.connect("10.9.0.2", 80)
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    while data := await client.receive(65536): ...
    client.close()

- A call that waits is awaited; it may be given up after `within_s`, and then raises TimeoutError.
- A call that fails raises OSError with Linux's errno: ECONNREFUSED, EPERM (or what the filter says) where a filter
  blocks
  the call, ECONNABORTED where one ends the connection.
- Every call passes the gate's layers before it does anything.

Source: socket(7), tcp(7), udp(7); docs, "The kernel" (what a block does to a call).
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Final

from layergate.model import Action, Flag, Process
from layergate.path import Call, Endpoint, Step, walk
from layergate.path import Host as Role
from layergate.sim.gate import Where
from layergate.sim.streams import EPHEMERAL, Half, ListenerSocket
from layergate.sim.world import Signal
from layergate.tcp import Address, End, State, WrongStateError
from layergate.tcp.ip import TCP, UDP
from layergate.tcp.udp import PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from layergate.sim.datagrams import UdpPort
    from layergate.sim.host import Host

BLOCKED_ERRNO: Final = errno.EPERM
SEND_AT_ONCE: Final = 1 << 20
"""How much of what is sent is looked at at once."""


def fail(number: int) -> OSError:
    """Return the error of an errno, as a call raises it."""
    return OSError(number, os.strerror(number))


class Program:
    """A process that runs at a host."""

    def __init__(self, host: Host, process: Process) -> None:
        self.host, self.process = host, process

    def tcp(self) -> TcpSocket:
        """Return a new TCP socket."""
        return TcpSocket(self.host, self.process)

    def udp(self) -> UdpSocket:
        """Return a new UDP socket."""
        return UdpSocket(self.host, self.process)


class _Socket:
    """What sockets of both kinds have: what they are bound to, and whose they are.

    *asked*: what the process asked to be bound to; *bound*: what that became.
    """

    protocol: int

    def __init__(self, host: Host, process: Process) -> None:
        self.host, self.process = host, process
        self.asked: End | None = None
        self.bound: End | None = None
        self.is_open = True
        self._binds: list[int] = []
        self._role: Role | None = None
        self._flow: int | None = None
        self._endpoint = Endpoint()

    def _where(self, local: End, remote: End | None = None, *, asked: End | None = None) -> Where:
        return Where(
            self.protocol,
            local,
            remote,
            self.process,
            flags=Flag.IS_LOOPBACK if remote is not None and self.host.has(remote.address) else Flag(0),
            role=self._role,
            flow=self._flow,
            asked=asked,
            implicit=self.asked is None,
            binds=self._binds,
        )

    def _pass(self, step: Step, where: Where) -> None:
        """Pass one layer. Raises OSError: it blocks."""
        told = self.host.gate.at(step, where)
        if told is not None and told.action is Action.BLOCK:
            self.host.tcp.end_sharing(told)
            raise fail((told.filter.refusal if told.filter else 0) or BLOCKED_ERRNO)

    def _bind(self, address: str | Address, port: int, choose: Callable[[End], int]) -> None:
        """Pass the layers of a bind, and be bound. *choose* gives the port, or raises OSError."""
        if self.bound is not None:
            raise fail(errno.EINVAL)
        asked = End(ipaddress.ip_address(address), port)
        if not asked.address.is_unspecified and not self.host.has(asked.address):
            raise fail(errno.EADDRNOTAVAIL)
        self.asked = asked
        steps = walk(Call.BIND, self._endpoint)
        try:
            self._pass(next(steps), self._where(asked))
            chosen = End(asked.address, choose(asked))
            for step in steps:
                self._pass(step, self._where(chosen))
        except OSError:
            self.asked, self._endpoint = None, Endpoint()
            raise
        self.bound = chosen

    def _release(self) -> None:
        """Tell the end of what was bound."""
        if self.bound is not None:
            self.host.gate.passes(Call.RELEASE, self._endpoint, self._where(self.bound))


class TcpSocket(_Socket):
    """A TCP socket: a client's, a listener's, or one that was accepted (it has its *half* then)."""

    protocol = TCP

    def __init__(self, host: Host, process: Process, half: Half | None = None) -> None:
        super().__init__(host, process)
        self.half = half
        self.listener: ListenerSocket | None = None
        self._is_child = half is not None
        self._taken: End | None = None

    @property
    def state(self) -> State:
        """The state, as a list of sockets would show it."""
        if self.listener is not None and self.listener.is_open:
            return State.LISTEN
        return State.CLOSED if self.half is None else self.half.connection.state

    # --- opening ------------------------------------------------------------------------------------------------------

    def bind(self, address: str | Address, port: int = 0) -> None:
        """Bind to an address and port; 0 for any free one.

        Raises OSError: EADDRINUSE, EADDRNOTAVAIL, EINVAL, a block.
        """
        self._bind(address, port, self._choose)
        self._take()

    def _take(self) -> None:
        assert self.bound is not None
        self._taken = self.bound
        self.host.tcp.bound.add(self.bound)

    def _choose(self, asked: End) -> int:
        tcp = self.host.tcp
        if asked.port and tcp.is_taken(asked):
            raise fail(errno.EADDRINUSE)
        return asked.port or tcp.free_port(asked)

    def listen(self, backlog: int = 128) -> None:
        """Listen. Raises OSError. A block at AUTH_LISTEN is heard by `accept`, as the kernel has it."""
        tcp = self.host.tcp
        if self.half is not None:
            raise fail(errno.EINVAL)
        if self.listener is not None and self.listener.is_open:  # again: only its backlog changes
            self.listener.listener.limit(backlog)
            return
        anywhere = End(ipaddress.IPv4Address(0), 0)
        chosen = self.bound or End(anywhere.address, tcp.free_port(anywhere))
        steps = walk(Call.LISTEN, self._endpoint)
        try:
            for step in steps:
                if step.event == Call.LISTEN:
                    self._role = Role.SERVER
                    self.bound = self.asked = chosen
                self._pass(step, self._where(chosen, asked=None if self.bound else anywhere))
        except OSError:
            self._close_listener()
            return
        self._take()
        self.listener = tcp.listen(chosen, backlog, self.process)

    async def accept(self, *, within_s: float | None = None) -> TcpSocket:
        """Return the next connection. Raises OSError (EINVAL: nobody listens), TimeoutError."""
        deadline = self._deadline(within_s)
        while True:
            if self.listener is None or not self.listener.is_open:
                raise fail(errno.EINVAL)
            connection = self.listener.listener.accept()
            if connection is not None:
                half = self.listener.halves.pop(connection)
                half.listener = None
                return TcpSocket(self.host, self.process, half)
            await self._wait(self.listener.arrived, deadline)

    async def connect(self, address: str | Address, port: int, *, within_s: float | None = None) -> None:
        """Connect. Raises OSError (ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, EADDRNOTAVAIL, a block), TimeoutError."""
        deadline = self._deadline(within_s)
        half = self.begin_connect(address, port)
        while half.connection.state in (State.SYN_SENT, State.SYN_RECEIVED):
            await self._wait(half.changed, deadline)
        self._raise_error()

    def begin_connect(self, address: str | Address, port: int) -> Half:
        """Send the SYN, and don't wait: as connect does on a socket that doesn't block. Raises OSError."""
        if self.half is not None or self.state is State.LISTEN:
            raise fail(errno.EISCONN)
        remote = End(ipaddress.ip_address(address), port)
        interface, source = self.host.route(remote.address)
        tcp, bound = self.host.tcp, self.bound
        own = source if bound is None or bound.address.is_unspecified else bound.address
        try:
            local = End(own, bound.port if bound else tcp.free_port(End(own, 0), remote))
        except OSError:
            local = End(own, 0)  # it is heard when the call is authorised
        asked = self.asked or End(type(own)(0), 0)
        self.host.gate.close(Where(TCP, local, remote).key)
        for step in walk(Call.CONNECT, self._endpoint):
            if step.event == Call.CONNECT and self._flow is None:
                self._role, self._flow = Role.CLIENT, self.host.recording.open(TCP, local, remote)
            self._pass(step, self._where(local, remote, asked=bound or asked))
            if step.layer == "ALE_RESOURCE_ASSIGNMENT":
                self.bound = asked
        if not local.port or (local, remote) in tcp.halves:
            self.host.gate.close(Where(TCP, local, remote).key)
            raise fail(errno.EADDRNOTAVAIL)
        self.bound = local
        assert self._flow is not None
        self.half = tcp.connect(local, remote, self.process, self._flow, interface)
        return self.half

    # --- the stream ---------------------------------------------------------------------------------------------------

    async def send(self, data: bytes, *, within_s: float | None = None) -> None:
        """Send all of *data*: it is in the send buffer then. Raises OSError (EPIPE, ECONNRESET, …), TimeoutError."""
        deadline = self._deadline(within_s)
        half = self._connected()
        at = 0
        while at < len(data):
            self._raise_error()
            try:
                taken = half.connection.write(data[at : at + SEND_AT_ONCE])
            except WrongStateError:
                raise fail(errno.EPIPE) from None
            at += taken
            if taken:
                self.host.tcp.pump(half)
            else:
                await self._wait(half.changed, deadline)

    async def receive(self, byte_count: int, *, within_s: float | None = None) -> bytes:
        """Return up to *byte_count* bytes, as soon as there are any; b"" at the end. Raises OSError, TimeoutError."""
        deadline = self._deadline(within_s)
        half = self._connected()
        while True:
            if half.error == errno.ECONNABORTED:
                self._raise_error()
            data = half.connection.read(byte_count, self.host.world.now)
            if data:
                self.host.tcp.pump(half)
                return data
            self._raise_error()
            if half.connection.has_ended or half.is_closed:
                return b""
            await self._wait(half.changed, deadline)

    def shutdown(self) -> None:
        """Send nothing more: a FIN follows what was sent. Raises OSError: ENOTCONN."""
        half = self._connected()
        try:
            half.connection.shutdown_write(self.host.world.now)
        except WrongStateError:
            raise fail(errno.ENOTCONN) from None
        self.host.tcp.pump(half)

    def close(self) -> None:
        """Close. What was sent is still delivered; what was not received is answered by a RST."""
        self._end(reset=False)

    def reset(self) -> None:
        """Close by a RST, as SO_LINGER of no time does."""
        self._end(reset=True)

    def _end(self, *, reset: bool) -> None:
        if not self.is_open:
            return
        self.is_open = False
        if not self._is_child:
            self._release()
        if self._taken is not None:
            self.host.tcp.bound.discard(self._taken)
        if self.listener is not None:
            self._close_listener()
        if self.half is not None:
            connection, now = self.half.connection, self.host.world.now
            connection.abort(now) if reset else connection.close(now)
            self.host.tcp.pump(self.half)

    def _close_listener(self) -> None:
        if self.listener is not None and self.listener.is_open:
            self.host.tcp.stop_listening(self.listener)
        elif self.listener is not None:
            return
        assert self.bound is not None
        where = self._where(self.bound)
        where.flow = None
        self.host.gate.passes(Call.CLOSURE, self._endpoint, where)

    def _connected(self) -> Half:
        if self.half is None:
            raise fail(errno.ENOTCONN)
        return self.half

    def _raise_error(self) -> None:
        if self.half is not None and self.half.error is not None:
            number, self.half.error = self.half.error, None
            raise fail(number)

    def _deadline(self, within_s: float | None) -> float | None:
        return None if within_s is None else self.host.world.now + within_s

    async def _wait(self, signal: Signal, deadline: float | None) -> None:
        if deadline is None:
            await signal
        elif not await self.host.world.first(signal, within_s=deadline - self.host.world.now):
            raise TimeoutError("timed out")


class UdpSocket(_Socket):
    """A UDP socket."""

    protocol = UDP

    def __init__(self, host: Host, process: Process) -> None:
        super().__init__(host, process)
        self._port: UdpPort | None = None

    def bind(self, address: str | Address, port: int = 0) -> None:
        """Bind to an address and port; 0 for any free one.

        Raises OSError: EADDRINUSE, EADDRNOTAVAIL, EINVAL, a block.
        """
        self._bind(address, port, self._choose)
        assert self.bound is not None
        self._port = self.host.udp.open(self.bound, self.process, self._binds)

    def _choose(self, asked: End) -> int:
        ports = self.host.udp.ports
        if asked.port:
            if asked in ports:
                raise fail(errno.EADDRINUSE)
            return asked.port
        low, high = EPHEMERAL
        first = self.host.random.randint(low, high)
        for port in chain(range(first, high + 1), range(low, first)):
            if End(asked.address, port) not in ports:
                return port
        raise fail(errno.EADDRINUSE)

    def send_to(self, data: bytes, address: str | Address, port: int) -> None:
        """Send a datagram.

        Raises OSError: a block, ENETUNREACH, EMSGSIZE, ECONNREFUSED (what an earlier one met).
        """
        remote = End(ipaddress.ip_address(address), port)
        if len(data) > PAYLOAD_BYTES_MAX:
            raise fail(errno.EMSGSIZE)
        if self._port is None:
            anywhere = End(type(remote.address)(0), 0)
            own = End(anywhere.address, self._choose(anywhere))
            self._port = self.host.udp.open(own, self.process, self._binds)
        elif self._port.error is not None:
            number, self._port.error = self._port.error, None
            raise fail(number)
        blocked = self.host.udp.send(self._port, data, remote, asked=self.asked or self.bound)
        self.bound = self.bound or self._port.local
        if blocked is not None:
            raise fail((blocked.filter.error if blocked.filter else 0) or BLOCKED_ERRNO)

    async def receive_from(self, *, within_s: float | None = None) -> tuple[bytes, End]:
        """Return the next datagram and whose it is. Raises OSError, TimeoutError."""
        if self._port is None:
            raise fail(errno.ENOTCONN)
        deadline = None if within_s is None else self.host.world.now + within_s
        while not self._port.received:
            if self._port.error is not None:
                number, self._port.error = self._port.error, None
                raise fail(number)
            if deadline is None:
                await self._port.arrived
            elif not await self.host.world.first(self._port.arrived, within_s=deadline - self.host.world.now):
                raise TimeoutError("timed out")
        return self._port.received.popleft()

    def close(self) -> None:
        """Close, and forget the flows."""
        if self.is_open:
            self.is_open = False
            self._release()
            if self._port is not None:
                self.host.udp.close(self._port)
