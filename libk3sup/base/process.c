/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include "base/doc.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct k3sup_process {
	atomic_uint refs;
	pid_t pid;
	uint64_t start_time;
	int pidfd;
	int dirfd; /* its /proc directory: what is read there is about this process or is ESRCH */
	char boot_id[37];
	uint64_t pid_ns;
	bool program_known;
	dev_t exe_dev;
	ino_t exe_ino;
	k3sup_doc *info;
};

/* ---- /proc/PID/stat ---- */

int k3sup__stat_parse(const char *text, struct k3sup__stat *ret)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')'); /* comm may hold both */
	unsigned long long start;
	size_t len;
	long ppid;
	char state;

	if (!open || !close || close < open)
		return K3SUP_E_PARSE;
	/* field 3 state, 4 ppid, 22 starttime (proc(5)) */
	if (sscanf(close + 1, " %c %ld %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &state, &ppid, &start) != 3)
		return K3SUP_E_PARSE;
	len = (size_t)(close - open - 1);
	if (len >= sizeof(ret->comm))
		len = sizeof(ret->comm) - 1;
	memcpy(ret->comm, open + 1, len);
	ret->comm[len] = '\0';
	ret->state = state;
	ret->ppid = (pid_t)ppid;
	ret->start_time = start;
	return 0;
}

int k3sup__stat_read(int proc_pid_fd, struct k3sup__stat *ret)
{
	_free_ char *text = NULL;
	int r = k3sup__read_file(proc_pid_fd, "stat", 4096, &text, NULL);

	if (r == -ENOENT)
		return -ESRCH;
	return r < 0 ? r : k3sup__stat_parse(text, ret);
}

int k3sup__boot_id(int proc_fd, char ret[static 37])
{
	_free_ char *text = NULL;
	size_t len;
	int r = k3sup__read_file(proc_fd, "sys/kernel/random/boot_id", 64, &text, &len);

	if (r < 0)
		return r;
	if (len < 36)
		return K3SUP_E_PARSE;
	memcpy(ret, text, 36);
	ret[36] = '\0';
	return 0;
}

/* ---- the handle ---- */

/* pidfd_open(2) and pidfd_send_signal(2) got their libc wrappers with glibc 2.36; Debian 11 and RHEL 9 have older ones. */
static int open_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? (errno == ENOSYS ? K3SUP_E_UNSUPPORTED : -errno) : fd;
}

/*
 * The pidfd names whoever has the number now. It is the process that was seen before if that one's /proc directory still answers with the same start time
 * after the pidfd was opened: a number can only be given to another process once the first one is gone, and then its directory says ESRCH.
 */
static int take_hold(k3sup_process *p, int proc_fd, int dirfd)
{
	struct k3sup__stat stat;
	struct stat ns;
	int r;

	p->pidfd = open_pidfd(p->pid);
	if (p->pidfd < 0)
		return p->pidfd;
	r = k3sup__stat_read(dirfd, &stat);
	if (r < 0)
		return r;
	if (stat.start_time != p->start_time)
		return -ESRCH;
	r = k3sup__boot_id(proc_fd, p->boot_id);
	if (r < 0)
		return r;
	/* Ours, which is the one that p->pid is a number of. The process's own cannot be read without CAP_SYS_PTRACE, nor once it is a zombie. */
	if (fstatat(proc_fd, "self/ns/pid", &ns, 0) < 0)
		return -errno;
	p->pid_ns = ns.st_ino;
	return 0;
}

int k3sup__process_new(int proc_fd, pid_t pid, int dirfd, uint64_t start_time, k3sup_process **ret)
{
	k3sup_process *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	atomic_init(&p->refs, 1);
	p->pid = pid;
	p->start_time = start_time;
	p->dirfd = -1;
	r = take_hold(p, proc_fd, dirfd);
	if (r < 0) {
		k3sup__close(p->pidfd);
		free(p);
		return r;
	}
	p->dirfd = dirfd;
	*ret = p;
	return 0;
}

