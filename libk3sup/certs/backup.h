/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our backups of leaf certificates: <state-dir>/certs/tls-<unix seconds>[-N], 0700, with the files below their paths in the data-dir, 0600 from their first byte, and
 * manifest.json, which says what they were (path, kind, mode, owner, SHA-256) and which authorities were in use. A directory of that name is complete and on disk: it
 * is made under another name (".tls-") and renamed. Authorities are not in there: k3s's datastore owns them.
 */
#ifndef K3SUP_CERTS_BACKUP_H
#define K3SUP_CERTS_BACKUP_H

#include "base/root.h"
#include "base/x509.h"
#include "certs/inventory.h"

#define K3SUP__CERT_FILE_MOST (4 * 1024 * 1024)

#define K3SUP__CERT_MOST (2 * 64) /* files of leafs and keys on a node */

/* A file that is to be kept, or was: with its bytes, which may be secret. */
struct k3sup__tls_file {
	char *path; /* below the data-dir */
	bool key;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct stat st; /* of the live file it was read from */
	char *text;
	size_t len;
	char sha256[K3SUP__SHA256_HEX];
};

struct k3sup__tls_files {
	struct k3sup__tls_file list[K3SUP__CERT_MOST];
	size_t count;
};

void k3sup__tls_files_clear(struct k3sup__tls_files *kepts); /* wipes */
const struct k3sup__tls_file *k3sup__tls_files_find(const struct k3sup__tls_files *kepts, const char *path);

/* The directory of all backups, a real descriptor. With create it is made, 0700, on disk. -ENOENT if it is not there. */
int k3sup__tls_backups_open(k3sup_op *op, const struct k3sup__root *root, const char *state_dir, bool create, unsigned trust_flags, int *ret_fd)
	_must_check_;

/* The names of complete backups, newest first (by their number); owned, ended by NULL. */
struct k3sup__strv;
int k3sup__tls_backups_list(k3sup_op *op, int dirfd, struct k3sup__strv *ret) _must_check_;

/*
 * Makes one. authorities: {path: SHA-256 of the first certificate}; borrowed. The name is in ret_name (owned). On failure nothing of it is left, or what a later run removes.
 */
int k3sup__tls_backup_make(k3sup_op *op, int dirfd, const struct k3sup__tls_files *kepts, const k3sup__json *authorities, int64_t now,
	char **ret_name) _must_check_;

/* Reads one back, every file compared with its digest in the manifest. K3SUP_E_BACKUP if it is not whole. */
int k3sup__tls_backup_read(k3sup_op *op, int dirfd, const char *name, struct k3sup__tls_files *ret, k3sup__json **ret_manifest) _must_check_;
/* The manifest alone; K3SUP_E_BACKUP. */
int k3sup__tls_backup_manifest(k3sup_op *op, int dirfd, const char *name, k3sup__json **ret) _must_check_;

/* Removes what cut runs left. */
int k3sup__tls_backups_sweep(k3sup_op *op, int dirfd) _must_check_;
/* Likewise, and complete ones but the newest `keep`, or that were made before `since`; never those in spare. The number of removed backups. */
int k3sup__tls_backups_prune(k3sup_op *op, int dirfd, size_t keep, int64_t since, const struct k3sup__strv *spare) _must_check_;

#endif
