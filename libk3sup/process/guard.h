/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start guard: while k3s is stopped by us, somebody else owes the node a start. Under systemd a transient timer, named after the service, that starts it when its time is over: it
 * lives in process 1, whatever becomes of us, and a later run finds it by its name. Under OpenRC a process outside of us (guardian.h) that starts it when its time is over, or at once
 * when we have died. Of the caller's commands either of them runs the start command, if the status command does not say by then that k3s runs. For work functions; service is one that a manager owns.
 */
#ifndef K3SUP_PROCESS_GUARD_H
#define K3SUP_PROCESS_GUARD_H

#include "process/service.h"

/* Could there be one for this service? Asked before anything is changed. 0, or K3SUP_E_GUARD with a sentence. */
int k3sup__guard_possible(k3sup_op *op, const struct k3sup__service *service) _must_check_;
/* Before a stop. One that is armed already, by whomever, begins its time anew. K3SUP_E_GUARD if that cannot be done: then nothing may be stopped. */
int k3sup__guard_arm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms) _must_check_;
/*
 * Before each step between a stop and its start: the time of the guard that was armed for that stop begins anew; delay_ms as it was armed. K3SUP_E_GUARD if there is none, if it has
 * started k3s, or if k3s was started by somebody else: then it is no longer stopped by us, and nothing may be done that needs it to be. The service was looked at.
 */
int k3sup__guard_rearm(k3sup_op *op, struct k3sup__service *service, int64_t delay_ms) _must_check_;
/*
 * After a stop that is all that was asked for: we may end, and only the time counts from then on.
 */
int k3sup__guard_release(k3sup_op *op, const struct k3sup__service *service) _must_check_;
/* After the proof. 1 if there was one, 0 if not. */
int k3sup__guard_disarm(k3sup_op *op, const struct k3sup__service *service) _must_check_;
char *k3sup__guard_name(const struct k3sup__service *service); /* without ".timer"; owned */

#endif
