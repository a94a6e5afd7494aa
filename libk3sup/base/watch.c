/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching processes end: one libuv handle per process, however many operations wait for it. Waiting costs no system call.
 */
#include "base/engine.h"
#include "base/process.h"

struct watch {
	uv_poll_t poll;
	k3sup_process *process;
	struct op_list waiters;
	LIST_ENTRY(watch) next;
};

static void on_closed(uv_handle_t *handle)
{
	struct watch *watch = handle->data;

	k3sup_process_unref(watch->process);
	free(watch);
}

static void drop(struct watch *watch)
{
	LIST_REMOVE(watch, next);
	uv_close((uv_handle_t *)&watch->poll, on_closed);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	k3sup_op *op;

	(void)status;
	(void)events;
	uv_poll_stop(poll);
	/* make_ready() takes each out of the list, and the last one drops the watch. */
	while ((op = TAILQ_FIRST(&watch->waiters))) {
		bool last = TAILQ_NEXT(op, waiters) == NULL;

		k3sup__ctx_make_ready(op, K3SUP__WOKE_PROCESS);
		if (last)
			break;
	}
}

static int watch_new(k3sup_ctx *ctx, k3sup_process *process, struct watch **ret)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	r = uv_poll_init(&ctx->loop, &watch->poll, k3sup_process_pidfd(process));
	if (r < 0) {
		free(watch);
		return r;
	}
	watch->poll.data = watch;
	watch->process = k3sup_process_ref(process);
	TAILQ_INIT(&watch->waiters);
	LIST_INSERT_HEAD(&ctx->watches, watch, next);
	r = uv_poll_start(&watch->poll, UV_READABLE, on_readable);
	if (r < 0)
		drop(watch);
	else
		*ret = watch;
	return r;
}

int k3sup__watch_add(k3sup_op *op, k3sup_process *process)
{
	struct watch *watch;
	int r;

	LIST_FOREACH (watch, &op->ctx->watches, next)
		if (watch->process == process)
			break;
	if (!watch) {
		r = watch_new(op->ctx, process, &watch);
		if (r < 0)
			return r;
	}
	TAILQ_INSERT_TAIL(&watch->waiters, op, waiters);
	op->watch = watch;
	return 0;
}

void k3sup__watch_remove(k3sup_op *op)
{
	struct watch *watch = op->watch;

	if (!watch)
		return;
	op->watch = NULL;
	TAILQ_REMOVE(&watch->waiters, op, waiters);
	if (TAILQ_EMPTY(&watch->waiters))
		drop(watch);
}
