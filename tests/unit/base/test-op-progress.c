/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operation says while it runs.
 */
#include "ops.h"

static const struct k3sup__step plan[] = {{"stage", 1}, {"swap", 3}, {"prove", 4}};
static const struct k3sup__step inner_plan[] = {{"identify", 1}, {"restart", 1}};

/* Everything that was heard, in one line of text. */
struct ear {
	char text[4096];
	pthread_t thread;
	int calls, answer, answer_from; /* answers so from that call on */
	uint32_t last;
	int64_t downtime;
	bool fell, elsewhere;
	k3sup_op *cancel;
};

__attribute__((format(printf, 2, 3))) static void hear(struct ear *ear, const char *fmt, ...)
{
	size_t len = strlen(ear->text);
	va_list ap;

	ear->elsewhere |= !pthread_equal(ear->thread, pthread_self());
	va_start(ap, fmt);
	(void)vsnprintf(ear->text + len, sizeof(ear->text) - len, fmt, ap);
	va_end(ap);
}

static int32_t on_progress(const struct k3sup_progress *p, void *userdata)
{
	struct ear *ear = userdata;

	assert_int_equal(p->struct_size, sizeof(*p));
	assert_in_range(p->percent, 0, 100);
	ear->calls++;
	ear->fell |= p->percent < ear->last;
	ear->last = p->percent;
	ear->downtime = p->downtime_ms;
	hear(ear, "%s:%u:%s ", p->step, p->percent, p->text);
	if (ear->cancel)
		k3sup_op_cancel(ear->cancel);
	return ear->calls >= ear->answer_from ? ear->answer : 0;
}

static void on_log(int32_t level, const char *component, const char *message, void *userdata)
{
	hear(userdata, "<%d> %s: %s\n", level, component, message);
}

static void listen_to(k3sup_op *op, struct ear *ear)
{
	ear->thread = pthread_self();
	assert_int_equal(k3sup_op_set_progress(op, on_progress, ear), 0);
}

static void assert_heard(const struct ear *ear, const char *text)
{
	assert_false(ear->fell);
	assert_false(ear->elsewhere);
	assert_string_equal(ear->text, text);
}

static int work_plan(k3sup_op *op, struct script *s)
{
	(void)s;
	k3sup__op_progress(op, 1, 2); /* before any step: nothing is done yet */
	k3sup__op_begin(op, "stage", "a %d", 1);
	k3sup__op_progress(op, 200, 200);
	k3sup__op_begin(op, "swap", "b");
	k3sup__op_progress(op, 300, 300);
	k3sup__op_begin(op, "stage", "back");
	k3sup__op_progress(op, 1, 1);
	k3sup__op_begin(op, "unknown", "c");
	k3sup__op_begin(op, "prove", "d");
	k3sup__op_progress(op, 500, 400); /* more than there was to do */
	k3sup__op_progress(op, 400, 400);
	return 1;
}

static int step_plan(k3sup_op *op, struct script *s)
{
	if (s->steps == 1)
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
	return step_work(op, s);
}

static void percent_is_weighed_and_never_falls(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_plan, .work = work_plan};
	struct ear ear = {0};

	listen_to(begin(f->ctx, &s), &ear);
	assert_int_equal(finish(s.op), 1);
	assert_heard(&ear, "script:0: stage:0:a 1 stage:12:a 1 swap:12:b swap:50:b stage:50:back stage:50:back stage:50:c prove:50:d prove:100:d ");
	k3sup_op_unref(s.op);
}

static int work_first_step_only(k3sup_op *op, struct script *s)
{
	k3sup__op_begin(op, "stage", "a");
	return s->number;
}

