/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The builds that are kept beside the installed file.
 *
 *   a file that is replaced   NAME.k3sup-backup, the one it replaced last; older ones, where the caller wants them, NAME.k3sup-backup-2 and so on
 *   versioned (layout.h)      the other files of the same form of name; which of them was installed last the records tell (kept.h)
 *
 * Going back makes the installed file be the backup again, as a swap to a payload does: the backup is that payload, hashed first and bound to what was recorded of it.
 * It stays what and where it is. What was installed is not kept in its place: a second call would go forward again, and whoever has gone back knows that build from
 * where it came. So the goal, "the installed file is the backup", can be looked at, and called again it holds.
 */
#ifndef K3SUP_SWAP_BACKUP_H
#define K3SUP_SWAP_BACKUP_H

#include "swap/kept.h"
#include "swap/layout.h"
#include "swap/swap.h"

struct k3sup__backup {
	char *path; /* inside the root */
	char *name; /* in it */
	struct stat st;
	int64_t rank; /* the highest is the one to go back to */
	bool ours;    /* by its name, or by a record: we made it */
};

struct k3sup__backups {
	struct k3sup__layout layout;
	struct k3sup__backup *all; /* the one to go back to first */
	size_t count;
	k3sup__json *records;
	k3sup__json *litter; /* names of temps */
};

/* Reads names and records; changes nothing. What must not be read by others than root counts as no record, with a warning. */
int k3sup__backups_find(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, struct k3sup__backups *ret) _must_check_;
void k3sup__backups_clear(struct k3sup__backups *backups);
/* For reading: a trusted, regular file, still the one that was found. The descriptor, K3SUP_E_UNTRUSTED, K3SUP_E_BACKUP_DAMAGED, -errno. */
int k3sup__backup_open(k3sup_op *op, const k3sup_node *node, const struct k3sup__backups *backups, const struct k3sup__backup *backup) _must_check_;

/*
 * The backup to go back to, as a payload: whole, k3s for this machine, and what was recorded, or what the terms say. Where the installed file is what was kept last that
 * is taken: the goal holds. 0, K3SUP_E_BACKUP_MISSING, K3SUP_E_BACKUP_DAMAGED, K3SUP_E_TARGET_*, K3SUP_E_PAYLOAD_*, K3SUP_E_DIGEST_MISMATCH, K3SUP_E_VERSION_MISMATCH.
 */
int k3sup__backup_load(k3sup_op *op, k3sup_node *node, const struct k3sup__terms *terms, struct k3sup__payload *ret) _must_check_;

/* Leaves the `keep` newest backups of the target: of the others those go that are ours for sure, by name and by content. How many, or a negative code. */
int k3sup__backups_prune(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, uint32_t keep) _must_check_;
/* Before NAME.k3sup-backup is made anew: older ones move on by one name, as far as there is a gap, or as `keep` allows. 0 or a negative code. */
int k3sup__backups_shift(k3sup_op *op, const struct k3sup__place *target, uint32_t keep) _must_check_;

#endif
