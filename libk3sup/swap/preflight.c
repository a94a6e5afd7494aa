/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/preflight.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/attrs.h"
#include "base/durable.h"
#include "node/floor.h"
#include "node/policy.h"
#include "node/warn.h"
#include "swap/backup.h"
#include "swap/package.h"
#include "swap/unpack.h"

void k3sup__cannot_tell(struct k3sup__checks *checks, const char *name, int r)
{
	bool denied = r == -EACCES || r == -EPERM;

	k3sup__checks_add(checks, name, denied ? K3SUP__WARN : K3SUP__REFUSE, r, NULL, "what the check %s asks cannot be told: %s", name,
		k3sup_strerror(r));
}

static k3sup__json *evidence_of(const struct k3sup__place *target)
{
	k3sup__json *evidence = k3sup__json_object();

	k3sup__json_set_str(evidence, "target", target->path);
	return evidence;
}

/* ---- where the file lies ---- */

/* Its operating system puts these back, or counts on their contents: Nix, Guix, OSTree, k3OS. */
static void check_store(const struct k3sup__place *target, struct k3sup__checks *checks)
{
	static const char *const stores[] = {"/nix/store/", "/gnu/store/", "/ostree/", "/sysroot/ostree/", "/k3os/"};

	for (size_t i = 0; i < ELEMENTSOF(stores); i++)
		if (k3sup__startswith(target->path, stores[i])) {
			k3sup__checks_add(checks, "store", K3SUP__REFUSE, K3SUP_E_TARGET_MANAGED, evidence_of(target),
				"%s is managed by the operating system; upgrade k3s there, as a part of it", target->path);
			return;
		}
	k3sup__checks_add(checks, "store", K3SUP__PASS, 0, NULL, "%s lies in no store of an operating system", target->path);
}

static void check_mount(const struct k3sup__place *target, struct k3sup__checks *checks)
{
	struct statvfs vfs;

	if (fstatvfs(target->dirfd, &vfs) < 0) {
		k3sup__cannot_tell(checks, "read-only", -errno);
		return;
	}
	if (vfs.f_flag & ST_RDONLY)
		k3sup__checks_add(checks, "read-only", K3SUP__REFUSE, K3SUP_E_TARGET_READONLY, evidence_of(target),
			"%s cannot be replaced: its file system is mounted read-only", target->path);
	else
		k3sup__checks_add(checks, "read-only", K3SUP__PASS, 0, NULL, "the file system of %s can be written", target->path);
	if (vfs.f_flag & ST_NOEXEC)
		k3sup__checks_add(checks, "noexec", K3SUP__REFUSE, K3SUP_E_TARGET_NOEXEC, evidence_of(target),
			"no program in %.*s could be executed: its file system is mounted noexec", (int)(target->name - target->path),
			target->path);
	else
		k3sup__checks_add(checks, "noexec", K3SUP__PASS, 0, NULL, "programs there may be executed");
}

/* An immutable file allows everything up to the rename, its directory not even a temp. */
static void check_immutable(const struct k3sup__place *target, struct k3sup__checks *checks)
{
	int file = k3sup__is_immutable(target->fd, ""), directory = k3sup__is_immutable(target->dirfd, "");

	if (file < 0 || directory < 0)
		k3sup__cannot_tell(checks, "immutable", file < 0 ? file : directory);
	else if (file || directory)
		k3sup__checks_add(checks, "immutable", K3SUP__REFUSE, K3SUP_E_TARGET_IMMUTABLE, evidence_of(target),
			"%s cannot be replaced: %s is marked as immutable or append-only (chattr)", target->path, file ? "it" : "its directory");
	else
		k3sup__checks_add(checks, "immutable", K3SUP__PASS, 0, NULL, "neither %s nor its directory is immutable", target->path);
}

static void check_file_mount(const k3sup_node *node, const struct k3sup__place *target, struct k3sup__checks *checks)
{
	long file, directory;
	int r = k3sup__node_mount_of(node, target->fd, &file);

	if (r >= 0)
		r = k3sup__node_mount_of(node, target->dirfd, &directory);
	if (r < 0)
		k3sup__cannot_tell(checks, "file-mount", r);
	else if (file != directory)
		k3sup__checks_add(checks, "file-mount", K3SUP__REFUSE, K3SUP_E_TARGET_MOUNTED,
			evidence_of(target), "%s cannot be replaced: it is a mount of its own, so no other file can take its name; replace it where it is mounted from",
			target->path);
	else
		k3sup__checks_add(checks, "file-mount", K3SUP__PASS, 0, NULL, "%s is no mount of its own", target->path);
}

