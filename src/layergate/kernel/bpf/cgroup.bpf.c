/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The hooks of a cgroup: bind, post_bind, connect, release, both directions of its packets, and its connections' states.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "closure.h"
#include "flow.h"
#include "owner.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define FAIL_ERRNO 1 /* EPERM */

/* What a program returns must be 0 or 1 in the verifier's eyes too, which do not see into a global function. */
static __always_inline int passed(int value)
{
	asm volatile("" : "+r"(value));
	return value ? 1 : 0;
}

struct call {
	__u64 local[2];
	__u64 remote[2];
	__u64 netns;
	__u32 flags;
	__u16 local_port;
	__u16 remote_port;
	__u8 v6;
	__u8 pad[3];
};

/* One layer of a call. Returns the action. */
__noinline int indicate_call(struct call *call, struct lg_owner *owner, __u32 layer, __u32 present, __u32 flags)
{
	struct lg_record r = {};

	if (!call || !owner)
		return LG_PERMIT;
	r.cookie = owner->cookie;
	r.netns = call->netns;
	r.side = LG_NO_SIDE;
	r.bits = call->v6 ? LG_BIT_V6 : 0;
	r.address[0] = call->local[0];
	r.address[1] = call->local[1];
	r.address[2] = call->remote[0];
	r.address[3] = call->remote[1];
	r.scalar[LG_FIELD_IP_PROTOCOL] = TCP;
	r.scalar[LG_FIELD_IP_LOCAL_PORT] = call->local_port;
	r.scalar[LG_FIELD_IP_REMOTE_PORT] = call->remote_port;
	r.scalar[LG_FIELD_FLAGS] = flags;
	present |= name_owner(&r, owner) | KNOWS(IP_PROTOCOL) | KNOWS(FLAGS) | KNOWS(REAUTHORIZE_REASON);
	if (indicate(&r, layer, present, 0) == LG_BLOCK) {
		owner->filter = r.filter;
		bpf_set_retval(-(int)(r.error ? r.error : FAIL_ERRNO));
		return LG_BLOCK;
	}
	return LG_PERMIT;
}

static __always_inline __u32 local_known(const struct call *call)
{
	return (is_any(call->local) ? 0 : KNOWS(IP_LOCAL_ADDRESS)) | (call->local_port ? KNOWS(IP_LOCAL_PORT) : 0);
}

static __always_inline __u32 bind_flags(const struct call *call, int implicit)
{
	return (is_any(call->local) ? IS_WILDCARD_BIND : 0) | (implicit ? IS_IMPLICIT_BIND : 0);
}

/* An IPv4 address in IPv6 clothes is IPv4, at every layer. */
static __always_inline void unmap(struct call *call, const __u64 *decisive)
{
	if (!call->v6 || !is_mapped(decisive))
		return;
	call->v6 = 0;
	call->local[0] = call->remote[0] = 0;
	call->local[1] = (__u32)call->local[1];
	call->remote[1] = (__u32)call->remote[1];
}

__noinline int on_bind(struct call *call, struct lg_owner *owner)
{
	if (!call || !owner)
		return 1;
	record_owner(owner);
	if (indicate_call(call, owner, LAYER_ALE_BIND_REDIRECT(call->v6), local_known(call), bind_flags(call, 0)) == LG_BLOCK)
		return 0;
	owner->bits |= LG_OWNER_BIND_SEEN;
	return 1;
}

SEC("cgroup/bind4")
int lg_bind4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct call call = {};
	struct lg_owner *owner;

	if (ctx->protocol != TCP || !sk)
		return 1;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 1;
	owner->cookie = bpf_get_socket_cookie(ctx);
	call.netns = bpf_get_netns_cookie(ctx);
	call.local[1] = bpf_ntohl(ctx->user_ip4);
	call.local_port = bpf_ntohs(ctx->user_port);
	return passed(on_bind(&call, owner));
}

