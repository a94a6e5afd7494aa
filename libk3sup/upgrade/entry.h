/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The upgrade's entry in the journal: opened before the first change, closed after the proof. An entry is intent of the past: the current arguments decide, it only
 * forces the proof.
 */
#ifndef K3SUP_UPGRADE_ENTRY_H
#define K3SUP_UPGRADE_ENTRY_H

#include "upgrade/records.h"
#include "upgrade/view.h"

struct k3sup__entry {
	char id[K3SUP__ENTRY_ID]; /* "": none is open */
	bool resumed;             /* an earlier run opened it */
	bool prove;               /* it is over when the running k3s was proven; else when the file is in place */
	struct k3sup__owed owed;  /* a start, by whatever run of ours has stopped k3s; this one, too */
	bool older;               /* earlier runs left something open */
};

/* What an earlier run left open: taken over if it is about this payload, else reported as a warning. Writes nothing. */
void k3sup__entry_take_over(
	k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, struct k3sup__entry *entry);
/* Opens one unless one is open. prove: see above. Under the lock, as is closing. */
int k3sup__entry_open(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, bool prove,
	struct k3sup__entry *entry) _must_check_;
/* k3s is about to be stopped by us: whoever finds it stopped, and the entry open, owes it a start. */
int k3sup__entry_stops(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, struct k3sup__entry *entry) _must_check_;
/* It runs again: if somebody stops it from here on, it was not us. */
int k3sup__entry_note_started(k3sup_op *op, k3sup_node *node, struct k3sup__entry *entry) _must_check_;
/* Closes it, if one is open. status: how the upgrade ended. Its success also closes all that earlier runs left open. */
int k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry) _must_check_;

#endif
