/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenRC's init scripts, as k3s's install.sh writes them (k3s install.sh, create_openrc_service_file), read as OpenRC would source them: /etc/rc.conf, /etc/rc.conf.d,
 * /etc/conf.d/NAME.RUNLEVEL or else NAME, the script, and what that sources (OpenRC sh/openrc-run.sh, sh/supervise-daemon.sh). Nothing is executed; a script of another form is "bad", and says where.
 */
#ifndef K3SUP_NODE_INITSCRIPT_H
#define K3SUP_NODE_INITSCRIPT_H

#include "node/unit.h"

#define K3SUP__INIT_DIR "/etc/init.d"

/* One init script, "k3s", whatever it starts. 0 with a unit in any state; -ENOENT without a sentence if there is none. */
int k3sup__initscript_read(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit *ret) _must_check_;

#endif
