/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of a k3s that may be ready, at which of its sockets, and what is trusted there (process/probe.h has the table).
 */
#ifndef K3SUP_PROCESS_PROBE_QUESTIONS_H
#define K3SUP_PROCESS_PROBE_QUESTIONS_H

#include "base/sockets.h"
#include "node/identify.h"

#define K3SUP__MOST_ASKED 8 /* sockets of a server whose port is not 6443 */

/* One of these questions has to be answered as expected, at one of its sockets. */
struct k3sup__question {
	const char *name, *path, *expected;
	bool tls, as_client;
	struct k3sup__listener at[K3SUP__MOST_ASKED];
	size_t count;
};

struct k3sup__questions {
	struct k3sup__question list[2];
	size_t count;
	char *ca, *cert, *key; /* PEM texts; NULL where none is needed */
};

/*
 * Work function's part. seen: process, worker, role and data_dir are looked at. kind: K3SUP_PROBE_*, but not NONE. 0, count 0 if there is nothing to ask (auto only);
 * K3SUP_E_NOT_READY: it has ended, does not listen yet, or has not made its certificates; or why it cannot be told. ret is zeroed by the caller, and can be cleared in any case.
 */
int k3sup__questions_find(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *seen, uint32_t kind, struct k3sup__questions *ret)
	_must_check_;
void k3sup__questions_clear(struct k3sup__questions *questions);

#endif
