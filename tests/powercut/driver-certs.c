/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker of certs_power.py: leafs come (as by a start of k3s), are retired, and are restored, for ever; it prints "ACK n WORD SET" for what is promised to be durable.
 *
 *   driver HOW ROOT - 0 FIRST COUNT     COUNT 0: for ever
 *
 * WORD is retired, restored or gone (retired once more), SET the one of the two sets of leafs (/sets/a, /sets/b on the disk) that it is about. HOW: "certs"; "certs-lazy": nothing of it is synced, which must be
 * found out; "certs-cp": restores by a plain copy, which must be found out, too; "certs-finish": one retire; "certs-rotate": rotations, "certs-upgrade": upgrades with one (crash/driver-rotate.c).
 */
#include <k3sup.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DATA "/var/lib/rancher/k3s"

static const char *const pairs[] = {"server/tls/client-admin", "server/tls/serving-kube-apiserver", "server/tls/etcd/client", "agent/client-kubelet"};

static bool lazy, by_hand;
static const char *root;
static char kept[2][128]; /* the backup of each set */

/* The library's calls come here, too: a program's own symbol goes before the C library's. */
int fsync(int fd)
{
	return lazy ? 0 : (int)syscall(SYS_fsync, fd);
}

static int fail(const char *what, k3sup_op *op, int r)
{
	printf("%s: %d %s\n", what, r, op && k3sup_op_error(op) ? k3sup_doc_json(k3sup_op_error(op)) : strerror(errno));
	k3sup_op_unref(op);
	return -1;
}

static int copy(const char *from, const char *to, bool in_place)
{
	char text[16384], temp[512];
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	ssize_t n = in < 0 ? -1 : read(in, text, sizeof(text));

	snprintf(temp, sizeof(temp), in_place ? "%s" : "%s.start", to);
	out = n < 0 ? -1 : open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0 || write(out, text, (size_t)n) != n || (!in_place && syscall(SYS_fsync, out) < 0) || close(out) + close(in) < 0)
		return -1;
	return in_place ? 0 : rename(temp, to);
}

static int sync_dir_of(const char *path)
{
	char dir[512];
	int fd, r;

	snprintf(dir, sizeof(dir), "%s", path);
	*strrchr(dir, '/') = '\0';
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -1 : (int)syscall(SYS_fsync, fd);
	close(fd);
	return r;
}

/* A set becomes the live one. As a start would, but with care: certificate, then key, each for good. What must not be blamed on us is done well. */
static int put(char set, bool in_place)
{
	static const char *const suffixes[] = {"crt", "key"};
	char from[512], to[512];

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		for (int k = 0; k < 2; k++) {
			snprintf(from, sizeof(from), "%s/sets/%c/%s.%s", root, set, pairs[i], suffixes[k]);
			snprintf(to, sizeof(to), "%s" DATA "/%s.%s", root, pairs[i], suffixes[k]);
			if (copy(from, to, in_place) < 0 || (!in_place && sync_dir_of(to) < 0))
				return fail(to, NULL, -errno);
		}
	return 0;
}

static int retire(k3sup_node *node, int set)
{
	const char *name = "";
	k3sup_op *op = NULL;
	int r = k3sup_certs_retire(node, NULL, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r < 0)
		return fail("retire", op, r);
	if (k3sup_doc_str(k3sup_op_result(op), "/kept", &name) == 0)
		snprintf(kept[set], sizeof(kept[set]), "%s", name);
	k3sup_op_unref(op);
	return 0;
}

static int restore(k3sup_node *node, int set)
{
	struct k3sup_certs_restore_opts from = {.struct_size = sizeof(from), .backup = kept[set]};
	k3sup_op *op = NULL;
	int r = k3sup_certs_restore(node, &from, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r != 1)
		return fail("restore", op, r);
	k3sup_op_unref(op);
	return 0;
}

static void say(unsigned n, const char *word, int set)
{
	printf("ACK %u %s %c\n", n, word, "ab"[set]);
	fflush(stdout);
}

/* As a datastore does: names are on the disk then, what is in the files need not be. And some time passes. */
static void others_sync(void)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/neighbour", root);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (write(fd, "x", 1) == 1)
		(void)syscall(SYS_fsync, fd);
	close(fd);
	usleep(300000);
}

/* Each set in turn: it is there, gone, there again, gone. */
static int work(k3sup_node *node)
{
	for (unsigned n = 1;; n++) {
		int set = n % 2 != 0;

		if (put("ab"[set], false) < 0 || retire(node, set) < 0)
			return -1;
		say(n, "retired", set);
		if ((by_hand ? put("ab"[set], true) : restore(node, set)) < 0)
			return -1;
		say(n, "restored", set);
		if (by_hand)
			others_sync();
		if (retire(node, set) < 0)
			return -1;
		say(n, "gone", set);
	}
}

/* Another program beside this one. */
static int rotate(char **argv)
{
	char program[512], top[512];
	char *const its_argv[] = {program, argv[1], top, NULL};

	snprintf(program, sizeof(program), "%.*s-rotate", (int)sizeof(program) - 8, argv[0]);
	snprintf(top, sizeof(top), "%s/rotated", argv[2]);
	execv(program, its_argv);
	return 1;
}

int main(int argc, char **argv)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .data_dir = DATA};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	int r;

	if (argc != 7)
		return 2;
	if (strcmp(argv[1], "certs-rotate") == 0 || strncmp(argv[1], "certs-upgrade", 13) == 0)
		return rotate(argv);
	where.root = root = argv[2];
	lazy = strcmp(argv[1], "certs-lazy") == 0;
	by_hand = strcmp(argv[1], "certs-cp") == 0;
	r = k3sup_ctx_new(&inside, &ctx);
	if (r == 0)
		r = k3sup_node_new(ctx, &where, &node);
	if (r < 0)
		return fail("node", NULL, r) < 0;
	r = strcmp(argv[1], "certs-finish") == 0 ? retire(node, 0) : work(node);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r == 0 ? 0 : 1;
}
