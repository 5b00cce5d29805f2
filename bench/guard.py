"""What a limit costs a SYN, permitted and dropped, beside nft's sets that do the same; what it saves a flooded server.

Two namespaces with a veth pair: one has a listener under the policy, from the other come SYNs of 20,000 sources by a
raw socket (send.c). A packet is handed over and looked at in the same call, so that the time of sending has both; the
figure is a SYN's time beyond that with nothing attached, taken in turns, the median. The listener answers with cookies
(tcp_syncookies = 2): then a permitted SYN costs the kernel the same whatever came before.

    ours      a limit over the source's address: half-open (permitted: never past, dropped: a limit of 1 new for all)
    ports     a limit of 255 ports an address: each of the sources is remembered with what it tried
    ct count  nft: add @set { ip saddr ct count over N } drop; conntrack comes with it
    limit     nft: update @set { ip saddr limit rate over N/second } drop

The flooded server has no cookies and a backlog of 128: how many connections a second a client gets who behaves, beside
as many SYNs as one processor sends, of a /16 that the guard lets have 32 handshakes.
"""

from __future__ import annotations

import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.place import LOAD_FLAGS, ip
from bench.variants import Served
from layergate.cli.run import QUIET_RING_BYTES
from layergate.kernel import layout_generated as layout
from layergate.kernel.cgroups import Hierarchy
from layergate.kernel.netns import Namespace
from layergate.live.session import Scope, Session
from layergate.model import NotSupportedError, Policy
from layergate.policyfile import TableResolver, load_text
from tools import build_bpf

HERE: Final = Path(__file__).parent
ROUNDS: Final = 7
SYNS: Final = 40_000
SOURCES: Final = 20_000
PORT: Final = 8080
FLOODED_S: Final = 2.0
_SERVER, _CLIENT = "10.78.0.1", "10.78.0.2"
_LISTEN: Final = """
import socket, sys
listener = socket.create_server(("10.78.0.1", 8080), backlog=128)
print("ready", flush=True)
while True: listener.accept()[0].close()
"""
_CONNECT: Final = """
import socket, sys, time
end, done = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    try:
        socket.create_connection(("10.78.0.1", 8080), timeout=0.5, source_address=("10.78.0.2", 0)).close()
        done += 1
    except OSError:
        pass
print(done)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """*ns*: beyond nothing attached."""

    name: str
    permitted_ns: float
    dropped_ns: float | None


@dataclass(frozen=True, slots=True)
class Guarded:
    """What was measured. Connections a second: of a quiet server, of a flooded one without and with the guard."""

    costs: tuple[Cost, ...]
    floor_ns: float
    quiet: float
    bare: float
    guarded: float

    def line(self) -> dict[str, Any]:
        """Return it as a part of the history's line."""
        return {"guard": asdict(self)}

    def text(self) -> str:
        """Return it for people."""
        head = f"9  A SYN, ns: {self.floor_ns:,.0f} with nothing attached, sent and answered; beyond that, medians:"
        served = (
            f"quiet {self.quiet:,.0f}; under a SYN flood {self.bare:,.0f} without, {self.guarded:,.0f} with the guard"
        )
        lines = [
            head,
            f"   {'':<28}{'permitted':>10}{'dropped':>10}",
            *(f"   {one.name:<28}{one.permitted_ns:>10,.0f}{_shown(one.dropped_ns):>10}" for one in self.costs),
            f"   Connections a second: {served}",
        ]
        return "\n".join(lines)


def _shown(ns: float | None) -> str:
    return "-" if ns is None else f"{ns:,.0f}"


