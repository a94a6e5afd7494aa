/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One signal to exactly one process.
 */
#ifndef K3SUP_PROCESS_SIGNAL_H
#define K3SUP_PROCESS_SIGNAL_H

#include "base/process.h"
#include "node/identify.h"

/* 0 if this process may be signalled at all; K3SUP_E_REFUSED_PID for pid 1, ourselves and our ancestors. Asked before anything is changed. */
int k3sup__signal_allowed(k3sup_op *op, k3sup_node *node, const k3sup_process *process) _must_check_;
/*
 * Whom of this k3s to tell to end; borrowed. Of a --log pair the parent hands SIGTERM on since v1.33.6 and v1.34.2 (k3s PR 12913); before, the signal would end it at once and
 * leave its child alone with ports and locks while the next k3s starts, so there the child is told, and the parent ends with it. Where the version cannot be read: the
 * parent, but never process 1.
 */
k3sup_process *k3sup__signal_target(const struct k3sup__candidate *candidate);
/* 1 sent, 0 it had ended already, or why not. For work functions and steps alike: it never blocks. */
int k3sup__signal_send(k3sup_op *op, k3sup_node *node, const k3sup_process *process, int signo) _must_check_;

#endif
