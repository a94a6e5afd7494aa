/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/install.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/durable.h"
#include "swap/backup.h"
#include "swap/bytes.h"
#include "swap/preflight.h"

/* ---- copying ---- */

/* Where blocks can be shared nothing is copied; sha256 is "" then, since nothing was read either. */
static int copy(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__stage *stage, char sha256[static K3SUP__SHA256_HEX])
{
	const struct k3sup__bytes from = {.fd = payload->fd, .shown = payload->shown, .size = payload->st.st_size};

	sha256[0] = '\0';
	if (!k3sup__stage_clone(stage, payload->fd))
		return k3sup__bytes_copy(op, &from, stage->fd, sha256);
	k3sup__op_progress(op, payload->st.st_size, payload->st.st_size);
	return k3sup__op_checkpoint(op);
}

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
		(!payload->build.said[0] && !k3sup__streq(build.version, payload->build.version)))
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

/* What is done, and what was found out on the way. */
struct k3sup__staged {
	k3sup_op *op;
	k3sup_node *node;
	struct k3sup__plan plan;
	const struct k3sup__payload *payload;
	const struct k3sup__place *target;
	struct k3sup__layout layout;
	char *name;   /* of the new file: the target's, or another version's */
	char *backup; /* the name for what has that name now */
	int old_fd;   /* the target */
	int there_fd; /* a file of that name that is the payload already; -1: it is staged */
	struct k3sup__stage stage;
	struct k3sup__swapped *ret;
};

static bool is_version(const struct k3sup__staged *j)
{
	return j->name != j->target->name;
}

static char *beside(const struct k3sup__place *target, const char *name)
{
	return k3sup__fmt("%.*s%s", (int)(target->name - target->path), target->path, name);
}

/* Is the name still the file that was found, and has nobody written into that? */
static int check_target(struct k3sup__staged *j)
{
	const struct stat *old = &j->stage.old;
	struct stat st;

	if (fstat(j->old_fd, &st) < 0)
		return k3sup__fail(j->op, -errno, "cannot look at %s: %s", j->target->path, k3sup_strerror(errno));
	if (!same_content(&st, &j->target->st) || (!is_version(j) && (j->stage.old_fd < 0 || old->st_dev != st.st_dev || old->st_ino != st.st_ino)))
		return k3sup__fail(j->op, K3SUP_E_TARGET_CHANGED, "somebody else replaced %s meanwhile", j->target->path);
	return 0;
}

static int stage(struct k3sup__staged *j)
{
	const struct k3sup__place *target = j->target;
	int r;

	r = k3sup__stage_begin_as(j->op, target->dirfd, j->name, k3sup__layout_front(&j->layout)->name, &j->stage);
	return r < 0 ? k3sup__swap_name_readonly(j->op, r, target) : copy(j->op, j->payload, &j->stage, j->ret->sha256);
}

/* Everything is counted over what lies there now, and not over what it was made from. */
static int verify(struct k3sup__staged *j)
{
	struct k3sup__swapped *ret = j->ret;
	k3sup_op *op = j->op;
	int r = 0;

	k3sup__op_begin(op, "verify", "checking the copy of %s", j->payload->shown);
	if (!ret->sha256[0])
		r = k3sup__bytes_digest(op, j->stage.fd, "the new file", ret->sha256);
	if (r >= 0)
		r = k3sup__payload_prove(op, j->payload, ret->sha256);
	if (r >= 0)
		r = k3sup__stage_seal(op, &j->stage, j->old_fd, 0755);
	if (r >= 0)
		r = recheck(op, j->payload, j->stage.fd, ret);
	if (r >= 0 && fstat(j->stage.fd, &ret->st) < 0)
		r = k3sup__fail(op, -errno, "cannot look at the new file: %s", k3sup_strerror(errno));
	if (r >= 0)
		r = k3sup__bytes_digest(op, j->old_fd, j->target->path, ret->old_sha256);
	return r < 0 ? r : check_target(j);
}

/*
 * Before the names change. Going back keeps nothing, and the backup stays; but where versions lie beside each other, the one that was gone back to is none any more: that it was is
 * recorded, or the same call again would go further. One that lies there already was made by somebody else, and is not ours to remove later.
 */
static int note(const struct k3sup__staged *j, const char *kept)
{
	const struct k3sup__payload *payload = j->payload;
	const char *front = k3sup__layout_front(&j->layout)->path;
	_free_ char *version = is_version(j) ? beside(j->target, j->name) : NULL;
	int r;

	if (is_version(j) && !version)
		return -ENOMEM;
	if (payload->is_backup)
		return version ? k3sup__kept_note(j->op, j->node, front, "kept", version, j->ret->sha256, payload->build.version) : 0;
	r = k3sup__kept_note(j->op, j->node, front, "kept", kept, j->ret->old_sha256, j->plan.installed->version);
	if (r >= 0 && version && j->stage.fd >= 0)
		r = k3sup__kept_note(j->op, j->node, front, "made", version, j->ret->sha256, payload->build.version);
	return r;
}

