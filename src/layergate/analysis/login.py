"""Whether a policy would cut off the one who puts it in force: the remote login that the caller works over.

Two sessions are judged, layer by layer: the one that lives, which is authorised again when the policy changes and whose
packets go on passing, and the next one, from its listener's bind to its SYN. What is not known of them (the server's
program, the interface) may meet a filter's test or not: where the answer hangs on it, that is a doubt, not an error.

Worked example: a login from 203.0.113.9 to port 22 and a policy that blocks at ALE_AUTH_RECV_ACCEPT but for local port
443: the live session is blocked at its next packet, by that filter, for certain.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from layergate.ale.keys import ident_of
from layergate.analysis.finding import Finding, Severity, Witness, named
from layergate.analysis.outcomes import dependences, untested
from layergate.engine import classify, in_order, unasked
from layergate.engine.matching import matches_all
from layergate.model import (
    Action,
    Counted,
    DataType,
    Direction,
    Filter,
    Flag,
    Indication,
    Per,
    Policy,
    ReauthorizeReason,
    Value,
    Verdict,
    layer_named,
)
from layergate.model.limits import Standing

TCP: Final = 6
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Login:
    """A remote login: its ends, and what else is known of it, by field (`ALE_APP_ID`, …)."""

    local: Ip
    local_port: int
    remote: Ip
    remote_port: int
    known: Mapping[str, Value] | None = None

    def __str__(self) -> str:
        """Return "203.0.113.9 to port 22"."""
        return f"{self.remote} to port {self.local_port}"


@dataclass(frozen=True, slots=True)
class _Passage:
    """A layer that a session passes; *is_next*: a session to come, whose remote port is not known."""

    base: str
    what: str
    is_next: bool = False
    reauthorize: bool = False
    direction: Direction = Direction.INBOUND


_LIVE: Final = "the live session"
_NEXT: Final = "the next login"
_DECIDED_AGAIN: Final = _Passage("ALE_AUTH_RECV_ACCEPT", _LIVE, reauthorize=True)
_PASSAGES: Final = (
    _Passage("INBOUND_IPPACKET", _LIVE),
    _Passage("INBOUND_TRANSPORT", _LIVE),
    _DECIDED_AGAIN,
    _Passage("STREAM", _LIVE),
    _Passage("STREAM", _LIVE, direction=Direction.OUTBOUND),
    _Passage("OUTBOUND_TRANSPORT", _LIVE),
    _Passage("OUTBOUND_IPPACKET", _LIVE),
    _Passage("ALE_BIND_REDIRECT", _NEXT, is_next=True),
    _Passage("ALE_RESOURCE_ASSIGNMENT", _NEXT, is_next=True),
    _Passage("ALE_AUTH_LISTEN", _NEXT, is_next=True),
    _Passage("ALE_AUTH_RECV_ACCEPT", _NEXT, is_next=True),
    _Passage("ALE_FLOW_ESTABLISHED", _NEXT, is_next=True),
)


def cut_off(policy: Policy, login: Login) -> Iterator[Finding]:
    """Yield where *policy* would block *login*, once a layer and filter. Cost: some classifications a layer."""
    ordered = in_order(policy)
    callouts = {item.callout: unasked for item in policy.filters if item.callout}
    seen: set[tuple[str, int]] = set()
    for passage in _PASSAGES:
        indication = _indication(passage, login)
        assumed = untested(ordered, indication)
        verdict = classify(ordered, indication, callouts=callouts, assumed=assumed)
        others = [one.verdict for one in dependences(ordered, indication, assumed, callouts)]
        blocking = next((one for one in (verdict, *others) if one.action is Action.BLOCK), None)
        if blocking is None or blocking.filter is None or (passage.base, blocking.filter.id) in seen:
            continue
        seen.add((passage.base, blocking.filter.id))
        is_certain = verdict.action is Action.BLOCK and all(one.action is Action.BLOCK for one in others)
        yield _finding(passage, login, indication, blocking, is_certain=is_certain)


def over_limits(policy: Policy, login: Login, connections: Sequence[Login]) -> Iterator[Finding]:
    """Yield the limits on concurrent connections that *login* is past now already, counted with all *connections*.

    Applied, the policy would end it at its next packet. What is counted over an application or a unit is passed over:
    whose a connection is, is not known here. Cost: a classification a limit that is past.
    """
    indication = _indication(_DECIDED_AGAIN, login)
    ordered = in_order(policy)
    counts = _Counts(connections)
    verdict = classify(ordered, indication, counts=counts, assumed=untested(ordered, indication))
    item = verdict.filter
    if verdict.action is not Action.BLOCK or item is None or item.limit is None:
        return
    standing = counts.standing(item, indication)
    yield Finding(
        "limit-below-own-connections",
        Severity.ERROR,
        f"filter '{item.name}' at {_DECIDED_AGAIN.base}",
        item.line,
        f"{login.remote}, which you work from, has {standing.count} connections that it counts, and its limit is "
        f"{standing.limit}",
        "the session that puts this policy in force would be ended by it",
        f"a limit of {standing.count} at least, a permit for {login.remote} that is heard before it, or monitor = true",
        Witness(indication),
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    """Counts what is there: the connections that have the key of who asks, and meet the filter's conditions."""

    connections: Sequence[Login]

    def standing(self, item: Filter, indication: Indication) -> Standing:
        """Return how the key stands to the limit of *item*; who asks is one of the connections."""
        limit = item.limit
        assert limit is not None
        count = 0
        if limit.counted is Counted.CONCURRENT and limit.fair is None and limit.key.per not in (Per.APP, Per.UNIT):
            key = ident_of(limit.key, indication.values)
            others = (_indication(_DECIDED_AGAIN, one).values for one in self.connections)
            count = sum(ident_of(limit.key, one) == key and matches_all(one, item.conditions) for one in others)
        return Standing(count, limit.count, is_past=count > limit.count)


