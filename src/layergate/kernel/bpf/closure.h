/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The end of an endpoint: shown once a side of a flow, and once a listener.
 */
#ifndef LAYERGATE_CLOSURE_H
#define LAYERGATE_CLOSURE_H

#include "flow.h"
#include "settled.h"

static __always_inline void tell_close(struct lg_record *r, struct lg_packet *packet, struct lg_owner *owner,
				       __u64 netns, struct lg_flow *flow, __u32 side, int listened)
{
	__u32 present = KNOWS_FLOW;

	begin_packet(r, packet, flow, side, 0, netns, flow ? side_of(flow, side)->interface : 0);
	if (flow)
		recount(r, flow, side, LG_END_ESTABLISHED);
	else
		r->cookie = owner ? owner->cookie : 0;
	if (listened) {
		present &= ~(KNOWS(IP_REMOTE_ADDRESS) | KNOWS(IP_REMOTE_PORT));
		if (is_any(packet->source))
			present &= ~KNOWS(IP_LOCAL_ADDRESS);
	}
	indicate(r, LAYER_ALE_ENDPOINT_CLOSURE(packet->v6), name_owner(r, owner) | present, 0);
}

/* `packet` names the ends: as its local end would send it. `from`: the state that it leaves; from some a TIME_WAIT stays
 * behind. */
__noinline int on_close(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u32 from)
{
	struct lg_flow *flow = 0;
	struct lg_held *held;
	struct lg_side *own;
	__u32 side = LG_SERVER;
	__u64 counted = 0;
	int flowless;

	if (!packet)
		return 1;
	flowless = owner && owner->bits & LG_OWNER_FLOWLESS;
	if (owner) {
		end_connection(owner);
		owner->bits &= ~LG_OWNER_FLOWLESS;
	}
	if (flowless) {
		side = owner->bits & LG_OWNER_CHILD ? LG_SERVER : LG_CLIENT;
	} else if (from != BPF_TCP_LISTEN) {
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
		counted = own->counted;
	}
	if (!counted && is_unheard(LAYER_ALE_ENDPOINT_CLOSURE(packet->v6)))
		return 1;
	held = hold_record();
	if (!held)
		return 1;
	tell_close(&held->r, packet, owner, netns, flow, side, from == BPF_TCP_LISTEN);
	let_go(held);
	return 1;
}

#endif
