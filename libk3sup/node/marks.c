/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks: what a caller's own prepare steps remember. A file of their own in the state directory, replaced durably, with a lock of its own: a step that an upgrade runs as its
 * command marks while that upgrade holds the node's lock.
 */
#include "node/node.h"

#include <fcntl.h>
#include <time.h>

#include "base/durable.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/process.h"

#define NAME "marks"
#define LOCK_NAME "marks-lock"
#define MAX_SIZE (128 * 1024)
#define MOST 256
#define LONGEST_KEY 200

/* One that can be shown in one line. */
static bool is_key(const char *key)
{
	size_t len = 0;

	for (; key[len] && len <= LONGEST_KEY; len++)
		if ((unsigned char)key[len] < 0x21 || (unsigned char)key[len] > 0x7e)
			return false;
	return len > 0 && len <= LONGEST_KEY;
}

static int lock(int dirfd)
{
	struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = k3sup__state_file_open(NULL, dirfd, LOCK_NAME, O_RDWR | O_CREAT), r;

	if (fd < 0)
		return fd;
	/* Held for one small write, by root alone. */
	while (fcntl(fd, F_OFD_SETLKW, &all) < 0) {
		if (errno == EINTR)
			continue;
		r = -errno;
		k3sup__close(fd);
		return r;
	}
	return fd;
}

static int read_marks(int dirfd, k3sup__json **ret)
{
	_close_ int fd = k3sup__state_file_open(NULL, dirfd, NAME, O_RDONLY);
	_free_ char *text = fd >= 0 ? malloc(MAX_SIZE) : NULL;
	k3sup__json *marks = NULL;
	ssize_t n;
	int r;

	*ret = NULL;
	if (fd == -ENOENT)
		return (*ret = k3sup__json_array()) ? 0 : -ENOMEM;
	if (fd < 0 || !text)
		return fd < 0 ? fd : -ENOMEM;
	n = k3sup__pread_full(fd, text, MAX_SIZE, 0);
	r = n < 0 ? (int)n : k3sup__json_parse(text, (size_t)n, &marks);
	/* It is replaced as a whole, so anything else was not written by us. */
	if (r == K3SUP_E_PARSE || (r == 0 && (!k3sup__json_is_container(marks) || k3sup__json_is_object(marks)))) {
		k3sup__json_unref(marks);
		return K3SUP_E_STATE_DIR;
	}
	*ret = marks;
	return r;
}

static k3sup__json *find(const k3sup__json *marks, const char *key)
{
	for (size_t i = 0; i < k3sup__json_len(marks); i++) {
		const char *its = k3sup__json_text(k3sup__json_element(marks, i), "key");

		if (its && k3sup__streq(its, key))
			return k3sup__json_element(marks, i);
	}
	return NULL;
}

/* Of this boot: K3SUP_MARKED; of an earlier one: K3SUP_MARKED_EARLIER. */
static int boot_of(const k3sup_node *node, const k3sup__json *mark)
{
	const char *its = k3sup__json_text(mark, "boot_id");
	char boot_id[37];
	int r = k3sup__boot_id(node->proc_fd, boot_id);

	if (r < 0)
		return r;
	return its && k3sup__streq(its, boot_id) ? K3SUP_MARKED : K3SUP_MARKED_EARLIER;
}

static int write_mark(const k3sup_node *node, int dirfd, const k3sup__json *marks, const char *key)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *all = k3sup__json_array();
	size_t count = k3sup__json_len(marks);
	k3sup__json *mark = k3sup__json_object();
	_free_ char *text = NULL;
	char boot_id[37];
	int r = k3sup__boot_id(node->proc_fd, boot_id);

	k3sup__json_set_str(mark, "key", key);
	k3sup__json_set_int(mark, "at", time(NULL));
	k3sup__json_set_str(mark, "boot_id", boot_id);
	for (size_t i = count >= MOST ? count - MOST + 1 : 0; i < count; i++)
		k3sup__json_add(all, k3sup__json_ref(k3sup__json_element(marks, i)));
	k3sup__json_add(all, mark);
	text = r < 0 || k3sup__json_broken(all) ? NULL : k3sup__json_dump(all);
	if (!text)
		return r < 0 ? r : -ENOMEM;
	r = k3sup__stage_leftovers(NULL, dirfd, NAME, true);
	return r < 0 ? r : k3sup__durable_write(NULL, dirfd, NAME, text, strlen(text), 0600);
}

int k3sup_node_mark(k3sup_node *node, const char *key)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *marks = NULL;
	_close_ int dirfd = -1, lock_fd = -1;
	int r;

	if (!node || !key || !is_key(key))
		return -EINVAL;
	r = k3sup__state_dir_open(NULL, &node->root, node->state_dir, true, node->trust_flags, &dirfd);
	if (r >= 0)
		r = lock_fd = lock(dirfd);
	if (r >= 0)
		r = read_marks(dirfd, &marks);
	if (r < 0)
		return r;
	if (find(marks, key))
		return 0;
	r = write_mark(node, dirfd, marks, key);
	return r < 0 ? r : 1;
}

int k3sup_node_marked(k3sup_node *node, const char *key)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *marks = NULL;
	_close_ int dirfd = -1;
	const k3sup__json *mark;
	int r;

	if (!node || !key || !is_key(key))
		return -EINVAL;
	r = k3sup__state_dir_open(NULL, &node->root, node->state_dir, false, node->trust_flags, &dirfd);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = read_marks(dirfd, &marks);
	mark = r >= 0 ? find(marks, key) : NULL;
	return r < 0 ? r : mark ? boot_of(node, mark) : 0;
}