/* Steps with nothing to do are not left for the reader to wonder about; a failure stays where it was. */
static void a_good_end_is_a_hundred_percent(void **state)
{
	struct fixture *f = *state;
	struct script good = {.step = step_plan, .work = work_first_step_only},
		      bad = {.step = step_plan, .work = work_first_step_only, .number = -EIO};
	struct ear ear = {0}, other = {0};

	listen_to(begin(f->ctx, &good), &ear);
	assert_int_equal(finish(good.op), 0);
	k3sup_op_unref(good.op);
	listen_to(begin(f->ctx, &bad), &other);
	assert_int_equal(finish(bad.op), -EIO);
	k3sup_op_unref(bad.op);
	assert_heard(&ear, "stage:0:a stage:100:a ");
	assert_heard(&other, "stage:0:a ");
}

static int work_inner(k3sup_op *op, struct script *s)
{
	(void)s;
	k3sup__op_plan(op, inner_plan, ELEMENTSOF(inner_plan));
	k3sup__op_begin(op, "identify", "i");
	k3sup__op_begin(op, "restart", "r");
	k3sup__op_progress(op, 9, 9);
	return 1;
}

static int step_outer(k3sup_op *op, struct script *s)
{
	static const char *const names[] = {"stage", "swap", "prove"};

	if (s->steps == 1)
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
	if (s->steps > 3)
		return 1;
	k3sup__op_begin(op, names[s->steps - 1], "outer");
	s->inner[0] = (struct script){.step = step_work, .work = work_inner};
	return k3sup__op_call(op, begin(k3sup__op_ctx(op), s->inner));
}

static void a_child_fills_the_span_of_its_parents_step(void **state)
{
	struct fixture *f = *state;
	struct script inner, s = {.step = step_outer, .inner = &inner};
	struct ear ear = {0};

	listen_to(begin(f->ctx, &s), &ear);
	assert_int_equal(finish(s.op), 1);
	assert_heard(&ear,
		"stage:0:outer identify:0:i restart:6:r restart:12:r swap:12:outer identify:12:i restart:31:r restart:50:r "
		"prove:50:outer identify:50:i restart:75:r restart:100:r ");
	k3sup_op_unref(s.op);
}

static int work_chatters(k3sup_op *op, struct script *s)
{
	int64_t until = k3sup__now_ms() + 250;

	k3sup__op_begin(op, "stage", "copying");
	for (int64_t done = 0; k3sup__now_ms() < until; done++, s->number++)
		k3sup__op_progress(op, s->until < 0 ? -1 : done, s->until);
	return 1;
}

static void progress_within_a_step_is_limited_in_rate(void **state)
{
	struct fixture *f = *state;

	for (int counted = 0; counted <= 1; counted++) {
		struct script s = {.step = step_work, .work = work_chatters, .until = counted ? INT64_MAX / 2 : -1};
		struct ear ear = {0};

		listen_to(begin(f->ctx, &s), &ear);
		assert_int_equal(finish(s.op), 1);
		assert_true(s.number > 100);
		assert_in_range(ear.calls, 2, 4);
		assert_false(ear.elsewhere);
		k3sup_op_unref(s.op);
	}
}

static int work_until_stopped_reporting(k3sup_op *op, struct script *s)
{
	int stop;

	do {
		k3sup__op_begin(op, "stage", "%d", s->number++);
		sched_yield();
		stop = k3sup__op_checkpoint(op);
	} while (stop == 0 && s->number < 1000000);
	return stop;
}

static void the_callback_can_stop_it(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_until_stopped_reporting};
	struct ear ear = {.answer = -7, .answer_from = 3};

	listen_to(begin(f->ctx, &s), &ear);
	assert_int_equal(finish(s.op), K3SUP_E_CALLBACK);
	assert_error(s.op, K3SUP_E_CALLBACK, "callback");
	assert_true(ear.calls >= 3);
	k3sup_op_unref(s.op);
}

static void the_callback_may_cancel(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_until_stopped_reporting};
	struct ear ear = {0};

	ear.cancel = begin(f->ctx, &s);
	listen_to(s.op, &ear);
	assert_int_equal(finish(s.op), K3SUP_E_CANCELLED);
	k3sup_op_unref(s.op);
}

