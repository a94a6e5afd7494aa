/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records that upgrades and rotations leave in the journal: each entry is opened, may hold events, and is closed. For work functions, under the node's lock.
 */
#ifndef K3SUP_UPGRADE_RECORDS_H
#define K3SUP_UPGRADE_RECORDS_H

#include "node/node.h"

#define K3SUP__VERB_UPGRADE "upgrade"
#define K3SUP__VERB_ROTATE "rotate"

#define K3SUP__EVENT_NOT_READY "not-ready" /* the wanted build ran, was asked, and was not ready when the run ended */

#define K3SUP__ENTRY_ID 17 /* bytes of an entry's id */

/* Only has to differ from the ids of other entries in this journal. */
void k3sup__entry_make_id(char ret[static K3SUP__ENTRY_ID]);
/* A record of this entry, to be filled and appended. */
k3sup__json *k3sup__entry_record(const char *id, const char *event, const char *verb);
int k3sup__entry_append(k3sup_op *op, k3sup_node *node, k3sup__json *record) _must_check_; /* consumes the record */
int k3sup__entry_note(k3sup_op *op, k3sup_node *node, const char *id, const char *verb, const char *event) _must_check_; /* an event without more */
/* The event "stop". data_dir: where this k3s works: what says so (a process, its arguments) goes with it. */
int k3sup__entry_note_stop(k3sup_op *op, k3sup_node *node, const char *id, const char *verb, const char *data_dir) _must_check_;
/* id: may be NULL. */
bool k3sup__entry_has(const k3sup__json *records, const char *id, const char *event);
int k3sup__entry_close_one(k3sup_op *op, k3sup_node *node, const char *id, const char *verb, const char *reason) _must_check_;
/* An open entry whose run has stopped k3s (its event "stop") and has not seen it run again ("started"): whoever finds k3s stopped owes it a start. */
struct k3sup__owed {
	char id[K3SUP__ENTRY_ID]; /* "": nobody of us has stopped it since this boot */
	const char *verb;
	const char *data_dir; /* where that k3s worked; NULL: nobody says. The records' */
};
struct k3sup__owed k3sup__entry_owed(k3sup_node *node, const k3sup__json *records);
/* Closes all open entries of this verb. */
int k3sup__entry_close_all(k3sup_op *op, k3sup_node *node, const char *verb) _must_check_;

#endif
