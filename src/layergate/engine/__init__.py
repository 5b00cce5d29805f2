"""What a policy means: weights, matching, arbitration. Slow, linear, obvious: the reference for every backend.

`classify` decides one indication; `in_order` puts a policy's filters into the order in which they are heard; `callouts`
are functions that filters ask; `regions` knows which values conditions cover. Pure.
Source: Microsoft, "Filter Arbitration", "Filter Weight Assignment"; `docs/decisions` where sources disagree.
"""

from layergate.engine.arbitration import NO_CALLOUTS, NO_COUNTS, Ordered, classify, hearing_order, in_order, is_heard
from layergate.engine.callouts import GO_ON, Answer, CalloutFunction, Callouts, Invocation, unasked
from layergate.engine.limits import Counts
from layergate.engine.matching import NOTHING_ASSUMED, Assumed, condition_problem, groups, matches, matches_all
from layergate.engine.weights import automatic_weight, effective_weight

__all__ = [
    "GO_ON",
    "NOTHING_ASSUMED",
    "NO_CALLOUTS",
    "NO_COUNTS",
    "Answer",
    "Assumed",
    "CalloutFunction",
    "Callouts",
    "Counts",
    "Invocation",
    "Ordered",
    "automatic_weight",
    "classify",
    "condition_problem",
    "effective_weight",
    "groups",
    "hearing_order",
    "in_order",
    "is_heard",
    "matches",
    "matches_all",
    "unasked",
]
