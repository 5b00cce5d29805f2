/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The ends of a connection, as its socket has them: as of a packet that it would send.
 */
#ifndef LAYERGATE_ENDS_H
#define LAYERGATE_ENDS_H

#include "flow.h"
#include "seats.h"
#include "kernel_types.h"

static __always_inline void read_v6(__u64 *to, const struct in6_addr *address)
{
	__u32 words[4];

	for (int place = 0; place < 4; place++)
		words[place] = address->in6_u.u6_addr32[place];
	from_v6(to, words);
}

static __always_inline void local_end(struct lg_packet *packet, const struct sock *sk)
{
	packet->source_port = sk->__sk_common.skc_num;
	if (sk->__sk_common.skc_family == FAMILY_V6) {
		read_v6(packet->source, &sk->__sk_common.skc_v6_rcv_saddr);
		packet->v6 = 1;
		if (is_mapped(packet->source)) {
			packet->v6 = 0;
			packet->source[0] = 0;
			packet->source[1] = (__u32)packet->source[1];
		}
	} else {
		packet->source[1] = bpf_ntohl(sk->__sk_common.skc_rcv_saddr);
	}
}

static __always_inline void remote_end(struct lg_packet *packet, const struct sock *sk)
{
	packet->destination_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (packet->v6)
		read_v6(packet->destination, &sk->__sk_common.skc_v6_daddr);
	else
		packet->destination[1] = bpf_ntohl(sk->__sk_common.skc_daddr);
}

#endif
