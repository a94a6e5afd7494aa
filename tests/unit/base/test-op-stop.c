/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancel, deadlines, the point of no return.
 */
#include "ops.h"

static void cancel_before_the_start(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done, .number = 1};

	assert_int_equal(k3sup_op_set_done(begin(f->ctx, &s), count_done, &s), 0);
	k3sup_op_cancel(s.op);
	k3sup_op_cancel(s.op);
	assert_int_equal(k3sup_op_status(s.op), -EINPROGRESS);
	assert_int_equal(finish(s.op), K3SUP_E_CANCELLED);
	assert_int_equal(s.steps, 0);
	assert_int_equal(s.dones, 1);
	assert_error(s.op, K3SUP_E_CANCELLED, "cancelled");
	k3sup_op_cancel(s.op);
	settle(f->ctx);
	assert_int_equal(k3sup_op_status(s.op), K3SUP_E_CANCELLED);
	k3sup_op_unref(s.op);
	k3sup_op_cancel(NULL);
}

static void cancel_after_the_end_does_nothing(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done, .number = 1};

	assert_int_equal(finish(begin(f->ctx, &s)), 1);
	k3sup_op_cancel(s.op);
	settle(f->ctx);
	assert_int_equal(k3sup_op_status(s.op), 1);
	k3sup_op_unref(s.op);
}

/* An operation whose work holds the worker until it is let go. */
static void occupy(k3sup_ctx *ctx, struct script *s)
{
	*s = (struct script){.step = step_work, .work = work_until_let_go};
	sem_init(&s->begun, 0, 0);
	sem_init(&s->go, 0, 0);
	begin(ctx, s);
	assert_int_equal(k3sup_op_wait(s->op, 0), -EINPROGRESS);
	wait_begun(s);
}

static void let_go(struct script *s)
{
	sem_post(&s->go);
	assert_int_equal(finish(s->op), 1);
	k3sup_op_unref(s->op);
}

static void cancel_while_queued_does_not_wait_for_others_work(void **state)
{
	struct fixture *f = *state;
	struct script busy, first = {.step = step_work, .work = work_until_let_go}, second = first;

	occupy(f->ctx, &busy);
	begin(f->ctx, &first);
	begin(f->ctx, &second);
	assert_int_equal(k3sup_op_wait(first.op, 0), -EINPROGRESS);
	k3sup_op_cancel(first.op);
	assert_int_equal(finish(first.op), K3SUP_E_CANCELLED);
	assert_int_equal(first.works, 0);
	assert_int_equal(k3sup_op_status(busy.op), -EINPROGRESS);
	assert_int_equal(k3sup_op_status(second.op), -EINPROGRESS);
	k3sup_op_unref(first.op);
	second.op = k3sup_op_unref(second.op);
	drive_until(f->ctx, &second.clears, 1);
	let_go(&busy);
	assert_int_equal(second.works, 0);
}

static void a_deadline_counts_while_queued(void **state)
{
	struct fixture *f = *state;
	struct script busy, s = {.step = step_work, .work = work_until_let_go};

	occupy(f->ctx, &busy);
	begin_as(&script_class, f->ctx, &s, k3sup__now_ms() + 20);
	assert_int_equal(finish(s.op), K3SUP_E_TIMEOUT);
	assert_error(s.op, K3SUP_E_TIMEOUT, "time");
	assert_int_equal(s.works, 0);
	k3sup_op_unref(s.op);
	let_go(&busy);
}

static void queued_work_that_shall_stop_is_not_begun_though_nobody_drives(void **state)
{
	struct fixture *f = *state;
	struct script busy, cancelled = {.step = step_work, .work = work_until_let_go}, late = cancelled, last = cancelled;

	sem_init(&last.begun, 0, 0);
	sem_init(&last.go, 0, 1);
	occupy(f->ctx, &busy);
	begin(f->ctx, &cancelled);
	begin_as(&script_class, f->ctx, &late, k3sup__now_ms() + 60000);
	begin(f->ctx, &last);
	assert_int_equal(k3sup_op_wait(last.op, 0), -EINPROGRESS);
	late.op->deadline = k3sup__now_ms();
	k3sup_op_cancel(cancelled.op);
	sem_post(&busy.go);
	wait_begun(&last); /* the worker has come past the others */
	assert_int_equal(finish(last.op), 1);
	assert_int_equal(finish(cancelled.op), K3SUP_E_CANCELLED);
	assert_int_equal(finish(late.op), K3SUP_E_TIMEOUT);
	assert_int_equal(finish(busy.op), 1);
	assert_int_equal(cancelled.works + late.works, 0);
	k3sup_op_unref(cancelled.op);
	k3sup_op_unref(late.op);
	k3sup_op_unref(last.op);
	k3sup_op_unref(busy.op);
}

