/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an upgrade would be refused for, told without touching anything; and what the check and the upgrade ask alike.
 */
#ifndef K3SUP_UPGRADE_CHECK_H
#define K3SUP_UPGRADE_CHECK_H

#include "swap/preflight.h"
#include "upgrade/asked.h"
#include "upgrade/view.h"

/* The look took a missing file as a finding. Here it is the end: the same question once more gives the sentence. 0 if there is one. */
int k3sup__need_file(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view) _must_check_;
/* flags: of k3sup_upgrade_opts. */
struct k3sup__plan k3sup__upgrade_plan(
	const struct k3sup__view *view, const struct k3sup__payload *payload, const struct k3sup__images *images, uint32_t flags);

/* One more decision behind those that were taken in common. Consumes text. */
void k3sup__check_add(k3sup_op *op, const char *name, const char *decision, k3sup__json *text, int error);
/* check-memory.c: can be read what earlier runs wrote down, and can this one write? 0, or the refusal. */
int k3sup__check_memory(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view) _must_check_;

/* The operation behind K3SUP_UPGRADE_CHECK and _DRY_RUN. Consumes what was asked for, on failure too. */
int k3sup__check_new(k3sup_node *node, struct k3sup__asked *asked, int64_t deadline, k3sup_op **ret_op) _must_check_;

#endif
