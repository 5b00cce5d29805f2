"""The classifier beside others on the same rules: nft, rule by rule and as a set, and bit vectors over columns.

nft stands in the output hook of a namespace of its own: packets with the headers in question are sent from a raw socket
into a device whose other end is down (send.c); the figure is the time a packet beyond that with an empty chain on the
same hook, taken in turns, the median. Every rule of nft says accept: what follows a verdict then costs all the same.
Ours is the time of a test run beyond a program that does nothing (bench/classifier.py).

    five fields   flavour eb of bench/rulesets.py: rules overlap, which nft can say in no other way than one by one
    prefixes      remote networks of /24, none twice: an interval set
    pairs         remote address and port, both exact: a concatenated set
"""

from __future__ import annotations

import ipaddress
import os
import random
import statistics
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from bench import bitvectors
from bench.classifier import columns_per_us, kernel_ns
from bench.place import LOAD_FLAGS, ip
from bench.rulesets import Box, Header, Ruleset
from bench.testrun import KernelClassifier
from layergate.compile import compile_policy
from layergate.kernel.netns import Namespace
from layergate.model import NotSupportedError
from tools import build_bpf

HERE: Final = Path(__file__).parent
FIVE_FIELDS, PREFIXES, PAIRS = "five fields", "prefixes", "pairs"
HEADER_COUNT: Final = 8192
ROUNDS: Final = 7
SENT: Final = 100_000
LINEAR_WORK: Final = 60_000_000  # rules passed a sample: a long list is sent fewer packets
TCP: Final = 6
_UNROUTABLE: Final = (0, 127)  # first numbers of addresses that no packet is sent to; so are 224 and above
_MULTICAST: Final = 224


