/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/backup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/lock.h"
#include "base/strv.h"
#include "base/tree.h"
#include "base/utc.h"

#define CERTS "certs"
#define MANIFEST "manifest.json"
#define MOST_MANIFEST (1024 * 1024)
#define UNFINISHED ".tls-"
#define TRIES 1000
#define SCHEMA 1 /* of the manifest */

void k3sup__tls_files_clear(struct k3sup__tls_files *kepts)
{
	for (size_t i = 0; i < kepts->count; i++) {
		free(kepts->list[i].path);
		k3sup__secret_free(kepts->list[i].text, kepts->list[i].len);
	}
	kepts->count = 0;
}

const struct k3sup__tls_file *k3sup__tls_files_find(const struct k3sup__tls_files *kepts, const char *path)
{
	for (size_t i = 0; i < kepts->count; i++)
		if (k3sup__streq(kepts->list[i].path, path))
			return &kepts->list[i];
	return NULL;
}

int k3sup__tls_backups_open(k3sup_op *op, const struct k3sup__root *root, const char *state_dir, bool create, unsigned trust_flags, int *ret_fd)
{
	_close_ int state = -1;
	struct stat st;
	int fd, r = k3sup__state_dir_open(op, root, state_dir, create, trust_flags, &state);

	if (r >= 0 && create)
		r = k3sup__make_dir(op, state, CERTS, 0700, CERTS);
	if (r < 0)
		return r;
	fd = openat(state, CERTS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT
			? -ENOENT
			: k3sup__fail(op, K3SUP_E_STATE_DIR, "%s/" CERTS " cannot be opened: %s", state_dir, k3sup_strerror(-errno));
	if (fstat(fd, &st) < 0 || !k3sup__trusted_owner(&st) || (st.st_mode & 077) != 0) {
		(void)k3sup__close(fd);
		return k3sup__fail(op, K3SUP_E_STATE_DIR, "%s/" CERTS " has to be root's alone", state_dir);
	}
	*ret_fd = fd;
	return 0;
}

/* ---- names ---- */

/* tls-<seconds>[-N]: 1 with both numbers, or 0. */
static bool parse_name(const char *name, int64_t *ret_seconds, unsigned *ret_more)
{
	char *end = NULL;

	*ret_more = 0;
	if (!k3sup__startswith(name, "tls-") || name[4] < '0' || name[4] > '9')
		return false;
	*ret_seconds = strtoll(name + 4, &end, 10);
	if (*end == '-' && end[1] >= '1' && end[1] <= '9')
		*ret_more = (unsigned)strtoul(end + 1, &end, 10);
	return *end == '\0';
}

static int newest_first(const void *a, const void *b)
{
	int64_t x = 0, y = 0;
	unsigned i = 0, k = 0;

	(void)parse_name(*(char *const *)a, &x, &i);
	(void)parse_name(*(char *const *)b, &y, &k);
	if (x != y)
		return x > y ? -1 : 1;
	return i == k ? 0 : i > k ? -1 : 1;
}

/* complete: of that name; else what cut runs left */
static int list_names(k3sup_op *op, int dirfd, bool complete, struct k3sup__strv *ret)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	int64_t seconds;
	unsigned more;

	if (dir == NULL) {
		r = -errno;
		(void)k3sup__close(fd);
		return k3sup__fail(op, r, "the backups of certificates cannot be listed: %s", k3sup_strerror(r));
	}
	while (r == 0 && (entry = readdir(dir)) != NULL)
		if (complete ? parse_name(entry->d_name, &seconds, &more) : k3sup__startswith(entry->d_name, UNFINISHED))
			r = k3sup__strv_add_copy(ret, entry->d_name, strlen(entry->d_name));
	(void)closedir(dir);
	return r;
}

int k3sup__tls_backups_list(k3sup_op *op, int dirfd, struct k3sup__strv *ret)
{
	int r = list_names(op, dirfd, true, ret);

	if (r == 0 && ret->count > 1)
		qsort(ret->items, ret->count, sizeof(*ret->items), newest_first);
	return r;
}

/* ---- making ---- */

static k3sup__json *manifest_of(const struct k3sup__tls_files *kepts, const k3sup__json *authorities, int64_t now)
{
	k3sup__json *manifest = k3sup__json_object(), *files = k3sup__json_array();
	char text[K3SUP__UTC_TEXT];

	k3sup__utc_text(now, text);
	for (size_t i = 0; i < kepts->count; i++) {
		const struct k3sup__tls_file *kept = &kepts->list[i];
		k3sup__json *file = k3sup__json_object();

		k3sup__json_set_str(file, "path", kept->path);
		k3sup__json_set_str(file, "kind", kept->key ? "key" : "certificate");
		k3sup__json_set(file, "mode", k3sup__json_fmt("%04o", (unsigned)kept->mode));
		k3sup__json_set_int(file, "uid", (int64_t)kept->uid);
		k3sup__json_set_int(file, "gid", (int64_t)kept->gid);
		k3sup__json_set_str(file, "sha256", kept->sha256);
		k3sup__json_add(files, file);
	}
	k3sup__json_set_int(manifest, "schema", SCHEMA);
	k3sup__json_set_str(manifest, "made", text);
	k3sup__json_set(manifest, "authorities", k3sup__json_copy(authorities));
	k3sup__json_set(manifest, "files", files);
	return manifest;
}

