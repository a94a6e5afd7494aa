/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small text files of a node that decide something: units, scripts, configuration. Read only where nobody but root could have written them.
 */
#ifndef K3SUP_NODE_NODEFILE_H
#define K3SUP_NODE_NODEFILE_H

#include "base/strv.h"
#include "node/node.h"

struct k3sup__nodefile {
	char *text; /* with a NUL behind it */
	size_t len;
	char *path;     /* inside the root, free of links */
	struct stat st; /* when it was opened */
};

/*
 * 0, or without a sentence -ENOENT (there is none, or a link to nothing). With a sentence that names it: K3SUP_E_UNTRUSTED (somebody else could change it or a
 * directory on the way), -EISDIR, -EINVAL (no regular file), -EFBIG, other -errno.
 */
int k3sup__nodefile_read(k3sup_op *op, const k3sup_node *node, const char *path, size_t max, struct k3sup__nodefile *ret) _must_check_;
void k3sup__nodefile_clear(struct k3sup__nodefile *file);

/* The names in a directory that want() likes, sorted by bytes; no "." and "..". The same codes; -ENOTDIR. want: NULL: all. More than 4096: -E2BIG. */
int k3sup__nodedir_list(k3sup_op *op, const k3sup_node *node, const char *path, bool (*want)(const char *name), struct k3sup__strv *ret) _must_check_;

#endif
