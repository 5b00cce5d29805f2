/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What the programs of the connection table and user space share: who owns sockets; states; round trips.
 *
 * The rules are those of layergate.h; tools/gen_kernel_layout.py makes kernel/sockets_layout_generated.py of it.
 */
#ifndef LAYERGATE_SOCKETS_H
#define LAYERGATE_SOCKETS_H

#define LG_PATH_BYTES 256

/* A process holds a socket. */
struct lg_held {
	__u32 inode; /* of the socket, as the list of sockets has it */
	__u32 pid;
	__u32 fd;
	__u32 pad;
};

/* A process. */
struct lg_process {
	__u64 cgroup;
	__u64 started; /* ns since the machine started */
	__u32 pid;
	__u32 user;
	__u32 path_bytes; /* with the final zero; 0: a kernel thread, or a path that is too long */
	__u32 pad;
	__u8 comm[16];
	__u8 path[256]; /* LG_PATH_BYTES */
};

#endif
