/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting until the wanted build runs, stays and is ready.
 */
#ifndef K3SUP_PROCESS_RUNNING_H
#define K3SUP_PROCESS_RUNNING_H

#include "process/seen.h"

/* Probe and health as callers give them: 0, or -EINVAL. */
int k3sup__readiness_check(uint32_t probe, const char *health) _must_check_;

/* The operation behind k3sup_wait_running(), to be called by others with k3sup__op_call(). */
int k3sup__running_op(k3sup_node *node, const struct k3sup__want *want, k3sup_op **ret_op) _must_check_;
/* What such a child operation has seen of starts, ends and answers becomes its caller's facts. */
void k3sup__running_report(k3sup_op *op, k3sup_op *child);

#endif
