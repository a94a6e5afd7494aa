/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

#include <fcntl.h>
#include <poll.h>

#include <jansson.h>

static void nothing_runs_before_the_context_is_driven(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done, .number = 1};
	k3sup_op *op = begin(f->ctx, &s);

	assert_int_equal(k3sup_op_status(op), -EINPROGRESS);
	assert_null(k3sup_op_result(op));
	assert_null(k3sup_op_error(op));
	assert_int_equal(s.steps, 0);
	assert_int_equal(k3sup_op_wait(op, 0), 1);
	assert_int_equal(s.steps, 1);
	assert_int_equal(s.clears, 1);
	assert_int_equal(s.woke, K3SUP__WOKE_START);
	k3sup_op_unref(op);
}

static void a_new_operation_makes_the_descriptor_readable(void **state)
{
	struct fixture *f = *state;
	struct pollfd p = {.fd = k3sup_ctx_fd(f->ctx), .events = POLLIN};
	struct script s = {.step = step_done};

	settle(f->ctx);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(k3sup_ctx_dispatch(f->ctx), 0);
	begin(f->ctx, &s);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_int_equal(k3sup_ctx_dispatch(f->ctx), 1);
	assert_int_equal(k3sup_op_status(s.op), 0);
	k3sup_op_unref(s.op);
}

static int step_says_why(k3sup_op *op, struct script *s)
{
	k3sup__json_set_str(k3sup__op_evidence(op), "path", "/etc\xff");
	k3sup__json_set_int(k3sup__op_facts(op), "seen", 3);
	(void)k3sup__fail(op, s->number, "cannot open %s\n\x1b[2J", "/etc\xff");
	return k3sup__fail(op, s->number, "a later sentence");
}

static void a_failure_has_its_documents(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_says_why, .number = K3SUP_E_ROOT}, silent = {.step = step_done, .number = -ENOSPC};
	const char *text;
	int64_t number;

	assert_int_equal(finish(begin(f->ctx, &s)), K3SUP_E_ROOT);
	assert_error(s.op, K3SUP_E_ROOT, "cannot open /etc\\xff\\x0a\\x1b[2J");
	assert_int_equal(k3sup_doc_str(k3sup_op_error(s.op), "/evidence/path", &text), 0);
	assert_string_equal(text, "/etc\\xff");
	assert_int_equal(k3sup_doc_i64(k3sup_op_result(s.op), "/seen", &number), 0);
	assert_int_equal(k3sup_doc_i64(k3sup_op_result(s.op), "/changed", &number), 0);
	assert_int_equal(number, 0);
	k3sup_op_unref(s.op);
	assert_int_equal(finish(begin(f->ctx, &silent)), -ENOSPC);
	assert_error(silent.op, -ENOSPC, "no space");
	k3sup_op_unref(silent.op);
}

static void success_says_whether_something_changed(void **state)
{
	struct fixture *f = *state;
	int64_t number;

	for (int changed = 0; changed <= 1; changed++) {
		struct script s = {.step = step_done, .number = changed};
		k3sup_doc *result;

		assert_int_equal(finish(begin(f->ctx, &s)), changed);
		assert_null(k3sup_op_error(s.op));
		result = k3sup_doc_ref(k3sup_op_result(s.op));
		k3sup_op_unref(s.op);
		/* documents outlive what they came from */
		assert_int_equal(k3sup_doc_i64(result, "/ok", &number), 0);
		assert_int_equal(number, 1);
		assert_int_equal(k3sup_doc_i64(result, "/changed", &number), 0);
		assert_int_equal(number, changed);
		k3sup_doc_unref(result);
	}
}

static bool no_memory;

static void *failing_malloc(size_t size)
{
	return no_memory ? NULL : malloc(size);
}

static int step_runs_out_of_memory(k3sup_op *op, struct script *s)
{
	if (s->number >= 0)
		k3sup__json_set_str(k3sup__op_facts(op), "kept", "x");
	no_memory = true;
	return s->number;
}

