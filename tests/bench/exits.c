/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long after a process has ended its end is noticed. For tests/bench/exits.py, which runs it in a process table of its own.
 *
 *   exits ROOT library N     the library waits, N times; prints the microseconds of each
 *   exits ROOT polling N     the control: a look each 50 ms
 *   exits ROOT quiet         the library waits once, for a process that ends when a byte comes on standard input
 *   exits ROOT watching           its control
 *   exits - fake FD US       such a process: when a byte came on FD it sleeps, says the time on descriptor 4, and ends
 *
 * ROOT/var/lib/rancher/k3s/data/<H>/bin/k3s is a copy of this program, k3s-server a link to it.
 */
#include <k3sup.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BIN "/var/lib/rancher/k3s/data/91c5255cd9e1a0963458722d37dec9477c99a25602c838b553f2cb852bde4dde/bin/k3s-server"

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int fake(int fd, unsigned us)
{
	int64_t now;
	char byte;

	if (read(fd, &byte, 1) != 1)
		return 1;
	usleep(us);
	now = now_us();
	return write(4, &now, sizeof(now)) == sizeof(now) ? 0 : 1;
}

struct victim {
	pid_t pid;
	int go, said; /* a byte starts its end; when that was */
};

/* go: -1 for a pipe of its own. */
static struct victim start(const char *root, int go, unsigned us)
{
	struct victim v = {.go = -1};
	char path[4096], text[16];
	int begin[2] = {go, -1}, end[2];

	snprintf(path, sizeof(path), "%s" BIN, root);
	snprintf(text, sizeof(text), "%u", us);
	if ((go < 0 && pipe2(begin, O_CLOEXEC) < 0) || pipe2(end, O_CLOEXEC) < 0)
		exit(2);
	v.pid = fork();
	if (v.pid == 0) {
		/* Clear of each other first: descriptors may be 3 and 4 already. */
		int in = fcntl(begin[0], F_DUPFD_CLOEXEC, 10), out = fcntl(end[1], F_DUPFD_CLOEXEC, 10);

		if (dup2(in, 3) == 3 && dup2(out, 4) == 4)
			execl(path, "k3s server", "-", "fake", "3", text, (char *)NULL);
		_exit(2);
	}
	if (go < 0)
		close(begin[0]);
	close(end[1]);
	v.go = begin[1];
	v.said = end[0];
	return v;
}

/* Until it is there: it may not have executed its program yet. */
static k3sup_process *find(k3sup_node *node)
{
	k3sup_process *process = NULL;

	for (int i = 0; i < 60000 && !process; i++) {
		k3sup_op *op = NULL;

		if (k3sup_identify(node, NULL, &op) == 0 && k3sup_op_wait(op, -1) == 0)
			(void)!k3sup_op_process(op, 0, &process);
		k3sup_op_unref(op);
		if (!process)
			usleep(1000);
	}
	return process;
}

static int by_library(k3sup_op *op)
{
	return k3sup_op_wait(op, -1) == 1 ? 0 : -1;
}

static int by_polling(pid_t pid)
{
	siginfo_t info = {0};

	for (;;) {
		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
			return -1;
		if (info.si_pid == pid)
			return 0;
		usleep(50000);
	}
}

static int one(k3sup_node *node, const char *root, const char *how)
{
	bool quiet = strcmp(how, "quiet") == 0 || strcmp(how, "watching") == 0,
	     polls = strcmp(how, "polling") == 0 || strcmp(how, "watching") == 0;
	struct victim v = start(root, quiet ? STDIN_FILENO : -1, (unsigned)(random() % 50000));
	struct k3sup_wait_exit_opts opts = {.struct_size = sizeof(opts), .process = find(node)};
	int64_t ended = 0, noticed;
	k3sup_op *op = NULL;
	int r = k3sup_wait_exit(node, &opts, &op);

	if (r == 0)
		r = k3sup_op_wait(op, 0) == -EINPROGRESS ? 0 : -1;
	if (r == 0 && !quiet && write(v.go, "x", 1) != 1)
		r = -1;
	if (r == 0)
		r = polls ? by_polling(v.pid) : by_library(op);
	noticed = now_us();
	if (r < 0 || read(v.said, &ended, sizeof(ended)) != sizeof(ended) || waitpid(v.pid, NULL, 0) != v.pid)
		return -1;
	printf("%lld\n", (long long)(noticed - ended));
	k3sup_op_unref(op);
	k3sup_process_unref(opts.process);
	close(v.said);
	if (!quiet)
		close(v.go);
	return 0;
}

int main(int argc, char **argv)
{
	struct k3sup_node_opts where = {.struct_size = sizeof(where)};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	int r, n;

	if (argc == 5 && strcmp(argv[2], "fake") == 0)
		return fake(atoi(argv[3]), (unsigned)atoi(argv[4]));
	if (argc < 3)
		return 2;
	n = argc == 4 ? atoi(argv[3]) : 1;
	where.root = argv[1];
	r = k3sup_ctx_new(NULL, &ctx);
	if (r == 0)
		r = k3sup_node_new(ctx, &where, &node);
	srandom(1);
	while (r == 0 && n-- > 0)
		r = one(node, argv[1], argv[2]);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r < 0;
}
