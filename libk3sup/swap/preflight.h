/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before the first write: may this payload follow what is installed (node/policy.h), and can it be put there? Everything that can be known beforehand is asked
 * beforehand, all of it, so that a node is refused whole and untouched.
 */
#ifndef K3SUP_SWAP_PREFLIGHT_H
#define K3SUP_SWAP_PREFLIGHT_H

#include "node/checks.h"
#include "swap/images.h"
#include "swap/swap.h"

/* What is about to be done. */
struct k3sup__plan {
	const struct k3sup__payload *payload;
	const struct k3sup__place *target;
	const struct k3sup__build *installed; /* of the target as it is */
	const char *data_dir;                 /* inside the root */
	const char *second_dir;               /* another one into which it unpacks itself; NULL: none */
	const char *role;                     /* "server", "agent", NULL: unknown */
	uint32_t allow;                       /* K3SUP_SWAP_ALLOW_* */
	uint32_t keep;                        /* so many backups; 0: 1 */
	const struct k3sup__images *images;   /* what else is to be put in place, looked at; may be NULL */
};

/*
 * The policies, then the preflight: store, read-only, noexec, immutable, file-mount, hard-links, package, label, and those of k3sup__room_check(). Writes "checks" into the facts.
 * 0, or the first refusal: K3SUP_E_POLICY_*, K3SUP_E_PAYLOAD_*, K3SUP_E_TARGET_*, K3SUP_E_DATA_DIR_SPACE, -ENOSPC; or why nothing could be said. Changes nothing and
 * needs no lock; what only root may read is a warning to others.
 */
int k3sup__admit(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan) _must_check_;
/* When the payload is unpacked, before it is put in place: the policy that could not be decided before. Amends "checks". 0, or K3SUP_E_POLICY_BUILD_DATE. */
int k3sup__admit_unpacked(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan) _must_check_;
/* The preflight where the k3s file is in place: room for the images alone. "checks" is written only if there are images to be written. */
int k3sup__admit_images(k3sup_op *op, k3sup_node *node, const struct k3sup__images *images) _must_check_;
/*
 * The payload is the installed file now, whether it was or became that (path: where it is, inside the root): records the floor, and lets backups go that are too many; going
 * back does neither. 0, or why not: the swap has happened all the same, and one more run catches up.
 */
int k3sup__settle(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, const char *path) _must_check_;

/*
 * Room for all of it: "space", "inodes", "images-read-only", "images-space" (where there are images to be written), "data-dir-space", "second-data-dir-space" (where there
 * is one). What shares a file system is added up in that order. The second one is for images alone, where the k3s file is in place.
 */
void k3sup__room_check(const k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__checks *checks);
void k3sup__room_check_images(const k3sup_node *node, const struct k3sup__images *images, struct k3sup__checks *checks);
/* Room for something else in a directory inside the root, that need not be there yet: 0, or -ENOSPC with the numbers; or why that cannot be told. what: for the sentence. */
int k3sup__room_for(k3sup_op *op, const k3sup_node *node, const char *path, const char *what, uint64_t bytes, uint64_t inodes) _must_check_;
/* What only root may look at does not make the node unfit; anything else that cannot be told does. */
void k3sup__cannot_tell(struct k3sup__checks *checks, const char *name, int r);

/* The part of k3sup__admit() that is about the place. A negative code only where the operation shall stop. */
int k3sup__preflight(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__checks *checks) _must_check_;

#endif
