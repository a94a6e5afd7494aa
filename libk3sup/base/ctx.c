/* SPDX-License-Identifier: Apache-2.0 */
#include <k3sup/ctx.h>

#include "base/engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- deadlines: a binary heap of waiting operations over one timerfd ---- */

/*
 * libuv's timers are not used: they run on CLOCK_MONOTONIC, which stands still in suspend, and need a poll timeout from the host. A timerfd inside the loop
 * makes the one descriptor readable instead.
 */
#define MAX_TIMER_MS ((int64_t)INT32_MAX * 1000) /* a 32-bit time_t holds no more; being woken too early does no harm */

static void rearm(k3sup_ctx *ctx)
{
	int64_t due = ctx->heap_len ? ctx->heap[0]->due : K3SUP__NEVER;
	struct itimerspec spec = {0};

	if (due == ctx->armed)
		return;
	if (due != K3SUP__NEVER) {
		if (due < 1)
			due = 1; /* zero would switch it off */
		if (due > MAX_TIMER_MS)
			due = MAX_TIMER_MS;
		spec.it_value.tv_sec = (time_t)(due / 1000);
		spec.it_value.tv_nsec = (long)(due % 1000) * 1000000;
	}
	/* Cannot fail: the descriptor is ours and the times are in range. */
	(void)timerfd_settime(ctx->timerfd, TFD_TIMER_ABSTIME, &spec, NULL);
	ctx->armed = ctx->heap_len ? ctx->heap[0]->due : K3SUP__NEVER;
}

static void heap_put(k3sup_ctx *ctx, size_t slot, k3sup_op *op)
{
	ctx->heap[slot - 1] = op;
	op->heap_slot = slot;
}

static void heap_sift(k3sup_ctx *ctx, size_t slot)
{
	k3sup_op *op = ctx->heap[slot - 1];

	while (slot > 1 && ctx->heap[slot / 2 - 1]->due > op->due) {
		heap_put(ctx, slot, ctx->heap[slot / 2 - 1]);
		slot /= 2;
	}
	for (;;) {
		size_t next = slot * 2;

		if (next > ctx->heap_len)
			break;
		if (next < ctx->heap_len && ctx->heap[next]->due < ctx->heap[next - 1]->due)
			next++;
		if (ctx->heap[next - 1]->due >= op->due)
			break;
		heap_put(ctx, slot, ctx->heap[next - 1]);
		slot = next;
	}
	heap_put(ctx, slot, op);
}

