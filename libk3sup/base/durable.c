/* SPDX-License-Identifier: Apache-2.0 */
#include "base/durable.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/attrs.h"

#define TEMP_DIGITS 8
#define TRIES 16

#ifndef STATX_ATTR_MOUNT_ROOT /* headers before 5.8 */
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif

/* How long somebody else may hold the staged file open for writing: long enough for a child between fork(2) and execve(2). */
#define WRITER_PATIENCE_MS 2000
#define WRITER_POLL_MS 10

/* Network file systems let a signal cut fsync(2) short. */
int k3sup__sync_fd(int fd)
{
	while (fsync(fd) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int k3sup__sync_dir(int dirfd)
{
	_close_ int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : k3sup__sync_fd(fd);
}

int k3sup__make_dir(k3sup_op *op, int dirfd, const char *name, mode_t mode, const char *shown)
{
	_close_ int fd = -1;
	int r = 0;

	if (mkdirat(dirfd, name, mode) < 0) {
		if (errno == EEXIST)
			return 0;
		r = -errno;
		return k3sup__fail(op, r, "cannot make the directory %s: %s", shown, k3sup_strerror(r));
	}
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* the host's umask may have taken our own bits, the parent may have passed on its set-group-id */
	if (fd < 0 || fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0)
		r = k3sup__sync_fd(fd);
	if (r == 0)
		r = k3sup__sync_dir(dirfd);
	return r < 0 ? k3sup__fail(op, r, "cannot make the directory %s durable: %s", shown, k3sup_strerror(r)) : 0;
}

/* ---- temps ---- */

/*
 * ".NAME.k3sup-tmp-"; a NAME that would make the temp's too long is cut, at a character of UTF-8: some file systems insist on
 * whole ones.
 */
static char *temp_prefix(const char *name)
{
	size_t len = strlen(name), most = NAME_MAX - strlen("." K3SUP__TEMP_MARK) - TEMP_DIGITS;

	if (len > most) {
		len = most;
		while (len > 1 && ((unsigned char)name[len] & 0xC0) == 0x80)
			len--;
	}
	return k3sup__fmt(".%.*s" K3SUP__TEMP_MARK, (int)len, name);
}

static bool is_temp(const char *entry, const char *prefix)
{
	size_t len = strlen(prefix);

	return strlen(entry) == len + TEMP_DIGITS && k3sup__startswith(entry, prefix) && k3sup__is_hex(entry + len, TEMP_DIGITS);
}

bool k3sup__is_temp(const char *entry)
{
	size_t len = strlen(entry), tail = strlen(K3SUP__TEMP_MARK) + TEMP_DIGITS;

	return entry[0] == '.' && len > tail && k3sup__startswith(entry + len - tail, K3SUP__TEMP_MARK) &&
		k3sup__is_hex(entry + len - TEMP_DIGITS, TEMP_DIGITS);
}

char *k3sup__temp_name(const char *name)
{
	_free_ char *prefix = temp_prefix(name);
	uint32_t number;

	if (!prefix)
		return NULL;
	/*
	 * Early at boot there may be no randomness yet, and waiting for it could take for ever. O_EXCL makes the name safe, not
	 * its number.
	 */
	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number)) {
		struct timespec now;

		clock_gettime(CLOCK_MONOTONIC, &now);
		number = (uint32_t)now.tv_nsec ^ ((uint32_t)getpid() << 12);
	}
	return k3sup__fmt("%s%08x", prefix, number);
}

int k3sup__temp_create(int dirfd, const char *name, char **ret_temp, int *ret_fd)
{
	for (int i = 0; i < TRIES; i++) {
		char *temp = k3sup__temp_name(name);
		int r, fd;

		if (!temp)
			return -ENOMEM;
		fd = openat(dirfd, temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		r = fd < 0 ? -errno : 0;
		/* whatever the umask left of it: it is opened again later */
		if (fd >= 0 && fchmod(fd, 0600) < 0) {
			r = -errno;
			k3sup__close(fd);
			(void)unlinkat(dirfd, temp, 0);
		}
		if (r == 0) {
			*ret_temp = temp;
			*ret_fd = fd;
			return 0;
		}
		free(temp);
		if (r != -EEXIST && r != -EINTR)
			return r;
	}
	return -EEXIST;
}

bool k3sup__is_temp_of(const char *entry, const char *name)
{
	_free_ char *prefix = temp_prefix(name);

	return prefix && is_temp(entry, prefix);
}

static int sweep(k3sup_op *op, DIR *dir, const char *prefix, bool remove)
{
	int count = 0, fd = dirfd(dir);

	for (unsigned seen = 1;; seen++) {
		const struct dirent *entry;
		struct stat st;
		int r;

		errno = 0;
		entry = readdir(dir);
		if (!entry)
			return errno ? -errno : count;
		r = seen % 256 == 0 ? k3sup__op_checkpoint(op) : 0;
		if (r < 0)
			return r;
		/*
		 * Only files and links can be temps. One that shares its inode with NAME was to become the backup; it is as disposable as
		 * the others.
		 */
		if (!is_temp(entry->d_name, prefix) || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			(!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)))
			continue;
		if (remove && unlinkat(fd, entry->d_name, 0) < 0 && errno != ENOENT) {
			r = -errno;
			return k3sup__fail(op, r, "cannot remove %s, which an earlier run left: %s", entry->d_name, k3sup_strerror(r));
		}
		count++;
	}
}

