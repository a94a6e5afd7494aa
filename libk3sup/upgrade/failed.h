/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds that failed on this node: they ended again and again. A Job would try the same payload a hundred times, and each time k3s would go down; so it is remembered, and
 * refused until somebody wants it all the same.
 *
 * A file of its own in the state directory, replaced durably, since the journal may lose what is old. Bounded: the newest eight. Records: sha256, build (as k3sup__build_json),
 * reason (the name of a code), text, at (unix seconds), times, and back_to, the build that was put back instead, until another upgrade is proven.
 */
#ifndef K3SUP_UPGRADE_FAILED_H
#define K3SUP_UPGRADE_FAILED_H

#include "swap/swap.h"

#define K3SUP__FAILED_NAME "failed"

/*
 * All records, oldest first; an empty array if there are none. Those that are damaged, or that we may not read, are a warning: nothing is refused because of them. 0, -ENOMEM, a
 * cancel. Changes nothing.
 */
int k3sup__failed_read(k3sup_op *op, k3sup_node *node, k3sup__json **ret) _must_check_;
/* The newest record about this build, by its name or its size and version; NULL. */
k3sup__json *k3sup__failed_about(const k3sup__json *records, const struct k3sup__build *build);
/* The newest record that says that this build was put back instead; NULL. */
k3sup__json *k3sup__failed_back_to(const k3sup__json *records, const struct k3sup__build *build);
/* The record about exactly these bytes: the payload is hashed if, and only if, one could be. 1 with ret, borrowed; 0; a negative code. */
int k3sup__failed_find(k3sup_op *op, const k3sup__json *records, const struct k3sup__payload *payload, k3sup__json **ret) _must_check_;

/* K3SUP_E_FAILED_BEFORE with the record as evidence. */
int k3sup__failed_refuse(k3sup_op *op, const k3sup__json *record);

/* Under the lock: these bytes failed, for this reason. */
int k3sup__failed_note(k3sup_op *op, k3sup_node *node, const struct k3sup__build *build, const char *sha256, int reason, const char *text)
	_must_check_;
/* And this build was put back in their place. */
int k3sup__failed_note_back(k3sup_op *op, k3sup_node *node, const char *sha256, const struct k3sup__build *back_to) _must_check_;
/* This build was proven: it did not fail after all, and nothing was put back any more. Writes only if that says something new. */
int k3sup__failed_proven(k3sup_op *op, k3sup_node *node, const struct k3sup__build *build) _must_check_;

#endif
