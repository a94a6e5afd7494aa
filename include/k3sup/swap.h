/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Swap: make the installed k3s file be the payload, durably and at once, keeping the old one. Stage: put images in place for the next start.
 */
#ifndef K3SUP_SWAP_H
#define K3SUP_SWAP_H

#include <k3sup/api.h>

/* k3sup_swap_opts.flags */
#define K3SUP_SWAP_PAYLOAD_FD 1u          /* payload_fd counts, payload is ignored */
#define K3SUP_SWAP_ALLOW_DOWNGRADE 2u     /* older builds, pre-releases and packagings; the floor goes down with them */
#define K3SUP_SWAP_ALLOW_SKIP_MINOR 4u    /* skipped minor versions */
#define K3SUP_SWAP_ALLOW_PACKAGE_OWNED 8u /* a file that belongs to a package of the node's package manager */
#define K3SUP_SWAP_RUN_VERSION 32u        /* run the payload with --version, too */
#define K3SUP_SWAP_CHECK_ARCHIVE 16u /* the archive inside must have the SHA-256 that it is named by: one more hash over what is written */

struct k3sup_swap_opts {
	uint32_t struct_size;
	uint32_t flags;        /* K3SUP_SWAP_* */
	int64_t wait_lock_ms;  /* how long to wait for the node's lock; 0: not at all, below 0: for ever */
	const char *payload;   /* the new k3s file, a path of the caller */
	const char *reserved;  /* NULL */
	int32_t payload_fd;    /* an open regular file, read from its offset 0; stays the caller's */
	uint32_t keep_backups; /* how many builds that were installed before are kept; 0: 1 */
	const char *sha256;    /* NULL, or the SHA-256 it must have: 64 hex digits */
	const char *sums; /* NULL, or a list as k3s publishes them (sha256sum-amd64.txt), a path of the caller; names it by its architecture */
	const char *signature; /* NULL, or a signature (raw or base64) of the list, or without a list of the payload; a path of the caller */
	const char *key;       /* the public key for it (PEM); a path of the caller that nobody but root can change */
	const char *expect_version; /* NULL, or the version it must be; "v1.30.4-k3s1", as image tags are written, will do */
	const char *server_version; /* NULL, or the version of this agent's server, which the payload must not exceed */
};

/* k3sup_stage_opts.flags; at most one of them */
#define K3SUP_STAGE_COMMIT 1u  /* the old versions are not needed any more: those that are kept are removed, of whatever name */
#define K3SUP_STAGE_RESTORE 2u /* the old versions are put back; files has to be empty */

struct k3sup_stage_opts {
	uint32_t struct_size;
	uint32_t flags;           /* K3SUP_STAGE_* */
	int64_t wait_lock_ms;     /* how long to wait for the node's lock; 0: not at all, below 0: for ever */
	const char *const *files; /* paths of the caller, NULL at the end; each is put in place under its last component */
	const char *sha256;       /* NULL, or the SHA-256 of the only file: 64 hex digits */
	const char *sums; /* NULL, or a list as k3s publishes them (sha256sum-amd64.txt), a path of the caller, which has to name each of the files */
	const char *signature; /* NULL, or a signature (raw or base64) of the list, or without a list of the only file; a path of the caller */
	const char *key;       /* the public key for it (PEM); a path of the caller that nobody but root can change */
	const char *reserved; /* NULL */
};

struct k3sup_swap_rollback_opts {
	uint32_t struct_size;
	uint32_t flags;             /* 0, or K3SUP_SWAP_ALLOW_PACKAGE_OWNED */
	int64_t wait_lock_ms;       /* as in k3sup_swap_opts */
	const char *sha256;         /* NULL, or the SHA-256 the backup must have: counts instead of what was recorded when it was kept */
	const char *expect_version; /* NULL, or the version it must be; where several are kept, this one */
};

struct k3sup_swap_backups_opts {
	uint32_t struct_size;
	uint32_t flags;       /* 0 */
	int64_t wait_lock_ms; /* as in k3sup_swap_opts; with keep only */
	uint32_t keep;        /* 0: only list; else so many stay at most */
	uint32_t reserved;    /* 0 */
};

/* k3sup_unpack_opts.flags */
#define K3SUP_UNPACK_PAYLOAD_FD 1u /* payload_fd counts, payload is ignored */