int k3sup__stage_leftovers(k3sup_op *op, int dirfd, const char *name, bool remove)
{
	_free_ char *prefix = temp_prefix(name);
	int fd, r, count;
	DIR *dir;

	if (!prefix)
		return -ENOMEM;
	fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		r = -errno;
		k3sup__close(fd);
		return k3sup__fail(op, r, "cannot read the directory of %s: %s", name, k3sup_strerror(r));
	}
	count = sweep(op, dir, prefix, remove);
	closedir(dir);
	if (count <= 0 || !remove)
		return count;
	r = k3sup__sync_dir(dirfd);
	return r < 0 ? k3sup__fail(op, r, "cannot sync the directory of %s: %s", name, k3sup_strerror(r)) : count;
}

/* ---- staging ---- */

static int hold_old(k3sup_op *op, struct k3sup__stage *stage)
{
	int r;

	stage->old_fd = openat(stage->dirfd, stage->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (stage->old_fd < 0 && errno == ENOENT)
		return 0;
	if (stage->old_fd < 0 || fstat(stage->old_fd, &stage->old) < 0) {
		r = -errno;
		return k3sup__fail(op, r, "cannot look at %s: %s", stage->name, k3sup_strerror(r));
	}
	if (!S_ISREG(stage->old.st_mode))
		return k3sup__fail(op, K3SUP_E_TARGET_NOT_FILE, "%s is not a regular file", stage->name);
	/* A rename over it is EBUSY: better known before anything is written. */
	if (k3sup__is_mount_point(stage->old_fd, ""))
		return k3sup__fail(op, -EBUSY, "%s is a mount point: it can only be replaced where it is mounted from", stage->name);
	return 0;
}

static int workdir(const struct k3sup__stage *stage)
{
	return stage->workfd >= 0 ? stage->workfd : stage->dirfd;
}

static int begin(k3sup_op *op, int dirfd, const char *name, const char *temp_of, int workfd, struct k3sup__stage *ret)
{
	struct k3sup__stage stage = K3SUP__STAGE_NONE;
	int r;

	if (!*name || strchr(name, '/') || k3sup__streq(name, ".") || k3sup__streq(name, ".."))
		return k3sup__fail(op, -EINVAL, "\"%s\" is not the name of a file", name);
	stage.name = strdup(name);
	stage.temp_of = strdup(temp_of);
	if (!stage.name || !stage.temp_of) {
		k3sup__stage_drop(&stage);
		return -ENOMEM;
	}
	stage.dirfd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (workfd >= 0 && stage.dirfd >= 0)
		stage.workfd = openat(workfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (stage.dirfd < 0 || (workfd >= 0 && stage.workfd < 0)) {
		r = -errno;
		(void)k3sup__fail(op, r, "cannot open the directory of %s: %s", name, k3sup_strerror(r));
	} else {
		r = hold_old(op, &stage);
	}
	if (r == 0) {
		r = k3sup__temp_create(workdir(&stage), temp_of, &stage.temp, &stage.fd);
		if (r < 0)
			(void)k3sup__fail(op, r, "cannot make a file %s %s: %s", workfd < 0 ? "beside" : "for", name, k3sup_strerror(r));
	}
	if (r < 0)
		k3sup__stage_drop(&stage);
	else
		*ret = stage;
	return r;
}

int k3sup__stage_begin(k3sup_op *op, int dirfd, const char *name, struct k3sup__stage *ret)
{
	return begin(op, dirfd, name, name, -1, ret);
}

int k3sup__stage_begin_in(k3sup_op *op, int dirfd, const char *name, int workfd, struct k3sup__stage *ret)
{
	return begin(op, dirfd, name, name, workfd, ret);
}

int k3sup__stage_begin_as(k3sup_op *op, int dirfd, const char *name, const char *temp_of, struct k3sup__stage *ret)
{
	return begin(op, dirfd, name, temp_of, -1, ret);
}

void k3sup__stage_drop(struct k3sup__stage *stage)
{
	if (stage->temp)
		(void)unlinkat(workdir(stage), stage->temp, 0);
	k3sup__close(stage->fd);
	k3sup__close(stage->old_fd);
	k3sup__close(stage->workfd);
	k3sup__close(stage->dirfd);
	free(stage->name);
	free(stage->temp_of);
	free(stage->temp);
	*stage = K3SUP__STAGE_NONE;
}

/* Whatever stands in its way, a copy finds out, too. */
bool k3sup__stage_clone(const struct k3sup__stage *stage, int from)
{
	return ioctl(stage->fd, FICLONE, from) == 0;
}

/* ---- sealing ---- */

/* Our own writer goes; the content has been synced through it, since errors of writing back are told to the descriptor that wrote. */
static int reopen(k3sup_op *op, struct k3sup__stage *stage)
{
	struct stat written, st;
	int fd, r;

	r = k3sup__sync_fd(stage->fd);
	if (r < 0)
		return k3sup__fail(op, r, "cannot sync the new %s: %s", stage->name, k3sup_strerror(r));
	fd = openat(workdir(stage), stage->temp, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(stage->fd, &written) < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		k3sup__close(fd);
		return k3sup__fail(op, r, "cannot open the new %s again: %s", stage->name, k3sup_strerror(r));
	}
	k3sup__close(stage->fd);
	stage->fd = fd;
	if (written.st_dev != st.st_dev || written.st_ino != st.st_ino)
		return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody replaced %s, the new %s", stage->temp, stage->name);
	return 0;
}

/*
 * execve(2) of a file that any process holds open for writing is ETXTBSY, and our descriptor lives on in a child that the host
 * forked without exec. A read lease is granted only while nobody does. It is given back at once. Should somebody open the file for
 * writing in between, the kernel tells us by a signal: SIGIO would end the process, SIGURG is ignored unless the host wants it.
 */
static int wait_for_writers(k3sup_op *op, struct k3sup__stage *stage)
{
	const struct timespec pause = {.tv_nsec = WRITER_POLL_MS * 1000000L};
	int64_t deadline = k3sup__deadline(WRITER_PATIENCE_MS);
	int r;

	if (fcntl(stage->fd, F_SETSIG, SIGURG) < 0)
		return -errno;
	while (fcntl(stage->fd, F_SETLEASE, F_RDLCK) < 0) {
		r = -errno;
		if (r == -EINVAL)
			return k3sup__fail(op, K3SUP_E_UNSUPPORTED,
				"the file system of %s has no leases, so nobody can tell if the new file can be executed", stage->name);
		if (r != -EAGAIN && r != -EINTR)
			return k3sup__fail(op, r, "cannot get a lease on the new %s: %s", stage->name, k3sup_strerror(r));
		r = k3sup__op_checkpoint(op);
		if (r < 0)
			return r;
		if (k3sup__now_ms() >= deadline)
			return k3sup__fail(op, K3SUP_E_TARGET_BUSY,
				"some process holds the new %s open for writing: it could not be executed", stage->name);
		(void)nanosleep(&pause, NULL);
	}
	(void)fcntl(stage->fd, F_SETLEASE, F_UNLCK);
	return 0;
}

static int give_attributes(k3sup_op *op, struct k3sup__stage *stage, int old_fd, mode_t mode)
{
	int r = 0;

	if (old_fd >= 0)
		r = k3sup__attrs_copy(op, old_fd, stage->fd, stage->name);
	else if (fchmod(stage->fd, mode & 01777) < 0)
		r = -errno;
	if (r == 0)
		r = k3sup__sync_fd(stage->fd);
	return r < 0 ? k3sup__fail(op, r, "cannot finish the new %s: %s", stage->name, k3sup_strerror(r)) : 0;
}

/* The lease comes while the file is still ours: on another user's file it would take CAP_LEASE, which root in a container may lack. */
int k3sup__stage_seal(k3sup_op *op, struct k3sup__stage *stage, int old_fd, mode_t mode)
{
	int r = reopen(op, stage);

	if (r == 0)
		r = wait_for_writers(op, stage);
	return r < 0 ? r : give_attributes(op, stage, old_fd, mode);
}

int k3sup__stage_finish(k3sup_op *op, struct k3sup__stage *stage, int old_fd, mode_t mode)
{
	int r = reopen(op, stage);

	return r < 0 ? r : give_attributes(op, stage, old_fd, mode);
}

int k3sup__durable_write(k3sup_op *op, int dirfd, const char *name, const void *content, size_t len, mode_t mode)
{
	struct k3sup__stage stage = K3SUP__STAGE_NONE;
	_close_ int old_fd = -1;
	bool renamed;
	int r;

	r = k3sup__stage_begin(op, dirfd, name, &stage);
	if (r < 0)
		return r;
	if (stage.old_fd >= 0) {
		old_fd = openat(stage.dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		r = old_fd < 0 ? -errno : 0;
	}
	if (r == 0)
		r = k3sup__write_full(stage.fd, content, len);
	if (r < 0)
		(void)k3sup__fail(op, r, "cannot write the new %s: %s", name, k3sup_strerror(r));
	if (r == 0)
		r = k3sup__stage_finish(op, &stage, old_fd, mode);
	if (r == 0)
		r = k3sup__stage_publish(op, &stage, NULL, NULL, &renamed);
	k3sup__stage_drop(&stage);
	return r;
}
