"""Which filter authorised a connection: what the running programs of `layergate run` or `trace` have written down.

Nothing is decided anew. The programs keep, of each flow of theirs and each of its sides, the filter that authorised it
(kernel/bpf/packets.bpf.c, calls.bpf.c); that is looked up, by the namespace and both ends. Where no such program runs,
or the flow is none of theirs, or no filter was needed, there is none.

Worked example: `layergate run` permits port 80 by filter 3; the server's end of a connection there has 3.

Source: kernel/bpf/flow.h (struct lg_flow_key: the lower end first).
"""

from __future__ import annotations

import ipaddress
import os
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.kernel.maps import Map, loaded
from layergate.sockets.endpoint import Endpoint

_MASK: Final = (1 << 64) - 1
_SIDES: Final = 2


class Authorised:
    """The flows of all running programs. Use `close` when done; without the privilege, it knows of nothing."""

    def __init__(self) -> None:
        self._maps: dict[int, Map] = {}
        try:
            for flows in loaded("lg_flows", layout.FLOW_KEY.size, layout.FLOW.size):
                self._maps[flows.id] = flows
        except OSError:
            self.close()

    def __bool__(self) -> bool:
        """Whether there is anything to look up."""
        return bool(self._maps)

    def filter_of(self, one: Endpoint, netns_cookie: int) -> tuple[int, int] | None:
        """Return the map in which *one* is a flow, by the kernel's number, and the id of the filter that authorised it.

        None where no filter did. Cost: 5 µs a map.
        """
        if one.protocol != "tcp" or one.has_no_remote:
            return None
        key, local_is_low = flow_key(one, netns_cookie)
        for place, flows in self._maps.items():
            value = flows.get(key)
            if value is not None:
                flow = layout.FLOW.unpack(value)
                client = local_is_low == bool(flow[layout.FLOW_CLIENT_IS_LOW])
                number = layout.CLIENT if client else layout.SERVER
                sides = flow[layout.FLOW_SIDE]
                width = len(sides) // _SIDES
                side = layout.SIDE.unpack(sides[number * width : (number + 1) * width])
                return (place, int(side[layout.SIDE_FILTER])) if side[layout.SIDE_FILTER] else None
        return None

    def close(self) -> None:
        """Let go of the maps."""
        while self._maps:
            os.close(self._maps.popitem()[1].fd)


def flow_key(one: Endpoint, netns_cookie: int) -> tuple[bytes, bool]:
    """Return struct lg_flow_key of *one*, and whether its local end is the lower one."""
    local = int(ipaddress.ip_address(one.local_address)), one.local_port
    remote = int(ipaddress.ip_address(one.remote_address or "::")), one.remote_port
    low, high = sorted((local, remote))
    ends = (low[0] >> 64, low[0] & _MASK, high[0] >> 64, high[0] & _MASK)
    is_v6 = ":" in one.local_address
    return layout.FLOW_KEY.pack(netns_cookie, *ends, low[1], high[1], is_v6), local == low
