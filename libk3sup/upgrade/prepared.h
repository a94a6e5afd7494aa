/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What somebody else, a prepare step for one, did to the node since the last run here: said before anything is changed, and no reason to refuse by itself.
 */
#ifndef K3SUP_UPGRADE_PREPARED_H
#define K3SUP_UPGRADE_PREPARED_H

#include "upgrade/view.h"

/* Warns of an installed file that is not what was installed last, of a k3s that was stopped, and of certificates that were taken from a running one. */
void k3sup__prepared_warn(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view);

#endif
