/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zoo SEED FIRST TABLES: so many tables, and then mutants until each was caught. Exit 0 only if the library made no mistake and each mutant did.
 */
#include "zoo.h"

#include <k3sup/upgrade.h>

#include <inttypes.h>
#include <sys/fanotify.h>

#include "node/identify.h"
#include "node/node.h"

#define PATIENCE_MS 60000
#define MUTANT_TABLES 3000 /* within so many each mistake must have shown; the rarest shows in one of fifty */

static int watch_fd = -1; /* fanotify on what strangers can write */

/* ---- tables ---- */

static struct member *add(struct table *t, pid_t pid, pid_t group, const char *what)
{
	struct member *m = &t->members[t->count++];

	assert_true(t->count < MAX_MEMBERS);
	*m = (struct member){.pid = pid, .group = group, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
	assert_true(m->pidfd >= 0);
	(void)snprintf(m->what, sizeof(m->what), "%s", what);
	return m;
}

struct member *zoo_start(struct table *t, const struct fake_spec *spec, const char *what)
{
	pid_t pid = fake_start(spec);

	return add(t, pid, pid, what);
}

struct member *zoo_child(struct table *t, const struct member *parent, const char *what)
{
	_free_ char *path = k3sup__fmt("/proc/%d/task/%d/children", (int)parent->pid, (int)parent->pid), *text = NULL;

	assert_int_equal(k3sup__read_file(AT_FDCWD, path, 4096, &text, NULL), 0);
	return add(t, (pid_t)strtol(text, NULL, 10), parent->group, what);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	return ftw->level > 0 ? remove(path) : 0;
}

static const char *const tops[] = {"/usr/local", "/opt", "/var", "/etc", "/run", "/home", "/srv"};

void zoo_clear(struct table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		(void)kill(-t->members[i].group, SIGKILL);
		(void)kill(t->members[i].pid, SIGKILL);
	}
	for (size_t i = 0; i < t->count; i++) {
		struct pollfd end = {.fd = t->members[i].pidfd, .events = POLLIN};

		while (poll(&end, 1, 0) <= 0) {
			(void)waitpid(-1, NULL, WNOHANG); /* we are process 1 */
			(void)poll(&end, 1, 1);
		}
		close(t->members[i].pidfd);
	}
	while (waitpid(-1, NULL, WNOHANG) > 0)
		continue;
	for (size_t i = 0; i < ELEMENTSOF(tops); i++)
		assert_int_equal(nftw(tops[i], remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(mkdir("/srv/container", 0755), 0);
	assert_int_equal(mkdir(HOME, 0755), 0);
	assert_int_equal(chown(HOME, NOBODY, NOBODY), 0);
}

/* ---- the library at work, in a process of its own ---- */

struct answer {
	int identify, upgrade, signalled[4];
	char sentence[200];
	size_t count;
	pid_t pids[4];
};

static int run(k3sup_op *op)
{
	return k3sup_op_wait(op, PATIENCE_MS);
}

static void ask_upgrade(k3sup_node *node, struct answer *answer)
{
	struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts), .payload = "/mnt/payload", .restart = K3SUP_RESTART_NONE, .timeout_ms = PATIENCE_MS};
	k3sup_op *op = NULL;
	const char *text;

	answer->upgrade = k3sup_upgrade(node, &opts, &op);
	if (answer->upgrade == 0)
		answer->upgrade = run(op);
	if (answer->upgrade < 0 && op != NULL && k3sup_doc_str(k3sup_op_error(op), "/message", &text) == 0)
		(void)snprintf(answer->sentence, sizeof(answer->sentence), "%s", text);
	k3sup_op_unref(op);
}

static void ask_signal(k3sup_node *node, k3sup_op *identified, struct answer *answer)
{
	for (size_t i = 0; i < answer->count && i < ELEMENTSOF(answer->signalled); i++) {
		k3sup_process *process = NULL;
		struct k3sup_signal_opts opts = {.struct_size = sizeof(opts), .signo = SIGKILL};
		k3sup_op *op = NULL;

		answer->signalled[i] = k3sup_op_process(identified, (uint32_t)i, &process);
		opts.process = process;
		if (answer->signalled[i] == 0)
			answer->signalled[i] = k3sup_signal(node, &opts, &op);
		if (answer->signalled[i] == 0)
			answer->signalled[i] = run(op);
		k3sup_op_unref(op);
		k3sup_process_unref(process);
	}
}