/* Where everything is now. Who goes back keeps nothing: the backup is the one that was taken. */
static int tell(struct k3sup__staged *j, const char *kept)
{
	struct k3sup__swapped *ret = j->ret;

	ret->path = beside(j->target, j->name);
	ret->backup = strdup(j->payload->is_backup ? j->payload->shown : kept);
	if (j->payload->is_backup)
		memcpy(ret->old_sha256, ret->sha256, sizeof(ret->old_sha256));
	return ret->path && ret->backup ? 0 : -ENOMEM;
}

/* ---- one file that is replaced ---- */

static int publish(struct k3sup__staged *j)
{
	const char *backup = j->payload->is_backup ? NULL : j->backup;
	_free_ char *kept = beside(j->target, j->backup);
	int r = kept ? note(j, kept) : -ENOMEM;

	if (r < 0)
		return r;
	k3sup__op_begin(j->op, "swap", "replacing %s", j->target->path);
	r = backup ? k3sup__backups_shift(j->op, j->target, j->plan.keep) : 0;
	if (r >= 0)
		r = k3sup__stage_publish(j->op, &j->stage, backup, commit, &j->ret->renamed);
	if (j->ret->renamed) {
		int told = tell(j, kept);

		return r < 0 ? r : told;
	}
	r = k3sup__swap_name_readonly(j->op, r, j->target);
	/* Stopped between the link and the rename: nothing was changed, so nothing may look as if it were. */
	if (backup && k3sup__swap_is_backup(j->target, backup))
		(void)!k3sup__swap_drop_backup(j->op, j->target, backup);
	return r;
}

/* ---- another version beside it, and the link ---- */

/* May it be executed as it is? What somebody else put there gets the attributes of what is installed, what was installed before has its own. */
static bool is_dressed(const struct k3sup__staged *j, const struct stat *st, const struct stat *installed)
{
	if (j->payload->is_backup)
		return st->st_mode & S_IXUSR;
	return st->st_mode == installed->st_mode && st->st_uid == installed->st_uid && st->st_gid == installed->st_gid;
}

/* Is the version there already, as a run that was cut left it, or as the backup to go back to? 1: whole, and on disk. */
static int is_there(struct k3sup__staged *j)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = beside(j->target, j->name);
	char sha256[K3SUP__SHA256_HEX];
	_close_ int fd = -1;
	struct stat st;
	int r = path ? k3sup__root_find(j->op, &j->node->root, path, j->node->trust_flags | K3SUP__NOFOLLOW, &place) : -ENOMEM;

	if (r < 0)
		return r;
	if (place.fd < 0 || !S_ISREG(place.st.st_mode))
		return 0;
	r = fd = k3sup__place_open(&place, O_RDONLY);
	if (r >= 0)
		r = k3sup__swap_is_same(j->op, j->payload, &place, sha256);
	if (r <= 0)
		return r;
	if (fstat(fd, &place.st) < 0 || fstat(j->old_fd, &st) < 0)
		return -errno;
	if (!is_dressed(j, &place.st, &st))
		return 0;
	j->ret->st = place.st;
	r = k3sup__bytes_digest(j->op, fd, path, j->ret->sha256);
	if (r >= 0)
		r = k3sup__payload_prove(j->op, j->payload, j->ret->sha256);
	if (r >= 0)
		r = recheck(j->op, j->payload, fd, j->ret);
	if (r >= 0)
		r = k3sup__sync_fd(fd);
	if (r < 0)
		return r;
	j->there_fd = fd;
	fd = -1;
	return 1;
}

static int link_version(struct k3sup__staged *j)
{
	int r, told;

	k3sup__op_begin(j->op, "swap", "making %s lead to %s", j->layout.link.path, j->name);
	r = k3sup__layout_relink(j->op, &j->layout, j->name, commit, &j->ret->renamed);
	if (!j->ret->renamed)
		return k3sup__swap_name_readonly(j->op, r, &j->layout.link);
	told = tell(j, j->target->path);
	return r < 0 ? r : told;
}

/* The link still leads to the old version, so the new one is nobody's. */
static void take_back(struct k3sup__staged *j)
{
	(void)unlinkat(j->target->dirfd, j->name, 0);
	(void)!k3sup__sync_dir(j->target->dirfd);
}

static int verify_there(struct k3sup__staged *j)
{
	int r = k3sup__bytes_digest(j->op, j->old_fd, j->target->path, j->ret->old_sha256);

	if (r >= 0)
		r = check_target(j);
	return r < 0 ? r : k3sup__sync_dir(j->target->dirfd);
}

static int add_version(struct k3sup__staged *j)
{
	bool made = false, fresh = j->stage.fd >= 0 && j->stage.old_fd < 0;
	int r = note(j, j->target->path);

	if (r >= 0 && j->stage.fd >= 0)
		r = k3sup__swap_name_readonly(
			j->op, k3sup__stage_publish(j->op, &j->stage, j->payload->is_backup ? NULL : j->backup, NULL, &made), j->target);
	if (r >= 0)
		r = link_version(j);
	if (made && fresh && !j->ret->renamed)
		take_back(j);
	return r;
}

