/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What swap.c, which looks, and install.c, which does, have in common.
 */
#ifndef K3SUP_SWAP_INSTALL_H
#define K3SUP_SWAP_INSTALL_H

#include "swap/layout.h"
#include "swap/swap.h"

/*
 * What the preflight could not see (a security module, or a change since): about the node, not about our run, so it has a code and a sentence of its own. r: any status;
 * comes back, unless it is such a refusal.
 */
int k3sup__swap_name_readonly(k3sup_op *op, int r, const struct k3sup__place *target);
/* The installed file, for reading: the descriptor, K3SUP_E_TARGET_CHANGED, -errno. */
int k3sup__swap_open(k3sup_op *op, const struct k3sup__place *target) _must_check_;
/* Is the backup's name just another name of the target? So it is between the link and the rename, and nowhere else. */
bool k3sup__swap_is_backup(const struct k3sup__place *target, const char *backup);
/* Removes that name. Kept, a later copy over the target would go through the shared inode and rewrite the backup with it. */
int k3sup__swap_drop_backup(k3sup_op *op, const struct k3sup__place *target, const char *backup) _must_check_;
/* The temps of cut runs: how many, or a negative code. With remove they are gone. */
int k3sup__swap_sweep(k3sup_op *op, const struct k3sup__layout *layout, bool remove) _must_check_;

#endif
