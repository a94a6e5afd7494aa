/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/removable.h"

#include <sys/statvfs.h>

#include "base/attrs.h"

static int refuse(struct k3sup__live *live, int code, const char *path, const char *why)
{
	return k3sup__fail(live->op, code, "%s/%s could not be removed: %s", live->where->data_dir, path, why);
}

static int look_at_dir(struct k3sup__live *live, const char *path, int dirfd)
{
	struct statvfs vfs;

	if (fstatvfs(dirfd, &vfs) == 0 && (vfs.f_flag & ST_RDONLY) != 0)
		return refuse(live, K3SUP_E_TARGET_READONLY, path, "its file system is mounted read-only");
	if (k3sup__is_immutable(dirfd, "") == 1)
		return refuse(live, K3SUP_E_TARGET_IMMUTABLE, path, "its directory is marked as immutable or append-only (chattr)");
	return 0;
}

static int look_at_file(struct k3sup__live *live, const char *path, int dirfd)
{
	const char *name = strrchr(path, '/') + 1;

	if (k3sup__is_immutable(dirfd, name) == 1)
		return refuse(live, K3SUP_E_TARGET_IMMUTABLE, path, "it is marked as immutable or append-only (chattr)");
	if (k3sup__is_mount_point(dirfd, name))
		return refuse(live, K3SUP_E_TARGET_MOUNTED, path, "it is a mount of its own");
	return 0;
}

int k3sup__live_removable(struct k3sup__live *live)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place dir = K3SUP__PLACE_NONE;
	const char *last = NULL; /* the file whose directory is open */
	int r = 0;

	for (size_t i = 0; r >= 0 && i < live->files.count; i++) {
		const char *path = live->files.list[i].path;
		size_t len = (size_t)(strrchr(path, '/') + 1 - path);

		if (last == NULL || strncmp(last, path, len) != 0 || strchr(last + len, '/') != NULL) {
			k3sup__place_clear(&dir);
			dir = K3SUP__PLACE_NONE;
			r = k3sup__live_find_dir(live, path, &dir);
			if (r >= 0)
				r = look_at_dir(live, path, dir.fd);
			last = path;
		}
		if (r >= 0)
			r = look_at_file(live, path, dir.fd);
	}
	return r;
}
