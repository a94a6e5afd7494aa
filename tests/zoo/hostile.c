/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process tables that do not hold still, flood, or never answer. A genuine k3s among them is found, and nothing takes for ever.
 */
#include "zoo.h"

#include "base/process.h"
#include "node/identify.h"
#include "node/node.h"
#include "node/procscan.h"

#define BIG (2 << 20)
#define STORM 4

static k3sup_ctx *ctx;
static k3sup_node *node;

static const struct fake_spec genuine = {.root = "", .file = BIN1 "/k3s-server", .title = "/usr/local/bin/k3s server", .cwd = DATA_DIR "/server"};

/* ---- vanishing at each read ---- */

static pid_t victim;
static unsigned calls, fatal; /* the victim ends right before this call */

static void count_call(void)
{
	if (victim != 0 && ++calls == fatal) {
		fake_stop(victim);
		victim = 0;
	}
}

#define WRAP(name, parameters, arguments) \
	int __real_k3sup__##name parameters; \
	int __wrap_k3sup__##name parameters; \
	int __wrap_k3sup__##name parameters \
	{ \
		count_call(); \
		return __real_k3sup__##name arguments; \
	}

WRAP(proc_exe, (int proc_fd, pid_t pid, char *text), (proc_fd, pid, text))
WRAP(proc_open, (int proc_fd, pid_t pid, int *ret), (proc_fd, pid, ret))
WRAP(proc_uids, (int dirfd, uid_t ret[static 4]), (dirfd, ret))
WRAP(proc_stat, (int dirfd, const char *link, struct stat *ret), (dirfd, link, ret))
WRAP(proc_link, (int dirfd, const char *link, char **ret), (dirfd, link, ret))
WRAP(proc_command, (int dirfd, enum k3sup__command *ret), (dirfd, ret))
WRAP(stat_read, (int dirfd, struct k3sup__stat *ret), (dirfd, ret))
WRAP(process_new, (int proc_fd, pid_t pid, int dirfd, uint64_t start_time, k3sup_process **ret), (proc_fd, pid, dirfd, start_time, ret))

static size_t scan(void)
{
	struct k3sup__sighting sighting;
	size_t count;

	assert_int_equal(k3sup__identify_scan(NULL, node, NULL, &sighting), 0);
	count = sighting.count;
	k3sup__sighting_clear(&sighting);
	return count;
}

static void one_that_vanishes_at_each_read_is_not_there(void **state)
{
	struct fake_spec specs[] = {genuine, genuine, {.root = "", .file = BIN1 "/k3s", .title = "/usr/local/bin/k3s", .args = {"server"}}};
	unsigned all = 0;

	(void)state;
	specs[1].child = "k3s server";
	for (size_t i = 0; i < ELEMENTSOF(specs); i++) {
		unsigned first = all;

		for (fatal = 1; victim == 0; fatal++, all++) {
			calls = 0;
			victim = fake_start(&specs[i]);
			(void)scan();                      /* whatever it found was there when it looked; no failure */
			while (victim == 0 && scan() != 0) /* the child of a pair may take a moment longer */
				(void)sched_yield();
		}
		fake_stop(victim);
		victim = 0;
		assert_true(all - first > 10);
	}
	printf("vanished at %u reads\n", all);
}

/* ---- storms ---- */

static void a_storm_of_forks_hides_nothing(void **state)
{
	_free_ char *program = k3sup__fmt("%s/fake", fake_program);
	pid_t pid = fake_start(&genuine), storm[STORM];
	int64_t began = k3sup__now_ms();

	(void)state;
	for (size_t i = 0; i < STORM; i++) {
		storm[i] = fork();
		if (storm[i] == 0) {
			(void)setpgid(0, 0);
			for (;;) {
				pid_t one = vfork();

				if (one == 0) {
					execl(program, "k3s server", (char *)NULL); /* ends at once: descriptor 3 is not there */
					_exit(1);
				}
				(void)waitpid(one, NULL, 0);
			}
		}
		(void)setpgid(storm[i], storm[i]);
	}
	for (int i = 0; i < 200; i++)
		assert_int_equal(scan(), 1);
	printf("200 scans in a storm took %lld ms\n", (long long)(k3sup__now_ms() - began));
	for (size_t i = 0; i < STORM; i++)
		fake_stop(storm[i]);
	fake_stop(pid);
}

/* ---- arguments ---- */

static pid_t start_big(const struct fake_spec *spec, const char *first)
{
	enum { WORD = 100000, WORDS = BIG / WORD };
	char *word = malloc(WORD + 1), *argv[WORDS + 3] = {0};
	int ready[2];
	char byte;
	pid_t pid;

	memset(word, 'x', WORD);
	word[WORD] = '\0';
	argv[0] = (char *)(uintptr_t)spec->title;
	argv[1] = (char *)(uintptr_t)first;
	for (size_t i = 0; i < WORDS; i++)
		argv[i + 2] = word;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		(void)setpgid(0, 0);
		if (dup2(ready[1], 3) < 0 || (spec->uid != 0 && setresuid(spec->uid, spec->uid, spec->uid) < 0))
			_exit(1);
		execve(spec->file, argv, (char *[]){NULL});
		_exit(2);
	}
	(void)setpgid(pid, pid);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	free(word);
	return pid;
}

