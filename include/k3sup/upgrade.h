/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Upgrade: the state of a node, and the one operation that brings it to "the running k3s is the wanted build".
 */
#ifndef K3SUP_UPGRADE_H
#define K3SUP_UPGRADE_H

#include <k3sup/api.h>

/* k3sup_upgrade_opts.flags */
#define K3SUP_UPGRADE_PAYLOAD_FD 1u          /* payload_fd counts, payload is ignored */
#define K3SUP_UPGRADE_ALLOW_DOWNGRADE 2u     /* older builds, pre-releases and packagings; the floor goes down with them */
#define K3SUP_UPGRADE_ALLOW_SKIP_MINOR 4u    /* skipped minor versions */
#define K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED 8u /* a file that belongs to a package of the node's package manager */
#define K3SUP_UPGRADE_CHECK 16u              /* decide only: takes no lock, changes nothing */
#define K3SUP_UPGRADE_ROLLBACK 32u           /* go back to the backup: that is the payload, and none is given */
#define K3SUP_UPGRADE_RUN_VERSION 64u        /* run the payload with --version, too; see k3sup_swap(). Not with ROLLBACK */
#define K3SUP_UPGRADE_NO_UNPACK_AHEAD 128u   /* let the new k3s unpack itself at its start, while it is down */
#define K3SUP_UPGRADE_RETRY_FAILED 256u      /* also a payload that failed on this node before */
#define K3SUP_UPGRADE_DRY_RUN 512u           /* as CHECK, and say each step that would be done */
#define K3SUP_UPGRADE_ROTATE_CERTS 1024u     /* and new leaf certificates, in the same restart; not with ROLLBACK */

/* k3sup_upgrade_opts.restart */
#define K3SUP_RESTART_AUTO 0u     /* its service manager, if it owns the k3s that runs; else SIGTERM, if something would start it again */
#define K3SUP_RESTART_SIGNAL 1u   /* SIGTERM, and its supervisor starts it again */
#define K3SUP_RESTART_NONE 2u     /* swap only; no k3s needs to run */
#define K3SUP_RESTART_SERVICE 3u  /* one restart job of its service manager (systemd) */
#define K3SUP_RESTART_COMMANDS 4u /* a stop and a start, by the caller's own commands */

/* k3sup_upgrade_opts.rollback: what becomes of a new build that ends again and again */
#define K3SUP_ROLLBACK_AUTO 0u   /* the build before is put back where that is safe */
#define K3SUP_ROLLBACK_ALWAYS 1u /* also where its datastore may have been changed by the new one */
#define K3SUP_ROLLBACK_NEVER 2u

struct k3sup_upgrade_opts {
	uint32_t struct_size;
	uint32_t flags;       /* K3SUP_UPGRADE_* */
	int64_t timeout_ms;   /* bounds everything; CLOCK_BOOTTIME; 0: 900000, below 0: none */
	int64_t wait_lock_ms; /* how long to wait for the node's lock; 0: not at all, below 0: as long as timeout_ms allows */
	int64_t stable_ms;    /* how long the new k3s must have stayed; 0: 20000, below 0: being there once is enough */
	const char *payload;  /* the new k3s file, a path of the caller */
	const char *reserved; /* NULL */
	int32_t payload_fd;   /* an open regular file, read from its offset 0; stays the caller's */
	uint32_t restart;     /* K3SUP_RESTART_* */
	const char *sha256;   /* NULL, or the SHA-256 it must have: 64 hex digits */
	const char *sums; /* NULL, or a list as k3s publishes them (sha256sum-amd64.txt), a path of the caller; names it by its architecture */
	const char *signature; /* NULL, or a signature (raw or base64) of the list, or without a list of the payload; a path of the caller */
	const char *key;       /* the public key for it (PEM); a path of the caller that nobody but root can change */
	const char *expect_version; /* NULL, or the version it must be; "v1.30.4-k3s1", as image tags are written, will do */
	const char *server_version; /* NULL, or the version of this agent's server, which the payload must not exceed */
	const char *health;         /* as in k3sup_wait_running_opts */
	const char *reserved3;      /* NULL */
	uint32_t probe;             /* K3SUP_PROBE_*, see <k3sup/process.h> */
	uint32_t reserved4;         /* 0 */
	const char *const *images; /* NULL, or files (image tarballs) for the data-dir's agent/images: paths of the caller, NULL at the end */
	const char *reserved5;     /* NULL */
	const char *before_write; /* NULL, or a command for /bin/sh that must end with 0 before anything is written; see below */
	const char *before_stop;  /* likewise before the swap and before k3s is stopped */
	uint32_t keep_backups; /* how many builds that were installed before are kept; 0: 1. Not with ROLLBACK, which keeps what there is */
	uint32_t rollback;     /* K3SUP_ROLLBACK_* */
	int64_t guard_delay_ms; /* where k3s is stopped and started (COMMANDS): when the start guard starts it; 0: 30000, below 0: there is none */
	const char *stop_command; /* of K3SUP_RESTART_COMMANDS, and NULL without: as in k3sup_service_opts */
	const char *start_command;
	const char *status_command;
	const char *rotate_key; /* of ROTATE_CERTS: the caller's name for this rotation; NULL: "payload:" and the payload's SHA-256 */
};

