/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of base/ that touch files share: a fresh directory, an operation to collect sentences, and a count of descriptors so that none leaks.
 */
#ifndef K3SUP_TESTS_UNIT_BASE_SCRATCH_H
#define K3SUP_TESTS_UNIT_BASE_SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/engine.h"

struct scratch {
	char path[64]; /* of the directory */
	int fd;
	size_t fds; /* open ones before the test */
	k3sup_ctx *ctx;
	k3sup_op *op;
};

static inline size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline int scratch_step(k3sup_op *op)
{
	(void)op;
	return 0;
}

static const struct k3sup__op_class scratch_class = {.verb = "test", .step = scratch_step};

static inline int scratch_setup(void **state)
{
	struct k3sup_ctx_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_CTX_INLINE};
	struct scratch *s = calloc(1, sizeof(*s));
	const char *base = getenv("TMPDIR");

	assert_non_null(s);
	/* The first loop of a process leaves a pipe behind for libuv's signals. */
	assert_int_equal(k3sup_ctx_new(&opts, &s->ctx), 0);
	k3sup_ctx_unref(s->ctx);
	s->fds = count_fds();
	(void)snprintf(s->path, sizeof(s->path), "%s/k3sup-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
	assert_non_null(mkdtemp(s->path));
	s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(s->fd >= 0);
	assert_int_equal(k3sup_ctx_new(&opts, &s->ctx), 0);
	assert_int_equal(k3sup__op_new(s->ctx, &scratch_class, K3SUP__NEVER, &s->op), 0);
	*state = s;
	return 0;
}

static inline int scratch_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int scratch_teardown(void **state)
{
	struct scratch *s = *state;

	k3sup_op_unref(s->op);
	k3sup_ctx_unref(s->ctx);
	close(s->fd);
	nftw(s->path, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
	if (count_fds() != s->fds)
		fail_msg("%zu descriptors are open, %zu were before the test", count_fds(), s->fds);
	free(s);
	return 0;
}

/* The sentence of the failure so far, and a fresh start for the next one. */
static inline char *scratch_sentence(struct scratch *s)
{
	char *text = strdup(s->op->message ? s->op->message : "");

	assert_non_null(text);
	k3sup__op_forgive(s->op);
	return text;
}

static inline void assert_sentence(struct scratch *s, const char *part)
{
	char *text = scratch_sentence(s);

	if (!strstr(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
	free(text);
}

static inline void put_file(int dirfd, const char *name, const char *content, mode_t mode)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, content, strlen(content)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static inline void assert_content(int dirfd, const char *name, const char *content)
{
	_free_ char *text = NULL;

	assert_int_equal(k3sup__read_file(dirfd, name, 16 << 20, &text, NULL), 0);
	assert_string_equal(text, content);
}

static inline struct stat stat_at(int dirfd, const char *name)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st = (struct stat){0};
	return st;
}

static inline size_t count_entries(int dirfd)
{
	DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static inline void need_root(void)
{
	if (geteuid() != 0) {
		print_message("needs root\n");
		skip();
	}
}

/* Valgrind 3.19 answers ENOSYS to pidfd_open, pidfd_send_signal and clone3, has descriptors of its own, and takes minutes for hundreds of forks. */
static inline bool under_valgrind(void)
{
	if (!getenv("K3SUP_TEST_VALGRIND"))
		return false;
	print_message("[  SKIPPED ] not under valgrind\n");
	return true;
}

#define scratch_test(fn) cmocka_unit_test_setup_teardown(fn, scratch_setup, scratch_teardown)

#endif
