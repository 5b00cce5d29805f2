/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The floor: on every hook that layergate has a program on, one that does nothing. What is measured against it is what
 * layergate's programs do, not what the kernel takes to call a program. Names are layergate's with noop_ for lg_.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PASS 1
#define TCX_NEXT -1

#define NOOP(section, name, context, result)                                                                           \
	SEC(section) int noop_##name(struct context *ctx)                                                              \
	{                                                                                                              \
		(void)ctx;                                                                                             \
		return result;                                                                                         \
	}

NOOP("cgroup/bind4", bind4, bpf_sock_addr, PASS)
NOOP("cgroup/bind6", bind6, bpf_sock_addr, PASS)
NOOP("cgroup/post_bind4", post_bind4, bpf_sock, PASS)
NOOP("cgroup/post_bind6", post_bind6, bpf_sock, PASS)
NOOP("cgroup/connect4", connect4, bpf_sock_addr, PASS)
NOOP("cgroup/connect6", connect6, bpf_sock_addr, PASS)
NOOP("cgroup/sock_release", sock_release, bpf_sock, PASS)
NOOP("cgroup_skb/egress", egress, __sk_buff, PASS)
NOOP("cgroup_skb/ingress", ingress, __sk_buff, PASS)
NOOP("tc", tcx_ingress, __sk_buff, TCX_NEXT)
NOOP("tc", tcx_egress, __sk_buff, TCX_NEXT)
NOOP("tp_btf/inet_sock_set_state", set_state, bpf_raw_tracepoint_args, 0)
NOOP("tp_btf/tcp_send_reset", send_reset, bpf_raw_tracepoint_args, 0)
NOOP("tp_btf/kfree_skb", kfree_skb, bpf_raw_tracepoint_args, 0)

/* All but nothing: layergate asks for a socket's changes of state, and the kernel calls this hook for each. */
SEC("sockops")
int noop_sockops(struct bpf_sock_ops *ctx)
{
	__u32 op = *(volatile __u32 *)&ctx->op;

	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB ||
	    op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	return PASS;
}
