"""One host's engine at work: what passes each layer on its way, decided by the host's policy and recorded.

    what happens ──path.walk──→ step ──values that the layer knows──→ indication ──engine──→ verdict ──→ the next, or
    not

`passes` takes a call or a packet through its layers, one by one, until a layer blocks it. Which layers these are, and
in which order, `path` alone knows; which fields a layer's values have, the table of the kernel's hooks, so that a
simulated session shows what a live one does; a layer that has no hook yet shows all that is known. Who is authorised,
and when again, `ale.Flows` knows.

Worked example: a SYN arrives at a listener. INBOUND_IPPACKET and INBOUND_TRANSPORT permit; at ALE_AUTH_RECV_ACCEPT a
filter blocks: the indication at its discard twin follows, and `passes` returns the block. Nothing reaches TCP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from layergate.ale import Asking, Counter, Crossing, FlowKey, Flows
from layergate.ale.flows import TCP
from layergate.engine import NO_COUNTS, Ordered, classify, in_order
from layergate.kernel.hooks import HOOK_BY_LAYER
from layergate.model import (
    LAYERS,
    Action,
    Decided,
    Direction,
    Field,
    Flag,
    Indication,
    Layer,
    Policy,
    Process,
    Value,
    Verdict,
    layer_named,
)
from layergate.model.lines import endpoint_text
from layergate.path import AUTHORIZED_AT, Call, Endpoint, Packet, Step, discarded, walk
from layergate.path import Host as Role
from layergate.sim.recording import Indicated, Noted, Recording
from layergate.sim.world import World
from layergate.store import succeed
from layergate.tcp import End

Raw = int | bytes | str
NO_FLAGS: Final = Flag(0)
_AUTHORIZES: Final = frozenset({"ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT"})
_KNOCK: Final = Step("INBOUND_TRANSPORT_DISCARD", "SYN")
_WITH_PORTS: Final = (6, 17)
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_BINDS: Final = frozenset({"ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT"})
# These know no more of the local end than what its process asked for; the rest of the path knows what was chosen.
_ASKED: Final = _BINDS | {"ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"}


@dataclass(slots=True)
class Where:
    """What is known where something happens: the ends, the owner, the interface, and the flow it is of.

    *asked*: the local end that a process asked for, where that is less than what *local* was chosen to be. *implicit*:
    what is bound is bound by a connect or listen. *binds*: where the binds of its socket stand that have no role yet.
    *known* is the gate's: the values of a layer, by its id, and both ends as text; so that a connection, whose place
    stays the same, has them made once.
    """

    protocol: int
    local: End
    remote: End | None = None
    process: Process | None = None
    interface: int = 0
    flags: Flag = NO_FLAGS
    inbound: bool = False
    role: Role | None = None
    flow: int | None = None
    asked: End | None = None
    implicit: bool = False
    binds: list[int] = field(default_factory=list)
    known: dict[int, tuple[Mapping[str, Value], str | None, str | None]] = field(default_factory=dict)
    _key: FlowKey | None = None

    @property
    def is_v4(self) -> bool:
        """Whether its layers are those of IPv4."""
        return (self.remote or self.local).address.version == 4

    @property
    def key(self) -> FlowKey:
        """The flow's key at this host."""
        if self._key is None:
            assert self.remote is not None
            self._key = FlowKey(
                self.protocol, _number(self.local), self.local.port, _number(self.remote), self.remote.port
            )
        return self._key