struct k3sup_state_opts {
	uint32_t struct_size;
	uint32_t flags;       /* 0 */
	const char *payload;  /* NULL, or what the node is compared with; a path of the caller */
	const char *reserved; /* NULL */
	const char *sha256;   /* these five as in k3sup_upgrade_opts: what the payload has to be */
	const char *sums;
	const char *signature;
	const char *key;
	const char *expect_version;
	const char *reserved2; /* NULL */
};

K3SUP_BEGIN_DECLS

/**
 * k3sup_state() - what is the state of this node, from evidence alone?
 * @opts: NULL for the defaults.
 *
 * Result: state, flags, next, installed, stale, running, processes, wanted, authenticated, backup, data_dir, service, units, lock, failed, last, evidence, warnings. The states by precedence: "absent" (no k3s file and no k3s),
 * "ambiguous", "interrupted" (a swap was cut: one more run finishes it),
 * "rotation-pending" (a rotation of certificates was cut), "not-running", "starting", "restart-pending" (the running k3s is not the installed
 * build), "degraded" (k3s runs, and its file is gone), "outdated" (the installed file is not the payload), "rolled-back" (a new build failed, and this one was
 * put back), "current". Independent facts are in flags.
 *
 * "starting" is a k3s that still unpacks itself, and one that an upgrade has left with K3SUP_E_NOT_READY (only then it is asked, as with K3SUP_PROBE_AUTO, for 2 s at most).
 * "journal-damaged": some of what earlier runs wrote down cannot be read, or none of it; then warnings say why, and no upgrade begins.
 *
 * Where no k3s runs and a service of systemd would start one, systemd is asked through the node's own systemctl, by a child (see below): the flag "service-failed", and next,
 * say that it has given up (its start limit, say) and what to do then. Where it cannot be asked, that is left out.
 *
 * A payload is verified as in k3sup_upgrade() before the node is compared with it, and may lie in a place that others can write then; authenticated tells how. "outdated" is
 * never said because of a payload that is not the expected one: that is an error.
 *
 * Changes nothing, takes no lock, runs beside an upgrade. Status is 0 whatever the state; errors only where nothing could be said
 * (K3SUP_E_ROOT, K3SUP_E_UNTRUSTED, K3SUP_E_PAYLOAD_*, K3SUP_E_DIGEST_MISMATCH, K3SUP_E_SUMS ... of k3sup_swap(), -EIO ...). Since: 0.1
 */
