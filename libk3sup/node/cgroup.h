/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What /proc/PID/cgroup says about who keeps a process running.
 */
#ifndef K3SUP_NODE_CGROUP_H
#define K3SUP_NODE_CGROUP_H

#include "base/util.h"

enum k3sup__keeper {
	K3SUP__KEEPER_NONE,    /* nothing is known: the root group, a container's, one of another kind of manager */
	K3SUP__KEEPER_SYSTEMD, /* a service of the system's systemd; unit is its name, "k3s.service" */
	K3SUP__KEEPER_OPENRC,  /* a service of OpenRC; unit is its name, "k3s" */
	K3SUP__KEEPER_USER,    /* a service of a user's own systemd, or a login session */
};

#define K3SUP__UNIT_MAX 256 /* UNIT_NAME_MAX of systemd, with its NUL */

struct k3sup__cgroup {
	enum k3sup__keeper keeper;
	char unit[K3SUP__UNIT_MAX]; /* "" unless systemd or OpenRC */
};

/*
 * The text of /proc/PID/cgroup, of version 1, 2 or both. systemd puts a service into a group that is named after it, below slices only; what a service makes below it by
 * itself (Delegate=, nested groups) changes nothing. Nobody but root can put a process there, unlike below a user's own manager. In a cgroup namespace paths are shown from
 * its root, so they may begin with "/..".
 */
void k3sup__cgroup_parse(const char *text, struct k3sup__cgroup *ret);

const char *k3sup__keeper_name(enum k3sup__keeper keeper); /* "systemd", "openrc", NULL */

#endif
