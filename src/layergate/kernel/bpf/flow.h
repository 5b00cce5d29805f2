/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Packets and flows. A flow is found by both its tuples: the sender is the client if (source, destination) is a key, the
 * server if (destination, source) is. So side and direction follow from the packet alone, at every hook, also on loopback
 * with both ends in one cgroup.
 */
#ifndef LAYERGATE_FLOW_H
#define LAYERGATE_FLOW_H

#include "classify.h"

#define EEXIST 17
#define TCP 6
#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

#define IS_LOOPBACK 0x1
#define IS_REAUTHORIZE 0x4
#define IS_WILDCARD_BIND 0x8
#define IS_IMPLICIT_BIND 0x200
#define POLICY_CHANGE 0x1
#define LOOPBACK_IFINDEX 1

#define FAMILY_V4 2
#define FAMILY_V6 10

#define KNOWS(field) (1U << LG_FIELD_##field)
#define KNOWS_ADDRESSES (KNOWS(IP_LOCAL_ADDRESS) | KNOWS(IP_REMOTE_ADDRESS))
#define KNOWS_PORTS (KNOWS(IP_LOCAL_PORT) | KNOWS(IP_REMOTE_PORT))
#define KNOWS_FLOW (KNOWS(IP_PROTOCOL) | KNOWS_ADDRESSES | KNOWS_PORTS | KNOWS(FLAGS))
#define KNOWS_PACKET (KNOWS_FLOW | KNOWS(INTERFACE_INDEX))

struct lg_packet {
	__u64 source[2];
	__u64 destination[2];
	__u32 seq;
	__u32 length;
	__u16 source_port;
	__u16 destination_port;
	__u16 window;
	__u8 flags;
	__u8 v6;
};

/* The policy in force, as far as stamps are concerned (settled.h), when a packet came to `interface`. */
struct lg_turn {
	__u32 turn;
	__u32 quiet;
	__u32 interface;
};

/* A record, and the packet that it is about, off the stack, which has no room for them with the walk and the limits below.
 * Several a CPU, for one hook may interrupt another. */
struct lg_held {
	__u32 busy;
	struct lg_turn now;
	struct lg_packet packet;
	struct lg_record r;
};

#define LG_HELD_RECORDS 8

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LG_HELD_RECORDS);
	__type(key, __u32);
	__type(value, struct lg_held);
} lg_held_records SEC(".maps");

static __always_inline struct lg_held *hold_record(void)
{
	struct lg_held *held;

#pragma clang loop unroll(disable)
	for (__u32 number = 0; number < LG_HELD_RECORDS; number++) {
		__u32 place = number;

		held = bpf_map_lookup_elem(&lg_held_records, &place);
		if (held && !__sync_lock_test_and_set(&held->busy, 1)) {
			__builtin_memset(&held->packet, 0, sizeof(held->packet));
			__builtin_memset(&held->r, 0, sizeof(held->r));
			return held;
		}
	}
	count(LG_STAT_TABLE_FAULT);
	return 0;
}

static __always_inline void let_go(struct lg_held *held)
{
	*(volatile __u32 *)&held->busy = 0;
}

struct ipv4_header {
	__u8 version_words;
	__u8 service;
	__u16 total;
	__u16 id;
	__u16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__u32 source;
	__u32 destination;
};

struct ipv6_header {
	__u32 class_label;
	__u16 payload;
	__u8 next;
	__u8 hops;
	__u32 source[4];
	__u32 destination[4];
};

struct tcp_header {
	__u16 source;
	__u16 destination;
	__u32 seq;
	__u32 ack;
	__u8 words;
	__u8 flags;
	__u16 window;
	__u32 checksum_urgent;
};

/* One word of a context or a socket, read by itself: the verifier allows no arithmetic on its address. */
#define WORD(field) (*(volatile __u32 *)&(field))

/* Half an IPv6 address, of two words as they are on the wire. */
static __always_inline __u64 half_of(__u32 high, __u32 low)
{
	return (__u64)bpf_ntohl(high) << 32 | bpf_ntohl(low);
}

static __always_inline void from_v6(__u64 *to, const __u32 *words)
{
	to[0] = half_of(words[0], words[1]);
	to[1] = half_of(words[2], words[3]);
}

