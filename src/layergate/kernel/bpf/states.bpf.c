/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * States of TCP sockets over time, and round trips: from the kernel's own events, nothing is polled.
 *
 * Whose a socket is: the process that connects or listens, as it does; of an accepted one, the process that accepts, as
 * the call returns, and until then the listener's; of an older one, who held it when we began. The process that happens to
 * be on the processor when a segment changes the state is never taken for it.
 *
 * A TIME_WAIT, and a FIN_WAIT_2 that nobody holds, are no sockets to the kernel and change without an event: the socket is
 * told as CLOSED when it becomes one.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "kernel_types.h"
#include "sockets.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define FAMILY_V6 10
#define TCP 6
#define CLOSED 7
#define SYN_SENT 2
#define SYN_RECEIVED 3
#define ESTABLISHED 1
#define LISTEN 10
#define NS_PER_US 1000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inet_sock {
	__u16 inet_sport;
};

struct tcp_rack {
	__u64 mstamp;
	__u32 rtt_us;
};

struct tcp_sock {
	__u32 srtt_us;
	struct tcp_rack rack;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct file___states {
	void *private_data;
};

struct task_struct___states {
	int tgid;
	char comm[16];
	struct files_struct *files;
};

struct trace_event_raw_sys_exit {
	long ret;
};

#pragma clang attribute pop

const volatile struct lg_watch_config config SEC(".rodata.config") = {};

/* What is known of a socket. A child has its listener's until it has its own. */
struct lg_life {
	__u64 cookie;
	__u64 since; /* when it came into its state, ns; 0: before we did */
	__u64 sampled; /* the last round trip that was counted */
	__u32 pid;
	__u32 bits;
	__u8 comm[16];
};

struct lg_acceptor {
	__u32 pid;
	__u8 comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct lg_life);
} lg_lives SEC(".maps");

/* Who accepted a socket, by its place in memory, until its next change of state tells it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, __u64);
	__type(value, struct lg_acceptor);
} lg_acceptors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 << 20);
} lg_transitions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lg_histogram_key);
	__type(value, struct lg_histogram);
} lg_histograms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lg_histogram);
} lg_no_histogram SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LG_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} lg_counts SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *number = bpf_map_lookup_elem(&lg_counts, &what);

	if (number)
		*number += 1;
}

static __always_inline int is_watched(struct sock *sk)
{
	if (BPF_CORE_READ(sk, sk_protocol) != TCP)
		return 0;
	return !config.netns || BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie) == config.netns;
}

static __always_inline void take_over(struct lg_life *life)
{
	life->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(life->comm, sizeof(life->comm));
	life->bits &= ~(LG_OWNER_INHERITED | LG_OWNER_OLDER);
}

static __always_inline void addresses(struct sock *sk, __u8 *local, __u8 *remote, int v6)
{
	if (v6) {
		if (local)
			bpf_core_read(local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(remote, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		if (local)
			bpf_core_read(local, 4, &sk->__sk_common.skc_rcv_saddr);
		bpf_core_read(remote, 4, &sk->__sk_common.skc_daddr);
	}
}

/* --- round trips ------------------------------------------------------------------------------------------------ */

static __always_inline __u32 slot_of(__u32 value)
{
	__u32 slot = 0;

	for (__u32 step = 16; step; step >>= 1) {
		if (value >> step) {
			value >>= step;
			slot += step;
		}
	}
	return slot;
}

/* Count the connection's newest round trip, unless it was counted before. */
static __always_inline void sample(struct sock *sk, struct lg_life *life)
{
	struct tcp_sock *tcp = (void *)sk;
	__u64 stamp = BPF_CORE_READ(tcp, rack.mstamp);
	struct lg_histogram_key key = {};
	struct lg_histogram *one;
	__u32 rtt, slot, zero = 0;
	void *none;

	if (!(config.want & LG_WANT_ROUND_TRIPS) || !stamp || stamp == life->sampled)
		return;
	life->sampled = stamp;
	rtt = BPF_CORE_READ(tcp, rack.rtt_us);
	if (!rtt)
		return;
	if (config.by == LG_BY_REMOTE) {
		key.family = BPF_CORE_READ(sk, __sk_common.skc_family) == FAMILY_V6 ? 6 : 4;
		addresses(sk, 0, key.address, key.family == 6);
	} else if (config.by == LG_BY_LOCAL_PORT) {
		key.number = BPF_CORE_READ(sk, __sk_common.skc_num);
	} else if (config.by == LG_BY_PROCESS) {
		key.number = life->pid;
	}
	one = bpf_map_lookup_elem(&lg_histograms, &key);
	if (!one) {
		none = bpf_map_lookup_elem(&lg_no_histogram, &zero);
		if (!none)
			return;
		bpf_map_update_elem(&lg_histograms, &key, none, BPF_NOEXIST);
		one = bpf_map_lookup_elem(&lg_histograms, &key);
		if (!one) {
			count(LG_COUNT_NO_ROOM);
			return;
		}
	}
	slot = slot_of(rtt);
	if (!one->least || rtt < one->least)
		one->least = rtt;
	if (rtt > one->greatest)
		one->greatest = rtt;
	__sync_fetch_and_add(&one->count, 1);
	__sync_fetch_and_add(&one->sum, rtt);
	if (slot < LG_SLOTS_LOG2)
		__sync_fetch_and_add(&one->slots[slot], 1);
}

/* A process accepts: who has a socket that it accepted before anything happened to it. */
static __always_inline void know_acceptor(struct lg_life *life, struct sock *sk)
{
	__u64 place = (__u64)sk;
	struct lg_acceptor *acceptor;

	if (!(life->bits & LG_OWNER_INHERITED))
		return;
	acceptor = bpf_map_lookup_elem(&lg_acceptors, &place);
	if (!acceptor)
		return;
	life->pid = acceptor->pid;
	__builtin_memcpy(life->comm, acceptor->comm, sizeof(life->comm));
	life->bits &= ~LG_OWNER_INHERITED;
}

