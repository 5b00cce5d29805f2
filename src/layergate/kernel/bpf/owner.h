/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Who owns a socket. Recorded in the context of the process that binds, listens or connects; never looked up afterwards.
 */
#ifndef LAYERGATE_OWNER_H
#define LAYERGATE_OWNER_H

#include "kernel_types.h"
#include "maps.h"

#define EXE_DEEP 40

struct exe_walk {
	struct lg_exe *exe;
	struct dentry *dentry;
	struct mount *mount;
	__u32 names;
};

static long walk_up(__u32 index, struct exe_walk *walk)
{
	struct dentry *dentry = walk->dentry, *root, *parent;
	struct mount *mount = walk->mount, *above;
	__u32 names = walk->names;
	long length;

	(void)index;
	root = BPF_CORE_READ(mount, mnt.mnt_root);
	parent = BPF_CORE_READ(dentry, d_parent);
	if (dentry == root || dentry == parent) {
		above = BPF_CORE_READ(mount, mnt_parent);
		if (above == mount) {
			walk->exe->count = names;
			walk->exe->complete = 1;
			return 1;
		}
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->mount = above;
		return 0;
	}
	if (names >= LG_EXE_NAMES)
		return 1;
	length = bpf_probe_read_kernel_str(walk->exe->name + names * LG_EXE_NAME_BYTES, LG_EXE_NAME_BYTES,
					   BPF_CORE_READ(dentry, d_name.name));
	if (length < 0 || length >= LG_EXE_NAME_BYTES)
		return 1;
	walk->names = names + 1;
	walk->dentry = parent;
	return 0;
}

/* The executable that a processor kept last: mostly that of the next call too. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lg_exe_key);
} lg_last_exe SEC(".maps");

/* Keep the path of an executable, once: names from the file up to the root, across mounts. */
static __always_inline int keep_exe(struct lg_exe_key *key, struct file *file)
{
	struct exe_walk walk = {};
	struct lg_exe_key *last;
	struct lg_exe *none;
	__u32 zero = 0;

	last = bpf_map_lookup_elem(&lg_last_exe, &zero);
	if (!key || !last || (last->ino == key->ino && last->dev == key->dev))
		return 0;
	last->ino = key->ino;
	last->dev = key->dev;
	if (bpf_map_lookup_elem(&lg_exes, key))
		return 0;
	none = bpf_map_lookup_elem(&lg_no_exe, &zero);
	if (!none || bpf_map_update_elem(&lg_exes, key, none, BPF_NOEXIST))
		return 0;
	walk.exe = bpf_map_lookup_elem(&lg_exes, key);
	if (!walk.exe)
		return 0;
	walk.dentry = BPF_CORE_READ(file, f_path.dentry);
	walk.mount = (void *)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	bpf_loop(EXE_DEEP, walk_up, &walk, 0);
	return 0;
}

/* Record the calling process as the owner. */
__noinline int record_owner(struct lg_owner *owner)
{
	/* Read directly, not by reads that may fail: it is done at every connect. */
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct lg_exe_key key = {};
	struct mm_struct *mm;
	struct inode *inode;
	struct file *file;
	__u64 unit = 1;

	if (!owner)
		return 0;
	owner->names = 0;
	owner->pid = bpf_get_current_pid_tgid() >> 32;
	owner->user = (__u32)bpf_get_current_uid_gid();
	owner->cgroup = bpf_get_current_cgroup_id();
	for (int level = 0; level < LG_UNITS_DEEP; level++)
		unit = owner->units[level] = unit ? bpf_get_current_ancestor_cgroup_id(level + 1) : 0;
	mm = task->mm;
	file = mm ? mm->exe_file : 0;
	if (!file)
		return 0;
	inode = file->f_inode;
	owner->exe_ino = key.ino = inode->i_ino;
	owner->exe_dev = key.dev = inode->i_sb->s_dev;
	keep_exe(&key, file);
	return 0;
}

#endif
