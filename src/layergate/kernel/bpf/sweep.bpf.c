/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What is forgotten: flows that ended, handshakes that never did, keys without a connection. Run by user space, each
 * second: a flood fills the tables faster than they could be read there.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "flow.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct sweep {
	struct lg_sweep asked;
	__u64 now;
};

/* The side of a flow is counted no more; `side` is the one whose socket is, or would be, ours. */
__noinline int end_side(struct lg_flow_key *key, struct lg_flow *flow, __u32 side)
{
	struct lg_packet packet = {};
	struct lg_held *held;
	int low;

	if (!key || !flow)
		return 0;
	/* As the side itself would send it. */
	low = (side == LG_CLIENT) == (flow->client_is_low != 0);
	packet.source[0] = low ? key->low[0] : key->high[0];
	packet.source[1] = low ? key->low[1] : key->high[1];
	packet.source_port = low ? key->low_port : key->high_port;
	packet.destination[0] = low ? key->high[0] : key->low[0];
	packet.destination[1] = low ? key->high[1] : key->low[1];
	packet.destination_port = low ? key->high_port : key->low_port;
	packet.v6 = key->v6;
	held = hold_record();
	if (!held)
		return 0;
	begin_packet(&held->r, &packet, flow, side, 0, key->netns, 0);
	recount(&held->r, flow, side, LG_END_ESTABLISHED);
	let_go(held);
	return 0;
}

static __always_inline int is_over(const struct lg_side *side)
{
	return !(side->bits & LG_SIDE_OURS) || side->bits & LG_SIDE_CLOSED;
}

static long sweep_flow(void *map, struct lg_flow_key *key, struct lg_flow *flow, struct sweep *sweep)
{
	struct lg_side *client = &flow->side[0], *server = &flow->side[1];
	/* One that has begun since the sweep did is new, not very old. */
	__u64 age = flow->changed < sweep->now ? sweep->now - flow->changed : 0, kept;
	struct lg_flow_key copy = *key;
	__u32 *seen;
	int opened;

	sweep->asked.flows++;
	/* A handshake of which the kernel knows nothing any more: given up, or answered by a cookie. If its last segment
	 * comes all the same, the flow begins then, and is counted as one that was there before. */
	if (server->counted & HALF_OPEN && age > sweep->asked.asking_ns) {
		seen = bpf_map_lookup_elem(&lg_requests, &copy);
		if (!seen || *seen != sweep->asked.round) {
			end_side(&copy, flow, LG_SERVER);
			if (!(client->bits & LG_SIDE_OURS)) {
				bpf_map_delete_elem(&lg_flows, &copy);
				return 0;
			}
		}
	}
	kept = (client->bits | server->bits) & LG_SIDE_TIME_WAIT ? sweep->asked.waiting_ns : sweep->asked.closed_ns;
	opened = (client->stream | server->stream) & LG_STREAM_ESTABLISHED;
	if ((is_over(client) && is_over(server) && age > kept) || (!opened && age > sweep->asked.opening_ns)) {
		if (server->counted)
			end_side(&copy, flow, LG_SERVER);
		if (client->counted)
			end_side(&copy, flow, LG_CLIENT);
		bpf_map_delete_elem(&lg_flows, &copy);
	}
	return 0;
}

/* A key whose last connection has ended lives on among those that may be evicted. What was counted of it meanwhile, by
 * another processor, is brought after; half-open ones that were evicted before the key was live are written off.
 *
 * What another processor counts just as the key moves may be lost. So only a key moves of which nothing was counted since
 * the last sweep: one that is busy is never caught between two connections. */
static long sweep_key(void *map, struct lg_count_key *key, struct lg_count *count, struct sweep *sweep)
{
	struct lg_count_key copy = *key;
	struct lg_count *recent, *live;
	__u32 established, half_open;

	sweep->asked.keys++;
	bring(count, &copy);
	half_open = count->half_open;
	if ((__s32)half_open < 0)
		__sync_val_compare_and_swap(&count->half_open, half_open, 0);
	if (count->established || count->half_open)
		return 0;
	if (!count->idle) {
		count->idle = 1;
		return 0;
	}
	recent = make_count(&lg_recent, &copy);
	if (!recent)
		return 0;
	/* Not its connections: what is counted of it meanwhile is brought below. */
	take_parts(recent, count);
	recent->told = count->told;
	bpf_map_delete_elem(&lg_live, &copy);
	established = __sync_lock_test_and_set(&count->established, 0);
	half_open = __sync_lock_test_and_set(&count->half_open, 0);
	if (!established && !half_open)
		return 0;
	live = keep(&copy);
	if (live) {
		__sync_fetch_and_add(&live->established, established);
		__sync_fetch_and_add(&live->half_open, half_open);
	}
	return 0;
}

SEC("syscall")
int lg_sweep(struct lg_sweep *asked)
{
	struct sweep sweep = {.now = bpf_ktime_get_ns()};

	/* By member: a context is read at fixed places only. */
	sweep.asked.closed_ns = asked->closed_ns;
	sweep.asked.waiting_ns = asked->waiting_ns;
	sweep.asked.opening_ns = asked->opening_ns;
	sweep.asked.asking_ns = asked->asking_ns;
	sweep.asked.round = asked->round;
	bpf_for_each_map_elem(&lg_flows, sweep_flow, &sweep, 0);
	bpf_for_each_map_elem(&lg_live, sweep_key, &sweep, 0);
	asked->flows = sweep.asked.flows;
	asked->keys = sweep.asked.keys;
	return 0;
}
