/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children, for the few verbs that need one. The host's SIGCHLD handler, waitpid(-1) and SIG_IGN neither see nor steal them: between the host and the program
 * stands a keeper (child-keeper.h). Clean environment, no inherited descriptors, default signals, umask 022, own session, stdin from /dev/null, bounded
 * output, a deadline. The program does not outlive the keeper; if the host dies, it may finish.
 */
#ifndef K3SUP_BASE_CHILD_H
#define K3SUP_BASE_CHILD_H

#include "base/op.h"

struct k3sup__child_spec {
	const char *const *argv; /* argv[0] is an absolute path */
	const char *const *env;  /* NULL: empty */
	int root_fd;             /* chroot into this directory first; -1: no */
	int enter_fd;      /* a /proc/PID directory, whose process's mount, net, ipc, uts and cgroup namespaces are entered before; 0: no */
	const char *cwd;   /* NULL: "/" */
	int64_t deadline;  /* CLOCK_BOOTTIME; then SIGKILL to its process group */
	size_t max_output; /* bytes kept of stdout and stderr together; more is read and dropped */
	/*
	 * NULL, or a descriptor, which is executed instead of the file named by argv[0]: what was verified, whatever has that name by now. It cannot dump core, and has a limit of
	 * processor time and of descriptors.
	 */
	const int *image;
	/* With image, and a root_fd that is empty: it gets no capabilities (also as root), no network where that can be had, cannot write files, and has narrow limits. */
	bool confined;
};

struct k3sup__child_result {
	int exit_code;   /* 0..255, or -1 if a signal ended it */
	int term_signal; /* 0 if it exited */
	bool timed_out;  /* we killed it */
	bool truncated;  /* it said more than max_output */
	char *output;    /* stdout and stderr as they came, NUL-terminated; owned */
	size_t output_len;
};

/*
 * Runs it to its end, on a work function's thread. 0 if it could be started (look at the result), or -errno of what failed, exec included. When the operation is
 * asked to stop, the program's process group is killed and the code of k3sup__op_checkpoint() comes back. A grandchild that goes on after the program's
 * end is left alone, and what it writes is not waited for.
 */
int k3sup__child_run(k3sup_op *op, const struct k3sup__child_spec *spec, struct k3sup__child_result *ret) _must_check_;
void k3sup__child_result_clear(struct k3sup__child_result *result);

#endif