/* How many names of the target beside it are ours: the backup, or a temp that was to become the backup when a run was cut. -errno. */
static int own_names(const struct k3sup__place *target, const struct stat *st)
{
	_free_ char *backup = k3sup__swap_backup_name(target->name);
	int fd = backup ? openat(target->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, n = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	struct stat other;

	if (!dir) {
		n = backup ? -errno : -ENOMEM;
		k3sup__close(fd);
		return n;
	}
	while ((entry = readdir(dir)))
		if ((k3sup__streq(entry->d_name, backup) || (entry->d_name[0] == '.' && strstr(entry->d_name, K3SUP__TEMP_MARK))) &&
			fstatat(target->dirfd, entry->d_name, &other, AT_SYMLINK_NOFOLLOW) == 0 && other.st_dev == st->st_dev &&
			other.st_ino == st->st_ino)
			n++;
	(void)closedir(dir);
	return n;
}

/* The other names would go on being the old file, whoever counts on them. */
static void check_links(const struct k3sup__place *target, struct k3sup__checks *checks)
{
	struct stat st;
	k3sup__json *evidence;
	int ours;

	if (fstat(target->fd, &st) < 0) {
		k3sup__cannot_tell(checks, "hard-links", -errno);
		return;
	}
	ours = st.st_nlink > 1 ? own_names(target, &st) : 0;
	if (ours < 0) {
		k3sup__cannot_tell(checks, "hard-links", ours);
	} else if (st.st_nlink > 1 + (nlink_t)ours) {
		evidence = evidence_of(target);
		k3sup__json_set_int(evidence, "links", (int64_t)st.st_nlink);
		k3sup__checks_add(checks, "hard-links", K3SUP__REFUSE, K3SUP_E_TARGET_LINKED, evidence,
			"%s has %lld other hard links, which would stay the old file; make it a file of its own (cp, then mv) first",
			target->path, (long long)st.st_nlink - 1 - ours);
	} else {
		k3sup__checks_add(checks, "hard-links", K3SUP__PASS, 0, NULL, "%s has no other hard links", target->path);
	}
}

static int check_package(
	k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, const struct k3sup__place *place, struct k3sup__checks *checks)
{
	bool allowed = plan->allow & K3SUP_SWAP_ALLOW_PACKAGE_OWNED;
	_free_ char *owner = NULL;
	k3sup__json *evidence;
	int r = k3sup__package_of(op, node, place->path, &owner);

	if (r < 0 && (r == -ENOMEM || k3sup__op_checkpoint(op) < 0))
		return r;
	if (r < 0 && !allowed) {
		k3sup__cannot_tell(checks, "package", r);
	} else if (r != 0) {
		evidence = evidence_of(place);
		if (owner)
			k3sup__json_set_str(evidence, "package", owner);
		k3sup__checks_add(checks, "package", allowed ? K3SUP__ALLOWED : K3SUP__REFUSE, K3SUP_E_TARGET_PACKAGE_OWNED, evidence,
			"%s belongs to %s; upgrade the package", place->path, owner ? owner : "a package, perhaps");
	} else {
		k3sup__checks_add(checks, "package", K3SUP__PASS, 0, NULL, "%s belongs to no package", place->path);
	}
	return 0;
}

/*
 * The new file gets the label of the old one. Where that is a wrong one (a file that came from /tmp, k3s#11347) k3s goes on in a wrong domain, and new pods fail: better said before.
 * container_runtime_exec_t is what the policy k3s-selinux gives to k3s files.
 */
static void check_label(const struct k3sup__place *target, struct k3sup__checks *checks)
{
	_close_ int fd = k3sup__place_open(target, O_RDONLY);
	char label[256], *type = NULL, *save = NULL;
	ssize_t n = fd < 0 ? -1 : fgetxattr(fd, "security.selinux", label, sizeof(label) - 1);

	if (n > 0) {
		label[n] = '\0';
		type = strtok_r(label, ":", &save) && strtok_r(NULL, ":", &save) ? strtok_r(NULL, ":", &save) : NULL;
	}
	if (n <= 0 && (fd < 0 || (errno != ENODATA && errno != EOPNOTSUPP)))
		k3sup__checks_add(checks, "label", K3SUP__WARN, -errno, NULL, "the security label of %s cannot be read: %s", target->path,
			k3sup_strerror(-errno));
	else if (n > 0 && (!type || !k3sup__streq(type, "container_runtime_exec_t")))
		k3sup__checks_add(checks, "label", K3SUP__WARN, 0,
			NULL, "%s has the security label %s, which the new file will have, too; k3s's policy has container_runtime_exec_t (restorecon)",
			target->path, type ? type : "?");
	else
		k3sup__checks_add(checks, "label", K3SUP__PASS, 0, NULL, "%s has %s", target->path,
			n > 0 ? "the label of k3s files" : "no security label");
}

/* A file that changes its name's content, or a link that comes to lead elsewhere. */
static int check_place(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, const struct k3sup__place *place, struct k3sup__checks *checks)
{
	check_store(place, checks);
	check_mount(place, checks);
	check_immutable(place, checks);
	check_file_mount(node, place, checks);
	if (S_ISREG(place->st.st_mode))
		check_links(place, checks);
	return check_package(op, node, plan, place, checks);
}

/* Nothing happens to the old version; a file is added to its directory. */
static void check_directory(const struct k3sup__place *target, struct k3sup__checks *checks)
{
	int immutable = k3sup__is_immutable(target->dirfd, "");

	check_store(target, checks);
	check_mount(target, checks);
	if (immutable < 0)
		k3sup__cannot_tell(checks, "immutable", immutable);
	else if (immutable)
		k3sup__checks_add(checks, "immutable", K3SUP__REFUSE, K3SUP_E_TARGET_IMMUTABLE, evidence_of(target),
			"no other version can be put beside %s: the directory is marked as immutable or append-only (chattr)", target->path);
	else
		k3sup__checks_add(checks, "immutable", K3SUP__PASS, 0, NULL, "the directory of %s is not immutable", target->path);
}

int k3sup__preflight(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__checks *checks)
{
	_cleanup_(k3sup__layout_clear) struct k3sup__layout layout = K3SUP__LAYOUT_NONE;
	_free_ char *version = NULL;
	int r = k3sup__layout_find(op, node, plan->target, &layout);

	if (r >= 0)
		r = k3sup__layout_name(&layout, plan->payload->build.version, &version);
	if (r < 0)
		return r;
	if (version)
		check_directory(plan->target, checks);
	r = check_place(op, node, plan, version ? &layout.link : plan->target, checks);
	if (r < 0)
		return r;
	check_label(plan->target, checks);
	k3sup__room_check(node, plan, checks);
	return k3sup__op_checkpoint(op);
}

/* ---- before ---- */

/* Going back is asked for by name, and to what was installed here before. */
static uint32_t allowed(const struct k3sup__plan *plan)
{
	return plan->allow | (plan->payload->is_backup ? K3SUP_SWAP_ALLOW_DOWNGRADE | K3SUP_SWAP_ALLOW_SKIP_MINOR : 0);
}

/* A floor that only root may read is a warning to others; to root a damaged one is in the way, unless what it says does not count. */
static int find_floor(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__checks *checks, char **ret)
{
	int r = k3sup__floor_read(op, node, ret);

	if (r >= 0 || r == -ENOMEM)
		return r;
	k3sup__op_forgive(op);
	if (allowed(plan) & K3SUP_SWAP_ALLOW_DOWNGRADE)
		k3sup__checks_add(checks, "floor-known", K3SUP__ALLOWED, r, NULL, "the floor cannot be read: %s", k3sup_strerror(r));
	else
		k3sup__cannot_tell(checks, "floor-known", r);
	return 0;
}

static uint32_t permissions(const struct k3sup__plan *plan)
{
	const uint32_t allow = allowed(plan);

	return (allow & K3SUP_SWAP_ALLOW_DOWNGRADE ? K3SUP_POLICY_ALLOW_DOWNGRADE : 0) |
		(allow & K3SUP_SWAP_ALLOW_SKIP_MINOR ? K3SUP_POLICY_ALLOW_SKIP_MINOR : 0);
}

struct dates {
	char installed[K3SUP__BUILT_LEN], payload[K3SUP__BUILT_LEN];
};

static int find_dates(k3sup_op *op, const k3sup_node *node, const struct k3sup__plan *plan, struct dates *ret)
{
	int r = k3sup__unpacked_built(node, plan->data_dir, plan->installed, ret->installed);

	if (r >= 0)
		r = k3sup__unpacked_built(node, plan->data_dir, &plan->payload->build, ret->payload);
	return r < 0 ? k3sup__fail(op, r, "cannot read what is unpacked in %s: %s", plan->data_dir, k3sup_strerror(r)) : 0;
}

int k3sup__admit_unpacked(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan)
{
	_cleanup_(k3sup__checks_clear) struct k3sup__checks checks;
	struct k3sup_policy_opts opts = {.flags = permissions(plan)};
	struct dates dates;
	int r = find_dates(op, node, plan, &dates);

	if (r < 0)
		return r;
	opts.installed_built = dates.installed;
	opts.payload_built = dates.payload;
	k3sup__checks_begin(&checks);
	k3sup__policy_judge_date(&opts, &checks);
	return k3sup__checks_amend(op, &checks);
}

int k3sup__admit(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan)
{
	const struct k3sup__build *build = &plan->payload->build;
	struct dates dates;
	struct k3sup_policy_opts opts = {
		.flags = permissions(plan),
		.installed = plan->installed->version,
		.payload = build->version,
		.role = plan->role,
		.server = plan->payload->server_version,
		.payload_kind = build->wrapper ? "wrapper"
			: build->inner         ? "inner"
					       : NULL,
		.payload_arch = build->arch,
		.installed_built = dates.installed,
		.payload_built = dates.payload,
	};
	_cleanup_(k3sup__checks_clear) struct k3sup__checks checks;
	_free_ char *floor = NULL;
	int r;

	k3sup__checks_begin(&checks);
	if (k3sup__streq(plan->role ? plan->role : "", "agent") && !plan->payload->server_version)
		k3sup__warn(op, "nobody said which version this agent's server is: an agent must not be newer than its server");
	r = find_dates(op, node, plan, &dates);
	if (r >= 0)
		r = find_floor(op, node, plan, &checks, &floor);
	opts.floor = floor;
	if (r >= 0) {
		k3sup__policy_judge(&opts, &checks);
		r = k3sup__preflight(op, node, plan, &checks);
	}
	return r < 0 ? r : k3sup__checks_judge(op, &checks);
}

int k3sup__admit_images(k3sup_op *op, k3sup_node *node, const struct k3sup__images *images)
{
	_cleanup_(k3sup__checks_clear) struct k3sup__checks checks;

	k3sup__checks_begin(&checks);
	k3sup__room_check_images(node, images, &checks);
	return k3sup__json_len(checks.list) > 0 ? k3sup__checks_judge(op, &checks) : 0;
}

/* ---- after ---- */

/* Has a swap of ours happened here? Then there is a backup, or we made this version. A file that was installed by others makes no floor. */
static int is_ours(k3sup_op *op, k3sup_node *node, const struct k3sup__place *installed)
{
	_cleanup_(k3sup__layout_clear) struct k3sup__layout layout = K3SUP__LAYOUT_NONE;
	_cleanup_(k3sup__json_unrefp) k3sup__json *records = NULL;
	_free_ char *backup = k3sup__swap_backup_name(installed->name);
	struct stat st;
	int r;

	if (backup && fstatat(installed->dirfd, backup, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	r = backup ? k3sup__layout_find(op, node, installed, &layout) : -ENOMEM;
	if (r >= 0 && layout.link.fd >= 0)
		r = k3sup__kept_read(op, node, layout.link.path, &records);
	return r < 0 ? r : k3sup__kept_find(records, "made", installed->path, NULL, NULL) != NULL;
}

static int settle(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, const struct k3sup__place *installed)
{
	int r = is_ours(op, node, installed);

	if (r <= 0)
		return r;
	r = k3sup__floor_record(op, node, plan->payload->build.version, plan->allow & K3SUP_SWAP_ALLOW_DOWNGRADE);
	if (r < 0)
		return k3sup__fail(op, r, "%s is replaced, but the floor cannot be recorded: %s", installed->path, k3sup_strerror(r));
	return k3sup__backups_prune(op, node, installed, plan->keep ? plan->keep : 1);
}

/* A floor at a build that is gone would stand in the way of all between the two. */
static int lower_floor(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *backup)
{
	_free_ char *floor = NULL;
	int r = k3sup__floor_read(op, node, &floor);

	if (r >= 0 && !floor)
		return 0;
	if (r == K3SUP_E_STATE_DIR) /* one that nobody can read is replaced */
		k3sup__op_forgive(op);
	else if (r < 0)
		return r;
	r = k3sup__floor_record(op, node, backup->build.version, true);
	return r < 0 ? k3sup__fail(op, r, "%s is back, but the floor cannot be lowered: %s", backup->build.version, k3sup_strerror(r)) : 0;
}

int k3sup__settle(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, const char *path)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place installed = K3SUP__PLACE_NONE;
	int r;

	if (plan->payload->is_backup)
		return lower_floor(op, node, plan->payload);
	r = k3sup__root_find(op, &node->root, path, node->trust_flags | K3SUP__NOFOLLOW, &installed);
	if (r == 0 && installed.fd < 0)
		r = k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody else removed %s meanwhile", path);
	if (r >= 0)
		r = settle(op, node, plan, &installed);
	return r < 0 ? r : 0;
}
