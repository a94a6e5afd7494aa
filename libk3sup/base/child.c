/* SPDX-License-Identifier: Apache-2.0 */
#include "base/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child-keeper.h"

/* waitid()'s P_PIDFD; glibc names it since 2.36 only, as an enumerator */
#define WAIT_PIDFD ((idtype_t)3)

#define CHECK_MS 100    /* between two looks at whether the operation shall stop */
#define DRAIN_MS 200    /* a grandchild may go on writing into the pipe after the child's end; nobody waits for it longer than this */
#define GIVE_UP_MS 5000 /* SIGKILL takes effect at once, unless the kernel itself is stuck in a call (a dead NFS server) */

struct run {
	k3sup_op *op;
	const struct k3sup__child_spec *spec;
	int output_fd;
	int socket_fd;
	int pidfd; /* of the keeper */
	struct k3sup__child_result result;
	size_t allocated;
	bool ended;      /* the program has, or could not be started */
	int failed;      /* errno of what could not be done before or at exec */
	int stop;        /* why the operation shall stop */
	int64_t give_up; /* K3SUP__NEVER until it was killed */
};

void k3sup__child_result_clear(struct k3sup__child_result *result)
{
	free(result->output);
	*result = (struct k3sup__child_result){0};
}

static void run_clear(struct run *run)
{
	k3sup__close(run->output_fd);
	k3sup__close(run->socket_fd);
	k3sup__close(run->pidfd);
	k3sup__child_result_clear(&run->result);
}

static int keep_output(struct run *run, const char *bytes, size_t len)
{
	struct k3sup__child_result *result = &run->result;
	size_t room = run->spec->max_output - result->output_len;

	if (len > room) {
		len = room;
		result->truncated = true;
	}
	if (result->output_len + len + 1 > run->allocated) {
		size_t wanted = (result->output_len + len) * 2 + 1;
		char *bigger = realloc(result->output, wanted);

		if (!bigger)
			return -ENOMEM;
		result->output = bigger;
		run->allocated = wanted;
	}
	if (len > 0)
		memcpy(result->output + result->output_len, bytes, len);
	result->output_len += len;
	result->output[result->output_len] = '\0';
	return 0;
}

/* 1 if something was read, 0 at the end or if there is nothing now. */
static int read_output(struct run *run)
{
	char buf[8192];
	ssize_t n = read(run->output_fd, buf, sizeof(buf));
	int r;

	if (n > 0) {
		r = keep_output(run, buf, (size_t)n);
		return r < 0 ? r : 1;
	}
	if (n == 0)
		run->output_fd = k3sup__close(run->output_fd);
	else if (errno != EAGAIN && errno != EINTR)
		return -errno;
	return 0;
}

static void read_message(struct run *run)
{
	struct keeper_message message;
	ssize_t n = recv(run->socket_fd, &message, sizeof(message), MSG_DONTWAIT);

	if (n == 0)
		run->socket_fd = k3sup__close(run->socket_fd);
	if (n != (ssize_t)sizeof(message))
		return;
	run->ended = true;
	if (message.word == KEEPER_FAILED) {
		run->failed = message.value;
	} else if (message.word == KEEPER_EXITED) {
		run->result.exit_code = message.value;
	} else {
		run->result.exit_code = -1;
		run->result.term_signal = message.value;
	}
}

static void kill_it(struct run *run)
{
	const char order = 'k';

	(void)!send(run->socket_fd, &order, sizeof(order), MSG_NOSIGNAL | MSG_DONTWAIT);
	run->give_up = k3sup__deadline(GIVE_UP_MS);
}

/* Kills it if its time or the operation's is over. Returns for how many milliseconds one may wait now. */
static int look_at_clock(struct run *run)
{
	int64_t now = k3sup__now_ms();
	int64_t left;

	if (run->give_up == K3SUP__NEVER) {
		run->stop = k3sup__op_checkpoint(run->op);
		run->result.timed_out = now >= run->spec->deadline;
		if (run->stop < 0 || run->result.timed_out)
			kill_it(run);
	}
	left = (run->give_up == K3SUP__NEVER ? run->spec->deadline : run->give_up) - now;
	return left < CHECK_MS ? (int)(left < 0 ? 0 : left) : CHECK_MS;
}

