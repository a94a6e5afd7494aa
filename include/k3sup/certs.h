/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates: which there are on a node, what is wrong with them, and whether a prepared authority would be taken.
 */
#ifndef K3SUP_CERTS_H
#define K3SUP_CERTS_H

#include <k3sup/api.h>

/* k3sup_certs_check_opts.flags */
#define K3SUP_CERTS_CHECK_AT 1u   /* `at` counts */
#define K3SUP_CERTS_CHECK_WIRE 2u /* also look at what the running k3s serves */

struct k3sup_certs_check_opts {
	uint32_t struct_size;
	uint32_t flags; /* K3SUP_CERTS_CHECK_* */
	int64_t at;     /* look as if it were this time, in seconds since 1970, years 0 to 9999; counts only with K3SUP_CERTS_CHECK_AT */
	const char *const *services;    /* NULL-terminated, in the words of `k3s certificate check --service`; NULL: all */
	const char *const *kubeconfigs; /* NULL-terminated, further kubeconfigs to look into, inside the root; NULL: none */
	const char *k3s_version;        /* decides how early k3s renews; NULL: the installed file's, read only where it matters */
	const char *reserved;           /* NULL */
	uint32_t warn_days;             /* a leaf that ends within so many days is WARNING; 0: what that version of k3s takes, 90 or 120 */
	uint32_t reserved2;             /* 0 */
};

struct k3sup_certs_retire_opts {
	uint32_t struct_size;
	uint32_t flags;              /* 0 */
	const char *const *services; /* NULL-terminated, in the words of `k3s certificate rotate --service`; NULL: all */
	const char *reserved;        /* NULL */
	uint32_t keep;               /* how many backups are kept; 0: 5 */
	uint32_t keep_days;          /* and for how long; 0: for ever */
};

struct k3sup_certs_restore_opts {
	uint32_t struct_size;
	uint32_t flags;       /* 0 */
	const char *backup;   /* the name of one of ours, as k3sup_certs_backups() tells it */
	const char *reserved; /* NULL */
};

