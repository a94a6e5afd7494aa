/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who uses what is unpacked? Containers' shims are executed from there and call their runc there, for as long as the container lives; they have long forgotten the k3s that
 * started them. What has their program in there, by its path or as one of the files, counts; so does a mount that names the directory.
 */
#include "swap/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/procscan.h"

#define DEEPEST 4
#define MOUNTS_MOST ((size_t)16 << 20)

struct user_scan {
	const k3sup_node *node;
	const char *hash;
	dev_t dev;
	ino_t *files; /* the regular files below the directory */
	size_t count, allocated;
	struct stat *namespaces; /* the mount namespaces that were looked into */
	size_t n_namespaces, n_allocated;
	bool denied;
	char *who;
};

static void scan_clear(struct user_scan *scan)
{
	free(scan->files);
	free(scan->namespaces);
	free(scan->who);
}

static int grow(void *list, size_t *allocated, size_t count, size_t size)
{
	void *bigger, **at = list;

	if (count < *allocated)
		return 0;
	bigger = reallocarray(*at, *allocated * 2 + 32, size);
	if (bigger == NULL)
		return -ENOMEM;
	*at = bigger;
	*allocated = *allocated * 2 + 32;
	return 0;
}

/* Calls fn for each entry of a directory until it does not come back with 0. */
static int each(int dirfd, const char *path, int (*fn)(struct user_scan *scan, int fd, const char *name, unsigned depth),
	struct user_scan *scan, unsigned depth)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (dir == NULL) {
		r = -errno;
		(void)k3sup__close(fd);
		return r;
	}
	for (errno = 0; r == 0 && (entry = readdir(dir)) != NULL; errno = 0)
		if (!k3sup__streq(entry->d_name, ".") && !k3sup__streq(entry->d_name, ".."))
			r = fn(scan, fd, entry->d_name, depth);
	if (r == 0 && errno != 0)
		r = -errno;
	(void)closedir(dir);
	return r;
}

/* ---- which files ---- */

static int add_file(struct user_scan *scan, int fd, const char *name, unsigned depth)
{
	struct stat st;
	int r;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return depth < DEEPEST ? each(fd, name, add_file, scan, depth + 1) : 0;
	if (!S_ISREG(st.st_mode))
		return 0;
	r = grow(&scan->files, &scan->allocated, scan->count, sizeof(*scan->files));
	if (r == 0)
		scan->files[scan->count++] = st.st_ino;
	return r;
}

static bool is_file(const struct user_scan *scan, const struct stat *st)
{
	for (size_t i = 0; st->st_dev == scan->dev && i < scan->count; i++)
		if (scan->files[i] == st->st_ino)
			return true;
	return false;
}

/* ---- which processes ---- */

static int found(struct user_scan *scan, const char *name, const char *what)
{
	scan->who = k3sup__fmt("process %s %s", name, what);
	return scan->who != NULL ? 1 : -ENOMEM;
}

static bool is_gone(int error)
{
	return error == ENOENT || error == ESRCH;
}

static int look_at_program(struct user_scan *scan, const char *name)
{
	_free_ char *text = malloc(K3SUP__LINK_MAX), *link = k3sup__fmt("%s/exe", name), *part = k3sup__fmt("/%s/", scan->hash);
	struct stat st;
	int r;

	if (text == NULL || link == NULL || part == NULL)
		return -ENOMEM;
	r = k3sup__proc_exe(scan->node->proc_fd, (pid_t)strtol(name, NULL, 10), text);
	scan->denied |= r == -EACCES || r == -EPERM;
	if (r < 0) /* a kernel thread, or one that has just ended, else */
		return 0;
	if (strstr(text, part) != NULL)
		return found(scan, name, "runs a program of it");
	if (fstatat(scan->node->proc_fd, link, &st, 0) < 0) {
		scan->denied |= !is_gone(errno);
		return 0;
	}
	return is_file(scan, &st) ? found(scan, name, "runs a program of it") : 0;
}

static bool is_known(struct user_scan *scan, const struct stat *ns)
{
	for (size_t i = 0; i < scan->n_namespaces; i++)
		if (scan->namespaces[i].st_ino == ns->st_ino && scan->namespaces[i].st_dev == ns->st_dev)
			return true;
	return false;
}

static int look_at_mounts(struct user_scan *scan, const char *name)
{
	_free_ char *ns = k3sup__fmt("%s/ns/mnt", name), *path = k3sup__fmt("%s/mountinfo", name), *text = NULL;
	struct stat st;
	int r = ns != NULL && path != NULL ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	if (fstatat(scan->node->proc_fd, ns, &st, 0) < 0) {
		scan->denied |= !is_gone(errno);
		return 0;
	}
	if (is_known(scan, &st))
		return 0;
	r = k3sup__read_file(scan->node->proc_fd, path, MOUNTS_MOST, &text, NULL);
	if (r == -ENOMEM)
		return r;
	scan->denied |= r < 0 && !is_gone(-r) && r != -EINVAL; /* EINVAL: a process that is ending has no mounts any more */
	if (r < 0)
		return 0;
	if (strstr(text, scan->hash) != NULL)
		return found(scan, name, "has a mount of it");
	r = grow(&scan->namespaces, &scan->n_allocated, scan->n_namespaces, sizeof(*scan->namespaces));
	if (r == 0)
		scan->namespaces[scan->n_namespaces++] = st;
	return r;
}

static int look_at_process(struct user_scan *scan, int fd, const char *name, unsigned depth)
{
	int r;

	(void)fd;
	(void)depth;
	if (name[0] < '1' || name[0] > '9')
		return 0;
	r = look_at_program(scan, name);
	return r == 0 ? look_at_mounts(scan, name) : r;
}

int k3sup__unpacked_used(const k3sup_node *node, int dirfd, const char *hash, char **ret_who)
{
	_cleanup_(scan_clear) struct user_scan scan = {.node = node, .hash = hash};
	struct stat st;
	int r = fstat(dirfd, &st) < 0 ? -errno : 0;

	scan.dev = st.st_dev;
	if (r == 0)
		r = each(dirfd, ".", add_file, &scan, 0);
	if (r == 0)
		r = each(node->proc_fd, ".", look_at_process, &scan, 0);
	if (r == 0 && scan.denied)
		return -EACCES;
	if (r > 0) {
		*ret_who = scan.who;
		scan.who = NULL;
	}
	return r;
}
