/* SPDX-License-Identifier: Apache-2.0 */
#include "base/root.h"

#include <fcntl.h>
#include <unistd.h>

bool k3sup__trusted_owner(const struct stat *st)
{
	return st->st_uid == 0 || st->st_uid == geteuid();
}

bool k3sup__trusted(const struct stat *st, bool allow_group)
{
	if (!k3sup__trusted_owner(st))
		return false;
	/* Nobody can write a link; its mode is always 0777. Who can replace it is told by its directory. */
	if (S_ISLNK(st->st_mode))
		return true;
	/* Mode bits suffice for POSIX ACLs too: with one, the group bits show its mask, the most that any named user or group may get. */
	return !(st->st_mode & S_IWOTH) && (allow_group || !(st->st_mode & S_IWGRP));
}

int k3sup__root_open(k3sup_op *op, const char *path, struct k3sup__root *ret)
{
	_close_ int fd = -1;
	struct stat st;
	char *copy;

	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return k3sup__fail(op, K3SUP_E_ROOT, "the node's root %s is no directory: %s", path, k3sup_strerror(-errno));
	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = -errno;

		return k3sup__fail(op, r, "cannot open the node's root %s: %s", path, k3sup_strerror(r));
	}
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	*ret = (struct k3sup__root){.fd = fd, .path = copy, .dev = st.st_dev, .ino = st.st_ino};
	fd = -1;
	return 0;
}

void k3sup__root_close(struct k3sup__root *root)
{
	root->fd = k3sup__close(root->fd);
	free(root->path);
	root->path = NULL;
}

void k3sup__place_clear(struct k3sup__place *place)
{
	place->dirfd = k3sup__close(place->dirfd);
	place->fd = k3sup__close(place->fd);
	free(place->path);
	*place = K3SUP__PLACE_NONE;
}

int k3sup__place_open(const struct k3sup__place *place, int flags)
{
	_close_ int fd = -1;
	struct stat found, st;
	int ret;

	/* These would act on the file before it is known to be the right one. */
	if (flags & (O_CREAT | O_TRUNC))
		return -EINVAL;
	if (place->fd < 0)
		return -ENOENT;
	if (S_ISLNK(place->st.st_mode))
		return -ELOOP;
	if ((flags & O_DIRECTORY) && !S_ISDIR(place->st.st_mode))
		return -ENOTDIR;
	fd = openat(place->dirfd, place->name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT || errno == ELOOP || errno == ENOTDIR ? -ESTALE : -errno;
	/*
	 * Asked again after opening: overlayfs may number a file anew when it is opened for writing. The descriptor keeps the
	 * number from being reused.
	 */
	if (fstat(place->fd, &found) < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (found.st_dev != st.st_dev || found.st_ino != st.st_ino)
		return -ESTALE;
	ret = fd;
	fd = -1;
	return ret;
}
