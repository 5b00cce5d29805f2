/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What limits count, by key: connections, and what happened within a period. A key with an established connection lives in
 * lg_live, which evicts nothing; any other in lg_recent.
 *
 * A period is a ring of 64 parts, each with the running number of the part it is of: an old one is not counted. So a
 * period is forgotten by 64ths, the current part included: the window is between 63 and 64 parts long.
 */
#ifndef LAYERGATE_COUNTS_H
#define LAYERGATE_COUNTS_H

#include "maps.h"

#define LG_ADD_HALF_OPEN 1
#define LG_ADD_ESTABLISHED 2
#define LG_OPEN 3
#define LG_END_HALF_OPEN 4
#define LG_END_ESTABLISHED 5

/* In place of `fair`: a count of one connection. */
#define LG_OF_CONNECTION 2

/* The ends of a connection, as its own host names them. */
struct lg_ends {
	__u64 local[2];
	__u64 remote[2];
	__u64 app;
	__u64 unit;
	__u16 local_port;
	__u16 remote_port;
	__u8 v6;
};

/* What a judgement needs and the stack has no room for. Several a CPU: one may interrupt another. */
struct lg_scratch {
	__u32 busy;
	__u32 pad;
	volatile __u64 now;
	volatile __u64 until;
	volatile __u32 found;
	volatile __u32 allowed;
	volatile __u32 place;
	volatile __u32 oldest;
	volatile __u32 has;
	__u32 pad2;
	struct lg_count_key key;
	struct lg_ends ends;
	struct lg_ban ban;
};

#define LG_SCRATCHES 8

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LG_SCRATCHES);
	__type(key, __u32);
	__type(value, struct lg_scratch);
} lg_scratches SEC(".maps");

static __always_inline struct lg_scratch *take_scratch(void)
{
	struct lg_scratch *scratch;

#pragma clang loop unroll(disable)
	for (__u32 number = 0; number < LG_SCRATCHES; number++) {
		__u32 place = number;

		scratch = bpf_map_lookup_elem(&lg_scratches, &place);
		if (scratch && !__sync_lock_test_and_set(&scratch->busy, 1)) {
			__builtin_memset(&scratch->key, 0, sizeof(scratch->key));
			return scratch;
		}
	}
	count(LG_STAT_TABLE_FAULT);
	return 0;
}

static __always_inline void give_back(struct lg_scratch *scratch)
{
	*(volatile __u32 *)&scratch->busy = 0;
}

static __always_inline __u64 masked(__u64 word, int bits)
{
	return bits <= 0 ? 0 : bits >= 64 ? word : word & ~0ULL << (64 - bits);
}

static __always_inline void key_for(struct lg_count_key *key, const struct lg_limit *limit, __u32 number,
				    const struct lg_ends *ends, int fair)
{
	__u8 per = fair ? limit->fair : limit->per, bits;

	key->limit = number;
	key->fair = fair;
	if (per == LG_PER_APP) {
		key->address[2] = ends->app;
	} else if (per == LG_PER_UNIT) {
		key->address[2] = ends->unit;
	} else if (per == LG_PER_TUPLE) {
		key->address[0] = ends->local[0];
		key->address[1] = ends->local[1];
		key->address[2] = ends->remote[0];
		key->address[3] = ends->remote[1];
		key->local_port = ends->local_port;
		key->remote_port = ends->remote_port;
	} else if (per != LG_PER_ALL) {
		if (ends->v6) {
			bits = fair ? limit->fair_v6 : limit->prefix_v6;
			key->address[2] = masked(ends->remote[0], bits);
			key->address[3] = masked(ends->remote[1], bits - 64);
		} else {
			bits = fair ? limit->fair_v4 : limit->prefix_v4;
			key->address[3] = masked(ends->remote[1] << 32, bits) >> 32;
		}
		if (per == LG_PER_REMOTE_PREFIX_LOCAL_PORT)
			key->local_port = ends->local_port;
	}
}

static __always_inline void ends_of_record(struct lg_ends *ends, const struct lg_record *r)
{
	ends->local[0] = r->address[0];
	ends->local[1] = r->address[1];
	ends->remote[0] = r->address[2];
	ends->remote[1] = r->address[3];
	ends->app = r->exe_ino;
	ends->unit = r->cgroup;
	ends->local_port = r->scalar[LG_FIELD_IP_LOCAL_PORT];
	ends->remote_port = r->scalar[LG_FIELD_IP_REMOTE_PORT];
	ends->v6 = r->bits & LG_BIT_V6;
}

/* What the parts of the period hold. */
__noinline __u32 within(const struct lg_count *count, __u64 part)
{
	__u32 sum = 0;

	if (!count)
		return 0;
#pragma clang loop unroll(disable)
	for (int place = 0; place < LG_PARTS; place++) {
		__u64 one = count->part[place];

		if ((__u32)part - (__u32)(one >> 32) < LG_PARTS)
			sum += (__u32)one;
	}
	return sum;
}

__noinline int add_to_part(struct lg_count *count, __u64 part)
{
	__u64 *place, one;

	if (!count)
		return 0;
	place = &count->part[part & (LG_PARTS - 1)];
	for (int tries = 0; tries < 8; tries++) {
		one = *(volatile __u64 *)place;
		if ((__u32)(one >> 32) == (__u32)part) {
			__sync_fetch_and_add(place, 1);
			return 1;
		}
		if (__sync_val_compare_and_swap(place, one, part << 32 | 1) == one)
			return 1;
	}
	return 0;
}

