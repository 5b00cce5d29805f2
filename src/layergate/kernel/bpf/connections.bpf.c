/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The states of a cgroup's connections: a flow begins, is established, ends.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "closure.h"
#include "flow.h"
#include "seats.h"
#include "settled.h"
#include "stream.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The ends of a connection, as sockops shows them: as a packet that its local end would send. */
static __always_inline void ends_of(struct bpf_sock_ops *ctx, struct lg_packet *packet)
{
	__u32 family = WORD(ctx->family);

	packet->source_port = WORD(ctx->local_port);
	packet->destination_port = bpf_ntohl(WORD(ctx->remote_port));
	if (family == FAMILY_V6) {
		packet->source[0] = half_of(WORD(ctx->local_ip6[0]), WORD(ctx->local_ip6[1]));
		packet->source[1] = half_of(WORD(ctx->local_ip6[2]), WORD(ctx->local_ip6[3]));
		packet->destination[0] = half_of(WORD(ctx->remote_ip6[0]), WORD(ctx->remote_ip6[1]));
		packet->destination[1] = half_of(WORD(ctx->remote_ip6[2]), WORD(ctx->remote_ip6[3]));
		packet->v6 = !is_mapped(packet->source) && !is_mapped(packet->destination);
		if (!packet->v6) {
			packet->source[0] = packet->destination[0] = 0;
			packet->source[1] = (__u32)packet->source[1];
			packet->destination[1] = (__u32)packet->destination[1];
		}
	} else {
		packet->source[1] = bpf_ntohl(WORD(ctx->local_ip4));
		packet->destination[1] = bpf_ntohl(WORD(ctx->remote_ip4));
	}
}

/* What a seat keeps of its connection: `packet` is one that it would send. */
static __always_inline void begin_seated(struct lg_seat *seat, const struct lg_packet *packet, __u64 netns,
					 __u32 established)
{
	if (!seat)
		return;
	seat->netns = netns;
	seat->owner.address[0] = packet->source[0];
	seat->owner.address[1] = packet->source[1];
	seat->owner.port = packet->source_port;
	seat->owner.v6 = packet->v6;
	seat->remote[0] = packet->destination[0];
	seat->remote[1] = packet->destination[1];
	seat->remote_port = packet->destination_port;
	seat->established = established;
	seat->life = LG_SEAT_OPEN;
}

__noinline int on_connecting(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u64 cookie)
{
	struct lg_turn now = turn_now();
	struct lg_flow *flow;
	struct lg_held *held;
	__u32 sender = LG_CLIENT;

	if (!packet)
		return 1;
	begin_seated(seat_of(cookie), packet, netns, 0);
	if (owner) {
		owner->address[0] = packet->source[0];
		owner->address[1] = packet->source[1];
		owner->port = packet->source_port;
		/* If the policy has changed since the call, the first packet is asked about again. */
		if (keeps_no_flow(now) && owner->ale_version == layer_version(LAYER_ALE_AUTH_CONNECT(packet->v6))) {
			begin_flowless(owner, now, owner->ale_version);
			return 1;
		}
	}
	/* Its SYN is about to be sent: in place of what had the tuple before. */
	flow = find_flow(netns, packet, &sender);
	if (flow && sender == LG_CLIENT && flow->side[1].counted) {
		held = hold_record();
		if (held) {
			uncount_flow(&held->r, packet, flow, netns);
			let_go(held);
		}
	}
	packet->flags = SYN;
	flow = new_flow(netns, packet, LG_CLIENT);
	packet->flags = 0;
	if (!flow)
		return 1;
	flow->side[0].cookie = cookie;
	flow->side[0].bits = LG_SIDE_OURS | LG_SIDE_HAS_SOCKET | LG_SIDE_AUTHORIZED;
	flow->side[0].ale_version = owner ? owner->ale_version : 0;
	if (owner)
		flow->side[0].filter = owner->filter;
	if (config.emit < LG_EMIT_ALL && !(owner && owner->counted))
		return 1;
	held = hold_record();
	if (!held)
		return 1;
	begin_packet(&held->r, packet, flow, LG_CLIENT, 0, netns, 0);
	show_flow(&held->r, owner);
	if (owner && owner->counted) {
		held->r.counted = owner->counted;
		owner->counted = 0;
		admit(&held->r, flow, LG_CLIENT, LG_ADD_HALF_OPEN);
	}
	let_go(held);
	return 1;
}

