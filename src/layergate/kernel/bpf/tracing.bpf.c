/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What only a tracepoint shows: a socket begins to listen; a segment finds nobody; a packet is dropped, by whomever. They
 * fire for the whole machine, and look at our cgroup's sockets and our flows only.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "closure.h"
#include "ends.h"
#include "flow.h"
#include "owner.h"
#include "seats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__noinline int indicate_listen(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u32 layer, __u32 flags)
{
	struct lg_held *held;
	struct lg_record *r;
	__u32 present;
	int action;

	if (!packet || !owner)
		return LG_PERMIT;
	held = hold_record();
	if (!held)
		return LG_PERMIT;
	r = &held->r;
	begin_packet(r, packet, 0, LG_NO_SIDE, 0, netns, 0);
	r->cookie = owner->cookie;
	r->scalar[LG_FIELD_FLAGS] = flags;
	r->tcp_flags = 0;
	present = name_owner(r, owner) | KNOWS(IP_PROTOCOL) | KNOWS(FLAGS);
	present |= is_any(packet->source) ? 0 : KNOWS(IP_LOCAL_ADDRESS);
	present |= packet->source_port ? KNOWS(IP_LOCAL_PORT) : 0;
	action = indicate(r, layer, present, 0);
	if (action == LG_BLOCK)
		owner->filter = r->filter;
	let_go(held);
	return action;
}

/* A socket older than we are ends: sockops was never asked to call for it. */
static __always_inline int end_of_old(struct sock *sk, int from)
{
	struct lg_packet packet = {};
	struct lg_owner *owner;
	__u64 netns;

	/* Most have no storage at all. */
	if (!sk->sk_bpf_storage)
		return 0;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, 0);
	if (!owner || !(owner->bits & LG_OWNER_SEEDED))
		return 0;
	owner->bits &= ~LG_OWNER_SEEDED;
	packet.source[0] = owner->address[0];
	packet.source[1] = owner->address[1];
	packet.source_port = owner->port;
	packet.v6 = owner->v6;
	remote_end(&packet, sk);
	netns = netns_of(sk);
	return on_close(&packet, owner, netns, from);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(lg_set_state, struct sock *sk, int from, int to)
{
	struct lg_packet packet = {};
	struct lg_owner *owner;
	struct lg_seat *seat;
	__u32 flags;
	__u64 netns;

	if ((to != BPF_TCP_CLOSE && to != BPF_TCP_LISTEN) || sk->sk_protocol != TCP)
		return 0;
	if (to == BPF_TCP_CLOSE)
		return end_of_old(sk, from);
	if (bpf_get_current_ancestor_cgroup_id(config.cgroup_level) != config.cgroup)
		return 0;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	owner->cookie = bpf_get_socket_cookie(sk);
	/* It wanted to connect before. */
	seat = seat_of(owner->cookie);
	if (seat) {
		*owner = seat->owner;
		leave_seat(seat);
	}
	record_owner(owner);
	local_end(&packet, sk);
	netns = netns_of(sk);
	flags = is_any(packet.source) ? IS_WILDCARD_BIND : 0;
	if (!(owner->bits & LG_OWNER_BIND_SEEN)) {
		/* listen() without bind: nothing can be refused any more, so a block counts as one of the listen. */
		owner->bits |= LG_OWNER_BIND_SEEN | LG_OWNER_ASSIGNED;
		if (indicate_listen(&packet, owner, netns, LAYER_ALE_BIND_REDIRECT(packet.v6), flags | IS_IMPLICIT_BIND) == LG_BLOCK ||
		    indicate_listen(&packet, owner, netns, LAYER_ALE_RESOURCE_ASSIGNMENT(packet.v6),
				    flags | IS_IMPLICIT_BIND) == LG_BLOCK) {
			owner->bits |= LG_OWNER_LISTEN_DENIED;
			return 0;
		}
		owner->address[0] = packet.source[0];
		owner->address[1] = packet.source[1];
		owner->port = packet.source_port;
		owner->v6 = packet.v6;
	}
	if (indicate_listen(&packet, owner, netns, LAYER_ALE_AUTH_LISTEN(packet.v6), 0) == LG_BLOCK)
		owner->bits |= LG_OWNER_LISTEN_DENIED;
	else
		owner->bits &= ~LG_OWNER_LISTEN_DENIED;
	return 0;
}

/* As parse() of flow.h, of a packet in the kernel's hands. */
static __noinline int parse_kernel(struct sk_buff *skb, struct lg_packet *packet)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	__u32 offset = BPF_CORE_READ(skb, network_header), bytes;
	__u16 protocol = BPF_CORE_READ(skb, protocol);
	struct tcp_header tcp;

	if (!packet || !head)
		return 0;
	if (protocol == bpf_htons(0x0800)) {
		struct ipv4_header ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), head + offset))
			return 0;
		if (ip.version_words >> 4 != 4 || ip.protocol != TCP || ip.fragment & bpf_htons(0x1fff))
			return 0;
		packet->source[1] = bpf_ntohl(ip.source);
		packet->destination[1] = bpf_ntohl(ip.destination);
		offset += (ip.version_words & 15) * 4;
		bytes = bpf_ntohs(ip.total) - (ip.version_words & 15) * 4;
	} else if (protocol == bpf_htons(0x86dd)) {
		struct ipv6_header ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), head + offset))
			return 0;
		if (ip.next != TCP)
			return 0;
		from_v6(packet->source, ip.source);
		from_v6(packet->destination, ip.destination);
		packet->v6 = 1;
		offset += sizeof(ip);
		bytes = bpf_ntohs(ip.payload);
	} else {
		return 0;
	}
	if (bpf_probe_read_kernel(&tcp, sizeof(tcp), head + offset))
		return 0;
	take_tcp(packet, &tcp, bytes);
	return 1;
}

