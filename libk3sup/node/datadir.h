/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where k3s keeps its things, and everything that says so. What runs knows best; units, environment and configuration only say what the next start would use.
 */
#ifndef K3SUP_NODE_DATADIR_H
#define K3SUP_NODE_DATADIR_H

#include "node/identify.h"
#include "node/unit.h"

#define K3SUP__DEFAULT_DATA_DIR "/var/lib/rancher/k3s"

struct k3sup__data_dir {
	char *path; /* inside the root */
	/*
	 * "option", "process" (a server's working directory, or where its program is), "journal" (where the k3s worked that we have stopped), "unit" (its command line), "config",
	 * "environment" (K3S_DATA_DIR), "default"
	 */
	const char *source;
	k3sup__json *sources; /* all that say something: [{source, path, from}] */
	char *suspicion;      /* a sentence, if a server's directory has nothing of a server's in it; NULL */
	char *unstartable;    /* a sentence, if k3s would not start with its configuration; NULL. What runs began with another one */
};

/*
 * The first of these counts: the caller's --data-dir, the running process, and per unit as k3s does it the command line, the configuration, K3S_DATA_DIR (which k3s reads
 * since v1.27.16, v1.28.12, v1.29.7 and v1.30.3), the default. Others that disagree are a warning of the operation, which names both.
 *
 * candidate: NULL: none runs. stopped: then where the k3s worked that a cut run has stopped and owes a start, as its arguments went with it; NULL: there is none. units: NULL: they
 * are read here. version: of the installed k3s, NULL or "": not known, taken for a newer one. Failing where nothing that
 * counts more decides: K3SUP_E_UNTRUSTED, K3SUP_E_CONFIG or K3SUP_E_PARSE for a configuration that cannot be used.
 */
int k3sup__data_dir_look(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, const char *stopped,
	const struct k3sup__units *units, const char *version, struct k3sup__data_dir *ret) _must_check_;
/* Before k3s is stopped: 0, or K3SUP_E_CONFIG if it would not start again. unstartable: as above. */
int k3sup__startable(k3sup_op *op, const char *unstartable) _must_check_;
void k3sup__data_dir_clear(struct k3sup__data_dir *data_dir);
/* Does this version of k3s read K3S_DATA_DIR? One that is not known is taken for a newer one. */
bool k3sup__data_dir_reads_env(const char *version);
/* {path, source, sources} */
k3sup__json *k3sup__data_dir_json(const struct k3sup__data_dir *data_dir);

#endif
