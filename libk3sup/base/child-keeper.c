/* SPDX-License-Identifier: Apache-2.0 */
#include "base/child-keeper.h"

#include <fcntl.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/forked.h"

/*
 * Everything below runs in a copy of a process that may have had other threads in the middle of anything: only async-signal-safe functions,
 * no memory from the heap, and no return.
 */

/* Descriptors of the keeper; the program has the first three. */
enum { SLOT_STDIN, SLOT_STDOUT, SLOT_STDERR, SLOT_SOCKET, SLOT_ROOT, SLOT_ENTER, SLOT_IMAGE, N_SLOTS };

static void tell(int fd, enum keeper_word word, int value)
{
	struct keeper_message message = {.word = word, .value = value};

	/* Nobody listens any more: then nobody needs to know. */
	(void)!send(fd, &message, sizeof(message), MSG_NOSIGNAL);
}

static _Noreturn void give_up(int fd, int error)
{
	tell(fd, KEEPER_FAILED, error);
	_exit(127);
}

/*
 * The keeper lives as long as the program does. A copy of the host's descriptors in its hands would keep locks held, pipes open, and files
 * that are to be executed busy for writing: all go, and what is needed goes to fixed places.
 */
static int arrange_fds(const struct keeper_fds *fds, const struct k3sup__child_spec *spec)
{
	const int wanted[N_SLOTS] = {fds->null, fds->output, fds->output, fds->socket, spec->root_fd,
		spec->enter_fd > 0 ? spec->enter_fd : -1, spec->image ? *spec->image : -1};

	return k3sup__forked_arrange(wanted, N_SLOTS);
}

static int enter_root(const struct k3sup__child_spec *spec)
{
	int r = spec->enter_fd > 0 ? k3sup__forked_enter(SLOT_ENTER) : 0;

	if (r < 0)
		return r;
	if (spec->root_fd >= 0 && (fchdir(SLOT_ROOT) < 0 || chroot(".") < 0))
		return -errno;
	if (chdir(spec->cwd ? spec->cwd : "/") < 0)
		return -errno;
	return 0;
}

static const struct limit {
	unsigned what; /* as the C library's enumeration; an int would change its sign on the way */
	rlim_t wide, narrow;
} limits[] = {
	{RLIMIT_CPU, 900, 30}, /* seconds; unpacking costs some on a fast machine, and a minute on a slow board */
	{RLIMIT_CORE, 0, 0},
	{RLIMIT_FSIZE, (rlim_t)2 << 30, 0},
	{RLIMIT_NOFILE, 1024, 64},
	{RLIMIT_MEMLOCK, 65536, 0},
};

static int limit(bool narrow)
{
	for (size_t i = 0; i < ELEMENTSOF(limits); i++) {
		const rlim_t most = narrow ? limits[i].narrow : limits[i].wide;
		struct rlimit both;

		if (getrlimit(limits[i].what, &both) < 0)
			return -errno;
		both.rlim_max = both.rlim_max < most ? both.rlim_max : most; /* raising it is for CAP_SYS_RESOURCE */
		both.rlim_cur = both.rlim_max;
		if (setrlimit(limits[i].what, &both) < 0)
			return -errno;
	}
	return 0;
}

/* Without SECBIT_NOROOT exec would give root all its capabilities back. */
static int confine(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0) < 0)
		return -errno;
	(void)unshare(CLONE_NEWNET); /* kernels and containers without it are no reason not to ask */
	return 0;
}

/* Becomes the program. */
static _Noreturn void program(const struct k3sup__child_spec *spec, pid_t keeper)
{
	static char *const no_env[] = {NULL};
	char *const *env = spec->env ? (char *const *)(uintptr_t)spec->env : no_env;
	sigset_t none;
	int r;

	/* It must not outlive its keeper: nobody would know of it. The keeper may have gone before the first line here. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper)
		_exit(127);
	setsid();
	umask(022);
	r = enter_root(spec);
	if (r == 0 && spec->confined)
		r = confine();
	if (r == 0 && spec->image)
		r = limit(spec->confined);
	if (r < 0)
		give_up(SLOT_SOCKET, -r);
	close(SLOT_ROOT);
	close(SLOT_ENTER);
	if (fcntl(SLOT_SOCKET, F_SETFD, FD_CLOEXEC) == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (!spec->image)
			execve(spec->argv[0], (char *const *)(uintptr_t)spec->argv, env);
		else if (fcntl(SLOT_IMAGE, F_SETFD, FD_CLOEXEC) == 0)
			syscall(SYS_execveat, SLOT_IMAGE, "", spec->argv, env, AT_EMPTY_PATH);
	}
	give_up(SLOT_SOCKET, errno);
}

/* Until the program has ended; kills it when told to. It is not reaped before, so its number is still its own. */
static void wait_for(pid_t pid, int pidfd)
{
	struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = SLOT_SOCKET, .events = POLLIN}};
	char order;

	for (;;) {
		if (poll(fds, ELEMENTSOF(fds), -1) < 0)
			continue; /* all signals are blocked: this is SIGSTOP and SIGCONT */
		if (fds[0].revents)
			return;
		if (fds[1].revents && recv(SLOT_SOCKET, &order, sizeof(order), MSG_DONTWAIT) > 0) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL); /* it may not have had the time to make its group */
		} else if (fds[1].revents) {
			fds[1].fd = -1; /* the host is gone; the program may finish what it does */
		}
	}
}

static _Noreturn void keeper(const struct k3sup__child_spec *spec, const struct keeper_fds *fds)
{
	const pid_t self = getpid();
	siginfo_t info = {0};
	int pidfd = -1, r;
	pid_t pid;

	k3sup__forked_default_signals();
	r = arrange_fds(fds, spec);
	if (r < 0)
		give_up(fds->socket, -r);
	r = k3sup__forked_close_from(N_SLOTS);
	if (r < 0)
		give_up(SLOT_SOCKET, -r);
	pid = k3sup__forked_clone(SIGCHLD, &pidfd);
	if (pid == 0)
		program(spec, self);
	if (pid < 0)
		give_up(SLOT_SOCKET, errno);
	/* Only the program may hold its output's pipe, or its end would not be seen there. */
	close(SLOT_STDOUT);
	close(SLOT_STDERR);
	if (spec->root_fd >= 0)
		close(SLOT_ROOT);
	if (spec->enter_fd > 0)
		close(SLOT_ENTER);
	if (spec->image)
		close(SLOT_IMAGE);
	wait_for(pid, pidfd);
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | __WALL) < 0 && errno == EINTR)
		;
	tell(SLOT_SOCKET, info.si_code == CLD_EXITED ? KEEPER_EXITED : KEEPER_SIGNALLED, info.si_status);
	_exit(0);
}

int k3sup__keeper_start(const struct k3sup__child_spec *spec, const struct keeper_fds *fds, int *ret_pidfd)
{
	sigset_t all, old;
	int pidfd = -1, r;
	pid_t pid;

	/* No handler of the host may run in the copy. */
	sigfillset(&all);
	r = pthread_sigmask(SIG_SETMASK, &all, &old);
	if (r != 0)
		return -r;
	pid = k3sup__forked_clone(0, &pidfd);
	if (pid == 0)
		keeper(spec, fds);
	r = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == -EINVAL)
		return K3SUP_E_UNSUPPORTED; /* no CLONE_PIDFD */
	if (r == 0)
		*ret_pidfd = pidfd;
	return r;
}
