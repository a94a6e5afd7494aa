/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services of one operation: found, looked at, reported; and the operation itself, to be called by others.
 */
#ifndef K3SUP_PROCESS_SERVE_H
#define K3SUP_PROCESS_SERVE_H

#include "process/commands.h"
#include "process/owner.h"
#include "process/seen.h"

#define K3SUP__MOST_SERVED 2     /* a server and an agent */
#define K3SUP__PATIENCE_MS 15000 /* with a command that said that it failed */

struct k3sup__served {
	struct k3sup__service service;
	k3sup_process *process; /* its k3s, at the first look; NULL: none ran */
	k3sup_process *worker;  /* of a --log pair the child; NULL: there is none */
	k3sup_process *keeper;  /* OpenRC: its supervise-daemon; NULL: there is none */
	bool apart;             /* that was not in our cgroup */
	bool guarded;           /* we armed its guard */
};

enum k3sup__serving_phase { SERVING_LOOK, SERVING_ORDER, SERVING_STOPPED, SERVING_START, SERVING_PROVE, SERVING_END };

struct k3sup__serving {
	struct k3sup__node_state node;
	char *name;                       /* NULL: whatever runs or is installed */
	struct k3sup__commands commands;  /* empty: the service manager that there is */
	const struct k3sup__commands *by; /* those, or NULL */
	uint32_t action;
	bool nested;   /* within an operation that has the node's turn */
	bool unproven; /* a start is over once it was ordered */
	int64_t deadline, lock_deadline, stable_ms, guard_delay_ms;
	const struct k3sup__want *proof; /* borrowed; NULL: any k3s, and it is not asked whether it is ready */

	enum k3sup__serving_phase phase;
	size_t count;
	struct k3sup__served list[K3SUP__MOST_SERVED];
	bool ordered, looked;
	int64_t ordered_at;   /* when the first order was given */
	int64_t hold_at;      /* when the guard's time is to begin anew, while the stop takes its time */
	int64_t stop_by;      /* so long a stop is waited for */
	int64_t absent_since; /* of a stop: no k3s has been seen since; 0: one is there */
	int failed;           /* of a restart in halves: why its stop did not come to a proven end */
};

/* Whose k3s run now? Adds their services; their number, or -errno. */
int k3sup__serving_scan(k3sup_op *op, struct k3sup__serving *s) _must_check_;
/* The same, and if none runs those that are installed. K3SUP_E_NO_SERVICE, K3SUP_E_AMBIGUOUS. */
int k3sup__serving_find(k3sup_op *op, struct k3sup__serving *s) _must_check_;
/* May all of them be told to stop and to start? Why not, before anything is changed. */
int k3sup__serving_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__serving *s) _must_check_;
/* Asks their managers once more. 1 if all are stopped, else 0; -errno. */
int k3sup__serving_look(k3sup_op *op, struct k3sup__serving *s) _must_check_;
/* Before a stop, and while it takes its time: the guards of all, whose time begins anew. */
int k3sup__serving_arm(k3sup_op *op, struct k3sup__serving *s) _must_check_;
/* A step's part, once the stop is ordered: what the engine shall wait for, or 1 when none of them runs any more, and none will by itself; -errno. */
void k3sup__serving_begin_stop(struct k3sup__serving *s);
int k3sup__serving_await_stop(k3sup_op *op) _must_check_;
/* None of what the proof has found may be in our cgroup, where what ran before was not. */
int k3sup__serving_apart(k3sup_op *op, const struct k3sup__serving *s, k3sup_op *proof) _must_check_;
void k3sup__serving_report(k3sup_op *op, const struct k3sup__serving *s);
void k3sup__serving_clear(struct k3sup__serving *s); /* the list */

struct k3sup__service_want {
	const char *name;
	const struct k3sup__commands *commands; /* NULL, or the caller's; a copy is made */
	uint32_t action;                        /* K3SUP_SERVICE_* */
	bool nested;                            /* the caller has the node's turn */
	bool unproven; /* of a restart: end once it is ordered; the caller proves, and disarms the guard after that */
	int64_t deadline, lock_deadline, stable_ms, guard_delay_ms;
	const struct k3sup__want *proof; /* of a start: what has to run; outlives the operation. NULL: any k3s */
};

/* The operation behind k3sup_service(), to be called by others with k3sup__op_call(). */
int k3sup__service_op(k3sup_node *node, const struct k3sup__service_want *want, k3sup_op **ret_op) _must_check_;

#endif