def _finding(passage: _Passage, login: Login, indication: Indication, verdict: Verdict, *, is_certain: bool) -> Finding:
    decided = verdict.filter
    assert decided is not None
    word = "is" if is_certain else "may be"
    return Finding(
        "cuts-off-login",
        Severity.ERROR if is_certain else Severity.WARNING,
        f"filter '{decided.name}' at {passage.base}",
        decided.line,
        f"{passage.what} from {login} {word} blocked at {passage.base} by {named(decided)}",
        "whoever puts this policy in force from there is cut off by it"
        if is_certain
        else "whether it is hangs on what is not known here: the server's program or user, the interface, a callout",
        f"a permit for {login.remote} and port {login.local_port} at {passage.base} that is heard before it",
        Witness(indication),
    )


def _indication(passage: _Passage, login: Login) -> Indication:
    """Return what is known of *login* where it passes."""
    is_v4 = login.local.version == 4
    layer = layer_named(f"{passage.base}_{'V4' if is_v4 else 'V6'}")
    assert layer is not None
    flags = Flag.IS_LOOPBACK if login.remote.is_loopback else 0
    known: dict[str, Value] = {
        "IP_PROTOCOL": Value(DataType.UINT8, TCP),
        "IP_LOCAL_ADDRESS": _address(login.local),
        "IP_LOCAL_PORT": Value(DataType.UINT16, login.local_port),
        "IP_REMOTE_ADDRESS": _address(login.remote),
        "DIRECTION": Value(DataType.UINT32, int(passage.direction)),
        "FLAGS": Value(DataType.UINT32, int(flags | (Flag.IS_REAUTHORIZE if passage.reauthorize else 0))),
        **(login.known or {}),
    }
    if not passage.is_next:
        known["IP_REMOTE_PORT"] = Value(DataType.UINT16, login.remote_port)
    if passage.reauthorize:
        known["REAUTHORIZE_REASON"] = Value(DataType.UINT32, int(ReauthorizeReason.POLICY_CHANGE))
    return Indication(layer, {name: value for name, value in known.items() if layer.field(name)})


def _address(address: Ip) -> Value:
    if isinstance(address, ipaddress.IPv4Address):
        return Value(DataType.UINT32, int(address))
    return Value(DataType.BYTE_ARRAY16, address.packed)
