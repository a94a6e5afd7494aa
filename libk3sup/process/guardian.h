/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start guard of a service whose manager has no process that could be told to start it later: an outsider (base/outsider.h), in process 1's namespaces and in the root control
 * groups, which watches us and the time. It gives the orders to stop and start, too: what it begins goes on when we are killed, and what it starts is not ours.
 *
 * A later run finds it by its socket, /run/k3sup/guard-SERVICE in the node's root, in a directory that only root can change, and believes it only if it is root who answers. One
 * that has ended leaves a name that nobody answers at; that is replaced. The node's lock sees to it that there is one.
 */
#ifndef K3SUP_PROCESS_GUARDIAN_H
#define K3SUP_PROCESS_GUARDIAN_H

#include "process/channel.h"
#include "process/service.h"

struct k3sup__guardian {
	k3sup_node *node;
	const struct k3sup__channel *channel; /* see k3sup__guardian_channel() */
	const char *service;                  /* "k3s" */
	const char *const *down, *const *up, *const *up_again;
	const char *const *env; /* of these; NULL: a path of the system's programs */
};

/*
 * The channel over which what is started belongs to process 1's namespaces, not to ours: where these are the same the node's root is enough. 1, 0 if there is none, -errno.
 */
int k3sup__guardian_channel(k3sup_op *op, k3sup_node *node, struct k3sup__channel *ret) _must_check_;
/*
 * K3SUP_E_CONFINED if a service would be confined that is started from here: by fewer capabilities than process 1 has, a seccomp filter, no new privileges, another user namespace,
 * an AppArmor profile. All of these are inherited, whatever is left otherwise.
 */
int k3sup__guardian_possible(k3sup_op *op, const k3sup_node *node) _must_check_;

/* The files through which one gets into the root control groups: those of process 1's mounts. Added to ret. */
struct k3sup__strv;
int k3sup__guardian_groups(const k3sup_node *node, struct k3sup__strv *ret) _must_check_;
/* 0 if this process is where process 1 is and not where we are, else K3SUP_E_CONFINED. */
int k3sup__guardian_is_outside(k3sup_op *op, const struct k3sup__guardian *guardian, pid_t pid) _must_check_;

/* As process/guard.h has them. */
int k3sup__guardian_arm(k3sup_op *op, const struct k3sup__guardian *guardian, int64_t delay_ms) _must_check_;
int k3sup__guardian_rearm(k3sup_op *op, const struct k3sup__guardian *guardian, int64_t delay_ms) _must_check_;
int k3sup__guardian_release(k3sup_op *op, const struct k3sup__guardian *guardian) _must_check_;
int k3sup__guardian_disarm(k3sup_op *op, const struct k3sup__guardian *guardian) _must_check_;

/*
 * The one that is there does it, or one that is made for this only. Waits until it is done, but not for ever: it goes on by itself. 0, or K3SUP_E_SERVICE with what the
 * program said.
 */
int k3sup__guardian_order(k3sup_op *op, const struct k3sup__guardian *guardian, enum k3sup__order order) _must_check_;

#endif
