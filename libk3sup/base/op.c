/* SPDX-License-Identifier: Apache-2.0 */
#include <k3sup/op.h>

#include "base/engine.h"
#include "base/process.h"

#include <poll.h>

/* ---- making ---- */

/* An operation that ends when memory is gone still has its documents: these. */
static int make_lost_docs(k3sup_ctx *ctx)
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

int k3sup__op_new(k3sup_ctx *ctx, const struct k3sup__op_class *class, int64_t deadline, k3sup_op **ret_op)
{
	k3sup_op *op;
	int r = ctx->lost_result ? 0 : make_lost_docs(ctx);

	if (r < 0)
		return r;
	op = calloc(1, sizeof(*op));
	if (!op)
		return -ENOMEM;
	r = -ENOMEM;
	op->state = calloc(1, class->state_size ? class->state_size : 1);
	op->facts = k3sup__json_object();
	if (op->state && op->facts)
		r = k3sup__ctx_reserve_timers(ctx);
	if (r < 0) {
		k3sup__json_unref(op->facts);
		free(op->state);
		free(op);
		return r;
	}
	op->ctx = k3sup_ctx_ref(ctx);
	op->class = class;
	op->users = 1;
	op->refs = 2;
	op->deadline = deadline;
	op->wait_deadline = K3SUP__NEVER;
	op->down_total = -1;
	op->at = OP_READY;
	op->woke = K3SUP__WOKE_START;
	TAILQ_INSERT_TAIL(&ctx->all, op, all);
	TAILQ_INSERT_TAIL(&ctx->ready, op, ready);
	k3sup__ctx_wake(ctx);
	*ret_op = op;
	return 0;
}

void *k3sup__op_state(k3sup_op *op) { return op->state; }
k3sup_ctx *k3sup__op_ctx(k3sup_op *op) { return op->ctx; }
enum k3sup__woke k3sup__op_woke(k3sup_op *op) { return op->woke; }
int k3sup__op_stop_code(k3sup_op *op) { return op->stopping; }
int64_t k3sup__op_deadline(k3sup_op *op) { return op->deadline; }
int k3sup__op_work_result(k3sup_op *op) { return op->work_result; }
k3sup_op *k3sup__op_child(k3sup_op *op) { return op->child; }
k3sup__json *k3sup__op_facts(k3sup_op *op) { return op ? op->facts : NULL; }
void k3sup__op_no_return(k3sup_op *op) { op->past_return = true; }
void k3sup__op_may_stop(k3sup_op *op) { op->past_return = false; }
bool k3sup__op_is_past_return(k3sup_op *op) { return op->past_return; }

k3sup__json *k3sup__op_evidence(k3sup_op *op)
{
	if (!op || op->sealed)
		return NULL;
	if (!op->evidence)
		op->evidence = k3sup__json_object();
	return op->evidence;
}

void k3sup__op_on_end(k3sup_op *op, void (*fn)(void *arg), void *arg)
{
	op->on_end = fn;
	op->on_end_arg = arg;
}

int k3sup__op_add_process(k3sup_op *op, k3sup_process *process)
{
	k3sup_process **more = reallocarray(op->processes, op->n_processes + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	op->processes = more;
	op->processes[op->n_processes++] = k3sup_process_ref(process);
	return 0;
}

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

/* ---- stopping ---- */

bool k3sup__op_can_stop(const k3sup_op *op)
{
	return !op->past_return && !op->stopping;
}

static int stop_reason(k3sup_op *op)
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
	int stop = op ? stop_reason(op) : 0;

	return stop ? k3sup__fail(op, stop, "%s", k3sup_strerror(stop)) : 0;
}

void k3sup_op_cancel(k3sup_op *op)
{
	int expected = 0;

	if (!op || !atomic_compare_exchange_strong(&op->stop, &expected, K3SUP_E_CANCELLED))
		return;
	op->ctx->stop_pending = true;
	k3sup__ctx_wake(op->ctx);
}

