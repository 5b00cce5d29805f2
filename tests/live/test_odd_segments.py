"""What a port scanner sends, and worse: the simulated host answers it as the real kernel does.

Each row is sent to both: over a TUN device to the kernel of a namespace, and to a simulated host. What comes back is
compared: flags, numbers relative to both sides' first, length, and whether the window is closed.
"""

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface

import pytest

from layergate.sim.host import Host
from layergate.sim.recording import Recording
from layergate.sim.world import World
from layergate.tcp import Flag, Segment, compose_segment, parse_segment
from layergate.tcp.ip import TCP, Malformed, compose_packet, make_packet, parse_packet
from layergate.tcp.sequence import MASK, distance
from layergate.tcp.wire import mss_option
from tests.live.lab import PYTHON, inside, namespace
from tests.live.tun import KERNEL, PACKET_BYTES_MAX, SIMULATED, open_tun

pytestmark = pytest.mark.live

OPEN, CLOSED = 80, 81
OURS = 1_000_000
WINDOW = 65535
ANSWER_S = 0.12
NONE, S, F, R, P, A, U = Flag.NONE, Flag.SYN, Flag.FIN, Flag.RST, Flag.PSH, Flag.ACK, Flag.URG
Answer = tuple[str, int | None, int | None, int, bool]
Send = Callable[[bytes], list[bytes]]


@dataclass
class Peer:
    """Somebody who speaks segments, from a port of its own. *theirs*: the other side's first number, once known."""

    send: Send
    version: int
    port: int
    theirs: int = 0
    at: int = OPEN
    answers: list[Answer] = field(default_factory=list)

    def say(
        self, flags: Flag, *, sequence: int = 0, acknowledgment: int = 0, payload: bytes = b"", urgent: int = 0
    ) -> None:
        """Send a segment, numbers relative to both sides' first; keep what is answered."""
        ours, theirs = ip_address(SIMULATED[self.version]), ip_address(KERNEL[self.version])
        segment = Segment(
            self.port,
            self.at,
            (OURS + sequence) & MASK,
            (self.theirs + acknowledgment) & MASK if flags & A else 0,
            flags,
            WINDOW,
            urgent,
            (mss_option(1000),) if flags & S else (),
            payload,
        )
        packet = compose_packet(make_packet(ours, theirs, TCP, compose_segment(segment, ours, theirs)))
        self.answers = []
        for data in self.send(packet):
            answer = parse_packet(data)
            if isinstance(answer, Malformed) or answer.protocol != TCP:
                continue
            found = parse_segment(answer.payload, answer.source, answer.destination)
            assert not isinstance(found, Malformed)
            if found.destination_port != self.port:
                continue
            if found.flags & S and not self.theirs:
                self.theirs = found.sequence
            self.answers.append(self.seen(found))

    def seen(self, answer: Segment) -> Answer:
        """Return what is compared of an answer."""
        letters = "".join(one.name or "" for one in (S, F, R, A) if answer.flags & one)
        number = distance(self.theirs, answer.sequence) if self.theirs and answer.sequence else answer.sequence
        ack = distance(OURS, answer.acknowledgment) if answer.flags & A else None
        return letters, number, ack, len(answer.payload), answer.window == 0


# --- where a peer may be ----------------------------------------------------------------------------------------------


def closed(peer: Peer) -> None:
    """A port that nobody has."""
    peer.at = CLOSED


def listening(peer: Peer) -> None:
    """A port that somebody listens on."""


def half_open(peer: Peer) -> None:
    """A SYN was sent, and answered."""
    peer.say(S)
    assert peer.answers


def established(peer: Peer) -> None:
    """The handshake is done."""
    half_open(peer)
    peer.say(A, sequence=1, acknowledgment=1)
    assert not peer.answers


def half_closed(peer: Peer) -> None:
    """The peer has sent its FIN."""
    established(peer)
    peer.say(F | A, sequence=1, acknowledgment=1)
    assert peer.answers


