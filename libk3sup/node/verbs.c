/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public verbs of this room: k3sup_build_read() and k3sup_identify(). Both only look.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/identify.h"
#include "node/said.h"
#include "node/warn.h"

struct build_state {
	char *path; /* NULL: fd */
	int fd;     /* ours */
	unsigned flags;
	bool run_version;
};

/* All steps of these two verbs: one piece of work, and its end is theirs. */
static int run_once(k3sup_op *op, int (*work)(k3sup_op *op))
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, work);
}

static int take_fact(const char *key, k3sup__json *value, void *arg)
{
	k3sup__json_set(arg, key, k3sup__json_ref(value));
	return 0;
}

static int build_work(k3sup_op *op)
{
	struct build_state *s = k3sup__op_state(op);
	k3sup__json *facts = k3sup__op_facts(op), *json;
	struct k3sup__build build;
	int r = 0;

	if (s->path != NULL) {
		k3sup__json_set_str(facts, "path", s->path);
		/* Who could write there matters to those who install it, not to those who ask what it is. */
		r = k3sup__payload_open(op, s->path, 0, &s->fd);
	}
	if (r < 0)
		return r;
	r = k3sup__build_read_fd(op, s->fd, s->path != NULL ? s->path : "the file", s->flags, &build);
	if (r >= 0 && s->run_version)
		r = k3sup__said_ask(op, s->fd, s->path != NULL ? s->path : "the file", &build);
	s->fd = k3sup__close(s->fd); /* many of these may have worked before one of them is ended */
	json = k3sup__build_json(&build);
	(void)k3sup__json_each(json, take_fact, facts);
	k3sup__json_unref(json);
	return r;
}

static int build_step(k3sup_op *op)
{
	return run_once(op, build_work);
}

static void build_clear(k3sup_op *op)
{
	struct build_state *s = k3sup__op_state(op);

	free(s->path);
	s->fd = k3sup__close(s->fd);
}

static const struct k3sup__op_class build_class = {
	.verb = "build_read",
	.state_size = sizeof(struct build_state),
	.step = build_step,
	.clear = build_clear,
};

int k3sup_build_read(k3sup_ctx *ctx, const struct k3sup_build_read_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_build_read_opts o;
	struct build_state *s;
	_free_ char *path = NULL;
	_close_ int fd = -1;
	k3sup_op *op;
	int r;

	if (ctx == NULL || opts == NULL || ret_op == NULL)
		return -EINVAL;
	r = k3sup__opts(opts, &o, sizeof(o), K3SUP_BUILD_READ_FD | K3SUP_BUILD_READ_ARCHIVE | K3SUP_BUILD_READ_RUN_VERSION);
	if (r < 0)
		return r;
	if (o.reserved != NULL || o.reserved2 != 0)
		return -EINVAL;
	if (o.flags & K3SUP_BUILD_READ_FD) {
		fd = fcntl(o.fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return -errno;
	} else if (o.path == NULL) {
		return -EINVAL;
	} else {
		path = strdup(o.path);
		if (path == NULL)
			return -ENOMEM;
	}
	r = k3sup__op_new(ctx, &build_class, K3SUP__NEVER, &op);
	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	*s = (struct build_state){.path = path, .fd = fd, .flags = K3SUP__BUILD_SHA256, .run_version = o.flags & K3SUP_BUILD_READ_RUN_VERSION};
	if (o.flags & K3SUP_BUILD_READ_ARCHIVE)
		s->flags |= K3SUP__BUILD_ARCHIVE;
	path = NULL;
	fd = -1;
	*ret_op = op;
	return 0;
}

struct identify_state {
	struct k3sup__node_state node;
};

/* The installed file helps to recognize a wrapper that unpacks and an image's k3s. Without one there can still be a k3s. */
static void find_installed(k3sup_op *op, k3sup_node *node, struct k3sup__place *ret)
{
	int r = k3sup__installed_find(op, node, NULL, ret);

	if (r == 0) {
		k3sup__json_set_str(k3sup__op_facts(op), "installed", ret->path);
		return;
	}
	k3sup__op_forgive(op);
	if (r != K3SUP_E_TARGET_MISSING)
		k3sup__warn(op, "the installed k3s file is not known: %s", k3sup_strerror(r));
}

static int identify_work(k3sup_op *op)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place installed = K3SUP__PLACE_NONE;
	k3sup_node *node = k3sup__op_node(op);
	k3sup__json *facts = k3sup__op_facts(op);
	struct k3sup__sighting sighting;
	int r;

	find_installed(op, node, &installed);
	r = k3sup__identify_scan(op, node, &installed, &sighting);
	if (r < 0)
		return r;
	k3sup__json_set(facts, "candidates", k3sup__sighting_json(&sighting));
	k3sup__json_set(facts, "passed_over", k3sup__json_copy(sighting.passed_over));
	for (size_t i = 0; r == 0 && i < sighting.count; i++)
		r = k3sup__op_add_process(op, sighting.candidates[i].process);
	if (r == 0)
		r = k3sup__sighting_judge(op, &sighting);
	k3sup__sighting_clear(&sighting);
	return r;
}

static int identify_step(k3sup_op *op)
{
	return run_once(op, identify_work);
}

static const struct k3sup__op_class identify_class = {
	.verb = "identify",
	.state_size = sizeof(struct identify_state),
	.step = identify_step,
};

int k3sup_identify(k3sup_node *node, const struct k3sup_identify_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_identify_opts o;
	int r;

	if (node == NULL || ret_op == NULL)
		return -EINVAL;
	r = k3sup__opts(opts, &o, sizeof(o), 0);
	return r < 0 ? r : k3sup__node_op_new(node, &identify_class, K3SUP__NEVER, ret_op);
}
