/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Which filter authorised each connection of a run: an iterator over its owners (lg_owners), run by reading.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "kernel_types.h"
#include "layergate.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("iter/bpf_sk_storage_map")
int lg_authorised(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct lg_owner *owner = ctx->value;
	struct lg_authorised told = {};

	if (!ctx->sk || !owner || !owner->filter)
		return 0;
	told.cookie = owner->cookie;
	told.filter = owner->filter;
	bpf_seq_write(ctx->meta->seq, &told, sizeof(told));
	return 0;
}
