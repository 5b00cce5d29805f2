"""Application layer enforcement: flows, who authorised them and until when, and the events that tell of it.

`Flows` authorises a flow once, at one layer in one version, and again when that layer changed or something else gives
a reason; `EventLog` keeps what was dropped and allowed, bounded and with its losses counted. Both are told what time
it is and how to decide; neither has a clock.
"""

from layergate.ale.events import Direction, EventLog, EventType, Keyword, NetEvent
from layergate.ale.flows import Authorization, Flow, FlowKey, Flows, Pending

__all__ = [
    "Authorization",
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
