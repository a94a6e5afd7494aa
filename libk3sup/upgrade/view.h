/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One look at a node: everything the state and the upgrade decide from, observed and never remembered.
 */
#ifndef K3SUP_UPGRADE_VIEW_H
#define K3SUP_UPGRADE_VIEW_H

#include <k3sup/upgrade.h>

#include "base/lock.h"
#include "node/datadir.h"
#include "node/identify.h"
#include "node/unit.h"
#include "swap/images.h"
#include "swap/swap.h"

struct k3sup__view {
	struct k3sup__place installed; /* fd -1: none that could be used, installed_error says why */
	int installed_error;           /* 0, or K3SUP_E_TARGET_* */
	k3sup__json *files;            /* the paths, if several could be it; else NULL */
	struct k3sup__build build;     /* of the installed file */
	struct k3sup__sighting sighting;
	int running_error;                   /* 0, K3SUP_E_AMBIGUOUS, or k3sup__is_no_k3s() */
	bool unpacking;                      /* some k3s is still being unpacked */
	bool pending;                        /* some running k3s is not the installed build */
	int same;                            /* -1: no payload to compare with; 0; 1: installed is the payload */
	char same_sha256[K3SUP__SHA256_HEX]; /* with same 1: of the bytes that were compared, if the payload's terms ask for it */
	int leftovers;                       /* of a cut swap beside the installed file */
	bool images_kept;                    /* old versions of images wait for a proof */
	struct k3sup__units units;           /* what starts k3s here, read from files */
	struct k3sup__data_dir data_dir;
	struct k3sup__data_dir second_dir; /* of a server and an agent the second one's; else without a path */
	k3sup__json *managed;              /* k3sup__view_ask_manager(): what their manager says, by the units' names */
	k3sup__json *records;              /* the journal */
	k3sup__json *open_entry;           /* of an upgrade, in records, or NULL */
	k3sup__json *rotation;             /* likewise, of a rotation */
	k3sup__json *failed;               /* builds that failed here (failed.h) */
	unsigned damaged;                  /* lines of the journal that could not be read */
	int journal_error;                 /* why it could not be read at all, or 0 */
	char *journal_text;                /* likewise, as a sentence */
	int lock_error;                    /* likewise of the lock */
	char *lock_text;
	bool failed_before;  /* with same 0: the payload has failed here, and is remembered */
	bool not_ready;      /* it was asked, and runs without being ready */
	k3sup__json *holder; /* who holds the lock, or NULL */
	bool at_work;        /* another operation of this handle does */
};

/* payload: NULL if there is none to compare with. 0 whatever was found; negative only where nothing could be said. Changes nothing. */
int k3sup__view_take(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__view *ret) _must_check_;
/*
 * Where no k3s runs: has systemd given up on a service that would start one? Runs the node's systemctl; that it cannot be asked is no failure. For those who only look: an upgrade
 * asks for itself.
 */
int k3sup__view_ask_manager(k3sup_op *op, k3sup_node *node, struct k3sup__view *view) _must_check_;
void k3sup__view_clear(struct k3sup__view *view);

/* Does this k3s run what is installed? */
bool k3sup__view_runs_installed(const struct k3sup__view *view, const struct k3sup__candidate *candidate);

/* 0; K3SUP_E_CONFIG if a k3s of this node would not start again. */
int k3sup__view_startable(k3sup_op *op, const struct k3sup__view *view) _must_check_;

/* Where the k3s of this node keep their things: one data-dir, or of a server and an agent two. NULL behind the last. */
const char *k3sup__view_data_dir(const struct k3sup__view *view, size_t i);

/* view-report.c */
const char *k3sup__view_state(const struct k3sup__view *view);
/* Writes state, flags, next, installed, stale, running, processes, backup, data_dir, service, units, lock, evidence into facts. */
void k3sup__view_report(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view);

/* Writes stale into the facts: other k3s files than the installed one in the usual places, and the links to them. Not if there are none. */
void k3sup__stale_report(k3sup_op *op, const k3sup_node *node, const struct k3sup__view *view);

#endif
