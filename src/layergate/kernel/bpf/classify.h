/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Deciding one indication, and writing down what was decided.
 *
 * A layer's filters are a list of tests, heaviest sublayer first, heaviest filter first. A test compares one field and
 * says where to go on: to the next field of the filter when it holds, to the next alternative or the next filter when it
 * does not. The last test of a filter that holds has matched it. Example: "remote_port is 80 or 443, and protocol is 6":
 *
 *     0  remote_port in [80, 80]     hit -> 2   miss -> 1
 *     1  remote_port in [443, 443]   hit -> 2   miss -> 3 (the next filter)
 *     2  protocol in [6, 6]          hit -> matched, permit by filter 7   miss -> 3
 *
 * What matched meets arbitration (the rules of engine/arbitration.py): a sublayer's first match ends the sublayer; a soft
 * permit may be overridden below; a block, or a permit that cleared the right, ends it all, for nothing below changes the
 * action or which filter is reported.
 */
#ifndef LAYERGATE_CLASSIFY_H
#define LAYERGATE_CLASSIFY_H

#include "maps.h"

#include "layers_generated.h"

const volatile struct lg_config config SEC(".rodata.config");

struct lg_scan {
	struct lg_record *r;
	void *table;
	__u32 cursor;
	__u32 decided;
};

static __always_inline void count(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&lg_stats, &what);

	if (value)
		*value += 1;
}

static __always_inline int compare(const __u64 *a, const __u64 *b)
{
	if (a[0] != b[0])
		return a[0] < b[0] ? -1 : 1;
	return a[1] < b[1] ? -1 : a[1] > b[1];
}

static __always_inline int holds(const struct lg_test *test, const struct lg_record *r)
{
	__u32 field = test->field;
	__u64 value[2] = {};

	if (test->op == LG_OP_ALWAYS)
		return 1;
	if (field >= LG_FIELD_COUNT)
		return 0;
	if (!(r->known & (1U << field)))
		return test->op == LG_OP_EMPTY;
	if (field == LG_FIELD_IP_LOCAL_ADDRESS) {
		value[0] = r->address[0];
		value[1] = r->address[1];
	} else if (field == LG_FIELD_IP_REMOTE_ADDRESS) {
		value[0] = r->address[2];
		value[1] = r->address[3];
	} else if (field < LG_FIELD_ADDRESSES) {
		value[1] = r->scalar[field];
	}
	switch (test->op) {
	case LG_OP_IN_RANGE:
		return compare(test->low, value) <= 0 && compare(value, test->high) <= 0;
	case LG_OP_NOT_IN_RANGE:
		return compare(test->low, value) > 0 || compare(value, test->high) > 0;
	case LG_OP_ALL_SET:
		return (value[1] & test->low[1]) == test->low[1];
	case LG_OP_ANY_SET:
		return (value[1] & test->low[1]) != 0;
	case LG_OP_NONE_SET:
		return (value[1] & test->low[1]) == 0;
	case LG_OP_MASKED:
		return (value[0] & test->high[0]) == test->low[0] && (value[1] & test->high[1]) == test->low[1];
	case LG_OP_NOT_MASKED:
		return (value[0] & test->high[0]) != test->low[0] || (value[1] & test->high[1]) != test->low[1];
	}
	return 0;
}

static long take_test(__u32 index, struct lg_scan *scan)
{
	struct lg_test *test = bpf_map_lookup_elem(scan->table, &scan->cursor);
	struct lg_record *r = scan->r;
	__u32 next;

	(void)index;
	if (!test) {
		count(LG_STAT_TABLE_FAULT);
		return 1;
	}
	next = test->miss;
	if (holds(test, r)) {
		next = test->hit;
		if (next == LG_GOTO_MATCHED) {
			if (!scan->decided || r->action != test->action) {
				r->filter = test->filter;
				r->sublayer = test->sublayer;
				r->error = test->error;
			}
			scan->decided = 1;
			r->action = test->action;
			r->hard = test->hard;
			if (test->hard)
				return 1;
			next = test->sublayer_end;
		}
	}
	if (next == LG_GOTO_END)
		return 1;
	scan->cursor = next;
	return 0;
}

static __always_inline struct lg_header *policy(__u32 *slot)
{
	struct lg_control *control;
	__u32 zero = 0;

	control = bpf_map_lookup_elem(&lg_control, &zero);
	if (!control)
		return 0;
	*slot = *(volatile __u32 *)&control->active & (LG_SLOTS - 1);
	return bpf_map_lookup_elem(&lg_headers, slot);
}

/* The version in which the filters of `layer` last changed. */
static __always_inline __u32 layer_version(__u32 layer)
{
	__u32 slot;
	struct lg_header *header = policy(&slot);

	return header ? header->layer_version[layer & LG_LAYER_MASK] : 0;
}

static __always_inline __u32 fields_of(__u32 layer)
{
	return layer < LG_LAYERS ? lg_layer_fields[layer] : 0;
}

