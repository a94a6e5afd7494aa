/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a copy of this process needs that goes on by itself. Such a copy may have been taken from a process that had other threads in the middle of anything: only
 * async-signal-safe functions, no memory from the heap. All of these are.
 */
#ifndef K3SUP_BASE_FORKED_H
#define K3SUP_BASE_FORKED_H

#include <sys/types.h>

#define K3SUP__FORKED_FDS 12

/* fork() with a pidfd; exit_signal as for clone(2), 0: none. 0 in the copy; -1 with errno. */
pid_t k3sup__forked_clone(int exit_signal, int *ret_pidfd);
/* Puts these descriptors (-1: none; at most K3SUP__FORKED_FDS) to 0, 1, 2 and so on. 0, -errno. */
int k3sup__forked_arrange(const int *wanted, int count);
int k3sup__forked_close_from(int first); /* 0, -errno, K3SUP_E_UNSUPPORTED */
void k3sup__forked_default_signals(void);
/* The namespaces, but that of pids, of the process whose /proc directory this is. Its root becomes that of the mount namespace. 0, -errno. */
int k3sup__forked_enter(int proc_pid_fd);

#endif
