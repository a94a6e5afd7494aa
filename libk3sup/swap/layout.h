/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the k3s file is installed: as a file that is replaced, or versioned, as some roles of Ansible do it: k3s is a symbolic link to a file beside it, or elsewhere, that
 * ends in its version (k3s-v1.30.4+k3s1). Then a new version becomes a file of its own, and the link that leads to it changes. The file that was is the backup.
 */
#ifndef K3SUP_SWAP_LAYOUT_H
#define K3SUP_SWAP_LAYOUT_H

#include "node/node.h"

struct k3sup__layout {
	const struct k3sup__place *target; /* the file; borrowed */
	struct k3sup__place link;          /* the link that leads to it; fd -1: not versioned */
	char *text;                        /* what the link says */
	size_t stem;                       /* where the version in the file's name begins */
	bool dashed;                       /* v1.30.4-k3s1 */
};
#define K3SUP__LAYOUT_NONE ((struct k3sup__layout){.link = K3SUP__PLACE_NONE})

/*
 * Not versioned is also what several links lead to, or what a service starts by its own name: whatever link is changed, something would stay with the old version.
 * 0, -ENOMEM, other -errno.
 */
int k3sup__layout_find(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, struct k3sup__layout *ret) _must_check_;
void k3sup__layout_clear(struct k3sup__layout *layout);

/* The name of the file that this version gets (owned); NULL: the file keeps its name, and is replaced. 0 or -ENOMEM. */
int k3sup__layout_name(const struct k3sup__layout *layout, const char *version, char **ret) _must_check_;
/* Is this the name of another version beside the target? */
bool k3sup__layout_is_version(const struct k3sup__layout *layout, const char *name);
/* Is it the name of this version, however that is written, the target's own included? */
bool k3sup__layout_is_this_version(const struct k3sup__layout *layout, const char *name, const char *version);
/* What k3s is installed as: the link, or the file itself. */
const struct k3sup__place *k3sup__layout_front(const struct k3sup__layout *layout);

/* Makes the link lead to this file beside the target. before_rename and ret_renamed as with k3sup__stage_publish(). */
int k3sup__layout_relink(k3sup_op *op, const struct k3sup__layout *layout, const char *name, int (*before_rename)(k3sup_op *op),
	bool *ret_renamed) _must_check_;

#endif
