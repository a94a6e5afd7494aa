/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that nobody holds any more, and contexts that go away under what still runs.
 */
#include "ops.h"

static void a_detached_sleeper_ends_without_a_word(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_sleep, .until = K3SUP__NEVER};

	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), count_done, &s), 0);
	while (s.steps < 1)
		turn_once(f->ctx);
	assert_null(k3sup_op_unref(s.op));
	drive_until(f->ctx, &s.clears, 1);
	settle(f->ctx);
	assert_int_equal(s.dones, 0);
	assert_int_equal(s.steps, 1);
}

static void a_detached_operation_that_never_began_is_not_begun(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done};

	k3sup_op_unref(begin(f->ctx, &s));
	drive_until(f->ctx, &s.clears, 1);
	assert_int_equal(s.steps, 0);
}

static void detached_work_is_told_to_stop(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_until_stopped};

	sem_init(&s.begun, 0, 0);
	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), count_done, &s), 0);
	assert_int_equal(k3sup_op_wait(s.op, 0), -EINPROGRESS);
	wait_begun(&s);
	k3sup_op_unref(s.op);
	drive_until(f->ctx, &s.clears, 1);
	assert_int_equal(s.dones, 0);
}

static int32_t count_progress(const struct k3sup_progress *progress, void *userdata)
{
	struct script *s = userdata;

	(void)progress;
	s->number++;
	return 0;
}

static int work_reports(k3sup_op *op, struct script *s)
{
	k3sup__op_begin(op, "swap", "before");
	(void)work_until_let_go(op, s);
	k3sup__op_begin(op, "swap", "after");
	return 1;
}

static void no_progress_comes_from_a_detached_operation(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_reports};

	sem_init(&s.begun, 0, 0);
	sem_init(&s.go, 0, 0);
	assert_int_equal(k3sup_op_set_progress(begin(f->ctx, &s), count_progress, &s), 0);
	assert_int_equal(k3sup_op_wait(s.op, 0), -EINPROGRESS);
	wait_begun(&s);
	while (s.number < 1)
		turn_once(f->ctx);
	k3sup_op_unref(s.op);
	sem_post(&s.go);
	drive_until(f->ctx, &s.clears, 1);
	assert_int_equal(s.number, 1);
	assert_int_equal(k3sup_op_set_progress(NULL, count_progress, &s), -EINVAL);
}

static int step_finishes(k3sup_op *op, struct script *s)
{
	if (s->steps == 1) {
		k3sup__op_no_return(op);
		return k3sup__op_sleep(op, k3sup__now_ms() + 10);
	}
	s->number = 1;
	return 1;
}

static void past_its_point_of_no_return_a_detached_operation_is_finished(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_finishes};

	begin(f->ctx, &s);
	while (s.steps < 1)
		turn_once(f->ctx);
	k3sup_op_unref(s.op);
	drive_until(f->ctx, &s.clears, 1);
	assert_int_equal(s.number, 1);
}

/* ---- the context goes away ---- */

static void operations_keep_their_context(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done, .number = 1};

	begin(f->ctx, &s);
	f->ctx = k3sup_ctx_unref(f->ctx);
	assert_int_equal(k3sup_op_wait(s.op, -1), 1);
	k3sup_op_unref(s.op);
}

static void note_end(void *arg)
{
	struct script *s = arg;

	s->ends++;
}

static void a_context_takes_what_waits_with_it(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	k3sup_process *process = start_process(&pid);
	struct script s[6] = {
		{.step = step_sleep, .until = K3SUP__NEVER},
		{.step = step_sleep, .until = k3sup__now_ms() + 3600000},
		{.step = step_watch, .until = K3SUP__NEVER, .process = process},
		{.step = step_watch, .until = K3SUP__NEVER, .process = process},
		{.step = step_finishes}, /* past return, and not finished: nobody drives it */
		{.step = step_done},
	};

	for (size_t i = 0; i < ELEMENTSOF(s); i++) {
		k3sup__op_on_end(begin(f->ctx, &s[i]), note_end, &s[i]);
		if (i < 5)
			assert_int_equal(k3sup_op_wait(s[i].op, 0), -EINPROGRESS);
	}
	for (size_t i = 0; i < ELEMENTSOF(s); i++)
		k3sup_op_unref(s[i].op);
	f->ctx = k3sup_ctx_unref(f->ctx);
	for (size_t i = 0; i < ELEMENTSOF(s); i++) {
		assert_int_equal(s[i].clears, 1);
		assert_int_equal(s[i].ends, 1);
		assert_int_equal(s[i].number, 0);
	}
	k3sup_process_unref(process);
	end_process(pid);
}

