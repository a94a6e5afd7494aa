/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an upgrade wants k3s to be stopped for: new leaf certificates. And the start that is owed where a run of ours has stopped k3s and was cut. Both are one window (window.h), in which
 * the file is swapped, too: one stop, one start.
 */
#ifndef K3SUP_UPGRADE_STOPPING_H
#define K3SUP_UPGRADE_STOPPING_H

#include "upgrade/rotation.h"
#include "upgrade/view.h"

struct k3sup__stopping {
	bool rotates;                    /* a rotation is asked for */
	struct k3sup__rotation rotation; /* alive, count, ours and done also where none is asked for */

	/* decided */
	bool window; /* this run starts k3s; if that runs, it stops it before */
	bool left;   /* somebody else has stopped it: the files are done, and it is left so */

	/* done */
	bool stopped;   /* by us */
	bool came_back; /* though the window has failed */
	bool verified;  /* the certificates are new */
};

/* opts: whole, and ret is zeroed. 0, -EINVAL, -ENOMEM; nothing is to be cleared then. */
int k3sup__stopping_take(const struct k3sup_upgrade_opts *opts, struct k3sup__stopping *ret) _must_check_;
static inline void k3sup__stopping_clear(struct k3sup__stopping *s)
{
	k3sup__rotation_clear(&s->rotation);
}

/* Looks at the certificates, if a rotation is asked for. Writes key, resumed and issued_by into the facts. Changes nothing. */
int k3sup__stopping_look(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__stopping *s) _must_check_;
/*
 * Decides, and asks whether it may. owed: a run of ours has stopped k3s. Where k3s is left stopped, restart becomes K3SUP_RESTART_NONE. K3SUP_E_RUNNING, K3SUP_E_NO_SERVICE,
 * K3SUP_E_GUARD and others of k3sup_rotate().
 */
int k3sup__stopping_decide(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, bool owed, struct k3sup__restart *restart,
	struct k3sup__stopping *s) _must_check_;

#endif
