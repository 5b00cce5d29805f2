/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The hooks of an interface: every packet of the cgroup's flows at the IP layers; there too the transport layer of what no
 * cgroup hook sees: the kernel's own segments (RST, TIME_WAIT) and segments to a TIME_WAIT.
 *
 * One instance a network namespace: on ingress a packet does not tell its namespace yet, so it is configured.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "flow.h"
#include "kernel_types.h"
#include "seats.h"
#include "settled.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TCX_NEXT -1
#define TCX_DROP 2

#define NOBODY 0
#define OURS 1
#define FOREIGN 2

static __always_inline void tuple_of(struct bpf_sock_tuple *tuple, const struct lg_packet *packet, int with_source)
{
	if (packet->v6) {
		for (int i = 0; i < 2; i++) {
			tuple->ipv6.daddr[2 * i] = bpf_htonl(packet->destination[i] >> 32);
			tuple->ipv6.daddr[2 * i + 1] = bpf_htonl((__u32)packet->destination[i]);
			if (with_source) {
				tuple->ipv6.saddr[2 * i] = bpf_htonl(packet->source[i] >> 32);
				tuple->ipv6.saddr[2 * i + 1] = bpf_htonl((__u32)packet->source[i]);
			}
		}
		tuple->ipv6.dport = bpf_htons(packet->destination_port);
		if (with_source)
			tuple->ipv6.sport = bpf_htons(packet->source_port);
	} else {
		tuple->ipv4.daddr = bpf_htonl((__u32)packet->destination[1]);
		tuple->ipv4.dport = bpf_htons(packet->destination_port);
		if (with_source) {
			tuple->ipv4.saddr = bpf_htonl((__u32)packet->source[1]);
			tuple->ipv4.sport = bpf_htons(packet->source_port);
		}
	}
}

static __noinline int socket_state(struct __sk_buff *skb, const struct lg_packet *packet, int with_source, int *whose,
				   struct lg_record *owner_in)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	struct lg_owner *owner;
	struct sock *tcp;
	int state;

	if (!packet || !whose || !owner_in)
		return 0;
	tuple_of(&tuple, packet, with_source);
	found = bpf_skc_lookup_tcp(skb, &tuple, packet->v6 ? sizeof(tuple.ipv6) : sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return 0;
	state = found->state;
	tcp = tcp_of(found);
	if (tcp) {
		owner = owner_of(seat_of(cookie_of(tcp)), tcp);
		*whose = owner ? OURS : FOREIGN;
		if (owner) {
			owner_in->cookie = owner->cookie;
			owner_in->known = name_owner(owner_in, owner);
		}
	}
	bpf_sk_release(found);
	return state;
}

/* Whose the SYN is: somebody listens and is ours, somebody else does, or nobody. */
static __noinline int listener_of(struct __sk_buff *skb, const struct lg_packet *packet, struct lg_record *owner)
{
	int whose = NOBODY;
	int state = socket_state(skb, packet, 1, &whose, owner);

	if (state == BPF_TCP_TIME_WAIT) {
		whose = NOBODY;
		state = socket_state(skb, packet, 0, &whose, owner);
	}
	return state ? (whose == NOBODY ? FOREIGN : whose) : NOBODY;
}

/* A SYN comes in: does it begin a flow that concerns us? Returns it, with the server's side marked. `*listens`: whose is
 * told, where it begins anything. */
static __noinline struct lg_flow *on_syn(struct __sk_buff *skb, struct lg_packet *packet, struct lg_flow *flow,
					 struct lg_record *r, int *listens)
{
	struct lg_side *server;
	int whose;

