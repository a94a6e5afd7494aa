/* SPDX-License-Identifier: Apache-2.0 */
/* Of a check: the node's lock and journal, without taking the one or writing into the other. */
#include "upgrade/check.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The directory itself, or the one below which it would be made. */
static int open_nearest(k3sup_op *op, k3sup_node *node, const char *path)
{
	_free_ char *at = strdup(path);
	int fd = -1, r = at ? k3sup__state_dir_open(op, &node->root, path, false, node->trust_flags, &fd) : -ENOMEM;

	while (r == -ENOENT) {
		struct k3sup__place place = K3SUP__PLACE_NONE;
		char *slash = strrchr(at, '/');

		k3sup__op_forgive(op);
		r = k3sup__root_find(op, &node->root, at, node->trust_flags, &place);
		if (r >= 0) {
			fd = openat(place.dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			r = fd < 0 ? -errno : 0;
		}
		k3sup__place_clear(&place);
		if (!slash || slash == at)
			break;
		*slash = '\0';
	}
	return r < 0 ? r : fd;
}

static int writable(k3sup_op *op, k3sup_node *node, const char *path)
{
	_close_ int fd = open_nearest(op, node, path);
	struct statvfs vfs;

	if (fd < 0)
		return fd;
	if (fstatvfs(fd, &vfs) == 0 && vfs.f_flag & ST_RDONLY)
		return k3sup__fail(op, -EROFS, "%s cannot be written: its file system is mounted read-only", path);
	return 0;
}

static int judge(k3sup_op *op, const char *name, int r, k3sup__json *pass)
{
	const char *why = k3sup__op_sentence(op);
	const bool denied = r == -EACCES || r == -EPERM; /* of somebody who may only look */

	if (r >= 0) {
		k3sup__check_add(op, name, "pass", pass, 0);
		return 0;
	}
	k3sup__json_unref(pass);
	k3sup__check_add(op, name, denied ? "warn" : "refuse", k3sup__json_str(why ? why : k3sup_strerror(r)), denied ? 0 : r);
	if (!denied)
		return r;
	k3sup__op_forgive(op);
	return 0;
}

static int check_lock(k3sup_op *op, const struct k3sup__view *view)
{
	int r = view->lock_error < 0 ? k3sup__fail(op, view->lock_error, "%s", view->lock_text) : 0;

	if (r < 0 || !view->holder)
		return judge(op, "lock", r, k3sup__json_str("no other run holds the node's lock"));
	k3sup__check_add(op, "lock", "warn", k3sup__json_str("another run holds the node's lock just now"), 0);
	return 0;
}

int k3sup__check_memory(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view)
{
	int r = writable(op, node, K3SUP__STATE_DIR);

	if (r >= 0)
		r = writable(op, node, node->state_dir);
	r = judge(op, "state-dir", r, k3sup__json_fmt("what is done can be written down in %s", node->state_dir));
	if (r >= 0)
		r = check_lock(op, view);
	if (r < 0)
		return r;
	if (view->journal_error < 0)
		r = k3sup__fail(op, view->journal_error, "%s", view->journal_text);
	return judge(op, "journal", r, k3sup__json_str("what earlier runs wrote down can be read"));
}