static int step_calls(k3sup_op *op, struct script *s)
{
	if (k3sup__op_woke(op) == K3SUP__WOKE_CHILD)
		return k3sup__op_adopt(op, k3sup__op_child(op));
	return k3sup__op_call(op, begin(k3sup__op_ctx(op), s->inner));
}

static void the_callback_of_the_outermost_stops_the_innermost(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_work, .work = work_until_stopped_reporting}, middle = {.step = step_calls, .inner = &leaf};
	struct script s = {.step = step_calls, .inner = &middle};
	struct ear ear = {.answer = 1, .answer_from = 2};

	listen_to(begin(f->ctx, &s), &ear);
	assert_int_equal(finish(s.op), K3SUP_E_CALLBACK);
	assert_true(leaf.number < 1000000);
	k3sup_op_unref(s.op);
}

static int step_reports_past_return(k3sup_op *op, struct script *s)
{
	if (s->steps == 1) {
		k3sup__op_no_return(op);
		k3sup__op_begin(op, "swap", "now");
		return k3sup__op_sleep(op, k3sup__now_ms() + 10);
	}
	k3sup__op_may_stop(op);
	return s->steps == 2 ? K3SUP__AGAIN : 1;
}

static void past_the_point_of_no_return_its_answer_is_ignored(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_reports_past_return};
	struct ear ear = {.answer = 1};

	listen_to(begin(f->ctx, &s), &ear);
	assert_int_equal(finish(s.op), 1);
	assert_int_equal(ear.calls, 1);
	assert_int_equal(s.steps, 3);
	k3sup_op_unref(s.op);
}

static int step_outage(k3sup_op *op, struct script *s)
{
	switch (s->steps) {
	case 1:
		k3sup__op_begin(op, "stage", "up");
		return K3SUP__AGAIN;
	case 2:
		k3sup__op_went_down(op, k3sup__now_ms() - 1000);
		k3sup__op_went_down(op, k3sup__now_ms());
		k3sup__op_begin(op, "restart", "down");
		return K3SUP__AGAIN;
	default:
		k3sup__op_came_up(op, k3sup__now_ms());
		k3sup__op_came_up(op, k3sup__now_ms() + 5000);
		k3sup__op_begin(op, "prove", "up again");
		return 1;
	}
}

static int32_t on_outage(const struct k3sup_progress *p, void *userdata)
{
	struct ear *ear = userdata;

	ear->calls++;
	if (ear->calls == 1 ? p->downtime_ms != -1 : p->downtime_ms < 1000 || p->downtime_ms > 1000 + LONG)
		ear->fell = true;
	return 0;
}

static void downtime_is_the_outermost_operations(void **state)
{
	struct fixture *f = *state;
	struct script inner = {.step = step_outage}, s = {.step = step_calls, .inner = &inner};
	struct ear ear = {0};

	assert_int_equal(k3sup_op_set_progress(begin(f->ctx, &s), on_outage, &ear), 0);
	assert_int_equal(finish(s.op), 1);
	assert_int_equal(ear.calls, 3);
	assert_false(ear.fell);
	assert_in_range(k3sup__op_downtime(s.op), 1000, 1000 + LONG);
	k3sup_op_unref(s.op);
}

/* ---- log lines ---- */

static int work_logs(k3sup_op *op, struct script *s)
{
	(void)s;
	k3sup__log(op, K3SUP_LOG_INFO, "comm is %s", "a\nforged\x1b[2J \xff \xc2\x9b \xed\xa0\x80 \xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xb3\x7f");
	k3sup__log(op, K3SUP_LOG_DEBUG, "not wanted");
	k3sup__log(op, K3SUP_LOG_WARNING, "%s", "");
	k3sup__log(NULL, K3SUP_LOG_ERR, "nobody's");
	return k3sup__fail(op, -EIO, "it broke");
}

