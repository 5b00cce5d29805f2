/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What the kernel programs and user space share: records, tables, configuration.
 *
 * tools/gen_layout.py turns every struct and LG_ constant of this file into Python (kernel/layout_generated.py), so a
 * struct here uses only __u8 to __u64 (and arrays of them), most significant alignment first, padding spelt out.
 * Addresses are two 64-bit numbers in host order, high then low; an IPv4 address is the low one. Ports are in host order.
 */
#ifndef LAYERGATE_H
#define LAYERGATE_H

/* Fields: an index of `scalar` below LG_FIELD_ADDRESSES, an address from there on. */
#define LG_FIELD_IP_PROTOCOL 0
#define LG_FIELD_IP_LOCAL_PORT 1
#define LG_FIELD_IP_REMOTE_PORT 2
#define LG_FIELD_ALE_APP_ID 3
#define LG_FIELD_ALE_USER_ID 4
#define LG_FIELD_ALE_PACKAGE_ID 5
#define LG_FIELD_FLAGS 6
#define LG_FIELD_DIRECTION 7
#define LG_FIELD_INTERFACE_INDEX 8
#define LG_FIELD_REAUTHORIZE_REASON 9
#define LG_FIELD_ADDRESSES 10
#define LG_FIELD_IP_LOCAL_ADDRESS 10
#define LG_FIELD_IP_REMOTE_ADDRESS 11
#define LG_FIELD_COUNT 12

/* What a step of a table does: compile/steps.py has the layout, backends/plain.py the meaning. */
#define LG_OP_END 0
#define LG_OP_ROOT 1
#define LG_OP_CUT 2
#define LG_OP_SPLIT 3
#define LG_OP_LEAF 4
#define LG_OP_LIMIT 5
#define LG_OP_MATCH 6
#define LG_OP_ASK 7
#define LG_OP_IN 8
#define LG_OP_NOT_IN 9
#define LG_OP_MASKED 10
#define LG_OP_NOT_MASKED 11

#define LG_NO_CODE 0xffffffff
#define LG_CODE_BITS 2
#define LG_CODE_BLOCK 1
#define LG_CODE_HARD 2

/* The key of a table is the record itself, from its addresses to what is known: so many words of 32 bits. */
#define LG_KEY_KNOWN 18
#define LG_KEY_WORDS 19

/* Of one walk (compile/compiler.py: WALK_MAX); of one layer: a walk keeps a number each on the stack, which is full. */
#define LG_STEPS_MAX 131072
#define LG_SUBLAYERS_MAX 12
#define LG_LINE_BITS 3
#define LG_LINE_STEPS 8

#define LG_PERMIT 1
#define LG_BLOCK 2

#define LG_LAYERS 99
#define LG_LAYER_MASK 127
#define LG_SLOTS 2

/* What a version of the policy never asks: of a stream; of a packet at its socket; of a packet at its interface; of a
 * connection, once its call is made. */
#define LG_QUIET_STREAM 1
#define LG_QUIET_PACKETS 2
#define LG_QUIET_WIRE 4
#define LG_QUIET_FLOWS 8
#define LG_QUIET_KNOCKS 16 /* of a SYN that finds nobody */

/* Where packets of a socket are settled (settled.h). */
#define LG_SETTLED_OUT 0
#define LG_SETTLED_IN 1
#define LG_SETTLED_WIRE 2

#define LG_UNITS_DEEP 6

/* Sides of a flow. */
#define LG_CLIENT 0
#define LG_SERVER 1
#define LG_NO_SIDE 2

/* Kinds of record. */
#define LG_KIND_INDICATION 1
#define LG_KIND_FLOW 2
#define LG_KIND_DROP 3
#define LG_KIND_OWN_DROP 4
#define LG_KIND_CLOSED 5
#define LG_KIND_LIMIT 6
#define LG_KIND_REFUSED 7 /* a SYN that user space is to answer with RST */

/* What user space wants written to the ring. */
#define LG_EMIT_BLOCKS 1
#define LG_EMIT_ALL 2

/* Bits of a record. */
#define LG_BIT_REAUTHORIZE 1
#define LG_BIT_INBOUND 2
#define LG_BIT_V6 4
#define LG_BIT_NOBODY 8 /* nobody listens where it wants to get to */
#define LG_BIT_UNCOUNTED 16 /* decided again, and no limit counts it yet */