int k3sup__process_set_info(k3sup_process *p, k3sup__json *info)
{
	k3sup__json_set_str(info, "boot_id", p->boot_id);
	k3sup__json_set_int(info, "pid_ns", (int64_t)p->pid_ns);
	k3sup__json_set_int(info, "pid", p->pid);
	k3sup__json_set_int(info, "start_time", (int64_t)p->start_time);
	if (k3sup__json_broken(info)) {
		k3sup__json_unref(info);
		return -ENOMEM;
	}
	p->info = k3sup_doc_unref(p->info);
	return k3sup__doc_new(info, &p->info);
}

k3sup_process *k3sup_process_ref(k3sup_process *process)
{
	if (process)
		atomic_fetch_add_explicit(&process->refs, 1, memory_order_relaxed);
	return process;
}

k3sup_process *k3sup_process_unref(k3sup_process *process)
{
	if (process && atomic_fetch_sub_explicit(&process->refs, 1, memory_order_acq_rel) == 1) {
		k3sup__close(process->pidfd);
		k3sup__close(process->dirfd);
		k3sup_doc_unref(process->info);
		free(process);
	}
	return NULL;
}

k3sup_doc *k3sup_process_info(k3sup_process *process)
{
	return process ? process->info : NULL;
}

int k3sup_process_pidfd(k3sup_process *process)
{
	return process ? process->pidfd : -EINVAL;
}

void k3sup__process_set_program(k3sup_process *p, dev_t dev, ino_t ino)
{
	p->program_known = true;
	p->exe_dev = dev;
	p->exe_ino = ino;
}

int k3sup__process_check(const k3sup_process *p)
{
	struct k3sup__stat now;
	struct stat exe;
	int r = k3sup__process_ended(p) ? -ESRCH : k3sup__stat_read(p->dirfd, &now);

	if (r < 0)
		return r;
	if (now.start_time != p->start_time) /* a directory of /proc never becomes another process's */
		return -ESRCH;
	if (!p->program_known)
		return 0;
	if (fstatat(p->dirfd, "exe", &exe, 0) < 0)
		return errno == ENOENT ? -ESRCH : -errno; /* a process that is ending has none */
	return exe.st_dev == p->exe_dev && exe.st_ino == p->exe_ino ? 0 : K3SUP_E_GONE;
}

pid_t k3sup__process_pid(const k3sup_process *process)
{
	return process->pid;
}
uint64_t k3sup__process_start_time(const k3sup_process *process)
{
	return process->start_time;
}
int k3sup__process_dirfd(const k3sup_process *process)
{
	return process->dirfd;
}

bool k3sup__process_ended(const k3sup_process *process)
{
	return poll(&(struct pollfd){.fd = process->pidfd, .events = POLLIN}, 1, 0) > 0;
}

/* Linux 6.15 tells everybody who holds a pidfd, once the process was reaped. The numbers are its ABI; headers of older systems lack them. */
struct pidfd_info {
	uint64_t mask, cgroupid;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
};
#define PIDFD_INFO_EXIT ((uint64_t)1 << 3)
#define PIDFD_GET_INFO _IOWR(0xff, 11, struct pidfd_info)

int k3sup__process_exit_status(const k3sup_process *process, int *ret)
{
	struct pidfd_info info = {.mask = PIDFD_INFO_EXIT};
	_free_ char *text = NULL;
	const char *at;
	int skipped;

	if (ioctl(process->pidfd, PIDFD_GET_INFO, &info) == 0 && (info.mask & PIDFD_INFO_EXIT)) {
		*ret = info.exit_code;
		return 0;
	}
	/* Until it is reaped its stat has it, the last of 52 fields, for those who may trace it. */
	if (k3sup__read_file(process->dirfd, "stat", 4096, &text, NULL) < 0)
		return -ENODATA;
	at = strrchr(text, ')');
	if (!at || at[1] != ' ' || at[2] != 'Z')
		return -ENODATA;
	for (skipped = 2; skipped < 52 && at; skipped++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -ENODATA;
	*ret = (int)strtol(at, NULL, 10);
	return 0;
}

bool k3sup__process_same(const k3sup_process *a, const k3sup_process *b)
{
	return a->pid == b->pid && a->start_time == b->start_time && a->pid_ns == b->pid_ns && k3sup__streq(a->boot_id, b->boot_id);
}

int k3sup__process_signal(const k3sup_process *process, int signo)
{
	return syscall(SYS_pidfd_send_signal, process->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}
