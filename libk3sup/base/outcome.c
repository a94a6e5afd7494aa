/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The documents with which an operation ends.
 */
#include "base/engine.h"

/* An operation that ends when memory is gone still has its documents: these. */
int k3sup__outcome_reserve(k3sup_ctx *ctx)
{
	k3sup__json *error = k3sup__json_object(), *result = k3sup__json_object();
	int r = 0;

	k3sup__json_set_int(error, "code", -ENOMEM);
	k3sup__json_set_str(error, "name", k3sup_error_name(-ENOMEM));
	k3sup__json_set_str(error, "message", "there was no memory left to say how it ended");
	k3sup__json_set(error, "evidence", k3sup__json_object());
	k3sup__json_set_bool(result, "ok", false);
	k3sup__json_set(result, "error", k3sup__json_ref(error));
	if (k3sup__json_broken(result))
		r = -ENOMEM;
	if (r == 0)
		r = k3sup__doc_new(k3sup__json_ref(error), &ctx->lost_error);
	if (r == 0)
		r = k3sup__doc_new(k3sup__json_ref(result), &ctx->lost_result);
	k3sup__json_unref(error);
	k3sup__json_unref(result);
	if (r < 0)
		ctx->lost_error = k3sup_doc_unref(ctx->lost_error);
	return r;
}

static k3sup__json *error_json(k3sup_op *op)
{
	k3sup__json *error = k3sup__json_object();

	k3sup__json_set_int(error, "code", op->status);
	k3sup__json_set_str(error, "name", k3sup_error_name(op->status));
	k3sup__json_set_str(error, "message", op->message ? op->message : k3sup_strerror(op->status));
	k3sup__json_set(error, "evidence", op->evidence ? k3sup__json_ref(op->evidence) : k3sup__json_object());
	return error;
}

void k3sup__outcome_freeze(k3sup_op *op)
{
	k3sup__json_set_bool(op->facts, "ok", op->status >= 0);
	if (!k3sup__json_member(op->facts, "changed"))
		k3sup__json_set_bool(op->facts, "changed", op->status > 0);
	if (op->status < 0) {
		k3sup__json *error = error_json(op);

		if (k3sup__json_broken(error) || k3sup__doc_new(k3sup__json_ref(error), &op->error) < 0)
			op->error = NULL;
		k3sup__json_set(op->facts, "error", error);
	}
	/* A document with holes must not look like one that has nothing to say there. */
	if (k3sup__json_broken(op->facts) || k3sup__doc_new(k3sup__json_ref(op->facts), &op->result) < 0) {
		op->result = k3sup_doc_ref(op->ctx->lost_result);
		if (op->status >= 0)
			op->status = -ENOMEM;
	}
	if (op->status < 0 && !op->error)
		op->error = k3sup_doc_ref(op->ctx->lost_error);
}

static int adopt_evidence(const char *key, k3sup__json *value, void *arg)
{
	k3sup__json_set(arg, key, k3sup__json_ref(value));
	return 0;
}

int k3sup__op_adopt(k3sup_op *op, k3sup_op *child)
{
	/* The child's object itself stays as it is: its documents show it. */
	if (child->status < 0 && !op->failed) {
		(void)k3sup__fail(op, child->status, "%s", child->message ? child->message : k3sup_strerror(child->status));
		if (child->evidence)
			(void)k3sup__json_each(child->evidence, adopt_evidence, k3sup__op_evidence(op));
	}
	return child->status;
}
