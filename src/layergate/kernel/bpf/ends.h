/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The ends of a connection, as its socket has them: as of a packet that it would send.
 */
#ifndef LAYERGATE_ENDS_H
#define LAYERGATE_ENDS_H

#include <bpf/bpf_core_read.h>

#include "flow.h"
#include "kernel_types.h"

static __always_inline void local_end(struct lg_packet *packet, const struct sock *sk)
{
	__u32 words[4];

	packet->source_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == FAMILY_V6) {
		BPF_CORE_READ_INTO(&words, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		from_v6(packet->source, words);
		packet->v6 = 1;
		if (is_mapped(packet->source)) {
			packet->v6 = 0;
			packet->source[0] = 0;
			packet->source[1] = (__u32)packet->source[1];
		}
	} else {
		packet->source[1] = bpf_ntohl(BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	}
}

static __always_inline void remote_end(struct lg_packet *packet, const struct sock *sk)
{
	__u32 words[4];

	packet->destination_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (packet->v6) {
		BPF_CORE_READ_INTO(&words, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
		from_v6(packet->destination, words);
	} else {
		packet->destination[1] = bpf_ntohl(BPF_CORE_READ(sk, __sk_common.skc_daddr));
	}
}

#endif
