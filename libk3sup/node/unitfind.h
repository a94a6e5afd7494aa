/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where systemd looks for a unit and its drop-ins (systemd.unit(5), "Unit File Load Path").
 */
#ifndef K3SUP_NODE_UNITFIND_H
#define K3SUP_NODE_UNITFIND_H

#include "base/strv.h"
#include "node/node.h"

/* The directories of the system's own systemd, the first ones count most; ended by NULL. */
extern const char *const k3sup__unit_dirs[];

struct k3sup__unit_found {
	char *id;                   /* the unit's own name, where the one asked for is an alias */
	struct k3sup__strv aliases; /* all other names of it */
	char *path;                 /* of the unit file in one of the directories; NULL: it is masked, and mask says where */
	char *mask;
};

/* 0; -ENOENT; -ELOOP: aliases in a circle; -ENOLINK: a link to nothing, ret->path says which; K3SUP_E_UNTRUSTED and others with a sentence. */
int k3sup__unit_find(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit_found *ret) _must_check_;
void k3sup__unit_found_clear(struct k3sup__unit_found *found);

/* The drop-ins of a unit with these names, in the order in which they are read. */
int k3sup__unit_drop_ins(k3sup_op *op, const k3sup_node *node, const char *id, const struct k3sup__strv *aliases, struct k3sup__strv *ret)
	_must_check_;

#endif
