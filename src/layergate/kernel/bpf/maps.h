/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The maps. Every object declares all of them; the loader makes each once and gives it to all.
 */
#ifndef LAYERGATE_MAPS_H
#define LAYERGATE_MAPS_H

#include "layergate.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} lg_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LG_STATS);
	__type(key, __u32);
	__type(value, __u64);
} lg_stats SEC(".maps");

/* Data, which user space maps: programs read it where it stands, without a look-up. */
struct lg_control lg_control SEC(".data.lg_control") = {};
struct lg_header lg_headers[LG_SLOTS] SEC(".data.lg_headers") = {};

/* The table of one layer, of one slot: steps, then rows, by lines. The inner maps are as long as they need to be. */
struct lg_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct lg_line));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LG_SLOTS * LG_LAYERS);
	__type(key, __u32);
	__array(values, struct lg_table);
} lg_tables SEC(".maps");

/* Executables and cgroups that the policy names: their number in it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct lg_exe_key);
	__type(value, __u32);
} lg_apps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u32);
} lg_units SEC(".maps");

/* Paths of executables that were seen to own a socket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lg_exe_key);
	__type(value, struct lg_exe);
} lg_exes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lg_exe);
} lg_no_exe SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct lg_owner);
} lg_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LG_SEATS);
	__type(key, __u32);
	__type(value, struct lg_seat);
} lg_seats SEC(".maps");

/* HASH and not LRU: what an LRU evicts would be hidden. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lg_flow_key);
	__type(value, struct lg_flow);
} lg_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lg_address);
	__type(value, __u32);
} lg_own_addresses SEC(".maps");

/* Where NAT rewrites our own packets: the tuple on the wire -> the flow. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct lg_flow_key);
	__type(value, struct lg_alias);
} lg_aliases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LG_LIMITS);
	__type(key, __u32);
	__type(value, struct lg_limit);
} lg_limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LG_LIMIT_ROWS);
	__type(key, __u32);
	__type(value, struct lg_limit_row);
} lg_limit_rows SEC(".maps");

/* Keys with an established connection: never evicted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lg_count_key);
	__type(value, struct lg_count);
} lg_live SEC(".maps");

/* All others: whoever comes from a million addresses evicts his own kind only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct lg_count_key);
	__type(value, struct lg_count);
} lg_recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lg_count);
} lg_no_count SEC(".maps");

/* What keys tried: the ports, the remotes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct lg_count_key);
	__type(value, struct lg_tried);
} lg_tried SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lg_tried);
} lg_none_tried SEC(".maps");

/* The handshakes that the kernel listed at the last sweep, and which sweep that was. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct lg_flow_key);
	__type(value, __u32);
} lg_requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct lg_count_key);
	__type(value, struct lg_ban);
} lg_bans SEC(".maps");

/* Sockets that user space is to destroy, by cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct lg_reset);
} lg_resets SEC(".maps");

/* Count something that went as it should not, or was told: LG_STAT_*. */
static __always_inline void count(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&lg_stats, &what);

	if (value)
		*value += 1;
}

#endif
