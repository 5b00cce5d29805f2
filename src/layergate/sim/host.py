"""A host: interfaces and routes, an engine with its policy, TCP and UDP above, and processes that hold sockets.

    a wire ──receive──→ IP ──→ TCP (streams), UDP (datagrams), ICMP ──→ sockets of processes
    a wire ←─transmit── IP ←── every packet has passed the gate's layers before it leaves

- What is for somebody else is forwarded if the host is a router, and dropped if not. A router that *forgets_s* is a
  firewall: it passes what belongs to a connection that it saw begin, and forgets one that was idle for so long.
- Interface 1 is loopback, as Linux numbers it; links follow in the order in which they are plugged in.
- A packet that can't be parsed is counted and dropped.

Source: RFC 1122, 3.3.1 (routing), 3.2.2.1 (ICMP errors); docs, "Semantics".
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from layergate.model import Flag, Policy, Process
from layergate.path import Endpoint, Forwarded, IcmpError
from layergate.path import Host as Role
from layergate.sim.datagrams import UdpStack
from layergate.sim.gate import Gate, Where
from layergate.sim.link import Link
from layergate.sim.recording import Carried, Recording
from layergate.sim.sockets import Program
from layergate.sim.streams import TcpStack
from layergate.sim.world import World
from layergate.tcp import LINUX, Address, Config, End
from layergate.tcp import Flag as TcpFlag
from layergate.tcp.icmp import complaint, compose_icmp, parse_icmp, port_unreachable
from layergate.tcp.ip import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    IPv4Packet,
    Malformed,
    Packet,
    compose_packet,
    make_packet,
    parse_packet,
)
from layergate.tcp.wire import parse_segment

LOOPBACK_INDEX: Final = 1
LOOPBACK_MTU: Final = 65536
_FIRST_PID: Final = 1000


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of a host, with its addresses and how a packet leaves by it. *config*: TCP's, for its MTU."""

    index: int
    name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    transmit: Callable[[bytes], None]
    config: Config


