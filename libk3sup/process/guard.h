/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start guard: while k3s is stopped by us, somebody else owes the node a start. A transient timer of systemd, named after the service, that starts it when its time is
 * over: it lives in process 1, whatever becomes of us, and a later run finds it by its name. For work functions.
 */
#ifndef K3SUP_PROCESS_GUARD_H
#define K3SUP_PROCESS_GUARD_H

#include "process/service.h"

/* Before a stop. One that is armed already, by whomever, begins its time anew. K3SUP_E_GUARD if that cannot be done: then nothing may be stopped. */
int k3sup__guard_arm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms) _must_check_;
/* After the proof. 1 if there was one, 0 if not. */
int k3sup__guard_disarm(k3sup_op *op, const struct k3sup__service *service) _must_check_;
char *k3sup__guard_name(const struct k3sup__service *service); /* without ".timer"; owned */

#endif
