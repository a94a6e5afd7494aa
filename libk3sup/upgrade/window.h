/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window in which k3s is stopped by us, so that something can be done meanwhile:
 *
 *   start guard armed -> stop, proven -> each step, the guard's time begun anew before it -> start -> proof -> guard disarmed
 *
 * Whatever fails after the stop, k3s is started again. The point of no return is the order to stop: before it the operation can be stopped and leaves k3s as it was; after it
 * it finishes the start. A step is not begun where the guard does not wait any more or where somebody has started k3s (K3SUP_E_GUARD).
 */
#ifndef K3SUP_UPGRADE_WINDOW_H
#define K3SUP_UPGRADE_WINDOW_H

#include "process/running.h"
#include "upgrade/services.h"

struct k3sup__window_want {
	k3sup_op *owner;                              /* who calls it: it is past its point of no return when this is */
	int64_t deadline;                             /* of the whole; the start gets some seconds more if there is nothing left for it */
	const struct k3sup__restart *by;              /* the caller's commands or a service manager, and the guard's time */
	bool stopped;                                 /* a run of ours that was cut has stopped k3s: only the guard is armed again */
	int (*const *steps)(k3sup_op *op, void *arg); /* work functions, NULL at the end */
	void *arg;
	bool unproven; /* it is over once the start was ordered, if nothing failed before: the caller proves, and disarms the guards after that */
	struct k3sup__want proof; /* else: what has to run then; come_by and give_up are seen to here */
};

/* Asks whether this k3s, or what would start it, can be stopped and started by its manager; before anything is changed. K3SUP_E_NO_SERVICE and others of k3sup_service(). */
int k3sup__window_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__restart *by) _must_check_;

/*
 * Does k3s run, or is its manager about to start it? One that dies again and again does not run just now, and is not stopped. running: it was seen to. ret_count: so many are to come back.
 * Where nothing runs, and nobody can be asked, it does not.
 */
int k3sup__window_look(k3sup_op *op, k3sup_node *node, const struct k3sup__restart *by, bool running, bool *ret_alive, size_t *ret_count)
	_must_check_;

/*
 * The operation, to be called with k3sup__op_call() by one that has the node's turn. What want points to has to outlive it. Status: 1; or why the stop, a step or the start
 * failed. Facts: service, services, what the steps reported, starts, ends, deaths, probes, health; stopped (it was, by us), started (and it was proven that it runs again, unless that is left to the caller).
 */
int k3sup__window_op(k3sup_node *node, const struct k3sup__window_want *want, k3sup_op **ret_op) _must_check_;

/*
 * For steps that may take long, with the op they are called with: asked right before each thing that must not be done under a k3s that runs. Where half of the guard's time is over it
 * begins anew, as before a step; so however slow the disk is, what is done next has at least the other half. 0, or K3SUP_E_GUARD: then it must not be done.
 */
int k3sup__window_still_stopped(k3sup_op *op) _must_check_;

/* What a child operation has found out becomes its caller's: facts, warnings, and its failure. Returns its status. */
int k3sup__take_over(k3sup_op *op, k3sup_op *child);
/* Is this fact of a child operation true? */
bool k3sup__said(k3sup_op *child, const char *fact);

#endif
