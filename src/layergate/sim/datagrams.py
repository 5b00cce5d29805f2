"""A host's UDP: which socket a datagram is for, and the gate's layers on its way in and out.

A socket and a peer make a flow, authorised by its first datagram in either direction, and forgotten after 60 idle
seconds. A datagram that nobody's socket waits for is answered by an ICMP error, unless INBOUND_IPPACKET_DISCARD blocks.
Source: Microsoft, "UDP Packet Flows", "ALE Flow Expiry"; RFC 768; RFC 1122, 4.1.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from layergate.model import Action, Decided, Direction, Flag, Process
from layergate.path import Datagram as Passing
from layergate.path import Endpoint
from layergate.path import Host as Role
from layergate.sim.gate import Where
from layergate.sim.world import Signal
from layergate.tcp import End
from layergate.tcp.icmp import Complaint
from layergate.tcp.ip import UDP, Malformed, Packet, make_packet
from layergate.tcp.udp import Datagram, compose_datagram, parse_datagram

if TYPE_CHECKING:
    from layergate.sim.host import Host, Interface

RECEIVED_MAX: Final = 256
"""How many datagrams wait to be received; more are dropped, as rmem_default's 212,992 bytes drop small ones."""


@dataclass(eq=False)
class UdpPort:
    """A socket's place at a host. *arrived* fires when a datagram waits in *received*, or an *error* (an errno)."""

    local: End
    process: Process
    arrived: Signal
    binds: list[int]
    received: deque[tuple[bytes, End]] = field(default_factory=deque)
    endpoints: dict[End, Endpoint] = field(default_factory=dict)
    error: int | None = None
    drops: int = 0


class UdpStack:
    """UDP of one host."""

    def __init__(self, host: Host) -> None:
        self.host, self.gate = host, host.gate
        self.ports: dict[End, UdpPort] = {}

    def open(self, local: End, process: Process, binds: list[int]) -> UdpPort:
        """Open a port. Raises OSError: somebody has it."""
        if local in self.ports:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        port = self.ports[local] = UdpPort(local, process, Signal(self.host.world), binds)
        return port

    def close(self, port: UdpPort) -> None:
        """Close a port, and forget its flows."""
        self.ports.pop(port.local, None)
        for remote in port.endpoints:
            self.gate.flows.close(Where(UDP, port.local, remote).key)

    def forget(self) -> None:
        """Lose everything."""
        for port in self.ports.values():
            port.error = errno.ENETDOWN
            port.arrived.fire()
        self.ports.clear()

    def send(self, port: UdpPort, data: bytes, remote: End, *, asked: End | None) -> Decided | None:
        """Send a datagram; return the block that it met, None where it left.

        *asked*: what its process asked to be bound to, None where this datagram binds it.
        """
        interface, source = self.host.route(remote.address)
        local = End(source if port.local.address.is_unspecified else port.local.address, port.local.port)
        endpoint = self._endpoint(port, local, remote, Role.CLIENT)
        endpoint.bound = endpoint.bound or asked is not None
        where = self._where(interface, port, local, remote, inbound=False)
        where.asked, where.implicit = asked or End(type(local.address)(0), 0), asked is None
        blocked = self.gate.passes(Passing(inbound=False), endpoint, where)
        if blocked is None:
            payload = compose_datagram(Datagram(local.port, remote.port, data), local.address, remote.address)
            self.host.send(interface, make_packet(local.address, remote.address, UDP, payload))
        else:
            self._blocked(port, remote, blocked)
        return blocked

    def receive(self, interface: Interface, packet: Packet) -> None:
        """Take a packet in that holds a datagram."""
        datagram = parse_datagram(packet.payload, packet.source, packet.destination)
        if isinstance(datagram, Malformed):
            self.host.counts[datagram.reason] += 1
            return
        local = End(packet.destination, datagram.destination_port)
        remote = End(packet.source, datagram.source_port)
        port = self._port_at(local)
        if port is None:
            where = self.host.where(interface, UDP, local, remote, inbound=True)
            if where.role is None:
                self.host.recording.open(UDP, remote, local)
                where = self.host.where(interface, UDP, local, remote, inbound=True)
            if self.gate.passes(Passing(inbound=True), Endpoint(Role.SERVER, has_socket=False), where) is None:
                self.host.refuse(interface, packet)
            return
        endpoint = self._endpoint(port, local, remote, Role.SERVER)
        where = self._where(interface, port, local, remote, inbound=True)
        blocked = self.gate.passes(Passing(inbound=True), endpoint, where)
        if blocked is not None:
            self._blocked(port, remote, blocked)
        elif len(port.received) >= RECEIVED_MAX:
            port.drops += 1
        else:
            port.received.append((datagram.payload, remote))
            port.arrived.fire()

    def unreachable(self, complaint: Complaint) -> None:
        """Take an ICMP error in that quotes a datagram of ours."""
        port = self._port_at(End(complaint.source, complaint.source_port))
        if port is not None:
            port.error = errno.ECONNREFUSED
            port.arrived.fire()

    def _port_at(self, local: End) -> UdpPort | None:
        found = self.ports.get(local)
        if found is None:
            found = next(
                (
                    port
                    for end, port in self.ports.items()
                    if end.port == local.port
                    and end.address.is_unspecified
                    and end.address.version == local.address.version
                ),
                None,
            )
        return found

    def _endpoint(self, port: UdpPort, local: End, remote: End, role: Role) -> Endpoint:
        """Return the end of the flow with *remote*: the one that is known, or the beginning of a new flow."""
        flows, now = self.gate.flows, self.host.world.now
        flows.advance(now)
        key = Where(UDP, local, remote).key
        endpoint = port.endpoints.get(remote)
        if endpoint is None or (endpoint.authorized and flows.get(key) is None):
            number, known = self.host.recording.find(UDP, local, remote)
            if number is None or endpoint is not None or known is not role:
                client, server = (local, remote) if role is Role.CLIENT else (remote, local)
                self.host.recording.open(UDP, client, server)
            endpoint = port.endpoints[remote] = Endpoint(role)
        known_flow = flows.get(key) is not None
        endpoint.reauthorize = known_flow and flows.is_due(key)
        if known_flow and not endpoint.reauthorize:
            flows.packet(key, Direction.OUTBOUND if role is Role.CLIENT else Direction.INBOUND, now)  # it is not idle
        return endpoint

    def _where(self, interface: Interface, port: UdpPort, local: End, remote: End, *, inbound: bool) -> Where:
        where = self.host.where(interface, UDP, local, remote, inbound=inbound)
        where.process, where.binds = port.process, port.binds
        where.flags = Flag.IS_LOOPBACK if interface.index == 1 else Flag(0)
        return where

    @staticmethod
    def _blocked(port: UdpPort, remote: End, told: Decided) -> None:
        """A flow that its own layer blocks is forgotten: its next datagram is a first one."""
        assert told.action is Action.BLOCK
        if told.indication.layer.base in ("ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT", "ALE_FLOW_ESTABLISHED"):
            port.endpoints.pop(remote, None)
