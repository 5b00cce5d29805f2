/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Limits: whether what is counted (counts.h) is past.
 *
 * A walk notes which limits were asked; `judge_one` says of each whether its key is past it. What is permitted is then
 * counted, once, by every limit that was asked: the bits stay with the flow (lg_side.counted), so that what was added is
 * what is taken away.
 *
 * What a key tried (ports, remotes) is remembered one by one, up to LG_THINGS things; what one connection does that is not
 * normal is counted under a key of its own (LG_OF_CONNECTION), and may count for the limit's key in turn.
 */
#ifndef LAYERGATE_LIMITS_H
#define LAYERGATE_LIMITS_H

#include "counts.h"

#define LG_TELL_AGAIN_NS 1000000000ULL

/* By sublayer: the least code that matched. */
struct lg_codes {
	__u32 code[LG_SUBLAYERS_MAX];
};

/* Tell what happened at a limit, with the values of the record that asked. */
static __always_inline void tell_limit(const struct lg_record *r, __u64 filter, __u8 action, __u32 found, __u32 limit,
				       __u64 until)
{
	struct lg_record *told = bpf_ringbuf_reserve(&lg_events, sizeof(*told), 0);

	if (!told) {
		count(LG_STAT_LOST);
		return;
	}
	__builtin_memcpy(told, r, sizeof(*told));
	told->kind = LG_KIND_LIMIT;
	told->filter = filter;
	told->action = action;
	told->seq = found;
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
static __always_inline int may_refuse(void)
{
	__u64 second = bpf_ktime_get_ns() / 1000000000ULL, before = *(volatile __u64 *)&lg_control.refusing;

	if (before >> 32 != (__u32)second) {
		if (__sync_val_compare_and_swap(&lg_control.refusing, before, second << 32 | 1) == before)
			return 1;
	}
	return (__u32)__sync_fetch_and_add(&lg_control.refusing, 1) < LG_REFUSALS;
}

#endif
