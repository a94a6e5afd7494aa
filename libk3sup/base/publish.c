/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of durable.h: the old file gets its backup name, the new one takes the old one's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/attrs.h"
#include "base/durable.h"

#define COPY_CHUNK (256 * 1024)
#define LINK_TRIES 16

/* Where temp and backup are. */
static int workdir(const struct k3sup__stage *stage)
{
	return stage->workfd >= 0 ? stage->workfd : stage->dirfd;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * Is this name the file behind fd? 1, 0 (also if there is no such name) or -errno. The descriptor is asked anew each time, since
 * overlayfs may number a file anew when it is linked.
 */
static int is_named(int dirfd, const char *name, int fd)
{
	struct stat st, held;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &held) < 0)
		return -errno;
	return same(&st, &held);
}

static int changed(k3sup_op *op, const struct k3sup__stage *stage)
{
	return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody else replaced %s meanwhile", stage->name);
}

static int check_unchanged(k3sup_op *op, const struct k3sup__stage *stage)
{
	struct stat st;
	int r;

	if (stage->old_fd >= 0)
		r = is_named(stage->dirfd, stage->name, stage->old_fd);
	else if (fstatat(stage->dirfd, stage->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = errno == ENOENT ? 1 : -errno;
	else
		r = 0;
	if (r < 0)
		return k3sup__fail(op, r, "cannot look at %s: %s", stage->name, k3sup_strerror(r));
	return r ? 0 : changed(op, stage);
}

/* The old file, to be read; what was written to it lately is on disk afterwards (an admin's cp does not see to that). */
static int open_old(k3sup_op *op, const struct k3sup__stage *stage)
{
	int fd = openat(stage->dirfd, stage->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), r = 0;
	struct stat st, held;

	if (fd < 0 && (errno == ENOENT || errno == ELOOP))
		return changed(op, stage);
	if (fd < 0 || fstat(fd, &st) < 0 || fstat(stage->old_fd, &held) < 0)
		r = -errno;
	else if (!same(&st, &held))
		r = changed(op, stage);
	else
		r = k3sup__sync_fd(fd);
	if (r < 0)
		fd = k3sup__close(fd);
	return r < 0 ? r : fd;
}

static int copy_content(k3sup_op *op, int from, int to)
{
	_free_ char *buffer = malloc(COPY_CHUNK);

	if (!buffer)
		return -ENOMEM;
	for (;;) {
		ssize_t len = k3sup__read_full(from, buffer, COPY_CHUNK);
		int r = len < 0 ? (int)len : k3sup__write_full(to, buffer, (size_t)len);

		if (r < 0 || len == 0)
			return r;
		r = k3sup__op_checkpoint(op);
		if (r < 0)
			return r;
	}
}

/* Where links are not to be had: a copy, on disk before it gets its name. The temp is the caller's also when it fails. */
static int copy_old(k3sup_op *op, const struct k3sup__stage *stage, int old_fd, char **ret_temp)
{
	_close_ int to = -1;
	int r = k3sup__temp_create(workdir(stage), stage->temp_of, ret_temp, &to);

	if (r == 0)
		r = copy_content(op, old_fd, to);
	if (r == 0)
		r = k3sup__attrs_copy(op, old_fd, to, stage->name);
	return r < 0 ? r : k3sup__sync_fd(to);
}

/* link(2) does not replace, so the link is made under a temp's name. Not by descriptor: that takes CAP_DAC_READ_SEARCH. */
static int link_old(k3sup_op *op, const struct k3sup__stage *stage, char **ret_temp)
{
	int r;

	*ret_temp = k3sup__temp_name(stage->temp_of);
	if (!*ret_temp)
		return -ENOMEM;
	if (linkat(stage->dirfd, stage->name, workdir(stage), *ret_temp, 0) < 0) {
		r = -errno;
		free(*ret_temp);
		*ret_temp = NULL;
		return r;
	}
	r = is_named(workdir(stage), *ret_temp, stage->old_fd);
	return r < 0 ? r : r ? 0 : changed(op, stage);
}

static bool is_link_refused(int r)
{
	return r == -EPERM || r == -EMLINK || r == -EOPNOTSUPP || r == -ENOSYS || r == -EXDEV;
}

static int replace_backup(k3sup_op *op, const struct k3sup__stage *stage, int old_fd, const char *backup)
{
	_free_ char *temp = NULL;
	int r = link_old(op, stage, &temp);

	if (!temp && is_link_refused(r)) {
		k3sup__log(op, K3SUP_LOG_INFO, "%s cannot be linked (%s), so it is copied", stage->name, k3sup_strerror(r));
		r = copy_old(op, stage, old_fd, &temp);
	}
	if (r == 0 && renameat(workdir(stage), temp, workdir(stage), backup) < 0)
		r = -errno;
	if (r < 0 && temp)
		(void)unlinkat(workdir(stage), temp, 0);
	return r;
}

/* Afterwards the old file has its second name for good: the first one can be taken from it. */
static int keep_old(k3sup_op *op, const struct k3sup__stage *stage, const char *backup)
{
	_close_ int old_fd = open_old(op, stage);
	int r = old_fd < 0 ? old_fd : is_named(workdir(stage), backup, stage->old_fd);

	/* A run that was cut may have come so far. Renaming a link over another one of the same file would do nothing, and leave both. */
	if (r == 0)
		r = replace_backup(op, stage, old_fd, backup);
	if (r >= 0)
		r = k3sup__sync_fd(workdir(stage));
	return r < 0 ? k3sup__fail(op, r, "cannot keep the old %s as %s: %s", stage->name, backup, k3sup_strerror(r)) : 0;
}

static int rename_new(k3sup_op *op, struct k3sup__stage *stage)
{
	int r = is_named(workdir(stage), stage->temp, stage->fd);

	if (r == 0)
		return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody took %s away, the new %s", stage->temp, stage->name);
	if (r > 0 && renameat(workdir(stage), stage->temp, stage->dirfd, stage->name) == 0) {
		free(stage->temp);
		stage->temp = NULL;
		return 0;
	}
	if (r > 0)
		r = -errno;
	if (r == -EBUSY)
		return k3sup__fail(op, r, "%s is a mount point: it can only be replaced where it is mounted from", stage->name);
	if (r == -EPERM)
		return k3sup__fail(op, r, "%s may not be replaced: it, or its directory, is immutable or append-only", stage->name);
	return k3sup__fail(op, r, "cannot put the new %s in place: %s", stage->name, k3sup_strerror(r));
}

int k3sup__stage_publish(k3sup_op *op, struct k3sup__stage *stage, const char *backup, int (*before_rename)(k3sup_op *op), bool *ret_renamed)
{
	int r;

	*ret_renamed = false;
	if (!stage->temp || (backup && (!*backup || strchr(backup, '/') || k3sup__streq(backup, stage->name))))
		return -EINVAL;
	r = check_unchanged(op, stage);
	if (r == 0 && backup && stage->old_fd >= 0)
		r = keep_old(op, stage, backup);
	if (r == 0 && before_rename)
		r = before_rename(op);
	if (r >= 0)
		r = check_unchanged(op, stage);
	if (r == 0)
		r = rename_new(op, stage);
	if (r < 0)
		return r;
	*ret_renamed = true;
	r = k3sup__sync_fd(stage->dirfd);
	if (r == 0 && stage->workfd >= 0)
		r = k3sup__sync_fd(stage->workfd);
	if (r < 0)
		return k3sup__fail(op, r, "%s was replaced, but its directory cannot be synced: %s", stage->name, k3sup_strerror(r));
	return 0;
}

/* ---- links ---- */

static int check_link(k3sup_op *op, const struct k3sup__place *link)
{
	int r = is_named(link->dirfd, link->name, link->fd);

	if (r < 0)
		return k3sup__fail(op, r, "cannot look at %s: %s", link->path, k3sup_strerror(r));
	return r ? 0 : k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody else replaced %s meanwhile", link->path);
}

/* A temp's number may be taken by a temp of a cut run. */
static int make_link(int dirfd, const char *name, const char *text, char **ret_temp)
{
	int r = -EEXIST;

	for (int i = 0; r == -EEXIST && i < LINK_TRIES; i++) {
		_free_ char *temp = k3sup__temp_name(name);

		if (!temp)
			return -ENOMEM;
		r = symlinkat(text, dirfd, temp) < 0 ? -errno : 0;
		if (r == 0) {
			*ret_temp = temp;
			temp = NULL;
		}
	}
	return r;
}

int k3sup__durable_relink(k3sup_op *op, const struct k3sup__place *link, const char *text, int (*before_rename)(k3sup_op *op), bool *ret_renamed)
{
	_free_ char *temp = NULL;
	int r = make_link(link->dirfd, link->name, text, &temp);

	*ret_renamed = false;
	if (r < 0)
		return k3sup__fail(op, r, "cannot make a link beside %s: %s", link->path, k3sup_strerror(r));
	if (before_rename)
		r = before_rename(op);
	if (r >= 0)
		r = check_link(op, link);
	if (r >= 0 && renameat(link->dirfd, temp, link->dirfd, link->name) < 0)
		r = k3sup__fail(op, -errno, "cannot put the new link %s in place: %s", link->path, k3sup_strerror(errno));
	if (r < 0) {
		(void)unlinkat(link->dirfd, temp, 0);
		return r;
	}
	*ret_renamed = true;
	r = k3sup__sync_dir(link->dirfd);
	return r < 0 ? k3sup__fail(op, r, "%s was changed, but its directory cannot be synced: %s", link->path, k3sup_strerror(r)) : 0;
}
