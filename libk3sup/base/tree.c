/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/durable.h"

#define DEEPEST 8

static int open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The directory of a path below fd, made if it is missing. */
static int make_dirs(int fd, const char *path, const char **ret_name)
{
	int at = open_dir(fd, ".");

	for (const char *slash; at >= 0 && (slash = strchr(path, '/')) != NULL; path = slash + 1) {
		_free_ char *name = k3sup__fmt("%.*s", (int)(slash - path), path);
		int next = -ENOMEM;

		if (name != NULL && (mkdirat(at, name, 0700) == 0 || errno == EEXIST))
			next = open_dir(at, name);
		else if (name != NULL)
			next = -errno;
		(void)k3sup__close(at);
		at = next;
	}
	*ret_name = path;
	return at;
}

int k3sup__tree_write(k3sup_op *op, int fd, const char *path, const void *content, size_t len)
{
	const char *name = path;
	_close_ int dir = make_dirs(fd, path, &name), file = -1;
	int r = dir < 0 ? dir : 0;

	if (r == 0) {
		file = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		r = file < 0 ? -errno : k3sup__write_full(file, content, len);
	}
	if (r >= 0)
		r = k3sup__sync_fd(file);
	return r < 0 ? k3sup__fail(op, r, "the copy of %s cannot be written: %s", path, k3sup_strerror(r)) : 0;
}

/* Calls fn for each entry; stops at the first failure. */
static int each(int dirfd, int (*fn)(int dirfd, const char *name, unsigned depth), unsigned depth)
{
	int fd = open_dir(dirfd, "."), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (dir == NULL) {
		r = fd < 0 ? fd : -errno;
		(void)k3sup__close(fd);
		return r;
	}
	while (r >= 0 && (entry = readdir(dir)) != NULL)
		if (!k3sup__streq(entry->d_name, ".") && !k3sup__streq(entry->d_name, ".."))
			r = fn(dirfd, entry->d_name, depth);
	(void)closedir(dir);
	return r;
}

static int sync_entry(int dirfd, const char *name, unsigned depth)
{
	_close_ int fd = open_dir(dirfd, name);
	int r;

	if (fd == -ENOTDIR || fd == -ELOOP)
		return 0;
	if (fd < 0 || depth == DEEPEST)
		return fd < 0 ? fd : -ELOOP;
	r = each(fd, sync_entry, depth + 1);
	return r < 0 ? r : k3sup__sync_fd(fd);
}

int k3sup__tree_sync(k3sup_op *op, int fd)
{
	int r = each(fd, sync_entry, 0);

	if (r >= 0)
		r = k3sup__sync_fd(fd);
	return r < 0 ? k3sup__fail(op, r, "a tree of files cannot be put on disk: %s", k3sup_strerror(r)) : 0;
}

static int remove_entry(int dirfd, const char *name, unsigned depth)
{
	_close_ int fd = -1;
	int r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = open_dir(dirfd, name);
	if (fd < 0 || depth == DEEPEST)
		return fd < 0 ? fd : -ELOOP;
	r = each(fd, remove_entry, depth + 1);
	if (r >= 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}

int k3sup__tree_remove(k3sup_op *op, int dirfd, const char *name)
{
	int r = remove_entry(dirfd, name, 0);

	if (r >= 0)
		r = k3sup__sync_dir(dirfd);
	return r < 0 ? k3sup__fail(op, r, "%s cannot be removed: %s", name, k3sup_strerror(r)) : 0;
}
