/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's lock: an OFD write lock on <root>/var/lib/k3sup/lock, a 0600 file in a 0700 directory, so that no unprivileged user can
 * squat it (flock on anything readable can be). Its path depends on the root alone. The kernel gives it back with the last copy of
 * the descriptor.
 */
#ifndef K3SUP_BASE_LOCK_H
#define K3SUP_BASE_LOCK_H

#include "base/root.h"

#define K3SUP__STATE_DIR "/var/lib/k3sup"

/*
 * Our own directory inside the root, opened O_RDONLY | O_DIRECTORY. With create it is made (0700, parents 0755, all synced). It must
 * be root's (or ours), 0700 or narrower: K3SUP_E_STATE_DIR. -ENOENT if it is not there and create is false.
 */
int k3sup__state_dir_open(k3sup_op *op, const struct k3sup__root *root, const char *path, bool create, unsigned trust_flags, int *ret_fd)
	_must_check_;

/*
 * A file in it, with these openat(2) flags (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK are added; made 0600). The descriptor, or -errno
 * (-ENOENT without a sentence); K3SUP_E_STATE_DIR if it is no regular file, not root's (or ours), or anybody else may open it.
 */
int k3sup__state_file_open(k3sup_op *op, int dirfd, const char *name, int flags) _must_check_;

/*
 * A lock that is held: the descriptor. 0; K3SUP_E_BUSY with evidence /holder if another run, or another handle of ours, holds it;
 * K3SUP_E_UNSUPPORTED on a network file system, where other hosts' locks, or none, may be what one gets.
 */
int k3sup__lock_take(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, int *ret_fd) _must_check_;
/* Gives it back, also where a child that the host forked has the descriptor, too: closing ours would leave the lock with that one. fd may be -1; returns -1. */
int k3sup__lock_give(int fd);
/*
 * Who holds it? 1 with a description {pid, boot_id, pid_ns, start_time, program} in ret (owned; empty in the instant between locking
 * and writing it), 0 if it is free or was never made, or an error. Changes nothing.
 */
int k3sup__lock_holder(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, k3sup__json **ret) _must_check_;

#endif