/* ---- both ---- */

static int prepare(struct k3sup__staged *j)
{
	const struct stat *of = &j->payload->backup_of;
	int r = 0;

	if (j->payload->is_backup && (of->st_dev != j->target->st.st_dev || of->st_ino != j->target->st.st_ino))
		r = k3sup__fail(j->op, K3SUP_E_TARGET_CHANGED, "somebody else replaced %s meanwhile", j->target->path);
	if (r >= 0)
		r = k3sup__layout_find(j->op, j->node, j->target, &j->layout);
	/* Where one goes back to a version beside, that is the file, whatever the form of its name. */
	if (r >= 0 && j->payload->is_backup && k3sup__layout_is_version(&j->layout, strrchr(j->payload->shown, '/') + 1))
		r = (j->name = strdup(strrchr(j->payload->shown, '/') + 1)) ? 0 : -ENOMEM;
	else if (r >= 0)
		r = k3sup__layout_name(&j->layout, j->payload->build.version, &j->name);
	if (r < 0)
		return r;
	if (!j->name)
		j->name = j->target->name;
	j->backup = k3sup__swap_backup_name(j->name);
	if (!j->backup)
		return -ENOMEM;
	k3sup__op_begin(j->op, "stage", "copying %s beside %s", j->payload->shown, j->target->path);
	r = k3sup__swap_sweep(j->op, &j->layout, true);
	if (r < 0)
		return k3sup__swap_name_readonly(j->op, r, j->target);
	return j->old_fd = k3sup__swap_open(j->op, j->target);
}

int k3sup__swap_stage(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__swapped *ret, struct k3sup__staged **ret_staged)
{
	struct k3sup__staged *j = calloc(1, sizeof(*j));
	int r, there = 0;

	*ret = (struct k3sup__swapped){0};
	if (!j)
		return -ENOMEM;
	*j = (struct k3sup__staged){
		.op = op,
		.node = node,
		.plan = *plan,
		.payload = plan->payload,
		.target = plan->target,
		.layout = K3SUP__LAYOUT_NONE,
		.stage = K3SUP__STAGE_NONE,
		.old_fd = -1,
		.there_fd = -1,
		.ret = ret,
	};
	r = prepare(j);
	if (r >= 0 && is_version(j))
		r = there = is_there(j);
	if (r >= 0 && there)
		r = verify_there(j);
	else if (r >= 0)
		r = stage(j);
	if (r >= 0 && !there)
		r = verify(j);
	if (r < 0) {
		k3sup__staged_free(j);
		return r;
	}
	*ret_staged = j;
	return 0;
}

/* What was verified is what is published, however long ago that was: the caller's command before the stop may take hours. */
static int check_verified(struct k3sup__staged *j)
{
	struct stat now, *was = &j->ret->st;

	if (j->there_fd < 0) {
		if (fstat(j->stage.fd, &now) < 0)
			return k3sup__fail(j->op, -errno, "cannot look at the new file: %s", k3sup_strerror(errno));
		return same_content(&now, was)
			? 0
			: k3sup__fail(j->op, K3SUP_E_TARGET_CHANGED, "somebody wrote into the new %s after it was verified", j->name);
	}
	if (fstatat(j->target->dirfd, j->name, &now, AT_SYMLINK_NOFOLLOW) < 0 || now.st_dev != was->st_dev || now.st_ino != was->st_ino ||
		!same_content(&now, was))
		return k3sup__fail(j->op, K3SUP_E_TARGET_CHANGED, "somebody else replaced %s beside %s meanwhile", j->name, j->target->path);
	return 0;
}

int k3sup__swap_publish(struct k3sup__staged *j)
{
	int r = check_target(j);

	if (r >= 0)
		r = check_verified(j);
	if (r >= 0)
		r = is_version(j) ? add_version(j) : publish(j);
	if (r == K3SUP_E_TARGET_CHANGED)
		k3sup__json_set_str(k3sup__op_evidence(j->op), "target", j->target->path);
	return r;
}

int k3sup__staged_fd(const struct k3sup__staged *j)
{
	return j->there_fd >= 0 ? j->there_fd : j->stage.fd;
}

char *k3sup__staged_path(const struct k3sup__staged *j)
{
	return beside(j->target, j->there_fd >= 0 ? j->name : j->stage.temp);
}

void k3sup__staged_free(struct k3sup__staged *j)
{
	if (!j)
		return;
	k3sup__stage_drop(&j->stage);
	k3sup__close(j->old_fd);
	k3sup__close(j->there_fd);
	if (j->name && is_version(j))
		free(j->name);
	free(j->backup);
	k3sup__layout_clear(&j->layout);
	free(j);
}

int k3sup__swap_run(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__swapped *ret)
{
	struct k3sup__staged *staged = NULL;
	int r = k3sup__swap_stage(op, node, plan, ret, &staged);

	if (r >= 0)
		r = k3sup__swap_publish(staged);
	k3sup__staged_free(staged);
	return r;
}
