/* SPDX-License-Identifier: Apache-2.0 */
#include "node/nodefile.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#define MAX_NAMES 4096

/* First without trust: that something is missing says nothing about who may write there. */
static int find(k3sup_op *op, const k3sup_node *node, const char *path, struct k3sup__place *ret)
{
	int r = k3sup__root_find(NULL, &node->root, path, 0, ret);

	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && ret->fd < 0))
		return -ENOENT;
	k3sup__place_clear(ret);
	r = k3sup__root_find(op, &node->root, path, node->trust_flags, ret);
	return r == 0 && ret->fd < 0 ? -ENOENT : r;
}

static int read_all(const struct k3sup__place *place, size_t max, struct k3sup__nodefile *ret)
{
	_close_ int fd = k3sup__place_open(place, O_RDONLY);
	size_t room = 4096;

	if (fd < 0)
		return fd;
	if (fstat(fd, &ret->st) < 0)
		return -errno;
	for (;;) {
		char *bigger = realloc(ret->text, room + 1);
		ssize_t n;

		if (bigger == NULL)
			return -ENOMEM;
		ret->text = bigger;
		n = k3sup__read_full(fd, bigger + ret->len, room - ret->len);
		if (n < 0)
			return (int)n;
		ret->len += (size_t)n;
		if (ret->len > max)
			return -EFBIG;
		if (ret->len < room)
			break;
		room *= 2;
	}
	ret->text[ret->len] = '\0';
	return 0;
}

int k3sup__nodefile_read(k3sup_op *op, const k3sup_node *node, const char *path, size_t max, struct k3sup__nodefile *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	struct k3sup__nodefile file = {.len = 0};
	int r = find(op, node, path, &place);

	if (r == -ENOENT)
		return r;
	if (r == 0 && S_ISDIR(place.st.st_mode))
		r = -EISDIR;
	else if (r == 0 && !S_ISREG(place.st.st_mode))
		return k3sup__fail(op, -EINVAL, "%s is not a regular file", path);
	if (r == 0)
		r = read_all(&place, max, &file);
	if (r < 0) {
		k3sup__nodefile_clear(&file);
		return k3sup__fail(op, r, "%s cannot be read: %s", path, k3sup_strerror(r));
	}
	file.path = place.path;
	place.path = NULL;
	*ret = file;
	return 0;
}

void k3sup__nodefile_clear(struct k3sup__nodefile *file)
{
	free(file->text);
	free(file->path);
	*file = (struct k3sup__nodefile){0};
}

static int list(DIR *dir, bool (*want)(const char *name), struct k3sup__strv *ret)
{
	struct dirent *entry;
	int r = 0;

	for (errno = 0; r == 0 && (entry = readdir(dir)) != NULL; errno = 0) {
		if (k3sup__streq(entry->d_name, ".") || k3sup__streq(entry->d_name, "..") || (want != NULL && !want(entry->d_name)))
			continue;
		r = ret->count == MAX_NAMES ? -E2BIG : k3sup__strv_add_copy(ret, entry->d_name, strlen(entry->d_name));
	}
	return r < 0 ? r : -errno;
}

int k3sup__nodedir_list(k3sup_op *op, const k3sup_node *node, const char *path, bool (*want)(const char *name), struct k3sup__strv *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	struct k3sup__strv names = {0};
	DIR *dir = NULL;
	int fd = -1, r = find(op, node, path, &place);

	if (r == -ENOENT)
		return r;
	if (r == 0)
		fd = r = k3sup__place_open(&place, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && (dir = fdopendir(fd)) == NULL) {
		r = -errno;
		(void)k3sup__close(fd);
	}
	if (dir != NULL) {
		r = list(dir, want, &names);
		(void)closedir(dir);
	}
	if (r < 0) {
		k3sup__strv_clear(&names);
		return k3sup__fail(op, r, "%s cannot be read: %s", path, k3sup_strerror(r));
	}
	k3sup__strv_sort(&names);
	*ret = names;
	return 0;
}