/* The verifier wants each word of a context read by itself. */
#define FROM_V6(to, from)                                                            \
	do {                                                                         \
		const __u32 words_[4] = {(from)[0], (from)[1], (from)[2], (from)[3]}; \
		from_v6(to, words_);                                                 \
	} while (0)

static __always_inline int is_mapped(const __u64 *address)
{
	return !address[0] && address[1] >> 32 == 0xffff;
}

static __always_inline int is_any(const __u64 *address)
{
	return !address[0] && !address[1];
}

static __always_inline int is_loopback(const __u64 *address, int v6)
{
	return v6 ? !address[0] && address[1] == 1 : (__u32)address[1] >> 24 == 127;
}

static __always_inline void take_tcp(struct lg_packet *packet, const struct tcp_header *tcp, __u32 bytes)
{
	__u32 header = (tcp->words >> 4) * 4;

	packet->source_port = bpf_ntohs(tcp->source);
	packet->destination_port = bpf_ntohs(tcp->destination);
	packet->seq = bpf_ntohl(tcp->seq);
	packet->flags = tcp->flags;
	packet->window = tcp->window;
	packet->length = bytes > header ? bytes - header : 0;
}

/* Whether `skb` is a TCP segment; if so, what it says. Offsets are from the network header, with and without Ethernet. */
__noinline int parse(struct __sk_buff *skb, struct lg_packet *packet)
{
	/* Both headers as they mostly stand: nothing between them. */
	struct {
		struct ipv4_header ip;
		struct tcp_header tcp;
	} both;
	struct tcp_header tcp;
	__u32 offset, bytes;

	if (!packet)
		return 0;
	if (skb->protocol == bpf_htons(0x0800)) {
		struct ipv4_header ip;

		if (!bpf_skb_load_bytes_relative(skb, 0, &both, sizeof(both), BPF_HDR_START_NET) &&
		    both.ip.version_words == 0x45 && both.ip.protocol == TCP && !(both.ip.fragment & bpf_htons(0x1fff))) {
			packet->source[1] = bpf_ntohl(both.ip.source);
			packet->destination[1] = bpf_ntohl(both.ip.destination);
			packet->v6 = 0;
			offset = sizeof(both.ip);
			bytes = bpf_ntohs(both.ip.total) - offset;
			if (skb->gso_segs > 1 || bytes > 0xffff)
				bytes = skb->len - (skb->len > offset ? offset : 0);
			take_tcp(packet, &both.tcp, bytes);
			return 1;
		}
		if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
			return 0;
		if (ip.protocol != TCP || ip.fragment & bpf_htons(0x1fff))
			return 0;
		packet->source[1] = bpf_ntohl(ip.source);
		packet->destination[1] = bpf_ntohl(ip.destination);
		packet->v6 = 0;
		offset = (ip.version_words & 15) * 4;
		bytes = bpf_ntohs(ip.total) - offset;
	} else if (skb->protocol == bpf_htons(0x86dd)) {
		struct ipv6_header ip;
		__u8 next, extension[4];

		if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
			return 0;
		from_v6(packet->source, ip.source);
		from_v6(packet->destination, ip.destination);
		packet->v6 = 1;
		offset = sizeof(ip);
		next = ip.next;
		for (int i = 0; i < 6 && next != TCP; i++) {
			if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60)
				return 0;
			if (bpf_skb_load_bytes_relative(skb, offset, extension, sizeof(extension), BPF_HDR_START_NET))
				return 0;
			if (next == 44 && (extension[2] | (extension[3] & 0xf8)))
				return 0;
			offset += next == 44 ? 8 : next == 51 ? (extension[1] + 2) * 4 : (extension[1] + 1) * 8;
			next = extension[0];
		}
		if (next != TCP)
			return 0;
		bytes = bpf_ntohs(ip.payload) + sizeof(ip) - offset;
	} else {
		return 0;
	}
	if (bpf_skb_load_bytes_relative(skb, offset, &tcp, sizeof(tcp), BPF_HDR_START_NET))
		return 0;
	/* A packet of more than 64 kB (GSO, BIG TCP) has no length of its own. */
	if (skb->gso_segs > 1 || bytes > 0xffff)
		bytes = skb->len - (skb->len > offset ? offset : 0);
	take_tcp(packet, &tcp, bytes);
	return 1;
}