/* Bits of an owner. */
#define LG_OWNER_BIND_SEEN 1
#define LG_OWNER_ASSIGNED 2
#define LG_OWNER_CHILD 4
#define LG_OWNER_FLOWLESS 8 /* its connection has no flow yet: what is known of it is here */
#define LG_OWNER_LISTEN_DENIED 16
#define LG_OWNER_SEEDED 32

/* Owners without socket storage: as many as a mask bounds. A client's seat is left when neither holds it any more. */
#define LG_SEATS 32768
#define LG_SEAT_OPEN 1 /* its connection begins, or is there */
#define LG_SEAT_RELEASED 2 /* no file has the socket any more */

/* Bits of a side of a flow. */
#define LG_SIDE_OURS 1
#define LG_SIDE_AUTHORIZED 2
#define LG_SIDE_BLOCKED 4
#define LG_SIDE_CLOSED 8
#define LG_SIDE_NO_SOCKET 16
#define LG_SIDE_STEALTH 32
#define LG_SIDE_DISCARD_SHOWN 64
#define LG_SIDE_HAS_SOCKET 128
#define LG_SIDE_ASKED 256
#define LG_SIDE_TIME_WAIT 512

/* What is known of a side's stream. */
#define LG_STREAM_OUT_KNOWN 1
#define LG_STREAM_IN_KNOWN 2
#define LG_STREAM_ESTABLISHED 4
#define LG_STREAM_PENDING 8
#define LG_STREAM_FIN 16

/* Limits: of all layers; of one layer, as many as a word has bits; the parts of a sliding period. */
#define LG_LIMITS 63
#define LG_LIMITS_OF_LAYER 32
#define LG_LIMIT_ROWS 6336
#define LG_PARTS 64

/* What a limit counts. */
#define LG_COUNTED_CONCURRENT 1
#define LG_COUNTED_NEW 2
#define LG_COUNTED_HALF_OPEN 3
#define LG_COUNTED_LIVING 4 /* what an established connection does: user space looks; here only its bans hold */
#define LG_COUNTED_CLOSED 5
#define LG_COUNTED_PORTS 6
#define LG_COUNTED_REMOTES 7
#define LG_COUNTED_ABNORMAL 8

/* How many different ports or remotes of one key are remembered: no such limit is greater than one less. */
#define LG_THINGS 256

/* SYNs answered with RST a second, at most: a flood gets no flood back. */
#define LG_REFUSALS 1000

/* Over what. */
#define LG_PER_REMOTE_PREFIX 1
#define LG_PER_REMOTE_PREFIX_LOCAL_PORT 2
#define LG_PER_TUPLE 3
#define LG_PER_APP 4
#define LG_PER_UNIT 5
#define LG_PER_ALL 6

/* What is told of a limit. */
#define LG_TOLD_PAST 1
#define LG_TOLD_BANNED 2

/* Where each statistic stands. */
#define LG_STAT_LOST 0
#define LG_STAT_FLOWS_FULL 1
#define LG_STAT_EMITTED 2
#define LG_STAT_TABLE_FAULT 3
#define LG_STAT_UNTOLD 4
#define LG_STAT_UNCOUNTED 5
#define LG_STATS 6

#define LG_EXE_NAMES 24
#define LG_EXE_NAME_BYTES 96

struct lg_config {
	__u64 cgroup;       /* the cgroup that the programs are attached to */
	__u64 trace_cgroup; /* a cgroup of our own making: no unit of its own */
	__u64 netns;        /* tcx only: the cookie of the network namespace */
	__u32 cgroup_level;
	__u32 emit;
	__u32 interface; /* tcx only: all that passes, not only flows of the cgroup */
	__u32 iterates; /* the kernel has the open-coded iterator (6.4); else bpf_loop walks */
};

