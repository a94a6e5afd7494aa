/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outsider: a process that runs two given programs, one that takes something down and one that brings it up, when it is told to, and the second one also when its time is over
 * or when whoever it works for has died. It outlives whoever started it: it has a session of its own, nothing of our descriptors, process 1's limits, and, by what its starter
 * arranges, other control groups and namespaces. So what it runs is neither cut short nor owned by us.
 *
 * It listens on a unix socket; who has the right to open that one's name (root) tells it what to do, one message and its answer for each connection. Messages are carried out one
 * after the other, programs to their end. It ends, and removes the socket's name, when it is told to, when its time was over and the start succeeded, or when it is not armed
 * and has carried out an order, or its owner is gone.
 */
#ifndef K3SUP_BASE_OUTSIDER_H
#define K3SUP_BASE_OUTSIDER_H

#include "base/op.h"

enum k3sup__outsider_word {
	K3SUP__OUTSIDER_ARM, /* value: ms until the start; with the descriptor of the owner's pidfd. It may be armed already: its time and owner are new */
	K3SUP__OUTSIDER_REARM,   /* value: ms. -ENOENT if it is not armed, -EALREADY if its time was over once */
	K3SUP__OUTSIDER_RELEASE, /* its owner may end: only the time counts from now on. -ENOENT, -EALREADY */
	K3SUP__OUTSIDER_DOWN,    /* runs this program; the answer has its end. Its own time begins anew then */
	K3SUP__OUTSIDER_UP,
	K3SUP__OUTSIDER_BOTH,   /* down, and up whatever came of that */
	K3SUP__OUTSIDER_DISARM, /* and ends. Answers 1 if it was armed and its time was not over, else 0 */
	K3SUP__N_OUTSIDER_WORDS,
};

struct k3sup__outsider_message {
	uint32_t magic, word;
	int64_t value;
};
#define K3SUP__OUTSIDER_MAGIC 0x6b337301u /* of this form of message and answer */

struct k3sup__outsider_answer {
	uint32_t magic;
	int32_t result; /* 0 or more; -errno: not done */
	int32_t status; /* of the last program: its exit status, 128 + signal; 0 if none was run */
	int32_t pid;
	char text[496]; /* what that said, the beginning; NUL at the end */
};

struct k3sup__outsider_spec {
	const char *name;          /* how it is called in lists of processes, 15 bytes */
	int listen_fd;             /* bound, not listening */
	int dirfd;                 /* where its name is */
	const char *file;          /* that name */
	int owner_fd;              /* a pidfd */
	int root_fd;               /* its root; -1: ours, or that of the namespaces that it enters */
	int enter_fd;              /* a /proc/PID directory, whose namespaces it enters; 0: none */
	const char *const *groups; /* files cgroup.procs, as it will see them, into which it writes itself; NULL at the end */
	const char *const *down, *const *up, *const *up_again; /* programs; the last one is tried where "up" has failed */
	const char *const *env;
};

/*
 * Starts one. 0 with its pid; it does nothing before it gets a byte through ret_fd, and ends when that is closed without: see whether it is where it shall be. Else -errno of
 * what could not be done. It is nobody's child.
 */
int k3sup__outsider_start(const struct k3sup__outsider_spec *spec, pid_t *ret_pid, int *ret_fd) _must_check_;

/* For outsider.c: what the new process does. socket_fd: the other end of ret_fd. */
_Noreturn void k3sup__outsider_live(const struct k3sup__outsider_spec *spec, int null_fd, int socket_fd);

#endif
