/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper of a child: what runs between clone and exec. Only child.c includes this.
 *
 * Why there is one: a process made with exit_signal 0 tells its parent nothing when it ends, and wait(2) without __WALL does not see it. But exec sets the
 * exit signal back to SIGCHLD (fs/exec.c, de_thread), so what is executed must not be the host's child. The keeper is: it never executes anything, has the
 * program as its own child, waits for it, and tells how it ended through a socket. The host cannot reap it by accident, and could do no harm if it did.
 */
#ifndef K3SUP_BASE_CHILD_KEEPER_H
#define K3SUP_BASE_CHILD_KEEPER_H

#include "base/child.h"

/* What comes through the socket. In the other direction one byte of any value means: kill the program and its process group. */
enum keeper_word { KEEPER_FAILED, KEEPER_EXITED, KEEPER_SIGNALLED };

struct keeper_message {
	enum keeper_word word;
	int value; /* errno, exit status, signal */
};

struct keeper_fds {
	int null;   /* becomes stdin */
	int output; /* becomes stdout and stderr */
	int socket;
};

/* Starts a keeper that starts the program. 0 with a pidfd of the keeper, or -errno. */
int k3sup__keeper_start(const struct k3sup__child_spec *spec, const struct keeper_fds *fds, int *ret_pidfd) _must_check_;

#endif
