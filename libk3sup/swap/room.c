/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the preflight that is about room: for the k3s file, for images, and for what the new k3s unpacks as soon as it starts.
 */
#include <sys/statvfs.h>
#include <unistd.h>

#include "node/datadir.h"
#include "swap/preflight.h"
#include "swap/unpack.h"

/* The metadata of one file fits in 64 KiB anywhere. */
#define METADATA 65536u
/* What k3s unpacks into data/<H> has about four times the size of its wrapper, in some hundred files and links (k3s pkg/data; the failures of k3s#5813 and kairos#2682). */
#define UNPACKED_FACTOR 4u
#define UNPACKED_INODES 400u
/* A temp, and what the state directory may get. */
#define OWN_INODES 4u
/* agent/, agent/images and the work directory. */
#define DIRECTORIES 3u

/* What is written to one file system. */
struct need {
	dev_t dev;
	uint64_t bytes, inodes;
};

static struct need sum(const struct need *a, const struct need *others, size_t count)
{
	struct need all = *a;

	for (size_t i = 0; i < count; i++)
		if (others[i].dev == a->dev) {
			all.bytes += others[i].bytes;
			all.inodes += others[i].inodes;
		}
	return all;
}

/* Root may use the blocks that ext4 keeps back. No blocks, or inodes, at all: a file system that does not count them (tmpfs without a limit, btrfs, some of FUSE). */
static uint64_t free_bytes(const struct statvfs *vfs)
{
	return vfs->f_blocks == 0 ? UINT64_MAX : (uint64_t)vfs->f_frsize * (geteuid() == 0 ? vfs->f_bfree : vfs->f_bavail);
}

static uint64_t free_inodes(const struct statvfs *vfs)
{
	return vfs->f_files == 0 ? UINT64_MAX : geteuid() == 0 ? vfs->f_ffree : vfs->f_favail;
}

static k3sup__json *room(const char *unit, uint64_t have, uint64_t need)
{
	k3sup__json *evidence = k3sup__json_object();
	_free_ char *free_key = k3sup__fmt("free_%s", unit), *needed_key = k3sup__fmt("needed_%s", unit);

	if (free_key && needed_key) {
		k3sup__json_set_int(evidence, free_key, (int64_t)have);
		k3sup__json_set_int(evidence, needed_key, (int64_t)need);
	}
	return evidence;
}

/* ---- the k3s file ---- */

static int check_target(const struct k3sup__plan *plan, struct k3sup__checks *checks, struct need *ret)
{
	const char *path = plan->target->path;
	struct statvfs vfs;
	struct stat st;

	if (fstatvfs(plan->target->dirfd, &vfs) < 0 || fstat(plan->target->dirfd, &st) < 0)
		return -errno;
	*ret = (struct need){.dev = st.st_dev, .bytes = plan->payload->build.size + METADATA, .inodes = OWN_INODES};
	if (free_bytes(&vfs) < ret->bytes)
		k3sup__checks_add(checks, "space", K3SUP__REFUSE, -ENOSPC, room("bytes", free_bytes(&vfs), ret->bytes),
			"the file system of %s has %llu bytes free, the new file needs %llu", path, (unsigned long long)free_bytes(&vfs),
			(unsigned long long)ret->bytes);
	else
		k3sup__checks_add(checks, "space", K3SUP__PASS, 0, NULL, "there is room for the new file beside %s", path);
	if (free_inodes(&vfs) < OWN_INODES)
		k3sup__checks_add(checks, "inodes", K3SUP__REFUSE, -ENOSPC, room("inodes", free_inodes(&vfs), OWN_INODES),
			"the file system of %s has %llu inodes left, the new file needs up to %u", path,
			(unsigned long long)free_inodes(&vfs), OWN_INODES);
	else
		k3sup__checks_add(checks, "inodes", K3SUP__PASS, 0, NULL, "there are inodes for the new file beside %s", path);
	return 0;
}

/* ---- images ---- */