class Gate:
    """One host's engine. *host*: its name."""

    def __init__(self, world: World, host: str, recording: Recording, policy: Policy) -> None:
        self.world, self.host, self.recording = world, host, recording
        self.policy = succeed(None, policy)
        self._ordered: Ordered = in_order(self.policy)
        self.flows = Flows(self._decide, self._version_of)
        self.counter = Counter(self._crossed)
        self._asking: Asking | None = None

    def put(self, policy: Policy) -> None:
        """Put *policy* in force in place of what was; flows that it concerns are authorised again by a packet each."""
        self.policy = succeed(self.policy, policy)
        self._ordered = in_order(self.policy)

    def _version_of(self, layer: Layer) -> int:
        return self.policy.layer_versions.get(layer.id, 1)

    def _decide(self, indication: Indication) -> Verdict:
        return classify(self._ordered, indication, counts=self._asking or NO_COUNTS)

    def _crossed(self, crossing: Crossing) -> None:
        self.recording.tell(Noted(round(crossing.time, 6), f"{self.host}: {crossing.words}"))

    def close(self, key: FlowKey) -> None:
        """The connection *key* has ended: its flow is forgotten, and counted no more."""
        self.flows.close(key)
        self.counter.closed(key)

    def passes(self, what: Call | Packet, endpoint: Endpoint, where: Where) -> Decided | None:
        """Take *what* through its layers; return the block that ended that, None where it passed all."""
        for step in walk(what, endpoint):
            if step == _KNOCK and not endpoint.has_socket and (told := self._knocked(where)) is not None:
                return told
            told = self.at(step, where)
            if told is not None and told.action is Action.BLOCK:
                return told
        return None

    def at(self, step: Step, where: Where) -> Decided | None:
        """Decide one step, and show it; a block also at the layer's discard twin. None where nothing was to decide."""
        layer = _layer(step.layer, is_v4=where.is_v4)
        if not self.recording.keeps and layer.id not in self._ordered.layers and step.layer not in _AUTHORIZES:
            self.recording.counts["Indicated"] += 1  # permitted by nobody, and nobody looks
            return None
        if step.layer in _AUTHORIZES and where.remote is not None:
            decided = self._authorized(layer, step, where)
            if decided is None:
                return None
            indication, verdict = decided
        else:
            indication = self._indication(layer, step, where)
            verdict = self._decide(indication)
        told = self._tell(indication, verdict, where)
        if verdict.action is Action.BLOCK:
            self._tell_twin(step, indication, where)
        return told

    def _knocked(self, where: Where) -> Decided | None:
        """A SYN finds nobody: return the block where a limit on such attempts keeps it from being answered."""
        step = Step(AUTHORIZED_AT[Role.SERVER], _KNOCK.event)
        layer = _layer(step.layer, is_v4=where.is_v4)
        if layer.id not in self._ordered.layers:
            return None
        indication = self._indication(layer, step, where)
        with self._counting(where.key, nobody=True):
            verdict = self._decide(indication)
        if verdict.action is not Action.BLOCK or verdict.filter is None or verdict.filter.limit is None:
            return None
        told = self._tell(indication, verdict, where)
        self._tell_twin(step, indication, where)
        return told

    def _tell_twin(self, step: Step, indication: Indication, where: Where) -> None:
        twin = discarded(step)
        if twin is not None:
            shown = _shown(replace(indication, event=twin.event), _layer(twin.layer, is_v4=where.is_v4))
            self._tell(shown, self._decide(shown), where)

    def _authorized(self, layer: Layer, step: Step, where: Where) -> tuple[Indication, Verdict] | None:
        """Authorise a flow, for the first time or again; None where it is authorised."""
        key, now = where.key, self.world.now
        direction = Direction.INBOUND if where.inbound else Direction.OUTBOUND
        indication = self._indication(layer, step, where)
        with self._counting(key) as asking:
            if self.flows.get(key) is None:
                authorization = self.flows.authorize(key, indication, direction, now)
            else:
                again = self.flows.packet(key, direction, now, indication.values)
                if again is None:
                    return None
                authorization = again
            asking.settle(authorization.verdict.action)
        decided = authorization.indication
        shown = _shown(replace(indication, values=decided.values, reauthorize=decided.reauthorize), layer)
        return shown, authorization.verdict

    @contextmanager
    def _counting(self, key: FlowKey, *, nobody: bool = False) -> Iterator[Asking]:
        """Have limits judged by this host's counts, for the flow *key*: only TCP is counted."""
        asking = self.counter.asking(key, self.world.now, nobody=nobody)
        self._asking = asking if key.protocol == TCP else None
        try:
            yield asking
        finally:
            self._asking = None

    def _indication(self, layer: Layer, step: Step, where: Where) -> Indication:
        known = where.known.get(layer.id)
        if known is None:
            local = _text(_local(step, where), where.protocol)
            remote = _text(where.remote, where.protocol) if layer.field("IP_REMOTE_ADDRESS") else None
            known = where.known[layer.id] = _values(layer, step, where), local, remote
        values, local, remote = known
        return Indication(
            layer=layer,
            values=values,
            time=round(self.world.now, 6),
            host=where.role,
            event=step.event,
            flow=where.flow,
            protocol=_PROTOCOLS.get(where.protocol, str(where.protocol)),
            local=local,
            remote=remote,
            process=where.process,
        )

    def _tell(self, indication: Indication, verdict: Verdict, where: Where) -> Decided:
        blamed = verdict.filter
        told = Decided(
            indication=indication,
            action=verdict.action,
            filter_id=blamed.id if blamed else 0,
            filter=blamed,
            sublayer=verdict.sublayer.name if verdict.sublayer else None,
            version=self.policy.version,
            fields=_field_names(indication.layer.id),
        )
        if where.role is not None and where.binds:
            self.recording.assign(where.binds, where.role, where.flow if where.role is Role.CLIENT else None)
        place = self.recording.tell(Indicated(self.host, told))
        if where.role is None and indication.event == Call.BIND and told.action is Action.PERMIT:
            where.binds.append(place)
        return told