static void documents_are_there_also_without_memory(void **state)
{
	struct fixture *f = *state;
	struct script changed = {.step = step_runs_out_of_memory, .number = 1}, failed = {.step = step_runs_out_of_memory, .number = -EIO},
		      after = {.step = step_done};
	int64_t number;

	json_set_alloc_funcs(failing_malloc, free);
	assert_int_equal(finish(begin(f->ctx, &changed)), -ENOMEM);
	no_memory = false;
	assert_error(changed.op, -ENOMEM, "no memory");
	assert_int_equal(finish(begin(f->ctx, &failed)), -EIO);
	no_memory = false;
	assert_int_equal(k3sup_doc_i64(k3sup_op_error(failed.op), "/code", &number), 0);
	assert_int_equal(number, -ENOMEM);
	assert_non_null(k3sup_op_result(failed.op));
	json_set_alloc_funcs(malloc, free);
	assert_int_equal(finish(begin(f->ctx, &after)), 0);
	k3sup_op_unref(changed.op);
	k3sup_op_unref(failed.op);
	k3sup_op_unref(after.op);
}

static int work_number(k3sup_op *op, struct script *s)
{
	sigset_t blocked;

	(void)op;
	if (!pthread_equal(pthread_self(), s->inner->thread)) {
		pthread_sigmask(SIG_SETMASK, NULL, &blocked);
		for (int sig = 1; sig < 32; sig++)
			if (sig != SIGKILL && sig != SIGSTOP && !sigismember(&blocked, sig))
				return -EINTR;
	}
	return s->number;
}

static void work_is_done_by_the_worker_or_inline(void **state)
{
	struct fixture *f = *state;
	struct script me = {.thread = pthread_self()};

	for (int i = 0; i < 50; i++) {
		struct script s = {.step = step_work, .work = work_number, .number = i % 2 ? -EIO : 1, .inner = &me};

		assert_int_equal(finish(begin(f->ctx, &s)), s.number);
		assert_int_equal(s.works, 1);
		assert_int_equal(s.steps, 2);
		assert_int_equal(s.woke, K3SUP__WOKE_WORK);
		assert_int_equal(pthread_equal(s.thread, pthread_self()) != 0, f->is_inline);
		k3sup_op_unref(s.op);
	}
}

static void work_is_done_in_order_one_by_one(void **state)
{
	struct fixture *f = *state;
	struct script me = {.thread = pthread_self()};
	struct script s[5];
	int had = 0;

	for (size_t i = 0; i < ELEMENTSOF(s); i++) {
		s[i] = (struct script){.step = step_work, .work = work_number, .number = 1, .inner = &me};
		begin(f->ctx, &s[i]);
	}
	while (k3sup_op_status(s[4].op) == -EINPROGRESS) {
		int works = 0;

		turn_once(f->ctx);
		for (size_t i = 0; f->is_inline && i < ELEMENTSOF(s); i++)
			works += s[i].works;
		/* inline: one piece a call, and nobody waits for a second turn of another */
		assert_in_range(works, had, had + 1);
		had = works;
	}
	for (size_t i = 0; i < ELEMENTSOF(s); i++) {
		assert_int_equal(k3sup_op_status(s[i].op), 1);
		k3sup_op_unref(s[i].op);
	}
}

static void sleepers_wake_in_order_and_not_early(void **state)
{
	struct fixture *f = *state;
	static const int64_t after[] = {60, 20, 40, 20, 0, -5, 80};
	struct script s[ELEMENTSOF(after)];
	int64_t now = k3sup__now_ms();

	for (size_t i = 0; i < ELEMENTSOF(after); i++) {
		s[i] = (struct script){.step = step_sleep, .until = now + after[i]};
		begin(f->ctx, &s[i]);
	}
	for (size_t left = ELEMENTSOF(after); left > 0;) {
		turn_once(f->ctx);
		for (size_t i = 0; i < ELEMENTSOF(after); i++) {
			if (s[i].dones || k3sup_op_status(s[i].op) == -EINPROGRESS)
				continue;
			s[i].dones = 1;
			left--;
			assert_int_equal(s[i].woke, K3SUP__WOKE_DEADLINE);
			assert_true(k3sup__now_ms() >= s[i].until);
			for (size_t j = 0; j < ELEMENTSOF(after); j++)
				assert_true(s[j].until >= s[i].until || k3sup_op_status(s[j].op) == 1);
		}
	}
	for (size_t i = 0; i < ELEMENTSOF(after); i++)
		k3sup_op_unref(s[i].op);
}