static __always_inline struct lg_count *make_count(void *map, const struct lg_count_key *key)
{
	struct lg_count *none;
	__u32 zero = 0;

	none = bpf_map_lookup_elem(&lg_no_count, &zero);
	if (!none)
		return 0;
	bpf_map_update_elem(map, key, none, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

static __always_inline struct lg_count *find_count(const struct lg_count_key *key)
{
	struct lg_count *count = bpf_map_lookup_elem(&lg_live, key);

	return count ? count : bpf_map_lookup_elem(&lg_recent, key);
}

/* The count of a key, which need not have a connection. */
static __always_inline struct lg_count *recent_count(const struct lg_count_key *key)
{
	struct lg_count *count = find_count(key);

	return count ? count : make_count(&lg_recent, key);
}

/* Take the parts of one count over into another: each is taken once, whoever else is at it. */
__noinline int take_parts(struct lg_count *to, struct lg_count *from)
{
	__u64 one, have;

	if (!to || !from)
		return 0;
#pragma clang loop unroll(disable)
	for (int place = 0; place < LG_PARTS; place++) {
		if (!(__u32)from->part[place])
			continue;
		one = __sync_lock_test_and_set(&from->part[place], 0);
		have = to->part[place];
		if (one >> 32 == have >> 32)
			__sync_fetch_and_add(&to->part[place], (__u32)one);
		else if ((__s32)((__u32)(one >> 32) - (__u32)(have >> 32)) > 0)
			__sync_val_compare_and_swap(&to->part[place], have, one);
	}
	return 1;
}

/* What was counted of a live key among the recent ones comes to it, also what another processor counted there when the key
 * was not live yet. */
static __always_inline void bring(struct lg_count *live, const struct lg_count_key *key)
{
	struct lg_count *recent = bpf_map_lookup_elem(&lg_recent, key);

	if (!recent)
		return;
	take_parts(live, recent);
	__sync_fetch_and_add(&live->half_open, __sync_lock_test_and_set(&recent->half_open, 0));
	bpf_map_delete_elem(&lg_recent, key);
}

/* The key has an established connection from now on: what was counted of it moves to where nothing is evicted. */
static __always_inline struct lg_count *keep(const struct lg_count_key *key)
{
	struct lg_count *live = bpf_map_lookup_elem(&lg_live, key);

	if (live)
		return live;
	live = make_count(&lg_live, key);
	if (live)
		bring(live, key);
	else
		count(LG_STAT_UNCOUNTED);
	return live;
}

/* A number that may be less than none for a moment: what ends on one processor may overtake its begin on another. */
static __always_inline __u32 at_least_none(__u32 number)
{
	return (__s32)number > 0 ? number : 0;
}

/* How many connections the key has. */
static __always_inline __u32 connections_of(const struct lg_count *count)
{
	return at_least_none(count->established) + at_least_none(count->half_open);
}

/* One less, where there is one: what was counted may have been evicted meanwhile. */
static __always_inline int take_one(__u32 *number)
{
	__u32 before = __sync_fetch_and_add(number, -1);

	if (!before)
		__sync_fetch_and_add(number, 1);
	return before;
}

static __always_inline void change(struct lg_limit *limit, const struct lg_count_key *key, __u32 what, int is_new)
{
	struct lg_count *count, *live;
	__u32 before = 0;

	if (what == LG_OPEN || what == LG_ADD_ESTABLISHED) {
		live = keep(key);
		count = live ? live : recent_count(key);
		if (!count)
			return;
		count->idle = 0;
		before = __sync_fetch_and_add(&count->established, 1);
		if (what == LG_OPEN)
			before += live ? __sync_fetch_and_add(&live->half_open, -1) : take_one(&count->half_open);
	} else if (what == LG_ADD_HALF_OPEN) {
		count = recent_count(key);
		if (!count)
			return;
		count->idle = 0;
		before = __sync_fetch_and_add(&count->half_open, 1) + count->established;
	} else {
		live = bpf_map_lookup_elem(&lg_live, key);
		count = live ? live : bpf_map_lookup_elem(&lg_recent, key);
		if (!count)
			return;
		if (what == LG_END_ESTABLISHED)
			before = __sync_fetch_and_add(&count->established, -1);
		else
			before = live ? __sync_fetch_and_add(&live->half_open, -1) : take_one(&count->half_open);
		if (key->fair && before == 1 && !count->established && !count->half_open)
			take_one(&limit->keys);
		return;
	}
	if (key->fair && !before)
		__sync_fetch_and_add(&limit->keys, 1);
	if (is_new && limit->part_ns)
		add_to_part(count, bpf_ktime_get_ns() / limit->part_ns);
}

/* One limit counts `what` of a connection. */
__noinline int count_one(struct lg_record *r, __u32 number, __u32 what)
{
	struct lg_scratch *scratch;
	struct lg_limit *limit;

	if (!r)
		return 0;
	limit = bpf_map_lookup_elem(&lg_limits, &number);
	if (!limit || limit->counted > LG_COUNTED_HALF_OPEN)
		return 0;
	scratch = take_scratch();
	if (!scratch)
		return 0;
	ends_of_record(&scratch->ends, r);
	key_for(&scratch->key, limit, number, &scratch->ends, 0);
	change(limit, &scratch->key, what, what == LG_ADD_HALF_OPEN);
	if (limit->fair) {
		__builtin_memset(&scratch->key, 0, sizeof(scratch->key));
		key_for(&scratch->key, limit, number, &scratch->ends, 1);
		change(limit, &scratch->key, what, 0);
	}
	give_back(scratch);
	return 0;
}

/* Every limit in `counted` counts `what` of the record's connection. */
__noinline int count_all(struct lg_record *r, __u64 counted, __u32 what)
{
	if (!r)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 number = 0; number < LG_LIMITS; number++) {
		if (counted >> number & 1)
			count_one(r, number, what);
	}
	return 0;
}

#endif
