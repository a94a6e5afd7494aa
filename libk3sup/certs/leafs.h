/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leafs as a rotation sees them, whether k3s runs or not: which certificates are live, by their fingerprints, and what is wrong with them. For work functions.
 */
#ifndef K3SUP_CERTS_LEAFS_H
#define K3SUP_CERTS_LEAFS_H

#include "certs/where.h"

struct k3sup__leafs {
	k3sup__json *prints;   /* {path: SHA-256}, paths below the data-dir: of a certificate that of its DER, of a key that of its file */
	k3sup__json *problems; /* of leafs, their keys and the listener's certificate, as k3sup_certs_check() tells them, without notes and without what is only about to end */
	uint64_t bytes;        /* what a backup of the files takes at most, with what describes it */
	uint64_t inodes;       /* likewise */
	int64_t ends;          /* when the first of these certificates ends, in seconds since 1970; INT64_MAX if there is none */
};

/* services: NULL-terminated, NULL: all. 0; K3SUP_E_AUTHORITY, K3SUP_E_CLOCK and others as k3sup__live_look() says them. */
int k3sup__leafs_look(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *where, const char *const *services,
	struct k3sup__leafs *ret) _must_check_;
void k3sup__leafs_clear(struct k3sup__leafs *leafs);

/* Is this path one of a key? Else of a certificate. */
bool k3sup__leaf_is_key(const char *path);
/* Is it the listener's, which k3s replaces itself, some time after its start? */
bool k3sup__leaf_is_listener(const char *path);
/* Does each k3s of this role make it again, whatever its version? */
bool k3sup__leaf_always_comes_back(const char *path);

#endif
