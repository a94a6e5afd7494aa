/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/spool.h"

#include "base/durable.h"
#include "base/inflate.h"
#include "base/lock.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define NAME "payload"
#define KEEP_FREE ((uint64_t)64 << 20) /* on the file system of the copy: the kubelet evicts pods when its own gets full */

struct spool {
	k3sup_op *op;
	const char *shown;
	int fd;
	struct k3sup__digest *digest;
	uint64_t since_look;
};

/* Overlay file systems of kernels before 6.3 have no files without names; there one is made and taken away. */
static int create_in(int dirfd, int *ret_fd)
{
	_free_ char *temp = NULL;
	int r;

	*ret_fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	if (*ret_fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
		return -errno;
	r = k3sup__temp_create(dirfd, NAME, &temp, ret_fd);
	if (r >= 0 && unlinkat(dirfd, temp, 0) < 0) {
		r = -errno;
		*ret_fd = k3sup__close(*ret_fd);
	}
	return r;
}

static int create(k3sup_op *op, k3sup_node *node, int *ret_fd)
{
	static const char *const elsewhere[] = {"/var/tmp", "/tmp"};
	_close_ int dirfd = -1;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, false, node->trust_flags, &dirfd);

	if (r >= 0) {
		r = k3sup__stage_leftovers(op, dirfd, NAME, true); /* of a run that was killed where names are needed */
		r = r < 0 ? r : create_in(dirfd, ret_fd);
	}
	for (size_t i = 0; r < 0 && i < ELEMENTSOF(elsewhere); i++) {
		_close_ int other = open(elsewhere[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		k3sup__op_forgive(op);
		r = other < 0 ? -errno : create_in(other, ret_fd);
	}
	return r < 0 ? k3sup__fail(op, r, "there is no place for a private copy of the payload: %s", k3sup_strerror(r)) : 0;
}

static int check_space(struct spool *s)
{
	struct statvfs vfs;

	if (fstatvfs(s->fd, &vfs) < 0 || vfs.f_blocks == 0 || (uint64_t)vfs.f_frsize * vfs.f_bfree >= KEEP_FREE)
		return 0;
	return k3sup__fail(s->op, -ENOSPC, "the file system for the private copy of %s has less than %u MiB left", s->shown,
		(unsigned)(KEEP_FREE >> 20));
}

static int sink(void *arg, const void *bytes, size_t len)
{
	struct spool *s = arg;
	int r = s->since_look == 0 ? check_space(s) : 0;

	if (r < 0)
		return r;
	s->since_look = s->since_look + len < 8 * CHUNK ? s->since_look + len : 0;
	r = k3sup__write_full(s->fd, bytes, len);
	if (r < 0)
		return k3sup__fail(s->op, r, "cannot write the private copy of %s: %s", s->shown, k3sup_strerror(r));
	return k3sup__digest_update(s->digest, bytes, len);
}

static int copy(struct spool *s, int fd)
{
	_free_ char *buf = malloc(CHUNK);
	ssize_t n = 1;
	int r = buf ? 0 : -ENOMEM;

	for (int64_t at = 0; r >= 0 && n > 0; at += n) {
		n = k3sup__pread_full(fd, buf, CHUNK, at);
		if (n < 0)
			return k3sup__fail(s->op, (int)n, "cannot read %s: %s", s->shown, k3sup_strerror((int)n));
		r = n > 0 ? sink(s, buf, (size_t)n) : 0;
		if (r >= 0)
			r = k3sup__op_checkpoint(s->op);
	}
	return r;
}

int k3sup__spool(k3sup_op *op, k3sup_node *node, int fd, const char *shown, bool packed, int *ret_fd, char ret_sha256[static K3SUP__SHA256_HEX])
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	_close_ int out = -1;
	struct spool s = {.op = op, .shown = shown};
	int r = k3sup__digest_new(&digest);

	if (r >= 0)
		r = create(op, node, &out);
	if (r < 0)
		return r;
	s.fd = out;
	s.digest = digest;
	r = packed ? k3sup__inflate(op, fd, shown, sink, &s) : copy(&s, fd);
	if (r >= 0)
		r = k3sup__digest_finish(digest, ret_sha256);
	if (r < 0)
		return r;
	*ret_fd = out;
	out = -1;
	return 0;
}