SEC("cgroup/bind6")
int lg_bind6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct call call = {};
	struct lg_owner *owner;
	__u32 words[4];

	if (ctx->protocol != TCP || !sk)
		return 1;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 1;
	owner->cookie = bpf_get_socket_cookie(ctx);
	call.netns = bpf_get_netns_cookie(ctx);
	words[0] = ctx->user_ip6[0];
	words[1] = ctx->user_ip6[1];
	words[2] = ctx->user_ip6[2];
	words[3] = ctx->user_ip6[3];
	from_v6(call.local, words);
	call.local_port = bpf_ntohs(ctx->user_port);
	call.v6 = 1;
	unmap(&call, call.local);
	return passed(on_bind(&call, owner));
}

__noinline int on_assignment(struct call *call, struct lg_owner *owner, int implicit)
{
	if (!call || !owner)
		return 1;
	if (indicate_call(call, owner, LAYER_ALE_RESOURCE_ASSIGNMENT(call->v6), local_known(call),
			  bind_flags(call, implicit)) == LG_BLOCK)
		return 0;
	owner->bits |= LG_OWNER_ASSIGNED;
	owner->address[0] = call->local[0];
	owner->address[1] = call->local[1];
	owner->port = call->local_port;
	owner->v6 = call->v6;
	return 1;
}

SEC("cgroup/post_bind4")
int lg_post_bind4(struct bpf_sock *ctx)
{
	struct call call = {};
	struct lg_owner *owner;

	if (ctx->protocol != TCP)
		return 1;
	owner = bpf_sk_storage_get(&lg_owners, ctx, 0, 0);
	if (!owner)
		return 1;
	call.netns = bpf_get_netns_cookie(ctx);
	call.local[1] = bpf_ntohl(ctx->src_ip4);
	call.local_port = ctx->src_port;
	return passed(on_assignment(&call, owner, 0));
}

SEC("cgroup/post_bind6")
int lg_post_bind6(struct bpf_sock *ctx)
{
	struct call call = {};
	struct lg_owner *owner;
	__u32 words[4];

	if (ctx->protocol != TCP)
		return 1;
	owner = bpf_sk_storage_get(&lg_owners, ctx, 0, 0);
	if (!owner)
		return 1;
	call.netns = bpf_get_netns_cookie(ctx);
	words[0] = ctx->src_ip6[0];
	words[1] = ctx->src_ip6[1];
	words[2] = ctx->src_ip6[2];
	words[3] = ctx->src_ip6[3];
	from_v6(call.local, words);
	call.local_port = ctx->src_port;
	call.v6 = 1;
	unmap(&call, call.local);
	return passed(on_assignment(&call, owner, 0));
}

/* Whether the call stays on its host: by loopback's own addresses, no address at all, or one of the host's. */
static __always_inline int stays_here(const struct call *call)
{
	struct lg_address key = {};

	if (is_loopback(call->remote, call->v6) || is_any(call->remote))
		return 1;
	key.netns = call->netns;
	key.address[0] = call->remote[0];
	key.address[1] = call->remote[1];
	key.v6 = call->v6;
	return bpf_map_lookup_elem(&lg_own_addresses, &key) != 0;
}

__noinline int on_connect(struct call *call, struct lg_owner *owner)
{
	__u32 remote = KNOWS(IP_REMOTE_ADDRESS) | KNOWS(IP_REMOTE_PORT);
	__u32 flags, known;

	if (!call || !owner)
		return 1;
	record_owner(owner);
	if (!(owner->bits & LG_OWNER_BIND_SEEN)) {
		if (indicate_call(call, owner, LAYER_ALE_BIND_REDIRECT(call->v6), local_known(call),
				  bind_flags(call, 1)) == LG_BLOCK)
			return 0;
		owner->bits |= LG_OWNER_BIND_SEEN;
	}
	if (!(owner->bits & LG_OWNER_ASSIGNED) && !on_assignment(call, owner, 1))
		return 0;
	flags = stays_here(call) ? IS_LOOPBACK : 0;
	known = local_known(call) | remote;
	owner->ale_version = layer_version(LAYER_ALE_AUTH_CONNECT(call->v6));
	if (indicate_call(call, owner, LAYER_ALE_CONNECT_REDIRECT(call->v6), known, flags) == LG_BLOCK)
		return 0;
	return indicate_call(call, owner, LAYER_ALE_AUTH_CONNECT(call->v6), known, flags) == LG_PERMIT;
}

