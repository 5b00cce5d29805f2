"""The documented flows, simulated: a real session of two hosts runs up to the flow, then through it, and no further.

What is shown are the steps of the flow alone, of those hosts that the documentation shows, in the order in which they
happened. The steps are what the session did; nothing here lists them.

- A policy is in force when the flow begins, at the hosts that the flow shows: what comes before is the way there.
- A flow ends where it is blocked, with that filter, and at the layer's discard twin.
- A flow is authorised again because the policy changed at the layer that authorised it. A policy that does so itself is
  enough; to any other a filter is added that matches everything there (`ADDED`), as the flow says.
- Termination has no layer of its own: its segments are shown, and the closure and release of both ends.

Source: Microsoft, "TCP Packet Flows", "UDP Packet Flows"; `tcp_flows.json` and `udp_flows.json` of the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

from layergate.model import Action, Decided, Filter, Policy, Sublayer, layers_named
from layergate.path import Call
from layergate.path import Host as Role
from layergate.sim.host import Host
from layergate.sim.link import Link, LinkConfig
from layergate.sim.recording import Indicated, Recording
from layergate.sim.sockets import TcpSocket, UdpSocket
from layergate.sim.world import Signal, World

CLIENT: Final = ("10.9.0.1/24", "fd09::1/64")
SERVER: Final = ("10.9.0.2/24", "fd09::2/64")
DELAY_S: Final = 0.005
PORT: Final = 8080
LONG_S: Final = 0.5
"""Long enough for every flow, too short for a second try of what was dropped."""
ADDED: Final = "the policy changes here"
_SUBLAYER: Final = Sublayer(key=ADDED, name=ADDED, weight=0xFFFF)
_BOTH: Final = (Role.CLIENT, Role.SERVER)
Program = Coroutine[Signal, None, Any]


class Stage:
    """Two hosts with a link between them, and what their processes hold."""

    def __init__(self, seed: int, version: int) -> None:
        self.world, self.recording = World(seed), Recording()
        self.client = Host(self.world, self.recording, "client")
        self.server = Host(self.world, self.recording, "server")
        link = Link(self.world, self.recording, ("client", "server"), LinkConfig(delay_s=DELAY_S))
        self.client.plug(link, 0, CLIENT)
        self.server.plug(link, 1, SERVER)
        self.version = version
        self.anywhere = "0.0.0.0" if version == 4 else "::"  # noqa: S104 - simulated
        self.target = self.server.address(version)
        self.curl = self.client.program("/usr/bin/curl")
        self.nginx = self.server.program("/usr/sbin/nginx", user=33)
        self.connection: TcpSocket
        self.accepted: TcpSocket
        self.datagrams: UdpSocket

    def run(self, program: Program) -> None:
        """Run *program* to its end."""
        task = self.world.spawn(program)
        self.world.run(stop=lambda: task.done)
        if task.error is not None:
            raise task.error

    # --- the ways there, and through ----------------------------------------------------------------------------------

    async def open_tcp(self) -> None:
        """The server listens, the client connects."""
        listener = self.nginx.tcp()
        listener.bind(self.anywhere, PORT)
        listener.listen()
        self.connection = self.curl.tcp()
        await self.connection.connect(self.target, PORT)
        self.accepted = await listener.accept()

    async def settle(self) -> None:
        """Let what is on its way arrive."""
        await self.world.sleep(1.0)

    async def established(self) -> None:
        """A session that is open and quiet."""
        await self.open_tcp()
        await self.settle()

    async def answered(self) -> None:
        """A session that has carried data."""
        await self.established()
        await self.send()
        await self.accepted.receive(100)
        await self.settle()

    async def knock(self) -> None:
        """Connect where nobody listens."""
        await self.curl.tcp().connect(self.target, PORT)

    async def send(self) -> None:
        """Send one segment."""
        await self.connection.send(b"GET / HTTP/1.0\r\n\r\n")

    async def end(self) -> None:
        """The client closes, and then the server does."""
        self.connection.close()
        await self.accepted.receive(100)
        self.accepted.close()

    async def open_udp(self) -> None:
        """The server waits for datagrams, the client sends the first."""
        self.nginx.udp().bind(self.anywhere, PORT)
        await self.send_datagram()

    async def exchanged(self) -> None:
        """A flow of datagrams that is authorised."""
        await self.open_udp()
        await self.settle()

    async def send_datagram(self) -> None:
        """Send one datagram."""
        if not hasattr(self, "datagrams"):
            self.datagrams = self.curl.udp()
        self.datagrams.send_to(b"what?", self.target, PORT)

    async def nothing(self) -> None:
        """No way there."""


@dataclass(frozen=True, slots=True)
class Documented:
    """A documented flow: the way there, the flow, whose steps are shown, and by which it is over.

    *last*: the host and the layer of the last step. *again*: what the changed policy says at the layer that authorised
    the flow, None where the policy doesn't change.
    """

    about: str
    before: Callable[[Stage], Program]
    flow: Callable[[Stage], Program]
    shown: tuple[Role, ...]
    last: tuple[Role, str]
    again: Action | None = None


FLOWS: Final = {
    "tcp-establishment": Documented(
        "a server listens, a client connects",
        Stage.nothing, Stage.open_tcp, _BOTH, (Role.SERVER, "ALE_FLOW_ESTABLISHED"),
    ),
    "tcp-no-listener": Documented(
        "a SYN to a port that nobody has",
        Stage.nothing, Stage.knock, (Role.SERVER,), (Role.SERVER, "OUTBOUND_IPPACKET"),
    ),
    "tcp-data": Documented(
        "a segment with data",
        Stage.established, Stage.send, _BOTH, (Role.SERVER, "STREAM"),
    ),
    "tcp-reauthorization-permitted": Documented(
        "the policy changed: the next segment is authorised again",
        Stage.answered, Stage.send, (Role.SERVER,), (Role.SERVER, "STREAM"), again=Action.PERMIT,
    ),
    "tcp-reauthorization-blocked": Documented(
        "the policy changed: the next segment is blocked",
        Stage.answered, Stage.send, (Role.SERVER,), (Role.SERVER, "STREAM"), again=Action.BLOCK,
    ),
    "tcp-termination": Documented(
        "both ends close",
        Stage.answered, Stage.end, _BOTH, (Role.SERVER, "ALE_ENDPOINT_CLOSURE"),
    ),
    "udp-establishment": Documented(
        "a server waits for datagrams, a client sends the first",
        Stage.nothing, Stage.open_udp, _BOTH, (Role.SERVER, "DATAGRAM_DATA"),
    ),
    "udp-data": Documented(
        "a datagram of a flow that is authorised",
        Stage.exchanged, Stage.send_datagram, _BOTH, (Role.SERVER, "DATAGRAM_DATA"),
    ),
    "udp-no-endpoint": Documented(
        "a datagram to a port that nobody has",
        Stage.nothing, Stage.send_datagram, (Role.SERVER,), (Role.SERVER, "OUTBOUND_IPPACKET"),
    ),
    "udp-reauthorization-permitted": Documented(
        "the policy changed: the next datagram is authorised again",
        Stage.exchanged, Stage.send_datagram, (Role.SERVER,), (Role.SERVER, "DATAGRAM_DATA"), again=Action.PERMIT,
    ),
    "udp-reauthorization-blocked": Documented(
        "the policy changed: the next datagram is blocked",
        Stage.exchanged, Stage.send_datagram, (Role.SERVER,), (Role.SERVER, "DATAGRAM_DATA"), again=Action.BLOCK,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """A documented flow that was simulated: its steps, and the whole recording that they are of."""

    steps: tuple[Decided, ...]
    recording: Recording
    version: int


def simulate(name: str, *, seed: int = 0, version: int = 4, policy: Policy | None = None) -> Shown:
    """Simulate the documented flow *name* over IPv*version*. KeyError where none is called so."""
    documented = FLOWS[name]
    stage = Stage(seed, version)
    stage.run(documented.before(stage))
    began = len(stage.recording.entries)
    hosts = {Role.CLIENT: stage.client, Role.SERVER: stage.server}
    for role in documented.shown:
        gate = hosts[role].gate
        again = documented.again if role is Role.SERVER else None
        if again is not None and (policy is None or not _changes(policy)):
            gate.put(_with(policy or Policy(), again))
        elif policy is not None:
            gate.put(policy)
    _run_through(stage, documented)
    for role, host in hosts.items():
        # A bind that was blocked never came to what it was for; here it is known.
        binds = [
            place
            for place, entry in enumerate(stage.recording.entries)
            if isinstance(entry, Indicated) and entry.host == host.name and entry.decided.indication.event == Call.BIND
        ]
        stage.recording.assign(binds, role, None if role is Role.SERVER else 1)
    steps: list[Decided] = []
    names = {hosts[role].name for role in documented.shown}
    for entry in stage.recording.entries[began:]:
        if not isinstance(entry, Indicated) or entry.host not in names:
            continue
        told = entry.decided
        is_blocked = bool(steps) and steps[-1].action is Action.BLOCK
        if is_blocked and told.indication.layer.discard_of != steps[-1].indication.layer.name:
            break  # it has no twin
        steps.append(told)
        if is_blocked or (told.action is Action.PERMIT and _place(told) == documented.last):
            break
    return Shown(tuple(steps), stage.recording, max(host.gate.policy.version for host in hosts.values()))


def _run_through(stage: Stage, documented: Documented) -> None:
    """Let the flow happen; a block may leave its calls waiting, or failing, for longer than anybody looks."""
    task = stage.world.spawn(documented.flow(stage))
    stage.world.run(until=stage.world.now + LONG_S)
    if task.error is not None and not isinstance(task.error, OSError):
        raise task.error


def _place(told: Decided) -> tuple[str | None, str]:
    return told.indication.host, told.indication.layer.base


def _changes(policy: Policy) -> bool:
    """Whether *policy* has a filter where flows from outside are authorised."""
    return any(one.layer.base == "ALE_AUTH_RECV_ACCEPT" for one in policy.filters)


def _with(policy: Policy, action: Action) -> Policy:
    """Return *policy* with a filter more, above all others, for all that is authorised from outside."""
    added = [
        Filter(
            id=0,
            key=f"{ADDED}: {layer.short}",
            name=ADDED,
            layer=layer,
            sublayer=_SUBLAYER.key,
            action=action,
        )
        for layer in layers_named("ALE_AUTH_RECV_ACCEPT")
        if not layer.is_discard
    ]
    last = max((one.id for one in policy.filters), default=0)
    numbered = tuple(replace(one, id=last + number) for number, one in enumerate(added, 1))
    return replace(policy, sublayers=(*policy.sublayers, _SUBLAYER), filters=(*policy.filters, *numbered))
