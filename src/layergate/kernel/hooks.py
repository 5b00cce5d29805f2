"""Which kernel hook stands for which layer, which fields it can know there, and what a block does.

One row a layer, both families. `check` refuses a filter that tests a field its hook can't know, or blocks where a block
would do nothing; `doctor` lists the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from layergate.kernel import layout_generated as layout
from layergate.model.limits import Counted, Limit, Response

_OWNER: Final = ("ALE_APP_ID", "ALE_USER_ID", "ALE_PACKAGE_ID")
_LOCAL: Final = ("IP_LOCAL_ADDRESS", "IP_LOCAL_PORT")
_REMOTE: Final = ("IP_REMOTE_ADDRESS", "IP_REMOTE_PORT")
_PACKET: Final = ("INTERFACE_INDEX", "FLAGS")
_TRANSPORT: Final = ("IP_PROTOCOL", *_LOCAL, *_REMOTE, *_PACKET)


_TCP: Final = 6


@dataclass(frozen=True, slots=True)
class Hook:
    """A layer's hook.

    *program*: the BPF program's name. *blocked*: what a block does, "" where nothing is left to be blocked (what is
    shown has happened). *refuses_block*: a block should do something there, and can't yet. *protocols*: what is shown.
    """

    layer: str
    hook: str
    program: str
    fields: tuple[str, ...]
    blocked: str
    unknown: str = ""
    refuses_block: bool = False
    protocols: tuple[int, ...] = (_TCP,)

    @staticmethod
    def limit_problem(limit: Limit) -> tuple[str, str] | None:
        """Return why the programs can't count as much as *limit* does, or not answer as it says, and a remedy."""
        if limit.counted in (Counted.PORTS, Counted.REMOTES) and limit.count >= layout.THINGS:
            found = f"the kernel remembers {layout.THINGS} {limit.counted} of one key, and the limit is {limit.count:,}"
            return found, f"a limit of {layout.THINGS - 1} at most"
        if limit.response is Response.RESET and limit.fair is not None:
            return "a fair share can't reset: who is past it depends on the others", 'response = "drop"'
        if limit.fair is not None and limit.ban is not None:
            return "a fair share can't ban: who is past it depends on the others", "leave out the ban"
        return None


_UNBOUND: Final = "at connect a socket that was not bound has no local address and port yet"
_NOTIFIES: Final = ""