int k3sup__ctx_reserve_timers(k3sup_ctx *ctx)
{
	size_t n = 0, room;
	k3sup_op *op, **heap;

	TAILQ_FOREACH (op, &ctx->all, all)
		n++;
	if (n < ctx->heap_room)
		return 0;
	room = ctx->heap_room ? ctx->heap_room * 2 : 8;
	heap = reallocarray(ctx->heap, room, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	ctx->heap = heap;
	ctx->heap_room = room;
	return 0;
}

void k3sup__ctx_arm(k3sup_op *op)
{
	k3sup_ctx *ctx = op->ctx;

	op->due = op->wait_deadline;
	if (k3sup__op_can_stop(op) && op->deadline < op->due)
		op->due = op->deadline;
	if (op->due == K3SUP__NEVER)
		return;
	heap_put(ctx, ++ctx->heap_len, op);
	heap_sift(ctx, ctx->heap_len);
	rearm(ctx);
}

void k3sup__ctx_disarm(k3sup_op *op)
{
	k3sup_ctx *ctx = op->ctx;
	size_t slot = op->heap_slot;
	k3sup_op *last;

	if (!slot)
		return;
	op->heap_slot = 0;
	last = ctx->heap[--ctx->heap_len];
	if (last != op) {
		heap_put(ctx, slot, last);
		heap_sift(ctx, slot);
	}
	rearm(ctx);
}

static void on_timer(uv_poll_t *poll, int status, int events)
{
	k3sup_ctx *ctx = poll->data;
	int64_t now = k3sup__now_ms();
	uint64_t times;

	(void)status;
	(void)events;
	if (read(ctx->timerfd, &times, sizeof(times)) < 0)
		return; /* EAGAIN: it was set anew meanwhile */
	ctx->armed = K3SUP__NEVER;
	while (ctx->heap_len > 0 && ctx->heap[0]->due <= now) {
		k3sup_op *op = ctx->heap[0];

		if (op->at == OP_WAITING || k3sup__worker_unqueue(op))
			k3sup__ctx_make_ready(op, K3SUP__WOKE_DEADLINE);
		else
			k3sup__ctx_disarm(op); /* its work function has begun and looks at the clock by itself */
	}
	rearm(ctx);
}

/* ---- life ---- */

static void on_wake(uv_async_t *wake)
{
	k3sup_ctx *ctx = wake->data;

	ctx->woken = true;
}

void k3sup__ctx_wake(k3sup_ctx *ctx)
{
	(void)uv_async_send(&ctx->wake); /* fails for a closed handle only */
}

void k3sup__ctx_ask_stop(k3sup_ctx *ctx)
{
	ctx->stop_pending = true;
	k3sup__ctx_wake(ctx);
}

/*
 * libuv hands watchers to epoll only inside uv_run(), so each piece of work ends with a turn that does not block: otherwise the host would poll a descriptor
 * that does not know yet what to wait for. Closed handles may need one more turn.
 */
static void turn(k3sup_ctx *ctx)
{
	int n = 0;

	do
		uv_run(&ctx->loop, UV_RUN_NOWAIT);
	while (uv_backend_timeout(&ctx->loop) == 0 && ++n < 8);
}

static void close_handles(k3sup_ctx *ctx)
{
	if (ctx->timerfd >= 0)
		uv_close((uv_handle_t *)&ctx->timer, NULL);
	uv_close((uv_handle_t *)&ctx->wake, NULL);
	turn(ctx);
}

static int open_handles(k3sup_ctx *ctx)
{
	int r = uv_async_init(&ctx->loop, &ctx->wake, on_wake);

	if (r < 0)
		return r;
	ctx->wake.data = ctx;
	ctx->timerfd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = ctx->timerfd < 0 ? -errno : uv_poll_init(&ctx->loop, &ctx->timer, ctx->timerfd);
	if (r < 0) {
		ctx->timerfd = k3sup__close(ctx->timerfd);
		close_handles(ctx);
		return r;
	}
	ctx->timer.data = ctx;
	r = uv_poll_start(&ctx->timer, UV_READABLE, on_timer);
	if (r < 0)
		close_handles(ctx);
	else
		turn(ctx);
	return r;
}

/*
 * With the first loop of a process libuv makes a pipe for itself, and calls abort() if it cannot. A host that is out of descriptors shall get an error
 * instead, so we look whether there are as many as libuv takes until then.
 */
static int open_loop(uv_loop_t *loop)
{
	int a[2], b[2], r;

	if (pipe2(a, O_CLOEXEC) < 0)
		return -errno;
	r = pipe2(b, O_CLOEXEC) < 0 ? -errno : 0;
	k3sup__close(a[0]);
	k3sup__close(a[1]);
	if (r < 0)
		return r;
	k3sup__close(b[0]);
	k3sup__close(b[1]);
	return uv_loop_init(loop);
}

/*
 * A host may have closed its standard descriptors, and libuv calls abort() when it is to close one of theirs (uv__close). So whatever of them is free is taken while the loop opens its
 * own. An eventfd needs no /dev.
 */
static int take_standard(int *held)
{
	int n = 0, fd;

	while ((fd = eventfd(0, EFD_CLOEXEC)) >= 0 && fd <= STDERR_FILENO)
		held[n++] = fd;
	if (fd < 0) {
		fd = -errno;
		while (n > 0)
			k3sup__close(held[--n]);
		return fd;
	}
	k3sup__close(fd);
	return n;
}

static int open_all(k3sup_ctx *ctx)
{
	int held[STDERR_FILENO + 1], n = take_standard(held), r = n < 0 ? n : open_loop(&ctx->loop);

	if (r == 0) {
		r = open_handles(ctx);
		if (r < 0) {
			ctx->timerfd = k3sup__close(ctx->timerfd);
			(void)uv_loop_close(&ctx->loop);
		}
	}
	while (n > 0)
		k3sup__close(held[--n]);
	return r;
}

int k3sup_ctx_new(const struct k3sup_ctx_opts *opts, k3sup_ctx **ret_ctx)
{
	struct k3sup_ctx_opts o;
	k3sup_ctx *ctx;
	int r = ret_ctx ? k3sup__opts(opts, &o, sizeof(o), K3SUP_CTX_INLINE) : -EINVAL;

	if (r < 0)
		return r;
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return -ENOMEM;
	ctx->refs = 1;
	ctx->flags = o.flags;
	ctx->timerfd = -1;
	ctx->armed = K3SUP__NEVER;
	ctx->log_level = K3SUP_LOG_NONE;
	LIST_INIT(&ctx->watches);
	TAILQ_INIT(&ctx->all);
	TAILQ_INIT(&ctx->ready);
	TAILQ_INIT(&ctx->work);
	TAILQ_INIT(&ctx->done_work);
	TAILQ_INIT(&ctx->messages);
	pthread_mutex_init(&ctx->mutex, NULL);
	pthread_cond_init(&ctx->work_there, NULL);

	r = open_all(ctx);
	if (r < 0) {
		pthread_cond_destroy(&ctx->work_there);
		pthread_mutex_destroy(&ctx->mutex);
		free(ctx);
		return r; /* on Linux libuv's codes are -errno */
	}
	*ret_ctx = ctx;
	return 0;
}

k3sup_ctx *k3sup_ctx_ref(k3sup_ctx *ctx)
{
	if (ctx)
		ctx->refs++;
	return ctx;
}

/* Nobody can drive the context any more. What still runs is brought to the end of the work function it is in, and then dropped. */
static void destroy(k3sup_ctx *ctx)
{
	k3sup_op *op;

	ctx->dying = true;
	TAILQ_FOREACH (op, &ctx->all, all) {
		op->abandoned = true;
		k3sup_op_cancel(op);
	}
	k3sup__ctx_ask_stop(ctx); /* also for those that were asked before and were past their point of no return */
	while (!TAILQ_EMPTY(&ctx->all) || !TAILQ_EMPTY(&ctx->ready)) /* ready: late done callbacks that nobody wants any more */
		if (k3sup_ctx_dispatch(ctx) == 0)
			(void)poll(&(struct pollfd){.fd = k3sup_ctx_fd(ctx), .events = POLLIN}, 1, -1);
	k3sup__worker_stop(ctx);
	close_handles(ctx);
	ctx->timerfd = k3sup__close(ctx->timerfd);
	(void)uv_loop_close(&ctx->loop);
	pthread_cond_destroy(&ctx->work_there);
	pthread_mutex_destroy(&ctx->mutex);
	k3sup_doc_unref(ctx->lost_error);
	k3sup_doc_unref(ctx->lost_result);
	free(ctx->heap);
	free(ctx);
}

k3sup_ctx *k3sup_ctx_unref(k3sup_ctx *ctx)
{
	if (ctx && --ctx->refs == 0 && !ctx->dispatching && !ctx->dying)
		destroy(ctx);
	return NULL;
}

int k3sup_ctx_set_log(k3sup_ctx *ctx, int32_t max_level, k3sup_log_fn fn, void *userdata)
{
	if (!ctx || max_level < K3SUP_LOG_NONE || max_level > K3SUP_LOG_DEBUG)
		return -EINVAL;
	ctx->log_level = fn ? max_level : K3SUP_LOG_NONE;
	ctx->log = fn;
	ctx->log_data = userdata;
	return 0;
}

int k3sup_ctx_fd(k3sup_ctx *ctx)
{
	return ctx ? uv_backend_fd(&ctx->loop) : -EINVAL;
}

/* ---- driving ---- */

void k3sup__ctx_make_ready(k3sup_op *op, enum k3sup__woke woke)
{
	k3sup__ctx_disarm(op);
	k3sup__watch_remove(op);
	op->at = OP_READY;
	op->woke = woke;
	TAILQ_INSERT_TAIL(&op->ctx->ready, op, ready);
}

static bool run_ready(k3sup_ctx *ctx)
{
	struct op_list now = TAILQ_HEAD_INITIALIZER(now);
	bool any = false;
	k3sup_op *op;

	/*
	 * Only what is ready by now, and one piece of inline work: an operation that is ready again at once must not keep the host from its other work.
	 * What is left keeps its place before those that became ready meanwhile.
	 */
	ctx->worked = false;
	TAILQ_CONCAT(&now, &ctx->ready, ready);
	while (!ctx->worked && (op = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, op, ready);
		any = true;
		k3sup__op_run(op);
	}
	TAILQ_CONCAT(&now, &ctx->ready, ready);
	TAILQ_CONCAT(&ctx->ready, &now, ready);
	return any;
}

/* The context this thread is dispatching. Callbacks are called where this is theirs; from everywhere else they get messages. */
static _Thread_local const k3sup_ctx *driven;

bool k3sup__ctx_is_driven(const k3sup_ctx *ctx)
{
	return driven == ctx;
}

int k3sup_ctx_dispatch(k3sup_ctx *ctx)
{
	const k3sup_ctx *outer = driven; /* a callback of one context may drive another one */
	bool any;

	if (!ctx)
		return -EINVAL;
	if (ctx->dispatching)
		return -EBUSY;
	ctx->dispatching = true;
	driven = ctx;
	turn(ctx);
	ctx->woken = false;
	any = k3sup__worker_collect(ctx);
	k3sup__op_look_at_stop(ctx);
	any |= run_ready(ctx);
	turn(ctx);
	/* The last turn may have taken in the wake-up of something that came after the looks above; the host must find the descriptor readable for it. */
	if (ctx->woken || !TAILQ_EMPTY(&ctx->ready))
		k3sup__ctx_wake(ctx);
	driven = outer;
	ctx->dispatching = false;
	if (ctx->refs == 0 && !ctx->dying)
		destroy(ctx);
	return any;
}
