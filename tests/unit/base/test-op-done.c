/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks and what may be done in them; operations that call others.
 */
#include "ops.h"

/* ---- the done callback ---- */

static void done_is_called_once(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done, .number = -EIO};

	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), count_done, &s), 0);
	assert_int_equal(s.dones, 0);
	assert_int_equal(finish(s.op), -EIO);
	assert_int_equal(s.dones, 1);
	settle(f->ctx);
	assert_int_equal(k3sup_op_wait(s.op, -1), -EIO);
	assert_int_equal(s.dones, 1);
	k3sup_op_unref(s.op);
	assert_int_equal(k3sup_op_set_done(NULL, count_done, &s), -EINVAL);
}

static void done_that_is_set_late_is_called_in_the_next_dispatch(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done}, second = {0};

	assert_int_equal(finish(begin(f->ctx, &s)), 0);
	settle(f->ctx);
	assert_int_equal(k3sup_op_set_done(s.op, count_done, &s), 0);
	assert_int_equal(k3sup_op_set_done(s.op, count_done, &second), 0); /* replaced before it was called */
	assert_int_equal(s.dones + second.dones, 0);
	turn_once(f->ctx);
	assert_int_equal(s.dones, 0);
	assert_int_equal(second.dones, 1);
	settle(f->ctx);
	assert_int_equal(second.dones, 1);
	/* taken back */
	assert_int_equal(k3sup_op_set_done(s.op, count_done, &s), 0);
	assert_int_equal(k3sup_op_set_done(s.op, NULL, NULL), 0);
	settle(f->ctx);
	assert_int_equal(s.dones, 0);
	k3sup_op_unref(s.op);
}

static void late_done_of_an_operation_that_is_given_back_is_not_called(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done}, last = {.step = step_done};

	assert_int_equal(finish(begin(f->ctx, &s)), 0);
	assert_int_equal(k3sup_op_set_done(s.op, count_done, &s), 0);
	k3sup_op_unref(s.op);
	settle(f->ctx);
	assert_int_equal(s.dones, 0);
	/* nor when the context goes away with it */
	assert_int_equal(finish(begin(f->ctx, &last)), 0);
	assert_int_equal(k3sup_op_set_done(last.op, count_done, &last), 0);
	f->ctx = k3sup_ctx_unref(f->ctx);
	k3sup_op_unref(last.op);
	assert_int_equal(last.dones, 0);
}

static void done_gives_back(k3sup_op *op, void *userdata)
{
	struct script *s = userdata;

	s->dones++;
	s->op = k3sup_op_unref(op);
	if (s->other)
		s->other = k3sup_op_unref(s->other);
	if (s->ctx)
		s->ctx = k3sup_ctx_unref(s->ctx);
}

static void done_may_give_back_the_operation(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done}, waited = {.step = step_done};

	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), done_gives_back, &s), 0);
	s.ctx = NULL;
	drive_until(f->ctx, &s.dones, 1);
	assert_null(s.op);
	assert_int_equal(s.clears, 1);
	/* also under the wait for it */
	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &waited), done_gives_back, &waited), 0);
	waited.ctx = NULL;
	waited.number = 1;
	assert_int_equal(k3sup_op_wait(waited.op, -1), 1);
	assert_int_equal(waited.dones, 1);
}

static void done_may_give_back_other_operations(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done}, ready = {.step = step_done}, sleeping = {.step = step_sleep, .until = K3SUP__NEVER};

	s.other = begin(f->ctx, &sleeping);
	assert_int_equal(k3sup_op_wait(s.other, 0), -EINPROGRESS);
	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), done_gives_back, &s), 0);
	s.ctx = NULL;
	begin(f->ctx, &ready);
	ready.other = k3sup_op_ref(ready.op);
	drive_until(f->ctx, &s.dones, 1);
	drive_until(f->ctx, &sleeping.clears, 1);
	assert_int_equal(finish(ready.op), 0);
	k3sup_op_unref(ready.other);
	k3sup_op_unref(ready.op);
}

