"""What each layer says of a connection that is there, in the documented order: by the policy that is in force.

The layer that authorised it is known for certain: the kernel's programs wrote down which filter it was (`authorised`).
Of the others the policy is asked with what is known of the connection; what is not known (its interface, say) is taken
not to be met, and where that matters, the outcome is told as uncertain. Without a policy there is only what was written
down.

Worked example: a server's end on port 80, under a policy that permits 80 at ALE_AUTH_RECV_ACCEPT and nothing else:
INBOUND_IPPACKET permit, INBOUND_TRANSPORT permit, ALE_AUTH_RECV_ACCEPT permit by '80 is served' (recorded), …
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from layergate.analysis.outcomes import dependences, untested
from layergate.engine import Ordered, classify, in_order, unasked
from layergate.model import Indication, Layer, Policy, Value, layer_named
from layergate.sockets.subject import Subject

PROTOCOLS: Final = {"tcp": 6, "udp": 17}
LISTENER: Final = ("ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT", "ALE_AUTH_LISTEN")
CLIENT: Final = (
    "ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT", "ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT", "OUTBOUND_TRANSPORT",
    "OUTBOUND_IPPACKET", "INBOUND_IPPACKET", "INBOUND_TRANSPORT", "ALE_FLOW_ESTABLISHED", "STREAM",
)  # fmt: skip
SERVER: Final = (
    "INBOUND_IPPACKET", "INBOUND_TRANSPORT", "ALE_AUTH_RECV_ACCEPT", "OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET",
    "ALE_FLOW_ESTABLISHED", "STREAM",
)  # fmt: skip
_AUTHORISING: Final = frozenset({"ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT"})


@dataclass(frozen=True, slots=True)
class Passed:
    """A layer, and what it says. *verdict*: "permit", "block", "" unknown; *by*: the filter's name, "" for none."""

    layer: str
    verdict: str
    by: str = ""
    is_recorded: bool = False
    is_certain: bool = True


class Passages:
    """Asks one policy. Cost: a classification a layer."""

    def __init__(self, policy: Policy | None, unit_of: Callable[[int], str | None] = lambda _: None) -> None:
        """Take the policy in force, None where none is known; *unit_of*: the unit of a control group's id."""
        self._ordered: Ordered | None = in_order(policy) if policy is not None else None
        self._callouts = {item.callout: unasked for item in policy.filters if item.callout} if policy else {}
        self._unit_of = unit_of

    def of(self, one: Subject, *, is_server: bool, recorded: str | None = None) -> Iterator[Passed]:
        """Yield what each layer says of *one*; *recorded*: the name of the filter that authorised it, where one did."""
        names = LISTENER if one.has_no_remote else SERVER if is_server else CLIENT
        for name in names:
            if recorded is not None and name in _AUTHORISING:
                yield Passed(name, "permit", recorded, is_recorded=True)
            elif self._ordered is None:
                yield Passed(name, "")
            else:
                layer = layer_named(f"{name}_V{one.family}")
                assert layer is not None
                yield self._asked(name, self._ordered, indication_of(one, layer, self._unit_of))

    def _asked(self, name: str, ordered: Ordered, indication: Indication) -> Passed:
        assumed = untested(ordered, indication)
        verdict = classify(ordered, indication, callouts=self._callouts, assumed=assumed)
        others = dependences(ordered, indication, assumed, self._callouts)
        return Passed(
            name,
            verdict.action.name.lower(),
            verdict.filter.name if verdict.filter else "",
            is_certain=all(other.verdict.action is verdict.action for other in others),
        )


def indication_of(one: Subject, layer: Layer, unit_of: Callable[[int], str | None] = lambda _: None) -> Indication:
    """Return what is known of *one* at *layer*."""
    raw: dict[str, object] = {
        "IP_PROTOCOL": PROTOCOLS.get(one.protocol, 0),
        "IP_LOCAL_PORT": one.local_port,
        "IP_LOCAL_ADDRESS": _address(one.local_address),
    }
    if not one.has_no_remote and one.remote_address is not None:
        raw |= {"IP_REMOTE_PORT": one.remote_port, "IP_REMOTE_ADDRESS": _address(one.remote_address)}
    process = one.process
    if process is not None:
        raw["ALE_APP_ID"] = os.fsencode(process.app) if process.app else None
        raw |= {"ALE_USER_ID": process.user, "ALE_PACKAGE_ID": unit_of(process.cgroup)}
    fields = layer.field_by_name
    return Indication(
        layer,
        {name: Value(fields[name].type, data) for name, data in raw.items() if data is not None and name in fields},  # type: ignore[arg-type]
    )


def _address(text: str) -> int | bytes | None:
    address = ipaddress.ip_address(text)
    if address.is_unspecified:
        return None
    return int(address) if address.version == 4 else address.packed