	if (!packet || !r || !listens)
		return 0;
	if (flow && !(flow->side[0].bits & LG_SIDE_OURS) && flow->isn != packet->seq)
		flow = 0;
	if (flow && flow->isn && flow->isn != packet->seq && flow->side[1].bits & LG_SIDE_OURS)
		flow = 0;
	if (flow && flow->side[1].bits & LG_SIDE_OURS)
		return flow;
	whose = listener_of(skb, packet, r);
	*listens = whose;
	if (whose == FOREIGN && !config.interface)
		return flow;
	if (whose == NOBODY && !config.interface && !flow)
		return 0;
	if (!flow) {
		__u32 sender;

		flow = find_flow(config.netns, packet, &sender);
		if (flow && sender == LG_CLIENT)
			uncount_flow(r, packet, flow, config.netns);
		flow = new_flow(config.netns, packet, LG_CLIENT);
	}
	if (!flow)
		return 0;
	server = &flow->side[1];
	server->bits |= LG_SIDE_OURS;
	if (whose == OURS)
		server->cookie = r->cookie;
	else
		server->bits |= LG_SIDE_NO_SOCKET;
	r->kind = LG_KIND_FLOW;
	begin_packet(r, packet, flow, LG_SERVER, 1, config.netns, skb->ifindex);
	emit(r);
	return flow;
}

/* Whether the policy in force asks about a SYN that finds nobody. */
static __always_inline int hears_knocks(void)
{
	return !(policy()->quiet & LG_QUIET_KNOCKS);
}

/* Nobody listens where a SYN wants to get to: what limits on that say. Returns whether it may be answered. */
__noinline int on_knock(struct lg_record *r, struct lg_packet *packet, __u32 interface)
{
	if (!r || !packet)
		return 1;
	begin_packet(r, packet, 0, LG_SERVER, 1, config.netns, interface);
	r->bits |= LG_BIT_NOBODY;
	r->kind = LG_KIND_INDICATION;
	if (decide(r, LAYER_ALE_AUTH_RECV_ACCEPT(packet->v6), KNOWS_PACKET | KNOWS(REAUTHORIZE_REASON), 0) != LG_BLOCK ||
	    !r->count)
		return 1;
	if (config.emit < LG_EMIT_ALL) {
		count(LG_STAT_UNTOLD);
	} else {
		emit(r);
		decide(r, LAYER_ALE_AUTH_RECV_ACCEPT_DISCARD(packet->v6), KNOWS_PACKET, 0);
		emit(r);
	}
	drop_flow(config.netns, packet);
	return 0;
}

/* Whether the transport layer is known to let in the packets of the record's flow. */
static __always_inline int is_let_in(const struct lg_record *r)
{
	__u32 layer = LAYER_INBOUND_TRANSPORT(r->bits & LG_BIT_V6), of = verdict_of(r, layer);
	struct lg_verdict *verdict;
	int found;

	if (is_unheard(layer))
		return 1;
	verdict = take_verdict(r, of);
	if (!verdict)
		return 0;
	found = verdict->flow == r->flow && verdict->of == of && verdict->action == LG_PERMIT &&
		verdict->version == layer_version(layer) && verdict->interface == r->scalar[LG_FIELD_INTERFACE_INDEX];
	give_verdict(verdict);
	return found;
}

static __always_inline int ingress(struct __sk_buff *skb, struct lg_packet *parsed, struct lg_passing *passing,
				   struct lg_turn now, struct lg_record *r)
{
	struct lg_packet packet = *parsed;
	struct lg_flow *flow, *aliased;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, side;
	int whose = NOBODY, listens = OURS;

