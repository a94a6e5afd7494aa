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
#define K3SUP_SWAP_CHECK_ARCHIVE 16u /* the archive inside must have the SHA-256 that it is named by: one more hash over what is written */

struct k3sup_swap_opts {
	uint32_t struct_size;
	uint32_t flags;       /* K3SUP_SWAP_* */
	int64_t wait_lock_ms; /* how long to wait for the node's lock; 0: not at all, below 0: for ever */
	const char *payload;  /* the new k3s file, a path of the caller */
	const char *reserved; /* NULL */
	int32_t payload_fd;   /* an open regular file, read from its offset 0; stays the caller's */
	uint32_t reserved2;   /* 0 */
	const char *sha256;   /* NULL, or the SHA-256 it must have: 64 hex digits */
	const char *sums; /* NULL, or a list as k3s publishes them (sha256sum-amd64.txt), a path of the caller; names it by its architecture */
	const char *signature; /* NULL, or a signature (raw or base64) of the list, or without a list of the payload; a path of the caller */
	const char *key;       /* the public key for it (PEM); a path of the caller that nobody but root can change */
	const char *expect_version; /* NULL, or the version it must be; "v1.30.4-k3s1", as image tags are written, will do */
	const char *reserved3;      /* NULL */
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

K3SUP_END_DECLS

#endif
