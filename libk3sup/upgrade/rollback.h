/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An upgrade's way back: why, whether, and what came of it. Evidence of death is the only reason: a k3s that is alive and not ready is starting, however long that takes, and neither
 * SIGTERM nor a time that is over is one.
 */
#ifndef K3SUP_UPGRADE_ROLLBACK_H
#define K3SUP_UPGRADE_ROLLBACK_H

#include "node/build.h"

struct k3sup__back {
	uint32_t mode;              /* K3SUP_ROLLBACK_* */
	struct k3sup__build before; /* what was installed before the upgrade; size 0: the same */
	bool agents;                /* no server runs here */
	k3sup__json *known;         /* the record of it: it failed before */
	bool resumed;               /* an earlier run was cut on its way back */
	char *text;                 /* how the new build failed; owned */
	char sha256[65];            /* of it */
	const char *decision, *why; /* "roll-back", "never", "unsafe", "impossible", "no-time"; NULL: nothing failed */
	bool changed, done;
	int error; /* how it failed */
};

struct k3sup__upgrade;

/*
 * For the work function that looks, after the entry was taken over: what one would go back to, and whether an earlier run was cut on its way (resumed: nothing else is decided then).
 * A payload that failed here before is refused: K3SUP_E_FAILED_BEFORE. One that is in place already by the second one, when it is known whether k3s would be restarted.
 */
int k3sup__rollback_look(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;
int k3sup__rollback_admit(k3sup_op *op, const struct k3sup__upgrade *s) _must_check_;
void k3sup__back_clear(struct k3sup__back *back);
/* Is this how a build fails that is remembered, and maybe undone? Seals the failure, then. */
bool k3sup__rollback_is_asked(k3sup_op *op, struct k3sup__upgrade *s, int proven);
/* Work function: remembers it, and decides. 1: go back; 0: leave it. */
int k3sup__rollback_judge(k3sup_op *op);
/* Goes back, as a child operation; and what came of it: K3SUP_E_ROLLED_BACK, or how the upgrade failed. */
int k3sup__rollback_call(k3sup_op *op) _must_check_;
int k3sup__rollback_result(k3sup_op *op) _must_check_;
/* "rollback" of the facts; and the memory says that it was done. For work functions. */
void k3sup__rollback_report(k3sup_op *op, struct k3sup__upgrade *s);
/* Work function on the way back, where no k3s runs: the service that started it is told to start it again if its manager had given up, and in any case by the child. */
int k3sup__rollback_start(k3sup_op *op) _must_check_;

#endif
