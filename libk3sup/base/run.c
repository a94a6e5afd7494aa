/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an operation moves: its step is called, arranges what comes next, is stopped, ends. All but the checkpoint happens on the loop thread.
 */
#include "base/engine.h"

/* ---- arranging ---- */

int k3sup__op_work(k3sup_op *op, int (*fn)(k3sup_op *op))
{
	op->work = fn;
	op->wait_deadline = K3SUP__NEVER;
	return K3SUP__WORK;
}

int k3sup__op_sleep(k3sup_op *op, int64_t deadline)
{
	op->wait_deadline = deadline;
	return K3SUP__WAIT;
}

int k3sup__op_watch(k3sup_op *op, k3sup_process *process, int64_t deadline)
{
	int r = k3sup__watch_add(op, process);

	if (r < 0)
		return k3sup__fail(op, r, "cannot watch the process: %s", k3sup_strerror(r));
	op->wait_deadline = deadline;
	return K3SUP__WAIT;
}

int k3sup__op_watch_fd(k3sup_op *op, int fd, short events, int64_t deadline)
{
	int r = k3sup__watch_add_fd(op, fd, events);

	if (r < 0)
		return k3sup__fail(op, r, "cannot watch a descriptor: %s", k3sup_strerror(r));
	op->wait_deadline = deadline;
	return K3SUP__WAIT;
}

static void drop_child(k3sup_op *op)
{
	k3sup_op *child = op->child;

	if (!child)
		return;
	op->child = NULL;
	child->parent = NULL;
	if (child->at != OP_ENDED && child->users == 0)
		k3sup_op_cancel(child);
	k3sup__op_release(child);
}

int k3sup__op_call(k3sup_op *op, k3sup_op *child)
{
	drop_child(op);
	op->child = child;
	child->parent = op;
	/* The caller's reference becomes the engine's: an operation that only another one waits for must not keep a context that nobody drives any more. */
	if (--child->users == 0)
		k3sup_ctx_unref(child->ctx);
	/* The child's own deadline bounds the wait; the parent needs no timer of its own meanwhile. */
	if (op->deadline < child->deadline && k3sup__op_can_stop(op))
		child->deadline = op->deadline;
	op->wait_deadline = K3SUP__NEVER;
	return K3SUP__WAIT;
}

/* ---- stopping ---- */

bool k3sup__op_can_stop(const k3sup_op *op)
{
	return !op->past_return && !op->stopping;
}

int k3sup__op_stop_reason(k3sup_op *op)
{
	if (!k3sup__op_can_stop(op))
		return 0;
	/* Callers only know the outermost operation. Those that wait for this one stand still, so their fields may be read here. */
	for (const k3sup_op *asked = op; asked && k3sup__op_can_stop(asked); asked = asked->parent)
		if (asked->stop)
			return asked->stop;
	return k3sup__now_ms() >= op->deadline ? K3SUP_E_TIMEOUT : 0;
}

int k3sup__op_checkpoint(k3sup_op *op)
{
	int stop = op ? k3sup__op_stop_reason(op) : 0;

	return stop ? k3sup__fail(op, stop, "%s", k3sup_strerror(stop)) : 0;
}

void k3sup_op_cancel(k3sup_op *op)
{
	int expected = 0;

	if (!op || !atomic_compare_exchange_strong(&op->stop, &expected, K3SUP_E_CANCELLED))
		return;
	k3sup__ctx_ask_stop(op->ctx);
}

/* Loop thread: operations that wait, or whose work has not begun, hear at once that they shall stop. Those in a work function ask by themselves. */
void k3sup__op_look_at_stop(k3sup_ctx *ctx)
{
	k3sup_op *op;

	if (!atomic_exchange(&ctx->stop_pending, false))
		return;
	TAILQ_FOREACH (op, &ctx->all, all) {
		int expected = 0;

		if (!op->stop || (!k3sup__op_can_stop(op) && !op->abandoned))
			continue;
		if (op->at == OP_WAITING && op->child && op->child->parent == op) {
			/* A parent does not end before its child has come to a safe point. */
			if (atomic_compare_exchange_strong(&op->child->stop, &expected, op->stop))
				ctx->stop_pending = true;
			op->child->abandoned |= op->abandoned;
		} else if (op->at == OP_WAITING) {
			k3sup__ctx_make_ready(op, op->woke);
		} else if (op->at == OP_WORKING && k3sup__worker_unqueue(op)) {
			k3sup__ctx_make_ready(op, op->woke);
		}
	}
	if (ctx->stop_pending) /* children later or earlier in the list: another round */
		k3sup__ctx_wake(ctx);
}