HOOKS: Final = (
    Hook("ALE_BIND_REDIRECT", "cgroup/bind4,6 (implicit: connect4,6; LISTEN)", "lg_bind4",
         (*_OWNER, "IP_PROTOCOL", *_LOCAL, "FLAGS"), "bind fails"),
    Hook("ALE_RESOURCE_ASSIGNMENT", "cgroup/post_bind4,6 (implicit: connect4,6; LISTEN)", "lg_post_bind4",
         (*_OWNER, "IP_PROTOCOL", *_LOCAL, "FLAGS"), "bind fails"),
    Hook("ALE_AUTH_LISTEN", "tp_btf/inet_sock_set_state", "lg_set_state",
         (*_OWNER, *_LOCAL, "FLAGS"), "connections are dropped, the socket is destroyed: accept fails"),
    Hook("ALE_CONNECT_REDIRECT", "cgroup/connect4,6", "lg_connect4",
         (*_OWNER, "IP_PROTOCOL", *_REMOTE, "FLAGS"), "connect fails", _UNBOUND),
    Hook("ALE_AUTH_CONNECT", "cgroup/connect4,6; cgroup_skb on reauthorization", "lg_connect4",
         (*_OWNER, "IP_PROTOCOL", *_REMOTE, "FLAGS", "REAUTHORIZE_REASON"), "connect fails; a live flow is reset",
         _UNBOUND),
    Hook("OUTBOUND_TRANSPORT", "cgroup_skb/egress; tcx/egress for the kernel's own packets", "lg_egress",
         _TRANSPORT, "the packet is dropped"),
    Hook("INBOUND_TRANSPORT", "cgroup_skb/ingress", "lg_ingress", _TRANSPORT, "the packet is dropped"),
    Hook("ALE_AUTH_RECV_ACCEPT", "cgroup_skb/ingress", "lg_ingress",
         (*_OWNER, *_TRANSPORT, "REAUTHORIZE_REASON"), "the SYN is dropped; a live flow is reset"),
    Hook("ALE_FLOW_ESTABLISHED", "sockops", "lg_sockops",
         (*_OWNER, "IP_PROTOCOL", *_LOCAL, *_REMOTE, "DIRECTION", "FLAGS"), "the connection is reset"),
    Hook("STREAM", "cgroup_skb", "lg_ingress",
         (*_LOCAL, *_REMOTE, "DIRECTION", "FLAGS"), _NOTIFIES, refuses_block=True),
    Hook("OUTBOUND_IPPACKET", "tcx/egress", "lg_tcx_egress",
         ("IP_LOCAL_ADDRESS", "IP_REMOTE_ADDRESS", *_PACKET), "the packet is dropped"),
    Hook("INBOUND_IPPACKET", "tcx/ingress", "lg_tcx_ingress",
         ("IP_LOCAL_ADDRESS", "IP_REMOTE_ADDRESS", *_PACKET), "the packet is dropped"),
    Hook("INBOUND_TRANSPORT_DISCARD", "tp_btf/tcp_send_reset; tcx/egress", "lg_send_reset",
         _TRANSPORT, "no RST leaves (stealth)"),
    Hook("ALE_AUTH_RECV_ACCEPT_DISCARD", "cgroup_skb", "lg_ingress",
         (*_OWNER, *_TRANSPORT, "REAUTHORIZE_REASON"), _NOTIFIES),
    Hook("ALE_AUTH_CONNECT_DISCARD", "cgroup/connect4,6; cgroup_skb", "lg_connect4",
         (*_OWNER, "IP_PROTOCOL", *_REMOTE, "FLAGS", "REAUTHORIZE_REASON"), _NOTIFIES, _UNBOUND),
    Hook("ALE_RESOURCE_ASSIGNMENT_DISCARD", "cgroup/post_bind4,6", "lg_post_bind4",
         (*_OWNER, "IP_PROTOCOL", *_LOCAL, "FLAGS"), _NOTIFIES),
    Hook("ALE_AUTH_LISTEN_DISCARD", "tp_btf/inet_sock_set_state", "lg_set_state",
         (*_OWNER, *_LOCAL, "FLAGS"), _NOTIFIES),
    Hook("ALE_FLOW_ESTABLISHED_DISCARD", "sockops", "lg_sockops",
         (*_OWNER, "IP_PROTOCOL", *_LOCAL, *_REMOTE, "DIRECTION", "FLAGS"), _NOTIFIES),
    Hook("OUTBOUND_TRANSPORT_DISCARD", "cgroup_skb/egress; tcx/egress", "lg_egress", _TRANSPORT, _NOTIFIES),
    Hook("OUTBOUND_IPPACKET_DISCARD", "tcx/egress", "lg_tcx_egress",
         ("IP_LOCAL_ADDRESS", "IP_REMOTE_ADDRESS", *_PACKET), _NOTIFIES),
    Hook("INBOUND_IPPACKET_DISCARD", "tcx/ingress", "lg_tcx_ingress",
         ("IP_LOCAL_ADDRESS", "IP_REMOTE_ADDRESS", *_PACKET), _NOTIFIES),
    Hook("ALE_ENDPOINT_CLOSURE", "sockops STATE_CB", "lg_sockops",
         (*_OWNER, "IP_PROTOCOL", *_LOCAL, *_REMOTE, "FLAGS"), _NOTIFIES),
    Hook("ALE_RESOURCE_RELEASE", "cgroup/sock_release", "lg_sock_release",
         (*_OWNER, "IP_PROTOCOL", *_LOCAL, "FLAGS"), _NOTIFIES),
)  # fmt: skip

HOOK_BY_LAYER: Final = {hook.layer: hook for hook in HOOKS}
