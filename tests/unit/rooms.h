/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of swap/, process/ and upgrade/ share: k3s files of several builds that can be executed, and a supervisor that keeps one of them running. All of it
 * happens in a process table of the test's own (sandbox.h).
 */
#ifndef K3SUP_TESTS_UNIT_ROOMS_H
#define K3SUP_TESTS_UNIT_ROOMS_H

#include "node/fake.h"

#include <poll.h>

#include "node/elfmake.h"
#include "node/identify.h"

#define LONG 20000 /* ms: what must not take long is given up then */
#define PAYLOAD "/payload/k3s"
#define BACKUP INSTALLED ".k3sup-backup"
#define V1 "v1.30.4+k3s1"
#define V2 "v1.30.5+k3s1"
#define WRAPPER(hash, version) "embed/" hash ".tar.zst " version " "

/* ---- files ---- */

/* A k3s without a wrapper: the fake, with the Go build information of an inner program. */
static inline int build_image(const char *name, const char *version)
{
	_free_ char *mod = k3sup__fmt(
		"path\tgithub.com/k3s-io/k3s/cmd/server\nbuild\t-ldflags=\"-X github.com/k3s-io/k3s/pkg/version.Version=%s\"\n", version);
	_free_ char *source = k3sup__fmt("%s/%s.c", fake_program, name), *command = NULL;
	struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = mod};
	struct bytes info = {.word = 8};
	FILE *f = fopen(source, "we");

	if (f == NULL)
		return -1;
	put_go(&info, &spec);
	(void)fputs(fake_source, f);
	(void)fputs("__attribute__((section(\".go.buildinfo\"), used, aligned(16))) static const unsigned char info[] = {", f);
	for (size_t i = 0; i < info.len; i++)
		(void)fprintf(f, "%u,", info.at[i]);
	(void)fputs("};\n", f);
	free(info.at);
	command = k3sup__fmt("cc -static -O1 -o %s/%s %s", fake_program, name, source);
	return fclose(f) == 0 ? system(command) : -1; /* NOLINT: a compiler is what tests have */
}

static inline int rooms_build(void **state)
{
	int r = fake_build(state);

	if (r == 0)
		r = build_image("image1", V1);
	return r == 0 ? build_image("image2", V2) : r;
}

/* The wrappers of two builds, equal in size. */
static inline void put_wrapper(const struct scratch *s, const char *path, int build)
{
	fake_install(s->path, path, build == 1 ? WRAPPER(HASH1, V1) : WRAPPER(HASH2, V2), NULL);
}

/* Build 1 is installed, both are unpacked, build 2 is the payload. */
static inline void put_node(const struct scratch *s)
{
	put_wrapper(s, INSTALLED, 1);
	put_wrapper(s, PAYLOAD, 2);
	fake_install_data(s->path, BIN1);
	fake_install_data(s->path, BIN2);
}

static inline char *below(const struct scratch *s, const char *path)
{
	char *whole = k3sup__fmt("%s%s", s->path, path);

	assert_non_null(whole);
	return whole;
}

static inline struct stat stat_below(const struct scratch *s, const char *path)
{
	_free_ char *whole = below(s, path);

	return stat_at(AT_FDCWD, whole);
}

static inline bool is_content(const struct scratch *s, const char *path, int build)
{
	_free_ char *whole = below(s, path), *text = NULL;
	const char *tail = build == 1 ? WRAPPER(HASH1, V1) : WRAPPER(HASH2, V2);
	size_t len;

	return k3sup__read_file(AT_FDCWD, whole, 64 << 20, &text, &len) == 0 && len > strlen(tail) &&
		memcmp(text + len - strlen(tail), tail, strlen(tail)) == 0;
}

/* How many files there are beside a file, and itself. */
static inline size_t count_beside(const struct scratch *s, const char *path)
{
	_free_ char *whole = below(s, path);
	size_t n;
	int fd;

	*strrchr(whole, '/') = '\0';
	fd = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = count_entries(fd);
	close(fd);
	return n;
}

static inline void append_to(const struct scratch *s, const char *path, const char *text)
{
	_free_ char *whole = below(s, path);
	int fd = open(whole, O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* ---- nodes and operations ---- */

static inline k3sup_node *open_node(k3sup_ctx *ctx, const char *root, const char *k3s)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = root, .k3s = k3s};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(ctx, &opts, &node), 0);
	return node;
}

static inline const char *text_of(k3sup_doc *doc, const char *path)
{
	const char *text = "(none)";

	(void)k3sup_doc_str(doc, path, &text);
	return text;
}

static inline int64_t number_of(k3sup_doc *doc, const char *path)
{
	int64_t number = -12345;

	(void)k3sup_doc_i64(doc, path, &number);
	return number;
}

static inline const char *result_text(k3sup_op *op, const char *path)
{
	return text_of(k3sup_op_result(op), path);
}

static inline int64_t result_number(k3sup_op *op, const char *path)
{
	return number_of(k3sup_op_result(op), path);
}

static inline bool has_flag(k3sup_op *op, const char *flag)
{
	for (int64_t i = 0; i < k3sup_doc_len(k3sup_op_result(op), "/flags"); i++) {
		_free_ char *path = k3sup__fmt("/flags/%lld", (long long)i);

		if (k3sup__streq(result_text(op, path), flag))
			return true;
	}
	return false;
}

