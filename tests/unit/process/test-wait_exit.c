/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#define WAITERS 100

static pid_t start_fake(const struct scratch *s)
{
	struct fake_spec spec = {.root = s->path, .file = BIN1 "/k3s-server", .title = "k3s server"};

	fake_install_data(s->path, BIN1);
	return fake_start(&spec);
}

static k3sup_op *begin_wait(k3sup_node *node, k3sup_process *process, int64_t timeout_ms)
{
	struct k3sup_wait_exit_opts opts = {.struct_size = sizeof(opts), .process = process, .timeout_ms = timeout_ms};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_wait_exit(node, &opts, &op), 0);
	return op;
}

static void the_end_is_seen_when_it_comes_and_when_it_is_over(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	k3sup_op *op = begin_wait(node, process, 0);

	assert_int_equal(k3sup_op_wait(op, 100), -EINPROGRESS);
	fake_stop(pid);
	assert_status(op, 1);
	assert_int_equal(result_number(op, "/pid"), pid);
	k3sup_op_unref(op);
	op = begin_wait(node, process, 0);
	assert_status(op, 0);
	k3sup_op_unref(op);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

static void many_can_wait_for_one_and_cost_one_descriptor(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	size_t before = count_fds();
	k3sup_op *ops[WAITERS];

	for (size_t i = 0; i < WAITERS; i++)
		ops[i] = begin_wait(node, process, i % 2 ? 0 : LONG);
	assert_int_equal(k3sup_op_wait(ops[0], 50), -EINPROGRESS);
	assert_int_equal(count_fds(), before);
	/* Some go away, in the middle and at the ends. */
	k3sup_op_cancel(ops[0]);
	k3sup_op_cancel(ops[50]);
	ops[WAITERS - 1] = k3sup_op_unref(ops[WAITERS - 1]);
	assert_status(ops[0], K3SUP_E_CANCELLED);
	assert_status(ops[50], K3SUP_E_CANCELLED);
	assert_int_equal(k3sup_op_status(ops[1]), -EINPROGRESS);
	fake_stop(pid);
	for (size_t i = 0; i < WAITERS; i++)
		if (i != 0 && i != 50 && i != WAITERS - 1)
			assert_status(ops[i], 1);
	for (size_t i = 0; i < WAITERS; i++)
		k3sup_op_unref(ops[i]);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

static void time_can_be_over_before(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	k3sup_op *shorter = begin_wait(node, process, 80), *longer = begin_wait(node, process, 200), *ever = begin_wait(node, process, -1);
	int64_t began = k3sup__now_ms();

	assert_status(longer, K3SUP_E_TIMEOUT);
	assert_in_range(k3sup__now_ms() - began, 190, 5000);
	assert_int_equal(k3sup_op_status(shorter), K3SUP_E_TIMEOUT);
	assert_says(shorter, "has not ended in time");
	assert_int_equal(k3sup_op_status(ever), -EINPROGRESS);
	fake_stop(pid);
	assert_status(ever, 1);
	k3sup_op_unref(shorter);
	k3sup_op_unref(longer);
	k3sup_op_unref(ever);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

/* A host that is late to its loop hears what happened, not that it was late. */
static void an_end_in_time_counts_though_nobody_looked_in_time(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	k3sup_op *op = begin_wait(node, process, 60);

	assert_int_equal(k3sup_op_wait(op, 10), -EINPROGRESS);
	fake_stop(pid);
	pause_ms(80);
	assert_status(op, 1);
	k3sup_op_unref(op);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

static void the_handle_may_be_given_back_while_it_waits(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	k3sup_op *op = begin_wait(node, process, 0);

	k3sup_process_unref(process);
	k3sup_node_unref(node);
	assert_int_equal(k3sup_op_wait(op, 30), -EINPROGRESS);
	fake_stop(pid);
	assert_status(op, 1);
	k3sup_op_unref(op);
}

static void bad_options_are_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	struct k3sup_wait_exit_opts opts = {.struct_size = sizeof(opts)};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_wait_exit(node, &opts, &op), -EINVAL);
	opts.process = process;
	opts.reserved = "x";
	assert_int_equal(k3sup_wait_exit(node, &opts, &op), -EINVAL);
	opts.reserved = NULL;
	assert_int_equal(k3sup_wait_exit(NULL, &opts, &op), -EINVAL);
	assert_int_equal(k3sup_wait_exit(node, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_wait_exit(node, &opts, NULL), -EINVAL);
	assert_null(op);
	fake_stop(pid);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_end_is_seen_when_it_comes_and_when_it_is_over),
		scratch_test(many_can_wait_for_one_and_cost_one_descriptor),
		scratch_test(time_can_be_over_before),
		scratch_test(an_end_in_time_counts_though_nobody_looked_in_time),
		scratch_test(the_handle_may_be_given_back_while_it_waits),
		scratch_test(bad_options_are_refused),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