class Host:
    """A host in a world."""

    def __init__(
        self,
        world: World,
        recording: Recording,
        name: str,
        *,
        policy: Policy | None = None,
        config: Config = LINUX,
        forwards: bool = False,
        forgets_s: float | None = None,
    ) -> None:
        self.world, self.recording, self.name, self.config = world, recording, name, config
        self.gate = Gate(world, name, recording, policy or Policy())
        self.random = world.random(f"host {name}")
        self.counts: Counter[str] = Counter()
        self.forwards, self.forgets_s = forwards, forgets_s
        self._seen: dict[tuple[int, End, End], float] = {}
        loopback = ip_interface("127.0.0.1/8"), ip_interface("::1/128")
        self.interfaces = [Interface(LOOPBACK_INDEX, "lo", loopback, self._loop, replace(config, mtu=LOOPBACK_MTU))]
        self._gateway: dict[int, Interface] = {}
        self._pids = _FIRST_PID
        self.tcp = TcpStack(self)
        self.udp = UdpStack(self)

    # --- what it is made of -------------------------------------------------------------------------------------------

    def plug(self, link: Link, end: int, addresses: Iterable[str], *, mtu: int | None = None) -> Interface:
        """Plug *end* of *link* in, as an interface with *addresses* ("10.9.0.1/24"); the first leads to all others."""
        index = len(self.interfaces) + 1
        own = tuple(map(ip_interface, addresses))
        config = self.config if mtu is None else replace(self.config, mtu=mtu)
        interface = Interface(index, f"eth{index - 2}", own, lambda packet: link.transmit(end, packet), config)
        self.interfaces.append(interface)
        link.attach(end, lambda packet: self.receive(interface, packet))
        for one in own:
            self._gateway.setdefault(one.version, interface)
        return interface

    def program(self, app: str, *, user: int = 0, unit: str | None = None) -> Program:
        """Return a new process that runs *app* for *user*."""
        self._pids += 1
        return Program(self, Process(self._pids, app, user, unit))

    def crash(self) -> None:
        """Lose power, and be up again at once: whatever the host knew of connections is gone, and nobody is told."""
        self.tcp.forget()
        self.udp.forget()
        self._seen.clear()

    @staticmethod
    def network(address: str) -> object:
        """Return the network that "10.9.0.1/24" stands in."""
        return ip_interface(address).network

    # --- addresses and routes -----------------------------------------------------------------------------------------

    def has(self, address: Address) -> bool:
        """Whether *address* is one of the host's own."""
        if address.is_loopback:
            return True
        return any(address == one.ip for interface in self.interfaces for one in interface.addresses)

    def address(self, version: int) -> Address:
        """Return the host's own address of a family: a link's before loopback. Raises OSError."""
        for interface in (*self.interfaces[1:], self.interfaces[0]):
            for one in interface.addresses:
                if one.version == version:
                    return one.ip
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def route(self, destination: Address) -> tuple[Interface, Address]:
        """Return the interface by which *destination* is reached, and the address to speak from. Raises OSError."""
        if self.has(destination):
            return self.interfaces[0], destination
        ways = [*self.interfaces[1:]]
        chosen = next(
            (way for way in ways if any(destination in one.network for one in way.addresses)),
            self._gateway.get(destination.version),
        )
        if chosen is None:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        source = next((one.ip for one in chosen.addresses if one.version == destination.version), None)
        if source is None:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return chosen, source

    # --- packets ------------------------------------------------------------------------------------------------------

    def send(self, interface: Interface, packet: Packet) -> None:
        """Put *packet*, which the gate has let pass, on the wire of *interface*."""
        interface.transmit(compose_packet(packet))

    def where(self, interface: Interface, protocol: int, local: End, remote: End, *, inbound: bool) -> Where:
        """Return what is known of a packet between these ends at *interface*; its flow by the world's recording."""
        flow, role = self.recording.find(protocol, local, remote)
        return Where(
            protocol,
            local,
            remote,
            interface=interface.index,
            flags=Flag.IS_LOOPBACK if interface.index == LOOPBACK_INDEX else Flag(0),
            inbound=inbound,
            role=role,
            flow=flow,
        )

    def _loop(self, data: bytes) -> None:
        now = self.world.now
        self.recording.tell(Carried(now, self.name, self.name, data, now))
        self.world.at(now, lambda: self.receive(self.interfaces[0], data))

    def receive(self, interface: Interface, data: bytes) -> None:
        """Take in what the wire of *interface* delivers. Never raises for what is in it."""
        packet = parse_packet(data)
        if isinstance(packet, Malformed):
            self.counts[packet.reason] += 1
        elif not self.has(packet.destination):
            self._forward(packet)
        elif packet.is_fragment:
            self.counts["fragment"] += 1
        elif packet.protocol == TCP:
            self.tcp.receive(interface, packet)
        elif packet.protocol == UDP:
            self.udp.receive(interface, packet)
        elif packet.protocol in (ICMP, ICMPV6):
            self._icmp(interface, packet)
        else:
            self.counts[f"protocol {packet.protocol}"] += 1

    def _forward(self, packet: Packet) -> None:
        if not self.forwards or packet.hop_limit <= 1:
            self.counts["not for this host" if not self.forwards else "hop limit"] += 1
            return
        if self.forgets_s is not None and not self._remembers(packet):
            self.counts["no connection known"] += 1
            return
        try:
            way, _ = self.route(packet.destination)
        except OSError:
            self.counts["no route"] += 1
            return
        local, remote = End(packet.source, 0), End(packet.destination, 0)
        where = Where(packet.protocol, local, remote, interface=way.index)
        if self.gate.passes(Forwarded(), Endpoint(), where) is None:
            self.send(way, replace(packet, hop_limit=packet.hop_limit - 1))

    def _remembers(self, packet: Packet) -> bool:
        """Whether *packet* is of a connection that this firewall saw begin, and heard of lately."""
        assert self.forgets_s is not None
        segment = parse_segment(packet.payload, packet.source, packet.destination, verify=False)
        if packet.protocol != TCP or isinstance(segment, Malformed):
            return True
        ends = sorted(
            (End(packet.source, segment.source_port), End(packet.destination, segment.destination_port)), key=str
        )
        key = (TCP, ends[0], ends[1])
        now, last = self.world.now, self._seen.get(key)
        begins = segment.flags & (TcpFlag.SYN | TcpFlag.ACK) == TcpFlag.SYN
        if not begins and (last is None or now - last > self.forgets_s):
            self._seen.pop(key, None)
            return False
        self._seen[key] = now
        return True

    # --- ICMP ---------------------------------------------------------------------------------------------------------

    def refuse(self, interface: Interface, packet: Packet) -> None:
        """Tell the sender of *packet* that nobody has its port."""
        message = port_unreachable(packet)
        protocol = ICMP if isinstance(packet, IPv4Packet) else ICMPV6
        local, remote = End(packet.destination, message.type), End(packet.source, message.code)
        where = self.where(interface, protocol, local, remote, inbound=False)
        where.role = Role.SERVER
        if self.gate.passes(IcmpError(inbound=False), Endpoint(), where) is None:
            payload = compose_icmp(message, packet.destination, packet.source)
            self.send(interface, make_packet(packet.destination, packet.source, protocol, payload))

    def _icmp(self, interface: Interface, packet: Packet) -> None:
        message = parse_icmp(packet.payload, packet.source, packet.destination)
        if isinstance(message, Malformed):
            self.counts[message.reason] += 1
            return
        said = complaint(message, is_v4=isinstance(packet, IPv4Packet))
        if said is None:
            self.counts["ICMP that is no error"] += 1
            return
        local, remote = End(packet.destination, message.type), End(packet.source, message.code)
        where = self.where(interface, packet.protocol, local, remote, inbound=True)
        complained = End(said.source, said.source_port), End(said.destination, said.destination_port)
        _, where.role = self.recording.find(said.protocol, *complained)
        if self.gate.passes(IcmpError(inbound=True), Endpoint(), where) is not None:
            return
        if said.protocol == TCP:
            self.tcp.unreachable(said)
        elif said.protocol == UDP:
            self.udp.unreachable(said)
