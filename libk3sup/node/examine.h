/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is this one process a k3s of the node? The rules are in identify.h.
 */
#ifndef K3SUP_NODE_EXAMINE_H
#define K3SUP_NODE_EXAMINE_H

#include "node/identify.h"
#include "node/program.h"

struct k3sup__look {
	pid_t pid;
	int dirfd; /* of /proc/PID; owned */
	struct k3sup__stat stat;
	struct k3sup__candidate found; /* process is not set yet */
	bool accepted;
	bool weak;                  /* counts only as the parent or the child of another one that runs the same file */
	char reason[96];            /* why it was dropped; "": it did not come near */
	int denied;                 /* what kept us from looking at it, though its name fits */
	bool dependent;             /* accepted, but counts only as the child of another one that runs the same file */
	enum k3sup__role unit_role; /* what its service is for */
	enum k3sup__other other;
};

/* look->pid and look->dirfd are given. 0 whatever it is, -ESRCH if it is gone, or another -errno. */
int k3sup__examine(const struct k3sup__vantage *view, struct k3sup__look *look) _must_check_;
void k3sup__look_clear(struct k3sup__look *look);
void k3sup__candidate_clear(struct k3sup__candidate *candidate);

/* -EACCES and -EPERM: what one gets without CAP_SYS_PTRACE, or under a security module. */
static inline bool k3sup__is_rights(int code)
{
	return code == -EACCES || code == -EPERM;
}

#endif
