/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rotation: new leaf certificates for a node, in the only safe order: k3s is stopped, they are retired, k3s is started and makes new ones, and that is proven.
 */
#ifndef K3SUP_ROTATE_H
#define K3SUP_ROTATE_H

#include <k3sup/api.h>

/* k3sup_rotate_opts.flags */
#define K3SUP_ROTATE_IF_WITHIN 1u /* if_within_days counts */
#define K3SUP_ROTATE_DRY_RUN 2u   /* say what would be done; takes no lock, changes nothing */

struct k3sup_rotate_opts {
	uint32_t struct_size;
	uint32_t flags;              /* K3SUP_ROTATE_* */
	int64_t timeout_ms;          /* bounds everything; CLOCK_BOOTTIME; 0: 900000, below 0: none. k3s is started also when it is over */
	int64_t wait_lock_ms;        /* how long to wait for the node's lock; 0: not at all, below 0: as long as timeout_ms allows */
	int64_t stable_ms;           /* how long the new k3s must have stayed; 0: 20000, below 0: being there once is enough */
	int64_t guard_delay_ms;      /* when the start guard starts k3s if we do not; 0: 30000, below 0: there is none */
	const char *key;             /* NULL, or the caller's name for this rotation: under one key everything is replaced once */
	const char *health;          /* as in k3sup_wait_running_opts */
	const char *const *services; /* NULL-terminated, in the words of `k3s certificate rotate --service`; NULL: all */
	const char *reserved;        /* NULL */
	uint32_t if_within_days;     /* only if a certificate ends within so many days */
	uint32_t restart;            /* K3SUP_RESTART_*: NONE: k3s is not stopped, so it must not run */
	uint32_t probe;              /* K3SUP_PROBE_* */
	uint32_t keep;               /* how many backups are kept; 0: 5 */
	uint32_t keep_days;          /* and for how long; 0: for ever */
	uint32_t reserved2;          /* 0 */
	const char *stop_command;    /* of K3SUP_RESTART_COMMANDS, and NULL without: as in k3sup_service_opts */
	const char *start_command;
	const char *status_command;
	const char *reserved3; /* NULL */
	const char *before_write; /* NULL, or a command for /bin/sh that has to end with 0 when all is decided, before anything is written; as in k3sup_upgrade_opts */
	const char *before_stop; /* likewise before k3s is stopped, where it runs */
};

K3SUP_BEGIN_DECLS

/**
 * k3sup_rotate() - new leaf certificates.
 * @opts: a key (UTF-8, at most 256 bytes), or K3SUP_ROTATE_IF_WITHIN, or both: then the key counts only if something ends within that time. Neither is -EINVAL.
 *
 * The goal, with a key: no live certificate is one that was retired under it; told by fingerprints that the journal keeps, never by dates. With if_within_days alone: nothing ends
 * within that time. So a second run does nothing; one that was cut is finished by the next one with the same arguments.
 *
 * lock -> look -> [guard -> stop -> retire -> start -> proof] -> verify. Everything is decided before k3s is stopped: authorities that could issue nothing (K3SUP_E_AUTHORITY), a clock
 * that shows a time before they were made or before this library was built (K3SUP_E_CLOCK), a configuration with which k3s would not start again (K3SUP_E_CONFIG), a state directory without room for the backup (-ENOSPC), a stop that cannot be had or would not hold (K3SUP_E_NO_SERVICE: k3s could only be
 * signalled, and would be there again at once), a guard that cannot be armed (K3SUP_E_GUARD). The retiring is that of k3sup_certs_retire(), with its backup. While k3s is
 * stopped a start guard waits (see k3sup_service()); its time begins anew before each step, and wherever half of it is over before a file that is taken away, so that no slow disk lets
 * k3s be started while they vanish. Where it was started nevertheless, by whomever, nothing more is done (K3SUP_E_GUARD), and one more run goes on. Whatever fails after the stop,
 * k3s is started again; started says whether that was seen to succeed. The log function must not block meanwhile.
 *
 * before_write and before_stop are asked last, when all is decided, while k3s runs, by whoever holds the node's lock; each as in k3sup_upgrade(), with K3SUP_TO empty. One that
 * refuses is K3SUP_E_HOOK, and nothing was touched. Where nothing is to be done neither is run; before_stop is not where k3s is stopped already.
 *
 * k3s runs again when it has stayed for stable_ms and is ready (as in k3sup_wait_running()). Then all that was retired has to be there again and new, each pair whole and matching, of the
 * authority in use, with no wider modes than k3s writes, within two minutes (K3SUP_E_NOT_ROTATED: k3s runs, and its certificates are not proven; the rotation stays pending, the next run stops
 * and retires once more, and from then on runs only look).
 * On an agent the keys are new; certificates come from its server (issued_by), with each start.
 *
 * A k3s that the operator has stopped is left stopped: left_stopped is true, the files are done, and a run after its start proves them. One that a cut run of ours has stopped is started.
 * With K3SUP_RESTART_NONE a k3s that runs is refused (K3SUP_E_RUNNING); with K3SUP_RESTART_SIGNAL, too (K3SUP_E_NO_SERVICE). K3SUP_RESTART_COMMANDS: as in k3sup_service().
 *
 * Point of no return: the order to stop; after it the operation no longer stops for cancel or progress.
 * On disk if cut: as k3sup_certs_retire() says, at any instant; and an open entry in the journal (the state "rotation-pending"). k3s is started by the guard.
 * Result: as k3sup_state(), and role, data_dir, issued_by, key, kept, retired[] {path, sha256}, pruned, renewed[] {path, from, to} (SHA-256 of certificates), absent[] (which this release of
 * k3s does not make any more), stopped, started, left_stopped, resumed, hooks, downtime_ms, service, services, starts, ends, deaths, probes, health. With DRY_RUN: would_change, retires[].
 * Status: 1 changed, 0 already so.
 * Errors: those above, of k3sup_certs_retire(), k3sup_service(), k3sup_wait_running(); K3SUP_E_BUSY, K3SUP_E_DATA_DIR, K3SUP_E_TIMEOUT, K3SUP_E_CANCELLED.
 * Capabilities: those of k3sup_service() and k3sup_certs_retire(). Since: 0.1
 */
K3SUP_API int k3sup_rotate(k3sup_node *node, const struct k3sup_rotate_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
