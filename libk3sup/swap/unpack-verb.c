/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>

#include "node/said.h"
#include "swap/bytes.h"
#include "swap/observed.h"
#include "swap/swap.h"
#include "swap/unpack.h"

struct unpack_state {
	struct k3sup__node_state node;
	struct k3sup__source source;
	int64_t lock_deadline;
	bool installed; /* no payload was given */
};

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 9}, {"unpack", 90}};

/* What is installed is executed as it is: its supervisor does nothing else. */
static int load_installed(k3sup_op *op, k3sup_node *node, struct k3sup__source *source, struct k3sup__place *installed)
{
	int r = k3sup__installed_find(op, node, NULL, installed);

	if (r < 0)
		return r;
	r = source->fd = k3sup__place_open(installed, O_RDONLY);
	return r < 0 ? k3sup__fail(op, r, "cannot read %s: %s", installed->path, k3sup_strerror(r)) : 0;
}

/* The digest is of the bytes that are copied: whoever changes the file in between only makes this fail. */
static int load_sealed(k3sup_op *op, struct k3sup__payload *payload, int *ret_fd)
{
	struct k3sup__build *build = &payload->build;
	int r;

	if (payload->untrusted)
		return k3sup__fail(op, K3SUP_E_UNTRUSTED,
			"others than root could write %s, and nothing says which bytes are right: it is not executed", payload->shown);
	r = k3sup__bytes_digest(op, payload->fd, payload->shown, build->sha256);
	if (r >= 0)
		r = k3sup__payload_prove(op, payload, build->sha256);
	if (r >= 0)
		r = k3sup__sealed_copy(op, payload->fd, payload->shown, build, ret_fd);
	return r < 0 ? k3sup__fail(op, r, "there is no private copy of %s: %s", payload->shown, k3sup_strerror(r)) : 0;
}

static int unpack(k3sup_op *op, struct unpack_state *s, struct k3sup__payload *payload)
{
	k3sup_node *node = s->node.node;
	_free_ char *data_dir = NULL, *like = NULL;
	k3sup__json *where;
	const char *source;
	_close_ int sealed = -1;
	bool refuse;
	int r = k3sup__observe_data_dir(op, node, &data_dir, &source, &like);

	if (r < 0)
		return r;
	where = k3sup__json_object();
	k3sup__json_set_str(where, "path", data_dir);
	k3sup__json_set_str(where, "source", source);
	k3sup__json_set(k3sup__op_facts(op), "data_dir", where);
	if (s->installed)
		r = k3sup__payload_verify(op, payload);
	else if (payload->build.wrapper)
		r = load_sealed(op, payload, &sealed);
	if (r >= 0) {
		const struct k3sup__unpack want = {
			.fd = s->installed ? payload->fd : sealed,
			.shown = payload->shown,
			.build = &payload->build,
			.data_dir = data_dir,
			.like = like,
		};

		r = k3sup__unpack_run(op, node, &want, &refuse);
	}
	return r;
}

static int work(k3sup_op *op)
{
	struct unpack_state *s = k3sup__op_state(op);
	k3sup_node *node = s->node.node;
	_cleanup_(k3sup__place_clear) struct k3sup__place installed = K3SUP__PLACE_NONE;
	struct k3sup__payload payload = K3SUP__PAYLOAD_NONE;
	int r = k3sup__node_take_turn(op, node);

	if (r < 0)
		return r;
	k3sup__op_begin(op, "identify", "looking at the payload, and for the data-dir");
	r = s->installed ? load_installed(op, node, &s->source, &installed) : 0;
	if (r >= 0)
		r = k3sup__payload_load(op, node, &s->source, &payload);
	if (r >= 0 && s->installed) {
		payload.shown = installed.path;
		k3sup__wanted_report(op, &payload, NULL);
	}
	if (r >= 0)
		r = unpack(op, s, &payload);
	k3sup__json_set_bool(k3sup__op_facts(op), "changed", r > 0);
	k3sup__proof_report(op, payload.proof);
	k3sup__payload_clear(&payload);
	return r;
}

static int step(k3sup_op *op)
{
	const struct unpack_state *s = k3sup__op_state(op);

	return k3sup__node_turn_step(op, s->lock_deadline, plan, ELEMENTSOF(plan), work);
}

static void clear(k3sup_op *op)
{
	struct unpack_state *s = k3sup__op_state(op);

	k3sup__node_give_turn(op, s->node.node);
	k3sup__source_clear(&s->source);
}

static const struct k3sup__op_class class = {
	.verb = "unpack",
	.state_size = sizeof(struct unpack_state),
	.step = step,
	.clear = clear,
};

/* Without a payload there is no place yet: the node says which file that is. */
static int take(const struct k3sup_unpack_opts *o, bool *ret_installed, struct k3sup__source *ret)
{
	const struct k3sup__given_terms terms = {
		.sha256 = o->sha256, .sums = o->sums, .signature = o->signature, .key = o->key, .expect_version = o->expect_version};

	*ret_installed = !o->payload && !(o->flags & K3SUP_UNPACK_PAYLOAD_FD);
	if (!*ret_installed)
		return k3sup__source_take(o->payload, o->flags & K3SUP_UNPACK_PAYLOAD_FD, o->payload_fd, &terms, ret);
	*ret = (struct k3sup__source){.fd = -1};
	return k3sup__terms_take(&terms, &ret->terms);
}

int k3sup_unpack(k3sup_node *node, const struct k3sup_unpack_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_unpack_opts o;
	struct k3sup__source source;
	struct unpack_state *s;
	k3sup_op *op;
	bool installed;
	int r = node && ret_op ? k3sup__opts(opts, &o, sizeof(o), K3SUP_UNPACK_PAYLOAD_FD) : -EINVAL;

	if (r >= 0 && (o.reserved || o.reserved2 || o.reserved3))
		r = -EINVAL;
	if (r >= 0)
		r = take(&o, &installed, &source);
	if (r < 0)
		return r;
	r = k3sup__node_op_new(node, &class, k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000), &op);
	if (r < 0) {
		k3sup__source_clear(&source);
		return r;
	}
	s = k3sup__op_state(op);
	s->source = source;
	s->installed = installed;
	s->lock_deadline = k3sup__deadline(o.wait_lock_ms);
	*ret_op = op;
	return 0;
}
