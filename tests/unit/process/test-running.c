/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "process/running.h"

struct given {
	int64_t timeout_ms, stable_ms;
	k3sup_process *previous;
	const char *asset_hash;
};

static k3sup_op *begin_wait(k3sup_node *node, const struct given *g)
{
	struct k3sup_wait_running_opts opts = {
		.struct_size = sizeof(opts),
		.timeout_ms = g->timeout_ms ? g->timeout_ms : LONG,
		.stable_ms = g->stable_ms ? g->stable_ms : -1,
		.previous = g->previous,
		.asset_hash = g->asset_hash,
		.probe = K3SUP_PROBE_NONE, /* fakes answer nobody; see test-probe.c */
	};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_wait_running(node, &opts, &op), 0);
	return op;
}

static k3sup_op *run_wait(k3sup_node *node, const struct given *g, int expected)
{
	k3sup_op *op = begin_wait(node, g);

	assert_status(op, expected);
	return op;
}

static void put_both(const struct scratch *s)
{
	fake_install_data(s->path, BIN1);
	fake_install_data(s->path, BIN2);
}

static pid_t start(const struct scratch *s, const char *bin, const char *role)
{
	_free_ char *file = k3sup__fmt("%s/k3s-%s", bin, role), *title = k3sup__fmt("k3s %s", role);
	struct fake_spec spec = {.root = s->path, .file = file, .title = title};

	return fake_start(&spec);
}

