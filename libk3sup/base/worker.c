/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker thread of a context: file work, one piece after the other. Not libuv's pool: that one is shared with the host, and a busy pool on either side
 * would delay the other.
 */
#include "base/engine.h"

#include <signal.h>

/* Past so many undelivered messages new ones are dropped: an upgrade never waits for its log. */
#define MAX_MESSAGES 1000u

static void *worker(void *arg)
{
	k3sup_ctx *ctx = arg;
	k3sup_op *op;

	pthread_mutex_lock(&ctx->mutex);
	for (;;) {
		while (!ctx->quit && TAILQ_EMPTY(&ctx->work))
			pthread_cond_wait(&ctx->work_there, &ctx->mutex);
		op = TAILQ_FIRST(&ctx->work);
		if (!op)
			break;
		TAILQ_REMOVE(&ctx->work, op, queue);
		op->queued = false;
		pthread_mutex_unlock(&ctx->mutex);

		op->work_result = k3sup__op_stop_reason(op); /* it may have been asked to stop while it was queued */
		if (op->work_result == 0)
			op->work_result = op->work(op);

		pthread_mutex_lock(&ctx->mutex);
		TAILQ_INSERT_TAIL(&ctx->done_work, op, queue);
		k3sup__ctx_wake(ctx);
	}
	pthread_mutex_unlock(&ctx->mutex);
	return NULL;
}

/* Signals are the host's: none may be delivered on a thread it does not know. */
static int start_thread(k3sup_ctx *ctx)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&ctx->thread, NULL, worker, ctx);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	ctx->thread_runs = r == 0;
	return -r;
}

int k3sup__worker_submit(k3sup_op *op)
{
	k3sup_ctx *ctx = op->ctx;
	int r;

	if (!ctx->thread_runs) {
		r = start_thread(ctx);
		if (r < 0)
			return r;
	}
	pthread_mutex_lock(&ctx->mutex);
	op->queued = true;
	TAILQ_INSERT_TAIL(&ctx->work, op, queue);
	pthread_cond_signal(&ctx->work_there);
	pthread_mutex_unlock(&ctx->mutex);
	return 0;
}

bool k3sup__worker_unqueue(k3sup_op *op)
{
	k3sup_ctx *ctx = op->ctx;
	bool was;

	pthread_mutex_lock(&ctx->mutex);
	was = op->queued;
	if (was) {
		TAILQ_REMOVE(&ctx->work, op, queue);
		op->queued = false;
	}
	pthread_mutex_unlock(&ctx->mutex);
	return was;
}

void k3sup__worker_say(k3sup_ctx *ctx, struct message *message)
{
	bool room;

	pthread_mutex_lock(&ctx->mutex);
	room = ctx->n_messages < MAX_MESSAGES;
	if (room) {
		TAILQ_INSERT_TAIL(&ctx->messages, message, next);
		ctx->n_messages++;
	} else {
		ctx->n_dropped++;
	}
	pthread_mutex_unlock(&ctx->mutex);
	if (room) {
		k3sup__ctx_wake(ctx);
	} else {
		free(message->text);
		free(message);
	}
}

static void deliver(k3sup_ctx *ctx, struct message *message)
{
	if (message->op)
		k3sup__progress_call(message->op, &message->progress);
	else if (ctx->log && message->level <= ctx->log_level)
		ctx->log(message->level, message->component, message->text, ctx->log_data);
	free(message->text);
	free(message);
}

static void tell_dropped(k3sup_ctx *ctx, unsigned count)
{
	_free_ char *text =
		ctx->log && ctx->log_level >= K3SUP_LOG_WARNING ? k3sup__fmt("%u messages were lost: nobody took them in time", count) : NULL;

	if (text)
		ctx->log(K3SUP_LOG_WARNING, "base", text, ctx->log_data);
}

bool k3sup__worker_collect(k3sup_ctx *ctx)
{
	struct message_list said = TAILQ_HEAD_INITIALIZER(said);
	struct op_list done = TAILQ_HEAD_INITIALIZER(done);
	struct message *message;
	unsigned dropped;
	bool any = false;
	k3sup_op *op;

	/* Both at once: what was said before the end of a piece of work is delivered before that end is seen. */
	pthread_mutex_lock(&ctx->mutex);
	TAILQ_CONCAT(&said, &ctx->messages, next);
	ctx->n_messages = 0;
	dropped = ctx->n_dropped;
	ctx->n_dropped = 0;
	TAILQ_CONCAT(&done, &ctx->done_work, queue);
	pthread_mutex_unlock(&ctx->mutex);

	while ((message = TAILQ_FIRST(&said))) {
		TAILQ_REMOVE(&said, message, next);
		deliver(ctx, message);
		any = true;
	}
	if (dropped)
		tell_dropped(ctx, dropped);
	while ((op = TAILQ_FIRST(&done))) {
		TAILQ_REMOVE(&done, op, queue);
		k3sup__ctx_make_ready(op, K3SUP__WOKE_WORK);
		any = true;
	}
	return any;
}

void k3sup__worker_stop(k3sup_ctx *ctx)
{
	if (!ctx->thread_runs)
		return;
	pthread_mutex_lock(&ctx->mutex);
	ctx->quit = true;
	pthread_cond_signal(&ctx->work_there);
	pthread_mutex_unlock(&ctx->mutex);
	pthread_join(ctx->thread, NULL);
	ctx->thread_runs = false;
	(void)k3sup__worker_collect(ctx);
}