static __always_inline int compare(const __u64 *a, const __u64 *b)
{
	if (a[0] != b[0])
		return a[0] < b[0] ? -1 : 1;
	return a[1] < b[1] ? -1 : a[1] > b[1];
}

/* The key of a packet's flow. Returns whether the sender is the lower end. */
static __always_inline int key_of(struct lg_flow_key *key, __u64 netns, const struct lg_packet *packet)
{
	int order = compare(packet->source, packet->destination);
	int low = order ? order < 0 : packet->source_port <= packet->destination_port;

	key->netns = netns;
	key->v6 = packet->v6;
	if (low) {
		key->low[0] = packet->source[0];
		key->low[1] = packet->source[1];
		key->high[0] = packet->destination[0];
		key->high[1] = packet->destination[1];
		key->low_port = packet->source_port;
		key->high_port = packet->destination_port;
	} else {
		key->low[0] = packet->destination[0];
		key->low[1] = packet->destination[1];
		key->high[0] = packet->source[0];
		key->high[1] = packet->source[1];
		key->low_port = packet->destination_port;
		key->high_port = packet->source_port;
	}
	return low;
}

/* The flow of a packet, and which side sent it. */
static __noinline struct lg_flow *find_flow(__u64 netns, const struct lg_packet *packet, __u32 *sender)
{
	struct lg_flow_key key = {};
	struct lg_flow *flow;
	__u32 low;

	if (!packet || !sender)
		return 0;
	low = key_of(&key, netns, packet);
	flow = bpf_map_lookup_elem(&lg_flows, &key);
	if (flow)
		*sender = low == flow->client_is_low ? LG_CLIENT : LG_SERVER;
	return flow;
}

/* Whether there has been any flow. */
static __always_inline int any_flows(void)
{
	return lg_control.flows != 0;
}

/* A flow between the packet's ends; `sender` is the side that sent it. A SYN begins a new one, in place of what had its
 * tuple before. Anything else is of a connection that has lost its flow, or never had one: whoever comes first makes it,
 * for two processors may be at it. */
static __noinline struct lg_flow *new_flow(__u64 netns, const struct lg_packet *packet, __u32 sender)
{
	struct lg_flow_key key = {};
	struct lg_flow fresh = {};
	__u32 low;
	long error;

	if (!packet)
		return 0;
	low = key_of(&key, netns, packet);
	fresh.id = __sync_fetch_and_add(&lg_control.flows, 1) + 1;
	fresh.changed = bpf_ktime_get_ns();
	fresh.isn = packet->seq;
	fresh.client_is_low = sender == LG_CLIENT ? low : !low;
	error = bpf_map_update_elem(&lg_flows, &key, &fresh, (packet->flags & (SYN | ACK)) == SYN ? BPF_ANY : BPF_NOEXIST);
	if (error && error != -EEXIST) {
		count(LG_STAT_FLOWS_FULL);
		return 0;
	}
	return bpf_map_lookup_elem(&lg_flows, &key);
}

/* Forget the flow of a packet that is kept out. */
__noinline int drop_flow(__u64 netns, struct lg_packet *packet)
{
	struct lg_flow_key key = {};

	if (!packet)
		return 0;
	key_of(&key, netns, packet);
	return bpf_map_delete_elem(&lg_flows, &key);
}

static __always_inline struct lg_side *side_of(struct lg_flow *flow, __u32 side)
{
	return side == LG_CLIENT ? &flow->side[0] : &flow->side[1];
}

/* Begin the record of a packet, seen by `side`. */
static __always_inline void begin_packet(struct lg_record *r, const struct lg_packet *packet, struct lg_flow *flow,
					 __u32 side, int inbound, __u64 netns, __u32 interface)
{
	const __u64 *local = inbound ? packet->destination : packet->source;
	const __u64 *remote = inbound ? packet->source : packet->destination;

	r->netns = netns;
	r->flow = flow ? flow->id : 0;
	r->side = side;
	r->cookie = flow ? side_of(flow, side)->cookie : 0;
	r->address[0] = local[0];
	r->address[1] = local[1];
	r->address[2] = remote[0];
	r->address[3] = remote[1];
	r->scalar[LG_FIELD_IP_PROTOCOL] = TCP;
	r->scalar[LG_FIELD_IP_LOCAL_PORT] = inbound ? packet->destination_port : packet->source_port;
	r->scalar[LG_FIELD_IP_REMOTE_PORT] = inbound ? packet->source_port : packet->destination_port;
	r->scalar[LG_FIELD_FLAGS] = interface == LOOPBACK_IFINDEX ? IS_LOOPBACK : 0;
	r->scalar[LG_FIELD_DIRECTION] = inbound;
	r->scalar[LG_FIELD_INTERFACE_INDEX] = interface;
	r->tcp_flags = packet->flags;
	r->seq = packet->seq;
	r->length = packet->length;
	r->bits = (inbound ? LG_BIT_INBOUND : 0) | (packet->v6 ? LG_BIT_V6 : 0);
}