static inline void assert_status(k3sup_op *op, int expected)
{
	int status = k3sup_op_wait(op, LONG);
	k3sup_doc *error = k3sup_op_error(op);

	if (status != expected)
		fail_msg("%s (%s), not %s", k3sup_error_name(status), error ? text_of(error, "/message") : "", k3sup_error_name(expected));
	assert_int_equal(result_number(op, "/ok"), expected >= 0);
	if (expected < 0)
		assert_int_equal(number_of(error, "/code"), expected);
}

static inline void assert_says(k3sup_op *op, const char *part)
{
	const char *message = text_of(k3sup_op_error(op), "/message");

	if (!strstr(message, part))
		fail_msg("\"%s\" does not say \"%s\"", message, part);
}

/* The k3s that runs, 0: none. */
static inline pid_t running_pid(k3sup_node *node)
{
	k3sup_op *op = NULL;
	pid_t pid;

	assert_int_equal(k3sup_identify(node, NULL, &op), 0);
	pid = k3sup_op_wait(op, LONG) < 0 ? 0 : (pid_t)result_number(op, "/candidates/0/pid");
	k3sup_op_unref(op);
	return pid;
}

static inline k3sup_process *running_process(k3sup_node *node)
{
	k3sup_process *process = NULL;
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_identify(node, NULL, &op), 0);
	assert_status(op, 0);
	assert_int_equal(k3sup_op_process(op, 0, &process), 0);
	k3sup_op_unref(op);
	return process;
}

/* ---- the supervisor ---- */

struct unit {
	const struct scratch *s;
	const char *role;  /* "server", "agent" */
	const char *file;  /* the k3s file it starts */
	const char *image; /* what it executes instead of an unpacked program: the file itself */
	int first_ms;      /* before the first start */
	int pause_ms;      /* between two starts */
	int die_ms;        /* how long the second one and those after it live; 0: for ever */
	bool deaf;         /* what it starts ignores SIGTERM */
	bool once;         /* it starts nothing a second time */
	bool stubborn;     /* it starts build 1 whatever is installed */
	pid_t pid;
	int ready;
};

static inline void pause_ms(int ms)
{
	(void)poll(NULL, 0, ms);
}

/* Which build is installed? As the wrapper does it: by the name of its archive. */
static inline const char *bin_of(const struct unit *u)
{
	return u->stubborn || is_content(u->s, u->file, 1) ? BIN1 : BIN2;
}

static volatile pid_t unit_child;

static inline void unit_mask(int how)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(how, &set, NULL);
}

/* The supervisor ends when what it started has ended. */
static inline void unit_end(int signo)
{
	(void)signo;
	if (unit_child > 0 && kill(unit_child, SIGKILL) == 0)
		(void)waitpid(unit_child, NULL, 0);
	_exit(0);
}

static inline void unit_exec(const struct unit *u, int ready)
{
	_free_ char *program = u->image ? below(u->s, u->image) : k3sup__fmt("%s%s/k3s-%s", u->s->path, bin_of(u), u->role);
	_free_ char *title = k3sup__fmt("%s %s", INSTALLED, u->role);
	const char *argv[] = {u->image ? INSTALLED : title, u->image ? u->role : NULL, NULL};
	char *env[] = {NULL};

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGTERM, u->deaf ? SIG_IGN : SIG_DFL);
	unit_mask(SIG_UNBLOCK);
	if (dup2(ready, 3) == 3)
		execve(program, (char *const *)(uintptr_t)argv, env);
	_exit(1);
}

static inline void unit_main(const struct unit *u, int ready)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGTERM, unit_end);
	pause_ms(u->first_ms);
	for (int n = 0;; n++) {
		unit_mask(SIG_BLOCK);
		unit_child = fork();
		if (unit_child == 0)
			unit_exec(u, ready);
		unit_mask(SIG_UNBLOCK);
		if (n > 0 && u->die_ms) {
			pause_ms(u->die_ms);
			(void)kill(unit_child, SIGKILL);
		}
		(void)waitpid(unit_child, NULL, 0);
		unit_child = 0;
		if (u->once)
			for (;;)
				pause();
		pause_ms(u->pause_ms);
	}
}

/* Waits until one of its k3s has started. */
static inline void unit_wait(const struct unit *u)
{
	struct pollfd p = {.fd = u->ready, .events = POLLIN};
	char byte;

	if (poll(&p, 1, LONG) != 1 || read(u->ready, &byte, 1) != 1)
		fail_msg("the supervisor's k3s did not start");
}

static inline void unit_begin(const struct scratch *s, struct unit *u)
{
	int ready[2];

	u->s = s;
	u->role = u->role ? u->role : "server";
	u->file = u->file ? u->file : INSTALLED;
	u->pause_ms = u->pause_ms ? u->pause_ms : 30;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	u->pid = fork();
	assert_true(u->pid >= 0);
	if (u->pid == 0) {
		close(ready[0]);
		unit_main(u, ready[1]);
	}
	close(ready[1]);
	u->ready = ready[0];
}

static inline void unit_start(const struct scratch *s, struct unit *u)
{
	unit_begin(s, u);
	unit_wait(u);
}

static inline void unit_stop(struct unit *u)
{
	(void)kill(u->pid, SIGTERM);
	(void)waitpid(u->pid, NULL, 0);
	close(u->ready);
}

#endif
