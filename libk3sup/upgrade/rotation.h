/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rotation of leaf certificates, but for stopping and starting k3s: what it has to do, told by fingerprints; its entry in the journal; the retiring; and whether k3s has made new ones.
 *
 * The entry is opened before the first change, with a key if the caller gave one and the fingerprints of what is to be replaced; events: "stop" (k3s is stopped by us), "retired" (all
 * of it was taken away), "started", "not-rotated" (k3s ran, and had not made, or did not serve, new ones in time). It is closed when new certificates were proven. So the same key again finds that none of those is live, and does nothing.
 */
#ifndef K3SUP_UPGRADE_ROTATION_H
#define K3SUP_UPGRADE_ROTATION_H

#include "certs/leafs.h"
#include "certs/retire.h"
#include "upgrade/records.h"
#include "upgrade/services.h"

struct k3sup__rotation {
	/* what is wanted */
	char *key;      /* NULL: none */
	int64_t within; /* nothing may expire within so many days; below 0: that is not asked for */
	struct k3sup__retiring retiring;

	/* what was seen */
	struct k3sup__certs_where where;
	struct k3sup__leafs leafs;
	k3sup__json *records;      /* the journal */
	const k3sup__json *prints; /* in records: of what the entry that is gone on with wanted to replace; NULL: none */
	char id[K3SUP__ENTRY_ID];  /* of the open entry, "": none */
	bool resumed;              /* an earlier run opened it */
	bool older;                /* there are open entries of other keys, too */
	bool ours;                 /* if k3s does not run, then because a run of ours, of whatever verb, has stopped it, since this boot */
	bool done;                 /* there is nothing to retire */
	bool alive;                /* k3s runs, or its manager is about to start it; by k3sup__window_look() */
	size_t count;              /* likewise: so many k3s are to come back */

	/* what was done */
	bool retired; /* something was taken away */
	bool failed;  /* k3s runs, and what was to be new is not */
};

/* Takes the wishes. services: as in k3sup_certs_retire_opts. -EINVAL, -ENOMEM; nothing is to be cleared then. */
int k3sup__rotation_take(const char *key, int64_t within, const char *const *services, uint32_t keep, uint32_t keep_days,
	struct k3sup__rotation *ret) _must_check_;
void k3sup__rotation_clear(struct k3sup__rotation *rotation);

/* NULL-terminated, NULL: all. */
static inline const char *const *k3sup__rotation_services(const struct k3sup__rotation *rotation)
{
	return (const char *const *)rotation->retiring.services.items;
}

/* Looks and decides; changes nothing. K3SUP_E_DATA_DIR, K3SUP_E_AUTHORITY, K3SUP_E_CLOCK, -errno. */
int k3sup__rotation_look(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation) _must_check_;
/* With alive: is k3s to be stopped, or started, by this run? And may it? K3SUP_E_RUNNING, K3SUP_E_NO_SERVICE and others of k3sup__window_admit(). */
bool k3sup__rotation_needs_window(const struct k3sup__rotation *rotation);
int k3sup__rotation_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__rotation *rotation, const struct k3sup__restart *restart) _must_check_;
/* Writes key, resumed and issued_by into the facts; and retires: what would be taken away. */
void k3sup__rotation_report(k3sup_op *op, const struct k3sup__rotation *rotation);
void k3sup__rotation_plan(k3sup_op *op, const struct k3sup__rotation *rotation);
/* Opens the entry, unless it is open. stops: k3s will be stopped by us. */
int k3sup__rotation_open(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation, bool stops) _must_check_;
/* While k3s is stopped; still: as in k3sup__retire(). */
int k3sup__rotation_retire(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation, int (*still)(k3sup_op *op)) _must_check_;
/* k3s was started again by us. */
int k3sup__rotation_started(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation) _must_check_;
/* It stays open. What failed is retired once more by the next run, and then no more: a start that did not follow the listener's trigger is over, and another one may; more of them will not. */
int k3sup__rotation_pending(k3sup_op *op, k3sup_node *node, const struct k3sup__rotation *rotation) _must_check_;
/* Closes it, if it is open. status: how the rotation ended; its success also closes all that earlier runs left open. */
int k3sup__rotation_close(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation, int status) _must_check_;

#endif
