/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the drivers have in common: one operation on one node, in a context without a worker thread, because strace counts calls per thread.
 */
#ifndef K3SUP_TESTS_CRASH_DRIVER_H
#define K3SUP_TESTS_CRASH_DRIVER_H

#include <k3sup.h>

#include <stdio.h>

/* start: the operation, or no operation and how it ended. Prints the operation's status and its error. Returns the status. */
static inline int drive(const struct k3sup_node_opts *where, int (*start)(k3sup_node *node, char **argv, k3sup_op **ret_op), char **argv)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	int r = k3sup_ctx_new(&inside, &ctx);

	if (r == 0)
		r = k3sup_node_new(ctx, where, &node);
	if (r == 0)
		r = start(node, argv, &op);
	if (r == 0 && op)
		r = k3sup_op_wait(op, -1);
	printf("%d %s\n", r, op && k3sup_op_error(op) ? k3sup_doc_json(k3sup_op_error(op)) : k3sup_error_name(r));
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r;
}

#endif
