/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Deciding one indication, and writing down what was decided.
 *
 * A layer's filters are a table of steps (compile/compiler.py is the paper, backends/plain.py the same in Python): trees
 * whose leaves test. A walk keeps, for each sublayer, the least code that matched; the code's low bits are its action.
 * What matched then meets arbitration (the rules of engine/arbitration.py): heaviest sublayer first, a soft permit may
 * be overridden below; a block, or a permit that cleared the right, ends it all, for nothing below changes the action
 * or which filter is reported.
 *
 * One flat loop over steps, whatever they are, keeps the verifier's work small: every iteration has the same few scalars
 * of unknown value. Its bound is that of the compiler, which refuses what could take longer.
 */
#ifndef LAYERGATE_CLASSIFY_H
#define LAYERGATE_CLASSIFY_H

#include "maps.h"

#include "layers_generated.h"
#include "limits.h"

/* How many steps of a line an iteration takes at most: each is the same code once more for the verifier. */
#define LG_STEPS_AT_ONCE 4

const volatile struct lg_config config SEC(".rodata.config");

struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym __weak;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym __weak;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym __weak;

/* Where a walk stands. By sublayer: the least code that matched. */
struct lg_walk {
	struct lg_record *r;
	void *table;
	__u32 place;
	__u32 following; /* the next tree */
	struct lg_codes codes;
};

/* Take the step at `place`. Returns where the next one is, 0 at the end of a leaf. */
static __always_inline __u32 take_step(const struct lg_step *step, __u32 place, struct lg_walk *walk)
{
	__u32 op = step->d & 0xff, word = step->d >> 8 & 0xff, value, onward;

	if (op >= LG_OP_IN) {
		if (word >= LG_KEY_WORDS)
			return 0;
		value = ((const __u32 *)walk->r->address)[word];
		if (op <= LG_OP_NOT_IN)
			onward = value - step->a <= step->b;
		else
			onward = (value & step->b) == step->a;
		onward = onward != (op & 1) ? step->d >> 16 : step->c;
		return onward ? place + onward : 0;
	}
	if (op == LG_OP_MATCH) {
		if (step->b & ~walk->r->known)
			return place + 1;
		if (word < LG_SUBLAYERS_MAX && step->a < walk->codes.code[word])
			walk->codes.code[word] = step->a;
		return step->c ? place + step->c : 0;
	}
	if (op == LG_OP_LIMIT) {
		if (!(step->b & ~walk->r->known))
			walk->r->count |= 1U << (step->d >> 16 & (LG_LIMITS_OF_LAYER - 1));
		return step->c ? place + step->c : 0;
	}
	if (op == LG_OP_LEAF || op == LG_OP_ROOT) {
		if (op == LG_OP_ROOT)
			walk->following = step->c;
		/* What can't better its sublayer's match is passed over. */
		if (word < LG_SUBLAYERS_MAX && step->a >= walk->codes.code[word])
			return 0;
		return op == LG_OP_LEAF ? step->c : place + 1;
	}
	if (op == LG_OP_CUT || op == LG_OP_SPLIT) {
		if (word >= LG_KEY_WORDS)
			return 0;
		value = ((const __u32 *)walk->r->address)[word];
		if (op == LG_OP_SPLIT)
			return step->c + (value > step->a);
		value = (value - step->a) >> (step->d >> 16 & 31);
		return value <= step->b ? step->c + value : 0;
	}
	return 0;
}

/* Take the steps of one line, as far as they lead to one another. Returns whether the walk is over. */
static __always_inline long take_line(struct lg_walk *walk)
{
	__u32 place = walk->place, next, number = place >> LG_LINE_BITS;
	struct lg_line *line = bpf_map_lookup_elem(walk->table, &number);

	if (!line) {
		count(LG_STAT_TABLE_FAULT);
		return 1;
	}
#pragma unroll
	for (int taken = 0; taken < LG_STEPS_AT_ONCE; taken++) {
		next = take_step(&line->step[place & (LG_LINE_STEPS - 1)], place, walk);
		if (!next) {
			next = walk->following;
			walk->following = 0;
			if (!next)
				return 1;
		}
		walk->place = next;
		if (next >> LG_LINE_BITS != number)
			return 0;
		place = next;
	}
	return 0;
}