static void ask(const struct table *t, struct answer *answer)
{
	struct k3sup_ctx_opts ctx_opts = {.struct_size = sizeof(ctx_opts), .flags = K3SUP_CTX_INLINE};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	const char *text;
	int64_t pid;

	answer->identify = k3sup_ctx_new(&ctx_opts, &ctx);
	if (answer->identify == 0)
		answer->identify = k3sup_node_new(ctx, NULL, &node);
	if (answer->identify == 0)
		answer->identify = k3sup_identify(node, NULL, &op);
	if (answer->identify < 0)
		return;
	answer->identify = run(op);
	if (answer->identify < 0 && k3sup_doc_str(k3sup_op_error(op), "/message", &text) == 0)
		(void)snprintf(answer->sentence, sizeof(answer->sentence), "%s", text);
	for (int64_t n = k3sup_doc_len(k3sup_op_result(op), "/candidates"); (int64_t)answer->count < n && answer->count < 4; answer->count++) {
		_free_ char *path = k3sup__fmt("/candidates/%zu/pid", answer->count);

		answer->pids[answer->count] = k3sup_doc_i64(k3sup_op_result(op), path, &pid) == 0 ? (pid_t)pid : 0;
	}
	if (t->swaps)
		ask_upgrade(node, answer);
	if (answer->identify == 0)
		ask_signal(node, op, answer);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
}

/* Returns the reader's pid. */
static pid_t read_table(const struct table *t, struct answer *answer)
{
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		*answer = (struct answer){0};
		if (t->vantage == 2 && unshare(CLONE_NEWNS) < 0)
			_exit(1);
		ask(t, answer);
		_exit(write(fds[1], answer, sizeof(*answer)) == sizeof(*answer) ? 0 : 1);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], answer, sizeof(*answer)), sizeof(*answer));
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return pid;
}

/* ---- judging ---- */

struct score {
	unsigned tables, processes, wrong, refused, touched;
};

static void complain(const struct table *t, uint64_t index, const char *what, const char *more)
{
	if (zoo_mutant != MUTANT_NONE)
		return;
	printf("table %" PRIu64 ": %s%s\n  %s\n", index, what, more, t->story);
	for (size_t i = 0; i < t->count; i++)
		printf("  %d%s %s\n", (int)t->members[i].pid, t->members[i].genuine ? " (genuine)" : "", t->members[i].what);
}

static const struct member *find(const struct table *t, pid_t pid)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->members[i].pid == pid)
			return &t->members[i];
	return NULL;
}

/* What did this process open for writing, or execute, of what strangers can write? */
static bool has_touched(pid_t reader)
{
	_Alignas(struct fanotify_event_metadata) char buf[8192];
	bool touched = false;
	ssize_t got;

	while ((got = read(watch_fd, buf, sizeof(buf))) > 0) {
		const struct fanotify_event_metadata *event = (const struct fanotify_event_metadata *)buf;
		uint32_t n = (uint32_t)got;

		for (; FAN_EVENT_OK(event, n); event = FAN_EVENT_NEXT(event, n)) {
			touched = touched || event->pid == reader || (event->mask & FAN_Q_OVERFLOW) != 0;
			if (event->fd >= 0)
				close(event->fd);
		}
	}
	return touched;
}

static bool is_payload(const char *path)
{
	_free_ char *text = NULL;
	size_t len, tail = strlen(ZOO_NEW);

	return k3sup__read_file(AT_FDCWD, path, 64 << 20, &text, &len) == 0 && len > tail && memcmp(text + len - tail, ZOO_NEW, tail) == 0;
}

static void judge_found(const struct table *t, uint64_t index, const struct answer *a, struct score *score)
{
	size_t genuine = 0, found = 0;

	for (size_t i = 0; i < t->count; i++)
		genuine += t->members[i].genuine;
	for (size_t i = 0; i < a->count; i++) {
		const struct member *m = find(t, a->pids[i]);

		if (m == NULL || !m->genuine) {
			score->wrong++;
			complain(t, index, "found the wrong one: ", m != NULL ? m->what : "something that is not in the table");
		} else {
			found++;
		}
	}
	if (found != genuine || (genuine > 0 && a->identify != 0) || (genuine == 0 && !k3sup__is_no_k3s(a->identify))) {
		score->refused++;
		complain(t, index, "refused, or did not find it: ", a->sentence[0] != '\0' ? a->sentence : k3sup_strerror(a->identify));
	}
}

static void judge_ends(const struct table *t, uint64_t index, const struct answer *a, struct score *score)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct member *m = &t->members[i];
		struct pollfd end = {.fd = m->pidfd, .events = POLLIN};
		bool ended = poll(&end, 1, m->genuine && a->identify == 0 ? PATIENCE_MS : 0) > 0;

		if (m->partner)
			continue;
		if (ended != (m->genuine && a->identify == 0)) {
			score->wrong++;
			complain(t, index, ended ? "ended the wrong one: " : "did not end: ", m->what);
		}
	}
}

