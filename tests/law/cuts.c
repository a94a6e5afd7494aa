/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls with which the library changes files: each is a moment at which a run may be cut, and is noted until a sync has made it durable, so that a power cut can take back
 * what was not. Weaker than any file system that keeps its word: of each directory some of what was not synced is lost, the last first, and files that were not synced are empty.
 */
#include "law.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/journal.h"

void cut_now(void)
{
	_exit(EXIT_CUT);
}

bool point(void)
{
	if (!machine->counting)
		return false;
	if (machine->publications >= machine->stop_after) {
		for (unsigned i = 0; machine->durable && i < machine->steps_count; i++)
			machine->steps[i].synced = true;
		cut_now();
	}
	if (++machine->calls != machine->cut)
		return false;
	if (machine->half)
		return true;
	cut_now();
}

/* ---- what is not on disk yet ---- */

static ino_t ino_of(int fd, const char *name)
{
	struct stat st;

	if (name ? fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) : fstat(fd, &st))
		return 0;
	return st.st_ino;
}

static void path_of(int dirfd, const char *name, char ret[static 160])
{
	char fd[32], dir[160];
	ssize_t n;

	(void)snprintf(fd, sizeof(fd), "/proc/self/fd/%d", dirfd);
	n = name[0] == '/' ? -1 : readlink(fd, dir, sizeof(dir) - 1);
	dir[n < 0 ? 0 : n] = '\0';
	if (snprintf(ret, 160, "%s%s%s", dir, n < 0 ? "" : "/", name) >= 160)
		abort();
}

static struct step *note(enum step_kind kind, int dirfd, const char *name)
{
	struct step *step = &machine->steps[machine->steps_count];

	if (machine->steps_count == MOST_STEPS)
		abort();
	*step = (struct step){.kind = kind, .dir = ino_of(dirfd, NULL), .file = ino_of(dirfd, name)};
	path_of(dirfd, name, step->to);
	machine->steps_count++;
	return step;
}

static void shadow_path(const struct step *step, char ret[static 160])
{
	(void)snprintf(ret, 160, "%s/shadow/%td", machine->top, step - machine->steps);
}

int __real_linkat(int olddir, const char *oldname, int newdir, const char *newname, int flags);

/* Keeps the inode that is about to lose this name. */
static void shadow(struct step *step, int dirfd, const char *name)
{
	char path[160];

	shadow_path(step, path);
	step->shadowed = __real_linkat(dirfd, name, AT_FDCWD, path, 0) == 0;
}

void forget_steps(void)
{
	for (unsigned i = 0; i < machine->steps_count; i++) {
		char path[160];

		shadow_path(&machine->steps[i], path);
		if (machine->steps[i].shadowed)
			(void)unlink(path);
	}
	machine->steps_count = 0;
}

static void take_back(const struct step *s)
{
	char path[160];

	shadow_path(s, path);
	switch (s->kind) {
	case CREATED:
	case LINKED:
		(void)unlink(s->to);
		break;
	case RENAMED:
		(void)rename(s->to, s->from);
		break;
	case MADE_DIR:
		node_remove(s->to);
		break;
	case REMOVED_DIR:
		(void)mkdir(s->to, s->mode);
		break;
	case UNLINKED:
	case WRITTEN:
		break;
	}
	if (s->shadowed)
		(void)link(path, s->to);
}

static const struct step *torn;

static int tear(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type == FTW_F && st->st_ino == torn->file && st->st_size > torn->size)
		(void)!truncate(path, torn->size);
	return 0;
}

static unsigned mix(unsigned seed, uint64_t with)
{
	uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u ^ (with + 7) * 0xbf58476d1ce4e5b9u;

	x ^= x >> 31;
	x *= 0x94d049bb133111ebu;
	return (unsigned)(x >> 33);
}

/* How many of the unsynced steps of this directory stay? Half of the power cuts take all of them. */
static bool stays(unsigned lost, unsigned index)
{
	unsigned before = 0, all = 0, directory = 0;

	for (unsigned i = 0; i < machine->steps_count; i++) {
		bool counts =
			machine->steps[i].kind != WRITTEN && !machine->steps[i].synced && machine->steps[i].dir == machine->steps[index].dir;

		if (counts && all++ == 0)
			directory = i; /* known by what was done in it first: numbers of inodes are others each time */
		before += counts && i < index;
	}
	return lost % 2 == 1 && before < mix(lost, directory) % (all + 1);
}