	flow = find_flow(config.netns, &packet, &sender);
	/* An answer to what NAT rewrote; the tuple on the wire may be a flow too, of its other end on this host. */
	if ((packet.flags & (SYN | ACK)) != SYN &&
	    (!flow || !(side_of(flow, sender == LG_CLIENT ? LG_SERVER : LG_CLIENT)->bits & LG_SIDE_OURS))) {
		aliased = find_aliased(config.netns, &packet, &sender);
		if (aliased)
			flow = aliased;
	}
	if (packet.flags & SYN && !(packet.flags & ACK)) {
		if (!flow)
			sender = LG_CLIENT;
		if (sender == LG_CLIENT)
			flow = on_syn(skb, &packet, flow, r, &listens);
	} else if (!flow && config.interface) {
		sender = packet.flags & SYN ? LG_SERVER : LG_CLIENT;
		flow = new_flow(config.netns, &packet, sender);
		if (flow) {
			flow->side[0].bits |= LG_SIDE_OURS | LG_SIDE_NO_SOCKET;
			flow->side[1].bits |= LG_SIDE_OURS | LG_SIDE_NO_SOCKET;
		}
	}
	if (listens == NOBODY && !hears_knocks())
		listens = OURS;
	if (!flow)
		return listens != NOBODY || on_knock(r, &packet, now.interface) ? TCX_NEXT : TCX_DROP;
	side = sender == LG_CLIENT ? LG_SERVER : LG_CLIENT;
	own = side_of(flow, side);
	/* A flow older than we are, first seen by its other end: whose this end is, is asked once. */
	if (!(own->bits & (LG_SIDE_OURS | LG_SIDE_ASKED)) && !(packet.flags & SYN)) {
		own->bits |= LG_SIDE_ASKED;
		socket_state(skb, &packet, 1, &whose, r);
		if (whose == OURS)
			own->bits |= LG_SIDE_OURS;
	}
	if (!(own->bits & LG_SIDE_OURS))
		return TCX_NEXT;
	begin_packet(r, &packet, flow, side, 1, config.netns, skb->ifindex);
	if (indicate(r, LAYER_INBOUND_IPPACKET(packet.v6), KNOWS_PACKET, 1) == LG_BLOCK) {
		flow->own_drops++;
		return TCX_DROP;
	}
	if (listens == NOBODY && !on_knock(r, &packet, now.interface))
		return TCX_DROP;
	/* A segment to a TIME_WAIT reaches no hook of the cgroup. */
	if (own->bits & LG_SIDE_CLOSED && own->bits & LG_SIDE_HAS_SOCKET &&
	    socket_state(skb, &packet, 1, &whose, r) == BPF_TCP_TIME_WAIT) {
		begin_packet(r, &packet, flow, side, 1, config.netns, skb->ifindex);
		if (indicate(r, LAYER_INBOUND_TRANSPORT(packet.v6), KNOWS_PACKET, 1) == LG_BLOCK) {
			flow->own_drops++;
			return TCX_DROP;
		}
	}
	/* Its socket's hook has permitted such packets too: they pass also when a TIME_WAIT takes them. */
	if (passing && now.turn && !(packet.flags & SYN) && is_let_in(r))
		let_pass(passing, parsed, now);
	return TCX_NEXT;
}

SEC("tc")
int lg_tcx_ingress(struct __sk_buff *skb)
{
	struct lg_turn now = turn_now();
	struct lg_passing *passing;
	struct lg_packet packet = {};
	struct lg_held *held;
	int does;

	if (!config.interface && keeps_no_flow(now))
		return TCX_NEXT;
	if (!parse(skb, &packet))
		return TCX_NEXT;
	if (!config.interface && now.quiet & LG_QUIET_WIRE && !(packet.flags & SYN))
		return TCX_NEXT;
	now.interface = WORD(skb->ifindex);
	passing = place_of(&packet);
	if (passing && now.turn && !(packet.flags & SYN) && is_passing(passing, &packet, now))
		return TCX_NEXT;
	held = hold_record();
	if (!held)
		return TCX_NEXT;
	does = ingress(skb, &packet, passing, now, &held->r);
	let_go(held);
	return does;
}

/* The flow of a socket whose packet NAT rewrote; the tuple on the wire is kept, for the answer comes to it. */
static __noinline struct lg_flow *find_by_socket(struct bpf_sock *sk, struct lg_packet *packet, __u32 *sender)
{
	struct lg_flow_key wire = {};
	struct lg_alias alias = {};
	struct lg_flow *flow;
	__u32 low;

	if (!sk || !packet || !sender)
		return 0;
	low = key_of(&wire, config.netns, packet);
	take_ends(packet, sk);
	flow = find_flow(config.netns, packet, sender);
	if (!flow)
		return 0;
	key_of(&alias.key, config.netns, packet);
	alias.client_is_low = *sender == LG_CLIENT ? low : !low;
	bpf_map_update_elem(&lg_aliases, &wire, &alias, BPF_ANY);
	lg_control.translated = 1;
	return flow;
}