/* What was decided at one layer, and on which values. */
struct lg_record {
	__u64 time;
	__u64 cookie;
	__u64 flow;
	__u64 filter; /* DROP: where in the kernel */
	__u64 netns;
	__u64 exe_ino;
	__u64 cgroup;
	__u64 counted; /* bit per limit: what counts it, if it is permitted; LIMIT: when the ban ends, ns */
	__u64 address[4]; /* local high, local low, remote high, remote low */
	__u32 scalar[10];
	__u32 known; /* bit per field: what the layer has and the hook knows */
	__u32 exe_dev;
	__u32 pid;
	__u32 version;
	__u32 seq; /* LIMIT: the count */
	__u32 length; /* bytes of payload; LIMIT: what the count is compared with */
	__u16 layer;
	__u16 sublayer;
	__u16 error;
	__u8 kind;
	__u8 action;
	__u8 hard;
	__u8 side;
	__u8 tcp_flags;
	__u8 bits;
	__u32 count; /* of the limit behind the verdict, 0: none; in a walk: bit per limit of the layer, what was asked */
};

/* A step of a table. Behind the last step stand the rows, one a filter; the first step says where. */
struct lg_step {
	__u32 a;
	__u32 b;
	__u32 c;
	__u32 d; /* operation, word or sublayer, distance */
};

/* Steps are looked up eight at once: a call costs as much as taking a few of them. */
struct lg_line {
	struct lg_step step[8];
};

struct lg_row {
	__u64 filter;
	__u16 sublayer;
	__u16 error;
	__u8 action;
	__u8 hard;
	__u16 pad;
};

/* What one version of the policy is, apart from its tables. */
struct lg_header {
	__u32 version;
	__u32 app_top; /* no application that these tables name has a greater number; nor has a unit */
	__u32 unit_top;
	__u32 quiet; /* LG_QUIET_* */
	__u32 tables; /* where its own begin in lg_tables */
	__u32 layer_version[128]; /* by layer; as many as a mask bounds (LG_LAYER_MASK) */
	__u32 root[128]; /* the step that a walk begins at, 0: the layer has no filters */
};

struct lg_control {
	__u64 flows; /* the last flow number given */
	__u64 heartbeat; /* when user space was last seen, ns */
	__u32 active; /* the slot in force */
	__u32 seeded; /* whose the older sockets are is known by now */
	__u32 translated; /* NAT has rewritten packets of ours: aliases are worth a look */
	__u32 names; /* counts changes of lg_apps and lg_units; 0: they are empty */
	__u64 abnormal; /* bit per limit that counts what connections do that is not normal */
	__u64 refusing; /* the second (high 32 bits), how many SYNs were answered with RST in it */
	__u64 turn; /* what is in force: its lg_header.quiet (high 32 bits); counts what was (low), never 0, but while it changes */
};

struct lg_exe_key {
	__u64 ino;
	__u32 dev;
	__u32 pad;
};

/* The path of an executable, its last name first. */
struct lg_exe {
	__u32 count;
	__u32 complete;
	__u8 name[2304]; /* LG_EXE_NAMES names of LG_EXE_NAME_BYTES bytes */
};

/* Who owns a socket: recorded when it binds, listens or connects. */
struct lg_owner {
	__u64 cookie;
	__u64 exe_ino;
	__u64 cgroup;
	__u64 units[6]; /* ancestors of the cgroup, from level 1 */
	__u64 address[2]; /* local, for the release */
	__u64 filter; /* that decided the last call (AUTH_LISTEN, AUTH_CONNECT), or authorised its connection */
	__u64 counted; /* by the limits of AUTH_CONNECT, from the call until there is a flow */
	__u32 exe_dev;
	__u32 pid;
	__u32 user;
	__u32 bits;
	__u32 ale_version;
	__u32 names; /* lg_control.names when app and unit were looked up, 0: not yet */
	__u32 app; /* their numbers in the policy, 0: it does not name them */
	__u32 unit;
	__u32 settled[3]; /* by LG_SETTLED_*: the turn of the policy in which every packet passes, 0: none */
	__u32 settled_on[3]; /* the only interface on which they do, 0: any */
	__u32 interface; /* by which its packets come in, 0: none has */
	__u16 port;
	__u8 v6;
	__u8 ended; /* its connection has; whoever makes a flow of it meanwhile takes it back */
};

/* An owner without socket storage (seats.h), and what its socket would tell. */
struct lg_seat {
	struct lg_owner owner; /* whose cookie it is; 0: nobody's */
	__u64 netns;
	__u64 remote[2];
	__u32 life; /* LG_SEAT_* */
	__u32 left; /* when it was, in jiffies */
	__u16 remote_port;
	__u16 pad;
	__u32 established;
};

