/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live leafs: read, taken away, put in place. What holds at every instant, also on a disk whose power was cut: a pair is whole and matches, or its key is not there. So a key
 * goes first and comes last, with its directory synced in between. Never a key without its certificate, which k3s would not mend.
 */
#ifndef K3SUP_CERTS_LIVE_H
#define K3SUP_CERTS_LIVE_H

#include "certs/backup.h"
#include "certs/where.h"

struct k3sup__live {
	k3sup_op *op;
	k3sup_node *node;
	const struct k3sup__certs_where *where;
	const char *const *services; /* NULL: all that a node of its role has */
	struct k3sup__tls_files files;
	k3sup__json *authorities; /* {path: SHA-256 of the first certificate} of those in use */
	k3sup__json *removed;     /* each file that is taken away is added to it: {path, sha256}; NULL: nobody asks; not owned */
	int (*still)(k3sup_op *op); /* asked before the trigger is set and before each file is taken away: is k3s stopped still? NULL: nobody is asked */
};

/*
 * Reads all leafs and keys there are, and the authorities in use. Refuses what must not be retired: K3SUP_E_AUTHORITY (an authority is missing, damaged, without its key or expired, so
 * that no start could issue anything), K3SUP_E_CLOCK (the clock is before the newest authority's beginning, or before this library was built), K3SUP_E_TARGET_NOT_FILE (a link), and what k3sup__live_removable() says.
 */
int k3sup__live_look(struct k3sup__live *live) _must_check_;
/* The same, and K3SUP_E_RUNNING (k3s runs). */
int k3sup__live_read(struct k3sup__live *live) _must_check_;
void k3sup__live_clear(struct k3sup__live *live);
/* The directory of a file of the data-dir. 0, -ENOENT, others of root_find. */
int k3sup__live_find_dir(const struct k3sup__live *live, const char *path, struct k3sup__place *ret) _must_check_;
bool k3sup__live_wants(const struct k3sup__live *live, const char *service);

/* Keeps all live files in a backup, or finds them in one that there is: ret_name (owned), ret_made. NULL if there is nothing to keep. */
int k3sup__live_keep(struct k3sup__live *live, int backups, char **ret_name, bool *ret_made) _must_check_;

/*
 * Removes old backups, all but the newest `keep` of those that were made since then. Never name (may be NULL), and never one with a key that is not there now nor in a newer one:
 * no start has made another yet, so that would be the end of it. The number of removed ones.
 */
int k3sup__live_prune(struct k3sup__live *live, int backups, size_t keep, int64_t since, const char *name) _must_check_;

/* Takes these away (all live files if paths is NULL), keys first. Each has to be what was read: K3SUP_E_TARGET_CHANGED. The number of removed files. */
int k3sup__live_remove(struct k3sup__live *live, const struct k3sup__tls_files *only) _must_check_;

/* Removes what runs that were cut have left beside the live files: how many temps. */
int k3sup__live_tidy(struct k3sup__live *live) _must_check_;

/* Puts one file in place, durably, with its mode and owner. */
int k3sup__live_put(struct k3sup__live *live, const struct k3sup__tls_file *file) _must_check_;

/* The listener's trigger: the next start issues a new certificate for port 6443 (servers only). 1 if it was set (or taken back), 0 if it was so already. */
int k3sup__live_set_trigger(struct k3sup__live *live, bool set) _must_check_;

#endif
