/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#define DEEPEST 16
#define MOST 100000 /* entries: a data/ has some hundred for each build */

struct walk {
	int64_t bytes;
	unsigned entries;
	bool incomplete;
};

static void walk(struct walk *w, int dirfd, const char *name, unsigned depth)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	struct stat st;

	if (!dir) {
		k3sup__close(fd);
		w->incomplete = true;
		return;
	}
	while ((entry = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
		if (k3sup__streq(entry->d_name, ".") || k3sup__streq(entry->d_name, ".."))
			continue;
		if (++w->entries > MOST || depth >= DEEPEST) {
			w->incomplete = true;
			break;
		}
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* it went away meanwhile */
		w->bytes += (int64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode))
			walk(w, fd, entry->d_name, depth + 1);
	}
	(void)closedir(dir);
}

int64_t k3sup__data_bytes(k3sup_node *node, const char *data_dir)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/data", data_dir);
	struct walk w = {0};

	if (!path || k3sup__root_find(NULL, &node->root, path, node->trust_flags, &place) < 0 || place.fd < 0 || !S_ISDIR(place.st.st_mode))
		return -1;
	walk(&w, place.fd, ".", 0);
	return w.incomplete ? -1 : w.bytes;
}
