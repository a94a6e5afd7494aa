/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/view.h"

struct state_state {
	struct k3sup__node_state node;
	struct k3sup__source source;
	bool has_payload;
};

static int work(k3sup_op *op)
{
	struct state_state *s = k3sup__op_state(op);
	struct k3sup__payload payload = K3SUP__PAYLOAD_NONE;
	struct k3sup__view view;
	int r = s->has_payload ? k3sup__payload_load(op, s->node.node, &s->source, &payload) : 0;

	if (r >= 0 && s->has_payload)
		r = k3sup__payload_verify(op, &payload);
	if (r >= 0)
		r = k3sup__view_take(op, s->node.node, s->has_payload ? &payload : NULL, &view);
	if (r >= 0) {
		r = k3sup__view_ask_manager(op, s->node.node, &view);
		if (r >= 0)
			k3sup__view_report(op, s->node.node, &view);
		k3sup__view_clear(&view);
	}
	if (s->has_payload)
		k3sup__proof_report(op, payload.proof);
	k3sup__payload_clear(&payload);
	return r;
}

static int step(k3sup_op *op)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, work);
}

static void clear(k3sup_op *op)
{
	struct state_state *s = k3sup__op_state(op);

	k3sup__source_clear(&s->source);
}

static const struct k3sup__op_class class = {
	.verb = "state",
	.state_size = sizeof(struct state_state),
	.step = step,
	.clear = clear,
};

int k3sup_state(k3sup_node *node, const struct k3sup_state_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_state_opts o;
	struct k3sup__given_terms terms;
	struct k3sup__source source = {.fd = -1};
	struct state_state *s;
	k3sup_op *op;
	int r = node && ret_op ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r >= 0 && (o.reserved || o.reserved2 || (!o.payload && (o.sha256 || o.sums || o.signature || o.key || o.expect_version))))
		r = -EINVAL;
	if (r >= 0 && o.payload) {
		terms = (struct k3sup__given_terms){o.sha256, o.sums, o.signature, o.key, o.expect_version, NULL};
		r = k3sup__source_take(o.payload, false, -1, &terms, &source);
	}
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0) {
		k3sup__source_clear(&source);
		return r;
	}
	s = k3sup__op_state(op);
	s->source = source;
	s->has_payload = o.payload != NULL;
	*ret_op = op;
	return 0;
}
