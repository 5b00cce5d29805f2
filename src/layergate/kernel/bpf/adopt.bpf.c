/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The connections that were there before: each gets its flow, is authorised, and counted by the limits that are asked,
 * without waiting for its next segment. Iterators over the owners of sockets, run by reading: first who listens, for a
 * connection is a server's if somebody listens on its port; then the connections, those with storage and those in seats.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "authorize.h"
#include "closure.h"
#include "ends.h"
#include "flow.h"
#include "seats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct port {
	__u64 netns;
	__u32 port;
	__u32 pad;
};

/* Where somebody listens: more ports than any host listens on. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct port);
	__type(value, __u32);
} listening SEC(".maps");

static __always_inline struct port port_of(struct sock *sk)
{
	struct port port = {};

	port.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	port.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	return port;
}

SEC("iter/bpf_sk_storage_map")
int lg_listening(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct port port;
	__u32 one = 1;

	if (!sk || BPF_CORE_READ(sk, __sk_common.skc_state) != BPF_TCP_LISTEN)
		return 0;
	port = port_of(sk);
	bpf_map_update_elem(&listening, &port, &one, BPF_ANY);
	return 0;
}

/* `packet` names the ends, as the socket would send it. */
__noinline int adopt(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u32 side, __u32 interface)
{
	struct lg_flow *flow;
	struct lg_held *held;
	struct lg_side *own;
	__u32 sender = side, fresh = 0;

	if (!packet || !owner)
		return 0;
	flow = find_flow(netns, packet, &sender);
	if (!flow) {
		sender = side;
		flow = new_flow(netns, packet, sender);
		fresh = 1;
	}
	if (!flow)
		return 0;
	own = side_of(flow, sender);
	/* The ends are another connection's by now, or it is being established: then it is looked at by itself. */
	if (own->cookie && own->cookie != owner->cookie)
		return 0;
	own->cookie = owner->cookie;
	own->bits |= LG_SIDE_OURS | LG_SIDE_HAS_SOCKET;
	own->stream |= LG_STREAM_ESTABLISHED;
	if (!own->interface)
		own->interface = interface;
	end_flowless(owner, own);
	held = hold_record();
	if (!held)
		return 0;
	begin_packet(&held->r, packet, flow, sender, 0, netns, own->interface);
	if (fresh)
		show_flow(&held->r, owner);
	reauthorize(&held->r, flow, owner, sender);
	let_go(held);
	/* It ended meanwhile, and whoever said so found no flow, perhaps. */
	if (*(volatile __u8 *)&owner->ended)
		on_close(packet, owner, netns, BPF_TCP_ESTABLISHED);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int lg_adopt(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct lg_packet packet = {};
	struct lg_owner *owner;
	struct port port;
	__u32 state, interface;

	if (!sk)
		return 0;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT && state != BPF_TCP_FIN_WAIT1 &&
	    state != BPF_TCP_FIN_WAIT2)
		return 0;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, 0);
	if (!owner)
		return 0;
	local_end(&packet, sk);
	remote_end(&packet, sk);
	if (!packet.source_port || !packet.destination_port)
		return 0;
	port = port_of(sk);
	interface = owner->interface;
	if (!interface && bpf_core_field_exists(sk->sk_rx_dst_ifindex))
		interface = BPF_CORE_READ(sk, sk_rx_dst_ifindex);
	return adopt(&packet, owner, port.netns, bpf_map_lookup_elem(&listening, &port) ? LG_SERVER : LG_CLIENT, interface);
}

SEC("iter/bpf_map_elem")
int lg_adopt_seated(struct bpf_iter__bpf_map_elem *ctx)
{
	struct lg_packet packet = {};
	struct lg_owner *owner;
	struct lg_seat *seat;
	__u32 *number = ctx->key, place;

	if (!number)
		return 0;
	place = *number;
	seat = bpf_map_lookup_elem(&lg_seats, &place);
	if (!seat || !seat->owner.cookie || !seat->established)
		return 0;
	owner = &seat->owner;
	packet.source[0] = owner->address[0];
	packet.source[1] = owner->address[1];
	packet.source_port = owner->port;
	packet.destination[0] = seat->remote[0];
	packet.destination[1] = seat->remote[1];
	packet.destination_port = seat->remote_port;
	packet.v6 = owner->v6;
	return adopt(&packet, owner, seat->netns, owner->bits & LG_OWNER_CHILD ? LG_SERVER : LG_CLIENT, owner->interface);
}
