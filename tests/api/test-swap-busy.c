/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The k3s file is replaced hundreds of times while others execute it and read it, and while the host process forks children that keep its descriptors:
 * nobody ever sees ETXTBSY, ENOEXEC, no file, or a short one.
 */
#include "../unit/frame.h"
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define BIN "/usr/local/bin/k3s"
#define SWAPS 500
#define ENOUGH 100 /* swaps, where the machine is too slow for all of them in SECONDS */
#define SECONDS 20
#define PADDING 200000
#define MARK 64

/* Shared with the processes that watch. */
struct seen {
	atomic_bool stop;
	atomic_uint executions, reads;
	atomic_int error; /* the first one */
};

struct forker {
	atomic_bool stop;
	unsigned children;
};

static struct seen *seen;
static char target[512];

static void complain(int error)
{
	int none = 0;

	(void)atomic_compare_exchange_strong(&seen->error, &none, error);
}

/* /bin/true that names an embedded archive and a version; ends with MARK times the same letter, so that a short file shows. */
static void make_payload(const char *path, char letter)
{
	static const char *const names[] = {FRAME_HASH1, FRAME_HASH2};
	const char *name = names[(letter - 'a') % 2];
	unsigned char frame[FRAME_LEN];
	char end[PADDING];
	FILE *f;

	copy_file("/bin/true", path);
	memset(end, letter, sizeof(end));
	f = fopen(path, "ae");
	assert_non_null(f);
	frame_make((char)('1' + (letter - 'a') % 2), frame);
	assert_true(fwrite(frame, sizeof(frame), 1, f) == 1);
	assert_true(fprintf(f, "embed/%s.tar.zst%cv1.30.4+k3s1%c", name, 0, 0) > 0 && fwrite(end, sizeof(end), 1, f) == 1);
	assert_int_equal(fclose(f), 0);
}

static void execute(void)
{
	while (!seen->stop) {
		pid_t pid = fork();
		int status = 0;

		if (pid == 0) {
			execl(target, "k3s", (char *)NULL);
			complain(errno);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			complain(pid < 0 ? errno : ECHILD);
		seen->executions++;
	}
}

static void read_it(void)
{
	char end[MARK];

	while (!seen->stop) {
		int fd = open(target, O_RDONLY | O_CLOEXEC);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < MARK || pread(fd, end, MARK, st.st_size - MARK) != MARK)
			complain(fd < 0 ? errno : EIO);
		else if ((end[0] != 'a' && end[0] != 'b') || memcmp(end, end + 1, MARK - 1) != 0)
			complain(EBADMSG);
		if (fd >= 0)
			close(fd);
		seen->reads++;
	}
}

static pid_t watcher(void (*watch)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		watch();
		_exit(0);
	}
	return pid;
}

/* The host forks whenever it likes; a child has all descriptors for a while, also one that the library is writing through. */
static void *fork_children(void *arg)
{
	const struct timespec while_it_lives = {.tv_nsec = 3000000};
	struct forker *forker = arg;

	while (!forker->stop) {
		pid_t pid = fork();

		if (pid == 0) {
			(void)nanosleep(&while_it_lives, NULL);
			_exit(0);
		}
		if (pid > 0 && waitpid(pid, NULL, 0) == pid)
			forker->children++;
	}
	return NULL;
}

static void swap_to(k3sup_node *node, const char *payload)
{
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = payload};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap(node, &opts, &op), 0);
	if (k3sup_op_wait(op, LONG) != 1)
		fail_msg("%s", k3sup_op_result(op) ? k3sup_doc_json(k3sup_op_result(op)) : "swap takes too long");
	k3sup_op_unref(op);
}

static unsigned swap_many(k3sup_node *node, char payloads[2][600])
{
	struct timespec now, began;
	unsigned n = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &began);
	do {
		swap_to(node, payloads[n % 2]);
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
	} while (++n < SWAPS && !seen->error && (n < ENOUGH || now.tv_sec - began.tv_sec < SECONDS || getenv("K3SUP_TEST_FULL")));
	return n;
}

static void nobody_sees_a_swap_half_done(void **state)
{
	struct host *h = *state;
	struct forker forker = {0};
	char payloads[2][600];
	pid_t watchers[3];
	pthread_t thread;
	unsigned n;

	(void)snprintf(target, sizeof(target), "%s" BIN, h->root);
	make_dirs(h->root, BIN);
	for (int i = 0; i < 2; i++) {
		(void)snprintf(payloads[i], sizeof(payloads[i]), "%s/payload-%d", h->root, i);
		make_payload(payloads[i], (char)('a' + i));
	}
	make_payload(target, 'b');
	for (int i = 0; i < 3; i++)
		watchers[i] = watcher(i < 2 ? execute : read_it);
	assert_int_equal(pthread_create(&thread, NULL, fork_children, &forker), 0);

	n = swap_many(h->node, payloads);

	forker.stop = true;
	pthread_join(thread, NULL);
	seen->stop = true;
	for (int i = 0; i < 3; i++)
		assert_int_equal(waitpid(watchers[i], NULL, 0), watchers[i]);
	if (seen->error)
		fail_msg("after %u swaps: %s", n, strerror(seen->error));
	print_message("%u swaps, %u executions, %u reads, %u children\n", n, seen->executions, seen->reads, forker.children);
	assert_true(n >= ENOUGH && seen->executions >= ENOUGH && seen->reads >= ENOUGH && forker.children >= ENOUGH);
}

static int setup(void **state)
{
	static struct host h;
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = h.root, .k3s = BIN};

	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	(void)snprintf(h.root, sizeof(h.root), "/tmp/k3sup-XXXXXX");
	if (seen == MAP_FAILED || !mkdtemp(h.root))
		return -1;
	*state = &h;
	return k3sup_ctx_new(&inside, &h.ctx) < 0 || k3sup_node_new(h.ctx, &where, &h.node) < 0;
}

static int forget(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int teardown(void **state)
{
	struct host *h = *state;

	k3sup_node_unref(h->node);
	k3sup_ctx_unref(h->ctx);
	(void)munmap(seen, sizeof(*seen));
	return nftw(h->root, forget, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(nobody_sees_a_swap_half_done, setup, teardown)};

	if (geteuid() != 0) {
		(void)fprintf(stderr, "skipped: the library wants files that are root's\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