struct k3sup_unpack_opts {
	uint32_t struct_size;
	uint32_t flags;       /* K3SUP_UNPACK_* */
	int64_t timeout_ms;   /* bounds everything; CLOCK_BOOTTIME; 0: 900000, below 0: none */
	int64_t wait_lock_ms; /* how long to wait for the node's lock; 0: not at all, below 0: as long as timeout_ms allows */
	const char *payload;  /* the new k3s file, a path of the caller; NULL: the one that is installed */
	const char *reserved; /* NULL */
	int32_t payload_fd;   /* an open regular file, read from its offset 0; stays the caller's */
	uint32_t reserved2;   /* 0 */
	const char *sha256;   /* these five as in k3sup_swap_opts: what the payload has to be */
	const char *sums;
	const char *signature;
	const char *key;
	const char *expect_version;
	const char *reserved3; /* NULL */
};

K3SUP_BEGIN_DECLS

/**
 * k3sup_swap() - make the installed k3s file be the payload. Nothing is restarted.
 *
 * Already so: the installed file has the payload's bytes, and nothing of an earlier, cut run is left over.
 * The order on disk: the payload is copied into a private temp file beside the target (owner, mode, ACL and extended attributes of the file it replaces;
 * fsync; checked that nobody can write it any more), the old file gets a second name NAME.k3sup-backup, the directory is synced, the temp file
 * is renamed over the target, the directory is synced. Whatever cuts this (kill, failure, power), the target is the whole old or the whole new file, and one
 * more run reaches the goal and leaves no litter. Symbolic links are followed inside the node's root; the file at their end is replaced, not the link.
 *
 * But a link that leads to a file whose name ends in its version (k3s -> k3s-v1.30.4+k3s1) means: versions beside each other. The new one becomes a file of its own
 * (k3s-v1.31.2+k3s1) beside the old one, durably, and the link is replaced by one that leads there. The old file stays untouched and is the backup.
 *
 * The backup's SHA-256 is recorded in the state directory before it gets its name. keep_backups of them stay (NAME.k3sup-backup-2 is the second); older ones go, if they
 * were made by this library and have the SHA-256 that was recorded.
 *
 * The payload may be a gzip file; what comes out of it is meant everywhere then, in the digest, too. sha256, sums and signature bind the bytes that are installed: they
 * are counted as they are written, and nothing is published that does not match. With sums the signature is over the list, else over the payload: its 32-byte SHA-256, or
 * (ECDSA, RSA) the whole file. Bound so, the payload (and a signed list) may lie in a place that others can write; a private copy is made of it first.
 *
 * Before the first byte is written all policies (see k3sup_policy_check(); the floor is the highest version that was installed here by this library, kept in the state
 * directory) and a preflight decide: stores of the operating system, read-only and noexec mounts, immutable files and directories, a target that is a mount of its own, has
 * other hard links or belongs to a package, room for the file and for what the new k3s will unpack into its data-dir. Result: checks.
 *
 * Without digest, list or signature nothing says that the payload is not damaged, and a damaged archive shows only when the new k3s starts. K3SUP_SWAP_CHECK_ARCHIVE finds
 * it before anything is published (K3SUP_E_PAYLOAD_CORRUPT); where there is a digest it costs nothing and adds nothing.
 *
 * Nothing of the payload is executed, unless K3SUP_SWAP_RUN_VERSION asks for it: then a sealed copy of the verified bytes is run as `k3s --version`, in an empty root, without
 * environment, capabilities and network, within limits, and must say the version that is written in it (K3SUP_E_VERSION_MISMATCH; evidence: said). Where none is written
 * in it, what it says counts. That copy lies in memory.
 *
 * Everything that can be refused is refused before that. Point of no return: the rename.
 * Result: wanted, installed, backup, authenticated, authentication, changed (also where the rename happened and syncing the directory failed).
 * Status: 1 changed, 0 already so.
 * Errors: K3SUP_E_PAYLOAD_*, K3SUP_E_DIGEST_MISMATCH, K3SUP_E_SUMS, K3SUP_E_SIGNATURE, K3SUP_E_KEY, K3SUP_E_VERSION_MISMATCH, K3SUP_E_GZIP,
 * K3SUP_E_POLICY_*, K3SUP_E_TARGET_*, K3SUP_E_DATA_DIR_SPACE, K3SUP_E_UNTRUSTED, K3SUP_E_BUSY, K3SUP_E_CANCELLED, K3SUP_E_CALLBACK, -ENOSPC, -EDQUOT, -EIO ...
 * Capabilities: CAP_CHOWN, CAP_FOWNER, CAP_DAC_OVERRIDE, and CAP_SYS_ADMIN or CAP_MAC_ADMIN where security attributes are to be kept. Since: 0.1
 */
