"""A policy in force for a control group: from nothing attached to nothing attached.

Data flows one way: policy → store (ids, versions) → compile → kernel tables; the kernel decides; its ring → narrator →
whoever watches. `serve` is the whole upkeep, called again and again: it reads the ring, destroys the sockets that a
block is to reset, answers the SYNs that a limit refuses, follows executables, units and interfaces that come and go,
and forgets flows that ended.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final, Self

from layergate.analysis import findings
from layergate.compile import Compiled, compile_policy
from layergate.kernel import layout_generated as layout
from layergate.kernel.cgroups import Hierarchy
from layergate.kernel.hooks import HOOK_BY_LAYER, HOOKS
from layergate.kernel.libbpf import kernel_enum
from layergate.kernel.loader import Programs, Settings, drained
from layergate.kernel.netns import Namespace, changed
from layergate.kernel.ring import Record, Ring
from layergate.kernel.sockdiag import Destroyer
from layergate.kernel.tables import require
from layergate.live import pinning
from layergate.live.identities import Identities
from layergate.live.living import Living
from layergate.live.narrator import Narrator, Told
from layergate.live.refusals import Refusals
from layergate.live.resets import crossed, found, value_of
from layergate.model import InputError, Key, NotSupportedError, Policy, PolicyError, Problem
from layergate.store import succeed

UPKEEP_S: Final = 0.5
RECORDS_AT_ONCE: Final = 5000
SWEEP_S: Final = 1.0
REASON_PREFIX: Final = "SKB_DROP_REASON_"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a policy holds: a control group, the interfaces of network namespaces.

    *namespaces*: names; () is the one that we are in. *everything*: names of interfaces on which all packets count, not
    those of the group's flows alone.
    """

    cgroup: str
    own_cgroup: bool = False
    namespaces: tuple[str, ...] = ()
    everything: tuple[str, ...] = ()


@dataclass(slots=True)
class _Place:
    """A network namespace that we look after, and the addresses that the programs know as its own."""

    namespace: Namespace
    destroyer: Destroyer
    watch: socket.socket
    refusals: Refusals
    addresses: set[tuple[int, bytes]] = field(default_factory=set)


