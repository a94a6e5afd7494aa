/* SPDX-License-Identifier: Apache-2.0 */
#include "node/floor.h"

#include <fcntl.h>

#include "base/durable.h"
#include "base/lock.h"
#include "node/version.h"

#define MAX_LEN 128 /* of the line; no version is longer */

static int read_version(k3sup_op *op, int dirfd, char **ret)
{
	_close_ int fd = k3sup__state_file_open(op, dirfd, K3SUP__FLOOR_NAME, O_RDONLY);
	struct k3sup__version v;
	char text[MAX_LEN + 1];
	ssize_t n;

	if (fd < 0)
		return fd;
	n = k3sup__pread_full(fd, text, sizeof(text), 0);
	if (n < 0)
		return k3sup__fail(op, (int)n, "cannot read the floor: %s", k3sup_strerror((int)n));
	/* It is replaced as a whole, so anything else was not written by us. */
	if (n < 2 || n > MAX_LEN || text[n - 1] != '\n' || k3sup__version_parse(text, (size_t)n - 1, &v) < 0)
		return k3sup__fail(op, K3SUP_E_STATE_DIR, "the file " K3SUP__FLOOR_NAME " in the state directory holds no version");
	*ret = strndup(text, (size_t)n - 1);
	return *ret ? 0 : -ENOMEM;
}

int k3sup__floor_read(k3sup_op *op, k3sup_node *node, char **ret)
{
	_close_ int dirfd = -1;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, false, node->trust_flags, &dirfd);

	*ret = NULL;
	if (r >= 0)
		r = read_version(op, dirfd, ret);
	return r == -ENOENT ? 0 : r;
}

/* Must what is there be replaced? */
static bool is_to_be_replaced(const char *there, const struct k3sup__version *v, bool lower)
{
	struct k3sup__version floor;

	if (!there || k3sup__version_parse(there, strlen(there), &floor) < 0)
		return true;
	return lower ? k3sup__version_order(v, &floor) != 0 : k3sup__version_order(v, &floor) > 0;
}

int k3sup__floor_record(k3sup_op *op, k3sup_node *node, const char *version, bool lower)
{
	_free_ char *there = NULL, *line = NULL;
	_close_ int dirfd = -1;
	struct k3sup__version v;
	int r;

	if (k3sup__version_parse(version, strlen(version), &v) < 0)
		return 0;
	r = k3sup__state_dir_open(op, &node->root, node->state_dir, true, node->trust_flags, &dirfd);
	if (r >= 0)
		r = read_version(op, dirfd, &there);
	/* Whoever allows a downgrade also gets rid of a floor that nobody can read. */
	if (r == -ENOENT || (r == K3SUP_E_STATE_DIR && dirfd >= 0 && lower)) {
		k3sup__op_forgive(op);
		r = 0;
	}
	if (r < 0 || !is_to_be_replaced(there, &v, lower))
		return r;
	line = k3sup__fmt("%s\n", version);
	if (!line)
		return -ENOMEM;
	r = k3sup__stage_leftovers(op, dirfd, K3SUP__FLOOR_NAME, true);
	if (r >= 0)
		r = k3sup__durable_write(op, dirfd, K3SUP__FLOOR_NAME, line, strlen(line), 0600);
	return r < 0 ? r : 1;
}
