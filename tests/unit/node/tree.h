/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's root directory with files in it.
 */
#ifndef K3SUP_TESTS_UNIT_NODE_TREE_H
#define K3SUP_TESTS_UNIT_NODE_TREE_H

#include "../base/scratch.h"

#include "node/node.h"

static inline void make_parents(struct scratch *s, const char *path)
{
	_free_ char *dir = strdup(path);

	assert_non_null(dir);
	for (char *slash = strchr(dir, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdirat(s->fd, dir, 0755);
		*slash = '/';
	}
}

/* path: without the slash in front. Missing directories are made. */
static inline void put_tree(struct scratch *s, const char *path, const char *content)
{
	make_parents(s, path);
	put_file(s->fd, path, content, 0644);
}

static inline void link_tree(struct scratch *s, const char *to, const char *path)
{
	make_parents(s, path);
	(void)unlinkat(s->fd, path, 0);
	assert_int_equal(symlinkat(to, s->fd, path), 0);
}

static inline k3sup_node *tree_node(struct scratch *s)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	return node;
}

#endif
