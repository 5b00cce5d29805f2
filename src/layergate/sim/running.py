"""A scenario, played: its hosts, links and programs made, its statements carried out, one after another.

What a call waits for passes in the world's time. A call that fails goes into the recording, and the scenario goes on,
unless it said how the call was to end: then anything else is an error of the scenario. So is a call that waits for what
never comes. After the last statement the world goes on for a moment, as a trace does.
Source: `script` has the words.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from layergate.model import Policy, PolicyError, Problem
from layergate.policyfile import Resolver, load_text
from layergate.sim.host import Host
from layergate.sim.link import Link
from layergate.sim.plans import ALL, Block, Call, Forge, Happens, Script, Statement
from layergate.sim.recording import Called, Noted, Recording
from layergate.sim.script import statements
from layergate.sim.sockets import Program, TcpSocket, UdpSocket
from layergate.sim.words import address_of
from layergate.sim.world import RunawayError, Task, World
from layergate.tcp import Address, Config, Segment, compose_segment
from layergate.tcp.ip import TCP, compose_packet, make_packet

LINGER_S: Final = 2.0
LASTS_S_MAX: Final = 7 * 86400.0
"""A scenario that takes longer goes in circles."""
_PATTERN: Final = bytes(range(33, 127))
RECEIVED_AT_ONCE: Final = 1 << 16


class _UnexpectedError(Exception):
    def __init__(self, line: int, text: str, found: str, accepted: str) -> None:
        super().__init__(found)
        self.line, self.text, self.found, self.accepted = line, text, found, accepted


@dataclass
class Run:
    """A scenario at work. *version*: 4 or 6. *policy*: in force at every host that has none of its own."""

    script: Script
    resolver: Resolver
    seed: int = 0
    version: int = 4
    policy: Policy | None = None
    recording: Recording = field(default_factory=Recording)
    hosts: dict[str, Host] = field(default_factory=dict)
    sockets: dict[str, TcpSocket | UdpSocket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the hosts. Raises PolicyError."""
        self.world = World(self.seed)
        script = self.script
        self._check([*script.policies.values(), *_policies(script.statements)])
        for name, plan in script.hosts.items():
            text = script.policies.get(name)
            self.hosts[name] = host = Host(
                self.world,
                self.recording,
                name,
                policy=self.policy if text is None else self._load(text),
                config=Config(**script.options.get(name, {})),  # type: ignore[arg-type]
                forwards=plan.forwards,
                forgets_s=plan.forgets_s,
            )
            if plan.ports is not None:
                host.tcp.port_range = plan.ports
        self._links: list[Link] = []
        for link_plan in script.links:
            link = Link(self.world, self.recording, link_plan.ends, link_plan.config)
            self._links.append(link)
            for end, name in enumerate(link_plan.ends):
                self.hosts[name].plug(link, end, self._addresses(name, link_plan.ends[1 - end]))
        self._programs: dict[str, Program] = {
            one.name: self.hosts[one.host].program(one.app, user=one.user, unit=one.unit)
            for one in script.programs.values()
        }
        self._beside: list[Task[None]] = []
        self._doing: dict[Task[None], list[tuple[int, str]]] = {}

    def _addresses(self, name: str, peer: str) -> Sequence[str]:
        """Return the addresses of *name* on its link to *peer*: those in a network with the peer's, or all of them."""
        own = self.script.hosts[name].addresses
        links = [one for one in self.script.links if name in one.ends]
        if len(links) == 1:
            return own
        networks = [Host.network(one) for one in self.script.hosts[peer].addresses]
        return [one for one in own if any(Host.network(one) == network for network in networks)]

    def _check(self, texts: Sequence[str]) -> None:
        """See that all policies are right, before anything is played. Raises PolicyError."""
        problems: list[Problem] = []
        for text in texts:
            try:
                self._load(text)
            except PolicyError as error:
                problems += error.problems
        if problems:
            raise PolicyError(tuple(problems))

    def _load(self, text: str) -> Policy:
        return load_text(text, file=self.script.file, resolver=self.resolver).policy

    # --- playing ------------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Play it to its end. Raises PolicyError: a call ended otherwise than the scenario says, or not at all."""
        main = self._spawn(self.script.statements)
        try:
            self._until(main)
            for task in self._beside:
                self._until(task)
        except _UnexpectedError as wrong:
            problem = Problem(self.script.file, wrong.line, wrong.text, wrong.found, wrong.accepted)
            raise PolicyError((problem,)) from None
        except RunawayError as error:
            raise PolicyError((Problem(self.script.file, None, "", str(error), "fewer"),)) from None
        self.world.run(until=self.world.now + LINGER_S)

    def _spawn(self, body: Sequence[Statement]) -> Task[None]:
        doing = [(0, "")]
        task = self.world.spawn(self._run(body, doing))
        self._doing[task] = doing
        return task

    def _until(self, task: Task[None]) -> None:
        self.world.run(LASTS_S_MAX, stop=lambda: task.done)
        if task.error is not None:
            raise task.error
        if not task.done:
            failed = next((other.error for other in self._beside if other.error is not None), None)
            if failed is not None:  # what it left undone may be what is waited for
                raise failed
            line, text = self._doing[task][0]
            if text == "wait":
                found = f"the scenario lasts more than {LASTS_S_MAX / 86400:.0f} days"
                raise _UnexpectedError(line, text, found, "one that ends before")
            raise _UnexpectedError(line, text, "it waits for what never comes", "a call that ends, or -> timeout")

    async def _run(self, body: Sequence[Statement], doing: list[tuple[int, str]]) -> None:
        for statement in body:
            if isinstance(statement, Call):
                doing[:] = [(statement.line, statement.text)]
                await self._call(statement)
            elif isinstance(statement, Block):
                await self._block(statement, doing)
            elif isinstance(statement, Forge):
                self._forge(statement)
            else:
                doing[:] = [(statement.line, statement.verb)]
                await self._happen(statement)

    async def _block(self, block: Block, doing: list[tuple[int, str]]) -> None:
        if block.beside:
            self._beside.append(self._spawn(statements(block, 0)))
            return
        began, packets = self.world.now, self.recording.counts["Carried"]
        for number in range(block.count):
            await self._run(statements(block, number), doing)
            if block.every_s:
                await self.world.sleep(block.every_s)
        if block.measured:
            packets = self.recording.counts["Carried"] - packets
            self._note(f"{block.measured}: {self.world.now - began:.3f} s, {packets} packets")

    async def _happen(self, what: Happens) -> None:
        if what.verb == "wait":
            await self.world.sleep(what.seconds)
        elif what.verb in ("cut", "join"):
            for link in self._links:
                if set(link.names) == set(what.names):
                    link.is_cut = what.verb == "cut"
            self._note(
                f"the link between {' and '.join(what.names)} is {'cut' if what.verb == 'cut' else 'whole again'}"
            )
        elif what.verb == "crash":
            self.hosts[what.names[0]].crash()
            self._note(f"{what.names[0]} loses power, and is up again")
        elif what.verb == "policy":
            self.hosts[what.names[0]].gate.put(self._load(what.text))
            self._note(f"another policy is in force at {what.names[0]}")
        elif what.verb == "note":
            self._note(what.text)
        else:
            self._expect(what)

    def _note(self, text: str) -> None:
        self.recording.tell(Noted(self.world.now, text))

    def _expect(self, what: Happens) -> None:
        socket = self.sockets.get(what.names[0])
        state = socket.state if isinstance(socket, TcpSocket) else "no TCP socket"
        if state != what.text:
            raise _UnexpectedError(what.line, f"expect {what.names[0]}", f"{state}", what.text)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _call(self, call: Call) -> None:
        result, error = "", None
        try:
            result = await self._do(call)
        except OSError as failure:  # a TimeoutError without errno is ours: ETIMEDOUT has one
            error = errno.errorcode[failure.errno] if failure.errno else "timeout"
        host = self.script.programs[call.program].host
        self.recording.tell(Called(self.world.now, host, call.text, result, error))
        if call.outcome is not None and call.outcome != error:
            raise _UnexpectedError(call.line, call.text, error or f"it went well {result}".rstrip(), call.outcome)

    async def _do(self, call: Call) -> str:
        program, name = self._programs[call.program], call.name
        if call.verb in ("open", "send-to", "receive-from"):
            return await self._do_udp(program, call)
        known = self.sockets.get(name)
        if call.verb in ("bind", "listen", "connect") and (known is None or not known.is_open):
            self.sockets[name] = program.tcp()  # the name of a closed socket is free
        if call.verb == "accept":
            listener = self._tcp(call, call.listener)
            self.sockets[name] = await listener.accept(within_s=call.within_s)
            return ""
        if call.verb == "close" and isinstance(known, UdpSocket) and known.is_open:
            known.close()
            return ""
        socket = self._tcp(call, name)
        if not socket.is_open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        match call.verb:
            case "connect":
                if call.local_port and (socket.bound is None or socket.bound.port != call.local_port):
                    socket.bind(self._any(), call.local_port)
                await socket.connect(self._address(call.host, socket.host.name), call.port, within_s=call.within_s)
            case "send":
                await socket.send(self._data(call.byte_count), within_s=call.within_s)
            case "receive":
                return await self._receive(socket, call)
            case _:
                self._do_at_once(socket, call)
        return ""

    def _do_at_once(self, socket: TcpSocket, call: Call) -> None:
        """Do what waits for nothing."""
        match call.verb:
            case "bind":
                socket.bind(self._any(), call.port)
            case "listen":
                if socket.bound is None or call.port not in (0, socket.bound.port):
                    socket.bind(self._any(), call.port)
                socket.listen(call.backlog)
            case "shutdown":
                socket.shutdown()
            case "reset":
                socket.reset()
            case _:
                socket.close()

    async def _do_udp(self, program: Program, call: Call) -> str:
        socket = self.sockets.get(call.name)
        if socket is None or (not socket.is_open and call.verb != "receive-from"):
            socket = self.sockets[call.name] = program.udp()
        if not isinstance(socket, UdpSocket):
            raise _UnexpectedError(call.line, call.text, f"{call.name} is a TCP socket", "one for UDP")
        self._owned(call, socket)
        if not socket.is_open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if call.verb == "open":
            socket.bind(self._any(), call.port)
        elif call.verb == "send-to":
            socket.send_to(self._data(call.byte_count), self._address(call.host, socket.host.name), call.port)
        else:
            data, _ = await socket.receive_from(within_s=call.within_s)
            return f"{len(data)} bytes"
        return ""

    async def _receive(self, socket: TcpSocket, call: Call) -> str:
        count = 0
        while call.byte_count == ALL or count < call.byte_count:
            most = RECEIVED_AT_ONCE if call.byte_count == ALL else min(call.byte_count - count, RECEIVED_AT_ONCE)
            data = await socket.receive(most, within_s=call.within_s)
            if not data:
                return f"{count} bytes, and the end"
            count += len(data)
        return f"{count} bytes"

    def _tcp(self, call: Call, name: str) -> TcpSocket:
        socket = self.sockets.get(name)
        if isinstance(socket, UdpSocket):
            raise _UnexpectedError(call.line, call.text, f"{name} is a UDP socket", "one for TCP")
        if socket is None:
            raise _UnexpectedError(call.line, call.text, f"no socket {name}", "one that was opened before")
        self._owned(call, socket)
        return socket

    def _owned(self, call: Call, socket: TcpSocket | UdpSocket) -> None:
        """See that *socket* is one of the caller's host: programs of one host may share it, others can't."""
        if socket.host.name != self.script.programs[call.program].host:
            raise _UnexpectedError(call.line, call.text, f"a socket at {socket.host.name}", "one of the program's host")

    @staticmethod
    def _data(byte_count: int) -> bytes:
        return (_PATTERN * (byte_count // len(_PATTERN) + 1))[:byte_count]

    def _any(self) -> str:
        return "0.0.0.0" if self.version == 4 else "::"  # noqa: S104 - simulated

    def _address(self, host: str, at: str) -> Address:
        """Return *host*'s address, as it is known at the host *at*. Raises OSError."""
        if host not in self.hosts:
            return address_of(host, self.version)
        address = self.hosts[host].address(self.version)
        if address.is_loopback and host != at:  # it has no other, and that one leads nowhere from elsewhere
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return address

    def _forge(self, what: Forge) -> None:
        segment = Segment(what.source_port, what.destination_port, what.sequence, what.acknowledgment, what.flags, 1024)
        try:
            source = self._address(what.source, what.source)
            destination = self._address(what.destination, what.host)
            way, _ = self.hosts[what.host].route(destination)
        except OSError as error:
            found = f"{what.host} can't send it over IPv{self.version}: {error.strerror}"
            accepted = "a source and a destination with addresses of this family, and a way to the latter"
            raise _UnexpectedError(what.line, "forge", found, accepted) from None
        way.transmit(
            compose_packet(make_packet(source, destination, TCP, compose_segment(segment, source, destination)))
        )


def _policies(body: Sequence[Statement]) -> Iterator[str]:
    """Yield the policies that are put in force on the way, as a first round has them."""
    for statement in body:
        if isinstance(statement, Block):
            yield from _policies(statements(statement, 0))
        elif isinstance(statement, Happens) and statement.verb == "policy":
            yield statement.text


def play(script: Script, resolver: Resolver, **options: Any) -> Run:  # noqa: ANN401 - Run's own
    """Return *script*, played. Options are those of `Run`. Raises PolicyError."""
    run = Run(script, resolver, **options)
    run.play()
    return run
