/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Which filter authorised each connection of a run: iterators over its owners (lg_owners, lg_seats), run by reading.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "kernel_types.h"
#include "layergate.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int tell(struct bpf_iter_meta *meta, const struct lg_owner *owner)
{
	struct lg_authorised told = {.cookie = owner->cookie, .filter = owner->filter};

	if (told.cookie && told.filter)
		bpf_seq_write(meta->seq, &told, sizeof(told));
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int lg_authorised(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct lg_owner *owner = ctx->value;

	return ctx->sk && owner ? tell(ctx->meta, owner) : 0;
}

SEC("iter/bpf_map_elem")
int lg_seated(struct bpf_iter__bpf_map_elem *ctx)
{
	struct lg_seat *seat = ctx->value;

	return seat ? tell(ctx->meta, &seat->owner) : 0;
}