/* A segment of an established connection came in. */
SEC("tp_btf/tcp_probe")
int BPF_PROG(lg_probe, struct sock *sk, void *skb)
{
	struct lg_life *life;

	if (!is_watched(sk))
		return 0;
	life = bpf_sk_storage_get(&lg_lives, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!life)
		return 0;
	know_acceptor(life, sk);
	sample(sk, life);
	return 0;
}

/* --- states ----------------------------------------------------------------------------------------------------- */

static __always_inline void tell(struct sock *sk, struct lg_life *life, int from, int to, __u64 now, __u32 known)
{
	struct inet_sock *inet = (void *)sk;
	struct tcp_sock *tcp = (void *)sk;
	struct lg_transition *one = bpf_ringbuf_reserve(&lg_transitions, sizeof(*one), 0);

	/* The ring's lock may be refused under contention, though there is room. */
	if (!one)
		one = bpf_ringbuf_reserve(&lg_transitions, sizeof(*one), 0);
	if (!one) {
		count(LG_COUNT_LOST);
		return;
	}
	__builtin_memset(one, 0, sizeof(*one));
	one->time = now;
	one->spent = known ? now - life->since : 0;
	one->cookie = life->cookie;
	one->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	one->pid = life->pid;
	one->user = BPF_CORE_READ(sk, sk_uid.val);
	one->rtt = BPF_CORE_READ(tcp, srtt_us) >> 3;
	/* A socket that closes has given its port back by now, but not forgotten it. */
	one->local_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	one->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	one->family = BPF_CORE_READ(sk, __sk_common.skc_family) == FAMILY_V6 ? 6 : 4;
	one->from = from;
	one->to = to;
	one->bits = known | life->bits;
	addresses(sk, one->local, one->remote, one->family == 6);
	__builtin_memcpy(one->comm, life->comm, sizeof(one->comm));
	bpf_ringbuf_submit(one, 0);
	count(LG_COUNT_TOLD);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(lg_state, struct sock *sk, int from, int to)
{
	__u64 now = bpf_ktime_get_ns(), place = (__u64)sk, cookie;
	struct tcp_sock *tcp = (void *)sk;
	struct lg_life *life;
	__u32 known, rtt;

	if (!is_watched(sk))
		return 0;
	life = bpf_sk_storage_get(&lg_lives, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!life) {
		/* No memory; of a socket that is being freed, nobody has anything any more. */
		count(LG_COUNT_LOST);
		return 0;
	}
	cookie = bpf_get_socket_cookie(sk);
	if (life->cookie != cookie) {
		/* New to us; or a child that has its listener's storage. */
		if (life->cookie)
			life->bits = LG_OWNER_INHERITED;
		life->cookie = cookie;
		life->since = 0;
		life->sampled = 0;
	}
	if (from == CLOSED && (to == SYN_SENT || to == LISTEN))
		take_over(life);
	else
		know_acceptor(life, sk);
	/* close() and shutdown() are calls of whoever has the socket. */
	if ((to == 4 || to == 9) && (life->bits & LG_OWNER_INHERITED || !life->pid))
		take_over(life);
	known = life->since ? LG_SPENT_KNOWN : 0;
	rtt = BPF_CORE_READ(tcp, srtt_us) >> 3;
	if (from == SYN_RECEIVED && life->bits & LG_OWNER_INHERITED && rtt) {
		/* The child is made of the request at its end: the request's time is that of the first round trip. */
		life->since = now - (__u64)rtt * NS_PER_US;
		known = LG_SPENT_KNOWN;
	}
	/* A child comes out of its listener: it was never in LISTEN. */
	if (config.want & LG_WANT_TRANSITIONS && !(from == LISTEN && to == SYN_RECEIVED))
		tell(sk, life, from, to, now, known);
	sample(sk, life);
	life->since = now;
	if (to == CLOSED)
		bpf_map_delete_elem(&lg_acceptors, &place);
	return 0;
}

/* accept() and accept4() return: of whatever namespace, for what they are about is known only by the file. */
SEC("tracepoint/syscalls/sys_exit_accept4")
int lg_accepted(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct___states *task = (void *)bpf_get_current_task();
	struct lg_acceptor acceptor = {};
	struct file___states *file = 0;
	struct socket *socket;
	struct file **fds;
	__u64 place;
	long fd = ctx->ret;

	if (fd < 0)
		return 0;
	fds = BPF_CORE_READ(task, files, fdt, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), fds + fd) || !file)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	place = (__u64)BPF_CORE_READ(socket, sk);
	if (!place)
		return 0;
	acceptor.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(acceptor.comm, sizeof(acceptor.comm));
	bpf_map_update_elem(&lg_acceptors, &place, &acceptor, BPF_ANY);
	return 0;
}

/* The sockets that were there before us: who holds them. Run once, by reading. */
SEC("iter/task_file")
int lg_older(struct bpf_iter__task_file *ctx)
{
	struct task_struct___states *task = (void *)ctx->task;
	struct file *file = ctx->file;
	struct lg_life *life;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !is_watched(sk))
		return 0;
	life = bpf_sk_storage_get(&lg_lives, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!life || life->pid)
		return 0;
	life->cookie = bpf_get_socket_cookie(sk);
	life->pid = BPF_CORE_READ(task, tgid);
	life->bits = LG_OWNER_OLDER;
	bpf_core_read(life->comm, sizeof(life->comm), &task->comm);
	return 0;
}
