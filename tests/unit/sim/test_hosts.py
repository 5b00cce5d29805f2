"""Hosts, sockets and links: what calls give, what a policy does to them, and what hostile packets can't do."""

import errno
import os
import random
import tracemalloc
from collections.abc import Coroutine
from typing import Any

import pytest

from layergate.model import Action
from layergate.policyfile import TableResolver, load_text
from layergate.sim.host import Host
from layergate.sim.link import Link, LinkConfig
from layergate.sim.recording import Carried, Recording
from layergate.sim.sockets import TcpSocket
from layergate.sim.world import RunawayError, Signal, World
from layergate.tcp import Config, State
from layergate.tcp.checksum import checksum, pseudo_header
from layergate.tcp.ip import Malformed, compose_packet, parse_packet

FUZZ_COUNT = int(os.environ.get("LAYERGATE_FUZZ", "2000"))
ADDRESS = {"a": {4: "10.9.0.1", 6: "fd09::1"}, "b": {4: "10.9.0.2", 6: "fd09::2"}}
both_families = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


class Pair:
    """Two hosts with a link."""

    def __init__(self, *, seed: int = 0, keeps: bool = True, **link: float) -> None:
        self.world, self.recording = World(seed), Recording(keeps=keeps)
        self.a, self.b = (Host(self.world, self.recording, name) for name in "ab")
        self.link = Link(self.world, self.recording, ("a", "b"), LinkConfig(**{"delay_s": 0.001, **link}))  # type: ignore[arg-type]
        self.a.plug(self.link, 0, ["10.9.0.1/24", "fd09::1/64"])
        self.b.plug(self.link, 1, ["10.9.0.2/24", "fd09::2/64"])
        self.client, self.server = self.a.program("/usr/bin/client"), self.b.program("/usr/bin/server")

    def run(self, *programs: Coroutine[Signal, None, Any]) -> list[Any]:
        tasks = [self.world.spawn(program) for program in programs]
        self.world.run(until=self.world.now + 1000, stop=lambda: all(task.done for task in tasks))
        for task in tasks:
            if task.error:
                raise task.error
        return [task.result for task in tasks]

    def put(self, host: Host, layer: str, action: str = "block", more: str = "") -> None:
        text = f'[[filter]]\nname = "filter"\nlayer = "{layer}"\naction = "{action}"\n{more}'
        host.gate.put(load_text(text, file="p.toml", resolver=TableResolver()).policy)

    async def accepted(self, version: int = 4) -> TcpSocket:
        listener = self.server.tcp()
        listener.bind(ADDRESS["b"][version], 80)
        listener.listen()
        return await listener.accept()

    async def connected(self, version: int = 4) -> TcpSocket:
        client = self.client.tcp()
        await client.connect(ADDRESS["b"][version], 80)
        return client


@both_families
def test_a_stream_arrives_whole_over_the_worst_of_links(version: int) -> None:
    pair = Pair(seed=version, loss=0.1, duplication=0.1, reordering=0.2, reordering_s=0.005)
    data = random.Random(version).randbytes(100_000)

    async def send() -> None:
        client = await pair.connected(version)
        await client.send(data)
        client.close()

    async def receive() -> bytes:
        server, whole = await pair.accepted(version), b""
        while part := await server.receive(10_000):
            whole += part
        return whole

    assert pair.run(send(), receive())[1] == data


def test_a_connection_can_be_made_over_loopback_without_any_link() -> None:
    world, recording = World(), Recording()
    host = Host(world, recording, "alone")
    program = host.program("/usr/bin/both")

    async def session() -> bytes:
        listener = program.tcp()
        listener.bind("127.0.0.1", 80)
        listener.listen()
        client = program.tcp()
        await client.connect("127.0.0.1", 80)
        server = await listener.accept()
        await client.send(b"x" * 100_000)
        client.close()
        count = 0
        while part := await server.receive(65536):
            count += len(part)
        return b"%d" % count

    task = world.spawn(session())
    world.run(until=10)
    assert task.result == b"100000"
    assert {one.indication.values["FLAGS"].data for one in recording.indications if one.indication.event == "SYN"} == {
        1
    }


@pytest.mark.parametrize(
    "layer, more, expected",
    [
        ("ALE_AUTH_CONNECT", "", errno.EPERM),
        ("ALE_AUTH_CONNECT", 'error = "EHOSTUNREACH"', errno.EHOSTUNREACH),
        ("ALE_CONNECT_REDIRECT", "", errno.EPERM),
        ("ALE_FLOW_ESTABLISHED", "", errno.ECONNABORTED),
    ],
)
def test_a_block_is_what_the_process_hears(layer: str, more: str, expected: int) -> None:
    pair = Pair()
    pair.put(pair.a, layer, more=more)

    async def connect() -> int:
        try:
            await pair.connected()
        except OSError as error:
            return error.errno or 0
        return 0

    pair.world.spawn(pair.accepted())
    assert pair.run(connect()) == [expected]


def test_a_block_of_the_stream_keeps_the_data_from_its_process_and_resets_the_connection() -> None:
    pair = Pair()
    pair.put(pair.b, "STREAM")

    async def send() -> int:
        client = await pair.connected()
        await client.send(b"secret")
        with pytest.raises(ConnectionResetError):
            await client.receive(1)
        return 0

    async def receive() -> int:
        server = await pair.accepted()
        with pytest.raises(ConnectionAbortedError):
            await server.receive(100)
        return 1

    assert pair.run(send(), receive()) == [0, 1]
    blocked = [one for one in pair.recording.indications if one.action is Action.BLOCK]
    assert [one.indication.layer.short for one in blocked] == ["STREAM_V4"]


