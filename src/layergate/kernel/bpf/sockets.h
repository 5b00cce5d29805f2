/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What the programs of the connection table and user space share: who owns sockets; states; round trips.
 *
 * The rules are those of layergate.h; tools/gen_kernel_layout.py makes kernel/sockets_layout_generated.py of it.
 */
#ifndef LAYERGATE_SOCKETS_H
#define LAYERGATE_SOCKETS_H

#define LG_PATH_BYTES 256

/* A process holds a socket. */
struct lg_held {
	__u32 inode; /* of the socket, as the list of sockets has it */
	__u32 pid;
	__u32 fd;
	__u32 pad;
};

/* A process. */
struct lg_process {
	__u64 cgroup;
	__u64 started; /* ns since the machine started */
	__u32 pid;
	__u32 user;
	__u32 path_bytes; /* with the final zero; 0: a kernel thread, or a path that is too long */
	__u32 pad;
	__u8 comm[16];
	__u8 path[256]; /* LG_PATH_BYTES */
};

/* What a histogram is kept by. */
#define LG_BY_ALL 0
#define LG_BY_REMOTE 1
#define LG_BY_LOCAL_PORT 2
#define LG_BY_PROCESS 3

/* What is wanted: the transitions, the round trips. */
#define LG_WANT_TRANSITIONS 1
#define LG_WANT_ROUND_TRIPS 2

/* Bits of a transition. */
#define LG_SPENT_KNOWN 1 /* how long the socket was in the old state */
#define LG_OWNER_INHERITED 2 /* nobody has accepted it yet: the owner is the listener's */
#define LG_OWNER_OLDER 4 /* the socket is older than we */

/* Where each count of what went wrong stands. */
#define LG_COUNT_LOST 0 /* transitions: the ring was full */
#define LG_COUNT_TOLD 1
#define LG_COUNT_NO_ROOM 2 /* samples: too many histograms */
#define LG_COUNTS 3

#define LG_SLOTS_LOG2 32

struct lg_watch_config {
	__u64 netns; /* the cookie of the only namespace that is looked at; 0: all */
	__u32 by;
	__u32 want;
};

/* A socket changes its state. */
struct lg_transition {
	__u64 time;  /* CLOCK_MONOTONIC, ns */
	__u64 spent; /* ns in the old state */
	__u64 cookie;
	__u64 netns;
	__u32 pid;
	__u32 user;
	__u32 rtt; /* smoothed, µs; 0: none yet */
	__u16 local_port;
	__u16 remote_port;
	__u8 family; /* 4 or 6 */
	__u8 from;
	__u8 to;
	__u8 bits;
	__u8 local[16];
	__u8 remote[16];
	__u8 comm[16];
	__u32 pad;
};

struct lg_histogram_key {
	__u8 address[16];
	__u32 number; /* the port or the process */
	__u32 family;
};

/* Round trips, µs: slots[n] counts those from 2^n up to 2^(n+1). */
struct lg_histogram {
	__u64 count;
	__u64 sum;
	__u64 least;
	__u64 greatest;
	__u64 slots[32]; /* LG_SLOTS_LOG2 */
};

#endif
