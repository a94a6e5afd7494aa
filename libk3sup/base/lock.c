/* SPDX-License-Identifier: Apache-2.0 */
#include "base/lock.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/process.h"

#define LOCK_NAME "lock"
#define MAX_DESCRIPTION 4096
#define TRIES 16

/* linux/magic.h has these two only since 5.17 */
#define CIFS_MAGIC 0xFF534D42u
#define SMB2_MAGIC 0xFE534D42u

/* ---- our directory ---- */

static bool is_ours_alone(const struct stat *st)
{
	return k3sup__trusted_owner(st) && !(st->st_mode & 077);
}

static int not_ours(k3sup_op *op, const char *what, const struct stat *st)
{
	return k3sup__fail(op, K3SUP_E_STATE_DIR, "%s (uid %u, mode %04o) must be root's alone", what, (unsigned)st->st_uid,
		(unsigned)st->st_mode & 07777u);
}

static int open_state_dir(k3sup_op *op, const struct k3sup__place *place, int *ret_fd)
{
	int fd = openat(place->dirfd, place->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		if (r == -ENOTDIR || r == -ELOOP) /* somebody's file, or link, in our place */
			r = k3sup__fail(op, K3SUP_E_STATE_DIR, "%s is not a directory", place->path);
		else
			(void)k3sup__fail(op, r, "cannot open the directory %s: %s", place->path, k3sup_strerror(r));
	} else if (!is_ours_alone(&st)) {
		r = not_ours(op, place->path, &st);
	}
	if (r < 0)
		k3sup__close(fd);
	else
		*ret_fd = fd;
	return r;
}

int k3sup__state_dir_open(k3sup_op *op, const struct k3sup__root *root, const char *path, bool create, unsigned trust_flags, int *ret_fd)
{
	unsigned flags = trust_flags | K3SUP__PARENTS_ONLY | (create ? K3SUP__MAKE_DIRS : 0);
	struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *plain = strdup(path);
	int r;

	if (!plain)
		return -ENOMEM;
	/* A slash at the end would ask for a directory that is there already. */
	for (size_t len = strlen(plain); len > 1 && plain[len - 1] == '/'; len--)
		plain[len - 1] = '\0';
	r = k3sup__root_find(op, root, plain, flags, &place);
	if (r == 0 && place.fd < 0)
		r = create ? k3sup__make_dir(op, place.dirfd, place.name, 0700, place.path) : -ENOENT;
	if (r == 0)
		r = open_state_dir(op, &place, ret_fd);
	k3sup__place_clear(&place);
	return r;
}

int k3sup__state_file_open(k3sup_op *op, int dirfd, const char *name, int flags)
{
	int fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600), r = 0;
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 && errno == ELOOP)
		return k3sup__fail(op, K3SUP_E_STATE_DIR, "%s in the state directory is a symbolic link", name);
	if (fd < 0 && errno == EISDIR)
		return k3sup__fail(op, K3SUP_E_STATE_DIR, "%s in the state directory is not a regular file", name);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		(void)k3sup__fail(op, r, "cannot open %s in the state directory: %s", name, k3sup_strerror(r));
	} else if (!S_ISREG(st.st_mode)) {
		r = k3sup__fail(op, K3SUP_E_STATE_DIR, "%s in the state directory is not a regular file", name);
	} else if (!is_ours_alone(&st)) {
		r = not_ours(op, name, &st);
	}
	if (r < 0)
		k3sup__close(fd);
	return r < 0 ? r : fd;
}

/* ---- who holds it ---- */

