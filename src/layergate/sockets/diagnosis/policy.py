"""A listener that nobody can reach, because a filter of the policy blocks it for everybody.

What a listener's clients will be is not known: their addresses, their ports. A filter that tests them may hold or not.
Only where every outcome is a block is the listener told.

Worked example: a policy permits port 443 at ALE_AUTH_RECV_ACCEPT and blocks the rest; the listener on port 8080 is
told, with the filter; had a filter permitted 8080 from 10.0.0.0/8, it would not be.

Source: `layergate.analysis.outcomes` (what a verdict hangs on).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from layergate.analysis.outcomes import dependences, untested
from layergate.engine import classify, in_order, unasked
from layergate.model import Action, Policy, Verdict, layer_named
from layergate.sockets.diagnosis.evidence import Evidence, Rule
from layergate.sockets.diagnosis.finding import Finding, Severity
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.passage import indication_of

_LAYERS: Final = ("ALE_AUTH_LISTEN", "INBOUND_TRANSPORT", "ALE_AUTH_RECV_ACCEPT", "ALE_FLOW_ESTABLISHED")


def rule(policy: Policy) -> Rule:
    """Return the rule that finds the listeners which *policy* blocks for everybody."""
    ordered = in_order(policy)
    callouts = {item.callout: unasked for item in policy.filters if item.callout}

    def listener_blocked(evidence: Evidence) -> Iterator[Finding]:
        for one in evidence.tcp("LISTEN"):
            for name in _LAYERS:
                layer = layer_named(f"{name}_V{one.family}")
                assert layer is not None
                indication = indication_of(one, layer)
                assumed = untested(ordered, indication)
                verdict = classify(ordered, indication, callouts=callouts, assumed=assumed)
                others = [other.verdict for other in dependences(ordered, indication, assumed, callouts)]
                if all(outcome.action is Action.BLOCK for outcome in (verdict, *others)):
                    yield _finding(one, name, verdict)
                    break

    return listener_blocked


def _finding(one: Endpoint, layer: str, verdict: Verdict) -> Finding:
    decided = verdict.filter
    name = f"'{decided.name}'" if decided else "a filter"
    return Finding(
        "listener-blocked",
        Severity.ERROR,
        one.local,
        f"{one.local} listens, and filter {name} at {layer} blocks whoever comes",
        "the policy permits this port to nobody, in no case that its filters can tell apart",
        f"a filter that permits it before {name} is heard, or no listener; layergate explain shows the decision",
        one.process,
        {"layer": layer, "filter": decided.id if decided else None, "filter_name": decided.name if decided else None},
    )
