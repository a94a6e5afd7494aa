/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates: which there are on a node, what is wrong with them, and whether a prepared authority would be taken.
 */
#ifndef K3SUP_CERTS_H
#define K3SUP_CERTS_H

#include <k3sup/api.h>

/* k3sup_certs_check_opts.flags */
#define K3SUP_CERTS_CHECK_AT 1u /* `at` counts */

struct k3sup_certs_check_opts {
	uint32_t struct_size;
	uint32_t flags;                 /* K3SUP_CERTS_CHECK_* */
	int64_t at;                     /* look as if it were this time, in seconds since 1970; counts only with K3SUP_CERTS_CHECK_AT */
	const char *const *services;    /* NULL-terminated, in the words of `k3s certificate check --service`; NULL: all */
	const char *const *kubeconfigs; /* NULL-terminated, further kubeconfigs to look into, inside the root; NULL: none */
	const char *k3s_version;        /* decides how early k3s renews; NULL: the installed file's, read only where it matters */
	const char *reserved;           /* NULL */
	uint32_t warn_days;             /* a leaf that ends within so many days is WARNING; 0: what that version of k3s takes, 90 or 120 */
	uint32_t reserved2;             /* 0 */
};

struct k3sup_certs_ca_check_opts {
	uint32_t struct_size;
	uint32_t flags;  /* 0 */
	const char *dir; /* a path of the caller: the directory that `k3s certificate rotate-ca --path` would be given, with tls/ in it */
	const char *server_dir; /* a path of the caller: <data-dir>/server of the cluster whose authorities would be replaced */
};

K3SUP_BEGIN_DECLS

/**
 * k3sup_certs_check() - what is there, and is it well?
 * @opts: NULL for the defaults.
 * @ret_op: result: role, data_dir {path, source}, reference_time, warn_days,
 *     certificates[] {path, position, kind, service, cn, subject, issuer_cn, issuer, organisations, sans, usages, serial, ski, aki, not_before, not_after, residual_seconds, status,
 *     sha256}: every certificate of every file, leaf first. Paths are below the data-dir unless they begin with a slash. kind is "leaf", "ca", "listener" (dynamic-cert.json) or
 *     "kubeconfig". status is k3s's own: "OK", "WARNING", "EXPIRED", "NOT YET VALID", by k3s's one window for all of them.
 *     problems[] {path, problem, remedy, text}: what is wrong or odd, also what `k3s certificate check` does not see. remedy: "start" (the next start of k3s mends it), "act"
 *     (it stays wrong until somebody does something) or "note".
 *     unknown[]: files in k3s's certificate directories that nobody knows; they are never touched.
 *     counts {ok, warning, expired, not_yet_valid}, needs_action (there is a problem other than a note).
 *
 * The files of all eras are known; which of them are there is up to the version, so that an absent pair is no problem. Half a pair is one. Authorities are looked at as bundles.
 * A data-dir in which no k3s has ever started, or one in which the running server has no server directory, is an error, never an empty answer (k3s-io/k3s#6204, #7309):
 * K3SUP_E_DATA_DIR with what was looked at.
 * Nothing is fetched, no trust store and no configuration of OpenSSL has a say. Private keys are decoded to compare them with their certificates and are wiped.
 *
 * Status is 0 whatever the verdict: nothing changes. On disk: nothing. Capabilities: to read files that only root can read.
 * Errors: K3SUP_E_DATA_DIR, K3SUP_E_AMBIGUOUS (several k3s with different data-dirs and none given), -EINVAL (an unknown service), -ENOMEM. Since: 0.1
 */
K3SUP_API int k3sup_certs_check(k3sup_node *node, const struct k3sup_certs_check_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_certs_ca_check() - would a server take these authorities?
 * @ret_op: result: takes (0 or 1), problems[] {path, problem, remedy, text}, certificates[] as above.
 *
 * Looks at a prepared directory the way `k3s certificate rotate-ca` lets a server do (k3s pkg/server/handlers/cert.go): files that are missing in it are taken from the ones in
 * use. Each authority's bundle that differs has to hold more than one certificate; the first has to lead to the one in use, through what old and new bundles
 * bring along; its key has to come first in its .key; service.key has to hold the present key. Beyond that: dates, usages. Running rotate-ca stays k3s's own command.
 * Refuses the live directory itself.
 *
 * Status is 0 whatever the verdict. On disk: nothing. Errors: K3SUP_E_DATA_DIR (a directory that is not what it should be), -EINVAL, -ENOMEM. Since: 0.1
 */
K3SUP_API int k3sup_certs_ca_check(k3sup_ctx *ctx, const struct k3sup_certs_ca_check_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
