/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes are this node's k3s, and where it keeps things. The /proc reader of the library.
 */
#ifndef K3SUP_NODE_IDENTIFY_H
#define K3SUP_NODE_IDENTIFY_H

#include "base/process.h"
#include "node/build.h"
#include "node/node.h"

enum k3sup__role { K3SUP__ROLE_UNKNOWN, K3SUP__ROLE_SERVER, K3SUP__ROLE_AGENT };

struct k3sup__candidate {
	k3sup_process *process;            /* whom to signal; owned */
	enum k3sup__role role;
	bool unpacking;                    /* still the wrapper: its exe is the installed file and its comm is k3s */
	bool image;                        /* runs the installed file itself, or a former one (no wrapper: k3d, distributions) */
	char asset_hash[K3SUP__H_LEN + 1]; /* H of what it runs, "" if unknown (image, unpacking) */
	char *exe;                         /* inside the root, " (deleted)" taken off */
	bool exe_deleted;
	dev_t exe_dev;
	ino_t exe_ino;
	char *data_dir;                    /* observed: a server's cwd, else from exe; NULL if neither tells */
};

struct k3sup__sighting {
	struct k3sup__candidate *candidates;
	size_t count;
	k3sup__json *passed_over; /* [{pid, comm, reason}]: what came near and which rule dropped it */
};

/*
 * One pass over the proc mount. installed: the k3s file (fd -1: none), for wrapper-phase and image processes. 0 whatever was found, -errno if /proc cannot be read,
 * K3SUP_E_CANCELLED. A `k3s init`/--log pair counts as one candidate, the parent.
 */
int k3sup__identify_scan(k3sup_op *op, k3sup_node *node, const struct k3sup__place *installed, struct k3sup__sighting *ret) _must_check_;
void k3sup__sighting_clear(struct k3sup__sighting *sighting);
/* 0 if these are one k3s, or a server and an agent that run the same file; K3SUP_E_NO_K3S; K3SUP_E_AMBIGUOUS with evidence /candidates and /passed_over. */
int k3sup__sighting_judge(k3sup_op *op, const struct k3sup__sighting *sighting) _must_check_;
k3sup__json *k3sup__candidate_json(const struct k3sup__candidate *candidate);
k3sup__json *k3sup__sighting_json(const struct k3sup__sighting *sighting); /* array of candidates */
const char *k3sup__role_name(enum k3sup__role role); /* "server", "agent", NULL */

/*
 * The installed k3s file: the node's --k3s if given, else /usr/local/bin/k3s, /opt/bin/k3s, /usr/bin/k3s, /bin/k3s, whichever exist once links are followed (the same
 * inode counts once). Several: the one whose H is running_hash (may be NULL), else K3SUP_E_TARGET_AMBIGUOUS. Never from argv.
 * K3SUP_E_TARGET_MISSING, _DANGLING, _LOOP, _NOT_FILE, K3SUP_E_UNTRUSTED.
 */
int k3sup__installed_find(k3sup_op *op, k3sup_node *node, const char *running_hash, struct k3sup__place *ret) _must_check_;

/*
 * The data-dir inside the root and where that is known from ("option", "process", "config", "default"); owned text. Disagreements go to the operation's facts as a
 * warning, never to silence. candidate may be NULL.
 */
int k3sup__data_dir_find(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, char **ret_path, const char **ret_source) _must_check_;

#endif
