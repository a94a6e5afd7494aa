/* SPDX-License-Identifier: Apache-2.0 */
#ifndef K3SUP_PROCESS_OPENRC_H
#define K3SUP_PROCESS_OPENRC_H

#include "process/service.h"

/* Has OpenRC booted this node? 1, 0, -ENOMEM and the like. */
int k3sup__openrc_booted(k3sup_node *node) _must_check_;
/* Looks at service->name. K3SUP_E_NO_SERVICE if OpenRC has not booted this node, or there is no such init script. */
int k3sup__openrc_open(k3sup_op *op, k3sup_node *node, struct k3sup__service *service) _must_check_;

#endif