static __always_inline __u64 netns_of_packet(struct sk_buff *skb)
{
	struct sock *sk = BPF_CORE_READ(skb, sk);

	if (sk)
		return BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	return BPF_CORE_READ(skb, dev, nd_net.net, net_cookie);
}

/* A segment found nobody: a RST is about to leave. Blocked here, it won't. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(lg_send_reset, struct sock *sk, struct sk_buff *skb)
{
	struct lg_packet packet = {};
	struct lg_flow *flow;
	struct lg_held *held;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, side;
	__u64 netns;

	if (sk || !skb || !parse_kernel(skb, &packet))
		return 0;
	netns = BPF_CORE_READ(skb, dev, nd_net.net, net_cookie);
	flow = find_flow(netns, &packet, &sender);
	if (!flow)
		return 0;
	side = sender == LG_CLIENT ? LG_SERVER : LG_CLIENT;
	own = side_of(flow, side);
	if (!(own->bits & LG_SIDE_OURS))
		return 0;
	held = hold_record();
	if (!held)
		return 0;
	begin_packet(&held->r, &packet, flow, side, 1, netns, BPF_CORE_READ(skb, dev, ifindex));
	if (indicate(&held->r, LAYER_INBOUND_TRANSPORT_DISCARD(packet.v6), KNOWS_PACKET, 0) == LG_BLOCK)
		own->bits |= LG_SIDE_STEALTH;
	else
		own->bits &= ~LG_SIDE_STEALTH;
	let_go(held);
	flow->changed = bpf_ktime_get_ns();
	if (!(own->bits & LG_SIDE_HAS_SOCKET))
		own->bits |= LG_SIDE_CLOSED;
	return 0;
}

static __always_inline int is_ours(__u32 reason)
{
	return reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_SOCKET_FILTER) ||
	       reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_BPF_CGROUP_EGRESS) ||
	       reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TC_EGRESS) ||
	       reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TC_INGRESS);
}

#define NOT_SPECIFIED 2

SEC("tp_btf/kfree_skb")
int BPF_PROG(lg_kfree_skb, struct sk_buff *skb, void *location, __u32 reason)
{
	struct lg_packet packet = {};
	struct lg_record r = {};
	struct lg_flow *flow;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, side;
	int inbound;
	__u64 netns;

	if (reason <= NOT_SPECIFIED || !parse_kernel(skb, &packet))
		return 0;
	netns = netns_of_packet(skb);
	flow = find_flow(netns, &packet, &sender);
	if (!flow)
		return 0;
	if (flow->own_drops && is_ours(reason)) {
		flow->own_drops--;
		return 0;
	}
	inbound = BPF_CORE_READ(skb, skb_iif) != 0;
	side = inbound == (sender == LG_CLIENT) ? LG_SERVER : LG_CLIENT;
	own = side_of(flow, side);
	if (!(own->bits & LG_SIDE_OURS))
		return 0;
	begin_packet(&r, &packet, flow, side, inbound, netns, 0);
	r.kind = LG_KIND_DROP;
	r.action = LG_BLOCK;
	r.filter = (__u64)location;
	r.seq = reason;
	emit(&r);
	return 0;
}

/* The sockets that were there before us: whose they are. */
SEC("iter/task_file")
int lg_seed(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file, *exe;
	struct lg_exe_key key = {};
	struct lg_owner *owner;
	struct cgroup *cgroup, *ancestor;
	struct socket *socket;
	struct lg_packet packet = {};
	struct sock *sk;
	__u32 ours = config.cgroup_level & 15;
	__u64 cookie;
	int level;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	if (BPF_CORE_READ(sk, sk_protocol) != TCP)
		return 0;
	cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	level = BPF_CORE_READ(cgroup, level);
	if (level < (int)ours)
		return 0;
	bpf_core_read(&ancestor, sizeof(ancestor), &cgroup->ancestors[ours]);
	if (BPF_CORE_READ(ancestor, kn, id) != config.cgroup)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	if (owner_of(seat_of(cookie), sk))
		return 0;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	owner->cookie = cookie;
	owner->pid = task->tgid;
	owner->user = BPF_CORE_READ(sk, sk_uid.val);
	owner->cgroup = BPF_CORE_READ(cgroup, kn, id);
	for (int i = 0; i < LG_UNITS_DEEP; i++) {
		if (i + 1 > level)
			break;
		bpf_core_read(&ancestor, sizeof(ancestor), &cgroup->ancestors[i + 1]);
		owner->units[i] = BPF_CORE_READ(ancestor, kn, id);
	}
	owner->bits = LG_OWNER_BIND_SEEN | LG_OWNER_SEEDED;
	local_end(&packet, sk);
	owner->address[0] = packet.source[0];
	owner->address[1] = packet.source[1];
	owner->port = packet.source_port;
	owner->v6 = packet.v6;
	exe = BPF_CORE_READ(task, mm, exe_file);
	if (!exe)
		return 0;
	owner->exe_ino = key.ino = BPF_CORE_READ(exe, f_inode, i_ino);
	owner->exe_dev = key.dev = BPF_CORE_READ(exe, f_inode, i_sb, s_dev);
	keep_exe(&key, exe);
	return 0;
}
