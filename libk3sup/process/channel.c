/* SPDX-License-Identifier: Apache-2.0 */
#include "process/channel.h"

#include <fcntl.h>
#include <unistd.h>

#define MOST_OUTPUT ((size_t)64 * 1024)

const char *k3sup__channel_name(enum k3sup__channel_kind kind)
{
	static const char *const names[K3SUP__N_CHANNELS] = {"direct", "chroot", "mount-namespace"};

	return names[kind];
}

/* 1 if this path is that very directory, 0 if it is another one or cannot be seen. */
static bool is_root(const k3sup_node *node, int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, 0) == 0 && st.st_dev == node->root.dev && st.st_ino == node->root.ino;
}

bool k3sup__channel_is_home(const k3sup_node *node)
{
	return is_root(node, AT_FDCWD, "/");
}

/*
 * Process 1 of our pid namespace is this node's if its root is. Entering makes sense only where it sees other mounts than we do.
 */
static int open_namespace(k3sup_op *op, k3sup_node *node, struct k3sup__channel *ret)
{
	struct stat ours, theirs;
	_free_ char *path = NULL;
	_close_ int fd = -1;
	int r;

	if (!is_root(node, node->proc_fd, "1/root") || fstatat(node->proc_fd, "self/ns/mnt", &ours, 0) < 0 ||
		fstatat(node->proc_fd, "1/ns/mnt", &theirs, 0) < 0 || (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino))
		return 0;
	path = k3sup__fmt("%s/1/root", node->proc_path);
	if (!path)
		return -ENOMEM;
	fd = openat(node->proc_fd, "1", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	r = k3sup__root_open(op, path, &ret->own);
	if (r < 0) {
		ret->own.fd = -1;
		k3sup__op_forgive(op);
		return r == -ENOMEM ? r : 0;
	}
	/* The child takes 0 for none, and a host that has closed its standard descriptors gets the low numbers. */
	ret->enter_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return ret->enter_fd < 0 ? -errno : 1;
}

int k3sup__channel_open(k3sup_op *op, k3sup_node *node, enum k3sup__channel_kind kind, struct k3sup__channel *ret)
{
	struct k3sup__channel channel = K3SUP__CHANNEL_NONE;
	int r;

	channel.kind = kind;
	channel.host = &node->root;
	switch (kind) {
	case K3SUP__CHANNEL_DIRECT:
		r = k3sup__channel_is_home(node);
		break;
	case K3SUP__CHANNEL_CHROOT:
		r = !k3sup__channel_is_home(node);
		break;
	case K3SUP__CHANNEL_NAMESPACE:
		r = open_namespace(op, node, &channel);
		break;
	default:
		r = -EINVAL;
	}
	if (r <= 0) {
		k3sup__channel_clear(&channel);
		return r;
	}
	*ret = channel;
	return 1;
}

void k3sup__channel_clear(struct k3sup__channel *channel)
{
	if (channel->own.fd >= 0)
		k3sup__root_close(&channel->own);
	if (channel->enter_fd > 0)
		channel->enter_fd = k3sup__close(channel->enter_fd);
	*channel = K3SUP__CHANNEL_NONE;
}

static const struct k3sup__root *root_of(const struct k3sup__channel *channel)
{
	return channel->own.fd >= 0 ? &channel->own : channel->host;
}

int k3sup__channel_has_dir(k3sup_op *op, const struct k3sup__channel *channel, const char *path)
{
	struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(op, root_of(channel), path, K3SUP__TRUSTED, &place);
	bool is = r == 0 && place.fd >= 0 && S_ISDIR(place.st.st_mode);

	k3sup__place_clear(&place);
	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
		return r;
	if (r < 0)
		k3sup__op_forgive(op);
	return is;
}

int k3sup__channel_find(k3sup_op *op, const struct k3sup__channel *channel, const char *const *paths, const char **ret)
{
	for (; *paths; paths++) {
		struct k3sup__place place = K3SUP__PLACE_NONE;
		int r = k3sup__root_find(op, root_of(channel), *paths, K3SUP__TRUSTED, &place);
		bool is = r == 0 && place.fd >= 0 && S_ISREG(place.st.st_mode);

		k3sup__place_clear(&place);
		if (r < 0 && r != -ENOENT && r != -ENOTDIR)
			return r;
		if (is) {
			*ret = *paths;
			return 0;
		}
	}
	return -ENOENT;
}

int k3sup__channel_run(
	k3sup_op *op, const struct k3sup__channel *channel, const char *const *argv, int64_t deadline, struct k3sup__child_result *ret)
{
	/* systemctl and its like look whether they are chrooted, and then do nothing and say that all is well. */
	static const char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin", "LC_ALL=C",
		"SYSTEMD_IGNORE_CHROOT=1", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", NULL};
	struct k3sup__child_spec spec = {
		.argv = argv,
		.env = env,
		.root_fd = channel->kind == K3SUP__CHANNEL_CHROOT ? channel->host->fd : -1,
		.enter_fd = channel->enter_fd,
		.deadline = deadline,
		.max_output = MOST_OUTPUT,
	};

	return k3sup__child_run(op, &spec, ret);
}