def measured(rounds: int = ROUNDS, syns: int = SYNS) -> Guarded:
    """Measure. Raises NotSupportedError."""
    if os.geteuid():
        raise NotSupportedError("bench", "it makes network namespaces", "run as root")
    with _stage() as stage:
        stage.sysctl("net.ipv4.tcp_syncookies=2")
        with stage.listening():
            costs, floor_ns = _costs(stage, rounds, syns)
        # Who was there before would be preferred: here the guard has to help.
        stage.sysctl("net.ipv4.tcp_syncookies=0", "net.ipv4.tcp_max_syn_backlog=128", "net.ipv4.tcp_no_metrics_save=1")
        flood = 'per = "remote_prefix", prefix_v4 = 16, half_open = 32'
        with stage.listening():
            quiet = stage.connections(flood=False)
            bare = stage.connections(flood=True)
        with stage.listening(), stage.guard(_policy(flood)) as session:
            guarded = stage.connections(flood=True, attend=Served(session).attend)
    return Guarded(costs, floor_ns, quiet, bare, guarded)


def _policy(limit: str) -> Policy:
    text = f"""
    [[filter]]
    name = "guard"
    layer = "ALE_AUTH_RECV_ACCEPT_V4"
    action = "block"
    when = {{ local_port = {PORT} }}
    limit = {{ {limit} }}
    """
    return load_text(text, file="bench.toml", resolver=TableResolver()).policy


def _nft(statement: str) -> str:
    return f"""
    table ip bench {{
        set seen {{ type ipv4_addr; size 65536; flags dynamic; }}
        chain in {{ type filter hook input priority 0; tcp dport {PORT} {statement} drop; }}
    }}
    """


