/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The packets of a cgroup's sockets, both ways: transport, accept, authorisation again, stream.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "authorize.h"
#include "flow.h"
#include "seats.h"
#include "settled.h"
#include "stream.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ECONNREFUSED 111

/* Something of ours dropped a packet for a reason that was given before: say whose. */
__noinline int own_drop(struct lg_record *r, __u64 filter, __u32 layer)
{
	if (!r)
		return 0;
	r->kind = LG_KIND_OWN_DROP;
	r->filter = filter;
	r->layer = layer;
	r->action = LG_BLOCK;
	r->known = 0;
	return emit(r);
}

/* What TCP took from its out-of-order queue, by its own counter, as seen with the next segment that it sends. */
static __always_inline __u32 bytes_reconciled(struct lg_side *side, struct bpf_sock *sk)
{
	struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);
	__s32 ahead;

	if (!tcp || !(side->stream & LG_STREAM_IN_KNOWN) || !(side->stream & LG_STREAM_ESTABLISHED))
		return 0;
	ahead = tcp->rcv_nxt - side->next_in;
	if (side->stream & LG_STREAM_FIN || sk->state != BPF_TCP_ESTABLISHED)
		ahead -= 1;
	if (ahead <= 0)
		return 0;
	side->next_in += ahead;
	return ahead;
}

/* `*sender`: which side sent the packet, LG_NO_SIDE where its socket does not tell; it is told then. */
static __noinline struct lg_flow *late_flow(struct __sk_buff *skb, __u64 netns, struct lg_packet *packet, int inbound,
					    __u32 *sender)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *listener;
	const __u64 *local;
	__u16 port;
	int is_server = 0;

	if (!packet || !sender)
		return 0;
	if (packet->flags & SYN) {
		*sender = packet->flags & ACK ? LG_SERVER : LG_CLIENT;
		return new_flow(netns, packet, *sender);
	}
	if (packet->flags & RST) {
		if (*sender == LG_NO_SIDE)
			*sender = LG_CLIENT;
		return 0;
	}
	if (*sender != LG_NO_SIDE)
		return new_flow(netns, packet, *sender);
	/* A connection older than we are: its local port is a server's if somebody listens there. */
	local = inbound ? packet->destination : packet->source;
	port = inbound ? packet->destination_port : packet->source_port;
	if (packet->v6) {
		tuple.ipv6.daddr[0] = bpf_htonl(local[0] >> 32);
		tuple.ipv6.daddr[1] = bpf_htonl((__u32)local[0]);
		tuple.ipv6.daddr[2] = bpf_htonl(local[1] >> 32);
		tuple.ipv6.daddr[3] = bpf_htonl((__u32)local[1]);
		tuple.ipv6.dport = bpf_htons(port);
		listener = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv4.daddr = bpf_htonl((__u32)local[1]);
		tuple.ipv4.dport = bpf_htons(port);
		listener = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (listener) {
		is_server = 1;
		bpf_sk_release(listener);
	}
	*sender = inbound == is_server ? LG_CLIENT : LG_SERVER;
	return new_flow(netns, packet, *sender);
}

/* Which side sent a packet of the owner's connection; LG_NO_SIDE: the connection is older than we are. */
static __always_inline __u32 sender_of(const struct lg_owner *owner, int inbound)
{
	int is_server;

	if (!owner || owner->bits & LG_OWNER_SEEDED)
		return LG_NO_SIDE;
	is_server = (owner->bits & LG_OWNER_CHILD) != 0;
	return is_server == inbound ? LG_CLIENT : LG_SERVER;
}

__noinline int on_egress(struct lg_record *r, struct lg_packet *packet, struct lg_flow *flow, struct lg_owner *owner)
{
	__u32 side = r ? r->side : LG_CLIENT, bytes;
	struct lg_side *own;
	int v6;

	if (!r || !packet || !flow)
		return 1;
	own = side_of(flow, side);
	v6 = packet->v6;
	if (!(packet->flags & RST)) {
		if (own->bits & LG_SIDE_BLOCKED) {
			flow->own_drops++;
			own_drop(r, own->filter, own->blocked_at);
			return 0;
		}
		if (reauthorize(r, flow, owner, side) == LG_BLOCK) {
			flow->own_drops++;
			return 0;
		}
	}
	bytes = bytes_out(own, packet);
	if (bytes)
		indicate_stream(r, flow, 0, bytes);
	if (indicate(r, LAYER_OUTBOUND_TRANSPORT(v6), KNOWS_PACKET, 1) == LG_BLOCK) {
		flow->own_drops++;
		return 0;
	}
	return 1;
}