static void arguments_of_2_mb_are_not_read(void **state)
{
	struct fake_spec spec = {.root = "", .file = INSTALLED, .title = INSTALLED},
			 user = {.root = "", .file = BIN1 "/k3s", .title = "k3s", .uid = NOBODY};
	pid_t pid, other;

	(void)state;
	fake_install("", INSTALLED, ZOO_OLD, NULL);
	other = start_big(&user, "server");
	pid = start_big(&spec, "server");
	assert_int_equal(scan(), 1);
	fake_stop(pid);
	pid = start_big(&spec, "kubectl");
	assert_int_equal(scan(), 0);
	fake_stop(pid);
	fake_stop(other);
	assert_int_equal(unlink(INSTALLED), 0);
}

/*
 * Whoever reads its arguments waits for ever. Kernels before 4.17 did that where they lay in a FUSE file (CVE-2018-1120), all do it where the process's memory is locked; here a
 * fifo lies over them.
 */
static pid_t start_stuck(const char *path, const char *name, uid_t uid, bool new_mnt)
{
	_free_ char *file = k3sup__fmt("%s/k3s", path), *link = k3sup__fmt("%s/%s", path, name), *fifo = k3sup__fmt("/home/fifo-%s", name);
	const char *const links[] = {name, NULL};
	struct fake_spec spec = {.root = "", .file = link, .title = "/usr/local/bin/k3s server", .uid = uid, .new_mnt = new_mnt};
	_free_ char *cmdline = NULL;
	pid_t pid;

	if (access(link, X_OK) < 0)
		fake_install("", file, "", strcmp(name, "k3s") == 0 ? NULL : links);
	pid = fake_start(&spec);
	cmdline = k3sup__fmt("/proc/%d/cmdline", (int)pid);
	if (mkfifo(fifo, 0600) < 0)
		assert_int_equal(errno, EEXIST);
	assert_int_equal(mount(fifo, cmdline, NULL, MS_BIND, NULL), 0);
	return pid;
}

/* Evidence that it really is stuck: another process reads them, and has not come back after a while. */
static void assert_stuck(pid_t pid)
{
	_free_ char *path = k3sup__fmt("/proc/%d/cmdline", (int)pid);
	int done[2];
	pid_t reader;

	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	reader = fork();
	if (reader == 0)
		_exit(open(path, O_RDONLY | O_CLOEXEC) >= 0 ? 0 : 1);
	close(done[1]);
	assert_int_equal(poll(&(struct pollfd){.fd = done[0], .events = POLLIN}, 1, 300), 0);
	assert_int_equal(kill(reader, SIGKILL), 0);
	assert_int_equal(waitpid(reader, NULL, 0), reader);
	close(done[0]);
}

static void arguments_that_never_come_are_not_waited_for(void **state)
{
	static const struct {
		const char *path, *name;
		uid_t uid;
		bool new_mnt;
	} cases[] = {
		{HOME, "k3s", NOBODY, false},    /* a user's program */
		{BIN2, "exe", NOBODY, false},    /* a user who runs a program of the node's */
		{HOME, "k3s-server", 0, false},  /* root's, of a user's directory */
		{"/opt/tools", "k3s", 0, false}, /* root's, by the right name */
		{BIN2, "exe", 0, true},          /* a container's root */
	};
	pid_t pids[ELEMENTSOF(cases)], pid;
	int64_t began;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_free_ char *dir = strdup(cases[i].path);

		make_dirs(dir);
		if (strcmp(dir, HOME) == 0)
			assert_int_equal(chown(HOME, NOBODY, NOBODY), 0);
		pids[i] = start_stuck(cases[i].path, cases[i].name, cases[i].uid, cases[i].new_mnt);
		assert_stuck(pids[i]);
	}
	pid = fake_start(&genuine);
	began = k3sup__now_ms();
	assert_int_equal(scan(), 1);
	assert_true(k3sup__now_ms() - began < 60000);
	printf("a scan beside %zu that never answer took %lld ms\n", ELEMENTSOF(cases), (long long)(k3sup__now_ms() - began));
	fake_stop(pid);
	/* And the genuine one itself: what it is, its name tells. */
	pid = start_stuck(BIN2, "k3s-server", 0, false);
	assert_stuck(pid);
	assert_int_equal(scan(), 1);
	fake_stop(pid);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		fake_stop(pids[i]);
}

static int group_setup(void **state)
{
	static const char *const tops[] = {"/var", "/home", "/opt", "/usr/local"};

	if (fake_build(state) != 0)
		return -1;
	for (size_t i = 0; i < ELEMENTSOF(tops); i++)
		if (mount("zoo", tops[i], "tmpfs", 0, "mode=755") < 0)
			return -1;
	fake_install_data("", BIN1);
	return k3sup_ctx_new(NULL, &ctx) < 0 || k3sup_node_new(ctx, NULL, &node) < 0 ? -1 : 0;
}

static int group_teardown(void **state)
{
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return fake_remove(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_vanishes_at_each_read_is_not_there),
		cmocka_unit_test(a_storm_of_forks_hides_nothing),
		cmocka_unit_test(arguments_of_2_mb_are_not_read),
		cmocka_unit_test(arguments_that_never_come_are_not_waited_for),
	};

	sandbox_enter();
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