static __always_inline void tell_established(struct lg_record *r, struct lg_packet *packet, struct lg_owner *owner,
					     __u64 netns, struct lg_flow *flow, __u32 side, __u64 cookie)
{
	struct lg_side *own = flow ? side_of(flow, side) : 0;

	begin_packet(r, packet, flow, side, 0, netns, own ? own->interface : 0);
	r->cookie = cookie;
	r->scalar[LG_FIELD_DIRECTION] = side == LG_SERVER;
	if (flow)
		recount(r, flow, side, LG_OPEN);
	if (indicate(r, LAYER_ALE_FLOW_ESTABLISHED(packet->v6), name_owner(r, owner) | KNOWS_FLOW | KNOWS(DIRECTION),
		     0) == LG_BLOCK) {
		ask_reset(r);
		if (own) {
			own->filter = r->filter;
			own->blocked_at = LAYER_ALE_FLOW_ESTABLISHED(packet->v6);
			own->bits |= LG_SIDE_BLOCKED;
			FENCE(own);
		}
		if (owner)
			unsettle(owner);
		return;
	}
	if (own && own->pending) {
		r->bits |= LG_BIT_INBOUND;
		indicate_stream(r, flow, 1, own->pending);
		own->pending = 0;
	}
}

__noinline int on_established(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u64 cookie, __u32 side)
{
	struct lg_flow *flow = 0;
	struct lg_side *own = 0;
	struct lg_turn now;
	struct lg_held *held;
	__u32 sender = LG_CLIENT, accepted;

	if (!packet)
		return 1;
	/* Before the turn: what was not asked in a version is not taken for permitted by it. */
	accepted = layer_version(LAYER_ALE_AUTH_RECV_ACCEPT(packet->v6));
	now = turn_now();
	if (owner && owner->bits & LG_OWNER_FLOWLESS && is_unheard(LAYER_ALE_FLOW_ESTABLISHED(packet->v6)))
		return 1;
	/* The map of flows is large and cold: it is not looked into while it was never used. */
	if (!keeps_no_flow(now) || any_flows())
		flow = find_flow(netns, packet, &sender);
	if (flow) {
		own = side_of(flow, side);
		own->cookie = cookie;
		own->stream |= LG_STREAM_ESTABLISHED;
		if (owner)
			owner->filter = own->filter;
	} else if (owner && side == LG_SERVER && keeps_no_flow(now)) {
		owner->filter = 0;
		begin_flowless(owner, now, accepted);
		return 1;
	}
	if (!is_unheard(LAYER_ALE_FLOW_ESTABLISHED(packet->v6)) || !own || own->counted || own->pending) {
		held = hold_record();
		if (!held)
			return 1;
		tell_established(&held->r, packet, owner, netns, flow, side, cookie);
		let_go(held);
	}
	/* Nothing is asked of its packets: the first need not be looked at either. */
	if (own && owner && side == LG_SERVER && now.quiet & LG_QUIET_PACKETS && own->ale_version == accepted)
		settle(owner, own, LG_SETTLED_IN, now);
	return 1;
}

/* A listener that was blocked can be destroyed from here on: it has its port, and is found by it. */
__noinline int on_listening(struct lg_packet *packet, struct lg_owner *owner, __u64 netns)
{
	struct lg_record r = {};

	if (!packet || !owner || !(owner->bits & LG_OWNER_LISTEN_DENIED))
		return 1;
	begin_packet(&r, packet, 0, LG_SERVER, 0, netns, 0);
	r.cookie = owner->cookie;
	r.pid = owner->pid;
	r.address[2] = r.address[3] = 0;
	r.scalar[LG_FIELD_IP_REMOTE_PORT] = 0;
	ask_reset(&r);
	return 1;
}