/* A segment that is not settled. An owner comes out of two maps, and the verifier follows each; here it does once. */
__noinline int egress(struct __sk_buff *skb, struct lg_owner *owner, struct lg_held *held)
{
	struct sock *tcp = tcp_of(skb->sk);
	struct bpf_sock *sk = skb->sk;
	struct lg_packet *packet;
	struct lg_record *r;
	struct lg_turn now;
	struct lg_flow *flow;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, reconciled = 0, late = 0;
	__u64 netns;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk || !tcp || !held)
		return 1;
	now = held->now;
	packet = &held->packet;
	r = &held->r;
	if (!parse(skb, packet))
		return 1;
	netns = netns_of(tcp); /* the helper is younger than we ask for */
	/* Local and remote are the socket's, not the packet's: its destination may be rewritten by now. */
	if (sk->state != BPF_TCP_LISTEN && is_rewritten(sk, packet))
		take_ends(packet, sk);
	flow = find_sent(netns, packet, &sender);
	/* A SYN-ACK that NAT rewrote: its listener does not tell its ends, its request does, at the interface. */
	if (sk->state == BPF_TCP_LISTEN && (!flow || !(side_of(flow, sender)->bits & LG_SIDE_OURS)))
		return 1;
	if (flow && packet->flags & SYN && !(packet->flags & ACK) && sender == LG_CLIENT)
		flow->isn = packet->seq;
	if (!flow) {
		sender = sender_of(owner, 0);
		flow = late_flow(skb, netns, packet, 0, &sender);
		late = 1;
	}
	if (flow) {
		own = side_of(flow, sender);
		if (!own->cookie && !(packet->flags & SYN))
			own->cookie = bpf_get_socket_cookie(skb);
		own->bits |= LG_SIDE_OURS | LG_SIDE_HAS_SOCKET;
		own->interface = now.interface;
		if (owner && sk->state != BPF_TCP_LISTEN)
			end_flowless(owner, own);
		/* A connection older than we are is established. */
		if (late && !(packet->flags & SYN))
			own->stream |= LG_STREAM_ESTABLISHED;
		reconciled = packet->flags & RST ? 0 : bytes_reconciled(own, sk);
	}
	begin_packet(r, packet, flow, sender, 0, netns, now.interface);
	if (flow && late)
		show_flow(r, owner);
	if (flow && reconciled)
		indicate_stream(r, flow, 1, reconciled);
	if (!flow) {
		/* No room to remember the flow: decide each packet for itself. */
		return indicate(r, LAYER_OUTBOUND_TRANSPORT(packet->v6), KNOWS_PACKET, 0) == LG_PERMIT;
	}
	late = passed(on_egress(r, packet, flow, owner));
	if (late && owner && !(packet->flags & RST) && sk->state != BPF_TCP_LISTEN)
		settle(owner, side_of(flow, sender), LG_SETTLED_OUT, now);
	return late;
}

SEC("cgroup_skb/egress")
int lg_egress(struct __sk_buff *skb)
{
	struct lg_turn now = turn_now();
	struct bpf_sock *sk = skb->sk;
	struct lg_owner *owner;
	struct lg_held *held;
	struct sock *tcp;
	int passes;

	if (!sk)
		return 1;
	/* The answer to a SYN; the RST of a connection that is closed by now. */
	if (keeps_no_flow(now) && (sk->state == BPF_TCP_LISTEN || sk->state == BPF_TCP_CLOSE))
		return 1;
	/* The kernel's own sockets (RST, TIME_WAIT) are left to tcx. */
	tcp = tcp_of(sk);
	if (!tcp)
		return 1;
	owner = owner_of(seat_of(cookie_of(tcp)), tcp);
	if (owner && is_settled(owner, LG_SETTLED_OUT, now, skb))
		return 1;
	held = hold_record();
	if (!held)
		return 1;
	held->now = now;
	held->now.interface = WORD(skb->ifindex);
	passes = egress(skb, owner, held);
	let_go(held);
	return passed(passes);
}

