/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identify COUNT ROUNDS, in fresh pid and mount namespaces: so many processes and one k3s; then, in turn, how long each of these takes:
 *
 *   identify   the library names the k3s
 *   state      the library says in which state the node is
 *   floor      one readlink of /proc/PID/exe for each process: the least that looks at them all
 *   upstream   what the upstream upgrade script does
 *   pgrep      pgrep -f
 *
 * Prints a line "NAME MEDIAN MIN MAX" in microseconds for each.
 */
#include <k3sup.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BIN "/var/lib/rancher/k3s/data/91c5255cd9e1a0963458722d37dec9477c99a25602c838b553f2cb852bde4dde/bin"
#define STACK ((size_t)16384)
#define MAX_ROUNDS 101

static int sleeper(void *arg)
{
	while (arg == NULL)
		pause();
	return 0;
}

/* They share their memory: ten thousand of them cost little. */
static void start_many(long count)
{
	char *stacks = mmap(NULL, (size_t)count * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (stacks == MAP_FAILED)
		exit(3);
	for (long i = 0; i < count; i++)
		if (clone(sleeper, stacks + (size_t)(i + 1) * STACK, CLONE_VM | SIGCHLD, NULL) < 0)
			exit(4);
}

/* This very program under the name of one. */
static pid_t start_k3s(void)
{
	char part[sizeof(BIN)] = BIN, proc[64];
	char buffer[65536];
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to;
	ssize_t n;
	pid_t pid;

	if (mount("bench", "/var/lib", "tmpfs", 0, "mode=755") < 0)
		exit(5);
	for (char *p = part + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		(void)mkdir(part, 0755);
		*p = '/';
	}
	(void)mkdir(BIN, 0755);
	to = open(BIN "/k3s", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)n) != n)
			exit(6);
	close(from);
	close(to);
	if (n < 0 || symlink("k3s", BIN "/k3s-server") < 0)
		exit(6);
	pid = fork();
	if (pid == 0) {
		execl(BIN "/k3s-server", "/usr/local/bin/k3s server", (char *)NULL);
		_exit(7);
	}
	/* Until it is called so. */
	snprintf(proc, sizeof(proc), "/proc/%d/comm", (int)pid);
	for (;;) {
		int fd = open(proc, O_RDONLY | O_CLOEXEC);
		char name[16] = "";

		if (fd < 0 || read(fd, name, sizeof(name) - 1) < 0)
			exit(8);
		close(fd);
		if (strcmp(name, "k3s-server\n") == 0)
			return pid;
		sched_yield();
	}
}

static k3sup_node *node;
static pid_t k3s;

static int by_library(void)
{
	k3sup_op *op = NULL;
	int64_t pid = 0;
	int r = k3sup_identify(node, NULL, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r == 0 && (k3sup_doc_i64(k3sup_op_result(op), "/candidates/0/pid", &pid) < 0 || pid != k3s))
		r = -ESRCH;
	k3sup_op_unref(op);
	return r;
}

static int by_state(void)
{
	k3sup_op *op = NULL;
	int64_t pid = 0;
	int r = k3sup_state(node, NULL, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r == 0 && (k3sup_doc_i64(k3sup_op_result(op), "/running/pid", &pid) < 0 || pid != k3s))
		r = -ESRCH;
	k3sup_op_unref(op);
	return r;
}

static int floor_of_all(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	char name[300], link[4096];
	volatile ssize_t total = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(name, sizeof(name), "%s/exe", entry->d_name);
		total += readlinkat(dirfd(dir), name, link, sizeof(link));
	}
	closedir(dir);
	return 0;
}

static int shell(const char *command)
{
	int status = system(command);

	return WIFEXITED(status) && WEXITSTATUS(status) <= 1 ? 0 : -ECHILD;
}

static int upstream(void)
{
	return shell("ps -ef | grep -E '( |/)k3s .*(server|agent)' | grep -E -v '(init|grep|channelserver|supervise-daemon)' | awk '{print "
		     "$2}' >/dev/null");
}

static int pgrep(void)
{
	return shell("pgrep -f '( |/)k3s .*(server|agent)' >/dev/null");
}

static int compare(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} contestants[] = {{"identify", by_library}, {"state", by_state}, {"floor", floor_of_all}, {"upstream", upstream}, {"pgrep", pgrep}};
	enum { N = sizeof(contestants) / sizeof(contestants[0]) };
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	static int64_t times[N][MAX_ROUNDS];
	k3sup_ctx *ctx = NULL;
	int rounds;

	if (argc != 3)
		return sleeper(NULL); /* as the k3s */
	rounds = atoi(argv[2]);
	if (rounds < 1 || rounds > MAX_ROUNDS)
		return 2;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	k3s = start_k3s();
	start_many(atol(argv[1]));
	if (k3sup_ctx_new(&inside, &ctx) < 0 || k3sup_node_new(ctx, NULL, &node) < 0)
		return 9;
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < N; i++) {
			int which = round % 2 ? N - 1 - i : i, r;
			int64_t began = now_us();

			r = contestants[which].run();
			times[which][round] = now_us() - began;
			if (r < 0) {
				fprintf(stderr, "%s: %d\n", contestants[which].name, r);
				return 10;
			}
		}
	for (int i = 0; i < N; i++) {
		qsort(times[i], (size_t)rounds, sizeof(times[i][0]), compare);
		printf("%s %lld %lld %lld\n", contestants[i].name, (long long)times[i][rounds / 2], (long long)times[i][0],
			(long long)times[i][rounds - 1]);
	}
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return 0;
}