/* The pinned programs may outlive us: then nobody sweeps the flows, and a closed one is forgotten at once. */
__noinline int forget_flow(struct lg_packet *packet, __u64 netns)
{
	struct lg_flow_key key = {};
	struct lg_flow *flow;
	__u32 sender;

	if (!packet || bpf_ktime_get_ns() - lg_control.heartbeat < 10000000000ULL)
		return 0;
	flow = find_flow(netns, packet, &sender);
	if (!flow)
		return 0;
	key_of(&key, netns, packet);
	return bpf_map_delete_elem(&lg_flows, &key);
}

/* A socket has come out of its listener: from the hand of this processor it has its owner. */
static __noinline struct lg_owner *own_child(struct bpf_sock *sk, __u64 cookie, const struct lg_packet *packet,
					     __u64 netns)
{
	struct lg_owner *owner = 0;
	struct lg_hand *hand;
	struct lg_seat *seat;
	__u32 zero = 0;

	hand = bpf_map_lookup_elem(&lg_hands, &zero);
	if (!packet || !hand || hand->port != packet->source_port)
		return 0;
	hand->port = 0;
	seat = take_seat(cookie);
	begin_seated(seat, packet, netns, 1);
	if (seat)
		owner = &seat->owner;
	else
		owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	owner->cookie = cookie;
	owner->bits |= LG_OWNER_BIND_SEEN | LG_OWNER_CHILD;
	owner->interface = hand->owner.interface;
	inherit(owner, &hand->owner);
	return owner;
}

/* What concerns us of a socket, whose cookie it is. As egress() of packets.bpf.c, for the verifier's sake. */
__noinline int on_op(struct bpf_sock_ops *ctx, struct lg_owner *owner, __u32 op, __u64 cookie)
{
	struct lg_packet packet = {};
	struct bpf_sock *sk = ctx->sk;
	__u64 netns;
	int flowless;

	if (op != BPF_SOCK_OPS_STATE_CB)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	ends_of(ctx, &packet);
	netns = bpf_get_netns_cookie(ctx);
	switch (op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		return passed(on_connecting(&packet, owner, netns, cookie));
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		return passed(on_established(&packet, owner, netns, cookie, LG_CLIENT));
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		if (sk)
			owner = own_child(sk, cookie, &packet, netns);
		return passed(on_established(&packet, owner, netns, cookie, LG_SERVER));
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		return passed(on_listening(&packet, owner, netns));
	case BPF_SOCK_OPS_STATE_CB:
		flowless = owner && owner->bits & LG_OWNER_FLOWLESS;
		on_close(&packet, owner, netns, WORD(ctx->args[0]));
		if (!flowless)
			forget_flow(&packet, netns);
		return 1;
	}
	return 1;
}

#define HEARD                                                                                                          \
	(1U << BPF_SOCK_OPS_TCP_CONNECT_CB | 1U << BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB |                                \
	 1U << BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB | 1U << BPF_SOCK_OPS_STATE_CB | 1U << BPF_SOCK_OPS_TCP_LISTEN_CB)

SEC("sockops")
int lg_sockops(struct bpf_sock_ops *ctx)
{
	__u32 op = WORD(ctx->op);
	struct lg_owner *owner = 0;
	struct lg_seat *seat = 0;
	struct bpf_sock *sk;
	__u64 cookie;
	int passes;

	if (op > BPF_SOCK_OPS_TCP_LISTEN_CB || !(HEARD >> op & 1))
		return 1;
	if (op == BPF_SOCK_OPS_STATE_CB && WORD(ctx->args[1]) != BPF_TCP_CLOSE)
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	sk = ctx->sk;
	if (sk && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		seat = seat_of(cookie);
		owner = owner_of(seat, sk);
	}
	if (seat && op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		seat->established = 1;
	/* Before the turn is read: whoever adopts connections under the next one sees that this has ended, or we its flow. */
	if (owner && op == BPF_SOCK_OPS_STATE_CB)
		end_connection(owner);
	if (owner && owner->bits & LG_OWNER_FLOWLESS && keeps_no_flow(turn_now())) {
		if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
			return 1;
		if (op == BPF_SOCK_OPS_STATE_CB) {
			owner->bits &= ~LG_OWNER_FLOWLESS;
			close_seat(seat);
			return 1;
		}
	}
	passes = passed(on_op(ctx, owner, op, cookie));
	if (op == BPF_SOCK_OPS_STATE_CB)
		close_seat(seat);
	return passes;
}