/* Loop thread: operations that wait, or whose work has not begun, hear at once that they shall stop. Those in a work function ask by themselves. */
void k3sup__op_look_at_stop(k3sup_ctx *ctx)
{
	k3sup_op *op;

	if (!atomic_exchange(&ctx->stop_pending, false))
		return;
	TAILQ_FOREACH(op, &ctx->all, all) {
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

static k3sup__json *error_json(k3sup_op *op)
{
	k3sup__json *error = k3sup__json_object();

	k3sup__json_set_int(error, "code", op->status);
	k3sup__json_set_str(error, "name", k3sup_error_name(op->status));
	k3sup__json_set_str(error, "message", op->message ? op->message : k3sup_strerror(op->status));
	k3sup__json_set(error, "evidence", op->evidence ? k3sup__json_ref(op->evidence) : k3sup__json_object());
	return error;
}

static void freeze(k3sup_op *op)
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

static void op_end(k3sup_op *op, int status)
{
	k3sup_ctx *ctx = op->ctx;
	k3sup_op *parent = op->parent;

	op->status = status;
	if (status < 0 && !op->failed)
		(void)k3sup__fail(op, status, "%s", k3sup_strerror(status));
	k3sup__progress_end(op);
	freeze(op);
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

void k3sup__op_release(k3sup_op *op)
{
	if (--op->refs > 0)
		return;
	for (size_t i = 0; i < op->n_processes; i++)
		k3sup_process_unref(op->processes[i]);
	free(op->processes);
	k3sup__json_unref(op->facts);
	k3sup__json_unref(op->evidence);
	k3sup_doc_unref(op->result);
	k3sup_doc_unref(op->error);
	free(op->message);
	free(op->step_text);
	free(op);
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
		int stop = op->abandoned ? K3SUP_E_CANCELLED : stop_reason(op);

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

/* ---- the public face ---- */

k3sup_op *k3sup_op_ref(k3sup_op *op)
{
	if (op) {
		op->users++;
		op->refs++;
	}
	return op;
}

k3sup_op *k3sup_op_unref(k3sup_op *op)
{
	k3sup_ctx *ctx;

	if (!op)
		return NULL;
	ctx = op->ctx;
	if (--op->users > 0) {
		op->refs--;
		return NULL;
	}
	op->done = NULL;
	op->progress = NULL;
	if (op->at != OP_ENDED)
		k3sup_op_cancel(op);
	k3sup__op_release(op);
	return (k3sup_op *)(void *)k3sup_ctx_unref(ctx);
}

int k3sup_op_status(k3sup_op *op)
{
	if (!op)
		return -EINVAL;
	return op->at == OP_ENDED ? op->status : -EINPROGRESS;
}

static int wait_loop(k3sup_op *op, int64_t deadline)
{
	for (;;) {
		int64_t now, left;
		int r;

		if (op->at == OP_ENDED)
			return op->status;
		r = k3sup_ctx_dispatch(op->ctx);
		if (r < 0)
			return r;
		if (op->at == OP_ENDED)
			return op->status;
		now = k3sup__now_ms();
		if (now >= deadline)
			return -EINPROGRESS;
		if (r > 0)
			continue;
		left = deadline == K3SUP__NEVER ? -1 : deadline - now;
		if (left > 3600 * 1000)
			left = 3600 * 1000; /* poll() takes an int */
		if (poll(&(struct pollfd){.fd = k3sup_ctx_fd(op->ctx), .events = POLLIN}, 1, (int)left) < 0 && errno != EINTR)
			return -errno;
	}
}

int k3sup_op_wait(k3sup_op *op, int64_t timeout_ms)
{
	int r;

	if (!op)
		return -EINVAL;
	k3sup_op_ref(op); /* a callback may give the caller's reference back */
	r = wait_loop(op, k3sup__deadline(timeout_ms));
	k3sup_op_unref(op);
	return r;
}

int k3sup_op_set_done(k3sup_op *op, k3sup_done_fn fn, void *userdata)
{
	if (!op)
		return -EINVAL;
	op->done = fn;
	op->done_data = userdata;
	if (op->at == OP_ENDED && fn && !op->notify) {
		op->notify = true;
		op->refs++;
		TAILQ_INSERT_TAIL(&op->ctx->ready, op, ready);
		k3sup__ctx_wake(op->ctx);
	}
	return 0;
}

int k3sup_op_set_progress(k3sup_op *op, k3sup_progress_fn fn, void *userdata)
{
	if (!op)
		return -EINVAL;
	op->progress = fn;
	op->progress_data = userdata;
	return 0;
}

k3sup_doc *k3sup_op_result(k3sup_op *op)
{
	return op && op->at == OP_ENDED ? op->result : NULL;
}

k3sup_doc *k3sup_op_error(k3sup_op *op)
{
	return op && op->at == OP_ENDED ? op->error : NULL;
}

int k3sup_op_process(k3sup_op *op, uint32_t index, k3sup_process **ret_process)
{
	if (!op || !ret_process)
		return -EINVAL;
	if (op->at != OP_ENDED)
		return -EINPROGRESS;
	if (index >= op->n_processes)
		return -ENOENT;
	*ret_process = k3sup_process_ref(op->processes[index]);
	return 0;
}