static void judge_files(const struct table *t, uint64_t index, const struct answer *a, pid_t reader, struct score *score)
{
	if (has_touched(reader)) {
		score->touched++;
		complain(t, index, "opened for writing or executed what a stranger chose", "");
	}
	if (t->swaps && (a->upgrade != 1 || !is_payload(t->installed))) {
		score->wrong++;
		complain(t, index, "did not replace the installed file: ", a->sentence);
	}
}

static void play(uint64_t seed, uint64_t index, struct score *score)
{
	struct table t = {.random = seed * 1000003 + index};
	struct answer answer = {0};
	pid_t reader;

	zoo_place(&t);
	if (one_in(&t, 2)) {
		zoo_genuine(&t);
		zoo_disguises(&t);
	} else { /* the impostor was there first */
		zoo_disguises(&t);
		zoo_genuine(&t);
	}
	has_touched(-1);
	reader = read_table(&t, &answer);
	judge_found(&t, index, &answer, score);
	judge_ends(&t, index, &answer, score);
	judge_files(&t, index, &answer, reader, score);
	score->tables++;
	score->processes += (unsigned)t.count;
	zoo_clear(&t);
}

/* ---- the world ---- */

static void make_world(void)
{
	for (size_t i = 0; i < ELEMENTSOF(tops); i++)
		assert_int_equal(mount("zoo", tops[i], "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"), 0);
	assert_int_equal(mount("zoo", "/mnt", "tmpfs", 0, "mode=755"), 0);
	fake_install("", "/mnt/payload", ZOO_NEW, NULL);
	watch_fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE, O_RDONLY | O_CLOEXEC);
	assert_true(watch_fd >= 0);
	assert_int_equal(
		fanotify_mark(watch_fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE | FAN_MODIFY | FAN_OPEN_EXEC, AT_FDCWD, "/home"), 0);
	assert_int_equal(
		fanotify_mark(watch_fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE | FAN_MODIFY | FAN_OPEN_EXEC, AT_FDCWD, "/srv"), 0);
}

/* For the one that takes a stranger's path for the target that path must have been touched: else the watch on it proves nothing. */
static bool is_caught(const struct score *score)
{
	return zoo_mutant == MUTANT_TARGET ? score->touched > 0 : score->wrong + score->refused + score->touched > 0;
}

static bool mutants_are_caught(uint64_t seed)
{
	bool all = true;

	for (int mutant = MUTANT_NONE + 1; mutant < MUTANTS; mutant++) {
		struct score score = {0};

		zoo_mutant = (enum zoo_mutant)mutant;
		for (uint64_t i = 0; i < MUTANT_TABLES && !is_caught(&score); i++)
			play(seed, i, &score);
		printf("mutant \"%s\": %s after %u tables (wrong %u, refused %u, touched %u)\n", zoo_mutants[mutant],
			is_caught(&score) ? "caught" : "NOT CAUGHT", score.tables, score.wrong, score.refused, score.touched);
		all = all && is_caught(&score);
		fflush(stdout);
	}
	zoo_mutant = MUTANT_NONE;
	return all;
}

static int in_process_1(uint64_t seed, uint64_t first, uint64_t tables)
{
	struct table empty = {0};
	struct score score = {0};
	bool caught;

	make_world();
	zoo_clear(&empty);
	for (uint64_t i = 0; i < tables; i++)
		play(seed, first + i, &score);
	printf("zoo: seed %" PRIu64 ", from %" PRIu64
	       ": %u tables, %u processes, %u wrong targets, %u refusals, %u times a stranger's path\n",
		seed, first, score.tables, score.processes, score.wrong, score.refused, score.touched);
	fflush(stdout);
	caught = mutants_are_caught(seed);
	return score.wrong + score.refused + score.touched == 0 && score.tables == tables && caught ? 0 : 1;
}

/* Like sandbox_enter(), but process 1 is ourselves: what we start has the parent that systemd is. */
static int enter(uint64_t seed, uint64_t first, uint64_t tables)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		sandbox_skip("unshare(2) is not allowed here");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
			mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
			sandbox_skip("mount(2) is not allowed here");
		exit(in_process_1(seed, first, tables));
	}
	if (waitpid(pid, &status, 0) != pid)
		return 99;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	uint64_t numbers[3] = {(uint64_t)time(NULL), 0, 250};
	int r;

	if (geteuid() != 0)
		sandbox_skip("needs root for a process table of its own");
	for (int i = 1; i < argc && i < 4; i++)
		numbers[i - 1] = strtoull(argv[i], NULL, 10);
	if (fake_build(NULL) != 0)
		return 99;
	zoo_use_program(fake_program);
	r = enter(numbers[0], numbers[1], numbers[2]);
	(void)fake_remove(NULL);
	return r;
}
