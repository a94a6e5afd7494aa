/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups, and what they open: the library's calls of openat(2) are led here by the linker. */
#include "foreign.h"

unsigned long opens, opens_outside;
static const char *watched;

int __real_openat64(int dirfd, const char *path, int flags, ...);
int __wrap_openat64(int dirfd, const char *path, int flags, mode_t mode);

static bool is_inside(int fd)
{
	char name[32], path[PATH_MAX];
	size_t len = strlen(watched);
	ssize_t n;

	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return strncmp(path, watched, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

int __wrap_openat64(int dirfd, const char *path, int flags, mode_t mode)
{
	int fd = __real_openat64(dirfd, path, flags, mode);

	if (watched && fd >= 0) {
		opens++;
		opens_outside += !is_inside(fd);
	}
	return fd;
}

void opens_watch(const char *inside)
{
	watched = inside;
}

int look_ours(const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret)
{
	return k3sup__root_find(NULL, root, path, flags, ret);
}

/* As scripts do it: the root's path in front, and the kernel follows whatever is there. */
int look_naive(const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret)
{
	int fd = openat(root->fd, path + strspn(path, "/"), O_PATH | O_CLOEXEC | (flags & K3SUP__NOFOLLOW ? O_NOFOLLOW : 0));

	*ret = K3SUP__PLACE_NONE;
	if (fd < 0)
		return -errno;
	ret->fd = fd;
	return fstat(fd, &ret->st) < 0 ? -errno : 0;
}
