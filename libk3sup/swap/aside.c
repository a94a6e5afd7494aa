/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/unpack.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/tree.h"

#define LOCK ".lock"
#define LOCK_WAIT_MS 60000  /* somebody unpacks: seconds, and a minute on an SD card */
#define CLEAN_WAIT_MS 10000 /* for those who have failed already */
#define LOCK_RETRY_MS 50

/* No other k3s decides whether it has to unpack, or does, as long as this is held. op: NULL for those who are not to be stopped any more. */
static int lock(k3sup_op *op, const struct k3sup__unpacked *u, int64_t wait_ms)
{
	const struct timespec pause = {.tv_nsec = LOCK_RETRY_MS * 1000000L};
	const int64_t deadline = k3sup__deadline(wait_ms);
	int fd = openat(u->data.fd, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600), r = fd < 0 ? -errno : 0;

	while (r == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK || errno == EINTR ? k3sup__op_checkpoint(op) : -errno;
		if (r == 0 && k3sup__now_ms() >= deadline)
			r = k3sup__fail(op, K3SUP_E_UNPACK, "somebody has held %s/" LOCK " for %d s", u->data.path, (int)(wait_ms / 1000));
		if (r == 0)
			(void)nanosleep(&pause, NULL);
	}
	if (r == 0)
		return fd;
	k3sup__close(fd);
	return k3sup__fail(op, r, "cannot lock %s/" LOCK ": %s", u->data.path, k3sup_strerror(r));
}

/* Also where a child that the host forked just then has the descriptor, too. */
static void unlockp(int *fd)
{
	if (*fd >= 0)
		(void)flock(*fd, LOCK_UN);
	*fd = k3sup__close(*fd);
}
#define _locked_ _cleanup_(unlockp)

static char *aside_name(const struct k3sup__unpacked *u)
{
	return k3sup__fmt("%s.k3sup-torn", u->hash);
}

/* The directory, if it is the one that was looked at. */
static int open_it(k3sup_op *op, const struct k3sup__unpacked *u)
{
	int fd = openat(u->data.fd, u->hash, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = fd < 0 ? -errno : 0;
	struct stat st;

	if (r == -ENOTDIR || r == -ELOOP)
		return k3sup__fail(op, K3SUP_E_TORN, "%s is torn (%s), and is no directory that k3s made", u->path, u->why);
	if (r == 0 && fstat(fd, &st) == 0 && (st.st_dev != u->st.st_dev || st.st_ino != u->st.st_ino))
		r = -ESTALE;
	if (r == 0)
		return fd;
	k3sup__close(fd);
	return k3sup__fail(op, r == -ESTALE || r == -ENOENT ? K3SUP_E_TORN : r, "%s cannot be put aside: %s", u->path,
		r == -ESTALE || r == -ENOENT ? "somebody else changes it just now" : k3sup_strerror(r));
}

static int refuse_used(k3sup_op *op, const k3sup_node *node, const struct k3sup__unpacked *u, int fd)
{
	_free_ char *who = NULL;
	int r = k3sup__unpacked_used(node, fd, u->hash, &who);

	if (r > 0)
		return k3sup__fail(op, K3SUP_E_TORN, "%s is torn (%s), and %s: it is left alone", u->path, u->why, who);
	return r < 0 ? k3sup__fail(op, r, "%s is torn (%s), and whether anybody uses it cannot be told: %s", u->path, u->why, k3sup_strerror(r))
		     : 0;
}

/* Who begins to use it between the look and the rename is seen by the look after it: by then it has no name under which one could begin. */
static int move(k3sup_op *op, const k3sup_node *node, const struct k3sup__unpacked *u, const char *aside)
{
	_close_ int fd = open_it(op, u);
	int r = fd < 0 ? fd : refuse_used(op, node, u, fd);

	if (r < 0)
		return r;
	if (renameat(u->data.fd, u->hash, u->data.fd, aside) < 0) {
		r = -errno;
		return k3sup__fail(op, r, "%s cannot be put aside: %s", u->path, k3sup_strerror(r));
	}
	r = refuse_used(op, node, u, fd);
	if (r < 0)
		(void)renameat(u->data.fd, aside, u->data.fd, u->hash);
	else
		r = k3sup__sync_dir(u->data.fd);
	return r;
}

int k3sup__unpacked_put_aside(k3sup_op *op, const k3sup_node *node, const struct k3sup__unpacked *unpacked)
{
	_free_ char *aside = aside_name(unpacked);
	_locked_ int held = aside != NULL ? lock(op, unpacked, LOCK_WAIT_MS) : -ENOMEM;
	int r = held < 0 ? held : k3sup__tree_remove(op, unpacked->data.fd, aside);

	return r < 0 ? r : move(op, node, unpacked, aside);
}

void k3sup__unpacked_take_back(const struct k3sup__unpacked *unpacked)
{
	_free_ char *aside = aside_name(unpacked), *temp = k3sup__fmt("%s-tmp", unpacked->hash);
	_locked_ int held = -1;

	if (unpacked->data.fd < 0 || aside == NULL || temp == NULL)
		return;
	held = lock(NULL, unpacked, CLEAN_WAIT_MS);
	if (held < 0)
		return;
	(void)!k3sup__tree_remove(NULL, unpacked->data.fd, temp);
	if (faccessat(unpacked->data.fd, unpacked->hash, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		(void)!k3sup__tree_remove(NULL, unpacked->data.fd, aside);
	else if (errno == ENOENT && renameat(unpacked->data.fd, aside, unpacked->data.fd, unpacked->hash) == 0)
		(void)!k3sup__sync_dir(unpacked->data.fd);
}

int k3sup__unpacked_drop_aside(k3sup_op *op, const struct k3sup__unpacked *unpacked)
{
	_free_ char *aside = aside_name(unpacked);
	int r;

	if (aside == NULL)
		return -ENOMEM;
	if (unpacked->data.fd < 0 || (faccessat(unpacked->data.fd, aside, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT))
		return 0;
	r = k3sup__tree_remove(op, unpacked->data.fd, aside);
	return r < 0 ? r : 1;
}