/* ---- ending ---- */

static void op_end(k3sup_op *op, int status)
{
	k3sup_ctx *ctx = op->ctx;
	k3sup_op *parent = op->parent;

	op->status = status;
	if (status < 0 && !op->failed)
		(void)k3sup__fail(op, status, "%s", k3sup_strerror(status));
	if (status < 0 && !parent)
		k3sup__log(op, K3SUP_LOG_ERR, "%s: %s", k3sup_error_name(status), op->message ? op->message : k3sup_strerror(status));
	if (status >= 0)
		k3sup__progress_complete(op);
	k3sup__progress_end(op);
	k3sup__outcome_freeze(op);
	if (op->class->clear)
		op->class->clear(op);
	free(op->state);
	op->state = NULL;
	drop_child(op);
	k3sup__watch_remove(op); /* of a step that arranged a watch and then failed */
	if (op->on_end)
		op->on_end(op->on_end_arg);
	op->at = OP_ENDED;
	TAILQ_REMOVE(&ctx->all, op, all);
	op->parent = NULL;
	if (parent)
		k3sup__ctx_make_ready(parent, K3SUP__WOKE_CHILD);
	if (op->done)
		op->done(op, op->done_data);
	k3sup__op_release(op);
}

/* ---- running ---- */

/* Hands the operation to the worker, or does the work here. True: the step is due again. */
static bool do_work(k3sup_op *op, int *ret_status)
{
	if (op->ctx->flags & K3SUP_CTX_INLINE) {
		op->ctx->worked = true;
		op->work_result = op->work(op);
		k3sup__ctx_make_ready(op, K3SUP__WOKE_WORK); /* not at once: others may be ready, too */
		return false;
	}
	op->at = OP_WORKING;
	k3sup__ctx_arm(op); /* it may have to wait for others' work longer than it has time */
	*ret_status = k3sup__worker_submit(op);
	if (*ret_status == 0)
		return false;
	(void)k3sup__fail(op, *ret_status, "cannot start the worker thread: %s", k3sup_strerror(*ret_status));
	k3sup__ctx_disarm(op);
	op->at = OP_READY;
	return true;
}

static int stop_op(k3sup_op *op, int stop)
{
	if (op->failed && op->fail_code != stop)
		k3sup__op_forgive(op); /* something failed at the same moment, but that is not why it ends */
	(void)k3sup__fail(op, stop, "%s", k3sup_strerror(stop));
	if (!op->class->concludes || op->abandoned)
		return stop;
	op->stopping = stop;
	op->woke = K3SUP__WOKE_STOP;
	return op->class->step(op);
}

void k3sup__op_run(k3sup_op *op)
{
	int r, failed = 0;

	if (op->notify) {
		op->notify = false;
		if (op->done)
			op->done(op, op->done_data);
		k3sup__op_release(op);
		return;
	}
	for (;;) {
		int stop = op->abandoned ? K3SUP_E_CANCELLED : k3sup__op_stop_reason(op);

		if (failed < 0)
			r = failed;
		else if (stop)
			r = stop_op(op, stop);
		else
			r = op->class->step(op);
		if (r == K3SUP__AGAIN)
			continue;
		if (r == K3SUP__WORK) {
			if (do_work(op, &failed))
				continue;
			return;
		}
		if (r == K3SUP__WAIT) {
			op->at = OP_WAITING;
			if (op->child && op->child->parent == op)
				return;
			k3sup__ctx_arm(op);
			return;
		}
		op_end(op, r);
		return;
	}
}
