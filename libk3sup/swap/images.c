/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/images.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "node/sums.h"
#include "node/warn.h"
#include "swap/bytes.h"
#include "swap/swap.h"

/* ---- what is asked for ---- */

static int take_one(const char *path, struct k3sup__image *ret)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	*ret = (struct k3sup__image){.fd = -1, .stage = K3SUP__STAGE_NONE};
	if (!*name || *name == '.') /* k3s keeps its import cache there in a dot file */
		return -EINVAL;
	if (strlen(name) + strlen(K3SUP__BACKUP_SUFFIX) + K3SUP__IMAGES_OF > NAME_MAX)
		return -ENAMETOOLONG;
	ret->path = strdup(path);
	if (!ret->path)
		return -ENOMEM;
	ret->name = ret->path + (name - path);
	return 0;
}

static bool is_named_twice(const struct k3sup__images *images)
{
	for (size_t i = 1; i < images->count; i++)
		for (size_t j = 0; j < i; j++)
			if (k3sup__streq(images->list[i].name, images->list[j].name))
				return true;
	return false;
}

int k3sup__images_take(const char *const *files, const struct k3sup__given_terms *terms, struct k3sup__images *ret)
{
	size_t count = 0;
	int r;

	*ret = K3SUP__IMAGES_NONE;
	while (files && files[count])
		count++;
	if (count == 0)
		return 0;
	ret->list = calloc(count, sizeof(*ret->list));
	if (!ret->list)
		return -ENOMEM;
	for (r = 0; r >= 0 && ret->count < count; ret->count++)
		r = take_one(files[ret->count], &ret->list[ret->count]);
	if (r >= 0)
		r = k3sup__terms_take(terms, &ret->terms);
	if (r >= 0 && (is_named_twice(ret) || (count > 1 && (ret->terms.sha256 || (ret->terms.key && !ret->terms.sums)))))
		r = -EINVAL;
	return r;
}

void k3sup__images_clear(struct k3sup__images *images)
{
	for (size_t i = 0; i < images->count; i++) {
		k3sup__stage_drop(&images->list[i].stage);
		k3sup__proof_clear(&images->list[i].proof);
		k3sup__close(images->list[i].fd);
		free(images->list[i].path);
	}
	free(images->list);
	free(images->path);
	k3sup__place_clear(&images->dir);
	k3sup__terms_clear(&images->terms);
	*images = K3SUP__IMAGES_NONE;
}

/* ---- where they go ---- */

char *k3sup__images_kept_name(const struct k3sup__images *images, const char *name)
{
	return k3sup__fmt("%s" K3SUP__BACKUP_SUFFIX "%s%s", name, images->of[0] ? "." : "", images->of);
}

void k3sup__images_id(const struct k3sup__build *build, char ret[static K3SUP__IMAGES_OF])
{
	if (build->asset_hash[0])
		(void)snprintf(ret, K3SUP__IMAGES_OF, "%.12s", build->asset_hash);
	else
		(void)snprintf(ret, K3SUP__IMAGES_OF, "%012llx", (unsigned long long)build->size & 0xffffffffffffu);
}

/* 1, 0 or -errno. */
static int is_mount(const k3sup_node *node, const struct k3sup__place *dir)
{
	long own, above;
	int r = dir->fd >= 0 ? k3sup__node_mount_of(node, dir->fd, &own) : 0;

	if (r < 0 || dir->fd < 0)
		return r;
	r = k3sup__node_mount_of(node, dir->dirfd, &above);
	return r < 0 ? r : own != above;
}

int k3sup__images_find(k3sup_op *op, k3sup_node *node, const char *data_dir, unsigned flags, struct k3sup__images *images)
{
	int r;

	free(images->path);
	k3sup__place_clear(&images->dir);
	images->path = k3sup__fmt("%s/agent/images", data_dir);
	if (!images->path)
		return -ENOMEM;
	r = k3sup__root_find(op, &node->root, images->path, flags, &images->dir);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be used: %s", images->path, k3sup_strerror(r));
	if (images->dir.fd < 0 && images->dir.links > 0)
		return k3sup__fail(op, K3SUP_E_TARGET_DANGLING, "%s is a link that leads to nothing", images->path);
	if (images->dir.fd >= 0 && !S_ISDIR(images->dir.st.st_mode))
		return k3sup__fail(op, -ENOTDIR, "%s is not a directory", images->path);
	r = is_mount(node, &images->dir);
	images->in_itself = r > 0;
	return r < 0 ? k3sup__fail(op, r, "cannot tell which mount %s is on: %s", images->path, k3sup_strerror(r)) : 0;
}

/* ---- looking ---- */

/* In a place that others can write it is taken, too, if something says which bytes are right. */
static int open_source(k3sup_op *op, const k3sup_node *node, const struct k3sup__images *images, struct k3sup__image *image)
{
	unsigned trust = k3sup__terms_bind(&images->terms) ? 0 : node->trust_flags;
	int r = k3sup__payload_open(op, image->path, trust, &image->fd);

	if (r >= 0 && fstat(image->fd, &image->st) < 0)
		r = k3sup__fail(op, -errno, "cannot look at %s: %s", image->path, k3sup_strerror(errno));
	if (r >= 0 && image->st.st_size == 0)
		r = k3sup__fail(op, K3SUP_E_PAYLOAD_EMPTY, "%s is empty", image->path);
	return r;
}

