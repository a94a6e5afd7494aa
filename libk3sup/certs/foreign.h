/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups that k3s itself has made (`k3s certificate rotate`, and --cluster-reset): a copy of the whole of server/tls as server/tls-<unix seconds>, over which an agent's files were copied
 * flat (pkg/cli/cert); of an agent alone agent/tls-<unix seconds>. Which of both a file of a shared name is cannot be told, and since 2025 they differ.
 */
#ifndef K3SUP_CERTS_FOREIGN_H
#define K3SUP_CERTS_FOREIGN_H

#include "certs/where.h"

/* Adds to list what there is of them, oldest first: {name, kind: "k3s", whole: false, text, files, lost}. 0, -ENOMEM, K3SUP_E_CANCELLED, -errno. */
int k3sup__foreign_list(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *where, k3sup__json *list) _must_check_;

#endif