/* Of a directory, or of the nearest one above that is there. */
static int look_at_fs(const k3sup_node *node, const char *path, struct statvfs *ret_vfs, dev_t *ret_dev)
{
	_free_ char *at = strdup(path);
	int r = at ? -ENOENT : -ENOMEM;

	while (r == -ENOENT) {
		_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
		char *slash = strrchr(at, '/');

		r = k3sup__root_find(NULL, &node->root, *at ? at : "/", 0, &place);
		if (r == 0 && place.fd < 0)
			r = -ENOENT;
		if (r == 0 && fstatvfs(place.fd, ret_vfs) < 0)
			r = -errno;
		if (r == 0)
			*ret_dev = place.st.st_dev;
		if (r != -ENOENT || !slash)
			break;
		*slash = '\0';
	}
	return r;
}

int k3sup__room_for(k3sup_op *op, const k3sup_node *node, const char *path, const char *what, uint64_t bytes, uint64_t inodes)
{
	struct statvfs vfs;
	dev_t dev;
	int r = look_at_fs(node, path, &vfs, &dev);
	bool of_inodes;

	if (r < 0)
		return k3sup__fail(op, r, "whether %s has room for %s cannot be told: %s", path, what, k3sup_strerror(r));
	of_inodes = free_bytes(&vfs) >= bytes;
	if (of_inodes && free_inodes(&vfs) >= inodes)
		return 0;
	k3sup__json_set_int(k3sup__op_evidence(op), of_inodes ? "free_inodes" : "free_bytes",
		(int64_t)(of_inodes ? free_inodes(&vfs) : free_bytes(&vfs)));
	k3sup__json_set_int(k3sup__op_evidence(op), of_inodes ? "needed_inodes" : "needed_bytes", (int64_t)(of_inodes ? inodes : bytes));
	return k3sup__fail(op, -ENOSPC, "the file system of %s has %llu %s free; %s may need %llu", path,
		(unsigned long long)(of_inodes ? free_inodes(&vfs) : free_bytes(&vfs)), of_inodes ? "inodes" : "bytes", what,
		(unsigned long long)(of_inodes ? inodes : bytes));
}

static struct need images_need(const struct k3sup__images *images, dev_t dev)
{
	size_t missing = k3sup__images_missing(images);

	return (struct need){.dev = dev, .bytes = (uint64_t)images->todo + missing * METADATA, .inodes = missing + DIRECTORIES};
}

static int check_images(const k3sup_node *node, const struct k3sup__images *images, const struct need *others, size_t count,
	struct k3sup__checks *checks, struct need *ret)
{
	struct need need;
	struct statvfs vfs;
	dev_t dev;
	int r = look_at_fs(node, images->path, &vfs, &dev);

	if (r < 0)
		return r;
	*ret = images_need(images, dev);
	need = sum(ret, others, count);
	if (vfs.f_flag & ST_RDONLY)
		k3sup__checks_add(checks, "images-read-only", K3SUP__REFUSE, -EROFS, NULL,
			"no files can be put into %s: its file system is mounted read-only", images->path);
	else
		k3sup__checks_add(checks, "images-read-only", K3SUP__PASS, 0, NULL, "the file system of %s can be written", images->path);
	if (free_bytes(&vfs) < need.bytes)
		k3sup__checks_add(checks, "images-space", K3SUP__REFUSE, -ENOSPC, room("bytes", free_bytes(&vfs), need.bytes),
			"the file system of %s has %llu bytes free; the new files there need %llu", images->path,
			(unsigned long long)free_bytes(&vfs), (unsigned long long)need.bytes);
	else if (free_inodes(&vfs) < need.inodes)
		k3sup__checks_add(checks, "images-space", K3SUP__REFUSE, -ENOSPC, room("inodes", free_inodes(&vfs), need.inodes),
			"the file system of %s has %llu inodes left; the new files there need up to %llu", images->path,
			(unsigned long long)free_inodes(&vfs), (unsigned long long)need.inodes);
	else
		k3sup__checks_add(checks, "images-space", K3SUP__PASS, 0, NULL, "there is room for %llu bytes in %s",
			(unsigned long long)ret->bytes, images->path);
	return 0;
}

void k3sup__room_check_images(const k3sup_node *node, const struct k3sup__images *images, struct k3sup__checks *checks)
{
	struct need need;
	int r = k3sup__images_missing(images) > 0 ? check_images(node, images, NULL, 0, checks, &need) : 0;

	if (r < 0)
		k3sup__cannot_tell(checks, "images-space", r);
}

