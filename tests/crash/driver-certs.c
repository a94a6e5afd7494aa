/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test_every_certs.py stops and fails: certificates retired or restored, in a context without a worker thread, because strace counts calls per thread.
 *
 *   driver-certs retire ROOT | restore ROOT BACKUP
 *   driver-certs wrong-order ROOT      the control: takes pairs away certificate first
 *
 * Exit status: 0 the goal held already, 10 it was reached, 1 anything else.
 */
#include <k3sup.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int run(char **argv)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = argv[2], .data_dir = "/var/lib/rancher/k3s"};
	struct k3sup_certs_restore_opts from = {.struct_size = sizeof(from), .backup = argv[3]};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	int r = k3sup_ctx_new(&inside, &ctx);

	if (r == 0)
		r = k3sup_node_new(ctx, &where, &node);
	if (r == 0)
		r = argv[3] ? k3sup_certs_restore(node, &from, &op) : k3sup_certs_retire(node, NULL, &op);
	if (r == 0)
		r = k3sup_op_wait(op, -1);
	printf("%d %s\n", r, op && k3sup_op_error(op) ? k3sup_doc_json(k3sup_op_error(op)) : k3sup_error_name(r));
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r;
}

static int wrong_order(const char *root)
{
	int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 || unlinkat(dir, "var/lib/rancher/k3s/server/tls/client-admin.crt", 0) < 0)
		return -1;
	return unlinkat(dir, "var/lib/rancher/k3s/server/tls/client-admin.key", 0) < 0 ? -1 : 1;
}

int main(int argc, char **argv)
{
	int r;

	if (argc < 3 || (strcmp(argv[1], "restore") == 0) != (argc == 4))
		return 2;
	(void)umask(0); /* no mode may depend on it */
	/* Fails, and marks in the trace where the loader's calls end and ours begin. */
	if (write(-1, "begin", 5) >= 0)
		return 2;
	r = strcmp(argv[1], "wrong-order") == 0 ? wrong_order(argv[2]) : run(argv);
	return r == 0 ? 0 : r > 0 ? 10 : 1;
}
