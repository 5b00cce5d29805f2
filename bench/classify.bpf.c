/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The classifier alone, for test runs: the headers of a map, one after the other, decided by the table in force. Built
 * with the flags and headers of layergate's own programs; `bench_nothing` is the floor: the same but for the walk.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "classify.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define HEADERS 8192

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEADERS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct lg_record);
} bench_headers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} bench_next SEC(".maps");

static __always_inline struct lg_record *next_header(void)
{
	__u32 zero = 0, place;
	__u32 *next = bpf_map_lookup_elem(&bench_next, &zero);

	if (!next)
		return 0;
	place = *next & (HEADERS - 1);
	*next = place + 1;
	return bpf_map_lookup_elem(&bench_headers, &place);
}

SEC("tc")
int bench_nothing(struct __sk_buff *skb)
{
	struct lg_record *r = next_header();

	(void)skb;
	return r ? r->layer : 0;
}

/* The record keeps what was decided: the next run may read it. */
SEC("tc")
int bench_decide(struct __sk_buff *skb)
{
	struct lg_record *r = next_header();
	const struct lg_header *header;
	__u32 root;

	(void)skb;
	if (!r)
		return 0;
	header = policy();
	root = header->root[r->layer & LG_LAYER_MASK];
	r->filter = 0;
	r->action = LG_PERMIT;
	r->hard = 0;
	if (root)
		classify(r, header->tables + (r->layer & LG_LAYER_MASK), root);
	return r->action;
}