/* A segment that is not settled. An owner comes out of two maps, and the verifier follows each; here it does once. */
__noinline int egress(struct __sk_buff *skb, struct lg_owner *owner, struct lg_held *held)
{
	struct bpf_sock *sk = skb->sk, *full;
	struct lg_packet *packet;
	struct lg_flow *flow = 0;
	struct lg_record *r;
	struct lg_side *own;
	struct lg_turn now;
	__u32 sender = LG_CLIENT;
	int shown = 0, asked = 0, ours = 0;

	if (!held)
		return TCX_NEXT;
	now = held->now;
	packet = &held->packet;
	r = &held->r;
	/* A segment of a socket of the cgroup: its hook has shown the transport layer. A SYN-ACK has its request's. */
	if (sk) {
		asked = sk->state == BPF_TCP_NEW_SYN_RECV;
		full = bpf_sk_fullsock(sk);
		ours = full && full->protocol == TCP && full->type == STREAM_SOCKET;
		if ((asked || ours) && sk->state != BPF_TCP_LISTEN && is_rewritten(sk, packet)) {
			flow = find_by_socket(sk, packet, &sender);
			/* A SYN-ACK: the cgroup's hook, which knows its listener only, has left it to us. */
			asked = 0;
			owner = 0; /* what keeps the alias must see each packet */
		}
	}
	if (!flow)
		flow = find_sent(config.netns, packet, &sender);
	if (asked || ours) {
		if (flow)
			shown = (side_of(flow, sender)->bits & (LG_SIDE_OURS | LG_SIDE_HAS_SOCKET)) ==
				(LG_SIDE_OURS | LG_SIDE_HAS_SOCKET);
		if (!shown)
			shown = bpf_skb_ancestor_cgroup_id(skb, config.cgroup_level) == config.cgroup;
	}
	if (!flow && config.interface) {
		sender = packet->flags & SYN && packet->flags & ACK ? LG_SERVER : LG_CLIENT;
		flow = new_flow(config.netns, packet, sender);
		if (flow) {
			flow->side[0].bits |= LG_SIDE_OURS | LG_SIDE_NO_SOCKET;
			flow->side[1].bits |= LG_SIDE_OURS | LG_SIDE_NO_SOCKET;
		}
	}
	if (!flow)
		return TCX_NEXT;
	own = side_of(flow, sender);
	if (!(own->bits & LG_SIDE_OURS))
		return TCX_NEXT;
	begin_packet(r, packet, flow, sender, 0, config.netns, skb->ifindex);
	if (!shown) {
		if (packet->flags & RST && own->bits & LG_SIDE_STEALTH) {
			own->bits &= ~LG_SIDE_STEALTH;
			flow->own_drops++;
			return TCX_DROP;
		}
		if (indicate(r, LAYER_OUTBOUND_TRANSPORT(packet->v6), KNOWS_PACKET, 1) == LG_BLOCK) {
			flow->own_drops++;
			return TCX_DROP;
		}
	}
	if (indicate(r, LAYER_OUTBOUND_IPPACKET(packet->v6), KNOWS_PACKET, 1) == LG_BLOCK) {
		flow->own_drops++;
		return TCX_DROP;
	}
	if (owner && shown && ours && now.turn && !(packet->flags & (SYN | RST)) && sk->state != BPF_TCP_LISTEN)
		stamp(owner, LG_SETTLED_WIRE, now.turn, now.interface);
	return TCX_NEXT;
}

SEC("tc")
int lg_tcx_egress(struct __sk_buff *skb)
{
	struct lg_turn now = turn_now();
	struct lg_packet packet = {};
	struct lg_owner *owner = 0;
	struct lg_held *held;
	struct sock *tcp;
	int does;

	if (!config.interface && keeps_no_flow(now))
		return TCX_NEXT;
	tcp = tcp_of(skb->sk);
	if (tcp)
		owner = owner_of(seat_of(cookie_of(tcp)), tcp);
	if (owner && is_settled(owner, LG_SETTLED_WIRE, now, skb))
		return TCX_NEXT;
	if (!parse(skb, &packet))
		return TCX_NEXT;
	if (!config.interface && now.quiet & LG_QUIET_WIRE && !(packet.flags & SYN)) {
		if (tcp && owner && tcp->__sk_common.skc_state != BPF_TCP_LISTEN)
			stamp(owner, LG_SETTLED_WIRE, now.turn, 0);
		return TCX_NEXT;
	}
	held = hold_record();
	if (!held)
		return TCX_NEXT;
	held->now = now;
	held->now.interface = WORD(skb->ifindex);
	held->packet = packet;
	does = egress(skb, owner, held);
	let_go(held);
	return does;
}