static void done_may_give_back_the_context(void **state)
{
	struct fixture *f = *state;
	k3sup_ctx *ctx = f->ctx;
	struct script s = {.step = step_done}, sleeping = {.step = step_sleep, .until = K3SUP__NEVER};

	s.other = begin(ctx, &sleeping);
	assert_int_equal(k3sup_op_wait(s.other, 0), -EINPROGRESS);
	assert_int_equal(k3sup_op_set_done(begin(ctx, &s), done_gives_back, &s), 0);
	f->ctx = NULL;
	assert_int_equal(k3sup_ctx_dispatch(ctx), 1);
	assert_int_equal(s.dones, 1);
	assert_int_equal(sleeping.clears, 1);
}

static void done_begins(k3sup_op *op, void *userdata)
{
	struct script *s = userdata;

	s->dones++;
	begin(op->ctx, s->inner);
}

static void done_may_begin_another_operation(void **state)
{
	struct fixture *f = *state;
	struct script next = {.step = step_done, .number = 1}, s = {.step = step_done, .inner = &next};

	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), done_begins, &s), 0);
	assert_int_equal(finish(s.op), 0);
	assert_int_equal(finish(next.op), 1);
	k3sup_op_unref(next.op);
	k3sup_op_unref(s.op);
}

static void done_drives(k3sup_op *op, void *userdata)
{
	struct script *s = userdata;

	s->dones++;
	s->number = k3sup_ctx_dispatch(op->ctx);
	if (s->number == -EBUSY)
		s->number = k3sup_op_wait(s->other, 0);
	(void)op;
}

static void driving_inside_a_callback_is_refused(void **state)
{
	struct fixture *f = *state;
	struct script sleeping = {.step = step_sleep, .until = K3SUP__NEVER}, s = {.step = step_done};

	s.other = begin(f->ctx, &sleeping);
	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), done_drives, &s), 0);
	assert_int_equal(finish(s.op), 0);
	assert_int_equal(s.number, -EBUSY);
	k3sup_op_unref(s.op);
	k3sup_op_unref(sleeping.op);
	drive_until(f->ctx, &sleeping.clears, 1);
}

static void done_drives_another(k3sup_op *op, void *userdata)
{
	struct script *s = userdata;

	(void)op;
	s->dones++;
	s->number = k3sup_op_wait(s->other, -1);
}

static void a_callback_may_drive_another_context(void **state)
{
	struct fixture *f = *state;
	struct script inner = {.step = step_done, .number = 1}, s = {.step = step_done};
	k3sup_ctx *other = NULL;

	assert_int_equal(k3sup_ctx_new(NULL, &other), 0);
	s.other = begin(other, &inner);
	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), done_drives_another, &s), 0);
	assert_int_equal(finish(s.op), 0);
	assert_int_equal(s.number, 1);
	k3sup_op_unref(s.op);
	k3sup_op_unref(inner.op);
	k3sup_ctx_unref(other);
}

/* ---- calling ---- */

static int step_calls(k3sup_op *op, struct script *s)
{
	int64_t number = 0;

	if (k3sup__op_woke(op) == K3SUP__WOKE_START)
		return k3sup__op_call(op, begin(k3sup__op_ctx(op), s->inner));
	if (k3sup__op_woke(op) != K3SUP__WOKE_CHILD)
		return -EPROTO;
	if (k3sup_doc_i64(k3sup_op_result(k3sup__op_child(op)), "/ok", &number) < 0)
		return -ENODATA;
	if (k3sup_op_status(k3sup__op_child(op)) >= 0)
		return 1;
	k3sup__json_set_str(k3sup__op_evidence(op), "own", "kept");
	return k3sup__op_adopt(op, k3sup__op_child(op));
}

static void an_operation_may_call_others(void **state)
{
	struct fixture *f = *state;
	struct script me = {.thread = pthread_self()};
	struct script leaf = {.step = step_work, .number = 1, .inner = &me}, middle = {.step = step_calls, .inner = &leaf};
	struct script top = {.step = step_calls, .inner = &middle};

	leaf.work = work_until_let_go;
	sem_init(&leaf.begun, 0, 0);
	sem_init(&leaf.go, 0, 1);
	assert_int_equal(finish(begin(f->ctx, &top)), 1);
	assert_int_equal(top.steps + middle.steps + leaf.steps, 6);
	assert_int_equal(leaf.clears + middle.clears + top.clears, 3);
	k3sup_op_unref(top.op);
}

static int step_explains(k3sup_op *op, struct script *s)
{
	k3sup__json_set_int(k3sup__op_evidence(op), "pid", 7);
	return k3sup__fail(op, s->number, "the innermost knows most");
}

