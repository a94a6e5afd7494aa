/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which service of the node's service manager is this process? Told by what only root can write: its group, the unit file or init script, OpenRC's own records.
 */
#ifndef K3SUP_NODE_UNITOF_H
#define K3SUP_NODE_UNITOF_H

#include "node/cgroup.h"
#include "node/program.h"

struct k3sup__unitof {
	enum k3sup__keeper keeper; /* NONE also where a service is named that has no file which can be trusted */
	char *unit;                /* "k3s.service", "k3s"; NULL: none */
	char *target;              /* the k3s file that it starts, inside the root, links followed; NULL: it cannot be told */
	enum k3sup__role role;     /* what it starts that as */
	bool main; /* it is what the manager itself started: its parent is process 1 (which systemd is), or its supervise-daemon */
};

/* 0 whatever was found; -ESRCH if the process is gone, -ENOMEM, -EMFILE and the like. */
int k3sup__unit_of(const struct k3sup__vantage *view, int dirfd, pid_t pid, pid_t ppid, struct k3sup__unitof *ret) _must_check_;
/*
 * The daemon that OpenRC has a record of starting for this service, if that still runs and is its supervise-daemon: its pid, 0 if there is none. -ENOMEM and the like.
 */
int k3sup__openrc_daemon(const k3sup_node *node, const char *service, pid_t *ret) _must_check_;
void k3sup__unitof_clear(struct k3sup__unitof *unitof);

#endif
