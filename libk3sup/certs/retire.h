/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leafs are kept in a backup, then taken away, while k3s is stopped.
 */
#ifndef K3SUP_CERTS_RETIRE_H
#define K3SUP_CERTS_RETIRE_H

#include "base/strv.h"
#include "certs/where.h"

struct k3sup__retiring {
	struct k3sup__strv services;            /* empty: all */
	uint32_t keep, keep_days;               /* as in k3sup_certs_retire_opts */
	const struct k3sup__certs_where *known; /* where they were before k3s was stopped; NULL: to be found */
};

/*
 * What k3sup_certs_retire() does, under the node's lock; its facts go to op. 1, 0, or why not. For work functions. still (may be NULL): asked with op, right before each file that is
 * taken away, whether k3s is stopped still; if it fails that file and all behind it stay.
 */
int k3sup__retire(k3sup_op *op, k3sup_node *node, const struct k3sup__retiring *what, int (*still)(k3sup_op *op)) _must_check_;

/*
 * Its first half alone: the backup, which most of the time goes into (a sync for each file and directory). Where k3s is stopped by us that is a step of its own: the guard's time
 * begins anew behind it, so that no slow disk lets k3s be started while files vanish.
 */
int k3sup__retire_keep(k3sup_op *op, k3sup_node *node, const struct k3sup__retiring *what) _must_check_;

/* What is left to do of it where nothing is to be retired: a backup that a cut run did not come to the end of is removed. */
int k3sup__retire_sweep(k3sup_op *op, k3sup_node *node) _must_check_;

#endif
