/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping operations that call others, and those that conclude before they end.
 */
#include "ops.h"

static int step_calls(k3sup_op *op, struct script *s)
{
	if (k3sup__op_woke(op) != K3SUP__WOKE_START)
		return k3sup__op_adopt(op, k3sup__op_child(op));
	s->inner->op = begin_as(&script_class, k3sup__op_ctx(op), s->inner, K3SUP__NEVER);
	return k3sup__op_call(op, s->inner->op);
}

static void a_cancel_reaches_the_innermost_first(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_sleep, .until = K3SUP__NEVER}, middle = {.step = step_calls, .inner = &leaf};
	struct script top = {.step = step_calls, .inner = &middle};

	begin(f->ctx, &top);
	while (leaf.steps < 1)
		turn_once(f->ctx);
	k3sup_op_cancel(top.op);
	drive_until(f->ctx, &leaf.clears, 1);
	assert_int_equal(top.clears, 0);
	assert_int_equal(finish(top.op), K3SUP_E_CANCELLED);
	assert_int_equal(middle.clears, 1);
	assert_int_equal(middle.steps + top.steps, 2);
	k3sup_op_unref(top.op);
}

static int work_is_cancelled_from_above(k3sup_op *op, struct script *s)
{
	k3sup_op_cancel(s->other);
	return k3sup__op_checkpoint(op);
}

static void work_of_a_child_hears_a_cancel_of_its_parent_at_once(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_work, .work = work_is_cancelled_from_above}, top = {.step = step_calls, .inner = &leaf};

	leaf.other = begin(f->ctx, &top);
	assert_int_equal(finish(top.op), K3SUP_E_CANCELLED);
	assert_int_equal(leaf.steps, 1);
	k3sup_op_unref(top.op);
}

static int step_calls_past_return(k3sup_op *op, struct script *s)
{
	k3sup__op_no_return(op);
	return step_calls(op, s);
}

static void a_parent_past_return_shields_its_child(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_sleep, .until = k3sup__now_ms() + 400}, top = {.step = step_calls_past_return, .inner = &leaf};

	begin_as(&script_class, f->ctx, &top, k3sup__now_ms() + 300);
	while (leaf.steps < 1)
		turn_once(f->ctx);
	k3sup_op_cancel(top.op);
	assert_int_equal(finish(top.op), 1);
	k3sup_op_unref(top.op);
}

static void a_child_has_no_more_time_than_its_parent(void **state)
{
	struct fixture *f = *state;
	struct script leaf = {.step = step_sleep, .until = K3SUP__NEVER}, top = {.step = step_calls, .inner = &leaf};

	begin_as(&script_class, f->ctx, &top, k3sup__now_ms() + 20);
	assert_int_equal(finish(top.op), K3SUP_E_TIMEOUT);
	assert_int_equal(leaf.clears, 1);
	k3sup_op_unref(top.op);
}

/* ---- conclusions ---- */

static int step_concludes(k3sup_op *op, struct script *s)
{
	if (s->steps == 1)
		return k3sup__op_sleep(op, K3SUP__NEVER);
	if (s->steps == 2) {
		if (s->woke != K3SUP__WOKE_STOP || k3sup__op_stop_code(op) != s->number)
			return -EPROTO;
		k3sup__op_seal_failure(op);
		s->until = k3sup__now_ms() + 30;
		return k3sup__op_sleep(op, s->until);
	}
	if (s->steps == 3) {
		if (s->woke != K3SUP__WOKE_DEADLINE || k3sup__now_ms() < s->until)
			return -EPROTO;
		return k3sup__op_call(op, begin(k3sup__op_ctx(op), s->inner));
	}
	k3sup__json_set_int(k3sup__op_facts(op), "looked", k3sup_op_status(k3sup__op_child(op)));
	(void)k3sup__op_adopt(op, k3sup__op_child(op));
	return k3sup__op_stop_code(op);
}

static void assert_concluded(struct fixture *f, struct script *s, int code)
{
	struct script other = {.step = step_sleep, .until = k3sup__now_ms() + 5};
	int64_t number;

	/* other operations that are stopped meanwhile do not disturb it */
	k3sup_op_cancel(begin(f->ctx, &other));
	k3sup_op_cancel(s->op);
	assert_int_equal(finish(s->op), code);
	assert_int_equal(finish(other.op), K3SUP_E_CANCELLED);
	assert_int_equal(k3sup_doc_i64(k3sup_op_result(s->op), "/looked", &number), 0);
	assert_int_equal(number, -EIO);
	assert_error(s->op, code, k3sup_strerror(code));
	k3sup_op_unref(s->op);
	k3sup_op_unref(other.op);
}

static void a_class_that_concludes_is_stopped_once_and_may_look_around(void **state)
{
	struct fixture *f = *state;
	struct script inner = {.step = step_done, .number = -EIO}, s = {.step = step_concludes, .inner = &inner, .number = K3SUP_E_CANCELLED};

	begin_as(&concluding_class, f->ctx, &s, K3SUP__NEVER);
	while (s.steps < 1)
		turn_once(f->ctx);
	k3sup_op_cancel(s.op);
	while (s.steps < 2)
		turn_once(f->ctx);
	assert_concluded(f, &s, K3SUP_E_CANCELLED);
	inner = (struct script){.step = step_done, .number = -EIO};
	s = (struct script){.step = step_concludes, .inner = &inner, .number = K3SUP_E_TIMEOUT};
	begin_as(&concluding_class, f->ctx, &s, k3sup__now_ms() + 300);
	while (s.steps < 2)
		turn_once(f->ctx);
	assert_concluded(f, &s, K3SUP_E_TIMEOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_both(a_cancel_reaches_the_innermost_first),
		in_both(work_of_a_child_hears_a_cancel_of_its_parent_at_once),
		in_both(a_parent_past_return_shields_its_child),
		in_both(a_child_has_no_more_time_than_its_parent),
		in_both(a_class_that_concludes_is_stopped_once_and_may_look_around),
	};

	return cmocka_run_group_tests_name("op-family", tests, NULL, NULL);
}