static void log_lines_come_escaped_in_order_on_the_callers_thread(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_logs};
	struct ear ear = {.thread = pthread_self()};

	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_INFO, on_log, &ear), 0);
	begin(f->ctx, &s);
	assert_int_equal(finish(s.op), -EIO);
	assert_heard(&ear,
		"<6> script: comm is a\\x0aforged\\x1b[2J \\xff \\xc2\\x9b \\xed\\xa0\\x80 \xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xb3\\x7f\n"
		"<4> script: \n<3> script: EIO: it broke\n");
	k3sup_op_unref(s.op);
}

static void what_is_said_outside_of_a_dispatch_waits_for_it(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done};
	struct ear ear = {.thread = pthread_self()};

	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_INFO, on_log, &ear), 0);
	begin(f->ctx, &s);
	k3sup__log(s.op, K3SUP_LOG_INFO, "from the verb itself");
	assert_heard(&ear, "");
	assert_int_equal(finish(s.op), 0);
	assert_heard(&ear, "<6> script: from the verb itself\n");
	k3sup_op_unref(s.op);
}

static void *log_from_here(void *arg)
{
	k3sup__log(arg, K3SUP_LOG_INFO, "from a thread that a work function made");
	return NULL;
}

static int work_with_a_thread(k3sup_op *op, struct script *s)
{
	(void)s;
	if (pthread_create(&s->thread, NULL, log_from_here, op) != 0)
		return -EAGAIN;
	pthread_join(s->thread, NULL);
	return 0;
}

static void any_thread_that_owns_the_operation_may_log(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_with_a_thread};
	struct ear ear = {.thread = pthread_self()};

	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_INFO, on_log, &ear), 0);
	begin(f->ctx, &s);
	assert_int_equal(finish(s.op), 0);
	assert_heard(&ear, "<6> script: from a thread that a work function made\n");
	k3sup_op_unref(s.op);
}

static void count_lines(int32_t level, const char *component, const char *message, void *userdata)
{
	struct script *s = userdata;

	(void)component;
	s->number += level == K3SUP_LOG_INFO;
	s->dones += level == K3SUP_LOG_WARNING && strstr(message, "500 ");
}

static int work_logs_too_much(k3sup_op *op, struct script *s)
{
	for (int i = 0; i < 1500; i++)
		k3sup__log(op, K3SUP_LOG_INFO, "%d", i);
	return work_until_let_go(op, s);
}

static void a_log_that_nobody_takes_is_cut_and_that_is_said(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_logs_too_much};

	sem_init(&s.begun, 0, 0);
	sem_init(&s.go, 0, 0);
	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_INFO, count_lines, &s), 0);
	begin(f->ctx, &s);
	assert_int_equal(k3sup_ctx_dispatch(f->ctx), 1);
	wait_begun(&s); /* nobody drives the context meanwhile */
	sem_post(&s.go);
	assert_int_equal(finish(s.op), 1);
	assert_in_range(s.number, 1000, 1500);
	if (s.number == 1000)
		assert_int_equal(s.dones, 1);
	k3sup_op_unref(s.op);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_both(percent_is_weighed_and_never_falls),
		in_both(a_good_end_is_a_hundred_percent),
		in_both(a_child_fills_the_span_of_its_parents_step),
		in_both(progress_within_a_step_is_limited_in_rate),
		in_both(the_callback_can_stop_it),
		in_both(the_callback_may_cancel),
		in_both(the_callback_of_the_outermost_stops_the_innermost),
		in_both(past_the_point_of_no_return_its_answer_is_ignored),
		in_both(downtime_is_the_outermost_operations),
		in_both(log_lines_come_escaped_in_order_on_the_callers_thread),
		in_both(what_is_said_outside_of_a_dispatch_waits_for_it),
		in_both(any_thread_that_owns_the_operation_may_log),
		in_worker(a_log_that_nobody_takes_is_cut_and_that_is_said),
	};

	return cmocka_run_group_tests_name("op-progress", tests, NULL, NULL);
}