def _shown(indication: Indication, layer: Layer) -> Indication:
    """Return *indication* as it is shown at *layer*: with what is known there."""
    known = _known_fields(layer.id)
    values = {name: value for name, value in indication.values.items() if name in known}
    return replace(indication, layer=layer, values=values)


@cache
def _layer(base: str, *, is_v4: bool) -> Layer:
    name, twin = (base.removesuffix("_DISCARD"), "_DISCARD") if base.endswith("_DISCARD") else (base, "")
    family = "V4" if is_v4 else "V6"
    layer = layer_named(f"FWPM_LAYER_{name}_{family}{twin}")
    assert layer is not None, base
    return layer


@cache
def _known_fields(layer_id: int) -> dict[str, Field]:
    """Return the fields whose values are known at a layer, in the layer's order."""
    layer = next(one for one in LAYERS if one.id == layer_id)
    hook = HOOK_BY_LAYER.get(layer.base)
    return {one.name: one for one in layer.fields if hook is None or one.name in hook.fields}


@cache
def _field_names(layer_id: int) -> tuple[str, ...]:
    return tuple(_known_fields(layer_id))


def _values(layer: Layer, step: Step, where: Where) -> Mapping[str, Value]:
    local, flags = _local(step, where), where.flags
    if step.layer.removesuffix("_DISCARD") in _BINDS:
        flags = Flag.IS_WILDCARD_BIND if local.address.is_unspecified else Flag(0)
        flags |= Flag.IS_IMPLICIT_BIND if where.implicit else Flag(0)
    raw: dict[str, Raw] = {
        "IP_PROTOCOL": where.protocol,
        "FLAGS": int(flags),
        "DIRECTION": int(Direction.INBOUND if where.inbound else Direction.OUTBOUND),
        "REAUTHORIZE_REASON": 0,
    }
    if where.interface:
        raw["INTERFACE_INDEX"] = raw["LOCAL_INTERFACE_INDEX"] = where.interface
    if not local.address.is_unspecified:
        raw["IP_LOCAL_ADDRESS"] = raw["IP_SOURCE_ADDRESS"] = _number(local)
    if local.port or where.protocol not in _WITH_PORTS:
        raw["IP_LOCAL_PORT"] = local.port
    if where.remote is not None:
        raw["IP_REMOTE_ADDRESS"] = raw["IP_DESTINATION_ADDRESS"] = _number(where.remote)
        raw["IP_REMOTE_PORT"] = where.remote.port
    process = where.process
    if process is not None:
        if process.app is not None:
            raw["ALE_APP_ID"] = process.app.encode(errors="surrogateescape")
        if process.user is not None:
            raw["ALE_USER_ID"] = process.user
        if process.unit is not None:
            raw["ALE_PACKAGE_ID"] = process.unit
    return {name: Value(one.type, raw[name]) for name, one in _known_fields(layer.id).items() if name in raw}


def _local(step: Step, where: Where) -> End:
    return where.asked if where.asked is not None and step.layer.removesuffix("_DISCARD") in _ASKED else where.local


def _number(end: End) -> int | bytes:
    address = end.address
    return int(address) if address.version == 4 else address.packed


def _text(end: End | None, protocol: int) -> str | None:
    """Return an end as people write it; None where neither address nor port is known."""
    if end is None or (end.address.is_unspecified and not end.port):
        return None
    return endpoint_text(_number(end), end.port) if protocol in _WITH_PORTS else str(end.address)