static void one_that_runs_is_already_so(void **state)
{
	struct scratch *s = *state;
	struct given g = {.asset_hash = HASH1};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_process *process = NULL;
	k3sup_op *op;
	pid_t pid;

	put_both(s);
	pid = start(s, BIN1, "server");
	op = run_wait(node, &g, 0);
	assert_int_equal(result_number(op, "/running/0/pid"), pid);
	assert_int_equal(result_number(op, "/starts"), 1);
	assert_int_equal(k3sup_op_process(op, 0, &process), 0);
	assert_int_equal(k3sup__process_pid(process), pid);
	assert_int_equal(k3sup_op_process(op, 1, &process), -ENOENT);
	k3sup_process_unref(process);
	k3sup_op_unref(op);
	g.asset_hash = NULL;
	op = run_wait(node, &g, 0);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void one_that_comes_is_waited_for(void **state)
{
	struct scratch *s = *state;
	struct given g = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_both(s);
	op = begin_wait(node, &g);
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	pid = start(s, BIN2, "agent");
	assert_status(op, 1);
	assert_int_equal(result_number(op, "/running/0/pid"), pid);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void none_that_comes_is_not_restarted(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 250};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	int64_t began = k3sup__now_ms();
	k3sup_op *op = run_wait(node, &g, K3SUP_E_NOT_RESTARTED);

	assert_in_range(k3sup__now_ms() - began, 250, 5000);
	assert_int_equal(number_of(k3sup_op_error(op), "/evidence/starts"), 0);
	assert_int_equal(k3sup_doc_len(k3sup_op_error(op), "/evidence/running"), 0);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void the_previous_one_does_not_count(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 250};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_both(s);
	pid = start(s, BIN1, "server");
	g.previous = running_process(node);
	op = run_wait(node, &g, K3SUP_E_NOT_RESTARTED);
	k3sup_op_unref(op);
	g.timeout_ms = 0;
	op = begin_wait(node, &g);
	k3sup_process_unref(g.previous); /* the operation has its own reference */
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	fake_stop(pid);
	pid = start(s, BIN1, "server");
	assert_status(op, 1);
	assert_int_equal(result_number(op, "/running/0/pid"), pid);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void another_build_is_the_wrong_one(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 250, .asset_hash = HASH2};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_both(s);
	pid = start(s, BIN1, "server");
	op = run_wait(node, &g, K3SUP_E_WRONG_BUILD);
	assert_says(op, "45b74a776cab");
	assert_string_equal(text_of(k3sup_op_error(op), "/evidence/running/0/asset_hash"), HASH1);
	k3sup_op_unref(op);
	/* It may be replaced by the right one yet. */
	g.timeout_ms = 0;
	op = begin_wait(node, &g);
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	fake_stop(pid);
	pid = start(s, BIN2, "server");
	assert_status(op, 1);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

/* The age counts from the process's own start, not from when it was first looked at. */
static void its_own_age_counts(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 400};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	int64_t began = k3sup__now_ms();
	k3sup_op *op;
	pid_t pid;

	put_both(s);
	pid = start(s, BIN1, "server");
	op = run_wait(node, &g, 1);
	assert_true(k3sup__now_ms() - began >= 390);
	k3sup_op_unref(op);
	began = k3sup__now_ms();
	op = run_wait(node, &g, 0);
	assert_true(k3sup__now_ms() - began < 350);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void young_is_out_of_time_and_not_unstable(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 300, .stable_ms = 10000};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_both(s);
	pid = start(s, BIN1, "server");
	op = run_wait(node, &g, K3SUP_E_TIMEOUT);
	assert_says(op, "had not yet stayed");
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void one_that_comes_and_ends_is_not_stable(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 900, .stable_ms = 10000};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_both(s);
	op = begin_wait(node, &g);
	for (int i = 0; i < 2; i++) {
		pid_t pid = start(s, BIN1, "server");

		assert_int_equal(k3sup_op_wait(op, 200), -EINPROGRESS);
		fake_stop(pid);
		assert_int_equal(k3sup_op_wait(op, 50), -EINPROGRESS);
	}
	assert_status(op, K3SUP_E_NOT_STABLE);
	assert_int_equal(number_of(k3sup_op_error(op), "/evidence/starts"), 2);
	assert_says(op, "came up 2 times and ended 2 times");
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void one_that_stays_at_last_is_enough(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 300};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_both(s);
	op = begin_wait(node, &g);
	pid = start(s, BIN1, "server");
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	fake_stop(pid);
	pid = start(s, BIN1, "server");
	assert_status(op, 1);
	assert_int_equal(result_number(op, "/starts"), 2);
	assert_int_equal(result_number(op, "/running/0/pid"), pid);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

/* The wrapper is the same process as what it becomes, but has neither its build nor its age. */
static void what_still_unpacks_does_not_count(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 400, .stable_ms = -1}, stay = {.stable_ms = 600};
	struct fake_spec spec = {.root = s->path, .file = INSTALLED, .title = INSTALLED, .args = {"server"}, .then = BIN1 "/k3s-server"};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	int64_t unpacked;
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	pid = fake_start(&spec);
	op = run_wait(node, &g, K3SUP_E_NOT_RESTARTED);
	assert_says(op, "not all of k3s");
	k3sup_op_unref(op);
	op = begin_wait(node, &stay);
	assert_int_equal(k3sup_op_wait(op, 300), -EINPROGRESS);
	unpacked = k3sup__now_ms();
	assert_int_equal(kill(pid, SIGUSR1), 0);
	assert_status(op, 1);
	assert_true(k3sup__now_ms() - unpacked >= 590);
	assert_int_equal(result_number(op, "/running/0/pid"), pid);
	assert_string_equal(result_text(op, "/running/0/asset_hash"), HASH1);
	assert_int_equal(result_number(op, "/starts"), 1);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void two_servers_are_ambiguous(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 250};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t a, b;

	put_both(s);
	a = start(s, BIN1, "server");
	b = start(s, BIN1, "server");
	op = run_wait(node, &g, K3SUP_E_AMBIGUOUS);
	assert_int_equal(k3sup_doc_len(k3sup_op_error(op), "/evidence/candidates"), 2);
	k3sup_op_unref(op);
	fake_stop(a);
	fake_stop(b);
	k3sup_node_unref(node);
}

static void it_can_be_cancelled(void **state)
{
	struct scratch *s = *state;
	struct given g = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = begin_wait(node, &g);

	assert_int_equal(k3sup_op_wait(op, 120), -EINPROGRESS);
	k3sup_op_cancel(op);
	assert_status(op, K3SUP_E_CANCELLED);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void bad_options_are_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup_wait_running_opts opts = {.struct_size = sizeof(opts), .asset_hash = "abc"};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_wait_running(node, &opts, &op), -EINVAL);
	opts.asset_hash = "91C5255CD9E1A0963458722D37DEC9477C99A25602C838B553F2CB852BDE4DDE";
	assert_int_equal(k3sup_wait_running(node, &opts, &op), -EINVAL);
	opts.asset_hash = HASH1 "0";
	assert_int_equal(k3sup_wait_running(node, &opts, &op), -EINVAL);
	assert_int_equal(k3sup_wait_running(NULL, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_wait_running(node, NULL, NULL), -EINVAL);
	assert_null(op);
	assert_int_equal(k3sup_wait_running(node, NULL, &op), 0);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

/* ---- as the upgrade asks ---- */

static void of_a_pair_both_must_come_and_stay(void **state)
{
	struct scratch *s = *state;
	struct k3sup__want want = {.asset_hash = HASH2, .count = 2, .stable_ms = 400, .probe = K3SUP_PROBE_NONE};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t server, agent;
	k3sup_op *op = NULL;

	put_both(s);
	want.come_by = want.give_up = k3sup__deadline(500);
	server = start(s, BIN2, "server");
	assert_int_equal(k3sup__running_op(node, &want, &op), 0);
	assert_status(op, K3SUP_E_NOT_RESTARTED);
	assert_says(op, "not all of k3s");
	k3sup_op_unref(op);

	want.come_by = want.give_up = k3sup__deadline(LONG);
	assert_int_equal(k3sup__running_op(node, &want, &op), 0);
	agent = start(s, BIN2, "agent");
	assert_int_equal(k3sup_op_wait(op, 200), -EINPROGRESS);
	fake_stop(server); /* the older one */
	server = start(s, BIN2, "server");
	assert_status(op, 1);
	assert_int_equal(result_number(op, "/starts"), 3);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/running"), 2);
	k3sup_op_unref(op);

	/* The older one ends for good. */
	want.give_up = k3sup__deadline(700);
	want.stable_ms = 10000;
	assert_int_equal(k3sup__running_op(node, &want, &op), 0);
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	fake_stop(agent);
	assert_status(op, K3SUP_E_NOT_STABLE);
	k3sup_op_unref(op);
	fake_stop(server);
	k3sup_node_unref(node);
}

/* A supervisor's pause is over soon, the proof may take longer. */
static void what_has_come_in_time_may_take_its_time_to_stay(void **state)
{
	struct scratch *s = *state;
	struct k3sup__want want = {.asset_hash = HASH2, .count = 1, .stable_ms = 500, .probe = K3SUP_PROBE_NONE};
	struct fake_spec wrapper = {.root = s->path, .file = INSTALLED, .title = INSTALLED, .args = {"server"}, .then = BIN2 "/k3s-server"};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	int64_t began = k3sup__now_ms();
	k3sup_op *op = NULL;
	pid_t pid;

	put_both(s);
	want.come_by = k3sup__deadline(300);
	want.give_up = k3sup__deadline(LONG);
	assert_int_equal(k3sup__running_op(node, &want, &op), 0);
	assert_status(op, K3SUP_E_NOT_RESTARTED);
	assert_in_range(k3sup__now_ms() - began, 300, 5000);
	k3sup_op_unref(op);
	want.come_by = k3sup__deadline(300);
	assert_int_equal(k3sup__running_op(node, &want, &op), 0);
	pid = start(s, BIN2, "server");
	assert_status(op, 1);
	k3sup_op_unref(op);
	fake_stop(pid);
	/* One that unpacks has come. */
	put_wrapper(s, INSTALLED, 2);
	pid = fake_start(&wrapper);
	want.come_by = k3sup__deadline(100);
	want.stable_ms = 0;
	assert_int_equal(k3sup__running_op(node, &want, &op), 0);
	assert_int_equal(k3sup_op_wait(op, 300), -EINPROGRESS);
	assert_int_equal(kill(pid, SIGUSR1), 0);
	assert_status(op, 1);
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void what_matches_is_the_archive_or_the_file_itself(void **state)
{
	struct k3sup__want any = {.count = 1}, hash = {.asset_hash = HASH1, .by_file = true, .file_dev = 1, .file_ino = 2},
			   file = {.by_file = true, .file_dev = 1, .file_ino = 2};
	struct k3sup__candidate inner = {.asset_hash = HASH1, .exe_dev = 1, .exe_ino = 9}, other = {.asset_hash = HASH2},
				image = {.image = true, .exe_dev = 1, .exe_ino = 2}, former = {.image = true, .exe_dev = 1, .exe_ino = 3},
				unpacking = {.unpacking = true, .exe_dev = 1, .exe_ino = 2};

	(void)state;
	assert_true(k3sup__want_matches(&any, &inner) && k3sup__want_matches(&any, &image));
	assert_false(k3sup__want_matches(&any, &unpacking));
	assert_true(k3sup__want_matches(&hash, &inner));
	assert_false(k3sup__want_matches(&hash, &other) || k3sup__want_matches(&hash, &image) || k3sup__want_matches(&hash, &unpacking));
	assert_true(k3sup__want_matches(&file, &image));
	assert_false(k3sup__want_matches(&file, &former) || k3sup__want_matches(&file, &inner) || k3sup__want_matches(&file, &unpacking));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(one_that_runs_is_already_so),
		scratch_test(one_that_comes_is_waited_for),
		scratch_test(none_that_comes_is_not_restarted),
		scratch_test(the_previous_one_does_not_count),
		scratch_test(another_build_is_the_wrong_one),
		scratch_test(its_own_age_counts),
		scratch_test(young_is_out_of_time_and_not_unstable),
		scratch_test(one_that_comes_and_ends_is_not_stable),
		scratch_test(one_that_stays_at_last_is_enough),
		scratch_test(what_still_unpacks_does_not_count),
		scratch_test(two_servers_are_ambiguous),
		scratch_test(it_can_be_cancelled),
		scratch_test(bad_options_are_refused),
		scratch_test(of_a_pair_both_must_come_and_stay),
		scratch_test(what_has_come_in_time_may_take_its_time_to_stay),
		cmocka_unit_test(what_matches_is_the_archive_or_the_file_itself),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, rooms_build, fake_remove);
}
