"""What is attached while the load runs: nothing, programs that do nothing, or layergate with one policy or another.

layergate is attached by its own `Session`, as `layergate run` does, and served meanwhile as `run` serves it; a variant
that traces writes every event to the ring and reads it as `layergate trace` does, all but the printing. Programs that
do nothing (noop.bpf.c) stand on the same hooks, taken from the loader's own tables.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from bench.place import Place
from layergate.cli.run import POLL_S, QUIET_RING_BYTES
from layergate.kernel import layout_generated as layout
from layergate.kernel.libbpf import BpfObject, Command, bpf
from layergate.kernel.loader import CGROUP_PROGRAMS, RING_BYTES, TCX_PROGRAMS, tracing_programs
from layergate.live.session import Scope, Session
from layergate.model import Policy
from layergate.policyfile import TableResolver, load_text

LOOPBACK: Final = 1
PACKET_PROGRAMS: Final = ("egress", "tcx_egress", "tcx_ingress", "ingress")  # in the order that a segment meets them
LOOK_EVERY: Final = 256
NONE, NOOP, EMPTY, TRACE, CONNECT = "none", "noop", "empty", "trace", "connect"


class Attached(Protocol):
    """What is attached just now."""

    def attend(self, is_done: Callable[[], bool]) -> None:
        """Do what user space has to do, until the load *is_done* or longer."""

    def programs(self) -> Iterable[tuple[str, int]]:
        """Return name (without prefix) and file descriptor of the programs."""

    def statistics(self) -> dict[str, int]:
        """Return what the programs counted."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Programs that need nobody; *held* are theirs, none by default."""

    held: tuple[tuple[str, int], ...] = ()

    def attend(self, is_done: Callable[[], bool]) -> None:
        """Do nothing: the answer is waited for by whoever reads it."""

    def programs(self) -> Iterable[tuple[str, int]]:
        """Return the programs."""
        return self.held

    def statistics(self) -> dict[str, int]:
        """Return nothing: nobody counted."""
        return {}


class Served:
    """A session of layergate."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told = self._tell()

    def _tell(self) -> Iterator[bool]:
        # One generator for the whole session: one that is dropped half way would read its record again.
        while True:
            yield False
            for _ in self._session.serve(POLL_S):
                yield True

    def attend(self, is_done: Callable[[], bool]) -> None:
        """Serve."""
        for number, any_told in enumerate(self._told):
            if (not any_told or not number % LOOK_EVERY) and is_done():
                return

    def programs(self) -> Iterable[tuple[str, int]]:
        """Return the programs."""
        return ((name.removeprefix("lg_"), fd) for name, fd in self._session.programs.loaded())

    def statistics(self) -> dict[str, int]:
        """Return what the programs counted."""
        return self._session.programs.statistics()


@dataclass(frozen=True)
class Variant:
    """A way to run the load. *name* stands in figures and history."""

    name: str
    title: str
    policy: Policy | None = None
    trace: bool = False

    @contextmanager
    def attached(self, place: Place) -> Iterator[Attached]:
        """Have it attached for the time of a `with` block."""
        with ExitStack() as leave:
            if self.policy is None:
                yield Nothing() if self.name == NONE else _noop(place, leave)
                return
            scope = Scope(place.cgroup.path, namespaces=(place.name,))
            emit, ring = (layout.EMIT_ALL, RING_BYTES) if self.trace else (layout.EMIT_BLOCKS, QUIET_RING_BYTES)
            session = leave.enter_context(Session(place.hierarchy, scope, emit, ring, self.policy))
            session.attach()
            for refusal in session.refused:
                raise refusal  # figures without a hook would be compared with figures that have it
            yield Served(session)


def _noop(place: Place, leave: ExitStack) -> Attached:
    noop = BpfObject(place.noop)
    leave.callback(noop.close)
    noop.load()
    held = []

    def link(name: str, command: Command, form: str, *values: int) -> None:
        plain = name.removeprefix("lg_")
        fd = noop.program_fd(f"noop_{plain}")
        held.append((plain, fd))
        fields = (0, fd) if command is Command.RAW_TRACEPOINT_OPEN else (fd, *values)
        leave.callback(os.close, bpf(command, struct.pack(form, *fields)))

    # A run that tells of blocks alone has no program where drops by others are told.
    for name in tracing_programs(layout.EMIT_BLOCKS):
        link(name, Command.RAW_TRACEPOINT_OPEN, "<QI")
    for name, attach in CGROUP_PROGRAMS.items():
        link(name, Command.LINK_CREATE, "<IIII", place.cgroup.fd, attach, 0)
    with place.namespace.entered():
        for name, attach in TCX_PROGRAMS.items():
            link(name, Command.LINK_CREATE, "<IIII", LOOPBACK, attach, 0)
    return Nothing(tuple(held))


def policy_of(count: int, *layers: str) -> Policy:
    """Return *count* filters at each of *layers*, none of which matches traffic on loopback: every one is asked."""
    filters = [
        {
            "name": f"{layer} {number}",
            "layer": layer,
            "action": "block",
            "when": {"remote_address": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"},
        }
        for layer in layers
        for number in range(count)
    ]
    return load_text(json.dumps({"filter": filters}), file="bench.json", resolver=TableResolver()).policy


@dataclass(frozen=True)
class Sizes:
    """How much is measured; *transport* are numbers of filters at each transport layer."""

    rounds: int = 24
    connections: int = 4000
    exchanges: int = 20_000
    warm_up: int = 500
    connect_filters: int = 10_000
    transport: tuple[int, ...] = field(default=(100, 100_000))


def for_connections(sizes: Sizes) -> tuple[Variant, ...]:
    """Return what connections per second are measured for."""
    count = sizes.connect_filters
    return (
        Variant(NONE, "without layergate"),
        Variant(NOOP, "programs that do nothing"),
        Variant(EMPTY, "layergate, empty policy", Policy()),
        Variant(TRACE, "layergate, every event traced and read", Policy(), trace=True),
        Variant(CONNECT, f"layergate, {count:,} filters at ALE_AUTH_CONNECT", policy_of(count, "ALE_AUTH_CONNECT_V4")),
    )


def for_packets(sizes: Sizes) -> tuple[Variant, ...]:
    """Return what an established flow is measured for."""
    layers = ("OUTBOUND_TRANSPORT_V4", "INBOUND_TRANSPORT_V4")
    return (
        Variant(NONE, "without layergate"),
        Variant(NOOP, "programs that do nothing"),
        Variant(EMPTY, "layergate, no filters", Policy()),
        *(
            Variant(f"transport_{count}", f"layergate, {count:,} filters a layer", policy_of(count, *layers))
            for count in sizes.transport
        ),
    )
