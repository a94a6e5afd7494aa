/* SPDX-License-Identifier: Apache-2.0 */
/* The live leafs and their backups: which one holds them, and which are not needed any more. */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/strv.h"
#include "certs/live.h"

/* ---- keeping ---- */

/* Are all live files in this backup, with these bytes, and was it made under the same authorities? */
static bool holds(k3sup_op *op, int backups, const char *name, const struct k3sup__live *live)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	struct k3sup__tls_files kepts = {.count = 0};
	bool all = k3sup__tls_backup_read(op, backups, name, &kepts, &manifest) == 0;

	if (!all)
		k3sup__op_forgive(op);
	for (size_t i = 0; all && i < live->files.count; i++) {
		const struct k3sup__tls_file *kept = k3sup__tls_files_find(&kepts, live->files.list[i].path);

		all = kept != NULL && k3sup__streq(kept->sha256, live->files.list[i].sha256);
	}
	k3sup__tls_files_clear(&kepts);
	return all;
}

/*
 * A run that was cut has taken some of them away: what is left is in the backup that it made, together with what is gone. So one that holds them is as good as a new one, and
 * better than one of half the leafs.
 */
int k3sup__live_keep(struct k3sup__live *live, int backups, char **ret_name, bool *ret_made)
{
	struct k3sup__strv names = {0};
	int r = live->files.count > 0 ? k3sup__tls_backups_list(live->op, backups, &names) : 0;

	*ret_name = NULL;
	*ret_made = false;
	for (size_t i = 0; r == 0 && *ret_name == NULL && i < names.count; i++)
		if (holds(live->op, backups, names.items[i], live) && (*ret_name = strdup(names.items[i])) == NULL)
			r = -ENOMEM;
	if (r == 0 && *ret_name == NULL && live->files.count > 0) {
		*ret_made = true;
		r = k3sup__tls_backup_make(live->op, backups, &live->files, live->authorities, (int64_t)time(NULL), ret_name);
	}
	k3sup__strv_clear(&names);
	return r;
}

/* ---- not keeping for ever ---- */

static int is_gone(const struct k3sup__live *live, const char *path)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place dir = K3SUP__PLACE_NONE;
	int r = k3sup__live_find_dir(live, path, &dir);

	if (r == 0 && faccessat(dir.fd, strrchr(path, '/') + 1, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r == -ENOENT ? 1 : r < 0 ? r : 0;
}

/* 1: it holds a key that is neither live nor among those seen in newer ones; adds what it holds to these */
static int is_needed(struct k3sup__live *live, int backups, const char *name, struct k3sup__strv *seen)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	int r = k3sup__tls_backup_manifest(live->op, backups, name, &manifest), needed = 0;
	const k3sup__json *files = k3sup__json_member(manifest, "files");

	if (r == K3SUP_E_BACKUP) { /* nothing can be had from it */
		k3sup__op_forgive(live->op);
		return 0;
	}
	for (size_t i = 0; r >= 0 && i < k3sup__json_len(files); i++) {
		const char *path = k3sup__json_text(k3sup__json_element(files, i), "path");

		if (path == NULL || strchr(path, '/') == NULL || !k3sup__endswith(path, ".key") || k3sup__strv_has(seen, path))
			continue;
		r = is_gone(live, path);
		needed |= r == 1;
		if (r >= 0)
			r = k3sup__strv_add_copy(seen, path, strlen(path));
	}
	return r < 0 ? r : needed;
}

int k3sup__live_prune(struct k3sup__live *live, int backups, size_t keep, int64_t since, const char *name)
{
	struct k3sup__strv names = {0}, seen = {0}, spare = {0};
	int r = k3sup__tls_backups_list(live->op, backups, &names);

	if (r >= 0 && name != NULL)
		r = is_needed(live, backups, name, &seen);
	if (r >= 0 && name != NULL)
		r = k3sup__strv_add_copy(&spare, name, strlen(name));
	for (size_t i = 0; r >= 0 && i < names.count; i++) {
		r = is_needed(live, backups, names.items[i], &seen);
		if (r == 1)
			r = k3sup__strv_add_copy(&spare, names.items[i], strlen(names.items[i]));
	}
	if (r >= 0)
		r = k3sup__tls_backups_prune(live->op, backups, keep, since, &spare);
	k3sup__strv_clear(&names);
	k3sup__strv_clear(&seen);
	k3sup__strv_clear(&spare);
	return r;
}