K3SUP_API int k3sup_swap(k3sup_node *node, const struct k3sup_swap_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_stage() - put files into the data-dir's agent/images, from where k3s imports container images: what a k3s without a registry needs before it is started.
 *
 * Already so: the files are there with these bytes (and nothing that is to be removed or put back, with a flag).
 * The data-dir is the node's option, else that of the running k3s, else what its configuration says. Directories that are missing are made as k3s, or its documentation, makes
 * them: agent 0700, agent/images 0755. Each file is written to agent/.k3sup-images, since k3s takes for an image what lies in agent/images or below, and gets its name there
 * by one rename, when all files are written, verified and on disk. A file of the same name is replaced (owner, mode, ACL and extended attributes stay); the first such version
 * since the last commit is kept as agent/.k3sup-images/NAME.k3sup-backup. No other file is touched.
 *
 * sha256, sums and signature bind the bytes that are written. With sums each file has to be listed once under exactly its name. Bound so, files (and a signed list) may
 * lie in a place that others can write. Room for all files, and inodes, is asked for before the first byte is written. Result: checks.
 *
 * Commit and restore: k3sup_upgrade() does the first after its proof. Whoever restarts k3s himself calls this with K3SUP_STAGE_COMMIT when the new k3s has proved to run, or
 * with K3SUP_STAGE_RESTORE when the old one is to run again. A version that is put back gets the present time, so that k3s imports it again.
 *
 * If cut (kill, failure, power): each name has its old or its new file, whole; one more run reaches the goal. A run that fails takes back what it did.
 * Point of no return: none; each rename is short, and undone if a later one fails.
 * Result: images (a list: name, path inside the root, source, size, sha256, action "none", "create", "replace" or "restore", changed, kept, authenticated), authenticated (of the
 * weakest), data_dir, checks, changed. Status: 1 changed, 0 already so.
 * Errors: K3SUP_E_PAYLOAD_MISSING, _NOT_FILE, _EMPTY, _CHANGED (of a file), K3SUP_E_DIGEST_MISMATCH, K3SUP_E_SUMS, K3SUP_E_SIGNATURE, K3SUP_E_KEY, K3SUP_E_TARGET_NOT_FILE,
 * K3SUP_E_TARGET_DANGLING, K3SUP_E_UNTRUSTED, K3SUP_E_AMBIGUOUS, K3SUP_E_BUSY, K3SUP_E_CANCELLED, K3SUP_E_CALLBACK, -ENOSPC, -EDQUOT, -EROFS, -EIO ...; -EINVAL from the call itself:
 * no files and no flag, two files of one name, a name that begins with a dot, a digest for several files.
 * Capabilities: those of k3sup_swap(), CAP_SYS_PTRACE to see where the running k3s works. Threads: as all verbs. Since: 0.1
 */
K3SUP_API int k3sup_stage(k3sup_node *node, const struct k3sup_stage_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_unpack() - have a k3s unpack itself into the node's data-dir, as it would do at its start, so that the start need not, and cannot fail there.
 * @opts: NULL for the defaults: the installed k3s.
 *
 * Already so: data/<H> of the payload is there (in the data-dir, or in the default one, where k3s looks, too), all of it is what its own lists (.sha256sums, .links) say, and it is
 * on disk (syncfs). k3s never asks that: what is there counts for it, so one that a power cut has torn ends every start with SIGSEGV.
 * The payload unpacks itself: it is executed as root, chrooted into the node's root, with a clean environment, limits and a deadline, as `k3s kubectl version --client`, which does
 * nothing else. What is executed is a sealed copy in memory of the bytes that were verified (of the installed file: that file). The result is checked, gets the SELinux labels
 * of the running build's files, and is put on disk. k3s moves data/current and data/previous, and the links in data/cni: under the k3s that runs, so this is the last thing before
 * its stop.
 * A torn data/<H> is put aside (data/<H>.k3sup-torn, under k3s's own lock, data/.lock), removed when the new one is there, and is back if that fails; a warning, and the result, say so. It
 * is left alone if a process runs from it, or has a mount of it: K3SUP_E_TORN.
 *
 * A payload that others could write is refused, unless sha256, sums or a signature bind its bytes. One that has no archive, or whose version is not known, is skipped.
 * If cut (kill, failure, power): k3s removes its own data/<H>-tmp when it unpacks again; one more run reaches the goal. Point of no return: none.
 * Result: unpacked (action "unpack", "none" or "skip" with reason; path, checked, files, bytes, torn, current, relabelled), wanted, data_dir, authenticated, changed, warnings.
 * Status: 1 changed, 0 already so, or skipped.
 * Errors: K3SUP_E_UNPACK (evidence: said, exit_status or signal), K3SUP_E_TORN, K3SUP_E_DATA_DIR_SPACE, K3SUP_E_TARGET_* (of the installed file), those of k3sup_swap() about the
 * payload, K3SUP_E_UNTRUSTED, K3SUP_E_AMBIGUOUS, K3SUP_E_BUSY, K3SUP_E_CANCELLED, K3SUP_E_CALLBACK, K3SUP_E_TIMEOUT, -EIO, -EROFS ...
 * Capabilities: CAP_SYS_CHROOT where the node's root is not ours, CAP_SYS_PTRACE, CAP_DAC_OVERRIDE; for labels CAP_MAC_ADMIN. Threads: as all verbs. Since: 0.1
 */
K3SUP_API int k3sup_unpack(k3sup_node *node, const struct k3sup_unpack_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_swap_rollback() - make the installed k3s file be the backup again. Nothing is restarted.
 * @opts: NULL for the defaults.
 *
 * Already so: the installed file has the bytes of the backup, or those that were last recorded as kept (a swap that was cut before its rename changed nothing), and
 * nothing of a cut run is left over.
 * The backup is hashed first. It must have the SHA-256 that was recorded when it was kept, or the given one, else nothing is touched. Where nothing is recorded (another
 * state directory, a journal that was lost) it must be a whole k3s for this machine, and a warning says so. Then it is copied into place as the payload of k3sup_swap()
 * is, with the same order on disk and the same attributes, or, where versions lie beside each other, the link comes to lead to it again. Whatever cuts this, the
 * target is whole and the backup is there.
 *
 * The backup stays. The build that was installed until now is not kept in its place, as a second call would go forward again then (versions beside each other stay).
 * Downgrades and skipped minors are what this is for, so they are allowed; the floor goes where the build that is put back is. All else is checked as by k3sup_swap(), preflight included.
 *
 * Point of no return: the rename. Result: as k3sup_swap(); wanted is the backup, backup the one that was taken; authentication says recorded. Status: 1 changed, 0 already so.
 * Errors: K3SUP_E_BACKUP_MISSING, K3SUP_E_BACKUP_DAMAGED, and all of k3sup_swap(). Threads, capabilities: as k3sup_swap(). Since: 0.1
 */
K3SUP_API int k3sup_swap_rollback(k3sup_node *node, const struct k3sup_swap_rollback_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_swap_backups() - which builds are kept beside the installed k3s file?
 * @opts: NULL for the defaults: only list.
 *
 * Result: installed (path, target: what k3s is installed as), backups: an array, the one that k3sup_swap_rollback() would take first, each a build with path, size, mode,
 * sha256, and verified (its SHA-256 is one that was recorded when a file was kept or made here), ours (its name, or a record, says that it was made by this
 * library), at (when that was recorded, seconds since 1970); leftovers: the names of temp files of cut runs.
 *
 * With keep, those that are too many are removed: the last ones of the list that are ours and verified; all others stay. Already so: there are none. A cut leaves
 * some of them. Without keep nothing is changed, no lock is taken, and no privileges are needed for what anybody may read.
 * Status: 1 changed, 0 already so. Errors: K3SUP_E_TARGET_*, K3SUP_E_UNTRUSTED, K3SUP_E_STATE_DIR, K3SUP_E_BUSY, -errno. Since: 0.1
 */
K3SUP_API int k3sup_swap_backups(k3sup_node *node, const struct k3sup_swap_backups_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
