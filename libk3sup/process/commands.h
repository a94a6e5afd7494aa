/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's own commands as a service manager, where none that is known here owns k3s. What they say is a hint: a stop is proven by the process's end and that no other one is
 * seen, a start by what runs. For work functions.
 */
#ifndef K3SUP_PROCESS_COMMANDS_H
#define K3SUP_PROCESS_COMMANDS_H

#include "process/service.h"

struct k3sup__commands {
	char *stop, *start;
	char *status; /* ends with 0: it runs; with 3: it is stopped, and stays so; else: unknown */
};

/* All three or none; copies are made. 1 they are there, 0 none was given, -EINVAL, -ENOMEM. */
int k3sup__commands_take(const char *stop, const char *start, const char *status, struct k3sup__commands *ret) _must_check_;
void k3sup__commands_clear(struct k3sup__commands *commands);

/* The service that they stand for, asked once. candidate: its k3s, or NULL if none runs. The commands are borrowed. 0 or -errno. */
int k3sup__commands_own(k3sup_op *op, k3sup_node *node, const struct k3sup__commands *commands, const struct k3sup__candidate *candidate,
	struct k3sup__service *ret) _must_check_;

/* How the last order ended: 1 its command said that all is well, 0 it said something else, -ENOENT there was none. which: "stop" or "start". */
int k3sup__commands_said(const struct k3sup__service *service, const char *which);

#endif