SEC("cgroup/connect4")
int lg_connect4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct call call = {};
	struct lg_owner *owner;

	if (ctx->protocol != TCP || !sk)
		return 1;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 1;
	owner->cookie = bpf_get_socket_cookie(ctx);
	call.netns = bpf_get_netns_cookie(ctx);
	call.local[1] = bpf_ntohl(sk->src_ip4);
	call.local_port = sk->src_port;
	call.remote[1] = bpf_ntohl(ctx->user_ip4);
	call.remote_port = bpf_ntohs(ctx->user_port);
	return passed(on_connect(&call, owner));
}

SEC("cgroup/connect6")
int lg_connect6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct call call = {};
	struct lg_owner *owner;
	__u32 words[4];

	if (ctx->protocol != TCP || !sk)
		return 1;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 1;
	owner->cookie = bpf_get_socket_cookie(ctx);
	call.netns = bpf_get_netns_cookie(ctx);
	words[0] = ctx->user_ip6[0];
	words[1] = ctx->user_ip6[1];
	words[2] = ctx->user_ip6[2];
	words[3] = ctx->user_ip6[3];
	from_v6(call.remote, words);
	words[0] = sk->src_ip6[0];
	words[1] = sk->src_ip6[1];
	words[2] = sk->src_ip6[2];
	words[3] = sk->src_ip6[3];
	from_v6(call.local, words);
	call.local_port = sk->src_port;
	call.remote_port = bpf_ntohs(ctx->user_port);
	call.v6 = 1;
	unmap(&call, call.remote);
	return passed(on_connect(&call, owner));
}

SEC("cgroup/sock_release")
int lg_sock_release(struct bpf_sock *ctx)
{
	struct call call = {};
	struct lg_owner *owner;

	if (ctx->protocol != TCP)
		return 1;
	owner = bpf_sk_storage_get(&lg_owners, ctx, 0, 0);
	if (!owner || owner->bits & LG_OWNER_CHILD)
		return 1;
	if (!(owner->bits & LG_OWNER_ASSIGNED)) {
		struct lg_record closed = {.kind = LG_KIND_CLOSED, .side = LG_NO_SIDE, .cookie = owner->cookie};

		if (!(owner->bits & LG_OWNER_SEEDED))
			emit(&closed);
		return 1;
	}
	owner->bits &= ~LG_OWNER_ASSIGNED;
	call.netns = bpf_get_netns_cookie(ctx);
	call.local[0] = owner->address[0];
	call.local[1] = owner->address[1];
	call.local_port = owner->port;
	call.v6 = owner->v6;
	indicate_call(&call, owner, LAYER_ALE_RESOURCE_RELEASE(call.v6), local_known(&call), 0);
	return 1;
}

static __always_inline int is_seeded(void)
{
	struct lg_control *control;
	__u32 zero = 0;

	control = bpf_map_lookup_elem(&lg_control, &zero);
	return control && control->seeded;
}

/* What the flow's owner and the layer that authorised it say now. Returns the action. */
__noinline int reauthorize(struct lg_record *r, struct lg_flow *flow, struct lg_owner *owner, __u32 side)
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
	if (!owner && !is_seeded())
		return LG_PERMIT;
	present = name_owner(r, owner) | KNOWS_PACKET | KNOWS(REAUTHORIZE_REASON);
	r->scalar[LG_FIELD_FLAGS] |= IS_REAUTHORIZE;
	r->scalar[LG_FIELD_REAUTHORIZE_REASON] = POLICY_CHANGE;
	r->bits |= LG_BIT_REAUTHORIZE;
	own->bits |= LG_SIDE_AUTHORIZED;
	own->ale_version = version;
	action = indicate(r, layer, present, 0);
	if (action == LG_BLOCK) {
		own->bits |= LG_SIDE_BLOCKED;
		own->filter = r->filter;
		ask_reset(r);
	}
	r->scalar[LG_FIELD_FLAGS] &= ~IS_REAUTHORIZE;
	r->scalar[LG_FIELD_REAUTHORIZE_REASON] = 0;
	r->bits &= ~LG_BIT_REAUTHORIZE;
	return action;
}

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

