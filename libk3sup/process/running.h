/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting until the wanted build runs, stays and is ready.
 */
#ifndef K3SUP_PROCESS_RUNNING_H
#define K3SUP_PROCESS_RUNNING_H

#include "node/identify.h"

/* What is wanted. */
struct k3sup__want {
	char asset_hash[K3SUP__H_LEN + 1]; /* "": it has none */
	bool by_file;                      /* without H: the k3s that executes this very file. Neither: any build */
	dev_t file_dev;
	ino_t file_ino;
	size_t count;               /* so many k3s (server and agent may share one file); at least 1 */
	int64_t come_by;            /* the first of them must have been seen until then; deadline of CLOCK_BOOTTIME */
	int64_t give_up;            /* likewise, for all */
	int64_t stable_ms;          /* 0: being there once is enough */
	uint32_t probe;             /* K3SUP_PROBE_* */
	const char *health;         /* command, or NULL; borrowed, a copy is made */
	unsigned most_ends;         /* after so many ends of the wanted build it is called a crash loop before the time is over; 0: never */
	k3sup_process *previous[2]; /* do not count; NULL or borrowed, references are taken */
};

/* Is this candidate the wanted build? */
bool k3sup__want_matches(const struct k3sup__want *want, const struct k3sup__candidate *candidate);

/* Probe and health as callers give them: 0, or -EINVAL. */
int k3sup__readiness_check(uint32_t probe, const char *health) _must_check_;

/* The operation behind k3sup_wait_running(), to be called by others with k3sup__op_call(). */
int k3sup__running_op(k3sup_node *node, const struct k3sup__want *want, k3sup_op **ret_op) _must_check_;
/* What such a child operation has seen of starts, ends and answers becomes its caller's facts. */
void k3sup__running_report(k3sup_op *op, k3sup_op *child);

#endif
