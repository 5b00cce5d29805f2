/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Where the owner of a socket is kept: in its storage, or in a seat.
 *
 * Socket storage is two allocations, charged to a cgroup, and two frees after a grace period: of both ends together a
 * twelfth of what a short connection costs over loopback. So the ends of a connection take a seat first: an element of an
 * array, by the socket's cookie. Cookies are given one after the other, and most connections end soon: by the time that a
 * cookie comes with the same low bits, the seat is free, mostly. Where it is not, the socket has storage. Nobody is ever
 * put out of a seat.
 *
 * A seat is left when its connection is over and no file has its socket; the two come in either order, on two processors
 * perhaps, and whoever is the second leaves. It then rests, for a program of another processor may still write to it.
 *
 * A listener has storage. Its child has an owner from the moment that it is established: the last segment at the listener
 * leaves the listener's owner in the hand of its processor, which makes the child of that segment and nothing in between.
 */
#ifndef LAYERGATE_SEATS_H
#define LAYERGATE_SEATS_H

#include "kernel_types.h"
#include "maps.h"

/* In jiffies: at least a twentieth of a second, where no program runs for a thousandth. */
#define LG_SEAT_REST 64

#define STREAM_SOCKET 1 /* SOCK_STREAM; the kernel's own socket for RST and TIME_WAIT is raw */

/* The socket of a packet, if it is a TCP connection's or a listener's, to be read directly: a helper for each thing that is
 * to be known of it costs more than all else that a settled packet does. */
static __always_inline struct sock *tcp_of(void *sk)
{
	struct sock *tcp = sk ? (struct sock *)bpf_skc_to_tcp_sock(sk) : 0;

	return tcp && tcp->sk_type == STREAM_SOCKET ? tcp : 0;
}

/* 0: nobody has asked for it yet. */
static __always_inline __u64 cookie_of(const struct sock *tcp)
{
	return tcp->__sk_common.skc_cookie.counter;
}

static __always_inline __u64 netns_of(const struct sock *sk)
{
	return sk->__sk_common.skc_net.net->net_cookie;
}

static __always_inline struct lg_seat *seat_at(__u64 cookie)
{
	__u32 place = cookie & (LG_SEATS - 1);

	return bpf_map_lookup_elem(&lg_seats, &place);
}

/* The seat of the socket with this cookie, 0 where it has none. */
static __always_inline struct lg_seat *seat_of(__u64 cookie)
{
	struct lg_seat *seat = seat_at(cookie);

	return seat && cookie && seat->owner.cookie == cookie ? seat : 0;
}

/* A free seat for it; its owner is nobody but for the cookie. */
static __always_inline struct lg_seat *take_seat(__u64 cookie)
{
	struct lg_seat *seat = seat_at(cookie);

	if (!seat || seat->owner.cookie || (__u32)bpf_jiffies64() - seat->left < LG_SEAT_REST)
		return 0;
	if (__sync_val_compare_and_swap(&seat->owner.cookie, 0, cookie))
		return 0;
	__builtin_memset((void *)seat + sizeof(cookie), 0, sizeof(*seat) - sizeof(cookie));
	return seat;
}

static __always_inline void leave_seat(struct lg_seat *seat)
{
	*(volatile __u32 *)&seat->left = bpf_jiffies64();
	*(volatile __u64 *)&seat->owner.cookie = 0;
}

/* No file has the socket any more. */
static __always_inline void release_seat(struct lg_seat *seat)
{
	if (seat && !(__sync_fetch_and_or(&seat->life, LG_SEAT_RELEASED) & LG_SEAT_OPEN))
		leave_seat(seat);
}

/* Its connection is over. */
static __always_inline void close_seat(struct lg_seat *seat)
{
	if (!seat)
		return;
	seat->established = 0;
	if (seat->owner.bits & LG_OWNER_CHILD || __sync_fetch_and_and(&seat->life, ~LG_SEAT_OPEN) & LG_SEAT_RELEASED)
		leave_seat(seat);
}

/* The owner of the socket `sk`, whose seat is `seat`, if it has one. Nobody: 0. */
static __always_inline struct lg_owner *owner_of(struct lg_seat *seat, void *sk)
{
	return seat ? &seat->owner : bpf_sk_storage_get(&lg_owners, sk, 0, 0);
}

/* The same who owns it. */
static __always_inline void inherit(struct lg_owner *heir, const struct lg_owner *owner)
{
	heir->exe_ino = owner->exe_ino;
	heir->cgroup = owner->cgroup;
	for (int level = 0; level < LG_UNITS_DEEP; level++)
		heir->units[level] = owner->units[level];
	heir->exe_dev = owner->exe_dev;
	heir->pid = owner->pid;
	heir->user = owner->user;
	heir->names = owner->names;
	heir->app = owner->app;
	heir->unit = owner->unit;
}

/* Whose child the next connection of a processor is, and of which port. */
struct lg_hand {
	struct lg_owner owner;
	__u32 port; /* 0: nothing is in it */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lg_hand);
} lg_hands SEC(".maps");

/* A segment has come to a listener on `port`. */
static __always_inline void hand_over(const struct lg_owner *owner, __u32 port, __u32 interface)
{
	struct lg_hand *hand;
	__u32 zero = 0;

	hand = bpf_map_lookup_elem(&lg_hands, &zero);
	if (!hand)
		return;
	inherit(&hand->owner, owner);
	hand->owner.interface = interface;
	hand->port = port;
}

#endif
