"""Where things stand in the files of `netsh wfp`: which lists there are, and which of their items are records.

A path is below the root, and the same in every file: the initial state of a recording (wfpdiag.xml) has the lists of a
state (wfpstate.xml).
"""

from __future__ import annotations

from typing import Final

BASES: Final = {
    "wfpstate": "",
    "wfpdiag": "",
    "netEvents": "netEvents",
    "initialState": "",
}
"""Elements whose path is another than their name: the roots, and the state within a recording."""

ROOTS: Final = ("wfpstate", "wfpdiag", "netEvents")

OPEN: Final = frozenset(
    {
        "sessions",
        "layers",
        "layers/item",
        "layers/item/callouts",
        "layers/item/filters",
        "providers",
        "providerContexts",
        "subLayers",
        "filters",
        "aleConnectedEndpoints",
        "netEvents",
        "events",
    }
)
"""Lists, and what holds lists."""

RECORDS: Final = frozenset(
    {
        "timeStamp",
        "sessions/item",
        "layers/item/layer",
        "layers/item/callouts/item",
        "layers/item/filters/item",
        "providers/item",
        "providerContexts/item",
        "subLayers/item",
        "filters/item",
        "aleConnectedEndpoints/item",
        "netEvents/item",
        "events/netEvent",
        "events/filterChange",
    }
)
"""What becomes a record."""

KNOWN: Final = frozenset(
    {
        "sysInfo",
        "subscriptions",
        "ipsecSaContexts",
        "ikeextStatistics",
        "ipsecStatistics",
        "ikeextSas",
        "firewallState",
    }
)
"""What is known to say nothing of filters, and is passed over."""
