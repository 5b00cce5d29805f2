/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Who owns a socket. Recorded in the context of the process that binds, listens or connects; never looked up afterwards.
 */
#ifndef LAYERGATE_OWNER_H
#define LAYERGATE_OWNER_H

#include "kernel_types.h"
#include "maps.h"

#define EXE_DEEP 40
#define CGROUPS_DEEP 32

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

/* The executable that was kept last on a processor: mostly it is that of the next call too. One word, for another process
 * may come in between. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lg_last_exe SEC(".maps");

/* Keep the path of an executable, once: names from the file up to the root, across mounts. */
static __always_inline int keep_exe(struct lg_exe_key *key, struct file *file)
{
	struct exe_walk walk = {};
	struct lg_exe *none;
	__u64 *last, mark;
	__u32 zero = 0;

	last = bpf_map_lookup_elem(&lg_last_exe, &zero);
	if (!key || !last)
		return 0;
	mark = key->ino ^ (__u64)key->dev << 32;
	if (*last == mark)
		return 0;
	*last = mark;
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

/* As record_units(), of groups however deep, at ten times the cost. */
static __noinline int record_deep_units(struct lg_owner *owner)
{
	for (int place = 0; place < LG_UNITS_DEEP; place++)
		owner->units[place] = bpf_get_current_ancestor_cgroup_id(place + 1);
	return 0;
}

/* The control groups above `cgroup`, which is the calling process's, and itself, from level 1. */
static __always_inline void record_units(struct lg_owner *owner, struct cgroup *cgroup)
{
	int level = cgroup->level;

	if (level > CGROUPS_DEEP) {
		record_deep_units(owner);
		return;
	}
	for (int place = 0; place < LG_UNITS_DEEP; place++)
		owner->units[place] = 0;
#pragma clang loop unroll(disable)
	for (int up = 0; up < CGROUPS_DEEP && level > 0; up++) {
		__u32 place = level - 1;

		/* Older verifiers know the bounds of the very number that is compared, and of no other. */
		asm volatile("" : "+r"(place));
		if (place < LG_UNITS_DEEP)
			owner->units[place] = cgroup->kn->id;
		cgroup = cgroup->self.parent->cgroup;
		level--;
	}
}

/* Record the calling process as the owner. */
__noinline int record_owner(struct lg_owner *owner)
{
	/* Read directly, not by helpers, each of which costs as much as ten reads: it is done at every connect. */
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct lg_exe_key key = {};
	struct cgroup *cgroup;
	struct mm_struct *mm;
	struct inode *inode;
	struct file *file;

	if (!owner)
		return 0;
	cgroup = task->cgroups->dfl_cgrp;
	owner->names = 0;
	owner->pid = task->tgid;
	owner->user = task->cred->uid.val;
	owner->cgroup = cgroup->kn->id;
	record_units(owner, cgroup);
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
