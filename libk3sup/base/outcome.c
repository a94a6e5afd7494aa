/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The documents with which an operation ends.
 */
#include "base/engine.h"

/* An operation that ends when memory is gone still has its documents: these. */
int k3sup__outcome_reserve(k3sup_ctx *ctx)
{
	k3sup__json *error = k3sup__json_object(), *result = k3sup__json_object();
	int r;

	k3sup__json_set_int(error, "code", -ENOMEM);
	k3sup__json_set_str(error, "name", k3sup_error_name(-ENOMEM));
	k3sup__json_set_str(error, "message", "there was no memory left to say how it ended");
	k3sup__json_set(error, "evidence", k3sup__json_object());
	k3sup__json_set_bool(result, "ok", false);
	k3sup__json_set(result, "error", error);
	r = k3sup__doc_new(result, &ctx->lost_result);
	if (r == 0)
		r = k3sup_doc_get(ctx->lost_result, "/error", &ctx->lost_error);
	if (r < 0)
		ctx->lost_result = k3sup_doc_unref(ctx->lost_result);
	return r;
}

static void set_error(k3sup_op *op)
{
	k3sup__json *error = k3sup__json_object();

	k3sup__json_set_int(error, "code", op->status);
	k3sup__json_set_str(error, "name", k3sup_error_name(op->status));
	k3sup__json_set_str(error, "message", op->message ? op->message : k3sup_strerror(op->status));
	k3sup__json_set(error, "evidence", op->evidence ? op->evidence : k3sup__json_object());
	op->evidence = NULL;
	k3sup__json_set(op->facts, "error", error);
}

/* The values become the result's alone: it may be given back on any thread. op->facts can still be read. */
void k3sup__outcome_freeze(k3sup_op *op)
{
	k3sup__json_set_bool(op->facts, "ok", op->status >= 0);
	if (!k3sup__json_member(op->facts, "changed"))
		k3sup__json_set_bool(op->facts, "changed", op->status > 0);
	if (op->status < 0)
		set_error(op);
	/* A document with holes must not look like one that has nothing to say there; a broken value becomes none. */
	if (k3sup__doc_new(op->facts, &op->result) < 0) {
		op->facts = NULL;
		op->result = k3sup_doc_ref(op->ctx->lost_result);
		if (op->status >= 0)
			op->status = -ENOMEM;
	}
	if (op->status < 0 && k3sup_doc_get(op->result, "/error", &op->error) < 0)
		op->error = k3sup_doc_ref(op->ctx->lost_error);
}

static int adopt_evidence(const char *key, k3sup__json *value, void *arg)
{
	k3sup__json_set(arg, key, k3sup__json_ref(value));
	return 0;
}

static void adopt(k3sup_op *op, int code, const char *message, const k3sup__json *evidence)
{
	if (op->failed)
		return;
	(void)k3sup__fail(op, code, "%s", message ? message : k3sup_strerror(code));
	(void)k3sup__json_each(evidence, adopt_evidence, k3sup__op_evidence(op));
}

int k3sup__op_adopt(k3sup_op *op, k3sup_op *child)
{
	if (child->status < 0)
		adopt(op, child->status, child->message, k3sup__json_member(k3sup__doc_value(child->error), "evidence"));
	return child->status;
}

int k3sup__op_take_failure(k3sup_op *op, k3sup_op *from, int code)
{
	adopt(op, code, from->message, from->evidence);
	k3sup__op_forgive(from);
	return code;
}
