"""Application layer enforcement: flows, who authorised them, what limits count, the events that tell of it.

`Flows` authorises a flow once, at one layer in one version, and again when that layer changed or something else gives
a reason; `Counter` counts what limits are compared with; `EventLog` keeps what was dropped and allowed, bounded and
with its losses counted. All are told what time it is, and how to decide; none has a clock.
"""

from layergate.ale.counting import Asking, Change, Counter, Crossing
from layergate.ale.events import Direction, EventLog, EventType, Keyword, NetEvent
from layergate.ale.flows import Authorization, Flow, FlowKey, Flows, Pending

__all__ = [
    "Asking",
    "Authorization",
    "Change",
    "Counter",
    "Crossing",
    "Direction",
    "EventLog",
    "EventType",
    "Flow",
    "FlowKey",
    "Flows",
    "Keyword",
    "NetEvent",
    "Pending",
]