/* In lg_side.counted: the connection is counted as half-open. One word for both, so that each change is one step. */
#define HALF_OPEN (1ULL << LG_LIMITS)

/* Count the record's connection by what was asked of it and does not count it yet. */
__noinline int admit(struct lg_record *r, struct lg_flow *flow, __u32 side, __u32 what)
{
	struct lg_side *own;
	__u64 fresh;

	if (!r || !flow)
		return 0;
	own = side_of(flow, side);
	own->app = r->exe_ino;
	own->unit = r->cgroup;
	fresh = r->counted & ~__sync_fetch_and_or(&own->counted, r->counted | (what == LG_ADD_HALF_OPEN ? HALF_OPEN : 0));
	return fresh ? count_all(r, fresh, what) : 0;
}

/* A counted connection was established, or has ended: `packet` is one that its local end would send. */
__noinline int recount(struct lg_record *r, struct lg_flow *flow, __u32 side, __u32 what)
{
	struct lg_side *own;
	__u64 counted;

	if (!r || !flow)
		return 0;
	own = side_of(flow, side);
	if (what == LG_OPEN) {
		counted = __sync_fetch_and_and(&own->counted, ~HALF_OPEN);
		if (!(counted & HALF_OPEN))
			return 0;
	} else {
		/* Whoever takes the bits takes the counts: once. */
		counted = __sync_lock_test_and_set(&own->counted, 0);
		if (!counted)
			return 0;
		what = counted & HALF_OPEN ? LG_END_HALF_OPEN : LG_END_ESTABLISHED;
	}
	r->exe_ino = own->app;
	r->cgroup = own->unit;
	return count_all(r, counted & ~HALF_OPEN, what);
}

/* The server's side of a flow whose tuple begins anew with this SYN is counted no more. */
static __always_inline void uncount_flow(struct lg_record *r, const struct lg_packet *syn, struct lg_flow *flow,
					 __u64 netns)
{
	if (!flow->side[1].counted)
		return;
	begin_packet(r, syn, flow, LG_SERVER, 1, netns, 0);
	recount(r, flow, LG_SERVER, LG_END_ESTABLISHED);
	r->exe_ino = r->cgroup = 0;
}

/* Whether a limit counts what is not normal of the side's connection: then all its packets are looked at. */
static __always_inline int is_watched(const struct lg_side *own)
{
	return (lg_control.abnormal & own->counted) != 0;
}

/* The peer of the side's connection did something that is not normal. Returns whether the connection is past a limit. */
__noinline int note_abnormal(struct lg_record *r, struct lg_flow *flow, __u32 side)
{
	struct lg_side *own;
	__u64 watched;
	int past = 0;

	if (!r || !flow)
		return 0;
	own = side_of(flow, side);
	watched = lg_control.abnormal & own->counted;
	if (!watched)
		return 0;
	r->exe_ino = own->app;
	r->cgroup = own->unit;
#pragma clang loop unroll(disable)
	for (__u32 number = 0; number < LG_LIMITS; number++) {
		if (watched >> number & 1)
			past |= count_abnormal(r, number);
	}
	r->exe_ino = r->cgroup = 0;
	return past;
}

/* Ask user space to destroy the socket that the record is about. */
__noinline int ask_reset(struct lg_record *r)
{
	struct lg_reset reset = {};
	__u64 cookie;

	if (!r || !r->cookie)
		return 0;
	cookie = r->cookie;
	reset.netns = r->netns;
	reset.local[0] = r->address[0];
	reset.local[1] = r->address[1];
	reset.remote[0] = r->address[2];
	reset.remote[1] = r->address[3];
	reset.local_port = r->scalar[LG_FIELD_IP_LOCAL_PORT];
	reset.remote_port = r->scalar[LG_FIELD_IP_REMOTE_PORT];
	reset.v6 = r->bits & LG_BIT_V6 ? 1 : 0;
	reset.pid = r->pid;
	bpf_map_update_elem(&lg_resets, &cookie, &reset, BPF_ANY);
	return 0;
}