static void a_context_waits_for_work_that_runs_and_drops_what_is_queued(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_until_stopped}, queued = {.step = step_work, .work = work_until_stopped};

	sem_init(&s.begun, 0, 0);
	begin(f->ctx, &s);
	begin(f->ctx, &queued);
	assert_int_equal(k3sup_op_wait(queued.op, 0), -EINPROGRESS);
	wait_begun(&s);
	k3sup_op_unref(queued.op);
	k3sup_op_unref(s.op);
	f->ctx = k3sup_ctx_unref(f->ctx);
	assert_int_equal(s.clears + queued.clears, 2);
	assert_int_equal(queued.works, 0);
}

static int step_calls(k3sup_op *op, struct script *s)
{
	if (k3sup__op_woke(op) == K3SUP__WOKE_CHILD)
		return k3sup__op_adopt(op, k3sup__op_child(op));
	return k3sup__op_call(op, begin(k3sup__op_ctx(op), s->inner));
}

static void a_context_takes_operations_that_wait_for_others_with_it(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_sleep, .until = K3SUP__NEVER}, middle = {.step = step_calls, .inner = &leaf};
	struct script top = {.step = step_calls, .inner = &middle};

	begin(f->ctx, &top);
	while (leaf.steps < 1)
		turn_once(f->ctx);
	k3sup_op_unref(top.op);
	f->ctx = k3sup_ctx_unref(f->ctx);
	assert_int_equal(leaf.clears + middle.clears + top.clears, 3);
}

static void a_detached_parent_and_its_child_end_when_driven(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_sleep, .until = K3SUP__NEVER}, top = {.step = step_calls, .inner = &leaf};

	begin(f->ctx, &top);
	while (leaf.steps < 1)
		turn_once(f->ctx);
	k3sup_op_unref(top.op);
	drive_until(f->ctx, &top.clears, 1);
	assert_int_equal(leaf.clears, 1);
}

static void references_are_counted(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_sleep, .until = k3sup__now_ms() + 10};

	begin(f->ctx, &s);
	assert_ptr_equal(k3sup_op_ref(s.op), s.op);
	assert_null(k3sup_op_unref(s.op)); /* one is left: not detached */
	assert_int_equal(finish(s.op), 1);
	k3sup_op_unref(s.op);
	assert_null(k3sup_op_ref(NULL));
	assert_null(k3sup_op_unref(NULL));
	assert_ptr_equal(k3sup_ctx_ref(f->ctx), f->ctx);
	assert_null(k3sup_ctx_unref(f->ctx));
	assert_int_equal(k3sup_ctx_dispatch(f->ctx) >= 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_both(a_detached_sleeper_ends_without_a_word),
		in_both(a_detached_operation_that_never_began_is_not_begun),
		in_worker(detached_work_is_told_to_stop),
		in_worker(no_progress_comes_from_a_detached_operation),
		in_both(past_its_point_of_no_return_a_detached_operation_is_finished),
		in_both(operations_keep_their_context),
		in_both(a_context_takes_what_waits_with_it),
		in_worker(a_context_waits_for_work_that_runs_and_drops_what_is_queued),
		in_both(a_context_takes_operations_that_wait_for_others_with_it),
		in_both(a_detached_parent_and_its_child_end_when_driven),
		in_both(references_are_counted),
	};

	return cmocka_run_group_tests_name("op-detach", tests, NULL, NULL);
}