void lose(unsigned lost)
{
	for (unsigned i = machine->steps_count; i-- > 0;) {
		struct step *s = &machine->steps[i];

		if (s->synced)
			continue;
		torn = s;
		if (s->kind == WRITTEN)
			(void)nftw(machine->root, tear, 16, FTW_PHYS);
		else if (!stays(lost, i))
			take_back(s);
	}
	forget_steps();
}

static void synced(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	for (unsigned i = 0; i < machine->steps_count; i++) {
		struct step *s = &machine->steps[i];

		if (S_ISDIR(st.st_mode) ? s->kind != WRITTEN && s->dir == st.st_ino : s->kind == WRITTEN && s->file == st.st_ino)
			s->synced = true;
	}
}

/* Bytes are about to change: until the next sync only what was there before is on disk. */
static void dirty(int fd)
{
	struct stat st;

	if (!machine->logging || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	for (unsigned i = 0; i < machine->steps_count; i++)
		if (machine->steps[i].kind == WRITTEN && machine->steps[i].file == st.st_ino && !machine->steps[i].synced)
			return;
	if (machine->steps_count == MOST_STEPS)
		abort();
	machine->steps[machine->steps_count++] = (struct step){.kind = WRITTEN, .file = st.st_ino, .size = st.st_size};
}

/* ---- the calls ---- */

int __real_openat64(int dirfd, const char *path, int flags, ...);
int __wrap_openat64(int dirfd, const char *path, int flags, ...);
int __real_renameat(int olddir, const char *oldname, int newdir, const char *newname);
int __real_k3sup__journal_append(k3sup_op *op, int dirfd, k3sup__json *record);
int __wrap_k3sup__journal_append(k3sup_op *op, int dirfd, k3sup__json *record);

/* What is recorded stays, too, and the next run goes by it. */
int __wrap_k3sup__journal_append(k3sup_op *op, int dirfd, k3sup__json *record)
{
	int r = __real_k3sup__journal_append(op, dirfd, record);

	machine->publications += r >= 0;
	return r;
}

int __wrap_renameat(int olddir, const char *oldname, int newdir, const char *newname);
int __wrap_linkat(int olddir, const char *oldname, int newdir, const char *newname, int flags);
int __real_unlinkat(int dirfd, const char *name, int flags);
int __wrap_unlinkat(int dirfd, const char *name, int flags);
int __real_symlinkat(const char *text, int dirfd, const char *name);
int __wrap_symlinkat(const char *text, int dirfd, const char *name);
int __real_mkdirat(int dirfd, const char *name, mode_t mode);
int __wrap_mkdirat(int dirfd, const char *name, mode_t mode);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __real_pwrite64(int fd, const void *data, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t at);
int __real_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __real_fchown(int fd, uid_t uid, gid_t gid);
int __wrap_fchown(int fd, uid_t uid, gid_t gid);
int __real_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags);
int __wrap_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags);
int __real_futimens(int fd, const struct timespec times[2]);
int __wrap_futimens(int fd, const struct timespec times[2]);

int __wrap_openat64(int dirfd, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;
	ino_t there;
	int fd;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (!(flags & (O_CREAT | O_TRUNC)) || !machine->counting)
		return __real_openat64(dirfd, path, flags, mode);
	(void)point();
	there = ino_of(dirfd, path);
	fd = __real_openat64(dirfd, path, flags, mode);
	if (fd >= 0 && there == 0 && machine->logging)
		(void)note(CREATED, dirfd, path);
	return fd;
}

/* Names that stay: not a temp's, nor one in a backup that was cut before it had its own. */
static void count_publication(int dirfd, const char *name)
{
	char path[160];

	path_of(dirfd, name, path);
	if (name[0] != '.' && strcmp(name, "journal") != 0 && !strstr(path, "/.tls-"))
		machine->publications++;
}

/* Known mistakes that are made here. 1: made, and nothing else is to be done. */
static int rename_wrongly(int newdir, const char *newname)
{
	if (machine->mutant == RENAME_BY_UNLINK && ino_of(newdir, newname) != 0) {
		(void)__wrap_unlinkat(newdir, newname, 0);
		(void)point();
	}
	return 0;
}

