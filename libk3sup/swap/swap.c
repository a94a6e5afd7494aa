/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/install.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/durable.h"
#include "swap/bytes.h"

/* ---- looking ---- */

int k3sup__swap_name_readonly(k3sup_op *op, int r, const struct k3sup__place *target)
{
	const char *why = "the kernel does not allow to write in its directory (immutable, or not ours to write)";

	if (r != -EROFS && r != -EACCES && r != -EPERM && r != -EBUSY)
		return r;
	if (r == -EROFS)
		why = "its file system is mounted read-only";
	else if (r == -EBUSY)
		why = "it is a mount of its own";
	k3sup__op_forgive(op);
	return k3sup__fail(op, r == -EBUSY ? K3SUP_E_TARGET_MOUNTED : K3SUP_E_TARGET_READONLY, "%s cannot be replaced: %s", target->path, why);
}

char *k3sup__swap_backup_name(const char *name)
{
	return k3sup__fmt("%s" K3SUP__BACKUP_SUFFIX, name);
}

int k3sup__swap_open(k3sup_op *op, const struct k3sup__place *target)
{
	int fd = k3sup__place_open(target, O_RDONLY);

	if (fd == -ESTALE || fd == -ENOENT || fd == -ELOOP)
		return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody else replaced %s meanwhile", target->path);
	return fd < 0 ? k3sup__fail(op, fd, "cannot read %s: %s", target->path, k3sup_strerror(fd)) : fd;
}

int k3sup__swap_is_same(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__place *target, char sha256[static K3SUP__SHA256_HEX])
{
	struct k3sup__bytes a = {.fd = payload->fd, .shown = payload->shown, .size = payload->st.st_size};
	struct k3sup__bytes b = {.fd = -1, .shown = target->path, .size = target->st.st_size};
	_close_ int fd = -1;

	sha256[0] = '\0';
	if (a.size != b.size)
		return 0;
	if (k3sup__payload_is(payload, &target->st)) {
		memcpy(sha256, payload->beside.sha256, sizeof(payload->beside.sha256));
		return 1;
	}
	b.fd = fd = k3sup__swap_open(op, target);
	if (fd < 0)
		return fd;
	/* The bytes that are compared, and no others, tell whether the installed file is what the terms demand. */
	return k3sup__bytes_same(op, &a, &b, !payload->sha256[0] && !k3sup__streq(payload->proof->kind, "none") ? sha256 : NULL);
}

static bool same_directory(const struct k3sup__place *a, const struct k3sup__place *b)
{
	return a->name - a->path == b->name - b->path && strncmp(a->path, b->path, (size_t)(a->name - a->path)) == 0;
}

bool k3sup__swap_is_backup(const struct k3sup__place *target, const char *backup)
{
	struct stat a, b;

	return fstatat(target->dirfd, target->name, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
		fstatat(target->dirfd, backup, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int k3sup__swap_drop_backup(k3sup_op *op, const struct k3sup__place *target, const char *backup)
{
	int r;

	if (unlinkat(target->dirfd, backup, 0) < 0) {
		r = -errno;
		return k3sup__fail(op, r, "cannot remove %s beside %s: %s", backup, target->path, k3sup_strerror(r));
	}
	r = k3sup__sync_dir(target->dirfd);
	return r < 0 ? k3sup__fail(op, r, "cannot sync the directory of %s: %s", target->path, k3sup_strerror(r)) : 0;
}

int k3sup__swap_sweep(k3sup_op *op, const struct k3sup__layout *layout, bool remove)
{
	const struct k3sup__place *target = layout->target, *link = &layout->link;
	int n = k3sup__stage_leftovers(op, target->dirfd, target->name, remove), more = 0;

	if (n >= 0 && link->fd >= 0)
		more = k3sup__stage_leftovers(op, link->dirfd, link->name, remove);
	if (n >= 0 && more >= 0 && link->fd >= 0 && !same_directory(target, link)) {
		n += more;
		more = k3sup__stage_leftovers(op, target->dirfd, link->name, remove);
	}
	return n < 0 || more < 0 ? (n < 0 ? n : more) : n + more;
}

int k3sup__swap_leftovers(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, bool remove)
{
	_cleanup_(k3sup__layout_clear) struct k3sup__layout layout = K3SUP__LAYOUT_NONE;
	_free_ char *backup = k3sup__swap_backup_name(target->name);
	int n, r = 0;

	if (!backup)
		return -ENOMEM;
	n = k3sup__layout_find(op, node, target, &layout);
	if (n >= 0)
		n = k3sup__swap_sweep(op, &layout, remove);
	if (n >= 0 && k3sup__swap_is_backup(target, backup)) {
		r = remove ? k3sup__swap_drop_backup(op, target, backup) : 0;
		n++;
	}
	if (r < 0 || n < 0)
		return remove ? k3sup__swap_name_readonly(op, r < 0 ? r : n, target) : r < 0 ? r : n;
	return n;
}

/* ---- telling ---- */

void k3sup__swapped_report(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__swapped *swapped)
{
	k3sup__json *facts = k3sup__op_facts(op), *backup;

	if (!swapped->renamed)
		return;
	k3sup__json_set_bool(facts, "changed", true); /* also if syncing the directory failed afterwards */
	k3sup__wanted_report(op, payload, swapped->sha256);
	if (swapped->asset_check)
		k3sup__json_set_str(k3sup__json_member(facts, "wanted"), "asset_check", swapped->asset_check);
	backup = k3sup__json_object();
	k3sup__json_set_str(backup, "path", swapped->backup);
	k3sup__json_set_str(backup, "sha256", swapped->old_sha256);
	k3sup__json_set(facts, "backup", backup);
}

void k3sup__swapped_clear(struct k3sup__swapped *swapped)
{
	free(swapped->backup);
	free(swapped->path);
	swapped->backup = swapped->path = NULL;
}
