/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of images.h: putting images in place, and taking that back.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "swap/bytes.h"
#include "swap/images-work.h"

static int remove_temp(k3sup_op *op, int work, const char *name, void *arg)
{
	(void)arg;
	return k3sup__is_temp(name) ? k3sup__images_work_remove(op, work, name) : 0;
}

/* ---- putting in place ---- */

/* Unbound by a digest, it has to be at least what it was when it was looked at. */
static int check_source(k3sup_op *op, const struct k3sup__image *image)
{
	struct stat st;

	if (fstat(image->fd, &st) == 0 && st.st_size == image->st.st_size && st.st_mtim.tv_sec == image->st.st_mtim.tv_sec &&
		st.st_mtim.tv_nsec == image->st.st_mtim.tv_nsec)
		return 0;
	return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s was written to while it was copied", image->path);
}

static int copy(k3sup_op *op, const struct k3sup__images *images, int work, int64_t before, struct k3sup__image *image)
{
	struct k3sup__bytes from = {.fd = image->fd, .shown = image->path, .size = image->st.st_size, .before = before, .whole = images->todo};
	_close_ int old_fd = -1;
	int r = k3sup__stage_begin_in(op, images->dir.fd, image->name, work, &image->stage);

	if (r >= 0)
		r = k3sup__bytes_copy(op, &from, image->stage.fd, image->sha256);
	if (r >= 0)
		r = k3sup__proof_check(op, &image->proof, image->sha256, image->path);
	if (r >= 0)
		r = check_source(op, image);
	if (r >= 0 && image->stage.old_fd >= 0) {
		old_fd = openat(images->dir.fd, image->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (old_fd < 0)
			r = k3sup__fail(op, -errno, "cannot read %s/%s: %s", images->path, image->name, k3sup_strerror(-errno));
	}
	if (r >= 0)
		r = k3sup__stage_finish(op, &image->stage, old_fd, 0644);
	return r;
}

/* What an earlier run kept is the version of the last commit: that one stays. */
static int publish(k3sup_op *op, const struct k3sup__images *images, int work, struct k3sup__image *image)
{
	_free_ char *kept = k3sup__images_kept_name(images, image->name);
	bool old = image->stage.old_fd >= 0, keep = false;
	int r = kept ? 0 : -ENOMEM;

	if (r >= 0 && old && faccessat(work, kept, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		keep = errno == ENOENT;
		r = keep ? 0 : k3sup__fail(op, -errno, "cannot look at %s: %s", kept, k3sup_strerror(-errno));
	}
	if (r >= 0 && fstat(image->stage.fd, &image->placed) < 0)
		r = k3sup__fail(op, -errno, "cannot look at the new %s: %s", image->name, k3sup_strerror(-errno));
	if (r >= 0)
		r = k3sup__stage_publish(op, &image->stage, keep ? kept : NULL, NULL, &image->done);
	image->keeps = keep && (image->done || faccessat(work, kept, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	image->created = !old;
	k3sup__stage_drop(&image->stage);
	return r;
}

static int copy_all(k3sup_op *op, struct k3sup__images *images, int work)
{
	int64_t before = 0;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < images->count; i++) {
		if (images->list[i].same)
			continue;
		r = copy(op, images, work, before, &images->list[i]);
		before += images->list[i].st.st_size;
	}
	return r;
}

static int publish_all(k3sup_op *op, struct k3sup__images *images, int work)
{
	int r = k3sup__op_checkpoint(op);

	for (size_t i = 0; r >= 0 && i < images->count; i++)
		if (!images->list[i].same)
			r = publish(op, images, work, &images->list[i]);
	return r;
}

static int stage_missing(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images)
{
	_close_ int work = -1;
	int r;

	k3sup__op_begin(op, "images", "copying %zu file%s into %s", k3sup__images_missing(images),
		k3sup__images_missing(images) == 1 ? "" : "s", images->path);
	r = k3sup__images_make_dirs(op, node, data_dir, images);
	if (r >= 0)
		r = work = k3sup__images_work_open(op, images, true);
	if (r >= 0)
		r = k3sup__images_work_each(op, work, remove_temp, NULL);
	if (r >= 0)
		r = copy_all(op, images, work);
	if (r >= 0)
		r = publish_all(op, images, work);
	if (r < 0) {
		for (size_t i = 0; i < images->count; i++)
			k3sup__stage_drop(&images->list[i].stage);
		k3sup__images_undo(op, images);
		return r;
	}
	return k3sup__images_work_drop(op, images);
}

/* Nothing is missing, but a run may have been cut on its way to that. */
static int tidy(k3sup_op *op, struct k3sup__images *images)
{
	_close_ int work = k3sup__images_work_open(op, images, false);
	int n = work < 0 ? work : k3sup__images_work_each(op, work, remove_temp, NULL), r;

	if (n == -ENOENT)
		return 0;
	r = k3sup__images_work_end(op, images, n);
	images->cleaned = n > 0;
	return r;
}

int k3sup__images_stage(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images)
{
	if (images->count == 0)
		return 0;
	return k3sup__images_missing(images) > 0 ? stage_missing(op, node, data_dir, images) : tidy(op, images);
}

/* ---- taking back ---- */

/* The present time: k3s takes what is older than what it imported last under this name for imported. */
int k3sup__images_put_back(k3sup_op *op, int work, const char *kept, int dir, const char *name)
{
	_close_ int fd = openat(work, kept, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int r = fd < 0 || futimens(fd, NULL) < 0 ? -errno : k3sup__sync_fd(fd);

	if (r == 0 && renameat(work, kept, dir, name) < 0)
		r = -errno;
	/* A run that was cut between the two names left one file under both; renaming it over itself does nothing. */
	if (r == 0 && unlinkat(work, kept, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = k3sup__sync_dir(dir);
	if (r == 0)
		r = k3sup__sync_fd(work);
	return r < 0 ? k3sup__fail(op, r, "cannot put the old %s back: %s", name, k3sup_strerror(r)) : 0;
}

static int undo_one(const struct k3sup__images *images, int work, const struct k3sup__image *image)
{
	_free_ char *kept = k3sup__images_kept_name(images, image->name);
	struct stat st;

	if (!kept)
		return -ENOMEM;
	if (image->keeps && !image->done) /* cut between the two names; another link is no other version */
		return unlinkat(work, kept, 0) < 0 ? -errno : 0;
	if (image->keeps)
		return k3sup__images_put_back(NULL, work, kept, images->dir.fd, image->name);
	if (!image->created || fstatat(images->dir.fd, image->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != image->placed.st_dev ||
		st.st_ino != image->placed.st_ino)
		return 0;
	return unlinkat(images->dir.fd, image->name, 0) < 0 ? -errno : k3sup__sync_dir(images->dir.fd);
}

void k3sup__images_undo(k3sup_op *op, struct k3sup__images *images)
{
	_close_ int work = images->dir.dirfd < 0 ? -1 : k3sup__images_work_open(NULL, images, false);

	for (size_t i = 0; i < images->count; i++) {
		struct k3sup__image *image = &images->list[i];
		int r = image->done || image->keeps ? undo_one(images, work, image) : 0;

		if (r < 0) {
			k3sup__log(op, K3SUP_LOG_WARNING, "%s/%s stays as it is: %s", images->path, image->name, k3sup_strerror(r));
			continue;
		}
		image->done = image->keeps = false;
	}
	if (work >= 0)
		(void)!k3sup__images_work_drop(NULL, images);
	if (images->made)
		(void)unlinkat(images->dir.dirfd, images->dir.name, AT_REMOVEDIR);
}