def test_a_datagram_flow_is_forgotten_after_a_minute_and_authorised_anew() -> None:
    pair = Pair()
    server = pair.server.udp()
    server.bind("10.9.0.2", 53)
    client = pair.client.udp()

    async def ask() -> None:
        for wait_s in (1, 59, 61, 1):
            client.send_to(b"?", "10.9.0.2", 53)
            await pair.world.sleep(wait_s)

    pair.run(ask())
    asked = [one for one in pair.recording.indications if one.indication.layer.base == "ALE_AUTH_CONNECT"]
    accepted = [one for one in pair.recording.indications if one.indication.layer.base == "ALE_AUTH_RECV_ACCEPT"]
    assert (len(asked), len(accepted)) == (2, 2)
    assert len({one.indication.flow for one in asked}) == 2


def test_an_icmp_error_in_answer_to_a_datagram_is_what_the_next_call_hears() -> None:
    pair = Pair()
    client = pair.client.udp()
    client.send_to(b"?", "10.9.0.2", 53)

    async def hear() -> None:
        with pytest.raises(ConnectionRefusedError):
            await client.receive_from(within_s=1)

    pair.run(hear())


def test_ports_run_out_and_come_back() -> None:
    pair = Pair()
    pair.a.tcp.port_range = (40000, 40001)

    async def connect() -> None:
        for _ in range(2):
            await pair.connected()
        with pytest.raises(OSError, match="assign"):
            await pair.connected()

    pair.world.spawn(pair.accepted())
    pair.run(connect())


def test_a_listener_that_closes_resets_who_waits_and_forgets_who_is_half_open() -> None:
    pair = Pair()

    async def session() -> None:
        listener = pair.server.tcp()
        listener.bind("10.9.0.2", 80)
        listener.listen()
        client = await pair.connected()
        await pair.world.sleep(0.1)
        listener.close()
        with pytest.raises(ConnectionResetError):
            await client.receive(1)

    pair.run(session())
    assert not pair.b.tcp.halves


def test_a_program_that_fails_is_not_lost() -> None:
    pair = Pair()

    async def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        pair.run(fail())


def test_a_world_that_goes_in_circles_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layergate.sim.world.EVENTS_MAX", 1000)
    world = World()

    def again() -> None:
        world.after(0.0, again)

    again()
    with pytest.raises(RunawayError):
        world.run()


# --- hostile packets --------------------------------------------------------------------------------------------------


@both_families
def test_no_packet_raises_hangs_or_makes_a_host_keep_more_than_its_buffers(version: int) -> None:
    """Real packets of a session, damaged: cut, flipped, doubled, reordered, aimed at every state and port."""
    pair = Pair(seed=version)
    config = Config(send_buffer_bytes=4096, receive_buffer_bytes=4096)
    pair.b.interfaces[1] = pair.b.interfaces[1].__class__(
        2, "eth0", pair.b.interfaces[1].addresses, pair.b.interfaces[1].transmit, config
    )

    async def send() -> None:
        client = await pair.connected(version)
        await client.send(b"x" * 20_000)
        client.close()

    async def receive() -> None:
        server = await pair.accepted(version)
        await server.receive(10)

    pair.run(send(), receive())
    pair.world.run(until=pair.world.now + 0.5)
    seeds = [entry.packet for entry in pair.recording.entries if isinstance(entry, Carried)]
    assert len(seeds) > 20
    pair.recording.keeps = False
    pair.recording.entries.clear()
    dice = random.Random(f"fuzz {version}")
    interface = pair.b.interfaces[1]
    tracemalloc.start()
    for number in range(FUZZ_COUNT):
        pair.b.receive(interface, damaged(dice, dice.choice(seeds)))
        pair.world.run(until=pair.world.now + dice.choice([0.0, 0.0, 0.01, 1.0]))
        if number == FUZZ_COUNT // 4:
            before, _ = tracemalloc.get_traced_memory()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 3_000_000
    for half in pair.b.tcp.halves.values():
        assert half.connection.available <= 4096
        assert half.connection.state in State


def damaged(dice: random.Random, packet: bytes) -> bytes:
    """Return *packet*, damaged in one to four places; half of the time with its checksums mended."""
    data = bytearray(packet)
    for _ in range(dice.randint(1, 4)):
        kind = dice.random()
        if kind < 0.2 and len(data) > 1:
            del data[dice.randrange(1, len(data)) :]
        elif kind < 0.3:
            data += dice.randbytes(dice.randint(1, 64))
        elif data:
            at = dice.randrange(min(len(data), 80))
            data[at] = dice.choice([0, 255, data[at] ^ 1 << dice.randrange(8), dice.randrange(256)])
    return mended(bytes(data)) if dice.random() < 0.7 else bytes(data)


def mended(data: bytes) -> bytes:
    """Return a packet with the checksums that its bytes ask for, where they can be read at all."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        size = (data[0] & 15) * 4
        head = data[:10] + b"\0\0" + data[12:size]
        data = head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + data[size:]
    packet = parse_packet(data)
    if isinstance(packet, Malformed) or packet.protocol != 6 or len(packet.payload) < 20:
        return data
    payload = packet.payload[:16] + b"\0\0" + packet.payload[18:]
    right = checksum(payload, pseudo_header(packet.source, packet.destination, 6, len(payload)))
    payload = payload[:16] + right.to_bytes(2, "big") + payload[18:]
    return compose_packet(packet)[: -len(packet.payload)] + payload
