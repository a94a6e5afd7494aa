/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who restarts the k3s that run: their services, and in which way.
 */
#ifndef K3SUP_UPGRADE_SERVICES_H
#define K3SUP_UPGRADE_SERVICES_H

#include <k3sup/upgrade.h>

#include "process/commands.h"
#include "process/owner.h"

#define K3SUP__MOST_SERVICES 2 /* a server and an agent */

struct k3sup__owned {
	struct k3sup__service service;
	k3sup_process *process; /* its k3s */
	k3sup_process *target;  /* whom a signal goes to */
	enum k3sup__how how;    /* how it will be restarted */
	bool apart;             /* it does not share a cgroup with us */
};

struct k3sup__services {
	size_t count;
	struct k3sup__owned list[K3SUP__MOST_SERVICES];
};

/* How the caller wants it restarted. */
struct k3sup__restart {
	uint32_t by;                     /* K3SUP_RESTART_* */
	struct k3sup__commands commands; /* of K3SUP_RESTART_COMMANDS */
	int64_t guard_delay_ms;          /* below 0: no guard */
};
static inline void k3sup__restart_clear(struct k3sup__restart *restart)
{
	k3sup__commands_clear(&restart->commands);
}

/*
 * Who owns this k3s, and may it be restarted that way? Not with K3SUP_RESTART_NONE. Added to the list also if it may not. 0 or why not. For work functions.
 */
int k3sup__services_add(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, const struct k3sup__restart *restart,
	struct k3sup__services *list) _must_check_;
/* The services that would start k3s, though none runs; or what the caller's commands stand for. */
int k3sup__services_add_stopped(k3sup_op *op, k3sup_node *node, const struct k3sup__restart *restart, struct k3sup__services *list) _must_check_;
void k3sup__services_clear(struct k3sup__services *list);
/* "service" (null unless it is one) and "services" of the facts. */
void k3sup__services_report(k3sup_op *op, const struct k3sup__services *list);

/* Has it restarted, told by its manager or by SIGTERM? 1, 0 if it had ended by itself, or why it cannot be told. For work functions. */
int k3sup__services_restart(k3sup_op *op, k3sup_node *node, const struct k3sup__owned *owned, uint32_t restart) _must_check_;
/* A new k3s in our cgroup, where the old one was not, would end with us (a container is killed whole): K3SUP_E_SERVICE. proof: the operation that has found the new ones. */
int k3sup__services_apart(k3sup_op *op, const struct k3sup__services *list, k3sup_op *proof) _must_check_;

#endif
