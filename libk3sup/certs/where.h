/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose certificates: the data-dir, what k3s is there, and whether it runs.
 */
#ifndef K3SUP_CERTS_WHERE_H
#define K3SUP_CERTS_WHERE_H

#include "node/identify.h"

struct k3sup__certs_where {
	char *data_dir; /* inside the root */
	char *real;     /* the same without links, for who follows it by himself: one inside the root leads elsewhere outside of it */
	const char *source;
	k3sup__json *sources;            /* all that say something, as in k3sup__data_dir */
	bool server;                     /* by what is in there, and what runs; else an agent */
	bool suspicious;                 /* a server's unit, but not a server's directory */
	char *unstartable;               /* why k3s would not start with its configuration, or NULL */
	bool running;                    /* a k3s of this node runs */
	bool unseen;                     /* whether it does cannot be told: see k3sup__node_sees_processes() */
	pid_t pid;                       /* then: which one */
	k3sup_process *process, *worker; /* then: it, and of a --log pair the child, or NULL; owned */
};

/*
 * 0; K3SUP_E_DATA_DIR if no k3s ever started in there, or if this is not a server's although a server runs, or nothing runs and another directory is a server's or the unit starts one; K3SUP_E_AMBIGUOUS and others of identify. Ambiguity is forgiven where the
 * data-dir was given.
 */
int k3sup__certs_where_find(k3sup_op *op, k3sup_node *node, struct k3sup__certs_where *ret) _must_check_;
/* Likewise; known: what was found before k3s was stopped, which counts where none runs: its arguments went with it. NULL: not known. */
int k3sup__certs_where_again(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *known, struct k3sup__certs_where *ret) _must_check_;
/* Likewise; stopped: as for k3sup__data_dir_look(). */
int k3sup__certs_where_stopped(k3sup_op *op, k3sup_node *node, const char *stopped, struct k3sup__certs_where *ret) _must_check_;
void k3sup__certs_where_clear(struct k3sup__certs_where *where);
/* Adds role and data_dir to the facts. */
void k3sup__certs_where_report(k3sup_op *op, const struct k3sup__certs_where *where);

#endif
