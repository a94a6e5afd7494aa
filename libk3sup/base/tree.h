/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small trees of files: of secret ones of ours, written and put on disk; of any, removed. Nobody else writes there, and no link is followed.
 */
#ifndef K3SUP_BASE_TREE_H
#define K3SUP_BASE_TREE_H

#include "base/op.h"

/* A new file below fd, 0600 whatever the umask, with its directories 0700; on disk as soon as its directories are. */
int k3sup__tree_write(k3sup_op *op, int fd, const char *path, const void *content, size_t len) _must_check_;
/* Syncs fd and all directories below. */
int k3sup__tree_sync(k3sup_op *op, int fd) _must_check_;
/* Removes a directory with what is in it, and syncs its own. 0 also where there is none. */
int k3sup__tree_remove(k3sup_op *op, int dirfd, const char *name) _must_check_;

#endif