/* Sent bytes that were not sent before. Returns how many. */
static __always_inline __u32 bytes_out(struct lg_side *side, const struct lg_packet *packet)
{
	__u32 end = packet->seq + packet->length, before = side->next_out;

	if (packet->flags & SYN) {
		side->next_out = packet->seq + 1;
		side->stream |= LG_STREAM_OUT_KNOWN;
		return 0;
	}
	if (!packet->length || packet->flags & RST)
		return 0;
	if (!(side->stream & LG_STREAM_OUT_KNOWN))
		before = packet->seq;
	if ((__s32)(end - before) <= 0)
		return 0;
	side->stream |= LG_STREAM_OUT_KNOWN;
	side->next_out = end;
	return end - before;
}

/* Received bytes that extend the stream; a segment behind a gap does not (its bytes show when the gap is closed). */
static __always_inline __u32 bytes_in(struct lg_side *side, const struct lg_packet *packet)
{
	__u32 end = packet->seq + packet->length, before = side->next_in;

	if (packet->flags & SYN) {
		side->next_in = packet->seq + 1;
		side->stream |= LG_STREAM_IN_KNOWN;
		return 0;
	}
	if (!(side->stream & LG_STREAM_IN_KNOWN))
		before = packet->seq;
	if ((__s32)(packet->seq - before) > 0)
		return 0;
	if (packet->flags & FIN)
		side->stream |= LG_STREAM_FIN;
	if ((__s32)(end - before) <= 0)
		return 0;
	side->stream |= LG_STREAM_IN_KNOWN;
	side->next_in = end;
	return end - before;
}

