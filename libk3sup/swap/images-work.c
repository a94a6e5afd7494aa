/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/images-work.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/strv.h"
#include "swap/swap.h"

int k3sup__images_parent(const struct k3sup__images *images)
{
	return images->in_itself ? images->dir.fd : images->dir.dirfd;
}

int k3sup__images_work_open(k3sup_op *op, const struct k3sup__images *images, bool create)
{
	int parent = k3sup__images_parent(images), fd, r = 0;
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
int k3sup__images_make_dirs(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images)
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

int k3sup__images_work_drop(k3sup_op *op, const struct k3sup__images *images)
{
	int parent = k3sup__images_parent(images), r;

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
int k3sup__images_work_end(k3sup_op *op, const struct k3sup__images *images, int n)
{
	int r = k3sup__images_work_drop(n < 0 ? NULL : op, images);

	return n < 0 ? n : r;
}

/* Sorted: what a run that is cut has done is the same on every file system. */
static int list(int work, struct k3sup__strv *ret)
{
	int fd = openat(work, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry = NULL;

	if (!dir) {
		r = -errno;
		k3sup__close(fd);
		return r;
	}
	for (errno = 0; r >= 0 && (entry = readdir(dir)); errno = 0)
		if (!k3sup__streq(entry->d_name, ".") && !k3sup__streq(entry->d_name, ".."))
			r = k3sup__strv_add_copy(ret, entry->d_name, strlen(entry->d_name));
	if (r >= 0 && !entry)
		r = -errno;
	(void)closedir(dir);
	k3sup__strv_sort(ret);
	return r;
}

int k3sup__images_work_each(k3sup_op *op, int work, int (*fn)(k3sup_op *op, int work, const char *name, void *arg), void *arg)
{
	struct k3sup__strv names = {0};
	int sum = 0, r = list(work, &names);

	if (r < 0)
		r = k3sup__fail(op, r, "cannot read " K3SUP__IMAGES_WORK ": %s", k3sup_strerror(r));
	for (size_t i = 0; r >= 0 && i < names.count; i++) {
		r = fn(op, work, names.items[i], arg);
		sum += r;
	}
	k3sup__strv_clear(&names);
	return r < 0 ? r : sum;
}

int k3sup__images_work_remove(k3sup_op *op, int work, const char *name)
{
	int r;

	if (unlinkat(work, name, 0) == 0 || errno == ENOENT)
		return 1;
	r = -errno;
	return k3sup__fail(op, r, "cannot remove " K3SUP__IMAGES_WORK "/%s: %s", name, k3sup_strerror(r));
}
