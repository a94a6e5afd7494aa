/* SPDX-License-Identifier: Apache-2.0 */
#include "base/outsider.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/forked.h"

#define WAIT_PIDFD ((idtype_t)3) /* P_PIDFD: glibc has that since 2.36 only */
#define READY_MS 30000

/* The one between leaves its session to it, and goes: whoever is the next of its parents to take in orphans gets it. */
static _Noreturn void between(const struct k3sup__outsider_spec *spec, int null_fd, int socket_fd)
{
	int pidfd = -1;
	pid_t pid;

	setsid();
	pid = k3sup__forked_clone(SIGCHLD, &pidfd);
	if (pid == 0)
		k3sup__outsider_live(spec, null_fd, socket_fd);
	_exit(pid < 0 ? errno & 0xff : 0);
}

static int take_off(const struct k3sup__outsider_spec *spec, int null_fd, int socket_fd)
{
	_close_ int pidfd = -1;
	sigset_t all, old;
	siginfo_t info = {0};
	pid_t pid;
	int r;

	/* No handler of the host may run in the copy. */
	sigfillset(&all);
	r = pthread_sigmask(SIG_SETMASK, &all, &old);
	if (r != 0)
		return -r;
	pid = k3sup__forked_clone(0, &pidfd);
	if (pid == 0)
		between(spec, null_fd, socket_fd);
	r = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0)
		return r == -EINVAL ? K3SUP_E_UNSUPPORTED : r; /* no CLONE_PIDFD */
	while ((r = waitid(WAIT_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL)) < 0 && errno == EINTR)
		;
	if (r < 0)
		return -errno;
	return info.si_code != CLD_EXITED ? -EIO : -info.si_status;
}

int k3sup__outsider_start(const struct k3sup__outsider_spec *spec, pid_t *ret_pid, int *ret_fd)
{
	_close_ int ours = -1, theirs = -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct pollfd ready = {.events = POLLIN};
	int sockets[2], said = -EPIPE, r;

	if (null < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	ready.fd = ours = sockets[0];
	theirs = sockets[1];
	r = take_off(spec, null, theirs);
	if (r < 0)
		return r;
	theirs = k3sup__close(theirs);
	while ((r = poll(&ready, 1, READY_MS)) < 0 && errno == EINTR)
		;
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	if (recv(ours, &said, sizeof(said), MSG_DONTWAIT) != (ssize_t)sizeof(said) || said == 0)
		return -EPIPE; /* it was killed */
	if (said < 0)
		return said;
	*ret_pid = said;
	*ret_fd = ours;
	ours = -1;
	return 0;
}
