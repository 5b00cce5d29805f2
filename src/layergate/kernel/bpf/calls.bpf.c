/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The calls of a cgroup's processes: bind, connect, and the release of what was bound.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "flow.h"
#include "owner.h"
#include "seats.h"
#include "settled.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define FAIL_ERRNO 1 /* EPERM */

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

/* One layer of a call that has filters, or that somebody wants to hear of. Returns the action. */
__noinline int indicate_call_at(struct call *call, struct lg_owner *owner, __u32 layer, __u32 present, __u32 flags)
{
	struct lg_held *held;
	struct lg_record *r;
	int action;

	if (!call || !owner)
		return LG_PERMIT;
	held = hold_record();
	if (!held)
		return LG_PERMIT;
	r = &held->r;
	r->cookie = owner->cookie;
	r->netns = call->netns;
	r->side = LG_NO_SIDE;
	r->bits = call->v6 ? LG_BIT_V6 : 0;
	r->address[0] = call->local[0];
	r->address[1] = call->local[1];
	r->address[2] = call->remote[0];
	r->address[3] = call->remote[1];
	r->scalar[LG_FIELD_IP_PROTOCOL] = TCP;
	r->scalar[LG_FIELD_IP_LOCAL_PORT] = call->local_port;
	r->scalar[LG_FIELD_IP_REMOTE_PORT] = call->remote_port;
	r->scalar[LG_FIELD_FLAGS] = flags;
	present |= name_owner(r, owner) | KNOWS(IP_PROTOCOL) | KNOWS(FLAGS) | KNOWS(REAUTHORIZE_REASON);
	action = indicate_at(r, layer, present, 0);
	owner->filter = r->filter;
	owner->counted = action == LG_BLOCK ? 0 : r->counted;
	if (action == LG_BLOCK)
		bpf_set_retval(-(int)(r->error ? r->error : FAIL_ERRNO));
	let_go(held);
	return action;
}

/* One layer of a call. Returns the action. */
static __always_inline int indicate_call(struct call *call, struct lg_owner *owner, __u32 layer, __u32 present,
					 __u32 flags)
{
	if (!is_unheard(layer))
		return indicate_call_at(call, owner, layer, present, flags);
	owner->filter = 0;
	owner->counted = 0;
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

/* A call on a TCP socket: its namespace, and the owner that its socket has from now on. Nothing for other protocols. */
static __always_inline struct lg_owner *begin_call(struct bpf_sock_addr *ctx, struct call *call, int connects)
{
	struct bpf_sock *sk = ctx->sk;
	struct lg_owner *owner;
	struct lg_seat *seat;
	__u64 cookie;

	if (ctx->protocol != TCP || !sk)
		return 0;
	cookie = bpf_get_socket_cookie(ctx);
	call->netns = bpf_get_netns_cookie(ctx);
	owner = owner_of(seat_of(cookie), sk);
	if (owner)
		return owner;
	/* What binds may listen. */
	seat = connects ? take_seat(cookie) : 0;
	if (seat)
		return &seat->owner;
	owner = bpf_sk_storage_get(&lg_owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (owner)
		owner->cookie = cookie;
	return owner;
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
	struct lg_owner *owner;
	struct call call = {};

	owner = begin_call(ctx, &call, 0);
	if (!owner)
		return 1;
	call.local[1] = bpf_ntohl(ctx->user_ip4);
	call.local_port = bpf_ntohs(ctx->user_port);
	return passed(on_bind(&call, owner));
}

SEC("cgroup/bind6")
int lg_bind6(struct bpf_sock_addr *ctx)
{
	struct lg_owner *owner;
	struct call call = {};

	owner = begin_call(ctx, &call, 0);
	if (!owner)
		return 1;
	FROM_V6(call.local, ctx->user_ip6);
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
	owner = owner_of(seat_of(bpf_get_socket_cookie(ctx)), ctx);
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

	if (ctx->protocol != TCP)
		return 1;
	owner = owner_of(seat_of(bpf_get_socket_cookie(ctx)), ctx);
	if (!owner)
		return 1;
	call.netns = bpf_get_netns_cookie(ctx);
	FROM_V6(call.local, ctx->src_ip6);
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
	unsettle(owner);
	owner->ended = 0;
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
	struct lg_owner *owner;
	struct call call = {};

	owner = begin_call(ctx, &call, 1);
	if (!owner || !sk)
		return 1;
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
	struct lg_owner *owner;
	struct call call = {};

	owner = begin_call(ctx, &call, 1);
	if (!owner || !sk)
		return 1;
	FROM_V6(call.remote, ctx->user_ip6);
	FROM_V6(call.local, sk->src_ip6);
	call.local_port = sk->src_port;
	call.remote_port = bpf_ntohs(ctx->user_port);
	call.v6 = 1;
	unmap(&call, call.remote);
	return passed(on_connect(&call, owner));
}

/* A socket that was never bound is gone: user space forgets it. */
__noinline int tell_closed(struct lg_owner *owner)
{
	struct lg_record closed = {.kind = LG_KIND_CLOSED, .side = LG_NO_SIDE};

	if (!owner || owner->bits & LG_OWNER_SEEDED)
		return 0;
	closed.cookie = owner->cookie;
	return emit(&closed);
}

/* No file has the owner's socket any more. */
__noinline int on_release(struct call *call, struct lg_owner *owner)
{
	if (!call || !owner)
		return 1;
	if (!(owner->bits & LG_OWNER_ASSIGNED))
		return tell_closed(owner);
	call->local[0] = owner->address[0];
	call->local[1] = owner->address[1];
	call->local_port = owner->port;
	call->v6 = owner->v6;
	return indicate_call(call, owner, LAYER_ALE_RESOURCE_RELEASE(call->v6), local_known(call), 0);
}

SEC("cgroup/sock_release")
int lg_sock_release(struct bpf_sock *ctx)
{
	struct call call = {};
	struct lg_owner *owner;
	struct lg_seat *seat;

	if (ctx->protocol != TCP)
		return 1;
	seat = seat_of(bpf_get_socket_cookie(ctx));
	owner = owner_of(seat, ctx);
	if (!owner || owner->bits & LG_OWNER_CHILD)
		return 1;
	if (!(owner->bits & LG_OWNER_ASSIGNED) || !is_unheard(LAYER_ALE_RESOURCE_RELEASE(owner->v6))) {
		call.netns = bpf_get_netns_cookie(ctx);
		on_release(&call, owner);
	}
	release_seat(seat);
	return 1;
}
