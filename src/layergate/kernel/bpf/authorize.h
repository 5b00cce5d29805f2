/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * A connection is authorised again: the policy has changed since, or it is older than we are.
 */
#ifndef LAYERGATE_AUTHORIZE_H
#define LAYERGATE_AUTHORIZE_H

#include "flow.h"
#include "settled.h"

/* What the flow's owner and the layer that authorised it say now. Returns the action. */
static __always_inline int reauthorize(struct lg_record *r, struct lg_flow *flow, struct lg_owner *owner, __u32 side)
{
	struct lg_side *own;
	__u32 layer, present, version;
	int v6, action;

	if (!r || !flow)
		return LG_PERMIT;
	own = side_of(flow, side);
	v6 = r->bits & LG_BIT_V6;
	layer = side == LG_CLIENT ? LAYER_ALE_AUTH_CONNECT(v6) : LAYER_ALE_AUTH_RECV_ACCEPT(v6);
	version = layer_version(layer);
	if (own->bits & LG_SIDE_AUTHORIZED && own->ale_version == version)
		return LG_PERMIT;
	/* Older than we are, and nobody has said yet whose it is: that is a matter of milliseconds. */
	if (!owner && !*(volatile __u32 *)&lg_control.seeded)
		return LG_PERMIT;
	present = name_owner(r, owner) | KNOWS_PACKET | KNOWS(REAUTHORIZE_REASON);
	r->scalar[LG_FIELD_FLAGS] |= IS_REAUTHORIZE;
	r->scalar[LG_FIELD_REAUTHORIZE_REASON] = POLICY_CHANGE;
	r->bits |= LG_BIT_REAUTHORIZE | (own->counted ? 0 : LG_BIT_UNCOUNTED);
	own->bits |= LG_SIDE_AUTHORIZED;
	own->ale_version = version;
	r->filter = 0;
	action = indicate(r, layer, present, 0);
	own->filter = r->filter;
	if (owner)
		owner->filter = r->filter;
	if (action == LG_BLOCK) {
		own->blocked_at = layer;
		own->bits |= LG_SIDE_BLOCKED;
		FENCE(own);
		if (owner)
			unsettle(owner);
		ask_reset(r);
	} else if (r->counted) {
		admit(r, flow, side, LG_ADD_ESTABLISHED);
	}
	r->scalar[LG_FIELD_FLAGS] &= ~IS_REAUTHORIZE;
	r->scalar[LG_FIELD_REAUTHORIZE_REASON] = 0;
	r->bits &= ~(LG_BIT_REAUTHORIZE | LG_BIT_UNCOUNTED);
	return action;
}

#endif