static void a_deadline_that_passes_during_work_is_its_to_see(void **state)
{
	struct fixture *f = *state;
	struct script s = {.works = 0};

	/* A busy machine may take longer than that to begin; then it gets more time. */
	for (int64_t time = 10; s.works == 0; time *= 4) {
		int status;

		s = (struct script){.step = step_work, .work = work_until_let_go};
		sem_init(&s.begun, 0, 0);
		sem_init(&s.go, 0, 0);
		begin_as(&script_class, f->ctx, &s, k3sup__now_ms() + time);
		status = k3sup_op_wait(s.op, time + 20);
		if (status != K3SUP_E_TIMEOUT) {
			wait_begun(&s);
			assert_int_equal(status, -EINPROGRESS); /* deaf work is not ended */
			sem_post(&s.go);
		}
		assert_int_equal(finish(s.op), K3SUP_E_TIMEOUT);
		k3sup_op_unref(s.op);
	}
}

static void cancel_while_working(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_until_stopped};

	sem_init(&s.begun, 0, 0);
	begin(f->ctx, &s);
	assert_int_equal(k3sup_op_wait(s.op, 0), -EINPROGRESS);
	wait_begun(&s);
	k3sup_op_cancel(s.op);
	assert_int_equal(finish(s.op), K3SUP_E_CANCELLED);
	assert_int_equal(s.steps, 1);
	k3sup_op_unref(s.op);
}

static void cancel_while_waiting(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	k3sup_process *process = start_process(&pid);
	struct script sleeper = {.step = step_sleep, .until = K3SUP__NEVER}, timed = {.step = step_sleep, .until = k3sup__now_ms() + 3600000};
	struct script watcher = {.step = step_watch, .process = process, .until = K3SUP__NEVER}, *all[] = {&sleeper, &timed, &watcher};

	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		begin(f->ctx, all[i]);
	assert_int_equal(k3sup_op_wait(watcher.op, 0), -EINPROGRESS);
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		k3sup_op_cancel(all[i]->op);
		assert_int_equal(finish(all[i]->op), K3SUP_E_CANCELLED);
		assert_int_equal(all[i]->steps, 1);
		k3sup_op_unref(all[i]->op);
	}
	end_process(pid);
	k3sup_process_unref(process);
}

static void *cancel_from_here(void *arg)
{
	struct script *s = arg;

	wait_begun(s);
	k3sup_op_cancel(s->op);
	return NULL;
}

static int step_begins_to_sleep(k3sup_op *op, struct script *s)
{
	sem_post(&s->begun);
	return k3sup__op_sleep(op, K3SUP__NEVER);
}

static void cancel_from_another_thread(void **state)
{
	struct fixture *f = *state;

	/* often, because the cancel strikes at another moment each time */
	for (int i = 0; i < 300; i++) {
		struct script s = {.step = i % 2 ? step_begins_to_sleep : step_work, .work = work_until_stopped};
		pthread_t thread;

		sem_init(&s.begun, 0, 0);
		begin(f->ctx, &s);
		assert_int_equal(pthread_create(&thread, NULL, cancel_from_here, &s), 0);
		if (i % 4 < 2)
			assert_int_equal(finish(s.op), K3SUP_E_CANCELLED);
		else
			assert_int_equal(k3sup_op_wait(s.op, LONG), K3SUP_E_CANCELLED);
		pthread_join(thread, NULL);
		k3sup_op_unref(s.op);
	}
}

static k3sup_op *signalled;

static void on_signal(int signo)
{
	(void)signo;
	k3sup_op_cancel(signalled);
}

static void *signal_main(void *arg)
{
	struct script *s = arg;

	wait_begun(s);
	pthread_kill(s->thread, SIGUSR1);
	return NULL;
}

