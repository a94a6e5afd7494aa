/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's own systemctl, for what speaks with systemd: the service and its start guard.
 */
#ifndef K3SUP_PROCESS_SYSTEMCTL_H
#define K3SUP_PROCESS_SYSTEMCTL_H

#include "process/service.h"

#define SYSTEMCTL_ARGS 40

/* Runs it with these arguments (fewer than SYSTEMCTL_ARGS, NULL at the end). K3SUP_E_NO_SERVICE if there is none, K3SUP_E_SERVICE if it does not answer. */
int k3sup__systemctl(k3sup_op *op, const struct k3sup__channel *channel, const char *const *args, struct k3sup__child_result *ret) _must_check_;
/* The same, for what has to succeed: K3SUP_E_SERVICE with the first line it said. */
int k3sup__systemctl_do(k3sup_op *op, const struct k3sup__channel *channel, const char *const *args) _must_check_;
/* Where it is. K3SUP_E_NO_SERVICE if there is none. */
int k3sup__systemctl_path(k3sup_op *op, const struct k3sup__channel *channel, const char **ret) _must_check_;
/* One value of what `systemctl show` printed, "" if it is not there. Owned. */
char *k3sup__property(const char *text, const char *key);

/* Finds the channel over which systemd answers about service->name, and looks at it. K3SUP_E_NO_SERVICE if there is no systemd, or no such unit. */
int k3sup__systemd_open(k3sup_op *op, k3sup_node *node, struct k3sup__service *service) _must_check_;

#endif