/* The peer of a connection did something that is not normal. Returns whether the connection ends by that. */
__noinline int on_abnormal(struct lg_record *r, struct lg_flow *flow, struct lg_owner *owner)
{
	__u32 side = r ? r->side : LG_SERVER;
	struct lg_side *own;
	int v6;

	if (!r || !flow || !note_abnormal(r, flow, side))
		return 0;
	own = side_of(flow, side);
	v6 = r->bits & LG_BIT_V6;
	own->filter = r->filter;
	own->blocked_at = side == LG_CLIENT ? LAYER_ALE_AUTH_CONNECT(v6) : LAYER_ALE_AUTH_RECV_ACCEPT(v6);
	own->bits |= LG_SIDE_BLOCKED;
	FENCE(own);
	if (owner)
		unsettle(owner);
	r->cookie = own->cookie;
	ask_reset(r);
	flow->own_drops++;
	own_drop(r, own->filter, own->blocked_at);
	return 1;
}

/* A limit keeps the SYN out and says that it be refused: user space answers it, where there are not too many. */
__noinline int refuse(struct lg_record *r)
{
	if (!r || !may_refuse())
		return 0;
	r->kind = LG_KIND_REFUSED;
	if (bpf_ringbuf_output(&lg_events, r, sizeof(*r), 0))
		count(LG_STAT_LOST);
	return 0;
}

/* The SYN at a listener, or a segment of a flow that is authorised or must be again. Returns whether it may pass. */
__noinline int on_ingress(struct lg_record *r, struct lg_packet *packet, struct lg_flow *flow, struct lg_owner *owner)
{
	__u32 side = r ? r->side : LG_SERVER, bytes;
	struct lg_side *own;
	int v6;

	if (!r || !packet || !flow)
		return 1;
	own = side_of(flow, side);
	v6 = packet->v6;
	if (indicate(r, LAYER_INBOUND_TRANSPORT(v6), KNOWS_PACKET, 1) == LG_BLOCK) {
		flow->own_drops++;
		return 0;
	}
	if (packet->flags & RST) {
		note_abnormal(r, flow, side);
		/* A request has no socket whose end would be told. */
		if (own->counted & HALF_OPEN)
			recount(r, flow, side, LG_END_HALF_OPEN);
		return 1;
	}
	if (packet->flags & SYN && !(packet->flags & ACK)) {
		__u32 layer = LAYER_ALE_AUTH_RECV_ACCEPT(v6), present;

		bytes_in(own, packet);
		if (owner && owner->bits & LG_OWNER_LISTEN_DENIED) {
			flow->own_drops++;
			own_drop(r, owner->filter, LAYER_ALE_AUTH_LISTEN(v6));
			return 0;
		}
		if (own->bits & LG_SIDE_AUTHORIZED)
			return !on_abnormal(r, flow, owner);
		present = name_owner(r, owner) | KNOWS_PACKET | KNOWS(REAUTHORIZE_REASON);
		own->ale_version = layer_version(layer);
		r->filter = 0;
		if (indicate(r, layer, present, 0) == LG_BLOCK) {
			flow->own_drops++;
			if (r->count && r->error == ECONNREFUSED)
				refuse(r);
			return 0;
		}
		own->filter = r->filter;
		own->bits |= LG_SIDE_AUTHORIZED;
		if (r->counted)
			admit(r, flow, side, LG_ADD_HALF_OPEN);
		return !(packet->flags & FIN && on_abnormal(r, flow, owner));
	}
	if (own->bits & LG_SIDE_BLOCKED) {
		flow->own_drops++;
		own_drop(r, own->filter, own->blocked_at);
		return 0;
	}
	if (reauthorize(r, flow, owner, side) == LG_BLOCK) {
		flow->own_drops++;
		return 0;
	}
	if (!packet->window && on_abnormal(r, flow, owner))
		return 0;
	bytes = bytes_in(own, packet);
	if (!bytes)
		return 1;
	/* Data that comes with the handshake's ACK is shown once the flow is established. */
	if (own->stream & LG_STREAM_ESTABLISHED)
		indicate_stream(r, flow, 1, bytes);
	else
		own->pending += bytes;
	return 1;
}