/* Whether NAT rewrote the packet of a connected socket. One that is closed has no ports any more, and tells nothing. */
static __always_inline int is_rewritten(struct bpf_sock *sk, const struct lg_packet *packet)
{
	__u32 source_port = WORD(sk->src_port), destination_port = bpf_ntohs(*(volatile __u16 *)&sk->dst_port);
	__u32 source4 = WORD(sk->src_ip4), destination4 = WORD(sk->dst_ip4);
	__u32 source6 = WORD(sk->src_ip6[3]), destination6 = WORD(sk->dst_ip6[3]);
	__u32 source = packet->v6 ? source6 : source4, destination = packet->v6 ? destination6 : destination4;

	if (!source_port || !destination_port)
		return 0;
	return source_port != packet->source_port || destination_port != packet->destination_port ||
	       bpf_ntohl(source) != (__u32)packet->source[1] || bpf_ntohl(destination) != (__u32)packet->destination[1];
}

/* The packet as its socket knows it. */
static __always_inline void take_ends(struct lg_packet *packet, struct bpf_sock *sk)
{
	if (packet->v6) {
		FROM_V6(packet->source, sk->src_ip6);
		FROM_V6(packet->destination, sk->dst_ip6);
	} else {
		packet->source[1] = bpf_ntohl(sk->src_ip4);
		packet->destination[1] = bpf_ntohl(sk->dst_ip4);
	}
	packet->source_port = sk->src_port;
	packet->destination_port = bpf_ntohs(sk->dst_port);
}

/* The flow that a packet is of whose tuple NAT rewrote on its way out; the packet then has the tuple of its socket. */
static __noinline struct lg_flow *find_aliased(__u64 netns, struct lg_packet *packet, __u32 *sender)
{
	struct lg_flow_key key = {};
	struct lg_alias *alias;
	struct lg_flow *flow;
	__u32 low, sent;

	if (!packet || !sender || !lg_control.translated)
		return 0;
	low = key_of(&key, netns, packet);
	alias = bpf_map_lookup_elem(&lg_aliases, &key);
	if (!alias)
		return 0;
	sent = low == alias->client_is_low ? LG_CLIENT : LG_SERVER;
	key = alias->key;
	flow = bpf_map_lookup_elem(&lg_flows, &key);
	if (!flow)
		return 0;
	*sender = sent;
	low = (sent == LG_CLIENT) == flow->client_is_low;
	packet->source[0] = low ? key.low[0] : key.high[0];
	packet->source[1] = low ? key.low[1] : key.high[1];
	packet->source_port = low ? key.low_port : key.high_port;
	packet->destination[0] = low ? key.high[0] : key.low[0];
	packet->destination[1] = low ? key.high[1] : key.low[1];
	packet->destination_port = low ? key.high_port : key.low_port;
	return flow;
}

/* The flow that a packet of ours is of, on its way out: NAT may have made its tuple that of another flow. */
static __noinline struct lg_flow *find_sent(__u64 netns, struct lg_packet *packet, __u32 *sender)
{
	struct lg_flow *flow, *aliased;

	if (!packet || !sender)
		return 0;
	flow = find_flow(netns, packet, sender);
	if (flow && side_of(flow, *sender)->bits & LG_SIDE_OURS)
		return flow;
	aliased = find_aliased(netns, packet, sender);
	return aliased ? aliased : flow;
}

/* A flow that began before us, or whose first packet is this one: whose it is. */
__noinline int show_flow(struct lg_record *r, struct lg_owner *owner)
{
	if (!r)
		return 0;
	r->known = name_owner(r, owner);
	r->kind = LG_KIND_FLOW;
	return emit(r);
}

/* What a program returns must be 0 or 1 in the verifier's eyes too, which do not see into a global function. */
static __always_inline int passed(int value)
{
	asm volatile("" : "+r"(value));
	return value ? 1 : 0;
}

#endif
