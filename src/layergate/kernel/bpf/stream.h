/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The stream, derived from its segments: which of their bytes are new, by the side's own counters.
 */
#ifndef LAYERGATE_STREAM_H
#define LAYERGATE_STREAM_H

#include "flow.h"

/* Sent bytes that were not sent before. Returns how many. */
static __always_inline __u32 bytes_out(struct lg_side *side, const struct lg_packet *packet)
{
	__u32 end = packet->seq + packet->length, before = side->next_out;

	if (packet->flags & SYN) {
		side->next_out = packet->seq + 1;
		side->stream |= LG_STREAM_OUT_KNOWN;
		return 0;
	}
	if (!packet->length || packet->flags & RST)
		return 0;
	if (!(side->stream & LG_STREAM_OUT_KNOWN))
		before = packet->seq;
	if ((__s32)(end - before) <= 0)
		return 0;
	side->stream |= LG_STREAM_OUT_KNOWN;
	side->next_out = end;
	return end - before;
}

/* Received bytes that extend the stream; a segment behind a gap does not (its bytes show when the gap is closed). */
static __always_inline __u32 bytes_in(struct lg_side *side, const struct lg_packet *packet)
{
	__u32 end = packet->seq + packet->length, before = side->next_in;

	if (packet->flags & SYN) {
		side->next_in = packet->seq + 1;
		side->stream |= LG_STREAM_IN_KNOWN;
		return 0;
	}
	if (!(side->stream & LG_STREAM_IN_KNOWN))
		before = packet->seq;
	if ((__s32)(packet->seq - before) > 0)
		return 0;
	if (packet->flags & FIN)
		side->stream |= LG_STREAM_FIN;
	if ((__s32)(end - before) <= 0)
		return 0;
	side->stream |= LG_STREAM_IN_KNOWN;
	side->next_in = end;
	return end - before;
}

/* STREAM, of `length` bytes. */
static __always_inline int indicate_stream(struct lg_record *r, struct lg_flow *flow, __u32 inbound, __u32 length)
{
	__u32 whole, direction;

	if (!r || !flow)
		return LG_PERMIT;
	whole = r->length;
	direction = r->scalar[LG_FIELD_DIRECTION];
	r->length = length;
	r->scalar[LG_FIELD_DIRECTION] = inbound;
	indicate(r, LAYER_STREAM(r->bits & LG_BIT_V6), KNOWS_FLOW | KNOWS(DIRECTION), 1);
	r->length = whole;
	r->scalar[LG_FIELD_DIRECTION] = direction;
	return LG_PERMIT;
}

#endif