class _Stage:
    """The namespaces *here* (the listener's) and *there*."""

    def __init__(self, here: Namespace, there: Namespace, names: tuple[str, str], send: Path) -> None:
        self.here, self.there, self._names, self._send = here, there, names, send
        self.hierarchy = Hierarchy()
        self._own = self.hierarchy.own()
        self.cgroup = self.hierarchy.make(f"{self._own.rstrip('/')}/{names[0]}")

    def close(self) -> None:
        """Remove the control group."""
        self.hierarchy.remove(self.cgroup, keep_in=self._own)
        os.close(self.cgroup.fd)
        self.hierarchy.close()

    def sysctl(self, *settings: str) -> None:
        """Set *settings* of the listener's namespace."""
        subprocess.run(["ip", "netns", "exec", self._names[0], "sysctl", "-qw", *settings], check=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A listener in the control group."""
        words = ["ip", "netns", "exec", self._names[0], sys.executable, "-c", _LISTEN]
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: self.hierarchy.join(self.cgroup),  # noqa: PLW1509 (no threads here)
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def guard(self, policy: Policy) -> Iterator[Session]:
        """*policy* in force."""
        scope = Scope(self.cgroup.path, namespaces=(self._names[0],))
        with Session(self.hierarchy, scope, layout.EMIT_BLOCKS, QUIET_RING_BYTES, policy) as session:
            session.attach()
            for refusal in session.refused:
                raise refusal
            yield session

    @contextmanager
    def nft(self, rules: str) -> Iterator[None]:
        """*rules* in the listener's namespace."""
        self._load(rules)
        try:
            yield
        finally:
            self._load("flush ruleset")

    def _load(self, rules: str) -> None:
        with self.here.entered():
            done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
        if done.returncode:
            raise NotSupportedError("bench", f"nft: {done.stderr.strip()[:300]}", "install nftables")

    def ns(self, packets: bytes, count: int) -> float:
        """Return the time that each of *count* packets took, ns."""
        with self.there.entered():
            done = subprocess.run([self._send, str(count)], input=packets, capture_output=True, check=True)
        return int(done.stdout.split()[0]) / count

    def connections(self, *, flood: bool, attend: Callable[[Callable[[], bool]], None] | None = None) -> float:
        """Return how many connections a second a client gets, beside a *flood* or not."""
        inside = ["ip", "netns", "exec", self._names[1]]
        sender = None
        if flood:
            sender = subprocess.Popen(
                [*inside, self._send, "10000000"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            assert sender.stdin is not None
            sender.stdin.write(_syns(1, SYNS))
            sender.stdin.close()
        try:
            client = subprocess.Popen(
                [*inside, sys.executable, "-c", _CONNECT, str(FLOODED_S)], stdout=subprocess.PIPE, text=True
            )
            if attend is not None:
                attend(lambda: client.poll() is not None)
            return int(client.communicate()[0]) / FLOODED_S
        finally:
            if sender is not None:
                sender.kill()
                sender.wait()


@contextmanager
def _stage() -> Iterator[_Stage]:
    with ExitStack() as leave:
        send = Path(leave.enter_context(tempfile.TemporaryDirectory(prefix="lg-guard-"))) / "send"
        subprocess.run([build_bpf.compile_command()[0], *LOAD_FLAGS, "-o", send, HERE / "send.c"], check=True)
        names = f"lg-guard-a-{os.getpid()}", f"lg-guard-b-{os.getpid()}"
        spaces = []
        for name in names:
            leave.callback(ip, "netns", "del", name, check=False)
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", "lg0", "type", "veth", "peer", "name", "lg0", "netns", names[1])
        for name, address in zip(names, (_SERVER, _CLIENT), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "lg0")
            ip("-n", name, "link", "set", "lg0", "up")
            spaces.append(Namespace(name))
            leave.callback(spaces[-1].close)
        ip("-n", names[0], "route", "add", "10.79.0.0/16", "via", _CLIENT)  # whose answers are lost there
        stage = _Stage(spaces[0], spaces[1], names, send)
        leave.callback(stage.close)
        yield stage


def _costs(stage: _Stage, rounds: int, syns: int) -> tuple[tuple[Cost, ...], float]:
    """Measure each way, permitted and dropped, beside the floor of its round."""
    ways: dict[str, Callable[[], Any]] = {
        "layergate, empty policy": lambda: stage.guard(Policy()),
        "layergate +": lambda: stage.guard(_policy('per = "remote_address", half_open = 1000000')),
        "layergate -": lambda: stage.guard(_policy('per = "all", new = 1, over = "1h"')),
        "ports": lambda: stage.guard(_policy('per = "remote_address", ports = 255, over = "1m"')),
        "nft ct count +": lambda: stage.nft(_nft("ct state new add @seen { ip saddr ct count over 1000000 }")),
        "nft ct count -": lambda: stage.nft(_nft("ct state new add @seen { ip saddr ct count over 0 }")),
        "nft limit +": lambda: stage.nft(_nft("update @seen { ip saddr limit rate over 1000000/second }")),
        "nft limit -": lambda: stage.nft(_nft("update @seen { ip saddr limit rate over 1/hour burst 1 packets }")),
    }
    beyond: dict[str, list[float]] = {name: [] for name in ways}
    floors = []
    for number in range(rounds):
        floors.append(stage.ns(_syns(2 * number, syns), syns))
        for name, way in ways.items():
            with way():
                if name == "nft limit -":
                    stage.ns(_syns(2 * number, syns), syns)  # the first of each source passes
                beyond[name].append(stage.ns(_syns(2 * number, syns), syns) - floors[-1])
    median = {name: statistics.median(values) for name, values in beyond.items()}
    names = ("layergate", "nft ct count", "nft limit")
    return (
        Cost("layergate, empty policy", median["layergate, empty policy"], None),
        Cost("layergate, ports", median["ports"], None),
        *(Cost(name, median[f"{name} +"], median[f"{name} -"]) for name in names),
    ), statistics.median(floors)


def _syns(seed: int, count: int) -> bytes:
    """Return *count* SYNs to the listener, none of one tuple twice, from SOURCES addresses of 10.79.0.0/16."""
    dice = random.Random(seed)
    target = socket.inet_aton(_SERVER)
    made = []
    for number in range(count):
        source = 0x0A4F0000 + 1 + number % SOURCES
        ends = struct.pack("!I4s", source, target)
        tcp = struct.pack("!HHIIBBHHH", 1024 + number // SOURCES, PORT, dice.getrandbits(32), 0, 80, 2, 8192, 0, 0)
        total = sum(struct.unpack("!10H", tcp)) + sum(struct.unpack("!4H", ends)) + 6 + 20
        total = (total >> 16) + (total & 0xFFFF)
        checksum = ~(total + (total >> 16)) & 0xFFFF
        header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends
        made.append(header + tcp[:16] + struct.pack("!H", checksum) + tcp[18:])
    return b"".join(made)