K3SUP_API int k3sup_state(k3sup_node *node, const struct k3sup_state_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_upgrade() - make the running k3s be the payload's build.
 *
 * lock -> look -> (before_write) -> images -> stage -> (before_stop) -> unpack -> swap -> restart -> prove. Each step is skipped where its goal holds: an installed file that is the payload already but was never
 * started is a pending restart and is restarted; a k3s that runs the payload's build already is left alone (same pid).
 * With the file in place and no k3s running, one is waited for up to 15 s (a supervisor's pause between two starts), then K3SUP_E_NO_K3S.
 * A running k3s that is younger than stable_ms is waited for, also where nothing is left to change, and in the end it is asked whether it is ready, as in
 * k3sup_wait_running(). When the wanted build has ended five times before it had stayed, that is K3SUP_E_NOT_STABLE at once, and so
 * it is when its service manager says that it has given up (systemd: "failed", as by its start limit). An upgrade that was cut, or that could not be proven, leaves
 * an open entry in the journal (the state's flag "open-operation"), until a run proves.
 *
 * Where the file is to be replaced, the policies and the preflight of k3sup_swap() decide first. With K3SUP_UPGRADE_CHECK that is all: nothing is changed, no lock is taken,
 * and no privileges are needed for what anybody may read (what only root may read is a decision "warn"). The result has checks, each with name, decision and text; that
 * another run holds the lock is a "warn". Status: 0 if the upgrade would be admitted, else the error of the first refusal.
 *
 * K3SUP_UPGRADE_DRY_RUN also refuses what only shows in what runs (K3SUP_E_NO_K3S, K3SUP_E_AMBIGUOUS), so it needs to see that; plan in the result is a list of {step, text}, empty if the
 * goal holds. Status 1: something would be changed; 0: nothing; changed is false in either case. Commands are named and not run.
 *
 * With K3SUP_UPGRADE_ROLLBACK the backup of k3sup_swap_rollback() is what is to run: the file as there (sha256 and expect_version mean the same, sums, signature, key and images
 * are refused with -EINVAL), then the same restart and the same proof. A k3s that does not run just now is no obstacle, as it may be the new one that dies again and again: the file
 * is put back, and a start is waited for, or ordered where systemd has given up. Images that were never proven go back to what they were when the backup's build was installed, or at the
 * last proof since. Status 0 or 1: the backup's build is installed and runs.
 *
 * The payload is authenticated as in k3sup_swap(), also where it is installed already. One that is not authenticated must at least not be damaged where that can be told:
 * its archive must have the SHA-256 that it is named by (as with K3SUP_SWAP_CHECK_ARCHIVE).
 * images are put in place as k3sup_stage() does it, after everything was decided and before the swap; room for all of it is asked for together. With sums each has to be in the list;
 * else nothing binds them (sha256, and a signature without sums, are the payload's), and they have to lie where only root can write. That they are new restarts nothing by
 * itself. The versions they replace are kept until a run proves, then removed, also those that earlier runs kept; one that fails before the rename puts them back. With
 * K3SUP_RESTART_NONE they stay kept (the state's flag "images-kept").
 * A new build that has ended again and again (K3SUP_E_NOT_STABLE; nothing else is evidence of death: one that is alive and not ready is starting, and neither cancel nor a time that is
 * over is a reason) is remembered in the state directory, by its SHA-256, with reason and time. The build that this upgrade has replaced is put back, restarted and proven as with
 * K3SUP_UPGRADE_ROLLBACK, where rollback says so; with K3SUP_ROLLBACK_AUTO only where nothing can have come to harm: on an agent, within one minor version, or when the new build was
 * never unpacked, so that it never ran. Then it ends with K3SUP_E_ROLLED_BACK, and the evidence of the failure. Else the new build is left in place, and it ends as the proof did.
 * rollback in the result says decision ("done", "failed", "unsafe", "never", "impossible", "no-time"), why, to, reason and error. A way back that is cut is finished by the next run.
 * A remembered payload is refused (K3SUP_E_FAILED_BEFORE, with the record as evidence) before anything is touched, unless K3SUP_UPGRADE_RETRY_FAILED is set, it is installed
 * and needs no restart, or one goes back to it. When it is proven after all, it is forgotten.
 * before_write is run after everything was decided and before the first byte is written, where a file is missing; before_stop when all files are staged and verified, and before the
 * swap or, where only a restart is missing, before that. A second run asks again whatever the first one was told, so they have to bear being run twice. They run on this machine,
 * as the caller, in a clean environment: PATH, K3SUP_HOOK (before-write, before-stop), K3SUP_ROOT, K3SUP_FROM and K3SUP_TO (versions), K3SUP_K3S and K3SUP_DATA_DIR (inside the
 * root), K3SUP_ROLE, K3SUP_PID (of the running k3s); what is not known is empty. Where they are not the
 * defaults also K3SUP_STATE_DIR and K3SUP_PROC, so that programs of this library look at the same node. They may take as long as timeout_ms allows, an hour where it does not bound; then, and when the
 * operation is cancelled, they are killed. One that refuses (does not end with 0) is K3SUP_E_HOOK, with evidence /hook; what was staged is removed. hooks in the result has them
 * all: name, ok, exit_code or signal, output (its first 4096 bytes), took_ms.
 * Before k3s is stopped, and before the swap, the payload unpacks itself into the data-dir as with k3sup_unpack(): the start has less to do, and a node on which it could not unpack
 * (no room, a torn data/<H> that is used) is refused while the old k3s runs: K3SUP_E_UNPACK, K3SUP_E_TORN, K3SUP_E_DATA_DIR_SPACE. What is executed is the staged file. Not done with
 * K3SUP_UPGRADE_NO_UNPACK_AHEAD and K3SUP_RESTART_NONE, nor (the result's unpacked says why) for a payload that others could write and nothing binds, where the running k3s sees another
 * root than the node's, and where the payload cannot be executed for a reason of ours.
 * How k3s will be restarted, and whether that would start it again, is decided before the swap. systemd is asked through the node's own systemctl, by a child: directly, chrooted
 * into the node's root, or in the namespaces of process 1; "channel" says which. What counts is the unit as it is loaded. Refused: where nothing would start k3s again
 * (K3SUP_E_NOT_SUPERVISED), a masked unit (K3SUP_E_SERVICE_MASKED), and one whose stop would end this program, too (K3SUP_E_SERVICE_TAKES_US). A restart is one job, queued with
 * --no-block; success is judged by the proof alone. Under OpenRC its supervise-daemon starts k3s again after the signal.
 * With K3SUP_RESTART_COMMANDS k3s is stopped and started by commands of the caller's, see k3sup_service(): the start guard is armed before the stop and disarmed after the proof, the
 * stop is proven, and k3s is started again whatever fails. Where no guard can be armed, that is refused before anything is touched (K3SUP_E_GUARD), unless guard_delay_ms is
 * below 0. One k3s is restarted so; a server and an agent that both would have to restart are K3SUP_E_AMBIGUOUS.
 * With K3SUP_UPGRADE_ROTATE_CERTS the goal of k3sup_rotate() is part of it, and both share one stop and one start: while the start guard waits, k3s is stopped, the leaf certificates are
 * retired, the file is swapped, k3s is started; when the wanted build is proven, it is seen whether it has made new certificates and serves them (K3SUP_E_NOT_ROTATED, and what follows, as there). Under one
 * rotate_key everything is replaced once; by default under "payload:" and the payload's SHA-256, so that a second run, as by a Job's second pod, does nothing. Where only the certificates
 * are due k3s is stopped for them alone, where only the file is due it is restarted as ever. A k3s that could only be signalled is refused before anything is written
 * (K3SUP_E_NO_SERVICE), with K3SUP_RESTART_NONE one that runs (K3SUP_E_RUNNING). One that the operator has stopped is left stopped, and left_stopped is true: the files are done, and a run
 * after its start proves them. Where a step fails after the stop, k3s is started again, with whichever file is in place. Certificates are not put back when the build is: new ones
 * serve the build before as well. What was cut is finished by the same command, without a second restart if k3s was started meanwhile with all in place; without ROTATE_CERTS a k3s that
 * a cut run has left stopped is started, too, and the rotation stays pending, with whatever it has left among the backups of certificates: the run that finishes it sweeps that.
 *
 * Points of no return: the rename (see k3sup_swap()), and the order to stop, the signal or the job; after it the operation no longer stops for cancel or progress, it ends when the
 * proof or the time is there. k3s is never left stopped by us: only its supervisor, or the start command, starts it, and it is told once.
 * Result: as k3sup_state(), and changed, resumed, steps, downtime_ms, authenticated, images, hooks, unpacked, rollback, service, services; with ROTATE_CERTS those of k3sup_rotate(): key,
 * issued_by, kept, retired, pruned, renewed, absent, served, stopped, started, left_stopped, with CHECK and DRY_RUN retires. Status: 1 changed, 0 already so.
 * Errors: those above, of k3sup_rotate(), K3SUP_E_CONFIG (k3s is not stopped, as it would not start again), K3SUP_E_HOOK, K3SUP_E_ROLLED_BACK, K3SUP_E_FAILED_BEFORE, K3SUP_E_NO_SERVICE, K3SUP_E_SERVICE, K3SUP_E_GUARD, all of k3sup_swap(), k3sup_stage(), k3sup_identify(), k3sup_wait_running(), and K3SUP_E_TIMEOUT.
 * Capabilities: those of k3sup_swap(), CAP_KILL, CAP_SYS_PTRACE; for systemd from a container also CAP_SYS_CHROOT or CAP_SYS_ADMIN.
 * Since: 0.1
 */
K3SUP_API int k3sup_upgrade(k3sup_node *node, const struct k3sup_upgrade_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
