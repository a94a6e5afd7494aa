/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the settings of a unit come to: the command, its environment, and how systemd treats the service.
 */
#ifndef K3SUP_NODE_UNITEXEC_H
#define K3SUP_NODE_UNITEXEC_H

#include "node/unit.h"

/* From unit->settings and unit->name. 0 with a unit in any state; -ENOMEM, K3SUP_E_CANCELLED and its like. */
int k3sup__unit_evaluate(k3sup_op *op, const k3sup_node *node, struct k3sup__unit *unit) _must_check_;

#endif