static long take_line_in_loop(__u32 index, struct lg_walk *walk)
{
	(void)index;
	return take_line(walk);
}

/* Decide by what matched. */
static __always_inline void arbitrate(struct lg_record *r, struct lg_walk *walk, const struct lg_step *head)
{
	__u32 told = LG_NO_CODE;
	struct lg_line *line;
	struct lg_row *row;

	for (__u32 place = 0; place < LG_SUBLAYERS_MAX && place < head->b; place++) {
		__u32 code = walk->codes.code[place];

		if (code == LG_NO_CODE)
			continue;
		r->action = code & LG_CODE_BLOCK ? LG_BLOCK : LG_PERMIT;
		/* All above are soft permits: the first of them is reported, unless this is another action. */
		if (told == LG_NO_CODE || code & LG_CODE_BLOCK)
			told = code;
		if (code & LG_CODE_HARD) {
			r->hard = 1;
			break;
		}
	}
	if (told == LG_NO_CODE)
		return;
	told = head->a + (told >> LG_CODE_BITS);
	walk->place = told >> LG_LINE_BITS;
	line = bpf_map_lookup_elem(walk->table, &walk->place);
	if (!line) {
		count(LG_STAT_TABLE_FAULT);
		return;
	}
	row = (struct lg_row *)&line->step[told & (LG_LINE_STEPS - 1)];
	r->filter = row->filter;
	r->sublayer = row->sublayer;
	r->error = row->error;
}

/* Judge the limits that the walk asked, in the order in which their filters are heard: what is past its limit matches. */
static __always_inline void judge(struct lg_record *r, __u32 key, struct lg_codes *codes)
{
	__u32 asked = r->count;

	r->count = 0;
#pragma clang loop unroll(disable)
	for (__u32 place = 0; place < LG_LIMITS_OF_LAYER; place++) {
		if (asked >> place & 1)
			judge_one(r, key * LG_LIMITS_OF_LAYER + place, codes);
	}
}

/* Classify the record by the table at `key`, from step `root` on. */
__noinline int classify(struct lg_record *r, __u32 key, __u32 root)
{
	struct lg_walk walk = {};
	struct bpf_iter_num it;
	struct lg_line *first;
	struct lg_step *head;

	if (!r)
		return LG_PERMIT;
	walk.table = bpf_map_lookup_elem(&lg_tables, &key);
	if (!walk.table)
		return LG_PERMIT;
	first = bpf_map_lookup_elem(walk.table, &walk.place);
	if (!first)
		return LG_PERMIT;
	head = &first->step[0];
	walk.r = r;
	walk.place = root;
	/* Numbers from a map, though they are always the same: what begins as a constant is another state in the next
	 * iteration, and the verifier would follow both. */
	walk.following = head->d;
	for (__u32 place = 0; place < LG_SUBLAYERS_MAX; place++)
		walk.codes.code[place] = ~head->d;
	if (config.iterates) {
		bpf_iter_num_new(&it, 0, LG_STEPS_MAX);
		while (bpf_iter_num_next(&it)) {
			if (take_line(&walk))
				break;
		}
		bpf_iter_num_destroy(&it);
	} else {
		bpf_loop(LG_STEPS_MAX, take_line_in_loop, &walk, 0);
	}
	if (r->count)
		judge(r, key, &walk.codes);
	arbitrate(r, &walk, head);
	return r->action;
}

static __always_inline const struct lg_header *policy(void)
{
	return &lg_headers[*(volatile __u32 *)&lg_control.active & (LG_SLOTS - 1)];
}

/* The version in which the filters of `layer` last changed. */
static __always_inline __u32 layer_version(__u32 layer)
{
	return policy()->layer_version[layer & LG_LAYER_MASK];
}

static __always_inline __u32 fields_of(__u32 layer)
{
	return layer < LG_LAYERS ? lg_layer_fields[layer] : 0;
}