struct k3sup_certs_backups_opts {
	uint32_t struct_size;
	uint32_t flags; /* 0 */
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
 * @ret_op: result: role, data_dir {path, source, real (without links)}, reference_time, warn_days,
 *     certificates[] {path, position, kind, service, cn, subject, issuer_cn, issuer, organisations, sans, usages, serial, ski, aki, not_before, not_after, residual_seconds, status,
 *     sha256}: every certificate of every file, leaf first. Paths are below the data-dir unless they begin with a slash. kind is "leaf", "ca", "listener" (dynamic-cert.json), "loopback"
 *     (the API server's for itself) or "kubeconfig". status is k3s's own: "OK", "WARNING", "EXPIRED", "NOT YET VALID", by k3s's one window for all of them.
 *     problems[] {path, problem, remedy, text}: what is wrong or odd, also what `k3s certificate check` does not see. remedy: "start" (the next start of k3s mends it), "act"
 *     (it stays wrong until somebody does something) or "note".
 *     unknown[]: what lies in server/tls and is nobody's, and what has a certificate's name in agent; it is never touched.
 *     counts {ok, warning, expired, not_yet_valid}, needs_action (there is a problem other than a note).
 *     served[] {address, service, path, matches, ...}, with K3SUP_CERTS_CHECK_WIRE: what the running k3s shows at its own sockets, as a row of kind "served"; path is the file it
 *     should come from, matches whether it does. Where it shows nothing: text, why. Problems "served-differs", "served-expired" and "not-served" go with it.
 *
 * The files of all eras are known; which of them are there is up to the version, so that an absent pair is no problem. Half a pair is one. Authorities are looked at as bundles.
 * A data-dir in which no k3s has ever started (also one that `k3s certificate rotate` has made agent/tls-<seconds> in by mistake), one in which the running server has no server directory, and, where nothing runs, one that looks like an agent's although what starts
 * k3s starts a server or a server's is named or lies in the default place, is an error, never an empty answer (k3s-io/k3s#6204, #7309): K3SUP_E_DATA_DIR with what was looked at.
 * With K3SUP_CERTS_CHECK_WIRE it connects to sockets that this k3s itself listens on, in its network namespace, and shows no certificate of its own; each gets 5 s. Without a running
 * k3s that is a warning.
 * Nothing is fetched, no trust store and no configuration of OpenSSL has a say. Private keys are decoded to compare them with their certificates and are wiped.
 *
 * Status is 0 whatever the verdict: nothing changes. On disk: nothing. Capabilities: to read files that only root can read.
 * With K3SUP_CERTS_CHECK_WIRE: to look at the descriptors of the running k3s, and to enter its network where that is another one.
 * Errors: K3SUP_E_DATA_DIR, K3SUP_E_AMBIGUOUS (several k3s with different data-dirs and none given), -EINVAL (an unknown service, no version), -ENOMEM; with K3SUP_CERTS_CHECK_WIRE -ESRCH (it
 * ended meanwhile), -EACCES. Since: 0.1
 */
K3SUP_API int k3sup_certs_check(k3sup_node *node, const struct k3sup_certs_check_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_certs_retire() - keep the leaf certificates and their keys, then take them away: the next start of k3s makes new ones.
 * @opts: NULL for the defaults.
 *
 * What `k3s certificate rotate` does, but: never while k3s runs (K3SUP_E_RUNNING; k3s-io/k3s#11347) or where that cannot be seen (K3SUP_E_FOREIGN_PROC), never when no start could
 * issue new ones (K3SUP_E_AUTHORITY), never where the clock is before the authorities' beginning or before this library was built (K3SUP_E_CLOCK), and with a backup that can be put
 * back: <state-dir>/certs/tls-<unix seconds>, readable by root alone from its first byte, each file with its digest, mode and owner, complete and on disk before anything is removed. Of
 * a server the listener's certificate is told to be made anew
 * (dynamic-cert-regenerate, as k3s does). Authorities, service keys and all else that the datastore owns are not touched.
 *
 * Already so: no leaf is there. A second retire before a start makes no new backup and loses nothing.
 * On disk if cut: the backup is whole or not there; each pair is whole, or its key is not there. One more run goes on with the same backup.
 * Oldest backups are removed at the end, never the one of this run, nor one with a key that no start has made anew since. No point of no return: each step can be the last.
 * Result: role, data_dir, kept (the name of the backup), retired[] {path, sha256}, pruned. Status: 1 changed, 0 already so.
 * Errors: those above, K3SUP_E_DATA_DIR, K3SUP_E_TARGET_NOT_FILE (a leaf is a link), K3SUP_E_TARGET_IMMUTABLE, K3SUP_E_TARGET_READONLY and K3SUP_E_TARGET_MOUNTED
 * (one could not be removed: known before the first is), K3SUP_E_TARGET_CHANGED, K3SUP_E_STATE_DIR, K3SUP_E_UNTRUSTED, K3SUP_E_BUSY, K3SUP_E_CANCELLED,
 * -ENOSPC and other -errno; -EINVAL from the call itself: an unknown service. Capabilities: to write in the data-dir and the state directory. Since: 0.1
 */
K3SUP_API int k3sup_certs_retire(k3sup_node *node, const struct k3sup_certs_retire_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_certs_restore() - make the leafs of a backup the live ones again, while k3s is stopped.
 *
 * The backup is read and compared with its digests first; it has to be from under the authorities in use, and its pairs have to fit. Live pairs that differ are kept in a backup of
 * their own, then taken away; each certificate is put in place, then its key, durably, with mode and owner. A trigger for the listener's certificate that no start has
 * followed is taken back. Authorities are never touched.
 *
 * Already so: the live files are those of the backup. On disk if cut: each pair is whole and matches, or its key is not there; one more run with the same name reaches the goal.
 * Result: role, data_dir, from, kept (the name of the backup of what was live; absent if nothing differed), restored[]. Status: 1 changed, 0 already so.
 * Errors: K3SUP_E_RUNNING, K3SUP_E_BACKUP, and those of k3sup_certs_retire(). -EINVAL from the call itself: no name, or a path. Since: 0.1
 */
K3SUP_API int k3sup_certs_restore(k3sup_node *node, const struct k3sup_certs_restore_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_certs_backups() - which backups of certificates are there?
 * @ret_op: result: backups[] {name, kind, whole, made, files[]} of ours ("k3sup"), newest first, each file compared with its digest; then k3s's own ("k3s"): name below the data-dir,
 *     text, files[] (paths below the data-dir: pairs that are whole, fit and are of the authorities in use, so that they can be copied back while k3s is stopped), lost[] (the other
 *     ones of which it has a file: a server's or an agent's, nobody can tell; half, damaged or of other authorities). Changes nothing.
 * Errors: K3SUP_E_DATA_DIR, K3SUP_E_STATE_DIR, -errno. Since: 0.1
 */
K3SUP_API int k3sup_certs_backups(k3sup_node *node, const struct k3sup_certs_backups_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_certs_ca_check() - would a server take these authorities?
 * @ret_op: result: takes (0 or 1), problems[] {path, problem, remedy, text}, certificates[] as above.
 *
 * Looks at a prepared directory the way `k3s certificate rotate-ca` lets a server do (k3s pkg/server/handlers/cert.go): files that are missing in it are taken from the ones in
 * use (where all are a note says that nothing would change). Each authority's bundle that is given has to hold more than one certificate; the first has to lead to the one in use, through what old and new bundles
 * bring along; its key has to come first in its .key; service.key has to hold the present key. Beyond that: dates, usages. Running rotate-ca stays k3s's own command.
 * Refuses the live directory itself.
 *
 * Status is 0 whatever the verdict. On disk: nothing. Errors: K3SUP_E_DATA_DIR (a directory that is not what it should be), -EINVAL, -ENOMEM. Since: 0.1
 */
K3SUP_API int k3sup_certs_ca_check(k3sup_ctx *ctx, const struct k3sup_certs_ca_check_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
