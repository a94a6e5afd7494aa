/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths inside a host root. Every path component is walked with directory descriptors of our own, links are followed by us: an
 * absolute link means the node's file, ".." never leaves the root, magic links (of /proc) are refused. There is no second
 * implementation: openat2(RESOLVE_IN_ROOT) gives EAGAIN in some percent of the calls while any user renames directories somewhere,
 * and kernels before 5.6 do not have it.
 *
 * Trust: a component is trusted if it is owned by root (or by the user we run as) and nobody else may write it; a group only if the
 * caller allows it. A sticky directory that others may write (/tmp) is fine where the entry taken from it is itself trusted. The
 * root directory is trusted as given.
 */
#ifndef K3SUP_BASE_ROOT_H
#define K3SUP_BASE_ROOT_H

#include <sys/stat.h>

#include "base/op.h"

struct k3sup__root {
	int fd;     /* O_PATH | O_DIRECTORY | O_CLOEXEC */
	char *path; /* as the caller gave it */
	dev_t dev;
	ino_t ino;
};

int k3sup__root_open(k3sup_op *op, const char *path, struct k3sup__root *ret) _must_check_; /* K3SUP_E_ROOT, -errno */
void k3sup__root_close(struct k3sup__root *root);

/* flags of k3sup__root_find() */
#define K3SUP__NOFOLLOW 1u      /* a link at the end is the object itself */
#define K3SUP__TRUSTED 2u       /* check each component and the object (but a missing one): K3SUP_E_UNTRUSTED names the first bad one */
#define K3SUP__ALLOW_GROUP 4u   /* with TRUSTED: writable by a group is fine */
#define K3SUP__MAKE_DIRS 8u     /* missing directories (all but the last component) are made, 0755, and their parents synced */
#define K3SUP__PARENTS_ONLY 16u /* with TRUSTED: the object itself is not checked, the caller has a stricter rule for it */

/* Where a path ends: the directory, the name in it, and the object if there is one. */
struct k3sup__place {
	int dirfd;      /* O_PATH | O_DIRECTORY of the directory that holds it */
	int fd;         /* O_PATH | O_NOFOLLOW of the object; -1: there is none */
	struct stat st; /* of the object, if fd >= 0 */
	char *path;     /* inside the root, free of links, absolute, no trailing slash; "/" is the root itself */
	char *name;     /* last component of path, points into it; "." for the root itself */
	unsigned links; /* how many links were followed */
};
#define K3SUP__PLACE_NONE ((struct k3sup__place){.dirfd = -1, .fd = -1})

/*
 * 0 with a place (place.fd is -1 if only the last component is missing), or -ENOENT (a directory on the way is missing), -ENOTDIR,
 * -ELOOP (more than 40 links), K3SUP_E_UNTRUSTED, K3SUP_E_ESCAPE, -ENAMETOOLONG, -ENOMEM, other -errno. path must be absolute
 * (inside the root, else -EINVAL). A link that leads to a missing file gives a place with fd -1 and links > 0. A slash at the end
 * asks for a directory: a missing one is -ENOENT then. -ENOENT comes without a sentence, since many callers expect it. With TRUSTED
 * a missing object in a directory that others may write, a sticky one too, is untrusted: they could put one there.
 */
int k3sup__root_find(k3sup_op *op, const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret) _must_check_;
void k3sup__place_clear(struct k3sup__place *place);

/*
 * Opens the object of a place with these openat(2) flags (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK are added; O_CREAT and O_TRUNC are
 * -EINVAL). -ESTALE if it is no longer the one that was found; -ENOENT if there was none; -ELOOP for a link.
 */
int k3sup__place_open(const struct k3sup__place *place, int flags) _must_check_;

/* What a link says (opened O_PATH | O_NOFOLLOW), owned; NULL with errno. */
char *k3sup__link_text(int fd);

/* Is this a trusted inode by the rule above? */
bool k3sup__trusted(const struct stat *st, bool allow_group);
/* Its first half: owned by root or by the user we run as? */
bool k3sup__trusted_owner(const struct stat *st);

#endif
