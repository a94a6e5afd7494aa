/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of images.h: what changes the node.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "swap/bytes.h"
#include "swap/images.h"
#include "swap/swap.h"

/* ---- directories ---- */

/* Above agent/images: the place of the work directory. */
static int parent_of(const struct k3sup__images *images)
{
	return images->in_itself ? images->dir.fd : images->dir.dirfd;
}

int k3sup__images_work_open(k3sup_op *op, const struct k3sup__images *images, bool create)
{
	int parent = parent_of(images), fd, r = 0;
	struct stat st;

	if (create)
		r = k3sup__make_dir(op, parent, K3SUP__IMAGES_WORK, 0700, K3SUP__IMAGES_WORK);
	if (r < 0)
		return r;
	fd = openat(parent, K3SUP__IMAGES_WORK, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		k3sup__close(fd);
		return k3sup__fail(op, r, "cannot open " K3SUP__IMAGES_WORK " beside %s: %s", images->path, k3sup_strerror(r));
	}
	if (k3sup__trusted_owner(&st) && !(st.st_mode & 077))
		return fd;
	k3sup__close(fd);
	return k3sup__fail(op, K3SUP_E_UNTRUSTED, K3SUP__IMAGES_WORK " beside %s (uid %u, mode %04o) must be root's alone", images->path,
		(unsigned)st.st_uid, (unsigned)st.st_mode & 07777u);
}

static int make_one(k3sup_op *op, k3sup_node *node, const char *path, mode_t mode)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(op, &node->root, path, node->trust_flags | K3SUP__MAKE_DIRS, &place);

	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be made: %s", path, k3sup_strerror(r));
	if (place.fd < 0 && place.links > 0)
		return k3sup__fail(op, K3SUP_E_TARGET_DANGLING, "%s is a link that leads to nothing", path);
	return place.fd < 0 ? k3sup__make_dir(op, place.dirfd, place.name, mode, path) : 0;
}

/* k3s makes agent/ for root alone (pkg/agent/config), and reads agent/images if there is one: its documentation has people make it. */
static int make_dirs(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images)
{
	_free_ char *agent = k3sup__fmt("%s/agent", data_dir), *path = k3sup__fmt("%s/agent/images", data_dir);
	int r = agent && path ? 0 : -ENOMEM;

	if (r < 0 || images->dir.fd >= 0)
		return r;
	r = make_one(op, node, agent, 0700);
	if (r >= 0)
		r = make_one(op, node, path, 0755);
	images->made = r >= 0;
	return r < 0 ? r : k3sup__images_find(op, node, data_dir, node->trust_flags, images);
}

/* The work directory goes with the last thing in it. */
static int drop_work(k3sup_op *op, const struct k3sup__images *images)
{
	int parent = parent_of(images), r;

	if (unlinkat(parent, K3SUP__IMAGES_WORK, AT_REMOVEDIR) < 0) {
		r = -errno;
		if (r == -ENOENT || r == -ENOTEMPTY || r == -EEXIST)
			return 0;
		return k3sup__fail(op, r, "cannot remove " K3SUP__IMAGES_WORK " beside %s: %s", images->path, k3sup_strerror(r));
	}
	r = k3sup__sync_dir(parent);
	return r < 0 ? k3sup__fail(op, r, "cannot sync the directory above %s: %s", images->path, k3sup_strerror(r)) : 0;
}

/* What came after the last thing was gone may have failed; the directory goes all the same. */
static int end_work(k3sup_op *op, const struct k3sup__images *images, int n)
{
	int r = drop_work(n < 0 ? NULL : op, images);

	return n < 0 ? n : r;
}

/* Calls fn for each name in the work directory until it fails; the sum of what it returns. */
static int each_name(k3sup_op *op, int work, int (*fn)(k3sup_op *op, int work, const char *name, void *arg), void *arg)
{
	int fd = openat(work, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), sum = 0, r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry = NULL;

	if (!dir) {
		r = -errno;
		k3sup__close(fd);
		return k3sup__fail(op, r, "cannot read " K3SUP__IMAGES_WORK ": %s", k3sup_strerror(r));
	}
	for (errno = 0; r >= 0 && (entry = readdir(dir)); errno = 0) {
		r = k3sup__streq(entry->d_name, ".") || k3sup__streq(entry->d_name, "..") ? 0 : fn(op, work, entry->d_name, arg);
		sum += r;
	}
	if (r >= 0 && !entry && errno)
		r = k3sup__fail(op, -errno, "cannot read " K3SUP__IMAGES_WORK ": %s", k3sup_strerror(-errno));
	(void)closedir(dir);
	return r < 0 ? r : sum;
}

static int remove_name(k3sup_op *op, int work, const char *name)
{
	int r;

	if (unlinkat(work, name, 0) == 0 || errno == ENOENT)
		return 1;
	r = -errno;
	return k3sup__fail(op, r, "cannot remove " K3SUP__IMAGES_WORK "/%s: %s", name, k3sup_strerror(r));
}

static int remove_temp(k3sup_op *op, int work, const char *name, void *arg)
{
	(void)arg;
	return k3sup__is_temp(name) ? remove_name(op, work, name) : 0;
}

