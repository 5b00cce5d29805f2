"""Flows: authorised once, at the layer and in the version that they were created with; again when there is a reason.

- The first packet of a flow, or the connect before it, is decided at AUTH_CONNECT (outbound) or AUTH_RECV_ACCEPT
  (inbound); its direction is the flow's. What is permitted becomes a flow; packets of both directions then pass.
- A reason to decide again: the policy changed at the flow's layer; the packet came in by another interface (weak host
  model only), leaves by another, or finds the interface in another profile; or somebody says so (`require`). It is
  decided by the next packet, in either direction, at the flow's own layer, with IS_REAUTHORIZE set and the reasons
  in REAUTHORIZE_REASON. What that packet doesn't tell is empty: an outbound packet has no arrival interface.
- A flow that is now blocked is forgotten; a TCP connection is to be reset.
- TCP flows live as long as the connection (`close`). UDP and ICMP flows end after 60 idle seconds. An outbound
  multicast or broadcast makes a flow of 4 seconds that admits any sender, and only sending renews it; inbound ones are
  all one flow.
- A callout that absorbs the first packet or the connect suspends it (`Pending`). `complete` decides an outbound one
  again, for the reason CLASSIFY_COMPLETION, and this time for good; an inbound packet is shown anew by whoever kept it.

Worked example: version 3 permits a connect at AUTH_CONNECT: the flow remembers version 3. Version 4 changes another
layer: nothing happens. Version 5 changes AUTH_CONNECT: the next packet is decided there again; if it is permitted, the
flow remembers version 5.

Source: Microsoft, "ALE Flow Expiry", "ALE Re-Authorization", "ALE Multicast/Broadcast Traffic", FwpsCompleteOperation0.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from layergate.model import Action, DataType, Direction, Flag, Indication, Layer, ReauthorizeReason, Value, Verdict

IDLE_S: Final = 60.0
MULTICAST_S: Final = 4.0
TCP: Final = 6

_REASONS: Final = {
    "IP_ARRIVAL_INTERFACE": ReauthorizeReason.NEW_ARRIVAL_INTERFACE,
    "IP_NEXTHOP_INTERFACE": ReauthorizeReason.NEW_NEXTHOP_INTERFACE,
    "CURRENT_PROFILE_ID": ReauthorizeReason.PROFILE_CROSSING,
}
CONSTANT: Final = frozenset(
    {
        "ALE_APP_ID",
        "ALE_USER_ID",
        "ALE_PACKAGE_ID",
        "ALE_PACKAGE_FAMILY_NAME",
        "ALE_ORIGINAL_APP_ID",
        "ALE_REMOTE_USER_ID",
        "ALE_REMOTE_MACHINE_ID",
        "IP_PROTOCOL",
        "IP_LOCAL_ADDRESS",
        "IP_LOCAL_ADDRESS_TYPE",
        "IP_LOCAL_PORT",
        "IP_REMOTE_ADDRESS",
        "IP_DESTINATION_ADDRESS_TYPE",
        "IP_REMOTE_PORT",
        "ORIGINAL_PROFILE_ID",
        "COMPARTMENT_ID",
    }
)
"""The fields that can't change within a flow: it remembers them. All others are the packet's."""


class Cast(enum.StrEnum):
    """Whom a flow's first packet is for."""

    UNICAST = "unicast"
    MULTICAST = "multicast"
    """Also broadcast."""


@dataclass(frozen=True, slots=True)
class FlowKey:
    """What tells flows apart: the five-tuple, seen from the host; addresses are integers or bytes, as in `Value`.

    Of ICMP *local_port* is the type, *remote_port* the code, and *identifier* the echo's. Of UDP *identifier* is the
    socket's: flows of one peer with two sockets are two.
    """

    protocol: int
    local_address: int | bytes
    local_port: int
    remote_address: int | bytes
    remote_port: int
    identifier: int = 0


@dataclass(slots=True)
class Flow:
    """A flow that is authorised: at *layer*, in *version* of that layer."""

    key: FlowKey
    number: int
    layer: Layer
    direction: Direction
    version: int
    verdict: Verdict
    values: Mapping[str, Value]
    cast: Cast = Cast.UNICAST
    expires: float | None = None
    required: ReauthorizeReason = field(default_factory=lambda: ReauthorizeReason(0))


