/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is served on the wire: which certificates does a running k3s show at its own sockets, and are they those of its files? Files say what the next start will serve, clients see what
 * the last one has read (k3s pkg/cluster/https.go, client-go's and etcd's reloading differ).
 *
 *   server   the listener (6443, or wherever it shows the common name k3s), the API server behind it (where it shows kube-apiserver), kubelet 10250, controller-manager 10257,
 *            scheduler 10259, etcd 2379, 2380 and 2382
 *   agent    kubelet 10250: the others are load-balancers in front of servers
 *
 * Only sockets that this very process listens on are asked, in its network namespace, without a certificate of our own: the server's is seen also where the handshake fails behind it.
 * Before May 2025 controller-manager and scheduler made theirs in memory: self-signed, and of no file.
 */
#ifndef K3SUP_CERTS_WIRE_H
#define K3SUP_CERTS_WIRE_H

#include "base/process.h"
#include "node/node.h"

struct k3sup__wire {
	k3sup_process *process, *worker; /* of a --log pair both; worker may be NULL */
	bool server;                     /* else an agent */
	const char *data_dir;            /* inside the root */
	const char *const *services;     /* NULL: all */
	int64_t now;                     /* seconds since 1970, what the dates are compared with */
	int64_t window;                  /* a leaf that ends within it is WARNING, seconds */
	int64_t deadline;                /* of all; a socket gets 5 s, or what is left, but at least 1 s */
};

/*
 * Everything of `of` is copied or referenced. Facts:
 *   served    [{address, service, path, ...}]: a row of the certificate as the audit writes it (serial, sha256, not_after, status, ...), kind "served", and matches (0 or 1, absent where
 *             there is no such file): it is the first certificate of the file at path. Where nothing was shown: text instead, why not
 *   problems  [{path, problem, remedy, text}]: "served-differs", "served-expired", "not-served"; a start of k3s mends each of them
 * Status 0 whatever the verdict. -ESRCH: it ended meanwhile; -EACCES without the right to look at its sockets; K3SUP_E_CANCELLED.
 */
int k3sup__certs_served_op(k3sup_node *node, const struct k3sup__wire *of, k3sup_op **ret_op) _must_check_;

#endif