int __wrap_renameat(int olddir, const char *oldname, int newdir, const char *newname)
{
	struct step *step = NULL;
	bool same;
	int r;

	if (!machine->counting)
		return __real_renameat(olddir, oldname, newdir, newname);
	(void)point();
	(void)rename_wrongly(newdir, newname);
	same = ino_of(olddir, oldname) == ino_of(newdir, newname);
	if (machine->logging && !same) {
		step = note(RENAMED, newdir, newname);
		path_of(olddir, oldname, step->from);
		shadow(step, newdir, newname);
	}
	r = __real_renameat(olddir, oldname, newdir, newname);
	if (r == 0)
		count_publication(newdir, newname);
	if (r < 0 && step)
		step->synced = true;
	return r;
}

int __wrap_linkat(int olddir, const char *oldname, int newdir, const char *newname, int flags)
{
	int r;

	if (!machine->counting)
		return __real_linkat(olddir, oldname, newdir, newname, flags);
	(void)point();
	r = __real_linkat(olddir, oldname, newdir, newname, flags);
	if (r == 0)
		count_publication(newdir, newname);
	if (r == 0 && machine->logging)
		(void)note(LINKED, newdir, newname);
	return r;
}

/* server.key for server.crt, and the other way round. */
static void swap_kind(const char *name, char ret[static 160])
{
	size_t len = strlen(name);

	(void)snprintf(ret, 160, "%s", name);
	if (len > 4 && strcmp(name + len - 4, ".key") == 0)
		memcpy(ret + len - 4, ".crt", 4);
	else if (len > 4 && strcmp(name + len - 4, ".crt") == 0)
		memcpy(ret + len - 4, ".key", 4);
}

int __wrap_unlinkat(int dirfd, const char *name, int flags)
{
	struct step *step = NULL;
	char other[160];
	struct stat st;
	int r;

	if (!machine->counting)
		return __real_unlinkat(dirfd, name, flags);
	(void)point();
	if (machine->mutant == CERTIFICATE_FIRST) {
		swap_kind(name, other);
		name = other;
	}
	if (machine->logging && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		step = note(flags & AT_REMOVEDIR ? REMOVED_DIR : UNLINKED, dirfd, name);
		step->mode = st.st_mode & 07777;
		if (!(flags & AT_REMOVEDIR))
			shadow(step, dirfd, name);
	}
	r = __real_unlinkat(dirfd, name, flags);
	if (r == 0)
		count_publication(dirfd, name);
	if (r < 0 && step)
		step->synced = true;
	return r;
}

int __wrap_symlinkat(const char *text, int dirfd, const char *name)
{
	int r;

	(void)point();
	r = __real_symlinkat(text, dirfd, name);
	if (r == 0 && machine->logging && machine->counting)
		(void)note(CREATED, dirfd, name);
	return r;
}

int __wrap_mkdirat(int dirfd, const char *name, mode_t mode)
{
	int r;

	(void)point();
	r = __real_mkdirat(dirfd, name, mode);
	if (r == 0 && machine->logging && machine->counting)
		(void)note(MADE_DIR, dirfd, name);
	return r;
}

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
	bool half = point();

	dirty(fd);
	if (half) {
		(void)!__real_write(fd, data, len / 2);
		cut_now();
	}
	return __real_write(fd, data, len);
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t at)
{
	bool half = point();

	dirty(fd);
	if (half) {
		(void)!__real_pwrite64(fd, data, len / 2, at);
		cut_now();
	}
	return __real_pwrite64(fd, data, len, at);
}

int __wrap_ftruncate64(int fd, off_t len)
{
	(void)point();
	dirty(fd);
	return __real_ftruncate64(fd, len);
}

/* Real syncs would only cost time: nobody cuts this machine's power. */
int __wrap_fsync(int fd)
{
	struct stat st;

	if (!machine->counting)
		return __real_fsync(fd);
	(void)point();
	if (fstat(fd, &st) < 0)
		return -1;
	if (machine->mutant != (S_ISDIR(st.st_mode) ? NO_DIR_SYNC : NO_FILE_SYNC))
		synced(fd);
	return 0;
}

int __wrap_fchmod(int fd, mode_t mode)
{
	(void)point();
	return __real_fchmod(fd, mode);
}

int __wrap_fchown(int fd, uid_t uid, gid_t gid)
{
	(void)point();
	return __real_fchown(fd, uid, gid);
}

int __wrap_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	(void)point();
	return __real_fsetxattr(fd, name, value, size, flags);
}

int __wrap_futimens(int fd, const struct timespec times[2])
{
	(void)point();
	return __real_futimens(fd, times);
}