static int attend(struct run *run)
{
	while (!run->ended) {
		int timeout = look_at_clock(run);
		struct pollfd fds[] = {
			{.fd = run->output_fd, .events = POLLIN},
			{.fd = run->socket_fd, .events = POLLIN},
			{.fd = run->pidfd, .events = POLLIN},
		};
		int r = poll(fds, ELEMENTSOF(fds), timeout);

		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0 && run->give_up != K3SUP__NEVER && k3sup__now_ms() >= run->give_up)
			return 0;
		if (r <= 0)
			continue;
		if (fds[0].revents && (r = read_output(run)) < 0)
			return r;
		if (fds[1].revents)
			read_message(run);
		/* A keeper that was killed says nothing; the program dies with it (PDEATHSIG). Its last word may still be in the socket. */
		if (fds[2].revents && !run->ended) {
			run->result.exit_code = -1;
			run->result.term_signal = SIGKILL;
			if (run->socket_fd >= 0)
				read_message(run);
			run->ended = true;
		}
	}
	return 0;
}

/* What the program wrote before its end is in the pipe by now; the pipe's own end may be far, if a grandchild holds it. */
static int drain(struct run *run)
{
	const int64_t deadline = k3sup__deadline(DRAIN_MS);
	int r;

	do {
		r = run->output_fd < 0 ? 0 : read_output(run);
	} while (r > 0 && k3sup__now_ms() < deadline);
	return r;
}

static int start(struct run *run)
{
	_close_ int output = -1, peer = -1, null = -1;
	int pipe_fds[2], sockets[2];
	struct keeper_fds fds;

	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	run->output_fd = pipe_fds[0];
	output = pipe_fds[1];
	if (fcntl(run->output_fd, F_SETFL, O_NONBLOCK) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	run->socket_fd = sockets[0];
	peer = sockets[1];
	fds = (struct keeper_fds){.null = null, .output = output, .socket = peer};
	return k3sup__keeper_start(run->spec, &fds, &run->pidfd);
}

/* A keeper that has not ended (the kernel holds the program in a call) is left behind; nobody else is told of its end either. */
static void reap(struct run *run)
{
	siginfo_t info;

	if (!run->ended)
		return;
	while (waitid(WAIT_PIDFD, (id_t)run->pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR)
		;
}

int k3sup__child_run(k3sup_op *op, const struct k3sup__child_spec *spec, struct k3sup__child_result *ret)
{
	_cleanup_(run_clear) struct run run = {.op = op, .spec = spec, .output_fd = -1, .socket_fd = -1, .pidfd = -1, .give_up = K3SUP__NEVER};
	const char *name = spec->argv[0];
	int r;

	if (!name || name[0] != '/')
		return k3sup__fail(op, -EINVAL, "a program to run must be named by an absolute path");
	r = keep_output(&run, NULL, 0);
	if (r == 0)
		r = start(&run);
	if (r < 0)
		return k3sup__fail(op, r, "cannot start a process for %s", name);
	r = attend(&run);
	if (r < 0) {
		kill_it(&run);
		run.ended = true;
	}
	reap(&run);
	if (r == 0)
		r = drain(&run);
	if (r < 0)
		return k3sup__fail(op, r, "cannot read what %s says", name);
	if (run.failed)
		return k3sup__fail(op, -run.failed, "cannot run %s", name);
	if (run.stop < 0)
		return run.stop; /* the checkpoint said why */
	if (!run.ended) {
		run.result.exit_code = -1;
		run.result.term_signal = SIGKILL;
	}
	/* It may have ended by itself in the last moment. */
	run.result.timed_out = run.result.timed_out && run.result.term_signal == SIGKILL;
	*ret = run.result;
	run.result = (struct k3sup__child_result){0};
	return 0;
}
