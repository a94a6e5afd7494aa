/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking ahead: all that the new k3s does before it begins to work is done while the old one runs.
 */
#include <fcntl.h>

#include "node/procscan.h"
#include "node/warn.h"
#include "swap/observed.h"
#include "swap/preflight.h"
#include "swap/unpack.h"
#include "upgrade/upgrade.h"

/* The links that k3s makes are absolute: to one that does not see the node's root as its own they lead elsewhere. */
static bool runs_elsewhere(const struct k3sup__upgrade *s)
{
	const struct k3sup__root *root = &s->node.node->root;
	struct stat st;

	for (size_t i = 0; i < s->view.sighting.count; i++) {
		const k3sup_process *process = s->view.sighting.candidates[i].process;

		if (k3sup__proc_stat(k3sup__process_dirfd(process), "root", &st) == 0 && (st.st_dev != root->dev || st.st_ino != root->ino))
			return true;
	}
	return false;
}

/* The bytes that were verified: beside the installed file, or that itself. */
static int open_program(k3sup_op *op, const struct k3sup__upgrade *s)
{
	int fd = s->staged ? fcntl(k3sup__staged_fd(s->staged), F_DUPFD_CLOEXEC, 3) : k3sup__place_open(&s->view.installed, O_RDONLY);

	if (s->staged && fd < 0)
		fd = -errno;
	return fd < 0 ? k3sup__fail(op, fd, "cannot open the new k3s: %s", k3sup_strerror(fd)) : fd;
}

/* i: which of those that run, and of their data-dirs. */
static int unpack(k3sup_op *op, struct k3sup__upgrade *s, int fd, size_t i)
{
	const struct k3sup__candidate *running = i < s->view.sighting.count ? &s->view.sighting.candidates[i] : NULL;
	_free_ char *like = running ? k3sup__unpacked_of(running) : NULL;
	const struct k3sup__unpack want = {
		.fd = fd,
		.shown = s->staged ? s->payload.shown : s->view.installed.path,
		.build = &s->payload.build,
		.data_dir = k3sup__view_data_dir(&s->view, i),
		.only_torn = s->start_awaited && !s->staged,
		.like = like,
	};
	bool refuse = true;
	int r = k3sup__unpack_run(op, s->node.node, &want, &refuse);

	s->unpacked |= r > 0;
	if (r >= 0 || refuse)
		return r;
	k3sup__warn(op, "the new k3s will unpack itself when it starts: %s", k3sup__op_sentence(op) ? k3sup__op_sentence(op) : k3sup_strerror(r));
	k3sup__unpack_skip(op, k3sup__op_sentence(op) ? k3sup__op_sentence(op) : k3sup_strerror(r));
	k3sup__op_forgive(op);
	return 0;
}

int k3sup__upgrade_unpack(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	struct k3sup__plan todo;
	_close_ int fd = -1;
	int r;

	if (s->payload.untrusted) {
		k3sup__unpack_skip(op, "others than root could write it, and nothing says which bytes are right");
		return 0;
	}
	if (runs_elsewhere(s)) {
		k3sup__unpack_skip(op, "the running k3s sees another root than this one");
		return 0;
	}
	r = fd = open_program(op, s);
	for (size_t i = 0; r >= 0 && k3sup__view_data_dir(&s->view, i); i++)
		r = unpack(op, s, fd, i);
	if (r < 0 || !s->staged)
		return r < 0 ? r : 0;
	todo = k3sup__upgrade_todo(s, NULL);
	return k3sup__admit_unpacked(op, s->node.node, &todo);
}
