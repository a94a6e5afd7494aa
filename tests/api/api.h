/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the public interface share: a node below a fresh directory with a process in it that is k3s by all that counts for identification.
 */
#ifndef K3SUP_TESTS_API_API_H
#define K3SUP_TESTS_API_API_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <k3sup.h>

#define H "data/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DATA_DIR "/var/lib/rancher/k3s"
#define LONG 60000 /* ms: what must not take long is given up then */

struct host {
	char root[64];
	char file[80]; /* some file for build_read */
	pid_t pid;
	k3sup_ctx *ctx;
	k3sup_node *node;
	k3sup_process *process;
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

static inline void make_dirs(const char *root, const char *path)
{
	char at[512];
	size_t base = strlen(root);

	(void)snprintf(at, sizeof(at), "%s%s", root, path);
	for (char *c = at + base + 1; *c; c++)
		if (*c == '/') {
			*c = '\0';
			assert_true(mkdir(at, 0755) == 0 || errno == EEXIST);
			*c = '/';
		}
}

static inline void copy_file(const char *from, const char *to)
{
	char buf[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(out, buf, (size_t)n), n);
	assert_int_equal(n, 0);
	assert_int_equal(fchmod(out, 0755), 0);
	close(in);
	close(out);
}

/* sleep(1) under k3s's name and at its place, where nobody but us can write. Waits until it is what it shall be. */
static inline pid_t start_k3s(const char *root)
{
	char path[512], link[600], exe[64], found[512] = "";
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s" DATA_DIR "/" H "/bin/k3s", root);
	(void)snprintf(link, sizeof(link), "%s-server", path);
	make_dirs(root, DATA_DIR "/" H "/bin/k3s");
	if (access(path, F_OK) < 0) {
		copy_file("/bin/sleep", path);
		assert_int_equal(symlink("k3s", link), 0);
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		execl(link, "k3s server", "3600", (char *)NULL);
		_exit(127);
	}
	(void)snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)pid);
	while (strcmp(found, path) != 0) {
		ssize_t n = readlink(exe, found, sizeof(found) - 1);

		assert_true(n > 0 && kill(pid, 0) == 0);
		found[n] = '\0';
	}
	return pid;
}

static inline void end_k3s(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

/* Finds the process through the library, as a user would have to. */
static inline k3sup_process *identify(k3sup_node *node)
{
	k3sup_process *process = NULL;
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_identify(node, NULL, &op), 0);
	if (k3sup_op_wait(op, LONG) != 0)
		fail_msg("%s", k3sup_op_result(op) ? k3sup_doc_json(k3sup_op_result(op)) : "identify takes too long");
	assert_int_equal(k3sup_op_process(op, 0, &process), 0);
	k3sup_op_unref(op);
	return process;
}

static inline void host_setup(struct host *h, uint32_t ctx_flags)
{
	struct k3sup_ctx_opts ctx_opts = {.struct_size = sizeof(ctx_opts), .flags = ctx_flags};
	struct k3sup_node_opts node_opts = {.struct_size = sizeof(node_opts), .root = h->root};
	const char *base = getenv("TMPDIR");

	(void)snprintf(h->root, sizeof(h->root), "%s/k3sup-XXXXXX", base && strlen(base) < 32 ? base : "/tmp");
	assert_non_null(mkdtemp(h->root));
	(void)snprintf(h->file, sizeof(h->file), "%s/file", h->root);
	copy_file("/bin/sleep", h->file);
	h->pid = start_k3s(h->root);
	assert_int_equal(k3sup_ctx_new(&ctx_opts, &h->ctx), 0);
	assert_int_equal(k3sup_node_new(h->ctx, &node_opts, &h->node), 0);
	h->process = identify(h->node);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void host_teardown(struct host *h)
{
	k3sup_process_unref(h->process);
	k3sup_node_unref(h->node);
	k3sup_ctx_unref(h->ctx);
	end_k3s(h->pid);
	nftw(h->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline k3sup_op *read_build(k3sup_ctx *ctx, const char *path)
{
	struct k3sup_build_read_opts opts = {.struct_size = sizeof(opts), .path = path};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_build_read(ctx, &opts, &op), 0);
	return op;
}

static inline k3sup_op *wait_exit(k3sup_node *node, k3sup_process *process, int64_t timeout_ms)
{
	struct k3sup_wait_exit_opts opts = {.struct_size = sizeof(opts), .process = process, .timeout_ms = timeout_ms};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_wait_exit(node, &opts, &op), 0);
	return op;
}

#endif
