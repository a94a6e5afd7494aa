/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's own commands within an upgrade or a rotation: may it write, may k3s be stopped?
 */
#ifndef K3SUP_UPGRADE_HOOKS_H
#define K3SUP_UPGRADE_HOOKS_H

#include "upgrade/view.h"

struct k3sup__hooks {
	char *before_write; /* NULL: none */
	char *before_stop;
};

/* Copies them; NULL is none. 0, -EINVAL (an empty command), -ENOMEM. */
int k3sup__hooks_take(const char *before_write, const char *before_stop, struct k3sup__hooks *ret) _must_check_;
void k3sup__hooks_clear(struct k3sup__hooks *hooks);

/*
 * Work function's part: runs it, within the operation's deadline (an hour where that has none), and adds it to "hooks" of the facts. name: "before-write", "before-stop"; also the
 * step of the operation's plan. payload: what K3SUP_TO is; NULL: no build comes. 0, K3SUP_E_HOOK with evidence, -errno, a cancel.
 */
int k3sup__hook_run(k3sup_op *op, k3sup_node *node, const char *name, const char *command, const struct k3sup__view *view,
	const struct k3sup__payload *payload) _must_check_;

#endif