/* A flow by its ends, the lower one first: both directions have one key. */
struct lg_flow_key {
	__u64 netns;
	__u64 low[2];
	__u64 high[2];
	__u16 low_port;
	__u16 high_port;
	__u32 v6;
};

/* The flow that a tuple on the wire is, where NAT rewrote it, and which end of that tuple is the client's. */
struct lg_alias {
	struct lg_flow_key key;
	__u32 client_is_low;
	__u32 pad;
};

/* An address of the host itself: a connect to it is loopback, whatever its interface. */
struct lg_address {
	__u64 netns;
	__u64 address[2];
	__u32 v6;
	__u32 pad;
};

/* 64 bytes: a flow with both its sides is an element of 256 in its map, and one of few lines of memory. */
struct lg_side {
	__u64 cookie;
	__u64 filter; /* that authorised the flow, or blocked it */
	__u64 counted; /* bit per limit that counts this connection: what was added is taken away, whatever the policy is by then;
			* the highest: as half-open */
	__u64 app;
	__u64 unit;
	__u32 ale_version;
	__u32 next_out; /* the byte after the highest that was sent */
	__u32 next_in;
	__u32 pending; /* bytes that came before the flow was established */
	__u32 interface;
	__u16 bits;
	__u8 stream; /* LG_STREAM_* */
	__u8 blocked_at; /* the layer that blocked the flow */
};

/* What is remembered of a flow. */
struct lg_flow {
	__u64 id;
	__u64 changed; /* when it last opened or closed, ns */
	__u32 isn;
	__u16 own_drops;
	__u8 client_is_low;
	__u8 pad;
	struct lg_side side[2];
};

/* A limit, as long as its filter is in some policy in force. */
struct lg_limit {
	__u64 identity; /* of filter and limit: finds it again in another run; 0: none */
	__u64 part_ns; /* a part of the period */
	__u64 ban_ns;
	__u64 ban_ns_max; /* doubled up to here; 0: not */
	__u64 filter;
	__u32 limit;
	__u32 keys; /* with a live connection, of a fair limit */
	__u32 each; /* ABNORMAL: what one connection may do within the period */
	__u32 connections; /* ABNORMAL: how many may be past that; 0: none */
	__u8 counted;
	__u8 per;
	__u8 prefix_v4;
	__u8 prefix_v6;
	__u8 fair; /* LG_PER_*, 0: not fair */
	__u8 fair_v4;
	__u8 fair_v6;
	__u8 monitor;
};

/* A filter with a limit, of one layer of one slot of the policy. */
struct lg_limit_row {
	__u32 code;
	__u16 sublayer; /* of the table */
	__u16 limit; /* its place in lg_limits */
};

struct lg_count_key {
	__u64 address[4];
	__u32 limit;
	__u16 local_port;
	__u16 remote_port;
	__u32 fair;
	__u32 pad;
};

/* What a key counts. A part: which one of the period (high 32 bits, a running number), how many (low 32). */
struct lg_count {
	__u64 told; /* when it was last told that it is past, ns */
	__u32 established; /* both less than none for a moment, where an end overtakes its begin */
	__u32 half_open;
	__u32 idle; /* by the last sweep it had no connection, and has had none since */
	__u32 pad;
	__u64 part[64];
};

/* What a key tried within the period: a hash of it (high 32 bits), the part of the period in which it did last (low). */
struct lg_tried {
	__u64 told;
	__u64 thing[256]; /* LG_THINGS */
};

struct lg_ban {
	__u64 began;
	__u64 until;
	__u32 repeats;
	__u32 pad;
};

/* What a sweep is told, and tells. */
struct lg_sweep {
	__u64 closed_ns; /* a closed flow is kept so long */
	__u64 waiting_ns; /* one that left a TIME_WAIT */
	__u64 opening_ns; /* one that was never established */
	__u64 asking_ns; /* a handshake that the kernel does not list */
	__u32 round; /* the value of the requests that it lists now */
	__u32 flows;
	__u32 keys;
	__u32 pad;
};

/* A connection, and the filter that authorised it. */
struct lg_authorised {
	__u64 cookie;
	__u64 filter;
};

struct lg_reset {
	__u64 netns;
	__u64 local[2];
	__u64 remote[2];
	__u16 local_port;
	__u16 remote_port;
	__u32 v6;
	__u32 pid; /* of the owner: its network namespace is the socket's, mostly */
	__u32 pad;
};

#endif