@dataclass(frozen=True, slots=True)
class Pending:
    """A connect or a first packet that a callout has taken for itself."""

    key: FlowKey
    indication: Indication
    direction: Direction
    cast: Cast


@dataclass(frozen=True, slots=True)
class Authorization:
    """What was decided on *indication*; *flow* is the flow that passes, None where it is blocked or suspended.

    *was*: the flow as it had been authorised before, None for a new one.
    """

    indication: Indication
    verdict: Verdict
    flow: Flow | None = None
    was: Flow | None = None
    pending: Pending | None = None

    @property
    def must_reset(self) -> bool:
        """Whether a live TCP connection is to be reset: its flow is blocked now."""
        return self.flow is None and self.pending is None and self.was is not None and self.was.key.protocol == TCP


class Flows:
    """The flows of one host.

    Args:
        decide: what the policy in force says of an indication.
        version_of: in which version a layer's filters last changed.
        is_weak_host: packets may come in by any interface; another one is then a reason to decide again.
    """

    def __init__(
        self,
        decide: Callable[[Indication], Verdict],
        version_of: Callable[[Layer], int],
        *,
        is_weak_host: bool = False,
    ) -> None:
        self._decide, self._version_of, self._is_weak_host = decide, version_of, is_weak_host
        self._flows: dict[FlowKey, Flow] = {}
        self._groups: dict[tuple[int, int], list[Flow]] = {}  # outbound multicasts by protocol and local port
        self._pending: dict[FlowKey, Pending] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many flows there are."""
        return len(self._flows)

    def get(self, key: FlowKey) -> Flow | None:
        """Return the flow *key*, None where there is none."""
        return self._flows.get(key)

    def authorize(
        self, key: FlowKey, indication: Indication, direction: Direction, now: float, *, cast: Cast = Cast.UNICAST
    ) -> Authorization:
        """Decide a connect or a first packet, *indication* being what its layer is shown; a permitted one is a flow.

        Cost: one classification.
        """
        verdict = self._decide(indication)
        if verdict.action is Action.BLOCK:
            pending = Pending(key, indication, direction, cast) if verdict.absorbed else None
            if pending:
                self._pending[key] = pending
            return Authorization(indication, verdict, pending=pending)
        return Authorization(indication, verdict, self._begin(key, indication, verdict, direction, now, cast))

    def complete(self, key: FlowKey, now: float) -> Authorization | None:
        """Go on with what a callout had suspended.

        An outbound one is decided again, for good: a callout can't suspend it twice. For an inbound one None is
        returned: its packet is to be shown anew, as the first one. None too where nothing of *key* is suspended.
        """
        pending = self._pending.pop(key, None)
        if pending is None or pending.direction is Direction.INBOUND:
            return None
        indication = _again(pending.indication, {}, ReauthorizeReason.CLASSIFY_COMPLETION)
        verdict = replace(self._decide(indication), absorbed=False)
        if verdict.action is Action.BLOCK:
            return Authorization(indication, verdict)
        flow = self._begin(key, indication, verdict, pending.direction, now, pending.cast)
        return Authorization(indication, verdict, flow)

    def _begin(  # noqa: PLR0917 - what a flow is made of
        self, key: FlowKey, indication: Indication, verdict: Verdict, direction: Direction, now: float, cast: Cast
    ) -> Flow:
        self._count += 1
        flow = Flow(
            key=key,
            number=self._count,
            layer=indication.layer,
            direction=direction,
            version=self._version_of(indication.layer),
            verdict=verdict,
            values=dict(indication.values),
            cast=cast,
        )
        self._renew(flow, direction, now)
        self._forget(key)
        self._flows[key] = flow
        if cast is Cast.MULTICAST and direction is Direction.OUTBOUND:
            self._groups.setdefault((key.protocol, key.local_port), []).append(flow)
        return flow

    def _forget(self, key: FlowKey) -> None:
        flow = self._flows.pop(key, None)
        if flow is not None:
            group = (key.protocol, key.local_port)
            left = [one for one in self._groups.pop(group, ()) if one is not flow]
            if left:
                self._groups[group] = left

    def packet(
        self, key: FlowKey, direction: Direction, now: float, values: Mapping[str, Value] | None = None
    ) -> Authorization | None:
        """Let a packet of the flow *key* pass, or decide it again where there is a reason to.

        Args:
            key: the flow.
            direction: the packet's.
            now: what time it is, in seconds.
            values: what the packet tells, by field; fields that are absent are empty if it is decided again.

        Returns:
            None where it passes without a question; else what was decided. KeyError where there is no such flow.
        Cost: O(1), and one classification where there is a reason.
        """
        flow = self._flows[key]
        known = values or {}
        reasons = self._reasons(flow, known)
        if not reasons:
            self._renew(flow, direction, now)
            return None
        kept = {name: value for name, value in flow.values.items() if name in CONSTANT}
        indication = _again(Indication(flow.layer, kept), known, reasons)
        verdict = self._decide(indication)
        was = replace(flow)
        if verdict.action is Action.BLOCK:
            self._forget(key)
            return Authorization(indication, verdict, was=was)
        flow.version, flow.verdict = self._version_of(flow.layer), verdict
        flow.values = {**flow.values, **known}
        flow.required = ReauthorizeReason(0)
        self._renew(flow, direction, now)
        return Authorization(indication, verdict, flow, was)

    def is_due(self, key: FlowKey, values: Mapping[str, Value] | None = None) -> bool:
        """Whether a packet of the flow *key*, telling *values*, is to be decided again.

        KeyError where there is none.
        """
        return bool(self._reasons(self._flows[key], values or {}))

    def _reasons(self, flow: Flow, known: Mapping[str, Value]) -> ReauthorizeReason:
        reasons = flow.required
        if flow.version != self._version_of(flow.layer):
            reasons |= ReauthorizeReason.POLICY_CHANGE
        for name, reason in _REASONS.items():
            before, after = flow.values.get(name), known.get(name)
            if before is None or after is None or before == after:
                continue
            if reason is not ReauthorizeReason.NEW_ARRIVAL_INTERFACE or self._is_weak_host:
                reasons |= reason
        return reasons

    def require(self, key: FlowKey, reason: ReauthorizeReason) -> None:
        """Have the next packet of the flow *key* decided again, for *reason*. KeyError where there is no such flow."""
        self._flows[key].required |= reason

    def admits(self, key: FlowKey) -> Flow | None:
        """Return the flow that an inbound packet of *key* belongs to, None where it is a first one.

        That may be an outbound multicast, which any sender may answer at the port that it left from.
        """
        flow = self._flows.get(key)
        if flow is not None:
            return flow
        group = self._groups.get((key.protocol, key.local_port), ())
        return next((one for one in group if key.identifier in (0, one.key.identifier)), None)

    def _renew(self, flow: Flow, direction: Direction, now: float) -> None:
        if flow.key.protocol == TCP:
            return
        if flow.cast is Cast.UNICAST:
            flow.expires = now + IDLE_S
        elif flow.direction is Direction.INBOUND or direction is Direction.OUTBOUND:
            flow.expires = now + (MULTICAST_S if flow.direction is Direction.OUTBOUND else IDLE_S)

    def close(self, key: FlowKey) -> None:
        """Forget the flow *key*: its connection, or its socket, has ended. Also what a callout had suspended."""
        self._forget(key)
        self._pending.pop(key, None)

    def advance(self, now: float) -> list[Flow]:
        """Forget the flows that were idle for too long, and return them. Cost: O(flows)."""
        ended = [flow for flow in self._flows.values() if flow.expires is not None and flow.expires <= now]
        for flow in ended:
            self._forget(flow.key)
        return ended

    def poll_at(self) -> float | None:
        """Return when the next flow has been idle for too long, None where none ever is."""
        return min((flow.expires for flow in self._flows.values() if flow.expires is not None), default=None)


def _again(indication: Indication, known: Mapping[str, Value], reasons: ReauthorizeReason) -> Indication:
    """Return *indication* as it is shown again, with what a packet tells now."""
    values = {**indication.values, **{name: value for name, value in known.items() if indication.layer.field(name)}}
    flags = values.get("FLAGS")
    bits = int(flags.data) if flags is not None and isinstance(flags.data, int) else 0
    values["FLAGS"] = Value(DataType.UINT32, int(bits | Flag.IS_REAUTHORIZE))
    if indication.layer.field("REAUTHORIZE_REASON"):
        values["REAUTHORIZE_REASON"] = Value(DataType.UINT32, int(reasons))
    return replace(indication, values=values, reauthorize=True)