/* STREAM, of `length` bytes. */
__noinline int indicate_stream(struct lg_record *r, struct lg_flow *flow, __u32 inbound, __u32 length)
{
	__u32 side, whole, direction;

	if (!r || !flow)
		return LG_PERMIT;
	side = r->side;
	whole = r->length;
	direction = r->scalar[LG_FIELD_DIRECTION];
	r->length = length;
	r->scalar[LG_FIELD_DIRECTION] = inbound;
	indicate(r, LAYER_STREAM(r->bits & LG_BIT_V6), KNOWS_FLOW | KNOWS(DIRECTION),
		 cached_of(flow, side, inbound ? LG_CACHE_IN_STREAM : LG_CACHE_OUT_STREAM));
	r->length = whole;
	r->scalar[LG_FIELD_DIRECTION] = direction;
	return LG_PERMIT;
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

/* A flow that began before us, or whose first packet is this one: whose it is. */
__noinline int show_flow(struct lg_record *r, struct lg_owner *owner)
{
	if (!r)
		return 0;
	r->known = name_owner(r, owner);
	r->kind = LG_KIND_FLOW;
	return emit(r);
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
			own_drop(r, own->filter,
				 side == LG_CLIENT ? LAYER_ALE_AUTH_CONNECT(v6) : LAYER_ALE_AUTH_RECV_ACCEPT(v6));
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
	if (indicate(r, LAYER_OUTBOUND_TRANSPORT(v6), KNOWS_PACKET, cached_of(flow, side, LG_CACHE_OUT_TRANSPORT)) == LG_BLOCK) {
		flow->own_drops++;
		return 0;
	}
	return 1;
}

SEC("cgroup_skb/egress")
int lg_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct lg_packet packet = {};
	struct lg_record r = {};
	struct lg_owner *owner;
	struct lg_flow *flow;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, reconciled = 0, late = 0;
	__u64 netns;

	if (!sk || !parse(skb, &packet))
		return 1;
	sk = bpf_sk_fullsock(sk);
	/* The kernel's own sockets (RST, TIME_WAIT) are left to tcx. */
	if (!sk || sk->protocol != TCP)
		return 1;
	netns = bpf_get_netns_cookie(skb);
	flow = find_flow(netns, &packet, &sender);
	if (flow && packet.flags & SYN && !(packet.flags & ACK) && sender == LG_CLIENT)
		flow->isn = packet.seq;
	if (!flow) {
		flow = late_flow(skb, netns, &packet, 0, &sender);
		late = 1;
	}
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, 0);
	if (flow) {
		own = side_of(flow, sender);
		if (!own->cookie && !(packet.flags & SYN))
			own->cookie = bpf_get_socket_cookie(skb);
		own->bits |= LG_SIDE_OURS | LG_SIDE_HAS_SOCKET;
		own->interface = skb->ifindex;
		reconciled = packet.flags & RST ? 0 : bytes_reconciled(own, sk);
	}
	begin_packet(&r, &packet, flow, sender, 0, netns, skb->ifindex);
	if (flow && late)
		show_flow(&r, owner);
	if (flow && reconciled)
		indicate_stream(&r, flow, 1, reconciled);
	if (!flow) {
		/* No room to remember the flow: decide each packet for itself. */
		return indicate(&r, LAYER_OUTBOUND_TRANSPORT(packet.v6), KNOWS_PACKET, 0) == LG_PERMIT;
	}
	return passed(on_egress(&r, &packet, flow, owner));
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
	if (indicate(r, LAYER_INBOUND_TRANSPORT(v6), KNOWS_PACKET, cached_of(flow, side, LG_CACHE_IN_TRANSPORT)) == LG_BLOCK) {
		flow->own_drops++;
		return 0;
	}
	if (packet->flags & RST)
		return 1;
	if (packet->flags & SYN && !(packet->flags & ACK)) {
		__u32 layer = LAYER_ALE_AUTH_RECV_ACCEPT(v6), present;

		bytes_in(own, packet);
		if (owner && owner->bits & LG_OWNER_LISTEN_DENIED) {
			flow->own_drops++;
			own_drop(r, owner->filter, LAYER_ALE_AUTH_LISTEN(v6));
			return 0;
		}
		if (own->bits & LG_SIDE_AUTHORIZED)
			return 1;
		present = name_owner(r, owner) | KNOWS_PACKET | KNOWS(REAUTHORIZE_REASON);
		own->ale_version = layer_version(layer);
		if (indicate(r, layer, present, 0) == LG_BLOCK) {
			flow->own_drops++;
			return 0;
		}
		own->bits |= LG_SIDE_AUTHORIZED;
		return 1;
	}
	if (own->bits & LG_SIDE_BLOCKED) {
		flow->own_drops++;
		own_drop(r, own->filter,
			 side == LG_CLIENT ? LAYER_ALE_AUTH_CONNECT(v6) : LAYER_ALE_AUTH_RECV_ACCEPT(v6));
		return 0;
	}
	if (reauthorize(r, flow, owner, side) == LG_BLOCK) {
		flow->own_drops++;
		return 0;
	}
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

