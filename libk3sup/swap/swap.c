/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/swap.h"

#include "base/durable.h"
#include "swap/bytes.h"

#include <fcntl.h>
#include <unistd.h>

/* ---- looking ---- */

/* What the preflight could not see (a security module, or a change since): about the node, not about our run, so it has a code and a sentence of its own. */
static int name_readonly(k3sup_op *op, int r, const struct k3sup__place *target)
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

/* For reading. */
static int open_target(k3sup_op *op, const struct k3sup__place *target)
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
	b.fd = fd = open_target(op, target);
	if (fd < 0)
		return fd;
	/* The bytes that are compared, and no others, tell whether the installed file is what the terms demand. */
	return k3sup__bytes_same(op, &a, &b, !payload->sha256[0] && !k3sup__streq(payload->proof->kind, "none") ? sha256 : NULL);
}

/* Is the backup's name just another name of the target? So it is between the link and the rename, and nowhere else. */
static bool backup_is_target(const struct k3sup__place *target, const char *backup)
{
	struct stat a, b;

	return fstatat(target->dirfd, target->name, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
		fstatat(target->dirfd, backup, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Kept, a later copy over the target would go through the shared inode and rewrite the backup with it. */
static int drop_backup(k3sup_op *op, const struct k3sup__place *target, const char *backup)
{
	int r;

	if (unlinkat(target->dirfd, backup, 0) < 0) {
		r = -errno;
		return k3sup__fail(op, r, "cannot remove %s beside %s: %s", backup, target->path, k3sup_strerror(r));
	}
	r = k3sup__sync_dir(target->dirfd);
	return r < 0 ? k3sup__fail(op, r, "cannot sync the directory of %s: %s", target->path, k3sup_strerror(r)) : 0;
}

int k3sup__swap_leftovers(k3sup_op *op, const struct k3sup__place *target, bool remove)
{
	_free_ char *backup = k3sup__swap_backup_name(target->name);
	int n, r = 0;

	if (!backup)
		return -ENOMEM;
	n = k3sup__stage_leftovers(op, target->dirfd, target->name, remove);
	if (n >= 0 && backup_is_target(target, backup)) {
		r = remove ? drop_backup(op, target, backup) : 0;
		n++;
	}
	if (r < 0 || n < 0)
		return remove ? name_readonly(op, r < 0 ? r : n, target) : n;
	return n;
}

/* ---- doing ---- */

static bool same_content(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* What was written is looked at once more: the payload may have been changed by somebody between the first look and the copy, or during it. */
static int recheck(k3sup_op *op, const struct k3sup__payload *payload, int fd, struct k3sup__swapped *ret)
{
	unsigned flags = K3SUP__BUILD_HOST_ARCH | (payload->check_archive ? K3SUP__BUILD_ARCHIVE : 0);
	struct k3sup__build build;
	struct stat st;
	int r = k3sup__build_read_fd(op, fd, payload->shown, flags, &build);

	if (r < 0)
		return r;
	ret->asset_check = build.asset_check;
	if (fstat(payload->fd, &st) < 0 || !same_content(&st, &payload->st))
		return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s was written to while it was copied", payload->shown);
	if (build.size != payload->build.size || !k3sup__streq(build.asset_hash, payload->build.asset_hash) ||
		!k3sup__streq(build.version, payload->build.version))
		return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s is another build than it was before it was copied", payload->shown);
	return 0;
}

static int commit(k3sup_op *op)
{
	int r = k3sup__op_checkpoint(op);

	if (r >= 0)
		k3sup__op_no_return(op);
	return r;
}

/* Is the name still the file that was found, and has nobody written into that? */
static int check_target(k3sup_op *op, const struct k3sup__stage *stage, const struct k3sup__place *target, int old_fd)
{
	struct stat st;

	if (fstat(old_fd, &st) < 0)
		return k3sup__fail(op, -errno, "cannot look at %s: %s", target->path, k3sup_strerror(errno));
	if (stage->old_fd < 0 || stage->old.st_dev != st.st_dev || stage->old.st_ino != st.st_ino || !same_content(&st, &target->st))
		return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody else replaced %s meanwhile", target->path);
	return 0;
}

static int stage(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__place *target, int old_fd,
	struct k3sup__stage *stage, struct k3sup__swapped *ret)
{
	struct k3sup__bytes from = {.fd = payload->fd, .shown = payload->shown, .size = payload->st.st_size};
	int r = name_readonly(op, k3sup__stage_begin(op, target->dirfd, target->name, stage), target);

	if (r >= 0)
		r = k3sup__bytes_copy(op, &from, stage->fd, ret->sha256);
	if (r >= 0)
		r = k3sup__payload_prove(op, payload, ret->sha256);
	if (r >= 0)
		r = k3sup__stage_seal(op, stage, old_fd, 0755);
	if (r >= 0)
		r = recheck(op, payload, stage->fd, ret);
	if (r >= 0 && fstat(stage->fd, &ret->st) < 0)
		r = k3sup__fail(op, -errno, "cannot look at the new file: %s", k3sup_strerror(errno));
	return r < 0 ? r : check_target(op, stage, target, old_fd);
}

static int publish(k3sup_op *op, struct k3sup__stage *stage, const struct k3sup__place *target, const char *backup, struct k3sup__swapped *ret)
{
	int r;

	k3sup__op_begin(op, "swap", "replacing %s", target->path);
	r = k3sup__stage_publish(op, stage, backup, commit, &ret->renamed);
	if (ret->renamed) {
		ret->backup = k3sup__fmt("%.*s%s", (int)(target->name - target->path), target->path, backup);
		return r < 0 || ret->backup ? r : -ENOMEM;
	}
	r = name_readonly(op, r, target);
	/* Stopped between the link and the rename: nothing was changed, so nothing may look as if it were. */
	if (backup_is_target(target, backup))
		(void)!drop_backup(op, target, backup);
	return r;
}

int k3sup__swap_run(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__place *target, struct k3sup__swapped *ret)
{
	struct k3sup__stage staged = K3SUP__STAGE_NONE;
	_free_ char *backup = k3sup__swap_backup_name(target->name);
	_close_ int old_fd = -1;
	int r;

	*ret = (struct k3sup__swapped){0};
	if (!backup)
		return -ENOMEM;
	k3sup__op_begin(op, "stage", "copying %s beside %s", payload->shown, target->path);
	r = k3sup__stage_leftovers(op, target->dirfd, target->name, true);
	if (r < 0)
		return name_readonly(op, r, target);
	old_fd = open_target(op, target);
	if (old_fd < 0)
		return old_fd;
	r = k3sup__bytes_digest(op, old_fd, target->path, ret->old_sha256);
	if (r >= 0)
		r = stage(op, payload, target, old_fd, &staged, ret);
	if (r >= 0)
		r = publish(op, &staged, target, backup, ret);
	k3sup__stage_drop(&staged);
	return r;
}

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
	swapped->backup = NULL;
}
