/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who starts k3s, and may it be told to? For work functions.
 */
#ifndef K3SUP_PROCESS_OWNER_H
#define K3SUP_PROCESS_OWNER_H

#include "process/service.h"

enum k3sup__how { K3SUP__HOW_AUTO, K3SUP__HOW_SERVICE, K3SUP__HOW_SIGNAL };

/*
 * Who owns this process? Its manager is asked whether it is the main process of one of its services; a name, or that it is somewhere below one, proves nothing.
 * 0 whatever was found.
 */
int k3sup__service_of(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret) _must_check_;

/*
 * Would a restart in this way start k3s again and leave us alive? ret: K3SUP__HOW_SERVICE or K3SUP__HOW_SIGNAL. K3SUP_E_NO_SERVICE, K3SUP_E_NOT_SUPERVISED,
 * K3SUP_E_SERVICE_MASKED, K3SUP_E_SERVICE_TAKES_US, K3SUP_E_SERVICE. Asked before anything is changed. process: NULL if none
 * runs.
 */
int k3sup__service_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__service *service, const k3sup_process *process,
	enum k3sup__how how, enum k3sup__how *ret) _must_check_;

/* Is the cgroup in the first text of /proc/PID/cgroup that of the second one's unit, or below it? */
bool k3sup__cgroup_within(const char *text, const char *of, const char *unit);
/* Is this process in the group that OpenRC made for this service, or below it? That is what rc_cgroup_cleanup empties (OpenRC, rc-cgroup.sh). */
bool k3sup__cgroup_of_openrc(const char *text, const char *service);
/*
 * Do two texts of /proc/PID/cgroup name one cgroup, but the root, in any hierarchy? A container's runtime kills all that is in the container's. of_1:
 * process 1's text, where they were read in a control group namespace of a container's own: "/" is the container's group then, unless process 1 is in it, too. Else NULL.
 */
bool k3sup__cgroup_common(const char *a, const char *b, const char *of_1);
/* Is that so for this process and ours? 1, 0, -errno. */
int k3sup__cgroup_shared(k3sup_node *node, const k3sup_process *process) _must_check_;
int k3sup__cgroup_shared_with(const k3sup_node *node, pid_t pid) _must_check_;

#endif