static int remove_ours(k3sup_op *op, int work, const char *name, void *arg)
{
	(void)arg;
	return k3sup__is_temp(name) || k3sup__endswith(name, K3SUP__BACKUP_SUFFIX) ? remove_name(op, work, name) : 0;
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
static int publish(k3sup_op *op, int work, struct k3sup__image *image)
{
	_free_ char *kept = k3sup__images_kept_name(image->name);
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
			r = publish(op, work, &images->list[i]);
	return r;
}

static int stage_missing(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images)
{
	_close_ int work = -1;
	int r;

	k3sup__op_begin(op, "images", "copying %zu file%s into %s", k3sup__images_missing(images),
		k3sup__images_missing(images) == 1 ? "" : "s", images->path);
	r = make_dirs(op, node, data_dir, images);
	if (r >= 0)
		r = work = k3sup__images_work_open(op, images, true);
	if (r >= 0)
		r = each_name(op, work, remove_temp, NULL);
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
	return drop_work(op, images);
}

/* Nothing is missing, but a run may have been cut on its way to that. */
static int tidy(k3sup_op *op, struct k3sup__images *images)
{
	_close_ int work = k3sup__images_work_open(op, images, false);
	int n = work < 0 ? work : each_name(op, work, remove_temp, NULL), r;

	if (n == -ENOENT)
		return 0;
	r = end_work(op, images, n);
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
static int put_back(k3sup_op *op, int work, const char *kept, int dir, const char *name)
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
	_free_ char *kept = k3sup__images_kept_name(image->name);
	struct stat st;

	if (!kept)
		return -ENOMEM;
	if (image->keeps && !image->done) /* cut between the two names; another link is no other version */
		return unlinkat(work, kept, 0) < 0 ? -errno : 0;
	if (image->keeps)
		return put_back(NULL, work, kept, images->dir.fd, image->name);
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
		(void)!drop_work(NULL, images);
	if (images->made)
		(void)unlinkat(images->dir.dirfd, images->dir.name, AT_REMOVEDIR);
}

/* ---- after the proof, or after the rollback ---- */

/* 1 with a work directory that is there, 0 if there is none. Whoever has nothing of ours is not asked to have trusted directories. */
static int find_work(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images, int *ret_work)
{
	int r = k3sup__images_find(NULL, node, data_dir, 0, images);

	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == K3SUP_E_TARGET_DANGLING || r == K3SUP_E_ESCAPE)
		return 0;
	if (r >= 0 && faccessat(parent_of(images), K3SUP__IMAGES_WORK, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0;
		r = -errno;
	}
	if (r < 0)
		return k3sup__fail(op, r, "%s/agent/images cannot be used: %s", data_dir, k3sup_strerror(r));
	r = k3sup__images_find(op, node, data_dir, node->trust_flags, images);
	if (r >= 0)
		r = *ret_work = k3sup__images_work_open(op, images, false);
	return r < 0 ? r : 1;
}

bool k3sup__images_are_kept(k3sup_node *node, const char *data_dir)
{
	_cleanup_(k3sup__images_clear) struct k3sup__images images = K3SUP__IMAGES_NONE;
	_close_ int work = -1;

	return find_work(NULL, node, data_dir, &images, &work) > 0;
}

int k3sup__images_commit(k3sup_op *op, k3sup_node *node, const char *data_dir)
{
	_cleanup_(k3sup__images_clear) struct k3sup__images images = K3SUP__IMAGES_NONE;
	_close_ int work = -1;
	int n, r = find_work(op, node, data_dir, &images, &work);

	if (r <= 0)
		return r;
	n = each_name(op, work, remove_ours, NULL);
	r = end_work(op, &images, n);
	return r < 0 ? r : 1;
}

static int restore_one(k3sup_op *op, int work, const char *name, void *arg)
{
	const struct k3sup__images *images = arg;
	_free_ char *original = NULL;
	k3sup__json *list, *one;
	int r;

	if (k3sup__is_temp(name)) {
		r = remove_name(op, work, name);
		return r < 0 ? r : 0;
	}
	if (!k3sup__endswith(name, K3SUP__BACKUP_SUFFIX))
		return 0;
	original = strndup(name, strlen(name) - strlen(K3SUP__BACKUP_SUFFIX));
	r = original ? put_back(op, work, name, images->dir.fd, original) : -ENOMEM;
	if (r < 0)
		return r;
	list = k3sup__json_member(k3sup__op_facts(op), "images");
	if (!list) {
		k3sup__json_set(k3sup__op_facts(op), "images", k3sup__json_array());
		list = k3sup__json_member(k3sup__op_facts(op), "images");
	}
	one = k3sup__json_object();
	k3sup__json_set_str(one, "name", original);
	k3sup__json_set(one, "path", k3sup__json_fmt("%s/%s", images->path, original));
	k3sup__json_set_str(one, "action", "restore");
	k3sup__json_set_bool(one, "changed", true);
	k3sup__json_set_bool(one, "kept", false);
	k3sup__json_add(list, one);
	return 1;
}

int k3sup__images_restore(k3sup_op *op, k3sup_node *node, const char *data_dir)
{
	_cleanup_(k3sup__images_clear) struct k3sup__images images = K3SUP__IMAGES_NONE;
	_close_ int work = -1;
	int n, r = find_work(op, node, data_dir, &images, &work);

	if (r <= 0)
		return r;
	r = make_dirs(op, node, data_dir, &images);
	n = r < 0 ? r : each_name(op, work, restore_one, &images);
	r = end_work(op, &images, n);
	return r < 0 ? r : n > 0;
}