static void many_sleepers_leave_in_any_order(void **state)
{
	struct fixture *f = *state;
	enum { N = 300 };
	struct script *s = calloc(N, sizeof(*s));
	int64_t now = k3sup__now_ms();

	for (unsigned i = 0; i < N; i++) {
		s[i].step = step_sleep;
		s[i].until = i % 3 ? now + 20 + (i * 7919) % 40 : K3SUP__NEVER - 1 - i;
		begin(f->ctx, &s[i]);
	}
	turn_once(f->ctx);
	for (unsigned i = 0; i < N; i += 3)
		k3sup_op_cancel(s[(i * 7) % N].op); /* out of the middle of the heap */
	for (unsigned i = 0; i < N; i++) {
		bool cancelled = i % 3 == 0;

		assert_int_equal(finish(s[i].op), cancelled ? K3SUP_E_CANCELLED : 1);
		k3sup_op_unref(s[i].op);
	}
	free(s);
}

static void a_watcher_sees_the_process_end(void **state)
{
	struct fixture *f = *state;
	struct script s[3];
	pid_t pid;
	k3sup_process *process = start_process(&pid);
	struct script late = {.step = step_watch, .process = process, .until = K3SUP__NEVER};
	size_t fds;

	for (size_t i = 0; i < ELEMENTSOF(s); i++) {
		s[i] = (struct script){.step = step_watch, .process = process, .until = K3SUP__NEVER};
		begin(f->ctx, &s[i]);
	}
	fds = count_fds();
	assert_int_equal(k3sup_op_wait(s[0].op, 0), -EINPROGRESS);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(k3sup__process_signal(process, SIGKILL), 0);
	for (size_t i = 0; i < ELEMENTSOF(s); i++) {
		assert_int_equal(finish(s[i].op), 1);
		assert_int_equal(s[i].woke, K3SUP__WOKE_PROCESS);
		k3sup_op_unref(s[i].op);
	}
	end_process(pid);
	assert_int_equal(finish(begin(f->ctx, &late)), 1);
	assert_int_equal(late.woke, K3SUP__WOKE_PROCESS);
	k3sup_op_unref(late.op);
	k3sup_process_unref(process);
}

static int step_watches_three_times(k3sup_op *op, struct script *s)
{
	if (s->steps > 1 && k3sup__op_woke(op) != K3SUP__WOKE_DEADLINE)
		return -EPROTO;
	return s->steps > 3 ? 1 : k3sup__op_watch(op, s->process, k3sup__now_ms() + 5);
}

static void a_watch_has_a_deadline_and_can_be_had_again(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	struct script s = {.step = step_watches_three_times};
	k3sup_process *process = s.process = start_process(&pid);

	assert_int_equal(finish(begin(f->ctx, &s)), 1);
	assert_int_equal(s.steps, 4);
	k3sup_op_unref(s.op);
	end_process(pid);
	k3sup_process_unref(process);
}

static int step_watches_and_fails(k3sup_op *op, struct script *s)
{
	(void)k3sup__op_watch(op, s->process, K3SUP__NEVER);
	return -EIO;
}

static void a_step_may_fail_after_it_arranged_a_watch(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	struct script s = {.step = step_watches_and_fails};
	k3sup_process *process = s.process = start_process(&pid);

	assert_int_equal(finish(begin(f->ctx, &s)), -EIO);
	k3sup_op_unref(s.op);
	end_process(pid);
	settle(f->ctx);
	k3sup_process_unref(process);
}

static int step_goes_again(k3sup_op *op, struct script *s)
{
	(void)op;
	return s->steps < 1000 ? K3SUP__AGAIN : 1;
}

static void a_step_may_ask_to_be_called_again(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_goes_again};

	assert_int_equal(k3sup_op_wait(begin(f->ctx, &s), 0), 1);
	assert_int_equal(s.steps, 1000);
	k3sup_op_unref(s.op);
}

static void note_end(void *arg)
{
	struct script *s = arg;

	s->ends += s->clears == 1;
}

static void an_end_is_told_once_after_the_state_was_cleared(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_done};

	k3sup__op_on_end(begin(f->ctx, &s), note_end, &s);
	assert_int_equal(finish(s.op), 0);
	assert_int_equal(s.ends, 1);
	k3sup_op_unref(s.op);
	assert_int_equal(s.clears, 1);
	assert_int_equal(s.ends, 1);
}

static int step_finds_processes(k3sup_op *op, struct script *s)
{
	return k3sup__op_add_process(op, s->process);
}

