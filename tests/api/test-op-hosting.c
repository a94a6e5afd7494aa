/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context inside somebody else's loop: one descriptor, no timeout.
 */
#include "api.h"

#include <poll.h>
#include <sys/timerfd.h>
#include <uv.h>

struct tally {
	int dones, timeouts, reads, ends;
	bool running_in_done;
};

static void on_done(k3sup_op *op, void *userdata)
{
	struct tally *t = userdata;
	int status = k3sup_op_status(op);

	t->dones++;
	t->running_in_done |= status == -EINPROGRESS || k3sup_op_result(op) == NULL;
	t->timeouts += status == K3SUP_E_TIMEOUT;
	t->reads += status == K3SUP_E_PAYLOAD_NOT_K3S;
	t->ends += status == 1;
	k3sup_op_unref(op);
}

/* Six waits that run out of time, six reads of a file that is no k3s, and one wait for the end of k3s. */
static int begin_some(struct host *h, struct tally *t)
{
	int count = 0;

	for (int i = 0; i < 6; i++) {
		assert_int_equal(k3sup_op_set_done(wait_exit(h->node, h->process, 20 + 15 * i), on_done, t), 0);
		assert_int_equal(k3sup_op_set_done(read_build(h->ctx, h->file), on_done, t), 0);
		count += 2;
	}
	assert_int_equal(k3sup_op_set_done(wait_exit(h->node, h->process, 0), on_done, t), 0);
	return count + 1;
}

static void assert_tally(const struct tally *t)
{
	assert_int_equal(t->timeouts, 6);
	assert_int_equal(t->reads, 6);
	assert_int_equal(t->ends, 1);
	assert_int_equal(t->dones, 13);
	assert_false(t->running_in_done);
}

/* ---- a program around poll() ---- */

static void host_by_poll(uint32_t flags)
{
	struct itimerspec every = {.it_interval = {.tv_nsec = 5000000}, .it_value = {.tv_nsec = 5000000}};
	struct pollfd p[2] = {{.events = POLLIN}, {.events = POLLIN}};
	struct host h = {0};
	struct tally t = {0};
	int wanted, ticks = 0, turns = 0;
	uint64_t times;

	host_setup(&h, flags);
	wanted = begin_some(&h, &t);
	p[0].fd = k3sup_ctx_fd(h.ctx);
	p[1].fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	assert_int_equal(timerfd_settime(p[1].fd, 0, &every, NULL), 0);
	while (t.dones < wanted) {
		assert_true(poll(p, 2, LONG) > 0);
		if (p[1].revents) {
			assert_int_equal(read(p[1].fd, &times, sizeof(times)), sizeof(times));
			ticks++;
		}
		if (p[0].revents) {
			assert_true(k3sup_ctx_dispatch(h.ctx) >= 0);
			turns++;
		}
		if (t.dones == wanted - 1 && kill(h.pid, 0) == 0)
			end_k3s(h.pid);
		if (ticks > 12000)
			fail_msg("only %d of %d operations have ended", t.dones, wanted);
	}
	assert_tally(&t);
	assert_true(ticks > 5);       /* the host went on meanwhile */
	assert_true(turns < 20 * 13); /* and was not kept busy for nothing */
	close(p[1].fd);
	host_teardown(&h);
}

static void in_a_poll_program(void **state)
{
	(void)state;
	host_by_poll(0);
}

static void in_a_poll_program_inline(void **state)
{
	(void)state;
	host_by_poll(K3SUP_CTX_INLINE);
}

/* ---- another libuv loop ---- */

struct uv_host {
	struct host h;
	struct tally t;
	uv_loop_t loop;
	uv_poll_t poll;
	uv_timer_t timer;
	int wanted, ticks, turns;
	bool failed, killed;
};

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct uv_host *u = poll->data;

	(void)events;
	u->turns++;
	u->failed |= status < 0 || k3sup_ctx_dispatch(u->h.ctx) < 0;
}

static void on_tick(uv_timer_t *timer)
{
	struct uv_host *u = timer->data;

	u->ticks++;
	if (u->t.dones == u->wanted - 1 && !u->killed) {
		u->killed = true;
		end_k3s(u->h.pid);
	}
	if (u->t.dones == u->wanted || u->ticks > 12000) {
		uv_close((uv_handle_t *)&u->poll, NULL);
		uv_close((uv_handle_t *)&u->timer, NULL);
	}
}

static void host_by_libuv(uint32_t flags)
{
	struct uv_host u = {.killed = false};

	host_setup(&u.h, flags);
	u.wanted = begin_some(&u.h, &u.t);
	assert_int_equal(uv_loop_init(&u.loop), 0);
	assert_int_equal(uv_poll_init(&u.loop, &u.poll, k3sup_ctx_fd(u.h.ctx)), 0);
	assert_int_equal(uv_timer_init(&u.loop, &u.timer), 0);
	u.poll.data = u.timer.data = &u;
	assert_int_equal(uv_poll_start(&u.poll, UV_READABLE, on_readable), 0);
	assert_int_equal(uv_timer_start(&u.timer, on_tick, 5, 5), 0);
	assert_int_equal(uv_run(&u.loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&u.loop), 0);
	assert_false(u.failed);
	assert_tally(&u.t);
	assert_true(u.ticks > 5);
	assert_true(u.turns < 20 * 13);
	host_teardown(&u.h);
}

static void in_another_libuv_loop(void **state)
{
	(void)state;
	host_by_libuv(0);
}

static void in_another_libuv_loop_inline(void **state)
{
	(void)state;
	host_by_libuv(K3SUP_CTX_INLINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_a_poll_program),
		cmocka_unit_test(in_a_poll_program_inline),
		cmocka_unit_test(in_another_libuv_loop),
		cmocka_unit_test(in_another_libuv_loop_inline),
	};

	return cmocka_run_group_tests_name("op-hosting", tests, NULL, NULL);
}
