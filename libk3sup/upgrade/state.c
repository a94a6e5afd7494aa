/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/view.h"

#include "process/probe.h"
#include "upgrade/records.h"

#define ANSWER_WITHIN_MS 2000

struct state_state {
	struct k3sup__node_state node;
	struct k3sup__source source;
	struct k3sup__payload payload;
	struct k3sup__view view;
	bool has_payload, looked;
};

static const struct k3sup__step plan[] = {{"verify", 80}, {"identify", 20}};

static int look(k3sup_op *op)
{
	struct state_state *s = k3sup__op_state(op);
	struct k3sup__payload *payload = s->has_payload ? &s->payload : NULL;
	int r = 0;

	if (payload) {
		k3sup__op_begin(op, "verify", "looking at the payload");
		r = k3sup__payload_load(op, s->node.node, &s->source, payload);
	}
	if (r >= 0 && payload)
		r = k3sup__payload_verify(op, payload);
	if (r >= 0) {
		k3sup__op_begin(op, "identify", "looking at the node");
		r = k3sup__view_take(op, s->node.node, payload, &s->view);
	}
	if (r >= 0)
		r = k3sup__view_ask_manager(op, s->node.node, &s->view);
	if (payload)
		k3sup__proof_report(op, payload->proof);
	return r;
}

/* What runs was not yet ready when an earlier run ended, and nothing else is missing: is it now? */
static bool was_not_ready(const struct k3sup__view *v)
{
	return k3sup__entry_has(v->records, k3sup__json_text(v->open_entry, "op"), K3SUP__EVENT_NOT_READY) && v->running_error == 0 &&
		v->sighting.count == 1 && v->installed.fd >= 0 && !v->pending && !v->unpacking && !v->holder && !v->at_work;
}

static int report(k3sup_op *op)
{
	const struct state_state *s = k3sup__op_state(op);

	k3sup__view_report(op, s->node.node, &s->view);
	return 0;
}

static int begin_report(k3sup_op *op)
{
	struct state_state *s = k3sup__op_state(op);

	s->looked = true;
	return k3sup__op_work(op, report);
}

static int after_look(k3sup_op *op)
{
	struct state_state *s = k3sup__op_state(op);
	k3sup_op *child;
	int r = k3sup__op_work_result(op);

	if (r < 0)
		return r;
	if (!was_not_ready(&s->view))
		return begin_report(op);
	r = k3sup__probe_op(s->node.node, &s->view.sighting.candidates[0], K3SUP_PROBE_AUTO, k3sup__deadline(ANSWER_WITHIN_MS), &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

static int step(k3sup_op *op)
{
	struct state_state *s = k3sup__op_state(op);

	switch (k3sup__op_woke(op)) {
	case K3SUP__WOKE_WORK:
		return s->looked ? k3sup__op_work_result(op) : after_look(op);
	case K3SUP__WOKE_CHILD:
		s->view.not_ready = k3sup_op_status(k3sup__op_child(op)) == K3SUP_E_NOT_READY;
		return begin_report(op);
	default:
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
		return k3sup__op_work(op, look);
	}
}

static void clear(k3sup_op *op)
{
	struct state_state *s = k3sup__op_state(op);

	k3sup__view_clear(&s->view);
	k3sup__payload_clear(&s->payload);
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
	s->payload = K3SUP__PAYLOAD_NONE;
	s->view.installed = K3SUP__PLACE_NONE;
	s->has_payload = o.payload != NULL;
	*ret_op = op;
	return 0;
}