SEC("cgroup_skb/ingress")
int lg_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct lg_packet packet = {};
	struct lg_record r = {};
	struct lg_owner *owner = 0;
	struct lg_flow *flow;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, side, listening, late = 0;
	__u64 netns;

	if (!sk || !parse(skb, &packet))
		return 1;
	netns = bpf_get_netns_cookie(skb);
	flow = find_flow(netns, &packet, &sender);
	/* Another SYN of another start: the tuple is used again. */
	if (flow && packet.flags & SYN && !(packet.flags & ACK) && sender == LG_CLIENT && flow->isn != packet.seq)
		flow = new_flow(netns, &packet, LG_CLIENT);
	if (!flow) {
		flow = late_flow(skb, netns, &packet, 1, &sender);
		late = 1;
	}
	side = sender == LG_CLIENT ? LG_SERVER : LG_CLIENT;
	listening = sk->state == BPF_TCP_LISTEN || sk->state == BPF_TCP_NEW_SYN_RECV;
	sk = bpf_sk_fullsock(sk);
	if (sk)
		owner = bpf_sk_storage_get(&lg_owners, sk, 0, 0);
	if (flow) {
		own = side_of(flow, side);
		if (!listening) {
			if (!own->cookie)
				own->cookie = bpf_get_socket_cookie(skb);
			/* A connection older than we are is established. */
			if (!(packet.flags & SYN) && !(own->bits & LG_SIDE_HAS_SOCKET))
				own->stream |= LG_STREAM_ESTABLISHED;
		}
		own->bits |= LG_SIDE_OURS | LG_SIDE_HAS_SOCKET;
		own->interface = skb->ifindex;
	}
	begin_packet(&r, &packet, flow, side, 1, netns, skb->ifindex);
	if (flow && late)
		show_flow(&r, owner);
	if (!flow) {
		if (indicate(&r, LAYER_INBOUND_TRANSPORT(packet.v6), KNOWS_PACKET, 0) == LG_BLOCK)
			return 0;
		if (!(packet.flags & SYN) || packet.flags & ACK)
			return 1;
		return indicate(&r, LAYER_ALE_AUTH_RECV_ACCEPT(packet.v6),
				name_owner(&r, owner) | KNOWS_PACKET | KNOWS(REAUTHORIZE_REASON), 0) == LG_PERMIT;
	}
	return passed(on_ingress(&r, &packet, flow, owner));
}

/* The ends of a connection, as sockops shows them: as a packet that its local end would send. */
static __always_inline void ends_of(struct bpf_sock_ops *ctx, struct lg_packet *packet)
{
	__u32 words[4], family;

	family = *(volatile __u32 *)&ctx->family;
	packet->source_port = *(volatile __u32 *)&ctx->local_port;
	packet->destination_port = bpf_ntohl(*(volatile __u32 *)&ctx->remote_port);
	if (family == FAMILY_V6) {
		words[0] = *(volatile __u32 *)&ctx->local_ip6[0];
		words[1] = *(volatile __u32 *)&ctx->local_ip6[1];
		words[2] = *(volatile __u32 *)&ctx->local_ip6[2];
		words[3] = *(volatile __u32 *)&ctx->local_ip6[3];
		from_v6(packet->source, words);
		words[0] = *(volatile __u32 *)&ctx->remote_ip6[0];
		words[1] = *(volatile __u32 *)&ctx->remote_ip6[1];
		words[2] = *(volatile __u32 *)&ctx->remote_ip6[2];
		words[3] = *(volatile __u32 *)&ctx->remote_ip6[3];
		from_v6(packet->destination, words);
		packet->v6 = !is_mapped(packet->source) && !is_mapped(packet->destination);
		if (!packet->v6) {
			packet->source[0] = packet->destination[0] = 0;
			packet->source[1] = (__u32)packet->source[1];
			packet->destination[1] = (__u32)packet->destination[1];
		}
	} else {
		packet->source[1] = bpf_ntohl(*(volatile __u32 *)&ctx->local_ip4);
		packet->destination[1] = bpf_ntohl(*(volatile __u32 *)&ctx->remote_ip4);
	}
}

__noinline int on_connecting(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u64 cookie)
{
	struct lg_record r = {};
	struct lg_flow *flow;

	if (!packet)
		return 1;
	flow = new_flow(netns, packet, LG_CLIENT);
	if (!flow)
		return 1;
	flow->side[0].cookie = cookie;
	flow->side[0].bits = LG_SIDE_OURS | LG_SIDE_HAS_SOCKET | LG_SIDE_AUTHORIZED;
	flow->side[0].ale_version = owner ? owner->ale_version : 0;
	if (owner) {
		owner->address[0] = packet->source[0];
		owner->address[1] = packet->source[1];
		owner->port = packet->source_port;
	}
	begin_packet(&r, packet, flow, LG_CLIENT, 0, netns, 0);
	show_flow(&r, owner);
	return 1;
}