static int fill(k3sup_op *op, int fd, const struct k3sup__tls_files *kepts, const k3sup__json *authorities, int64_t now)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = manifest_of(kepts, authorities, now);
	_free_ char *text = NULL;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < kepts->count; i++)
		r = k3sup__tree_write(op, fd, kepts->list[i].path, kepts->list[i].text, kepts->list[i].len);
	if (r < 0)
		return r;
	text = k3sup__json_broken(manifest) ? NULL : k3sup__json_dump(manifest);
	if (text == NULL)
		return -ENOMEM;
	r = k3sup__tree_write(op, fd, MANIFEST, text, strlen(text));
	return r < 0 ? r : k3sup__tree_sync(op, fd);
}

/* Of the second in which it is made, or with a number behind where there is one already: k3s's own would flow into each other. */
static int publish(k3sup_op *op, int dirfd, const char *temp, int64_t now, char **ret_name)
{
	for (unsigned more = 0; more < TRIES; more++) {
		_free_ char *name = more == 0 ? k3sup__fmt("tls-%lld", (long long)now) : k3sup__fmt("tls-%lld-%u", (long long)now, more);
		int r;

		if (name == NULL)
			return -ENOMEM;
		if (faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue; /* nobody else is here: the node's lock is held */
		r = renameat(dirfd, temp, dirfd, name) < 0 ? -errno : k3sup__sync_dir(dirfd);
		if (r < 0)
			return k3sup__fail(op, r, "the backup cannot get its name: %s", k3sup_strerror(r));
		*ret_name = name;
		name = NULL;
		return 0;
	}
	return -EEXIST;
}

int k3sup__tls_backup_make(k3sup_op *op, int dirfd, const struct k3sup__tls_files *kepts, const k3sup__json *authorities, int64_t now, char **ret_name)
{
	_free_ char *temp = k3sup__fmt(UNFINISHED "%lld", (long long)now);
	_close_ int fd = -1;
	int r = temp == NULL ? -ENOMEM : k3sup__tree_remove(op, dirfd, temp);

	if (r >= 0)
		r = k3sup__make_dir(op, dirfd, temp, 0700, temp);
	if (r < 0)
		return r;
	fd = openat(dirfd, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? -errno : fill(op, fd, kepts, authorities, now);
	if (r >= 0)
		r = publish(op, dirfd, temp, now, ret_name);
	if (r < 0 && k3sup__tree_remove(NULL, dirfd, temp) < 0)
		k3sup__log(op, K3SUP_LOG_WARNING, "%s is left for the next run to remove", temp);
	return r;
}

/* ---- reading ---- */

static int damaged(k3sup_op *op, const char *name, const char *what)
{
	return k3sup__fail(op, K3SUP_E_BACKUP, "the backup %s cannot be used: %s", name, what);
}

int k3sup__tls_backup_manifest(k3sup_op *op, int dirfd, const char *name, k3sup__json **ret)
{
	_free_ char *path = k3sup__fmt("%s/" MANIFEST, name), *text = NULL;
	size_t len = 0;
	int64_t seconds;
	unsigned more;
	int r;

	if (path == NULL)
		return -ENOMEM;
	if (!parse_name(name, &seconds, &more))
		return damaged(op, name, "that is no name of one");
	r = k3sup__read_file(dirfd, path, MOST_MANIFEST, &text, &len);
	if (r == 0)
		r = k3sup__json_parse(text, len, ret);
	if (r == -ENOMEM)
		return r;
	return r < 0 ? damaged(op, name, r == -ENOENT ? "there is no such one, or it has no manifest" : "its manifest cannot be read") : 0;
}

/* What is in a manifest was written by us; who could change it is root. It is still no reason to write elsewhere than where leafs lie. */
static bool is_leaf_path(const char *path)
{
	for (size_t i = 0; path != NULL && i < k3sup__n_pairs; i++) {
		size_t len = strlen(k3sup__pairs[i].path);

		if (strncmp(path, k3sup__pairs[i].path, len) == 0 && (k3sup__streq(path + len, ".crt") || k3sup__streq(path + len, ".key")))
			return true;
	}
	return false;
}

/* As it was written: four octal digits, numbers that an owner can have. Whatever else it says was not written by us, and must not make a key readable. */
static bool take_owner(const k3sup__json *file, struct k3sup__tls_file *ret)
{
	const char *mode = k3sup__json_text(file, "mode");
	const int64_t uid = k3sup__json_number(file, "uid", -1), gid = k3sup__json_number(file, "gid", -1);

	if (mode == NULL || strlen(mode) != 4 || mode[0] != '0' || strspn(mode, "01234567") != 4)
		return false;
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return false;
	ret->mode = (mode_t)strtoul(mode, NULL, 8);
	ret->uid = (uid_t)uid;
	ret->gid = (gid_t)gid;
	return true;
}

static int read_kept(k3sup_op *op, int fd, const char *name, const k3sup__json *file, struct k3sup__digest *digest, struct k3sup__tls_files *ret)
{
	const char *path = k3sup__json_text(file, "path"), *sha256 = k3sup__json_text(file, "sha256");
	struct k3sup__tls_file *kept = &ret->list[ret->count];
	int r;

	if (ret->count == K3SUP__CERT_MOST || !is_leaf_path(path) || sha256 == NULL || k3sup__tls_files_find(ret, path) != NULL)
		return damaged(op, name, "its manifest names what is no leaf, or one twice");
	*kept = (struct k3sup__tls_file){.key = k3sup__endswith(path, ".key")};
	if (!take_owner(file, kept))
		return damaged(op, name, "its manifest tells no mode or owner that a file can have");
	kept->path = strdup(path);
	if (kept->path == NULL)
		return -ENOMEM;
	ret->count++;
	r = k3sup__read_file(fd, path, K3SUP__CERT_FILE_MOST, &kept->text, &kept->len);
	if (r == 0)
		r = k3sup__digest_update(digest, kept->text, kept->len);
	if (r == 0)
		r = k3sup__digest_finish(digest, kept->sha256);
	if (r < 0)
		return r == -ENOMEM ? r : damaged(op, name, "a file of it cannot be read");
	return k3sup__streq(kept->sha256, sha256) ? 0 : damaged(op, name, "a file of it is not what it was when it was kept");
}

int k3sup__tls_backup_read(k3sup_op *op, int dirfd, const char *name, struct k3sup__tls_files *ret, k3sup__json **ret_manifest)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	_close_ int fd = -1;
	const k3sup__json *files;
	int r;

	ret->count = 0;
	r = k3sup__tls_backup_manifest(op, dirfd, name, &manifest);
	if (r == 0)
		r = k3sup__digest_new(&digest);
	if (r < 0)
		return r;
	if (k3sup__json_number(manifest, "schema", 0) != SCHEMA)
		return damaged(op, name, "its manifest is of another version of this library");
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	files = k3sup__json_member(manifest, "files");
	if (fd < 0 || k3sup__json_len(files) == 0)
		return damaged(op, name, "it holds nothing");
	for (size_t i = 0; r == 0 && i < k3sup__json_len(files); i++)
		r = read_kept(op, fd, name, k3sup__json_element(files, i), digest, ret);
	if (r < 0) {
		k3sup__tls_files_clear(ret);
		return r;
	}
	*ret_manifest = manifest;
	manifest = NULL;
	return 0;
}

/* ---- pruning ---- */

/* First it loses its name: a backup that is half removed must not look like one. */
static int drop(k3sup_op *op, int dirfd, const char *name)
{
	_free_ char *doomed = k3sup__fmt(".%s", name);
	int r = doomed == NULL ? -ENOMEM : 0;

	if (r == 0 && renameat(dirfd, name, dirfd, doomed) < 0)
		r = k3sup__fail(op, -errno, "the backup %s cannot be removed: %s", name, k3sup_strerror(-errno));
	return r < 0 ? r : k3sup__tree_remove(op, dirfd, doomed);
}

static bool is_old(const char *name, int64_t since)
{
	int64_t seconds = 0;
	unsigned more;

	return parse_name(name, &seconds, &more) && seconds < since;
}

int k3sup__tls_backups_sweep(k3sup_op *op, int dirfd)
{
	struct k3sup__strv rest = {0};
	int r = list_names(op, dirfd, false, &rest);

	for (size_t i = 0; r >= 0 && i < rest.count; i++)
		r = k3sup__tree_remove(op, dirfd, rest.items[i]);
	k3sup__strv_clear(&rest);
	return r;
}

int k3sup__tls_backups_prune(k3sup_op *op, int dirfd, size_t keep, int64_t since, const struct k3sup__strv *spare)
{
	struct k3sup__strv complete = {0};
	int removed = 0, r = k3sup__tls_backups_sweep(op, dirfd);

	if (r >= 0)
		r = k3sup__tls_backups_list(op, dirfd, &complete);
	for (size_t i = 0; r >= 0 && i < complete.count; i++) {
		if ((i < keep && !is_old(complete.items[i], since)) || (spare != NULL && k3sup__strv_has(spare, complete.items[i])))
			continue;
		r = drop(op, dirfd, complete.items[i]);
		removed++;
	}
	k3sup__strv_clear(&complete);
	return r < 0 ? r : removed;
}
