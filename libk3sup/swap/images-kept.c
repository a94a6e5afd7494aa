/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The third part of images.h: the versions that are kept, after the proof or the way back.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/strv.h"
#include "swap/images-work.h"
#include "swap/swap.h"

/* Of a kept version's name: so much is its file's, and the build that it is kept for, "" for none. 0: no such name. */
static size_t kept_name(const char *name, const char **ret_of)
{
	const char *suffix = NULL;

	for (const char *next = name; (next = strstr(next, K3SUP__BACKUP_SUFFIX)); next++)
		suffix = next;
	if (!suffix)
		return 0;
	*ret_of = suffix + strlen(K3SUP__BACKUP_SUFFIX);
	if (**ret_of == '.' && strlen(*ret_of) == K3SUP__IMAGES_OF)
		++*ret_of;
	else if (**ret_of)
		return 0;
	return (size_t)(suffix - name);
}

static int is_kept_of(k3sup_op *op, int work, const char *name, void *arg)
{
	const char *of, *original = arg;
	size_t len = kept_name(name, &of);

	(void)op;
	(void)work;
	return len == strlen(original) && strncmp(name, original, len) == 0;
}

bool k3sup__images_is_kept(const struct k3sup__images *images, const char *name)
{
	_close_ int work = images->dir.dirfd >= 0 ? k3sup__images_work_open(NULL, images, false) : -1;

	return work >= 0 && k3sup__images_work_each(NULL, work, is_kept_of, (void *)(uintptr_t)name) > 0;
}

static int remove_ours(k3sup_op *op, int work, const char *name, void *arg)
{
	const char *of, *but_of = arg;

	if (k3sup__is_temp(name))
		return k3sup__images_work_remove(op, work, name);
	if (kept_name(name, &of) == 0 || (but_of && (!of[0] || k3sup__streq(of, but_of))))
		return 0;
	return k3sup__images_work_remove(op, work, name);
}

/* ---- after the proof, or after the rollback ---- */

/* 1 with a work directory that is there, 0 if there is none. Whoever has nothing of ours is not asked to have trusted directories. */
static int find_work(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images, int *ret_work)
{
	int r = k3sup__images_find(NULL, node, data_dir, 0, images);

	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == K3SUP_E_TARGET_DANGLING || r == K3SUP_E_ESCAPE)
		return 0;
	if (r >= 0 && faccessat(k3sup__images_parent(images), K3SUP__IMAGES_WORK, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
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

/* Forgets them, or those that are not for this build; 1 if there was anything to look at. */
static int forget(k3sup_op *op, k3sup_node *node, const char *data_dir, const char *but_of)
{
	_cleanup_(k3sup__images_clear) struct k3sup__images images = K3SUP__IMAGES_NONE;
	_close_ int work = -1;
	int n, r = find_work(op, node, data_dir, &images, &work);

	if (r <= 0)
		return r;
	n = k3sup__images_work_each(op, work, remove_ours, (void *)(uintptr_t)but_of);
	r = k3sup__images_work_end(op, &images, n);
	return r < 0 ? r : 1;
}

int k3sup__images_commit(k3sup_op *op, k3sup_node *node, const char *data_dir)
{
	return forget(op, node, data_dir, NULL);
}

int k3sup__images_forget(k3sup_op *op, k3sup_node *node, const char *data_dir, const char *but_of)
{
	int r = forget(op, node, data_dir, but_of);

	return r < 0 ? r : 0;
}

struct to_restore {
	const char *of;
	struct k3sup__strv names; /* behind a key: of several versions of one name the last one is right */
};
#define KEY_LEN 33

static int collect(k3sup_op *op, int work, const char *name, void *arg)
{
	struct to_restore *all = arg;
	const char *of = "";
	struct stat st;
	int r;

	if (k3sup__is_temp(name)) {
		r = k3sup__images_work_remove(op, work, name);
		return r < 0 ? r : 0;
	}
	if (kept_name(name, &of) == 0 || (all->of && of[0] && !k3sup__streq(of, all->of)))
		return 0;
	if (fstatat(work, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return k3sup__fail(op, -errno, "cannot look at %s: %s", name, k3sup_strerror(-errno));
	return k3sup__strv_add(&all->names,
		k3sup__fmt("%d %020llu %09ld %s", all->of && of[0], (unsigned long long)INT64_MAX - (unsigned long long)st.st_mtim.tv_sec,
			999999999 - st.st_mtim.tv_nsec, name));
}

static void tell_restored(k3sup_op *op, const struct k3sup__images *images, const char *name)
{
	k3sup__json *list = k3sup__json_member(k3sup__op_facts(op), "images"), *one;

	if (!list) {
		k3sup__json_set(k3sup__op_facts(op), "images", k3sup__json_array());
		list = k3sup__json_member(k3sup__op_facts(op), "images");
	}
	one = k3sup__json_object();
	k3sup__json_set_str(one, "name", name);
	k3sup__json_set(one, "path", k3sup__json_fmt("%s/%s", images->path, name));
	k3sup__json_set_str(one, "action", "restore");
	k3sup__json_set_bool(one, "changed", true);
	k3sup__json_set_bool(one, "kept", false);
	k3sup__json_add(list, one);
}

static int restore_one(k3sup_op *op, const struct k3sup__images *images, int work, const char *name)
{
	const char *of;
	_free_ char *original = strndup(name, kept_name(name, &of));
	int r = original ? k3sup__images_put_back(op, work, name, images->dir.fd, original) : -ENOMEM;

	if (r >= 0)
		tell_restored(op, images, original);
	return r;
}

static int restore_all(k3sup_op *op, const struct k3sup__images *images, int work, const char *of)
{
	struct to_restore all = {.of = of};
	int r = k3sup__images_work_each(op, work, collect, &all);
	size_t n = 0;

	k3sup__strv_sort(&all.names);
	for (; r >= 0 && n < all.names.count; n++)
		r = restore_one(op, images, work, all.names.items[n] + KEY_LEN);
	k3sup__strv_clear(&all.names);
	return r < 0 ? r : n > 0;
}

int k3sup__images_restore(k3sup_op *op, k3sup_node *node, const char *data_dir, const char *of)
{
	_cleanup_(k3sup__images_clear) struct k3sup__images images = K3SUP__IMAGES_NONE;
	_close_ int work = -1;
	int n, r = find_work(op, node, data_dir, &images, &work);

	if (r <= 0)
		return r;
	r = k3sup__images_make_dirs(op, node, data_dir, &images);
	n = r < 0 ? r : restore_all(op, &images, work, of);
	r = k3sup__images_work_end(op, &images, n);
	return r < 0 ? r : n;
}
