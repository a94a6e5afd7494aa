/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a file belong to a package of the node's own package manager? That would put its own version back at its next upgrade, or find its file changed.
 */
#ifndef K3SUP_SWAP_PACKAGE_H
#define K3SUP_SWAP_PACKAGE_H

#include "node/node.h"

/*
 * path: inside the root, free of links. 1 with a description in ret (owned): "the dpkg package k3s"; 0 if it belongs to none; -errno. No package manager is executed:
 *
 *   dpkg  its lists of files (/var/lib/dpkg/info), with diversions; /bin and /usr/bin are one where links say so
 *   apk   its database of installed files
 *   rpm   its database cannot be read cheaply (sqlite, ndb or Berkeley DB, each with binary headers). The file hierarchy standard gives /usr but /usr/local to the
 *         distribution alone, so where an rpm database is there (and no dpkg's), a file there counts as a package's: unknown is no pass
 */
int k3sup__package_of(k3sup_op *op, k3sup_node *node, const char *path, char **ret) _must_check_;

#endif
