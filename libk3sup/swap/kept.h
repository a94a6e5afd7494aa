/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backup was when it was made: its SHA-256, counted over the installed file before that was replaced. It is written into the journal, since nothing on disk can
 * tell later whether a file is still what it was, and before the backup gets its name, so that no backup of ours is without. The journal is bounded: of the oldest
 * ones nothing may be known any more.
 *
 *   "kept"  the file at path was installed as target, and something else was to take its place: the newest one of a target names the backup
 *   "made"  the file at path was made by us, to become target
 */
#ifndef K3SUP_SWAP_KEPT_H
#define K3SUP_SWAP_KEPT_H

#include "node/build.h"
#include "node/node.h"

/* The records of a target (its path inside the root), oldest first; an array (owned), empty if there are none. 0; K3SUP_E_STATE_DIR, -EACCES and other -errno. */
int k3sup__kept_read(k3sup_op *op, k3sup_node *node, const char *target, k3sup__json **ret) _must_check_;
/* Writes one, unless the newest of its kind says the same. version may be "". Under the lock. */
int k3sup__kept_note(k3sup_op *op, k3sup_node *node, const char *target, const char *event, const char *path, const char *sha256,
	const char *version) _must_check_;

/* The newest record with this event, about this path, of these bytes; NULL stands for any. NULL if there is none. ret_index (may be NULL): how new it is. */
k3sup__json *k3sup__kept_find(const k3sup__json *records, const char *event, const char *path, const char *sha256, size_t *ret_index);

#endif