Row = tuple[str, Callable[[Peer], None], dict[str, object]]
TEN = b"x" * 10
NOBODYS = [NONE, S, F, F | P | U, A, S | A, R, R | A, F | A, P | A, S | F, S | R, U, S | P | U | F]
ROWS: list[Row] = [
    *((f"{flags!r} to a closed port", closed, {"flags": flags}) for flags in NOBODYS),
    *((f"{flags!r} and data to a closed port", closed, {"flags": flags, "payload": TEN}) for flags in (NONE, S, P | A)),
    *((f"{flags!r} to a listener", listening, {"flags": flags}) for flags in NOBODYS),
    *((f"{flags!r} with data to a listener", listening, {"flags": flags, "payload": TEN}) for flags in (NONE, P | A)),
    ("the same SYN again", half_open, {"flags": S}),
    ("another SYN", half_open, {"flags": S, "sequence": 77}),
    ("an ACK of what was not sent", half_open, {"flags": A, "sequence": 1, "acknowledgment": 2}),
    ("an ACK of too little", half_open, {"flags": A, "sequence": 1, "acknowledgment": 0}),
    ("a RST in its place", half_open, {"flags": R, "sequence": 1}),
    ("a RST far away", half_open, {"flags": R, "sequence": 1_000_000}),
    ("a FIN without ACK", half_open, {"flags": F, "sequence": 1}),
    ("an ACK far outside of the window", half_open, {"flags": A, "sequence": 1_000_000, "acknowledgment": 1}),
    ("data with the ACK", half_open, {"flags": P | A, "sequence": 1, "acknowledgment": 1, "payload": TEN}),
    ("a FIN with the ACK", half_open, {"flags": F | A, "sequence": 1, "acknowledgment": 1}),
    ("data in order", established, {"flags": P | A, "sequence": 1, "acknowledgment": 1, "payload": TEN}),
    ("data behind a gap", established, {"flags": P | A, "sequence": 11, "acknowledgment": 1, "payload": TEN}),
    ("data from before", established, {"flags": P | A, "sequence": -9, "acknowledgment": 1, "payload": TEN}),
    ("data half from before", established, {"flags": P | A, "sequence": -4, "acknowledgment": 1, "payload": TEN}),
    ("data far outside of the window", established,
     {"flags": P | A, "sequence": 9_000_000, "acknowledgment": 1, "payload": TEN}),
    ("data without ACK", established, {"flags": P, "sequence": 1, "payload": TEN}),
    ("no flags at all", established, {"flags": NONE, "sequence": 1}),
    ("FIN, PSH and URG without ACK", established, {"flags": F | P | U, "sequence": 1}),
    ("a keepalive probe without data", established, {"flags": A, "sequence": 0, "acknowledgment": 1}),
    ("a keepalive probe with an old byte", established,
     {"flags": A, "sequence": 0, "acknowledgment": 1, "payload": b"x"}),
    ("an ACK again", established, {"flags": A, "sequence": 1, "acknowledgment": 1}),
    ("an ACK of what was not sent yet", established, {"flags": A, "sequence": 1, "acknowledgment": 1000}),
    ("an old ACK", established, {"flags": A, "sequence": 1, "acknowledgment": -5}),
    ("a RST in its place", established, {"flags": R, "sequence": 1}),
    ("a RST within the window", established, {"flags": R, "sequence": 50}),
    ("a RST far away", established, {"flags": R, "sequence": 9_000_000}),
    ("a RST from before", established, {"flags": R, "sequence": -50}),
    ("a SYN in its place", established, {"flags": S, "sequence": 1}),
    ("the SYN again", established, {"flags": S, "sequence": 0}),
    ("a SYN within the window", established, {"flags": S, "sequence": 50}),
    ("a SYN far away", established, {"flags": S, "sequence": 9_000_000}),
    ("a SYN-ACK", established, {"flags": S | A, "sequence": 1, "acknowledgment": 1}),
    ("a FIN in its place", established, {"flags": F | A, "sequence": 1, "acknowledgment": 1}),
    ("a FIN with data", established, {"flags": F | A, "sequence": 1, "acknowledgment": 1, "payload": TEN}),
    ("a FIN behind a gap", established, {"flags": F | A, "sequence": 50, "acknowledgment": 1}),
    ("urgent data", established,
     {"flags": P | A | U, "sequence": 1, "acknowledgment": 1, "payload": TEN, "urgent": 5}),
    ("the FIN again", half_closed, {"flags": F | A, "sequence": 1, "acknowledgment": 1}),
    ("data behind the FIN", half_closed, {"flags": P | A, "sequence": 2, "acknowledgment": 1, "payload": TEN}),
    ("a RST behind the FIN", half_closed, {"flags": R, "sequence": 2}),
    ("an ACK behind the FIN", half_closed, {"flags": A, "sequence": 2, "acknowledgment": 1}),
]  # fmt: skip


# --- the two who answer -----------------------------------------------------------------------------------------------

LISTENS = f"""
import socket, sys, time
held = []
for address in sys.argv[1:]:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, {OPEN}))
    listener.listen(4096)
    held.append(listener)
sys.stdout.write("listening\\n")
sys.stdout.flush()
time.sleep(600)
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Send]:
    """The kernel of a namespace."""
    with namespace("odd") as netns:
        fd = open_tun(netns)
        words = inside(netns, PYTHON, "-c", LISTENS, KERNEL[4], KERNEL[6])
        with subprocess.Popen(words, stdout=subprocess.PIPE) as listener:
            try:
                assert listener.stdout is not None
                assert listener.stdout.readline() == b"listening\n"

                def send(packet: bytes) -> list[bytes]:
                    os.write(fd, packet)
                    found = []
                    end = time.monotonic() + ANSWER_S
                    while (left := end - time.monotonic()) > 0:
                        if select.select([fd], [], [], left)[0]:
                            found.append(os.read(fd, PACKET_BYTES_MAX))
                    return found

                yield send
            finally:
                listener.kill()
                os.close(fd)


@pytest.fixture
def simulated() -> Send:
    """A simulated host, with the kernel's addresses."""
    world = World(1)
    host = Host(world, Recording(keeps=False), "simulated")
    sent: list[bytes] = []
    interface = replace(host.interfaces[0], index=2, name="tun0", transmit=sent.append, config=host.config)
    interface = replace(interface, addresses=(ip_interface(f"{KERNEL[4]}/24"), ip_interface(f"{KERNEL[6]}/64")))
    host.interfaces.append(interface)
    program = host.program("/usr/bin/listens")
    for version in (4, 6):
        listener = program.tcp()
        listener.bind(KERNEL[version], OPEN)
        listener.listen(4096)

    def send(packet: bytes) -> list[bytes]:
        sent.clear()
        host.receive(interface, packet)
        world.run(until=world.now + ANSWER_S)
        return list(sent)

    return send


@pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("row", range(len(ROWS)), ids=[f"{place.__name__}: {name}" for name, place, _ in ROWS])
def test_an_odd_segment_gets_the_answer_that_the_kernel_gives(
    kernel: Send, simulated: Send, row: int, version: int
) -> None:
    _, place, what = ROWS[row]
    answers = []
    for send in (kernel, simulated):
        peer = Peer(send, version, 20000 + 2 * row + (version == 6))
        place(peer)
        peer.say(**what)  # type: ignore[arg-type]
        answers.append(peer.answers)
    assert answers[1] == answers[0]
