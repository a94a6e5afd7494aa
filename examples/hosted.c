/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An upgrade in a loop of the host's own, beside other work: the library's one descriptor is polled by libuv here, as it could be by any other loop.
 *
 *     hosted FILE [ROOT]
 */
#include <k3sup.h>

#include <signal.h>
#include <stdio.h>
#include <uv.h>

struct host {
	uv_poll_t library;  /* readable: the library has something to do */
	uv_timer_t work;    /* stands for all that the host does besides */
	uv_signal_t signal; /* SIGTERM */
	k3sup_ctx *ctx;
	k3sup_op *op;
	unsigned ticks;
};

static void on_library(uv_poll_t *handle, int status, int events)
{
	struct host *host = handle->data;

	(void)events;
	if (status < 0 || k3sup_ctx_dispatch(host->ctx) < 0)
		k3sup_op_cancel(host->op);
}

static void on_work(uv_timer_t *handle)
{
	struct host *host = handle->data;

	host->ticks++;
}

static void on_signal(uv_signal_t *handle, int signo)
{
	struct host *host = handle->data;

	(void)signo;
	k3sup_op_cancel(host->op); /* it undoes, or finishes, what it has begun, and ends by itself */
}

static int32_t on_progress(const struct k3sup_progress *progress, void *userdata)
{
	(void)userdata;
	printf("%3u%% %s\n", progress->percent, progress->text);
	return 0;
}

/* Called by k3sup_ctx_dispatch(), in this thread. With nothing left to wait for the loop ends. */
static void on_done(k3sup_op *op, void *userdata)
{
	struct host *host = userdata;

	(void)op;
	uv_close((uv_handle_t *)&host->library, NULL);
	uv_close((uv_handle_t *)&host->work, NULL);
	uv_close((uv_handle_t *)&host->signal, NULL);
}

static void begin(uv_loop_t *loop, struct host *host)
{
	(void)uv_poll_init(loop, &host->library, k3sup_ctx_fd(host->ctx));
	(void)uv_timer_init(loop, &host->work);
	(void)uv_signal_init(loop, &host->signal);
	host->library.data = host->work.data = host->signal.data = host;
	(void)uv_poll_start(&host->library, UV_READABLE, on_library);
	(void)uv_timer_start(&host->work, on_work, 10, 10);
	(void)uv_signal_start(&host->signal, on_signal, SIGTERM);
}

int main(int argc, char **argv)
{
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = argc > 2 ? argv[2] : "/"};
	struct k3sup_upgrade_opts what = {.struct_size = sizeof(what), .payload = argc > 1 ? argv[1] : "/opt/k3s", .stable_ms = 1000};
	struct host host = {0};
	k3sup_node *node = NULL;
	uv_loop_t loop;
	int r = k3sup_ctx_new(NULL, &host.ctx);

	if (r == 0 && (r = k3sup_node_new(host.ctx, &where, &node)) == 0 && (r = k3sup_upgrade(node, &what, &host.op)) == 0 &&
		(r = uv_loop_init(&loop)) == 0) {
		(void)k3sup_op_set_progress(host.op, on_progress, NULL);
		(void)k3sup_op_set_done(host.op, on_done, &host);
		begin(&loop, &host);
		(void)uv_run(&loop, UV_RUN_DEFAULT);
		(void)uv_loop_close(&loop);
		r = k3sup_op_status(host.op);
		printf("%s, after %u ticks of other work\n", r < 0 ? k3sup_error_name(r) : r ? "upgraded" : "already so", host.ticks);
	} else {
		fprintf(stderr, "%s\n", k3sup_strerror(r));
	}
	k3sup_op_unref(host.op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(host.ctx);
	return r < 0;
}
