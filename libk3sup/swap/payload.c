/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/swap.h"

#include <fcntl.h>
#include <unistd.h>

int k3sup__source_take(const char *path, bool has_fd, int fd, struct k3sup__source *ret)
{
	*ret = (struct k3sup__source){.fd = -1};
	if (has_fd) {
		/* The caller may close its own as soon as the verb has come back. */
		ret->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		return ret->fd < 0 ? -errno : 0;
	}
	if (!path || !*path)
		return -EINVAL;
	ret->path = strdup(path);
	return ret->path ? 0 : -ENOMEM;
}

void k3sup__source_clear(struct k3sup__source *source)
{
	free(source->path);
	source->path = NULL;
	source->fd = k3sup__close(source->fd);
}

int k3sup__payload_load(k3sup_op *op, k3sup_node *node, const struct k3sup__source *source, struct k3sup__payload *ret)
{
	struct k3sup__payload p = K3SUP__PAYLOAD_NONE;
	int r;

	p.shown = source->path ? source->path : "the given descriptor";
	if (source->path)
		r = k3sup__payload_open(op, source->path, node->trust_flags, &p.fd);
	else
		r = (p.fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 3)) < 0 ? -errno : 0;
	if (r >= 0)
		r = k3sup__build_read_fd(op, p.fd, p.shown, K3SUP__BUILD_HOST_ARCH, &p.build);
	if (r >= 0 && fstat(p.fd, &p.st) < 0)
		r = k3sup__fail(op, -errno, "cannot look at %s: %s", p.shown, k3sup_strerror(errno));
	if (p.fd >= 0)
		k3sup__wanted_report(op, &p, NULL);
	if (r < 0) {
		k3sup__close(p.fd);
		return r;
	}
	*ret = p;
	return 0;
}

void k3sup__wanted_report(k3sup_op *op, const struct k3sup__payload *payload, const char *sha256)
{
	k3sup__json *wanted = k3sup__build_json(&payload->build);

	if (sha256 && sha256[0])
		k3sup__json_set_str(wanted, "sha256", sha256);
	k3sup__json_set_str(wanted, "path", payload->shown);
	k3sup__json_set(k3sup__op_facts(op), "wanted", wanted);
}

void k3sup__payload_clear(struct k3sup__payload *payload)
{
	payload->fd = k3sup__close(payload->fd);
}
