/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node handle from the inside.
 */
#ifndef K3SUP_NODE_NODE_H
#define K3SUP_NODE_NODE_H

#include <k3sup/node.h>

#include <pthread.h>

#include "base/root.h"

struct k3sup_node {
	k3sup_ctx *ctx;
	unsigned users; /* references of the caller; the last one gives ctx back */
	unsigned refs;  /* users and running operations; the last one frees */
	struct k3sup__root root;
	char *proc_path;            /* as the caller gave it */
	int proc_fd;                /* directory of the proc mount */
	bool is_container;          /* its k3s may be process 1 */
	unsigned trust_flags;       /* K3SUP__TRUSTED, and K3SUP__ALLOW_GROUP if the caller allows it */
	char *data_dir;             /* NULL: observe */
	char *k3s;                  /* NULL: look */
	char *state_dir;            /* never NULL */
	struct k3sup__known *known; /* programs that were read; see known.h */
	pthread_mutex_t mutex;      /* for the four below: the worker thread takes turns, the loop thread gives them back */
	int lock_fd;                /* -1: not held */
	bool k3s_seen;              /* by any look: then a later one that sees none is to be believed */
	bool lock_kept;             /* k3sup_node_lock() took it: it outlives operations */
	const void *turn;           /* the operation that may change this node now; one at a time also on one handle */
};

/* The state of every operation on a node begins with this. */
struct k3sup__node_state {
	k3sup_node *node;
};

/* k3sup__op_new() for a class whose state begins with k3sup__node_state; keeps the node until the operation has ended. */
struct k3sup__op_class;
int k3sup__node_op_new(k3sup_node *node, const struct k3sup__op_class *class, int64_t deadline, k3sup_op **ret_op) _must_check_;
k3sup_node *k3sup__op_node(k3sup_op *op);

/*
 * The lock of a changing operation, for work functions. Taken unless the handle holds it; K3SUP_E_BUSY if another handle does or another operation on this handle has
 * its turn. k3sup__node_give_turn() is called by the operation's clear (loop thread) and gives back what take_turn took, also if it took nothing.
 */
int k3sup__node_take_turn(k3sup_op *op, k3sup_node *node) _must_check_;
void k3sup__node_give_turn(k3sup_op *op, k3sup_node *node);
/* For the step that is told how that work function ended: K3SUP__WAIT if it was K3SUP_E_BUSY, and there is time to try again; else 0. */
int k3sup__node_await_turn(k3sup_op *op, int64_t deadline) _must_check_;
/* The step of a verb that is one work function, which takes the turn. plan: NULL: none is told. */
int k3sup__node_turn_step(k3sup_op *op, int64_t deadline, const struct k3sup__step *plan, size_t steps, int (*work)(k3sup_op *op)) _must_check_;
/* Does this handle hold the lock now, for whatever operation? */
bool k3sup__node_has_lock(k3sup_node *node);
/* Is another operation of this handle changing the node now? */
bool k3sup__node_serves_another(k3sup_node *node, const k3sup_op *op);

/*
 * Do we share the node's processes? found: this look saw a k3s of the node, so the answer is yes from now on. A pod without the host's pid namespace, whose view of the node is a mounted directory, does not: that it sees no k3s is no evidence of there being
 * none. Where the kernel does not tell the answer is no. 1, 0 or -errno.
 */
int k3sup__node_sees_processes(k3sup_node *node, bool found) _must_check_;
/* What those are told who would have to know. K3SUP_E_FOREIGN_PROC. */
int k3sup__node_fail_unseen(k3sup_op *op, const k3sup_node *node);

/* The number of the mount that a descriptor of ours was opened on. 0 or -errno. */
int k3sup__node_mount_of(const k3sup_node *node, int fd, long *ret) _must_check_;

#endif