static int compare(k3sup_op *op, const struct k3sup__images *images, struct k3sup__image *image)
{
	_free_ char *shown = k3sup__fmt("%s/%s", images->path, image->name);
	struct k3sup__bytes a = {.fd = image->fd, .shown = image->path, .size = image->st.st_size}, b = {.shown = shown};
	bool count = !k3sup__streq(image->proof.kind, "none");
	_close_ int fd = -1;
	struct stat st;
	int r;

	if (!shown)
		return -ENOMEM;
	fd = openat(images->dir.fd, image->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 && errno == ELOOP)
		return k3sup__fail(op, K3SUP_E_TARGET_NOT_FILE, "%s is a link; only a file of that name is replaced", shown);
	if (fd < 0 || fstat(fd, &st) < 0)
		return k3sup__fail(op, -errno, "cannot read %s: %s", shown, k3sup_strerror(errno));
	if (!S_ISREG(st.st_mode))
		return k3sup__fail(op, K3SUP_E_TARGET_NOT_FILE, "%s is not a regular file", shown);
	image->there = true;
	if (st.st_size != a.size)
		return 0;
	b.fd = fd;
	b.size = st.st_size;
	r = k3sup__bytes_same(op, &a, &b, count ? image->sha256 : NULL);
	image->same = r > 0;
	if (r > 0 && count)
		r = k3sup__proof_check(op, &image->proof, image->sha256, image->path);
	if (r >= 0 && !image->same && faccessat(images->dir.fd, ".cache.json", F_OK, 0) == 0)
		k3sup__warn(op, "%s gets new contents of the same size: k3s will not import it again as long as %s/.cache.json knows it",
			shown, images->path);
	return r < 0 ? r : 0;
}

/* k3s would not do with it what people expect. */
static void warn_of_name(k3sup_op *op, const struct k3sup__image *image)
{
	static const char *const known[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz", ".tar.lz4", ".txt"};
	static const char release[] = "k3s-airgap-images-";
	_free_ char *arch = NULL;
	bool imported = false;

	for (size_t i = 0; i < ELEMENTSOF(known); i++)
		imported |= k3sup__endswith(image->name, known[i]);
	if (!imported)
		k3sup__warn(op, "k3s does not import files with names like %s", image->name);
	if (k3sup__startswith(image->name, release))
		arch = strndup(image->name + strlen(release), strcspn(image->name + strlen(release), "."));
	if (arch && k3sup__artifact(arch) && !k3sup__build_runs_here(arch))
		k3sup__warn(op, "%s has images for another architecture", image->name);
}

static int look_at_one(k3sup_op *op, const k3sup_node *node, struct k3sup__images *images, struct k3sup__image *image)
{
	int r = open_source(op, node, images, image);

	if (r >= 0)
		r = k3sup__proof_prepare_artifact(op, node, &images->terms, image->name, &image->proof);
	if (r >= 0 && images->dir.fd >= 0)
		r = compare(op, images, image);
	if (r < 0)
		return r;
	image->kept = k3sup__images_is_kept(images, image->name);
	warn_of_name(op, image);
	if (!image->same)
		images->todo += image->st.st_size;
	return 0;
}

int k3sup__images_look(k3sup_op *op, k3sup_node *node, struct k3sup__images *images, const char *data_dir)
{
	int r;

	if (images->count == 0)
		return 0;
	r = k3sup__images_find(op, node, data_dir, node->trust_flags, images);
	if ((r == -EACCES || r == -EPERM) && geteuid() != 0) { /* who only asks may do so without being root */
		k3sup__op_forgive(op);
		k3sup__warn(op, "what is in %s cannot be told: %s", images->path, k3sup_strerror(r));
		r = 0;
	}
	for (size_t i = 0; (r >= 0 || r == -ENOENT) && i < images->count; i++)
		r = look_at_one(op, node, images, &images->list[i]);
	return r;
}

int k3sup__images_prove(k3sup_op *op, struct k3sup__images *images)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < images->count; i++) {
		struct k3sup__image *image = &images->list[i];

		if (image->same || k3sup__streq(image->proof.kind, "none"))
			continue;
		r = k3sup__bytes_digest(op, image->fd, image->path, image->sha256);
		if (r >= 0)
			r = k3sup__proof_check(op, &image->proof, image->sha256, image->path);
	}
	return r;
}

/* ---- telling ---- */

bool k3sup__images_changed(const struct k3sup__images *images)
{
	for (size_t i = 0; i < images->count; i++)
		if (images->list[i].done)
			return true;
	return images->cleaned;
}

size_t k3sup__images_missing(const struct k3sup__images *images)
{
	size_t n = 0;

	for (size_t i = 0; i < images->count; i++)
		n += !images->list[i].same;
	return n;
}

void k3sup__images_report(k3sup_op *op, const struct k3sup__images *images)
{
	k3sup__json *list = images->path ? k3sup__json_array() : NULL; /* else nobody has looked yet */

	for (size_t i = 0; list && i < images->count; i++) {
		const struct k3sup__image *image = &images->list[i];
		k3sup__json *one = k3sup__json_object();

		k3sup__json_set_str(one, "name", image->name);
		k3sup__json_set(one, "path", k3sup__json_fmt("%s/%s", images->path, image->name));
		k3sup__json_set_str(one, "source", image->path);
		k3sup__json_set_int(one, "size", (int64_t)image->st.st_size);
		if (image->sha256[0])
			k3sup__json_set_str(one, "sha256", image->sha256);
		k3sup__json_set_str(one, "action", image->same ? "none" : image->there ? "replace" : "create");
		k3sup__json_set_bool(one, "changed", image->done);
		k3sup__json_set_bool(one, "kept", image->kept || image->keeps);
		k3sup__proof_tell(one, &image->proof);
		k3sup__json_add(list, one);
	}
	if (list)
		k3sup__json_set(k3sup__op_facts(op), "images", list);
}
