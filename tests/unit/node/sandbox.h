/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process table and a mount table of the test's own, so that it does not depend on what runs on the host, nor the host on it. Pid 1 there does nothing but wait.
 */
#ifndef K3SUP_TESTS_UNIT_NODE_SANDBOX_H
#define K3SUP_TESTS_UNIT_NODE_SANDBOX_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SANDBOX_SKIP 77

/* Waits for `pid`, and for all others that come; ends the way it ended. */
static inline void sandbox_wait_and_exit(pid_t pid)
{
	int status, code = 99;
	pid_t ended;

	while ((ended = waitpid(-1, &status, 0)) > 0 || errno == EINTR)
		if (ended == pid) {
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			break;
		}
	_exit(code); /* the end of pid 1 ends everything else in there */
}

static inline void sandbox_skip(const char *why)
{
	printf("skipped: %s\n", why);
	fflush(stdout);
	_exit(SANDBOX_SKIP);
}

/* Returns in a process of the new namespaces only. Without the rights for it, the test program ends as skipped. */
static inline void sandbox_enter(void)
{
	pid_t pid;

	if (geteuid() != 0)
		sandbox_skip("needs root for a process table of its own");
	fflush(stdout);
	pid = fork();
	if (pid != 0)
		sandbox_wait_and_exit(pid);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		sandbox_skip("unshare(2) is not allowed here");
	pid = fork();
	if (pid != 0)
		sandbox_wait_and_exit(pid);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		sandbox_skip("mount(2) is not allowed here");
	pid = fork();
	if (pid != 0)
		sandbox_wait_and_exit(pid);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

#endif