@dataclass(frozen=True)
class Listed(Ruleset):
    """Filters that a set can say: *flavour* PREFIXES or PAIRS."""

    @cached_property
    def boxes(self) -> list[Box]:
        """By filter: the remote network, or the remote address and port; none twice."""
        dice = random.Random(f"{self.flavour} {self.count} {self.seed}")
        if self.flavour == PREFIXES:
            bases = [one << 8 for one in dice.sample(range(1 << 16, 126 << 16), self.count)]
            return [{"IP_REMOTE_ADDRESS": (base, base | 0xFF)} for base in bases]
        addresses = dice.sample(range(1 << 24, 126 << 24), self.count)
        ports = (dice.randint(1, 65535) for _ in addresses)
        return [
            {"IP_REMOTE_ADDRESS": (one, one), "IP_REMOTE_PORT": (port, port)}
            for one, port in zip(addresses, ports, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Rivals:
    """One set: nanoseconds a verdict (None: it can't say it, or was too long to try), rows a microsecond and core."""

    rules: str
    filters: int
    ours_ns: float
    nft_linear_ns: float | None
    nft_set_ns: float | None
    columns_per_us: float
    bit_vectors_per_us: float | None

    def line(self) -> dict[str, object]:
        """Return it for the history."""
        return asdict(self)


class Sender:
    """Sends packets in *namespace*, through nft in its output hook, by the program *send*."""

    def __init__(self, namespace: Namespace, send: Path, rounds: int, sent: int) -> None:
        self._namespace, self._send, self._rounds, self._sent = namespace, send, rounds, sent

    def rules(self, lines: Sequence[str]) -> None:
        """Put a chain with *lines* into the output hook, in place of what was there. Raises NotSupportedError."""
        head = "flush ruleset\ntable ip bench {\n"
        body = "".join(f"{line}\n" for line in lines)
        with self._namespace.entered():
            done = subprocess.run(
                ["nft", "-f", "-"], input=f"{head}{body}}}\n", text=True, capture_output=True, check=False
            )
        if done.returncode:
            raise NotSupportedError("bench", f"nft: {done.stderr.strip()[:300]}", "install nftables")

    def ns(self, packets: bytes, count: int) -> float:
        """Return the time that each of *count* packets took, ns."""
        with self._namespace.entered():
            done = subprocess.run([self._send, str(count)], input=packets, capture_output=True, check=True)
        elapsed, refused = map(int, done.stdout.split())
        if refused:
            raise NotSupportedError("bench", f"the kernel refused {refused:,} of {count:,} packets", "see bench/send.c")
        return elapsed / count

    def beyond_empty(self, lines: Sequence[str], packets: bytes, most: int = LINEAR_WORK) -> float:
        """Return what *lines* cost a packet beyond an empty chain: the median of some pairs, ns. *most*: packets."""
        differences = []
        count = max(1000, min(self._sent, most))
        for _ in range(self._rounds):
            self.rules(chain(()))
            floor = self.ns(packets, count)
            self.rules(lines)
            differences.append(self.ns(packets, count) - floor)
        self.rules(chain(()))
        return statistics.median(differences)


@contextmanager
def sending(rounds: int = ROUNDS, sent: int = SENT) -> Iterator[Sender]:
    """Have a namespace with a device that leads nowhere, for the time of a `with` block. Raises NotSupportedError."""
    with ExitStack() as leave:
        send = Path(leave.enter_context(tempfile.TemporaryDirectory(prefix="lg-rivals-"))) / "send"
        compiler = build_bpf.compile_command()[0]
        subprocess.run([compiler, *LOAD_FLAGS, "-o", send, HERE / "send.c"], check=True)
        name = f"lg-rivals-{os.getpid()}"
        leave.callback(ip, "netns", "del", name, check=False)
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "sink", "type", "veth", "peer", "name", "nobody")
        ip("-n", name, "link", "set", "sink", "arp", "off", "up")
        ip("-n", name, "address", "add", "10.255.255.254/32", "dev", "sink")
        ip("-n", name, "route", "add", "default", "dev", "sink")
        namespace = Namespace(name)
        leave.callback(namespace.close)
        yield Sender(namespace, send, rounds, sent)


def chain(rules: Sequence[str], sets: Sequence[str] = ()) -> list[str]:
    """Return a table's lines: *sets*, and a chain of *rules* in the output hook."""
    return [*sets, "chain out { type filter hook output priority 0; policy accept;", *rules, "}"]


def rule_of(box: Box) -> str:
    """Return the rule of nft that *box* means."""
    words = []
    for field, name in (("IP_REMOTE_ADDRESS", "ip daddr"), ("IP_LOCAL_ADDRESS", "ip saddr")):
        if field in box:
            words.append(f"{name} {_network(*box[field])}")
    if "IP_PROTOCOL" in box:
        words.append(f"meta l4proto {box['IP_PROTOCOL'][0]}")
    for field, name in (("IP_REMOTE_PORT", "th dport"), ("IP_LOCAL_PORT", "th sport")):
        if field in box:
            low, high = box[field]
            words.append(f"{name} {low}" if low == high else f"{name} {low}-{high}")
    return " ".join((*words, "accept"))


def _network(low: int, high: int) -> str:
    return f"{ipaddress.IPv4Address(low)}/{33 - (high - low + 1).bit_length()}"


def set_of(rules: Ruleset) -> list[str]:
    """Return a table that says *rules* as one set."""
    boxes = rules.boxes
    if rules.flavour == PREFIXES:
        elements = ",".join(_network(*box["IP_REMOTE_ADDRESS"]) for box in boxes)
        return chain(
            ("ip daddr @known accept",),
            (f"set known {{ type ipv4_addr; flags interval; elements = {{ {elements} }}; }}",),
        )
    pairs = ",".join(
        f"{ipaddress.IPv4Address(box['IP_REMOTE_ADDRESS'][0])} . {box['IP_REMOTE_PORT'][0]}" for box in boxes
    )
    return chain(
        ("ip daddr . th dport @known accept",),
        (f"set known {{ type ipv4_addr . inet_service; elements = {{ {pairs} }}; }}",),
    )


def packet_of(header: Header) -> bytes:
    """Return an IPv4 packet with an empty TCP segment that has the values of *header*."""
    source, target = header["IP_LOCAL_ADDRESS"], header["IP_REMOTE_ADDRESS"]
    start = struct.pack(">BBHHHBBHII", 0x45, 0, 40, 0, 0, 64, header["IP_PROTOCOL"], 0, source, target)
    return start + struct.pack(">HHIIBBHI", header["IP_LOCAL_PORT"], header["IP_REMOTE_PORT"], 0, 0, 0x50, 0x10, 0, 0)


def is_routable(header: Header) -> bool:
    """Whether a packet with *header* can be sent."""
    first = header["IP_REMOTE_ADDRESS"] >> 24
    own = header["IP_LOCAL_ADDRESS"] >> 24
    return first < _MULTICAST and first not in _UNROUTABLE and 0 < own < _MULTICAST


def measured(counts: Sequence[int], rounds: int = ROUNDS, sent: int = SENT) -> Iterator[Rivals]:
    """Measure each kind of rules at *counts*. Raises NotSupportedError: no root, no nft."""
    if os.geteuid():
        raise NotSupportedError("bench", "rivals needs a namespace of its own", "run as root")
    with sending(rounds, sent) as sender, KernelClassifier() as kernel:
        for count in counts:
            for rules in (Ruleset("eb", count), Listed(PREFIXES, count), Listed(PAIRS, count)):
                yield _measured(rules, sender, kernel)


def _measured(rules: Ruleset, sender: Sender, kernel: KernelClassifier) -> Rivals:
    compiled = compile_policy(rules.policy())
    layout = compiled.tables[rules.layer.id].layout
    headers = [one for one in rules.headers("uniform", 4 * HEADER_COUNT) if is_routable(one)][:HEADER_COUNT]
    kernel.put(compiled)
    ours = kernel_ns(kernel, rules.layer, [layout.key(rules.values(one)) for one in headers])
    packets = b"".join(map(packet_of, headers))
    linear = sender.beyond_empty(chain([rule_of(box) for box in rules.boxes]), packets, LINEAR_WORK // rules.count)
    as_set = None if rules.flavour == "eb" else sender.beyond_empty(set_of(rules), packets)
    return Rivals(
        rules=FIVE_FIELDS if rules.flavour == "eb" else rules.flavour,
        filters=rules.count,
        ours_ns=ours,
        nft_linear_ns=linear,
        nft_set_ns=as_set,
        columns_per_us=columns_per_us(compiled, rules, headers),
        bit_vectors_per_us=bitvectors.rows_per_us(rules, headers) if rules.count <= bitvectors.RULES_MAX else None,
    )


def text(figures: Sequence[Rivals]) -> str:
    """Return the table."""

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    lines = [
        "Rivals on the same rules: ns a verdict beyond a hook that does nothing; millions of rows a second and core",
        "   rules          filters     ours, ns   nft, rules   nft, set    columns   bit vectors",
    ]
    lines += [
        f"   {one.rules:<12} {one.filters:>9,} {one.ours_ns:>12,.0f} {shown(one.nft_linear_ns, ',.0f'):>12}"
        f" {shown(one.nft_set_ns, ',.0f'):>10} {one.columns_per_us:>10.1f} {shown(one.bit_vectors_per_us, '.1f'):>13}"
        for one in figures
    ]
    return "\n".join(lines)


def line(figures: Sequence[Rivals]) -> dict[str, Any]:
    """Return the figures for the history."""
    return {"rivals": [one.line() for one in figures]}
