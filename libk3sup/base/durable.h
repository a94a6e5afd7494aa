/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replace one file so that a cut at any instruction leaves the whole old or the whole new one, and what was acknowledged is never lost.
 *
 *   stage    private temp ".NAME.k3sup-tmp-XXXXXXXX" in the same directory, 0600 from the first byte; content; no writer left;
 *            owner, mode, ACL, xattrs; fsync
 *   publish  backup name -> old inode (hard link, moved into place by rename); fsync directory; rename temp over NAME; fsync directory
 *   recover  temps of earlier, cut runs are removed; they are always disposable
 *
 * All of it runs under the node's lock: one writer at a time is the callers' promise.
 */
#ifndef K3SUP_BASE_DURABLE_H
#define K3SUP_BASE_DURABLE_H

#include <sys/stat.h>

#include "base/root.h"

#define K3SUP__TEMP_MARK ".k3sup-tmp-"

struct k3sup__stage {
	int dirfd;  /* a real descriptor (not O_PATH) of the directory; owned */
	int workfd; /* likewise, of the one that holds temp and backup: -1 if that is dirfd; owned */
	int fd;     /* the staged file, read-only once sealed; owned */
	int old_fd; /* O_PATH of the file to be replaced, so that its inode number cannot be reused meanwhile; -1 if there was none; owned */
	char *name;      /* the name to be replaced */
	char *temp_of;   /* the name that temps are made from */
	char *temp;      /* the temp's name, NULL once published or dropped */
	struct stat old; /* of the file to be replaced; st_nlink 0 if there was none */
};
#define K3SUP__STAGE_NONE ((struct k3sup__stage){.dirfd = -1, .workfd = -1, .fd = -1, .old_fd = -1})

/*
 * Begins: temp made, opened for reading and writing in stage->fd. dirfd (may be O_PATH) stays the caller's. K3SUP_E_TARGET_NOT_FILE
 * if NAME is something else than a regular file, -EBUSY if something is mounted on it, or another -errno: -EROFS, -EPERM
 * (immutable), -EACCES, -ENOSPC.
 */
int k3sup__stage_begin(k3sup_op *op, int dirfd, const char *name, struct k3sup__stage *ret) _must_check_;
/* The same where nothing but NAME may ever be seen in its directory: temp and backup lie in another one of the same file system. */
int k3sup__stage_begin_in(k3sup_op *op, int dirfd, const char *name, int workfd, struct k3sup__stage *ret) _must_check_;
/* The same, with a temp that k3sup__stage_leftovers() finds by another name: by one that stays when NAME changes from run to run. */
int k3sup__stage_begin_as(k3sup_op *op, int dirfd, const char *name, const char *temp_of, struct k3sup__stage *ret) _must_check_;
/*
 * Gives the staged file the content of `from` (opened for reading, of the same file system) by sharing its blocks, as btrfs and xfs can:
 * takes the same time whatever the size, and later writes to `from` do not show. False if that is not offered here: nothing was
 * written, or no more than a part that the caller overwrites from the beginning.
 */
bool k3sup__stage_clone(const struct k3sup__stage *stage, int from);
/*
 * After the content was written: reopened read-only, nobody may be able to write it any more (K3SUP_E_TARGET_BUSY after two seconds;
 * K3SUP_E_UNSUPPORTED where the file system has no leases to find out by), attributes, fsync.
 * old_fd: the file whose attributes are kept (O_PATH is not enough), -1 if there is none; mode: then.
 */
int k3sup__stage_seal(k3sup_op *op, struct k3sup__stage *stage, int old_fd, mode_t mode) _must_check_;
/* The same for a file that nobody executes: who else may have it open does not matter. */
int k3sup__stage_finish(k3sup_op *op, struct k3sup__stage *stage, int old_fd, mode_t mode) _must_check_;
/*
 * Publishes. backup: name that keeps the old file, NULL for none. Refuses with K3SUP_E_TARGET_CHANGED if NAME is no longer the inode
 * in stage->old. before_rename (may be NULL) is called after the backup is durable and directly before the rename; a negative value
 * stops there. On failure before the rename NAME is untouched; a failure of the last directory sync is reported though the rename
 * happened (*ret_renamed tells).
 */
int k3sup__stage_publish(k3sup_op *op, struct k3sup__stage *stage, const char *backup, int (*before_rename)(k3sup_op *op), bool *ret_renamed)
	_must_check_;
/* Removes the temp if it was not published, closes all. Fine on K3SUP__STAGE_NONE, and twice. */
void k3sup__stage_drop(struct k3sup__stage *stage);

/*
 * Makes a symbolic link lead elsewhere: a new one under a temp's name, renamed over it, directory synced; in between it is the old one.
 * K3SUP_E_TARGET_CHANGED if it is no longer the one that was found. before_rename and ret_renamed as above.
 */
int k3sup__durable_relink(k3sup_op *op, const struct k3sup__place *link, const char *text, int (*before_rename)(k3sup_op *op), bool *ret_renamed)
	_must_check_;

/* What cut runs left beside NAME: the number of temps; with remove they are gone afterwards and the directory is synced. Or -errno. */
int k3sup__stage_leftovers(k3sup_op *op, int dirfd, const char *name, bool remove) _must_check_;

/*
 * The whole of it for a small file of ours (journal): content given, no backup, mode if it is new. Leases are not needed:
 * nobody executes it.
 */
int k3sup__durable_write(k3sup_op *op, int dirfd, const char *name, const void *content, size_t len, mode_t mode) _must_check_;

/* Is this entry of a directory a temp of NAME? It may be anything but a file or a link all the same. */
bool k3sup__is_temp_of(const char *entry, const char *name);

/* fsync(2), EINTR handled; of a directory that may be given as O_PATH. */
int k3sup__sync_fd(int fd) _must_check_;
int k3sup__sync_dir(int dirfd) _must_check_;

/* A directory with this mode, whatever the umask, on disk when this comes back; one that is there already (another run was faster) is left as it is. shown: its path. */
int k3sup__make_dir(k3sup_op *op, int dirfd, const char *name, mode_t mode, const char *shown) _must_check_;

/*
 * For durable.c and publish.c: the name a temp of NAME may have (owned); and such a temp, 0600 and empty, opened for reading
 * and writing.
 */
char *k3sup__temp_name(const char *name);
bool k3sup__is_temp(const char *entry); /* of whatever NAME */
int k3sup__temp_create(int dirfd, const char *name, char **ret_temp, int *ret_fd) _must_check_;

#endif