/* ---- what the new k3s unpacks ---- */

/* A torn one is put aside, and unpacked anew beside it. What is in its files is looked at by those who unpack. */
static bool is_unpacked(const k3sup_node *node, const struct k3sup__plan *plan, const char *data_dir)
{
	const char *const dirs[] = {data_dir, K3SUP__DEFAULT_DATA_DIR};
	bool is = false;

	for (size_t i = 0; !is && i < ELEMENTSOF(dirs); i++) {
		_cleanup_(k3sup__unpacked_clear) struct k3sup__unpacked u = K3SUP__UNPACKED_EMPTY;

		is = k3sup__unpacked_look(NULL, node, dirs[i], &plan->payload->build, true, &u) == 0 &&
			(u.form == K3SUP__UNPACKED_WHOLE || u.form == K3SUP__UNPACKED_UNKNOWN);
	}
	return is;
}

/* needs: of what else is written; what is unpacked here is added to them. */
static void check_data_dir(const k3sup_node *node, const struct k3sup__plan *plan, const char *name, const char *dir, struct need *needs,
	size_t *count, struct k3sup__checks *checks)
{
	struct need need, *own = &needs[*count];
	struct statvfs vfs;
	int r;

	*own = (struct need){.bytes = plan->payload->build.size * UNPACKED_FACTOR, .inodes = UNPACKED_INODES};
	r = look_at_fs(node, dir, &vfs, &own->dev);
	if (r < 0) {
		k3sup__cannot_tell(checks, name, r);
		return;
	}
	need = sum(own, needs, *count);
	(*count)++;
	if (free_bytes(&vfs) < need.bytes)
		k3sup__checks_add(checks, name, K3SUP__REFUSE, K3SUP_E_DATA_DIR_SPACE, room("bytes", free_bytes(&vfs), need.bytes),
			"the file system of %s has %llu bytes free; unpacking the new k3s may need %llu, and it could not start", dir,
			(unsigned long long)free_bytes(&vfs), (unsigned long long)need.bytes);
	else if (free_inodes(&vfs) < need.inodes)
		k3sup__checks_add(checks, name, K3SUP__REFUSE, K3SUP_E_DATA_DIR_SPACE, room("inodes", free_inodes(&vfs), need.inodes),
			"the file system of %s has %llu inodes left; unpacking the new k3s may need %llu, and it could not start", dir,
			(unsigned long long)free_inodes(&vfs), (unsigned long long)need.inodes);
	else
		k3sup__checks_add(checks, name, K3SUP__PASS, 0, NULL, "there is room to unpack the new k3s into %s", dir);
}

static void check_data_dirs(const k3sup_node *node, const struct k3sup__plan *plan, struct need *needs, size_t count, struct k3sup__checks *checks)
{
	static const char *const names[] = {"data-dir-space", "second-data-dir-space"};
	const char *const dirs[] = {plan->data_dir, plan->second_dir};
	bool in_default = false;

	for (size_t i = 0; i < ELEMENTSOF(dirs) && dirs[i]; i++) {
		/* A copy in the default one is found from all of them. */
		if (!plan->payload->build.wrapper || in_default || is_unpacked(node, plan, dirs[i]))
			k3sup__checks_add(checks, names[i], K3SUP__PASS, 0, NULL, "nothing has to be unpacked into %s", dirs[i]);
		else
			check_data_dir(node, plan, names[i], dirs[i], needs, &count, checks);
		in_default = k3sup__streq(dirs[i], K3SUP__DEFAULT_DATA_DIR);
	}
}

void k3sup__room_check(const k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__checks *checks)
{
	struct need needs[4]; /* the file, images, two data-dirs */
	size_t count = 0;
	int r = check_target(plan, checks, &needs[0]);

	if (r < 0)
		k3sup__cannot_tell(checks, "space", r);
	else
		count++;
	if (plan->images && k3sup__images_missing(plan->images) > 0) {
		r = check_images(node, plan->images, needs, count, checks, &needs[count]);
		if (r < 0)
			k3sup__cannot_tell(checks, "images-space", r);
		else
			count++;
	}
	check_data_dirs(node, plan, needs, count, checks);
}
