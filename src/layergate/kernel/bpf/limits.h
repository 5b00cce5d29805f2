/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Limits: what is counted, and whether it is past.
 *
 * A walk notes which limits were asked; `judge_one` says of each whether its key is past it. What is permitted is then
 * counted, once, by every limit that was asked: the bits stay with the flow (lg_side.counted), so that what was added is
 * what is taken away. A key with an established connection lives in lg_live, which evicts nothing; any other in
 * lg_recent.
 *
 * What a key tried (ports, remotes) is remembered one by one, up to LG_THINGS things; what one connection does that is not
 * normal is counted under a key of its own (LG_OF_CONNECTION), and may count for the limit's key in turn.
 *
 * A period is a ring of 64 parts, each with the running number of the part it is of: an old one is not counted. So a
 * period is forgotten by 64ths, the current part included: the window is between 63 and 64 parts long.
 */
#ifndef LAYERGATE_LIMITS_H
#define LAYERGATE_LIMITS_H

#include "maps.h"

#define LG_TELL_AGAIN_NS 1000000000ULL
#define LG_SHIFT_MAX 40

#define LG_ADD_HALF_OPEN 1
#define LG_ADD_ESTABLISHED 2
#define LG_OPEN 3
#define LG_END_HALF_OPEN 4
#define LG_END_ESTABLISHED 5

/* In place of `fair`: a count of one connection. */
#define LG_OF_CONNECTION 2

/* By sublayer: the least code that matched. */
struct lg_codes {
	__u32 code[LG_SUBLAYERS_MAX];
};

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
	__u32 which;
	volatile __u64 now;
	volatile __u64 until;
	volatile __u32 found;
	volatile __u32 allowed;
	volatile __u32 place;
	volatile __u32 oldest;
	volatile __u32 has;
	__u32 pad;
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