/* Look up, once a socket and change of the names, which numbers the policy gave the owner's application and unit. The
 * innermost unit that it names counts. */
static __always_inline void number_owner(struct lg_owner *owner)
{
	struct lg_exe_key exe = {};
	__u32 names, *number;

	names = *(volatile __u32 *)&lg_control.names;
	if (owner->names == names)
		return;
	owner->app = 0;
	owner->unit = 0;
	exe.ino = owner->exe_ino;
	exe.dev = owner->exe_dev;
	number = exe.ino ? bpf_map_lookup_elem(&lg_apps, &exe) : 0;
	if (number)
		owner->app = *number;
	for (int level = 0; level < LG_UNITS_DEEP; level++) {
		__u64 cgroup = owner->units[level];

		number = cgroup ? bpf_map_lookup_elem(&lg_units, &cgroup) : 0;
		if (number)
			owner->unit = *number;
	}
	owner->names = names;
}

/* Write the owner into the record, by the numbers that the policy gave its application and unit. Returns which of the
 * owner's fields are known. */
__noinline __u32 name_owner(struct lg_record *r, struct lg_owner *owner)
{
	__u32 known = 0;

	if (!owner || !r || !owner->cookie)
		return 0;
	number_owner(owner);
	r->exe_ino = owner->exe_ino;
	r->exe_dev = owner->exe_dev;
	r->pid = owner->pid;
	r->cgroup = owner->cgroup;
	r->scalar[LG_FIELD_ALE_USER_ID] = owner->user;
	r->scalar[LG_FIELD_ALE_APP_ID] = owner->app;
	r->scalar[LG_FIELD_ALE_PACKAGE_ID] = owner->unit;
	known |= 1U << LG_FIELD_ALE_USER_ID;
	if (owner->exe_ino)
		known |= 1U << LG_FIELD_ALE_APP_ID;
	if (owner->unit || (owner->units[0] && owner->cgroup != config.trace_cgroup))
		known |= 1U << LG_FIELD_ALE_PACKAGE_ID;
	return known;
}

__noinline int emit(struct lg_record *r)
{
	if (!r)
		return 0;
	if (config.emit < LG_EMIT_ALL && r->kind == LG_KIND_INDICATION && r->action != LG_BLOCK)
		return 0;
	if (config.emit < LG_EMIT_ALL && (r->kind == LG_KIND_FLOW || r->kind == LG_KIND_CLOSED))
		return 0;
	r->time = bpf_ktime_get_ns();
	if (bpf_ringbuf_output(&lg_events, r, sizeof(*r), 0))
		count(LG_STAT_LOST);
	else
		count(LG_STAT_EMITTED);
	return 0;
}

/* What a layer said of a flow's packets. */
struct lg_verdict {
	__u64 flow;
	__u64 filter;
	__u32 of; /* layer, side, direction */
	__u32 version;
	__u32 interface;
	__u32 busy;
	__u16 sublayer;
	__u8 action;
	__u8 hard;
	__u32 pad;
};

#define LG_VERDICT_BITS 12

/* By a hash of flow and layer; what comes later takes the place. By CPU, and where a hook interrupts another on its CPU,
 * it finds the verdict busy. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << LG_VERDICT_BITS);
	__type(key, __u32);
	__type(value, struct lg_verdict);
} lg_verdicts SEC(".maps");

static __always_inline __u32 verdict_of(const struct lg_record *r, __u32 layer)
{
	return layer << 2 | (r->side & 1) << 1 | (r->scalar[LG_FIELD_DIRECTION] & 1);
}

/* The place of a verdict, busy; 0: there is none to be had. */
static __noinline struct lg_verdict *take_verdict(const struct lg_record *r, __u32 of)
{
	struct lg_verdict *verdict;
	__u32 place;

	if (!r || !r->flow)
		return 0;
	place = (r->flow * 64 + of) * 0x9e3779b97f4a7c15ULL >> (64 - LG_VERDICT_BITS);
	verdict = bpf_map_lookup_elem(&lg_verdicts, &place);
	if (!verdict || __sync_lock_test_and_set(&verdict->busy, 1))
		return 0;
	return verdict;
}

