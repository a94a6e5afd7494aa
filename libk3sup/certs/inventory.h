/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which certificates and keys k3s keeps below its data-dir, of every era: names, services, issuers, what has to be in them.
 * Source: k3s pkg/util/services, pkg/daemons/control/deps, pkg/agent/config, and a data-dir of a real k3s.
 */
#ifndef K3SUP_CERTS_INVENTORY_H
#define K3SUP_CERTS_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/strv.h"

enum k3sup__ca { K3SUP__CA_CLIENT, K3SUP__CA_SERVER, K3SUP__CA_REQUEST_HEADER, K3SUP__CA_ETCD_SERVER, K3SUP__CA_ETCD_PEER, K3SUP__N_CAS };

/* Below the data-dir, without ".crt" and ".key"; the five that a server has. */
extern const char *const k3sup__ca_paths[K3SUP__N_CAS];

/* flags of a pair */
#define K3SUP__PAIR_AGENT 1u     /* one of an agent's: its issuers are the copies in agent/ */
#define K3SUP__PAIR_KEY_ONLY 2u  /* the certificate belonging to this key lies elsewhere */
#define K3SUP__PAIR_NODE_NAME 4u /* the common name ends with the node's name, which cannot be known here */
#define K3SUP__PAIR_ALWAYS 8u    /* there in every era, once a server has started; an agent's: once an agent without a server has */
/* Some releases make it again after a rotation, others do not (since 2023: supervisor; since May 2025: serving pairs; until 2025: those for old agents). */
#define K3SUP__PAIR_NOT_ALL_ERAS 16u

/* A leaf certificate and its key. */
struct k3sup__pair {
	const char *service; /* as `k3s certificate` names it */
	const char *path;    /* below the data-dir, without ".crt" and ".key" */
	enum k3sup__ca ca;
	unsigned flags;
	unsigned usages;          /* K3SUP__USE_* it has to have */
	const char *cn;           /* with NODE_NAME: what comes before it */
	const char *organisation; /* NULL: not looked at */
	const char *const *sans;  /* that have to be there, NULL-terminated; NULL: none */
};

/* In the order in which they are reported: by service, certificates of the server before those of the agent. */
extern const struct k3sup__pair k3sup__pairs[];
extern const size_t k3sup__n_pairs;

/* Directories below the data-dir that hold certificates and keys. A file that is in none of the lists is reported as unknown and never touched. */
extern const char *const k3sup__cert_dirs[]; /* NULL-terminated */
/* Is this path (below the data-dir) something k3s or this library puts there? */
bool k3sup__cert_path_is_known(const char *path);

/* Does a service of that name exist? */
bool k3sup__cert_service_is_known(const char *name);
/* Takes a caller's list of services, each once. -EINVAL for an unknown one. */
int k3sup__cert_services_take(const char *const *services, struct k3sup__strv *ret) _must_check_;

#endif
