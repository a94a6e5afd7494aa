/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching processes end: one libuv handle per process, however many operations wait for it. Waiting costs no system call. A descriptor (a socket of a probe) is its
 * operation's own and has a handle of its own.
 */
#include "base/engine.h"
#include "base/process.h"

#include <poll.h>

struct watch {
	uv_poll_t poll;
	k3sup_process *process; /* NULL: a descriptor */
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

static void on_event(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	enum k3sup__woke woke = watch->process ? K3SUP__WOKE_PROCESS : K3SUP__WOKE_FD;
	k3sup_op *op;

	(void)status; /* of an error the next read or write will tell */
	(void)events;
	uv_poll_stop(poll);
	/* make_ready() takes each out of the list, and the last one drops the watch. */
	while ((op = TAILQ_FIRST(&watch->waiters))) {
		bool last = TAILQ_NEXT(op, waiters) == NULL;

		k3sup__ctx_make_ready(op, woke);
		if (last)
			break;
	}
}

static int watch_new(k3sup_ctx *ctx, k3sup_process *process, int fd, int events, struct watch **ret)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	r = uv_poll_init(&ctx->loop, &watch->poll, fd);
	if (r < 0) {
		free(watch);
		return r;
	}
	watch->poll.data = watch;
	watch->process = k3sup_process_ref(process); /* of NULL: NULL */
	TAILQ_INIT(&watch->waiters);
	LIST_INSERT_HEAD(&ctx->watches, watch, next);
	r = uv_poll_start(&watch->poll, events, on_event);
	if (r < 0)
		drop(watch);
	else
		*ret = watch;
	return r;
}

static void wait_for(k3sup_op *op, struct watch *watch)
{
	TAILQ_INSERT_TAIL(&watch->waiters, op, waiters);
	op->watch = watch;
}

int k3sup__watch_add(k3sup_op *op, k3sup_process *process)
{
	struct watch *watch;
	int r;

	LIST_FOREACH (watch, &op->ctx->watches, next)
		if (watch->process == process)
			break;
	if (!watch) {
		r = watch_new(op->ctx, process, k3sup_process_pidfd(process), UV_READABLE, &watch);
		if (r < 0)
			return r;
	}
	wait_for(op, watch);
	return 0;
}

int k3sup__watch_add_fd(k3sup_op *op, int fd, short events)
{
	struct watch *watch;
	int r = watch_new(op->ctx, NULL, fd, (events & POLLIN ? UV_READABLE : 0) | (events & POLLOUT ? UV_WRITABLE : 0), &watch);

	if (r == 0)
		wait_for(op, watch);
	return r;
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