static __always_inline void give_verdict(struct lg_verdict *verdict)
{
	*(volatile __u32 *)&verdict->busy = 0;
}

/* Decide the indication in the record at `layer`, whose values are `present`. `remembers`: a flow's packets are all alike
 * there, and what was decided of one goes for the others. */
static __always_inline int decide(struct lg_record *r, __u32 layer, __u32 present, int remembers)
{
	struct lg_verdict *verdict = 0;
	const struct lg_header *header;
	__u32 root, version, of;

	if (layer >= LG_LAYERS)
		return LG_PERMIT;
	r->layer = layer;
	r->known = present & fields_of(layer);
	r->filter = 0;
	r->sublayer = 0xffff;
	r->error = 0;
	r->action = LG_PERMIT;
	r->hard = 0;
	r->count = 0;
	r->counted = 0;
	header = policy();
	r->version = header->version;
	root = header->root[layer & LG_LAYER_MASK];
	if (!root)
		return LG_PERMIT;
	version = header->layer_version[layer & LG_LAYER_MASK];
	of = verdict_of(r, layer);
	if (remembers)
		verdict = take_verdict(r, of);
	if (verdict && verdict->flow == r->flow && verdict->of == of && verdict->version == version &&
	    verdict->interface == r->scalar[LG_FIELD_INTERFACE_INDEX]) {
		r->filter = verdict->filter;
		r->sublayer = verdict->sublayer;
		r->action = verdict->action;
		r->hard = verdict->hard;
		give_verdict(verdict);
		return r->action;
	}
	/* A number that came after these tables is none that they name. */
	if (r->scalar[LG_FIELD_ALE_APP_ID] > header->app_top)
		r->scalar[LG_FIELD_ALE_APP_ID] = 0;
	if (r->scalar[LG_FIELD_ALE_PACKAGE_ID] > header->unit_top)
		r->scalar[LG_FIELD_ALE_PACKAGE_ID] = 0;
	classify(r, header->tables + layer, root);
	if (verdict) {
		verdict->flow = r->flow;
		verdict->of = of;
		verdict->version = version;
		verdict->interface = r->scalar[LG_FIELD_INTERFACE_INDEX];
		verdict->filter = r->filter;
		verdict->sublayer = r->sublayer;
		verdict->action = r->action;
		verdict->hard = r->hard;
		give_verdict(verdict);
	}
	return r->action;
}

/* Decide, write it down, and where it is blocked show it at the layer's discard twin. Returns the action.
 *
 * A global function, as all are that need not return a pointer: the verifier looks at each once, not at every call. */
__noinline int indicate_at(struct lg_record *r, __u32 layer, __u32 present, int remembers)
{
	__u64 filter, limit_error; /* one word for both: the stack is full */
	int action = LG_PERMIT;

	if (!r || layer >= LG_LAYERS)
		return LG_PERMIT;
	r->kind = LG_KIND_INDICATION;
	action = decide(r, layer, present, remembers);
	/* A flood at a limit is told by its limit, once a second: one line a SYN would be a flood itself. */
	if (r->count && config.emit < LG_EMIT_ALL)
		count(LG_STAT_UNTOLD);
	else
		emit(r);
	if (action == LG_BLOCK && lg_layer_twin[layer]) {
		filter = r->filter;
		limit_error = (__u64)r->count << 32 | r->error;
		decide(r, lg_layer_twin[layer], present, 0);
		emit(r);
		r->filter = filter;
		r->error = limit_error;
		r->count = limit_error >> 32;
	}
	return action;
}

/* Whether the layer has no filters, and nobody wants to hear of permits. */
static __always_inline int is_unheard(__u32 layer)
{
	return config.emit < LG_EMIT_ALL && !policy()->root[layer & LG_LAYER_MASK];
}

/* As indicate_at, and at no cost where the layer is unheard. */
static __always_inline int indicate(struct lg_record *r, __u32 layer, __u32 present, int remembers)
{
	return is_unheard(layer) ? LG_PERMIT : indicate_at(r, layer, present, remembers);
}

#endif