/* Whatever can be known: without /proc the pid must do. */
static k3sup__json *describe_ourselves(void)
{
	_close_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_close_ int self = openat(proc, "self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	k3sup__json *who = k3sup__json_object();
	struct k3sup__stat stat;
	struct stat ns;
	char boot_id[37];

	k3sup__json_set_int(who, "pid", getpid());
	if (k3sup__boot_id(proc, boot_id) == 0)
		k3sup__json_set_str(who, "boot_id", boot_id);
	if (fstatat(self, "ns/pid", &ns, 0) == 0)
		k3sup__json_set_int(who, "pid_ns", (int64_t)ns.st_ino);
	if (k3sup__stat_read(self, &stat) == 0)
		k3sup__json_set_int(who, "start_time", (int64_t)stat.start_time);
	k3sup__json_set_str(who, "program", program_invocation_short_name);
	return who;
}

/* Serves those who meet the lock only, so a full disk is no reason to fail: an empty description is better than the last holder's. */
static void sign(k3sup_op *op, int fd)
{
	k3sup__json *who = describe_ourselves();
	_free_ char *text = k3sup__json_dump(who);
	_free_ char *line = text ? k3sup__fmt("%s\n", text) : NULL;
	ssize_t written = 0;

	k3sup__json_unref(who);
	if (ftruncate(fd, 0) == 0 && line)
		written = pwrite(fd, line, strlen(line), 0);
	if (!line || written != (ssize_t)strlen(line))
		k3sup__log(op, K3SUP_LOG_WARNING, "cannot write into the lock who holds it");
}

/* An object always; empty if nothing can be read. NULL: no memory. */
static k3sup__json *read_description(int fd)
{
	_free_ char *text = malloc(MAX_DESCRIPTION);
	ssize_t len = text ? k3sup__pread_full(fd, text, MAX_DESCRIPTION, 0) : -ENOMEM;
	k3sup__json *who = NULL;

	if (len > 0 && k3sup__json_parse(text, (size_t)len, &who) == 0 && k3sup__json_is_object(who))
		return who;
	k3sup__json_unref(who);
	return k3sup__json_object();
}

/* A pid means something only in the pid namespace and the boot that it is of. */
static bool is_pid_known_here(const k3sup__json *who)
{
	k3sup__json *us = describe_ourselves();
	const char *theirs = k3sup__json_text(who, "boot_id"), *ours = k3sup__json_text(us, "boot_id");
	bool known = theirs && ours && k3sup__streq(theirs, ours) &&
		k3sup__json_number(who, "pid_ns", -1) == k3sup__json_number(us, "pid_ns", -2);

	k3sup__json_unref(us);
	return known;
}

static int busy(k3sup_op *op, int fd)
{
	k3sup__json *who = read_description(fd);
	const char *program = k3sup__json_text(who, "program");
	int64_t pid = k3sup__json_number(who, "pid", 0);

	if (!program)
		(void)k3sup__fail(op, K3SUP_E_BUSY, "another run holds the node's lock");
	else if (is_pid_known_here(who))
		(void)k3sup__fail(op, K3SUP_E_BUSY, "another run holds the node's lock: %s, pid %lld", program, (long long)pid);
	else
		(void)k3sup__fail(op, K3SUP_E_BUSY, "another run holds the node's lock: %s, in another pid namespace", program);
	k3sup__json_set(k3sup__op_evidence(op), "holder", who);
	return K3SUP_E_BUSY;
}

/* ---- the lock ---- */

/* Locks of network file systems may be shared with other hosts, emulated, or lost when the server restarts. */
static int check_file_system(k3sup_op *op, int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	switch ((uint32_t)fs.f_type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_MAGIC:
	case SMB2_MAGIC:
		return k3sup__fail(op, K3SUP_E_UNSUPPORTED, "%s is on a network file system, whose locks cannot be relied on", K3SUP__STATE_DIR);
	default:
		return 0;
	}
}

static int set_lock(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	while (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* A lock on a file that lost its name, or whose directory did, locks nobody out. */
static int is_the_one(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, int fd)
{
	struct k3sup__place place = K3SUP__PLACE_NONE;
	struct stat st;
	int r = k3sup__root_find(op, root, K3SUP__STATE_DIR "/" LOCK_NAME, trust_flags, &place);

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	else if (r == 0)
		r = place.fd >= 0 && place.st.st_dev == st.st_dev && place.st.st_ino == st.st_ino;
	k3sup__place_clear(&place);
	return r == -ENOENT ? 0 : r;
}

/* 1: held; 0: the file was replaced meanwhile, look again */
static int try_to_take(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, int *ret_fd)
{
	_close_ int dirfd = -1, fd = -1;
	int r = k3sup__state_dir_open(op, root, K3SUP__STATE_DIR, true, trust_flags, &dirfd);

	if (r == 0)
		r = check_file_system(op, dirfd);
	if (r < 0)
		return r;
	fd = k3sup__state_file_open(op, dirfd, LOCK_NAME, O_RDWR | O_CREAT);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd; /* the directory was removed in between */
	r = set_lock(fd);
	if (r == -EAGAIN || r == -EACCES)
		return busy(op, fd);
	if (r < 0)
		return k3sup__fail(op, r, "cannot lock %s/%s: %s", K3SUP__STATE_DIR, LOCK_NAME, k3sup_strerror(r));
	r = is_the_one(op, root, trust_flags, fd);
	if (r <= 0)
		return r;
	sign(op, fd);
	*ret_fd = fd;
	fd = -1;
	return 1;
}

int k3sup__lock_take(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, int *ret_fd)
{
	for (int i = 0; i < TRIES; i++) {
		int r = try_to_take(op, root, trust_flags, ret_fd);

		if (r != 0)
			return r < 0 ? r : 0;
	}
	return k3sup__fail(op, K3SUP_E_STATE_DIR, "somebody replaces %s/%s again and again", K3SUP__STATE_DIR, LOCK_NAME);
}

int k3sup__lock_give(int fd)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (fd >= 0)
		(void)fcntl(fd, F_OFD_SETLK, &lock);
	return k3sup__close(fd);
}

int k3sup__lock_holder(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, k3sup__json **ret)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	_close_ int dirfd = -1, fd = -1;
	int r = k3sup__state_dir_open(op, root, K3SUP__STATE_DIR, false, trust_flags, &dirfd);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	fd = k3sup__state_file_open(op, dirfd, LOCK_NAME, O_RDONLY);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fcntl(fd, F_OFD_GETLK, &lock) < 0) {
		r = -errno;
		return k3sup__fail(op, r, "cannot ask for the holder of the node's lock: %s", k3sup_strerror(r));
	}
	if (lock.l_type == F_UNLCK)
		return 0;
	*ret = read_description(fd);
	return *ret ? 1 : -ENOMEM;
}