@dataclass
class Session:
    """A policy in force. Use it as a context manager: leaving it detaches everything that is not pinned."""

    hierarchy: Hierarchy
    scope: Scope
    emit: int = layout.EMIT_ALL
    ring_bytes: int = 32 << 20
    policy: Policy = field(default_factory=Policy)
    _exit: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Load and attach everything; the empty policy is in force. Raises NotSupportedError, InputError."""
        try:
            self._begin()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        """Detach."""
        self._exit.close()

    def _begin(self) -> None:
        cgroup = self.hierarchy.find(self.scope.cgroup)
        self._exit.callback(os.close, cgroup.fd)
        settings = Settings(cgroup, self.emit, self.scope.own_cgroup, self.ring_bytes)
        self.programs = Programs(settings)
        self._exit.callback(self.programs.close)
        self._places: list[_Place] = []
        for name in self.scope.namespaces or (None,):
            namespace = Namespace(name)
            self._exit.callback(namespace.close)
            with namespace.entered():
                destroyer = Destroyer()
            self._exit.callback(destroyer.close)
            watch = namespace.watch()
            self._exit.callback(watch.close)
            refusals = Refusals(namespace)
            self._exit.callback(refusals.close)
            self._places.append(_Place(namespace, destroyer, watch, refusals))
        self._compiled: Compiled | None = None
        self.identities = Identities(self.programs, self.hierarchy)
        self._exit.callback(self.identities.close)
        self.ring = Ring(self.programs.maps["lg_events"], self.ring_bytes)
        self._exit.callback(self.ring.close)
        reasons = {number: name.removeprefix(REASON_PREFIX) for number, name in kernel_enum("skb_drop_reason").items()}
        self.narrator = Narrator(self.identities, time.monotonic_ns(), reasons, self._symbol)
        self._living = Living(self.programs.limits, self.programs.flows, self.narrator.began_ns)
        self._next_upkeep = self._next_sweep = 0.0
        self._put(succeed(None, self.policy))

    def attach(self) -> None:
        """Attach the programs. What is in force holds from here on.

        Raises NotSupportedError where the kernel refuses a hook that the policy needs.
        """
        self.programs.attach_tracing()
        for place in self._places:
            self._follow(place)
        self._require_hooks(self.policy)
        # Whose the older sockets are is known before the first of their packets is decided; what came between, after.
        self.programs.seed()
        self.programs.attach_cgroup()
        self.programs.seed()
        self.programs.control.seeded()
        self._adopt()

    @property
    def refused(self) -> list[NotSupportedError]:
        """What the kernel refused, and the policy does not need."""
        return list(dict.fromkeys(self.programs.refused.values()))

    def _require_hooks(self, policy: Policy) -> None:
        for item in policy.filters:
            error = self.programs.refused.get(HOOK_BY_LAYER[item.layer.base].program)
            if error is not None:
                raise NotSupportedError(f"'{item.name}' at {item.layer.short}: {error.hook}", error.cause, error.remedy)

    def pin(self) -> None:
        """Let enforcement outlive this process. Raises NotSupportedError."""
        try:
            self.programs.pin(pinning.directory(self.programs.settings.cgroup.id))
        except OSError as error:
            raise NotSupportedError(
                "--pin", f"can't pin: {error.strerror}", "layergate detach --all, then again"
            ) from error

    @property
    def is_pinned(self) -> bool:
        """Whether our pins are still there: nobody has detached them."""
        ours = os.getpid()
        return any(pinning.owner(name) == ours for place in pinning.left() for name in pinning.names(place))

    def take_over(self) -> int:
        """Take over from a run that pinned for this control group and has ended: do what waited, then remove its pins.

        Called when our own programs are attached, so that enforcement has no gap. Returns how many pins were removed.
        """
        count = 0
        for place in pinning.left():
            if place.name == str(self.programs.settings.cgroup.id):
                old = {name for name in pinning.names(place) if not pinning.owner(name)}
                for resets in pinning.waiting(place, old):
                    self._destroy(drained(resets))
                for limits, bans in pinning.banned(place, old):
                    self.programs.limits.inherit(limits, bans)
                count += pinning.remove(place, old)
        return count

    def interfaces(self) -> list[list[str]]:
        """Return the names of the interfaces of each namespace."""
        return [list(place.namespace.interfaces().values()) for place in self._places]

    def reload(self, policy: Policy) -> None:
        """Put *policy* in force in place of what was. Raises NotSupportedError, OSError; then all is as it was."""
        self._require_hooks(policy)
        self._put(succeed(self.policy, policy))
        self._adopt()

    def _adopt(self) -> None:
        """Have the connections that are there counted, where the policy counts: not only with their next segment."""
        if any(item.limit is not None for item in self.policy.filters):
            try:
                self.programs.adopt()
            except NotSupportedError as error:  # then they are, with their next segment
                self.programs.refused["lg_adopt"] = error

    def _put(self, policy: Policy) -> None:
        compiled = compile_policy(policy, self._compiled)
        require(compiled)
        self.narrator.filters |= compiled.filters
        self.narrator.sublayers = compiled.sublayers
        self.narrator.units = compiled.units
        self.identities.name(compiled)
        self.programs.tables.put(compiled)
        self.policy, self._compiled = policy, compiled

    # --- upkeep -----------------------------------------------------------------------------------------------------

    def serve(self, seconds: float) -> Iterator[Told]:
        """Wait for records, *seconds* at most; yield what they tell; keep everything in step."""
        wanted: list[tuple[int, Key, tuple[int, ...]]] = []
        if self.ring.wait(seconds):
            for record in self._records():
                if record[layout.RECORD_KIND] == layout.KIND_LIMIT and (past := crossed(record, self.programs.limits)):
                    wanted.append(past)
                yield from self.narrator.tell(record)
        yield from self.narrator.bans.ended((time.monotonic_ns() - self.narrator.began_ns) / 1e9)
        spaces = [place.namespace for place in self._places]
        for one in self._living.look(self.policy, spaces):
            yield one.told
            if one.told.until is not None:
                self.narrator.bans.begin(one.told)
            if not one.limit.monitor:
                self._destroy([(one.connection.cookie, one.connection.reset)])
            if one.ends_others:
                key = one.limit.key
                wanted.append(
                    (one.number, key, value_of(key, one.connection.ends, one.connection.app, one.connection.unit))
                )
        if wanted:
            self._destroy(found(self.programs.flows, wanted))
        self._destroy(drained(self.programs.resets))
        for place in self._places:
            if changed(place.watch):
                self._follow(place)
        now = time.monotonic()
        if now >= self._next_upkeep:
            self._next_upkeep = now + UPKEEP_S
            self.programs.control.beat()
            self.identities.refresh()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            self.programs.sweeper.sweep(place.namespace for place in self._places)

    def _records(self) -> Iterator[Record]:
        """Yield what the ring has to tell; what it asks of us is done."""
        # Not all at once: a ring that fills as fast as it is read must not keep us from the rest.
        for record in islice(self.ring.read(), RECORDS_AT_ONCE):
            if record[layout.RECORD_KIND] != layout.KIND_REFUSED:
                yield record
                continue
            for place in self._places:
                if place.namespace.cookie == record[layout.RECORD_NETNS]:
                    place.refusals.refuse(record)

    def _destroy(self, resets: Iterable[tuple[int, bytes]]) -> None:
        """Destroy the sockets that a block is to reset."""
        for cookie, reset in resets:
            fields = layout.RESET.unpack(reset)
            known = [place.destroyer for place in self._places if place.namespace.cookie == fields[layout.RESET_NETNS]]
            with suppress(OSError, InputError), ExitStack() as leave:
                destroyer = known[0] if known else self._destroyer_at(fields[layout.RESET_PID], leave)
                destroyer.destroy(cookie, reset)

    @staticmethod
    def _destroyer_at(pid: int, leave: ExitStack) -> Destroyer:
        """Return what destroys sockets where process *pid* is: in a namespace that we do not look after."""
        namespace = Namespace.of_process(pid)
        leave.callback(namespace.close)
        with namespace.entered():
            destroyer = Destroyer()
        leave.callback(destroyer.close)
        return destroyer

    def _follow(self, place: _Place) -> None:
        """Attach to the interfaces of *place* that came, and tell the programs the host's own addresses."""
        present = place.namespace.interfaces()
        self.programs.forget_interface(place.namespace, set(present))
        for index, name in present.items():
            self.programs.attach_interface(place.namespace, index, everything=name in self.scope.everything)
        addresses = place.namespace.addresses()
        for address in addresses - place.addresses:
            self.programs.own_addresses.set(_address_key(place.namespace, *address), bytes(4))
        for address in place.addresses - addresses:
            self.programs.own_addresses.delete(_address_key(place.namespace, *address))
        place.addresses = addresses

    @cached_property
    def _symbols(self) -> tuple[list[int], list[str]]:
        places: list[tuple[int, str]] = []
        with suppress(OSError), open("/proc/kallsyms", encoding="ascii") as lines:  # noqa: PTH123 (a kernel file)
            for line in lines:
                address, kind, name = line.split()[:3]
                if kind in "tTwW":
                    places.append((int(address, 16), name))
        places.sort()
        return [address for address, _ in places], [name for _, name in places]

    def _symbol(self, address: int) -> str:
        """Return the function of the kernel that *address* lies in."""
        addresses, names = self._symbols
        index = bisect_right(addresses, address) - 1
        return names[index] if index >= 0 and addresses[index] else "unknown place"


def _address_key(namespace: Namespace, family: int, address: bytes) -> bytes:
    """Return struct lg_address."""
    high, low = struct.unpack(">QQ", address.rjust(16, b"\0"))
    return layout.ADDRESS.pack(namespace.cookie, high, low, family == socket.AF_INET6, 0)


def accepted(policy: Policy, file: str) -> tuple[str, ...]:
    """Return the warnings of *policy* (of *file*). Raises PolicyError where the kernel can't enforce it as written."""
    found = findings(policy, HOOKS)
    errors = tuple(
        Problem(file, finding.line or None, finding.object, finding.cause, finding.remedy)
        for finding in found
        if finding.severity == "error"
    )
    if errors:
        raise PolicyError(errors)
    warnings = (finding for finding in found if finding.severity == "warning")
    return tuple(f"{file}:{finding.line}: {finding.object}: {finding.cause}" for finding in warnings)
