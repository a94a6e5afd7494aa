/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files, by whole contents.
 */
#include "law.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void need(bool condition, const char *what)
{
	if (condition)
		return;
	perror(what);
	abort();
}

char *at(const char *path)
{
	char *whole = k3sup__fmt("%s%s", machine->root, path);

	need(whole != NULL, "memory");
	return whole;
}

/* With nothing at it if there is none. */
struct file read_whole(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct file f = {0};
	struct stat st;

	if (fd < 0)
		return f;
	need(fstat(fd, &st) == 0, path);
	f.at = calloc(1, (size_t)st.st_size + 1);
	need(f.at != NULL, "memory");
	if (S_ISREG(st.st_mode))
		f.len = (size_t)read(fd, f.at, (size_t)st.st_size);
	close(fd);
	return f;
}

void write_whole(const char *path, const struct file *f, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	need(fd >= 0 && write(fd, f->at, f->len) == (ssize_t)f->len && fchmod(fd, mode) == 0, path);
	close(fd);
}

void write_text(const char *path, const char *text, mode_t mode)
{
	struct file f = {(unsigned char *)(uintptr_t)text, strlen(text)};

	write_whole(path, &f, mode);
}

void make_dirs_of(const char *path)
{
	_free_ char *dir = strdup(path);

	need(dir != NULL, "memory");
	for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		need(mkdir(dir, 0755) == 0 || errno == EEXIST, dir);
		*slash = '/';
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void node_remove(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

bool same_file(const char *a, const char *b)
{
	struct file first = read_whole(a), second = read_whole(b);
	bool same = first.at && second.at && first.len == second.len && memcmp(first.at, second.at, first.len) == 0;

	free(first.at);
	free(second.at);
	return same;
}

static int copy_one(const char *from, const char *to)
{
	struct stat st;
	struct file f;

	need(lstat(from, &st) == 0, from);
	if (S_ISDIR(st.st_mode))
		return mkdir(to, st.st_mode & 07777);
	if (S_ISLNK(st.st_mode)) {
		char link[256] = "";

		return readlink(from, link, sizeof(link) - 1) < 0 ? -1 : symlink(link, to);
	}
	f = read_whole(from);
	write_whole(to, &f, st.st_mode & 07777);
	free(f.at);
	return 0;
}

static char copy_from[160], copy_to[160];

static int copy_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	_free_ char *to = k3sup__fmt("%s%s", copy_to, path + strlen(copy_from));

	(void)st;
	(void)type;
	(void)ftw;
	return to && (copy_one(path, to) == 0 || errno == EEXIST) ? 0 : -1;
}

void copy_tree(const char *from, const char *to)
{
	(void)snprintf(copy_from, sizeof(copy_from), "%s", from);
	(void)snprintf(copy_to, sizeof(copy_to), "%s", to);
	need(nftw(from, copy_entry, 16, FTW_PHYS) == 0, from);
}