static void cancel_from_a_signal_handler(void **state)
{
	struct fixture *f = *state;
	struct sigaction action = {.sa_handler = on_signal}, before;

	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	for (int i = 0; i < 100; i++) {
		struct script s = {.step = step_begins_to_sleep, .thread = pthread_self()};
		pthread_t thread;

		sem_init(&s.begun, 0, 0);
		signalled = begin(f->ctx, &s);
		assert_int_equal(pthread_create(&thread, NULL, signal_main, &s), 0);
		assert_int_equal(k3sup_op_wait(s.op, LONG), K3SUP_E_CANCELLED);
		pthread_join(thread, NULL);
		k3sup_op_unref(s.op);
	}
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

/* ---- the point of no return ---- */

static int work_past_return(k3sup_op *op, struct script *s)
{
	int seen;

	k3sup__op_no_return(op);
	k3sup_op_cancel(op);
	seen = k3sup__op_checkpoint(op);
	s->number = seen ? seen : 1;
	return s->number;
}

static int step_past_return(k3sup_op *op, struct script *s)
{
	switch (s->steps) {
	case 1:
		return k3sup__op_work(op, script_work);
	case 2:
		return k3sup__op_sleep(op, k3sup__now_ms() + 30);
	default:
		return k3sup__op_is_past_return(op) && s->woke == K3SUP__WOKE_DEADLINE ? s->number : -EPROTO;
	}
}

static void past_its_point_of_no_return_it_ends_as_it_would_have(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_past_return, .work = work_past_return};

	begin_as(&script_class, f->ctx, &s, k3sup__now_ms() + 5000);
	while (s.steps < 2)
		turn_once(f->ctx);
	s.op->deadline = k3sup__now_ms() - 1;
	assert_int_equal(finish(s.op), 1);
	assert_int_equal(s.steps, 3);
	k3sup_op_unref(s.op);
}

static int step_may_stop_again(k3sup_op *op, struct script *s)
{
	if (s->steps == 1) {
		k3sup__op_no_return(op);
		return k3sup__op_sleep(op, k3sup__now_ms() + 20);
	}
	k3sup__op_may_stop(op);
	return k3sup__op_sleep(op, K3SUP__NEVER);
}

static void a_cancel_is_not_lost_in_the_part_that_cannot_be_stopped(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_may_stop_again};

	begin(f->ctx, &s);
	while (s.steps < 1)
		turn_once(f->ctx);
	k3sup_op_cancel(s.op);
	while (s.steps < 2)
		turn_once(f->ctx);
	/* it was asked before; nobody asks again */
	assert_int_equal(finish(s.op), K3SUP_E_CANCELLED);
	assert_int_equal(s.steps, 2);
	k3sup_op_unref(s.op);
}

/* ---- deadlines ---- */

static void the_earlier_of_two_deadlines_counts(void **state)
{
	struct fixture *f = *state;
	struct script late = {.step = step_sleep, .until = K3SUP__NEVER}, early = {.step = step_sleep, .until = k3sup__now_ms() + 10},
		      over = {.step = step_done};
	int64_t deadline = k3sup__now_ms() + 30;

	begin_as(&script_class, f->ctx, &late, deadline);
	begin_as(&script_class, f->ctx, &early, k3sup__now_ms() + 60000);
	begin_as(&script_class, f->ctx, &over, k3sup__now_ms());
	assert_int_equal(finish(early.op), 1);
	assert_int_equal(finish(late.op), K3SUP_E_TIMEOUT);
	assert_true(k3sup__now_ms() >= deadline);
	assert_int_equal(finish(over.op), K3SUP_E_TIMEOUT);
	assert_int_equal(over.steps, 0);
	assert_error(late.op, K3SUP_E_TIMEOUT, "time");
	k3sup_op_unref(late.op);
	k3sup_op_unref(early.op);
	k3sup_op_unref(over.op);
}

static int work_fails_and_is_cancelled(k3sup_op *op, struct script *s)
{
	(void)s;
	k3sup__json_set_int(k3sup__op_evidence(op), "free", 0);
	k3sup_op_cancel(op);
	return k3sup__fail(op, -ENOSPC, "the disk is full");
}

static void code_and_sentence_belong_together(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_fails_and_is_cancelled};

	assert_int_equal(finish(begin(f->ctx, &s)), K3SUP_E_CANCELLED);
	assert_error(s.op, K3SUP_E_CANCELLED, "cancelled");
	k3sup_op_unref(s.op);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_both(cancel_before_the_start),
		in_both(cancel_after_the_end_does_nothing),
		in_worker(cancel_while_queued_does_not_wait_for_others_work),
		in_worker(a_deadline_counts_while_queued),
		in_worker(queued_work_that_shall_stop_is_not_begun_though_nobody_drives),
		in_worker(a_deadline_that_passes_during_work_is_its_to_see),
		in_worker(cancel_while_working),
		in_both(cancel_while_waiting),
		in_both(cancel_from_another_thread),
		in_both(cancel_from_a_signal_handler),
		in_both(past_its_point_of_no_return_it_ends_as_it_would_have),
		in_both(a_cancel_is_not_lost_in_the_part_that_cannot_be_stopped),
		in_both(the_earlier_of_two_deadlines_counts),
		in_both(code_and_sentence_belong_together),
	};

	return cmocka_run_group_tests_name("op-stop", tests, NULL, NULL);
}
