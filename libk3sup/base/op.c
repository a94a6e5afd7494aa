/* SPDX-License-Identifier: Apache-2.0 */
#include <k3sup/op.h>

#include "base/engine.h"
#include "base/process.h"

#include <poll.h>

/* ---- making ---- */

int k3sup__op_new(k3sup_ctx *ctx, const struct k3sup__op_class *class, int64_t deadline, k3sup_op **ret_op)
{
	k3sup_op *op;
	int r = ctx->lost_result ? 0 : k3sup__outcome_reserve(ctx);

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

void *k3sup__op_state(k3sup_op *op)
{
	return op->state;
}
k3sup_ctx *k3sup__op_ctx(k3sup_op *op)
{
	return op->ctx;
}
enum k3sup__woke k3sup__op_woke(k3sup_op *op)
{
	return op->woke;
}
int k3sup__op_stop_code(k3sup_op *op)
{
	return op->stopping;
}
int64_t k3sup__op_deadline(k3sup_op *op)
{
	return op->deadline;
}
int k3sup__op_work_result(k3sup_op *op)
{
	return op->work_result;
}
k3sup_op *k3sup__op_child(k3sup_op *op)
{
	return op->child;
}
k3sup__json *k3sup__op_facts(k3sup_op *op)
{
	return op ? op->facts : NULL;
}
void k3sup__op_no_return(k3sup_op *op)
{
	op->past_return = true;
}
void k3sup__op_may_stop(k3sup_op *op)
{
	op->past_return = false;
	if (op->stop) /* asked when it could not be stopped; nobody asks again */
		k3sup__ctx_ask_stop(op->ctx);
}
bool k3sup__op_is_past_return(k3sup_op *op)
{
	return op->past_return;
}

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

void k3sup__op_release(k3sup_op *op)
{
	if (--op->refs > 0)
		return;
	for (size_t i = 0; i < op->n_processes; i++)
		k3sup_process_unref(op->processes[i]);
	free(op->processes);
	k3sup__json_unref(op->evidence);
	k3sup_doc_unref(op->result); /* and with it the facts */
	k3sup_doc_unref(op->error);
	free(op->message);
	free(op->step_text);
	free(op);
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
