"""What a policy means: weights, matching, arbitration. Slow, linear, obvious: the reference for every backend.

`classify` decides one indication; `in_order` puts a policy's filters into the order in which they are heard. Pure.
Source: Microsoft, "Filter Arbitration", "Filter Weight Assignment"; `docs/decisions` where sources disagree.
"""

from layergate.engine.arbitration import Ordered, classify, in_order
from layergate.engine.matching import condition_problem, matches, matches_all
from layergate.engine.weights import effective_weight

__all__ = ["Ordered", "classify", "condition_problem", "effective_weight", "in_order", "matches", "matches_all"]