__noinline int on_established(struct lg_packet *packet, struct lg_owner *owner, __u64 netns, __u64 cookie, __u32 side)
{
	struct lg_record r = {};
	struct lg_flow *flow;
	struct lg_side *own;
	__u32 sender = LG_CLIENT, interface = 0;

	if (!packet)
		return 1;
	flow = find_flow(netns, packet, &sender);
	if (flow) {
		own = side_of(flow, side);
		own->cookie = cookie;
		own->stream |= LG_STREAM_ESTABLISHED;
		interface = own->interface;
	}
	begin_packet(&r, packet, flow, side, 0, netns, interface);
	r.cookie = cookie;
	r.scalar[LG_FIELD_DIRECTION] = side == LG_SERVER;
	if (indicate(&r, LAYER_ALE_FLOW_ESTABLISHED(packet->v6), name_owner(&r, owner) | KNOWS_FLOW | KNOWS(DIRECTION),
		     0) == LG_BLOCK) {
		ask_reset(&r);
		if (flow) {
			own = side_of(flow, side);
			own->bits |= LG_SIDE_BLOCKED;
			own->filter = r.filter;
		}
		return 1;
	}
	if (flow) {
		own = side_of(flow, side);
		if (own->pending) {
			r.bits |= LG_BIT_INBOUND;
			indicate_stream(&r, flow, 1, own->pending);
			own->pending = 0;
		}
	}
	return 1;
}

/* The pinned programs may outlive us: then nobody sweeps the flows, and a closed one is forgotten at once. */
__noinline int forget_flow(struct lg_packet *packet, __u64 netns)
{
	struct lg_flow_key key = {};
	struct lg_control *control;
	struct lg_flow *flow;
	__u32 zero = 0, sender;

	control = bpf_map_lookup_elem(&lg_control, &zero);
	if (!packet || !control || bpf_ktime_get_ns() - control->heartbeat < 10000000000ULL)
		return 0;
	flow = find_flow(netns, packet, &sender);
	if (!flow)
		return 0;
	key_of(&key, netns, packet, sender == LG_SERVER);
	return bpf_map_delete_elem(&lg_flows, &key);
}

SEC("sockops")
int lg_sockops(struct bpf_sock_ops *ctx)
{
	__u32 op = *(volatile __u32 *)&ctx->op;
	__u32 from = *(volatile __u32 *)&ctx->args[0];
	__u32 to = *(volatile __u32 *)&ctx->args[1];
	struct lg_packet packet = {};
	struct lg_owner *owner = 0;
	struct bpf_sock *sk;
	__u64 netns, cookie;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_STATE_CB && op != BPF_SOCK_OPS_TCP_LISTEN_CB)
		return 1;
	if (op == BPF_SOCK_OPS_STATE_CB && to != BPF_TCP_CLOSE)
		return 1;
	ends_of(ctx, &packet);
	netns = bpf_get_netns_cookie(ctx);
	cookie = bpf_get_socket_cookie(ctx);
	sk = ctx->sk;
	if (sk)
		owner = bpf_sk_storage_get(&lg_owners, sk, 0, 0);
	if (op != BPF_SOCK_OPS_STATE_CB)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	switch (op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		return passed(on_connecting(&packet, owner, netns, cookie));
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		return passed(on_established(&packet, owner, netns, cookie, LG_CLIENT));
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		if (owner) {
			owner->bits |= LG_OWNER_CHILD;
			owner->bits &= ~(LG_OWNER_ASSIGNED | LG_OWNER_SEEDED);
			owner->cookie = cookie;
		}
		return passed(on_established(&packet, owner, netns, cookie, LG_SERVER));
	case BPF_SOCK_OPS_STATE_CB:
		on_close(&packet, owner, netns, from == BPF_TCP_LISTEN);
		forget_flow(&packet, netns);
		return 1;
	}
	return 1;
}
