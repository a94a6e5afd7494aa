/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children, for the few verbs that need one. Started by clone3(CLONE_PIDFD) with exit_signal 0 and reaped by waitid(P_PIDFD, __WALL): the host's SIGCHLD handler,
 * waitpid(-1) and SIG_IGN neither see nor steal them. Clean environment, no inherited descriptors, default signals, own session, bounded output, a deadline.
 */
#ifndef K3SUP_BASE_CHILD_H
#define K3SUP_BASE_CHILD_H

#include "base/op.h"

struct k3sup__child_spec {
	const char *const *argv; /* argv[0] is an absolute path */
	const char *const *env;  /* NULL: empty */
	int root_fd;             /* chroot into this directory first; -1: no */
	const char *cwd;         /* NULL: "/" */
	int64_t deadline;        /* CLOCK_BOOTTIME; then SIGKILL to its process group */
	size_t max_output;       /* bytes kept of stdout and stderr together; more is read and dropped */
};

struct k3sup__child_result {
	int exit_code;   /* 0..255, or -1 if a signal ended it */
	int term_signal; /* 0 if it exited */
	bool timed_out;  /* we killed it */
	bool truncated;  /* it said more than max_output */
	char *output;    /* stdout and stderr as they came, NUL-terminated; owned */
	size_t output_len;
};

/* Runs it to its end, on a work function's thread. 0 if it could be started (look at the result), or -errno of what failed, exec included. */
int k3sup__child_run(k3sup_op *op, const struct k3sup__child_spec *spec, struct k3sup__child_result *ret) _must_check_;
void k3sup__child_result_clear(struct k3sup__child_result *result);

#endif
