/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Controls for every_syscall.py: ways to replace a binary that reach the goal when nothing goes wrong, each with one mistake that must be caught.
 *
 *   driver-inplace MISTAKE ROOT K3S PAYLOAD
 *
 *   inplace  no temp: the payload is copied over the target
 *   gap      the target is renamed to the backup, then the temp to the target: for a moment there is no k3s
 *   late     the backup goes before the rename, and comes back after it
 *   lazy     the directory is never synced
 *   hasty    the temp is not synced before it gets its name
 *   litter   temps have the pid in their name, and nobody removes those of a cut run
 *   deaf     what fsync says is not heard
 *   none     no mistake: must not be caught
 *   visible  (puts images in place) temps lie in agent/images, where k3s would import them
 *
 * Backup first, by a temp of its own; then the target.
 *
 * Exit status as driver-swap's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BACKUP "k3s.k3sup-backup"
#define XATTR "trusted.k3sup" /* the one that every_syscall.py gives the target */

static const char *mistake;
static char *buffer;
static const size_t room = (size_t)16 << 20;

static bool is(const char *name)
{
	return strcmp(mistake, name) == 0;
}

static ssize_t slurp(int fd)
{
	size_t len = 0;
	ssize_t n;

	while ((n = pread(fd, buffer + len, room - len, (off_t)len)) > 0)
		len += (size_t)n;
	return n < 0 ? -1 : (ssize_t)len;
}

static int sync_fd(int fd)
{
	return fsync(fd) < 0 && !is("deaf") ? -1 : 0;
}

static int sync_dir(int fd)
{
	return is("lazy") ? 0 : sync_fd(fd);
}

static int dress(int fd, const struct stat *like, const char *value, ssize_t len)
{
	if (fchown(fd, like->st_uid, like->st_gid) < 0 || fchmod(fd, like->st_mode & 07777) < 0)
		return -1;
	return fsetxattr(fd, XATTR, value, (size_t)len, 0);
}

/* Content and attributes of one file into another, which is made or overwritten. */
static int copy(int dirfd, int from, int like_fd, const char *name, int how)
{
	struct stat like;
	char value[64];
	ssize_t content = slurp(from), xattr = fgetxattr(like_fd, XATTR, value, sizeof(value));
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | how, 0600), r = -1;

	if (content >= 0 && xattr >= 0 && fd >= 0 && fstat(like_fd, &like) == 0 && write(fd, buffer, (size_t)content) == content &&
		dress(fd, &like, value, xattr) == 0)
		r = is("hasty") ? 0 : sync_fd(fd);
	if (fd >= 0)
		close(fd);
	return r;
}

static int sweep(int dirfd)
{
	DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const struct dirent *entry;

	if (!dir)
		return -1;
	while ((entry = readdir(dir)))
		if (strncmp(entry->d_name, ".k3s.", 5) == 0 && !is("litter"))
			(void)unlinkat(dirfd, entry->d_name, 0);
	return closedir(dir);
}

/* 1 if the first file has the second one's content. */
static int same(int a, int b)
{
	ssize_t len = slurp(a), other;
	char *copy_of = len < 0 ? NULL : malloc((size_t)len + 1);
	int r = -1;

	if (copy_of) {
		memcpy(copy_of, buffer, (size_t)len);
		other = slurp(b);
		r = other < 0 ? -1 : other == len && memcmp(copy_of, buffer, (size_t)len) == 0;
	}
	free(copy_of);
	return r;
}

static int publish(int dirfd, const char *temp, int payload, int old)
{
	if (copy(dirfd, old, old, temp, O_EXCL) < 0 || renameat(dirfd, temp, dirfd, BACKUP) < 0)
		return -1;
	if (is("inplace"))
		return copy(dirfd, payload, old, "k3s", O_TRUNC);
	if (copy(dirfd, payload, old, temp, O_EXCL) < 0 || sync_dir(dirfd) < 0)
		return -1;
	if (is("gap") && renameat(dirfd, "k3s", dirfd, BACKUP) < 0)
		return -1;
	if (is("late") && unlinkat(dirfd, BACKUP, 0) < 0)
		return -1;
	if (renameat(dirfd, temp, dirfd, "k3s") < 0)
		return -1;
	if (is("late") && copy(dirfd, old, old, BACKUP, O_EXCL) < 0)
		return -1;
	return sync_dir(dirfd);
}

static int replace(int dirfd, int payload, int old)
{
	char temp[64];
	int r;

	snprintf(temp, sizeof(temp), is("litter") ? ".k3s.%d" : ".k3s.new", (int)getpid());
	r = publish(dirfd, temp, payload, old);
	if (r < 0)
		(void)unlinkat(dirfd, temp, 0);
	return r;
}

static int run(char **argv)
{
	char path[4096];
	int dirfd, payload = open(argv[4], O_RDONLY | O_CLOEXEC), old, r;

	snprintf(path, sizeof(path), "%s/usr/local/bin", argv[2]);
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 || payload < 0 || sweep(dirfd) < 0)
		return 1;
	old = openat(dirfd, "k3s", O_RDONLY | O_CLOEXEC);
	r = old < 0 ? -1 : same(old, payload);
	if (r != 0)
		return r < 0 ? 1 : 0;
	return replace(dirfd, payload, old) < 0 ? 1 : 10;
}

/* ---- images ---- */

static int make(int dirfd, int from, const char *name)
{
	ssize_t content = slurp(from);
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_EXCL, 0644), r = -1;

	if (content >= 0 && fd >= 0 && write(fd, buffer, (size_t)content) == content)
		r = fsync(fd);
	if (fd >= 0)
		close(fd);
	return r;
}

/* 1 if it had to be done, 0, -1. */
static int place(int dirfd, const char *source, const char *name)
{
	int from = open(source, O_RDONLY | O_CLOEXEC), old = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	char temp[80];

	if (from < 0)
		return -1;
	if (old >= 0 && same(old, from) == 1)
		return 0;
	snprintf(temp, sizeof(temp), ".%s.new.tar", name);
	(void)unlinkat(dirfd, temp, 0);
	if ((old >= 0 ? copy(dirfd, from, old, temp, O_EXCL) : make(dirfd, from, temp)) < 0 || renameat(dirfd, temp, dirfd, name) < 0)
		return -1;
	return fsync(dirfd) < 0 ? -1 : 1;
}

static int run_images(char **argv)
{
	char path[4096], more[4096];
	int dirfd, a, b;

	snprintf(path, sizeof(path), "%s/var/lib/rancher/k3s/agent/images", argv[2]);
	snprintf(more, sizeof(more), "%s.more.tar", argv[4]);
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	a = dirfd < 0 ? -1 : place(dirfd, argv[4], strrchr(argv[4], '/') + 1);
	b = a < 0 ? -1 : place(dirfd, more, strrchr(more, '/') + 1);
	return b < 0 ? 1 : a + b > 0 ? 10 : 0;
}

int main(int argc, char **argv)
{
	int r;

	if (argc != 5)
		return 2;
	mistake = argv[1];
	buffer = malloc(room);
	if (!buffer || write(-1, "begin", 5) >= 0)
		return 2;
	r = is("visible") ? run_images(argv) : run(argv);
	printf("%d %s\n", r, strerror(r == 1 ? errno : 0));
	return r;
}