static __always_inline void count_fault(void)
{
	__u32 what = LG_STAT_TABLE_FAULT;
	__u64 *value = bpf_map_lookup_elem(&lg_stats, &what);

	if (value)
		*value += 1;
}

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
	count_fault();
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
	if (live) {
		bring(live, key);
	} else {
		__u32 what = LG_STAT_UNCOUNTED;
		__u64 *value = bpf_map_lookup_elem(&lg_stats, &what);

		if (value)
			*value += 1;
	}
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
		before = __sync_fetch_and_add(&count->established, 1);
		if (what == LG_OPEN)
			before += live ? __sync_fetch_and_add(&live->half_open, -1) : take_one(&count->half_open);
	} else if (what == LG_ADD_HALF_OPEN) {
		count = recent_count(key);
		if (!count)
			return;
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

/* Tell what happened at a limit, with the values of the record that asked. */
static __always_inline void tell_limit(const struct lg_record *r, __u64 filter, __u8 action, __u32 count, __u32 limit,
				       __u64 until)
{
	struct lg_record *told = bpf_ringbuf_reserve(&lg_events, sizeof(*told), 0);

	if (!told) {
		__u32 what = LG_STAT_LOST;
		__u64 *value = bpf_map_lookup_elem(&lg_stats, &what);

		if (value)
			*value += 1;
		return;
	}
	__builtin_memcpy(told, r, sizeof(*told));
	told->kind = LG_KIND_LIMIT;
	told->filter = filter;
	told->action = action;
	told->seq = count;
	told->length = limit;
	told->counted = until;
	told->time = bpf_ktime_get_ns();
	bpf_ringbuf_submit(told, 0);
}

static __always_inline __u64 ban_until(const struct lg_limit *limit, struct lg_scratch *scratch, __u64 now)
{
	struct lg_ban *before = bpf_map_lookup_elem(&lg_bans, &scratch->key), *ban = &scratch->ban;
	__u64 length = limit->ban_ns;

	ban->repeats = 0;
	/* Who stayed away for as long as he was banned is no repeater. */
	if (before && now - before->until < before->until - before->began)
		ban->repeats = before->repeats + 1;
	if (limit->ban_ns_max) {
		length <<= ban->repeats < 20 ? ban->repeats : 20;
		if (length > limit->ban_ns_max)
			length = limit->ban_ns_max;
	}
	ban->began = now;
	ban->until = now + length;
	bpf_map_update_elem(&lg_bans, &scratch->key, ban, BPF_ANY);
	return ban->until;
}

static __always_inline __u32 mixed(__u64 seed, __u64 a, __u64 b, __u32 c)
{
	seed = (seed ^ a) * 0x9e3779b97f4a7c15ULL;
	seed = (seed ^ seed >> 32 ^ b) * 0x9e3779b97f4a7c15ULL;
	seed = (seed ^ seed >> 32 ^ c) * 0x9e3779b97f4a7c15ULL;
	return seed >> 32;
}

/* A look at what a key has tried, place by place. */
struct lg_look {
	struct lg_tried *tried;
	struct lg_scratch *scratch;
	__u32 thing;
	__u32 part;
};

static long look_at(__u32 place, struct lg_look *look)
{
	struct lg_scratch *scratch = look->scratch;
	__u64 one = look->tried->thing[place & (LG_THINGS - 1)];
	__u32 age = one ? look->part - (__u32)one : LG_PARTS;

	if (age < LG_PARTS)
		scratch->found += 1;
	if (age < LG_PARTS && one >> 32 == look->thing) {
		scratch->place = place;
		scratch->has = 1;
		scratch->oldest = ~0U;
	} else if (age >= scratch->oldest) {
		scratch->place = place;
		scratch->oldest = age > LG_PARTS ? LG_PARTS : age;
	}
	return 0;
}

/* How many different things the scratch's key has tried within the period, in `found`, with that of the scratch's ends.
 * Where there is no place for it, that of the oldest is taken. */
static __always_inline struct lg_tried *note_tried(const struct lg_limit *limit, struct lg_scratch *scratch)
{
	struct lg_look look = {.scratch = scratch};
	struct lg_tried *none;
	__u32 zero = 0;

	if (!limit->part_ns)
		return 0;
	look.tried = bpf_map_lookup_elem(&lg_tried, &scratch->key);
	if (!look.tried) {
		none = bpf_map_lookup_elem(&lg_none_tried, &zero);
		if (!none)
			return 0;
		bpf_map_update_elem(&lg_tried, &scratch->key, none, BPF_NOEXIST);
		look.tried = bpf_map_lookup_elem(&lg_tried, &scratch->key);
		if (!look.tried)
			return 0;
	}
	look.part = scratch->now / limit->part_ns;
	look.thing = scratch->ends.local_port;
	if (limit->counted == LG_COUNTED_REMOTES)
		look.thing = mixed(limit->identity, scratch->ends.remote[0], scratch->ends.remote[1],
				   scratch->ends.remote_port);
	scratch->place = 0;
	scratch->oldest = 0;
	scratch->has = 0;
	bpf_loop(LG_THINGS, look_at, &look, 0);
	if (!scratch->has && scratch->found < LG_THINGS)
		scratch->found += 1;
	look.tried->thing[scratch->place & (LG_THINGS - 1)] = (__u64)look.thing << 32 | look.part;
	return look.tried;
}

/* What the limit has counted for the record's key, in `found`. Returns where it is kept when the key was last told of. */
static __always_inline __u64 *find_out(const struct lg_record *r, const struct lg_limit *limit,
				       struct lg_scratch *scratch)
{
	__u32 fresh = !(r->bits & LG_BIT_REAUTHORIZE), counted = limit->counted;
	struct lg_tried *tried;
	struct lg_count *count;
	__u64 part = limit->part_ns ? scratch->now / limit->part_ns : 0;

	scratch->found = 0;
	if (counted == LG_COUNTED_LIVING)
		return 0;
	if (counted == LG_COUNTED_PORTS || counted == LG_COUNTED_REMOTES) {
		tried = note_tried(limit, scratch);
		return tried ? &tried->told : 0;
	}
	count = find_count(&scratch->key);
	if (!count && r->bits & LG_BIT_NOBODY)
		count = make_count(&lg_recent, &scratch->key);
	if (counted == LG_COUNTED_CLOSED && count && r->bits & LG_BIT_NOBODY && limit->part_ns)
		add_to_part(count, part);
	if (count) {
		if (counted == LG_COUNTED_HALF_OPEN)
			scratch->found = at_least_none(count->half_open);
		else if (counted == LG_COUNTED_CONCURRENT)
			scratch->found = connections_of(count);
		else
			scratch->found = limit->part_ns ? within(count, part) : 0;
	}
	if (counted == LG_COUNTED_ABNORMAL && !limit->connections)
		scratch->found = 0;
	/* A connection that is decided again is counted already, or is one that was there before us. */
	if (counted <= LG_COUNTED_HALF_OPEN) {
		if (fresh)
			scratch->found += 1;
		else if (counted != LG_COUNTED_CONCURRENT)
			scratch->found = 0;
		else if (r->bits & LG_BIT_UNCOUNTED)
			scratch->found += 1;
	}
	return count ? &count->told : 0;
}

/* Whether the record's key is past the limit; then the row's filter matches. */
static __always_inline void judge_with(struct lg_record *r, struct lg_limit_row *row, struct lg_limit *limit,
				       struct lg_scratch *scratch, struct lg_codes *codes)
{
	struct lg_count *count;
	struct lg_ban *ban;
	__u64 *told;

	scratch->now = bpf_ktime_get_ns();
	scratch->until = 0;
	scratch->allowed = limit->limit;
	ends_of_record(&scratch->ends, r);
	key_for(&scratch->key, limit, row->limit, &scratch->ends, 0);
	told = find_out(r, limit, scratch);
	if (limit->ban_ns) {
		ban = bpf_map_lookup_elem(&lg_bans, &scratch->key);
		if (ban && scratch->now < ban->until)
			scratch->until = ban->until;
	}
	if (scratch->found <= scratch->allowed && !scratch->until)
		return;
	if (limit->fair) {
		__u32 keys = limit->keys;

		__builtin_memset(&scratch->key, 0, sizeof(scratch->key));
		key_for(&scratch->key, limit, row->limit, &scratch->ends, 1);
		count = find_count(&scratch->key);
		told = count ? &count->told : 0;
		scratch->found = count ? connections_of(count) : 0;
		/* A key that has none yet is one more that shares. */
		keys += !scratch->found;
		scratch->found += !(r->bits & LG_BIT_REAUTHORIZE);
		if (keys)
			scratch->allowed /= keys;
		if (scratch->found <= scratch->allowed)
			return;
	}
	if (!scratch->until && limit->ban_ns && !limit->monitor) {
		scratch->until = ban_until(limit, scratch, scratch->now);
		tell_limit(r, limit->filter, LG_TOLD_BANNED, scratch->found, scratch->allowed, scratch->until);
	} else if (!scratch->until && told && scratch->now - *told > LG_TELL_AGAIN_NS) {
		*told = scratch->now;
		tell_limit(r, limit->filter, LG_TOLD_PAST, scratch->found, scratch->allowed, 0);
	}
	if (limit->monitor || row->sublayer >= LG_SUBLAYERS_MAX)
		return;
	r->count = scratch->found ? scratch->found : 1;
	codes->code[row->sublayer] = row->code;
}

/* Judge the limit of the row `number`. */
__noinline int judge_one(struct lg_record *r, __u32 number, struct lg_codes *codes)
{
	struct lg_scratch *scratch;
	struct lg_limit_row *row;
	struct lg_limit *limit;
	__u32 which;

	if (!r || !codes)
		return 0;
	row = bpf_map_lookup_elem(&lg_limit_rows, &number);
	if (!row || row->sublayer >= LG_SUBLAYERS_MAX || row->code >= codes->code[row->sublayer])
		return 0;
	which = row->limit;
	limit = bpf_map_lookup_elem(&lg_limits, &which);
	if (!limit)
		return 0;
	/* Where nobody listens nothing begins: that it was tried is all that counts. */
	if (r->bits & LG_BIT_NOBODY && limit->counted != LG_COUNTED_CLOSED && limit->counted != LG_COUNTED_PORTS)
		return 0;
	scratch = take_scratch();
	if (!scratch)
		return 0;
	r->counted |= 1ULL << (which & 63);
	judge_with(r, row, limit, scratch, codes);
	give_back(scratch);
	return 0;
}

/* The peer of the record's connection did something that is not normal, and the limit `number` counts that. Returns
 * whether the connection is past it by that. */
__noinline int count_abnormal(struct lg_record *r, __u32 number)
{
	struct lg_scratch *scratch;
	struct lg_limit *limit;
	struct lg_count *count;
	__u64 part;
	int past = 0;

	if (!r)
		return 0;
	limit = bpf_map_lookup_elem(&lg_limits, &number);
	if (!limit || limit->counted != LG_COUNTED_ABNORMAL || !limit->part_ns)
		return 0;
	scratch = take_scratch();
	if (!scratch)
		return 0;
	scratch->now = bpf_ktime_get_ns();
	part = scratch->now / limit->part_ns;
	ends_of_record(&scratch->ends, r);
	scratch->key.limit = number;
	scratch->key.fair = LG_OF_CONNECTION;
	__builtin_memcpy(scratch->key.address, r->address, sizeof(scratch->key.address));
	scratch->key.local_port = scratch->ends.local_port;
	scratch->key.remote_port = scratch->ends.remote_port;
	count = recent_count(&scratch->key);
	if (!count)
		goto out;
	add_to_part(count, part);
	scratch->found = within(count, part);
	scratch->allowed = limit->each;
	/* Past it once, not with everything that comes after. */
	if (scratch->found <= scratch->allowed ||
	    (count->told && scratch->now - count->told < limit->part_ns * LG_PARTS))
		goto out;
	count->told = scratch->now;
	__builtin_memset(&scratch->key, 0, sizeof(scratch->key));
	key_for(&scratch->key, limit, number, &scratch->ends, 0);
	if (limit->connections) {
		count = recent_count(&scratch->key);
		if (!count)
			goto out;
		add_to_part(count, part);
		scratch->found = within(count, part);
		scratch->allowed = limit->connections;
		if (scratch->found <= scratch->allowed)
			goto out;
	}
	past = !limit->monitor;
	if (limit->ban_ns && !limit->monitor) {
		scratch->until = ban_until(limit, scratch, scratch->now);
		tell_limit(r, limit->filter, LG_TOLD_BANNED, scratch->found, scratch->allowed, scratch->until);
	} else {
		tell_limit(r, limit->filter, LG_TOLD_PAST, scratch->found, scratch->allowed, 0);
	}
	if (past)
		r->filter = limit->filter;
out:
	give_back(scratch);
	return past;
}

/* Whether a SYN that a limit refuses is to be answered: a flood gets no flood back. */
static __always_inline int may_refuse(struct lg_control *control)
{
	__u64 second = bpf_ktime_get_ns() / 1000000000ULL, before = *(volatile __u64 *)&control->refusing;

	if (before >> 32 != (__u32)second) {
		if (__sync_val_compare_and_swap(&control->refusing, before, second << 32 | 1) == before)
			return 1;
	}
	return (__u32)__sync_fetch_and_add(&control->refusing, 1) < LG_REFUSALS;
}

#endif
