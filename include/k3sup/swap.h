/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Swap: make the installed k3s file be the payload, durably and at once, keeping the old one.
 */
#ifndef K3SUP_SWAP_H
#define K3SUP_SWAP_H

#include <k3sup/api.h>

/* k3sup_swap_opts.flags */
#define K3SUP_SWAP_PAYLOAD_FD 1u          /* payload_fd counts, payload is ignored */
#define K3SUP_SWAP_ALLOW_DOWNGRADE 2u     /* older builds, pre-releases and packagings; the floor goes down with them */
#define K3SUP_SWAP_ALLOW_SKIP_MINOR 4u    /* skipped minor versions */
#define K3SUP_SWAP_ALLOW_PACKAGE_OWNED 8u /* a file that belongs to a package of the node's package manager */

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
 * Everything that can be refused is refused before that. Point of no return: the rename.
 * Result: wanted, installed, backup, authenticated, authentication, changed (also where the rename happened and syncing the directory failed).
 * Status: 1 changed, 0 already so.
 * Errors: K3SUP_E_PAYLOAD_*, K3SUP_E_DIGEST_MISMATCH, K3SUP_E_SUMS, K3SUP_E_SIGNATURE, K3SUP_E_KEY, K3SUP_E_VERSION_MISMATCH, K3SUP_E_GZIP,
 * K3SUP_E_POLICY_*, K3SUP_E_TARGET_*, K3SUP_E_DATA_DIR_SPACE, K3SUP_E_UNTRUSTED, K3SUP_E_BUSY, K3SUP_E_CANCELLED, K3SUP_E_CALLBACK, -ENOSPC, -EDQUOT, -EIO ...
 * Capabilities: CAP_CHOWN, CAP_FOWNER, CAP_DAC_OVERRIDE, and CAP_SYS_ADMIN or CAP_MAC_ADMIN where security attributes are to be kept. Since: 0.1
 */
K3SUP_API int k3sup_swap(k3sup_node *node, const struct k3sup_swap_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
