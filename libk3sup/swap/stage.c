/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/observed.h"
#include "swap/preflight.h"

#include <k3sup/ctx.h>

struct stage_state {
	struct k3sup__node_state node;
	struct k3sup__images images;
	int64_t lock_deadline;
	uint32_t flags;
};

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 9}, {"images", 90}};

static int put(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images)
{
	int r = k3sup__images_look(op, node, images, data_dir);

	if (r >= 0)
		r = k3sup__admit_images(op, node, images);
	if (r >= 0)
		r = k3sup__images_stage(op, node, data_dir, images);
	k3sup__images_report(op, images);
	return r;
}

/* All of them have to be authentic for the whole to be. */
static void report(k3sup_op *op, const struct k3sup__images *images, const char *data_dir, const char *source)
{
	k3sup__json *where = k3sup__json_object();
	const char *weakest = images->count > 0 ? "signature" : "none";

	for (size_t i = 0; i < images->count; i++) {
		const struct k3sup__proof *proof = &images->list[i].proof;

		if (!proof->proven || k3sup__streq(proof->kind, "none"))
			weakest = "none";
		else if (k3sup__streq(weakest, "signature"))
			weakest = proof->kind;
	}
	k3sup__json_set_str(k3sup__op_facts(op), "authenticated", weakest);
	k3sup__json_set_str(where, "path", data_dir);
	k3sup__json_set_str(where, "source", source);
	k3sup__json_set(k3sup__op_facts(op), "data_dir", where);
}

static int work(k3sup_op *op)
{
	struct stage_state *s = k3sup__op_state(op);
	k3sup_node *node = s->node.node;
	_free_ char *data_dir = NULL;
	const char *source;
	int r = k3sup__node_take_turn(op, node), more = 0;

	if (r < 0)
		return r;
	k3sup__op_begin(op, "identify", "looking for the data-dir");
	r = k3sup__observe_data_dir(op, node, &data_dir, &source, NULL);
	if (r >= 0 && s->images.count > 0)
		r = put(op, node, data_dir, &s->images);
	if (r >= 0 && s->flags != 0)
		more = s->flags & K3SUP_STAGE_COMMIT ? k3sup__images_commit(op, node, data_dir) : k3sup__images_restore(op, node, data_dir, NULL);
	if (more < 0)
		r = more;
	k3sup__json_set_bool(k3sup__op_facts(op), "changed", more > 0 || k3sup__images_changed(&s->images));
	if (data_dir)
		report(op, &s->images, data_dir, source);
	return r < 0 ? r : more > 0 || k3sup__images_changed(&s->images);
}

static int step(k3sup_op *op)
{
	const struct stage_state *s = k3sup__op_state(op);

	return k3sup__node_turn_step(op, s->lock_deadline, plan, ELEMENTSOF(plan), work);
}

static void clear(k3sup_op *op)
{
	struct stage_state *s = k3sup__op_state(op);

	k3sup__node_give_turn(op, s->node.node);
	k3sup__images_clear(&s->images);
}

static const struct k3sup__op_class class = {
	.verb = "stage",
	.state_size = sizeof(struct stage_state),
	.step = step,
	.clear = clear,
};

int k3sup_stage(k3sup_node *node, const struct k3sup_stage_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_stage_opts o;
	struct k3sup__given_terms terms;
	struct k3sup__images images = K3SUP__IMAGES_NONE;
	struct stage_state *s;
	k3sup_op *op;
	int r = node && opts && ret_op ? k3sup__opts(opts, &o, sizeof(o), K3SUP_STAGE_COMMIT | K3SUP_STAGE_RESTORE) : -EINVAL;

	if (r >= 0 && (o.reserved || o.flags == (K3SUP_STAGE_COMMIT | K3SUP_STAGE_RESTORE)))
		r = -EINVAL;
	if (r >= 0) {
		terms = (struct k3sup__given_terms){.sha256 = o.sha256, .sums = o.sums, .signature = o.signature, .key = o.key};
		r = k3sup__images_take(o.files, &terms, &images);
	}
	if (r >= 0 && (images.count == 0) != (o.flags == K3SUP_STAGE_RESTORE) && !(images.count == 0 && o.flags == K3SUP_STAGE_COMMIT))
		r = -EINVAL;
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0) {
		k3sup__images_clear(&images);
		return r;
	}
	s = k3sup__op_state(op);
	s->images = images;
	s->lock_deadline = k3sup__deadline(o.wait_lock_ms);
	s->flags = o.flags;
	k3sup__proof_report(op, NULL); /* until something is proven, whatever it ends with */
	*ret_op = op;
	return 0;
}
