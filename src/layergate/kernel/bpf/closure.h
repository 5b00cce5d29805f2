/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The end of an endpoint: shown once a side of a flow, and once a listener.
 */
#ifndef LAYERGATE_CLOSURE_H
#define LAYERGATE_CLOSURE_H

#include "flow.h"

/* `packet` names the ends: as its local end would send it. */
/* `from` is the state that it leaves: from these a TIME_WAIT stays behind. */
static __always_inline int on_close_with(struct lg_record *r, struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u32 from)
{
	struct lg_flow *flow = 0;
	struct lg_side *own;
	__u32 side = LG_CLIENT, present = KNOWS_FLOW;

	if (!packet)
		return 1;
	if (from == BPF_TCP_LISTEN) {
		begin_packet(r, packet, 0, LG_SERVER, 0, netns, 0);
		r->cookie = owner ? owner->cookie : 0;
		present &= ~(KNOWS(IP_REMOTE_ADDRESS) | KNOWS(IP_REMOTE_PORT));
		if (is_any(packet->source))
			present &= ~KNOWS(IP_LOCAL_ADDRESS);
	} else {
		flow = find_flow(netns, packet, &side);
		if (!flow)
			return 1;
		own = side_of(flow, side);
		if (own->bits & LG_SIDE_CLOSED)
			return 1;
		own->bits |= LG_SIDE_CLOSED;
		if (from == BPF_TCP_FIN_WAIT1 || from == BPF_TCP_FIN_WAIT2 || from == BPF_TCP_CLOSING)
			own->bits |= LG_SIDE_TIME_WAIT;
		flow->changed = bpf_ktime_get_ns();
		begin_packet(r, packet, flow, side, 0, netns, own->interface);
		recount(r, flow, side, LG_END_ESTABLISHED);
	}
	indicate(r, LAYER_ALE_ENDPOINT_CLOSURE(packet->v6), name_owner(r, owner) | present, 0);
	return 1;
}

__noinline int on_close(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u32 from)
{
	struct lg_held *held = hold_record();

	if (!held)
		return 1;
	on_close_with(&held->r, packet, owner, netns, from);
	let_go(held);
	return 1;
}

#endif
