/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What is settled: a connection whose packets all pass at a hook, until the policy changes.
 *
 * Most packets are of a connection that every layer has permitted. Where nobody wants to hear of permits, such a packet
 * needs no record, no look at its headers and no search for its flow: its socket carries a stamp, the turn of the policy
 * in which its packets pass and the interface on which they do. On the way in from an interface there is no socket yet;
 * there a few thousand tuples are kept that pass (lg_passing): what an interface asks of a packet depends on its tuple,
 * its interface and the policy alone.
 *
 * The turn is read before anything is decided, so a stamp is never newer than what it is the result of; while another
 * policy is put in force there is no turn, and every packet is looked at. Nothing is stamped while a filter looks at
 * streams, for the bytes of a stream are counted by the packet. What ends a stamp: another turn, a block, the end of the
 * connection, another connect.
 *
 * Where the policy asks nothing of a connection once its call is made, no flow is kept either: owner and socket storage
 * know which side it is, what authorised it and in which version (LG_OWNER_FLOWLESS). It gets a flow with the first
 * packet that the policy asks about.
 */
#ifndef LAYERGATE_SETTLED_H
#define LAYERGATE_SETTLED_H

#include "flow.h"

/* The interface is not known yet: a packet that passes wherever it comes to needs no look at it. */
static __always_inline struct lg_turn turn_now(void)
{
	struct lg_turn now = {};
	__u64 turn;

	/* Whoever wants to hear of permits is told of each. */
	if (config.emit >= LG_EMIT_ALL)
		return now;
	turn = *(volatile __u64 *)&lg_control.turn;
	now.turn = turn;
	now.quiet = turn >> 32;
	return now;
}

/* Whether no flow is kept of a connection that begins now. */
static __always_inline int keeps_no_flow(struct lg_turn now)
{
	return now.turn && now.quiet & LG_QUIET_FLOWS;
}

static __always_inline int is_settled(const struct lg_owner *owner, __u32 hook, struct lg_turn now,
				      struct __sk_buff *skb)
{
	return now.turn && owner->settled[hook] == now.turn &&
	       (!owner->settled_on[hook] || owner->settled_on[hook] == WORD(skb->ifindex));
}

/* What was written before is seen before what is read afterwards: of atomic operations, those that return a value do it. */
#define FENCE(side) ((void)__sync_fetch_and_or(&(side)->counted, 0))

static __always_inline void unsettle(struct lg_owner *owner)
{
	owner->settled[LG_SETTLED_OUT] = owner->settled[LG_SETTLED_IN] = owner->settled[LG_SETTLED_WIRE] = 0;
}

/* The connection of `owner` has ended: that is seen (the exchange is a fence) before its flow, if there is one, is looked
 * for. */
static __always_inline void end_connection(struct lg_owner *owner)
{
	*(volatile __u8 *)&owner->ended = 1;
	__sync_lock_test_and_set(&owner->settled[LG_SETTLED_OUT], 0);
	unsettle(owner);
}

static __always_inline void stamp(struct lg_owner *owner, __u32 hook, __u32 turn, __u32 interface)
{
	owner->settled_on[hook] = interface;
	owner->settled[hook] = turn;
}

/* A packet of the socket has passed `hook`, out or in, as all do from now on. */
static __always_inline void settle(struct lg_owner *owner, struct lg_side *own, __u32 hook, struct lg_turn now)
{
	if (!now.turn || !(now.quiet & LG_QUIET_STREAM) || !(own->bits & LG_SIDE_AUTHORIZED) ||
	    own->bits & LG_SIDE_BLOCKED || is_watched(own))
		return;
	/* Nobody follows the stream from here on. */
	own->stream &= ~(LG_STREAM_OUT_KNOWN | LG_STREAM_IN_KNOWN);
	if (now.quiet & LG_QUIET_PACKETS) {
		stamp(owner, LG_SETTLED_OUT, now.turn, 0);
		stamp(owner, LG_SETTLED_IN, now.turn, 0);
	} else {
		stamp(owner, hook, now.turn, now.interface);
	}
	/* Another CPU may have blocked the flow meanwhile, and unsettled it before we stamped. */
	FENCE(own);
	if (own->bits & LG_SIDE_BLOCKED)
		unsettle(owner);
}

/* The connection of `owner` begins, permitted in `version` of the layer that authorises it; no flow is kept of it. */
static __always_inline void begin_flowless(struct lg_owner *owner, struct lg_turn now, __u32 version)
{
	owner->bits |= LG_OWNER_FLOWLESS;
	owner->ale_version = version;
	stamp(owner, LG_SETTLED_OUT, now.turn, 0);
	stamp(owner, LG_SETTLED_IN, now.turn, 0);
}

/* The connection has a flow now; its side of it is `own`. */
static __always_inline void end_flowless(struct lg_owner *owner, struct lg_side *own)
{
	if (!(owner->bits & LG_OWNER_FLOWLESS))
		return;
	owner->bits &= ~LG_OWNER_FLOWLESS;
	own->filter = owner->filter;
	own->ale_version = owner->ale_version;
	own->bits |= LG_SIDE_AUTHORIZED;
}

/* A tuple whose packets come in and pass, but for a SYN. */
struct lg_passing {
	__u64 source[2];
	__u64 destination[2];
	__u32 ports;
	__u32 v6;
	__u32 turn;
	__u32 interface;
};

#define LG_PASSING_BITS 12

/* By a hash of the tuple; what comes later takes the place. By CPU: nobody reads what another one writes. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << LG_PASSING_BITS);
	__type(key, __u32);
	__type(value, struct lg_passing);
} lg_passing SEC(".maps");

static __always_inline struct lg_passing *place_of(const struct lg_packet *packet)
{
	__u64 mixed = packet->source[0] ^ packet->destination[0];
	__u32 place;

	mixed = (mixed ^ packet->source[1]) * 0x9e3779b97f4a7c15ULL;
	mixed = (mixed ^ mixed >> 32 ^ packet->destination[1]) * 0x9e3779b97f4a7c15ULL;
	mixed ^= (__u64)packet->source_port << 16 | packet->destination_port;
	place = mixed * 0x9e3779b97f4a7c15ULL >> (64 - LG_PASSING_BITS);
	return bpf_map_lookup_elem(&lg_passing, &place);
}

static __always_inline __u32 ports_of(const struct lg_packet *packet)
{
	return (__u32)packet->source_port << 16 | packet->destination_port;
}

static __always_inline int is_passing(const struct lg_passing *passing, const struct lg_packet *packet,
				      struct lg_turn now)
{
	return passing->turn == now.turn && passing->ports == ports_of(packet) &&
	       passing->source[1] == packet->source[1] && passing->destination[1] == packet->destination[1] &&
	       passing->source[0] == packet->source[0] && passing->destination[0] == packet->destination[0] &&
	       passing->interface == now.interface && passing->v6 == packet->v6;
}

static __always_inline void let_pass(struct lg_passing *passing, const struct lg_packet *packet, struct lg_turn now)
{
	passing->source[0] = packet->source[0];
	passing->source[1] = packet->source[1];
	passing->destination[0] = packet->destination[0];
	passing->destination[1] = packet->destination[1];
	passing->ports = ports_of(packet);
	passing->v6 = packet->v6;
	passing->interface = now.interface;
	passing->turn = now.turn;
}

#endif