/* As egress(). */
__noinline int ingress(struct __sk_buff *skb, __u32 listening, struct lg_owner *owner, struct lg_held *held)
{
	struct sock *tcp = tcp_of(skb->sk);
	struct lg_packet *packet;
	struct lg_record *r;
	struct lg_turn now;
	struct lg_flow *flow;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, side, late = 0;
	__u64 netns;

	if (!tcp || !held)
		return 1;
	now = held->now;
	packet = &held->packet;
	r = &held->r;
	if (!parse(skb, packet))
		return 1;
	netns = netns_of(tcp);
	flow = find_flow(netns, packet, &sender);
	/* Another SYN of another start: the tuple is used again. */
	if (flow && packet->flags & SYN && !(packet->flags & ACK) && sender == LG_CLIENT && flow->isn != packet->seq) {
		uncount_flow(r, packet, flow, netns);
		flow = new_flow(netns, packet, LG_CLIENT);
	}
	if (!flow) {
		sender = listening ? LG_NO_SIDE : sender_of(owner, 1);
		flow = late_flow(skb, netns, packet, 1, &sender);
		late = 1;
	}
	side = sender == LG_CLIENT ? LG_SERVER : LG_CLIENT;
	if (flow) {
		own = side_of(flow, side);
		if (!listening) {
			if (!own->cookie)
				own->cookie = bpf_get_socket_cookie(skb);
			/* A connection older than we are is established. */
			if (!(packet->flags & SYN) && !(own->bits & LG_SIDE_HAS_SOCKET))
				own->stream |= LG_STREAM_ESTABLISHED;
			if (owner)
				end_flowless(owner, own);
		}
		own->bits |= LG_SIDE_OURS | LG_SIDE_HAS_SOCKET;
		own->interface = now.interface;
	}
	begin_packet(r, packet, flow, side, 1, netns, now.interface);
	if (flow && late)
		show_flow(r, owner);
	if (!flow) {
		if (indicate(r, LAYER_INBOUND_TRANSPORT(packet->v6), KNOWS_PACKET, 0) == LG_BLOCK)
			return 0;
		if (!(packet->flags & SYN) || packet->flags & ACK)
			return 1;
		return indicate(r, LAYER_ALE_AUTH_RECV_ACCEPT(packet->v6),
				name_owner(r, owner) | KNOWS_PACKET | KNOWS(REAUTHORIZE_REASON), 0) == LG_PERMIT;
	}
	late = passed(on_ingress(r, packet, flow, owner));
	/* What a limit keeps out leaves nothing behind. */
	if (!late && r->count && packet->flags & SYN)
		drop_flow(netns, packet);
	else if (late && owner && !listening && !(packet->flags & RST))
		settle(owner, side_of(flow, side), LG_SETTLED_IN, now);
	return late;
}

SEC("cgroup_skb/ingress")
int lg_ingress(struct __sk_buff *skb)
{
	struct lg_turn now = turn_now();
	struct sock *tcp = tcp_of(skb->sk);
	struct lg_owner *owner;
	struct lg_held *held;
	__u32 listening;
	int passes;

	if (!tcp)
		return 1;
	listening = tcp->__sk_common.skc_state == BPF_TCP_LISTEN;
	if (listening) {
		owner = bpf_sk_storage_get(&lg_owners, tcp, 0, 0);
		if (owner)
			hand_over(owner, tcp->__sk_common.skc_num, WORD(skb->ifindex));
	} else {
		owner = owner_of(seat_of(cookie_of(tcp)), tcp);
		if (owner && !owner->interface)
			owner->interface = WORD(skb->ifindex);
		if (owner && is_settled(owner, LG_SETTLED_IN, now, skb))
			return 1;
	}
	if (listening && keeps_no_flow(now) && owner && !(owner->bits & LG_OWNER_LISTEN_DENIED))
		return 1;
	held = hold_record();
	if (!held)
		return 1;
	held->now = now;
	held->now.interface = WORD(skb->ifindex);
	passes = ingress(skb, listening, owner, held);
	let_go(held);
	return passed(passes);
}