/* Write the owner into the record, by the numbers that the policy gave its application and unit. Returns which of the
 * owner's fields are known. */
__noinline __u32 name_owner(struct lg_record *r, struct lg_owner *owner)
{
	__u32 known = 0, slot = 0, *number;
	struct lg_header *header;
	struct lg_exe_key exe = {};

	if (!owner || !r || !owner->cookie)
		return 0;
	r->exe_ino = exe.ino = owner->exe_ino;
	r->exe_dev = exe.dev = owner->exe_dev;
	r->pid = owner->pid;
	r->cgroup = owner->cgroup;
	r->scalar[LG_FIELD_ALE_USER_ID] = owner->user;
	known |= 1U << LG_FIELD_ALE_USER_ID;
	if (exe.ino) {
		number = bpf_map_lookup_elem(&lg_apps, &exe);
		r->scalar[LG_FIELD_ALE_APP_ID] = number ? *number : 0;
		known |= 1U << LG_FIELD_ALE_APP_ID;
	}
	r->scalar[LG_FIELD_ALE_PACKAGE_ID] = 0;
	if (owner->units[0] && owner->cgroup != config.trace_cgroup)
		known |= 1U << LG_FIELD_ALE_PACKAGE_ID;
	header = policy(&slot);
	if (header && header->units) {
		for (int level = 0; level < LG_UNITS_DEEP; level++) {
			__u64 cgroup = owner->units[level];

			number = cgroup ? bpf_map_lookup_elem(&lg_units, &cgroup) : 0;
			if (number) {
				r->scalar[LG_FIELD_ALE_PACKAGE_ID] = *number;
				known |= 1U << LG_FIELD_ALE_PACKAGE_ID;
			}
		}
	}
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

/* Decide the indication in the record at `layer`, whose values are `present`; with `cached`, as decided before. */
static __always_inline int decide(struct lg_record *r, __u32 layer, __u32 present, struct lg_cached *cached)
{
	struct lg_scan scan = {.r = r};
	struct lg_header *header;
	__u32 slot = 0, key, tests;

	if (layer >= LG_LAYERS)
		return LG_PERMIT;
	r->layer = layer;
	r->known = present & fields_of(layer);
	r->filter = 0;
	r->sublayer = 0xffff;
	r->error = 0;
	r->action = LG_PERMIT;
	r->hard = 0;
	header = policy(&slot);
	if (!header)
		return LG_PERMIT;
	r->version = header->version;
	tests = header->test_count[layer & LG_LAYER_MASK];
	if (!tests)
		return LG_PERMIT;
	if (cached && cached->action && cached->version == header->layer_version[layer & LG_LAYER_MASK] &&
	    cached->interface == r->scalar[LG_FIELD_INTERFACE_INDEX]) {
		r->filter = cached->filter;
		r->sublayer = cached->sublayer;
		r->action = cached->action;
		r->hard = cached->hard;
		return cached->action;
	}
	key = slot * LG_LAYERS + layer;
	scan.table = bpf_map_lookup_elem(&lg_tables, &key);
	if (!scan.table)
		return LG_PERMIT;
	bpf_loop(tests, take_test, &scan, 0);
	if (cached) {
		cached->filter = r->filter;
		cached->sublayer = r->sublayer;
		cached->hard = r->hard;
		cached->interface = r->scalar[LG_FIELD_INTERFACE_INDEX];
		cached->version = header->layer_version[layer & LG_LAYER_MASK];
		cached->action = r->action;
	}
	return r->action;
}

/* Decide, write it down, and where it is blocked show it at the layer's discard twin. Returns the action.
 *
 * A global function, as all are that need not return a pointer: the verifier looks at each once, not at every call. */
__noinline int indicate_at(struct lg_record *r, __u32 layer, __u32 present, struct lg_cached *cached)
{
	__u64 filter;
	__u16 error;
	int action = LG_PERMIT;

	if (!r || layer >= LG_LAYERS)
		return LG_PERMIT;
	r->kind = LG_KIND_INDICATION;
	action = decide(r, layer, present, cached);
	emit(r);
	if (action == LG_BLOCK && lg_layer_twin[layer]) {
		filter = r->filter;
		error = r->error;
		decide(r, lg_layer_twin[layer], present, 0);
		emit(r);
		r->filter = filter;
		r->error = error;
	}
	return action;
}

/* As indicate_at, and at no cost where the layer has no filters and nobody wants to hear of permits. */
static __always_inline int indicate(struct lg_record *r, __u32 layer, __u32 present, struct lg_cached *cached)
{
	struct lg_header *header;
	__u32 slot;

	if (config.emit < LG_EMIT_ALL) {
		header = policy(&slot);
		if (header && !header->test_count[layer & LG_LAYER_MASK])
			return LG_PERMIT;
	}
	return indicate_at(r, layer, present, cached);
}

#endif
