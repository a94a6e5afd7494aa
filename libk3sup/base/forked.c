/* SPDX-License-Identifier: Apache-2.0 */
#include "base/forked.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <k3sup/error.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same everywhere but on alpha */
#endif

/* fork() for one that needs a pidfd. Containers' older seccomp profiles refuse clone3 with ENOSYS or EPERM; clone can do the same since 5.2. */
pid_t k3sup__forked_clone(int exit_signal, int *ret_pidfd)
{
	struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)ret_pidfd, .exit_signal = (unsigned)exit_signal};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid >= 0 || (errno != ENOSYS && errno != EPERM))
		return (pid_t)pid;
#if defined(__s390x__)
	pid = syscall(SYS_clone, 0UL, (unsigned long)(CLONE_PIDFD | exit_signal), ret_pidfd, 0UL, 0UL);
#else
	pid = syscall(SYS_clone, (unsigned long)(CLONE_PIDFD | exit_signal), 0UL, ret_pidfd, 0UL, 0UL);
#endif
	return (pid_t)pid;
}

static bool parse_fd(const char *name, int *ret)
{
	int n = 0;

	for (; *name; name++) {
		if (*name < '0' || *name > '9')
			return false;
		n = n * 10 + (*name - '0');
	}
	*ret = n;
	return true;
}

/* Without close_range(2) (before 5.9, or forbidden): one by one, as /proc lists them. */
static int close_listed(int first)
{
	char buf[2048] __attribute__((aligned(__alignof__(struct dirent64))));
	int dirfd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ssize_t n;

	if (dirfd < 0)
		return K3SUP_E_UNSUPPORTED;
	while ((n = getdents64(dirfd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			struct dirent64 *entry = (void *)(buf + at);
			int fd;

			if (parse_fd(entry->d_name, &fd) && fd >= first && fd != dirfd)
				close(fd);
			at += entry->d_reclen;
		}
	}
	if (n < 0)
		return -errno;
	if (dirfd >= first)
		close(dirfd);
	return 0;
}

int k3sup__forked_close_from(int first)
{
	if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0)
		return 0;
	return close_listed(first);
}

int k3sup__forked_arrange(const int *wanted, int count)
{
	int moved[K3SUP__FORKED_FDS];

	/* First out of the way of the places themselves: the host may have closed its standard descriptors, so any number can be among these. */
	for (int i = 0; i < count; i++) {
		moved[i] = wanted[i] < 0 ? -1 : fcntl(wanted[i], F_DUPFD, count);
		if (wanted[i] >= 0 && moved[i] < 0)
			return -errno;
	}
	for (int i = 0; i < count; i++) {
		if (moved[i] < 0)
			close(i);
		else
			dup2(moved[i], i);
	}
	return 0;
}

void k3sup__forked_default_signals(void)
{
	const struct sigaction action = {.sa_handler = SIG_DFL};

	/* What is ignored stays ignored over exec, so all are named. libc refuses those that it keeps for itself. */
	for (int signo = 1; signo < NSIG; signo++)
		(void)sigaction(signo, &action, NULL);
}

/* A process with several threads may not do this (EINVAL, man 2 setns); this copy of it has one. */
int k3sup__forked_enter(int proc_pid_fd)
{
	static const char *const names[] = {"ns/cgroup", "ns/ipc", "ns/uts", "ns/net", "ns/mnt"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		int fd = openat(proc_pid_fd, names[i], O_RDONLY | O_CLOEXEC), r;

		if (fd < 0 && errno == ENOENT && i < ELEMENTSOF(names) - 1) /* the kernel was built without that kind */
			continue;
		if (fd < 0)
			return -errno;
		r = setns(fd, 0) < 0 ? -errno : 0;
		close(fd);
		if (r < 0)
			return r;
	}
	return 0;
}