static void a_failure_is_adopted_with_its_evidence(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_explains, .number = K3SUP_E_NO_K3S}, middle = {.step = step_calls, .inner = &leaf};
	struct script top = {.step = step_calls, .inner = &middle};
	const char *text;
	int64_t number;

	assert_int_equal(finish(begin(f->ctx, &top)), K3SUP_E_NO_K3S);
	assert_error(top.op, K3SUP_E_NO_K3S, "the innermost knows most");
	assert_int_equal(k3sup_doc_i64(k3sup_op_error(top.op), "/evidence/pid", &number), 0);
	assert_int_equal(number, 7);
	assert_int_equal(k3sup_doc_str(k3sup_op_error(top.op), "/evidence/own", &text), 0);
	k3sup_op_unref(top.op);
}

static int step_explains_itself_by_another(k3sup_op *op, struct script *s)
{
	(void)step_explains(s->other, s);
	k3sup__json_set_str(k3sup__op_evidence(op), "own", "kept");
	return k3sup__op_take_failure(op, s->other, s->number);
}

static void a_failure_is_taken_from_one_that_goes_on(void **state)
{
	struct fixture *f = *state;
	struct script other = {.step = step_done}, s = {.step = step_explains_itself_by_another, .number = -ENOSPC};
	const char *text;
	int64_t number;

	s.other = begin(f->ctx, &other);
	assert_int_equal(finish(begin(f->ctx, &s)), -ENOSPC);
	assert_error(s.op, -ENOSPC, "the innermost knows most");
	assert_int_equal(k3sup_doc_i64(k3sup_op_error(s.op), "/evidence/pid", &number), 0);
	assert_int_equal(number, 7);
	assert_int_equal(k3sup_doc_str(k3sup_op_error(s.op), "/evidence/own", &text), 0);
	assert_int_equal(finish(s.other), 0);
	assert_null(k3sup_op_error(s.other));
	k3sup_op_unref(s.op);
	k3sup_op_unref(s.other);
}

static int step_calls_twice(k3sup_op *op, struct script *s)
{
	if (k3sup__op_woke(op) == K3SUP__WOKE_CHILD && k3sup__op_adopt(op, k3sup__op_child(op)) < 0)
		k3sup__op_forgive(op);
	if (s->steps > 2)
		return 1;
	s->inner->step = s->steps == 1 ? step_explains : step_done;
	s->inner->number = s->steps == 1 ? -EIO : 0;
	return k3sup__op_call(op, begin(k3sup__op_ctx(op), s->inner));
}

static void a_failure_can_be_forgiven(void **state)
{
	struct fixture *f = *state;
	struct script inner = {0}, s = {.step = step_calls_twice, .inner = &inner};

	assert_int_equal(finish(begin(f->ctx, &s)), 1);
	assert_int_equal(inner.clears, 2);
	assert_null(k3sup_op_error(s.op));
	k3sup_op_unref(s.op);
}

static int step_calls_and_fails(k3sup_op *op, struct script *s)
{
	(void)k3sup__op_call(op, begin(k3sup__op_ctx(op), s->inner));
	return -EIO;
}

static void a_step_may_fail_after_it_arranged_a_call(void **state)
{
	struct fixture *f = *state;
	struct script inner = {.step = step_done}, s = {.step = step_calls_and_fails, .inner = &inner};

	assert_int_equal(finish(begin(f->ctx, &s)), -EIO);
	drive_until(f->ctx, &inner.clears, 1);
	assert_int_equal(inner.steps, 0);
	k3sup_op_unref(s.op);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_both(done_is_called_once),
		in_both(done_that_is_set_late_is_called_in_the_next_dispatch),
		in_both(late_done_of_an_operation_that_is_given_back_is_not_called),
		in_both(done_may_give_back_the_operation),
		in_both(done_may_give_back_other_operations),
		in_both(done_may_give_back_the_context),
		in_both(done_may_begin_another_operation),
		in_both(driving_inside_a_callback_is_refused),
		in_both(a_callback_may_drive_another_context),
		in_both(an_operation_may_call_others),
		in_both(a_failure_is_adopted_with_its_evidence),
		in_both(a_failure_is_taken_from_one_that_goes_on),
		in_both(a_failure_can_be_forgiven),
		in_both(a_step_may_fail_after_it_arranged_a_call),
	};

	return cmocka_run_group_tests_name("op-done", tests, NULL, NULL);
}