static void processes_are_handed_out_after_the_end(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	struct script s = {.step = step_finds_processes};
	k3sup_process *process = s.process = start_process(&pid), *got = NULL;

	begin(f->ctx, &s);
	assert_int_equal(k3sup_op_process(s.op, 0, &got), -EINPROGRESS);
	assert_int_equal(finish(s.op), 0);
	assert_int_equal(k3sup_op_process(s.op, 1, &got), -ENOENT);
	assert_int_equal(k3sup_op_process(s.op, 0, NULL), -EINVAL);
	assert_int_equal(k3sup_op_process(NULL, 0, &got), -EINVAL);
	assert_int_equal(k3sup_op_process(s.op, 0, &got), 0);
	assert_ptr_equal(got, process);
	k3sup_op_unref(s.op);
	assert_int_equal(k3sup__process_pid(got), pid);
	k3sup_process_unref(got);
	k3sup_process_unref(process);
	end_process(pid);
}

static void waiting_is_bounded_and_can_be_repeated(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_sleep, .until = k3sup__now_ms() + 400}, other = {.step = step_sleep, .until = k3sup__now_ms() + 5};
	int64_t before = k3sup__now_ms();

	begin(f->ctx, &s);
	begin(f->ctx, &other);
	assert_int_equal(k3sup_op_wait(s.op, 0), -EINPROGRESS);
	assert_int_equal(k3sup_op_wait(s.op, 15), -EINPROGRESS);
	assert_true(k3sup__now_ms() >= before + 15);
	assert_int_equal(k3sup_op_status(other.op), 1); /* was driven meanwhile */
	assert_int_equal(k3sup_op_wait(s.op, -1), 1);
	assert_int_equal(k3sup_op_wait(s.op, INT64_MAX), 1);
	assert_int_equal(k3sup_op_wait(NULL, 0), -EINVAL);
	assert_int_equal(k3sup_op_status(NULL), -EINVAL);
	k3sup_op_unref(s.op);
	k3sup_op_unref(other.op);
}

static int watched_fd;

/* Wakes for what can be read, and for nothing else. */
static int step_reads(k3sup_op *op, struct script *s)
{
	char byte;

	(void)s;
	if (k3sup__op_woke(op) == K3SUP__WOKE_START)
		return k3sup__op_watch_fd(op, watched_fd, POLLIN, k3sup__deadline(60000));
	assert_int_equal(k3sup__op_woke(op), K3SUP__WOKE_FD);
	return read(watched_fd, &byte, 1) == 1 && byte == 'x' ? 1 : K3SUP_E_INTERNAL;
}

static int step_reads_in_time(k3sup_op *op, struct script *s)
{
	(void)s;
	if (k3sup__op_woke(op) == K3SUP__WOKE_START)
		return k3sup__op_watch_fd(op, watched_fd, POLLIN, k3sup__deadline(30));
	return k3sup__op_woke(op) == K3SUP__WOKE_DEADLINE ? 0 : K3SUP_E_INTERNAL;
}

static void a_descriptor_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct script late = {.step = step_reads_in_time}, script = {.step = step_reads};
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	watched_fd = fds[0];
	begin(f->ctx, &late);
	assert_int_equal(finish(late.op), 0);
	k3sup_op_unref(late.op);
	begin(f->ctx, &script);
	turn_once(f->ctx);
	assert_int_equal(k3sup_op_status(script.op), -EINPROGRESS);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(finish(script.op), 1);
	k3sup_op_unref(script.op);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_both(nothing_runs_before_the_context_is_driven),
		in_both(a_descriptor_is_waited_for),
		in_both(a_new_operation_makes_the_descriptor_readable),
		in_both(a_failure_has_its_documents),
		in_both(success_says_whether_something_changed),
		in_inline(documents_are_there_also_without_memory),
		in_both(work_is_done_by_the_worker_or_inline),
		in_both(work_is_done_in_order_one_by_one),
		in_both(sleepers_wake_in_order_and_not_early),
		in_both(many_sleepers_leave_in_any_order),
		in_both(a_watcher_sees_the_process_end),
		in_both(a_watch_has_a_deadline_and_can_be_had_again),
		in_both(a_step_may_fail_after_it_arranged_a_watch),
		in_both(a_step_may_ask_to_be_called_again),
		in_both(an_end_is_told_once_after_the_state_was_cleared),
		in_both(processes_are_handed_out_after_the_end),
		in_both(waiting_is_bounded_and_can_be_repeated),
	};

	return cmocka_run_group_tests_name("op", tests, NULL, NULL);
}
