/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process handle that cannot become another process: pidfd, the descriptor of its /proc directory, and the four numbers that name it for good.
 */
#ifndef K3SUP_BASE_PROCESS_H
#define K3SUP_BASE_PROCESS_H

#include <k3sup/doc.h>
#include <k3sup/process.h>

#include "base/op.h"

/* What /proc/PID/stat says; comm is the kernel's 15 bytes. */
struct k3sup__stat {
	char comm[64];
	char state;
	pid_t ppid;
	uint64_t start_time; /* clock ticks since boot */
};

/* Parses the text of /proc/PID/stat (comm may hold blanks, parentheses and line ends). 0 or K3SUP_E_PARSE. */
int k3sup__stat_parse(const char *text, struct k3sup__stat *ret) _must_check_;
/* Reads it through the descriptor of a /proc/PID directory. -ESRCH if the process is gone. */
int k3sup__stat_read(int proc_pid_fd, struct k3sup__stat *ret) _must_check_;

/* The boot id of this kernel, 36 characters and NUL; read through this proc mount. */
int k3sup__boot_id(int proc_fd, char ret[static 37]) _must_check_;

/*
 * Takes hold of a process: pidfd_open(pid), then the start time is compared with the one that was read before through dirfd (the /proc/PID directory, taken over on
 * success). -ESRCH if it is gone or is another one by now. The info document is set later by k3sup__process_set_info().
 */
int k3sup__process_new(int proc_fd, pid_t pid, int dirfd, uint64_t start_time, k3sup_process **ret) _must_check_;
int k3sup__process_set_info(k3sup_process *process, k3sup__json *info) _must_check_; /* consumes info; adds boot_id, pid_ns, pid, start_time */

/* The program it was identified by. Once that is set, k3sup__process_check() compares. */
void k3sup__process_set_program(k3sup_process *process, dev_t dev, ino_t ino);
/*
 * Is it still the process that was identified, and executes the same program? Looked up through the descriptor of its /proc directory. 0; -ESRCH: it has ended, K3SUP_E_GONE:
 * it executes another program; or why that cannot be known.
 */
int k3sup__process_check(const k3sup_process *process) _must_check_;

pid_t k3sup__process_pid(const k3sup_process *process);
uint64_t k3sup__process_start_time(const k3sup_process *process);
int k3sup__process_dirfd(const k3sup_process *process);
/* Has it ended? (A zombie has.) One poll of the pidfd, never blocks. */
bool k3sup__process_ended(const k3sup_process *process);
bool k3sup__process_same(const k3sup_process *a, const k3sup_process *b);
/* How it ended, as waitpid(2) would say it. -ENODATA: it has not, or the kernel tells only its parent. */
int k3sup__process_exit_status(const k3sup_process *process, int *ret) _must_check_;
/* pidfd_send_signal(). 0, -ESRCH, -EPERM. */
int k3sup__process_signal(const k3sup_process *process, int signo) _must_check_;

#endif
