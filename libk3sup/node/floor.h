/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: the highest version that was installed on this node by us. A list or a signature stays genuine when its release is long replaced; the floor keeps such an
 * old payload out, also where the installed file is torn and says nothing.
 *
 * A file of its own in the state directory, one line, replaced durably: the journal is rewritten to stay bounded and may lose any record but those of open entries.
 * It is written after the file was replaced, so a cut may leave it behind: a run that finds its goal reached catches up. Going back to the backup is not what the floor
 * is for: it neither asks nor lowers it.
 */
#ifndef K3SUP_NODE_FLOOR_H
#define K3SUP_NODE_FLOOR_H

#include "node/node.h"

#define K3SUP__FLOOR_NAME "floor"

/* ret (owned): the version, NULL if none was recorded. 0; K3SUP_E_STATE_DIR (not ours, or not a version); -EACCES and other -errno. Changes nothing. */
int k3sup__floor_read(k3sup_op *op, k3sup_node *node, char **ret) _must_check_;
/*
 * This version was installed. Recorded if it is higher than the floor; with lower, whatever the floor is. One that is unknown ("") is not recorded. Under the lock.
 * 0 already so, 1 written, or a negative code.
 */
int k3sup__floor_record(k3sup_op *op, k3sup_node *node, const char *version, bool lower) _must_check_;

#endif
