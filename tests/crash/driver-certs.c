/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test_every_certs.py stops and fails: certificates retired or restored, in a context without a worker thread, because strace counts calls per thread.
 *
 *   driver-certs retire ROOT | restore ROOT BACKUP
 *
 * and programs with one mistake each, which have to be found out:
 *
 *   wrong-order ROOT        takes a pair away certificate first
 *   no-fsync ROOT           retires, but nothing is synced
 *   new-ca ROOT             retires, and writes an authority anew, with the same name
 *   open-copy ROOT          makes a copy of a key that others can read, and takes that right away behind it
 *   plain-copy ROOT BACKUP  copies what was kept over what is live
 *
 * Exit status: 0 the goal held already, 10 it was reached, 1 anything else.
 */
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TLS "var/lib/rancher/k3s/server/tls/"
#define KEPT "var/lib/k3sup/certs/"

static bool lazy;

/* The library's calls come here, too: a program's own symbol goes before the C library's. */
int fsync(int fd)
{
	return lazy ? 0 : (int)syscall(SYS_fsync, fd);
}

static int start(k3sup_node *node, char **argv, k3sup_op **op)
{
	struct k3sup_certs_restore_opts from = {.struct_size = sizeof(from), .backup = argv[3]};

	return strcmp(argv[1], "restore") == 0 ? k3sup_certs_restore(node, &from, op) : k3sup_certs_retire(node, NULL, op);
}

static int run(char **argv)
{
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = argv[2], .data_dir = "/var/lib/rancher/k3s"};

	return drive(&where, start, argv);
}

/* ---- the mistakes ---- */

static int wrong_order(int dir)
{
	if (unlinkat(dir, TLS "client-admin.crt", 0) < 0)
		return errno == ENOENT ? 0 : -1;
	return unlinkat(dir, TLS "client-admin.key", 0) < 0 ? -1 : 1;
}

static int copy(int dir, const char *from, const char *to, mode_t mode)
{
	int in = openat(dir, from, O_RDONLY | O_CLOEXEC), out = in < 0 ? -1 : openat(dir, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	char text[8192];
	ssize_t n = out < 0 ? -1 : read(in, text, sizeof(text));

	if (n < 0 || write(out, text, (size_t)n) != n || fchmod(out, 0600) < 0 || fsync(out) < 0)
		return -1;
	return close(in) + close(out);
}

static int new_ca(int dir)
{
	int fd = openat(dir, TLS "server-ca.crt", O_WRONLY | O_APPEND | O_CLOEXEC);

	return fd < 0 || write(fd, "\n", 1) != 1 ? -1 : close(fd);
}

static int open_copy(int dir)
{
	if ((mkdirat(dir, "var/lib/k3sup", 0700) < 0 && errno != EEXIST) || (mkdirat(dir, KEPT, 0700) < 0 && errno != EEXIST))
		return -1;
	return copy(dir, TLS "client-admin.key", KEPT "client-admin.key", 0644) < 0 ? -1 : 1;
}

static int plain_copy(int dir, const char *backup)
{
	static const char *const names[] = {"client-admin.crt", "client-admin.key"};
	char from[256], to[256];

	for (size_t i = 0; i < 2; i++) {
		snprintf(from, sizeof(from), KEPT "%s/server/tls/%s", backup, names[i]);
		snprintf(to, sizeof(to), TLS "%s", names[i]);
		if (copy(dir, from, to, 0600) < 0)
			return -1;
	}
	return 1;
}

static int make_mistake(char **argv)
{
	int dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	lazy = strcmp(argv[1], "no-fsync") == 0;
	if (lazy)
		return run(argv);
	if (strcmp(argv[1], "new-ca") == 0)
		return new_ca(dir) < 0 ? -1 : run(argv);
	if (strcmp(argv[1], "open-copy") == 0)
		return open_copy(dir);
	if (strcmp(argv[1], "plain-copy") == 0)
		return plain_copy(dir, argv[3]);
	return strcmp(argv[1], "wrong-order") == 0 ? wrong_order(dir) : -1;
}

int main(int argc, char **argv)
{
	bool with_backup = argc > 1 && (strcmp(argv[1], "restore") == 0 || strcmp(argv[1], "plain-copy") == 0);
	int r;

	if (argc < 3 || with_backup != (argc == 4))
		return 2;
	(void)umask(0); /* no mode may depend on it */
	/* Fails, and marks in the trace where the loader's calls end and ours begin. */
	if (write(-1, "begin", 5) >= 0)
		return 2;
	r = strcmp(argv[1], "restore") == 0 || strcmp(argv[1], "retire") == 0 ? run(argv) : make_mistake(argv);
	return r == 0 ? 0 : r > 0 ? 10 : 1;
}
