/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an upgrade would do, step by step, said and not done: "plan" of the facts.
 */
#ifndef K3SUP_UPGRADE_PLAN_H
#define K3SUP_UPGRADE_PLAN_H

#include "upgrade/check.h"
#include "upgrade/services.h"

/* Up to the swap. */
void k3sup__plan_files(k3sup_op *op, const struct k3sup__asked *asked, const struct k3sup__payload *payload, const struct k3sup__view *view);
/* And from there on. services: of those that would restart. */
void k3sup__plan_restart(k3sup_op *op, const struct k3sup__asked *asked, const struct k3sup__view *view, const struct k3sup__services *services);
/* Who restarts this k3s: "k3s.service", "commands", "a signal". */
const char *k3sup__plan_restarter(const struct k3sup__owned *owned);
/* Is anything in it? */
bool k3sup__plan_says_change(k3sup_op *op);

#endif
