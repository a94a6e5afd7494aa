/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The upgrade's entry in the journal: opened before the first change, closed after the proof. An entry is intent of the past: the current arguments decide, it only
 * forces the proof.
 */
#ifndef K3SUP_UPGRADE_ENTRY_H
#define K3SUP_UPGRADE_ENTRY_H

#include "upgrade/view.h"

struct k3sup__entry {
	char id[17];  /* "": none is open */
	bool resumed; /* an earlier run opened it */
};

/* What an earlier run left open: taken over if it is about this payload, else closed as superseded and reported as a warning. Under the lock. */
int k3sup__entry_take_over(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	struct k3sup__entry *entry) _must_check_;
/* Opens one unless one is open. */
int k3sup__entry_open(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	struct k3sup__entry *entry) _must_check_;
/* Closes it, if one is open. status: how the upgrade ended. */
int k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry) _must_check_;

#endif
