/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's commands within an upgrade: what they see, what their answers do, who owns their text.
 */
#include "../rooms.h"

#include "upgrade/hooks.h"

static k3sup_op *run_upgrade(struct scratch *s, const char *before_write, const char *before_stop, int64_t timeout_ms, int expected)
{
	_free_ char *payload = below(s, PAYLOAD), *write = before_write ? strdup(before_write) : NULL,
		    *stop = before_stop ? strdup(before_stop) : NULL;
	struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts),
		.payload = payload,
		.timeout_ms = timeout_ms,
		.restart = K3SUP_RESTART_NONE,
		.before_write = write,
		.before_stop = stop,
	};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_upgrade(node, &opts, &op), 0);
	/* The text is the caller's, and gone by the time it is run. */
	if (write)
		memset(write, 'x', strlen(write));
	if (stop)
		memset(stop, 'x', strlen(stop));
	assert_status(op, expected);
	k3sup_node_unref(node);
	return op;
}

static void they_are_run_in_order_and_reported(void **state)
{
	struct scratch *s = *state;
	_free_ char *list = k3sup__fmt("ls -A %s/usr/local/bin", s->path);
	k3sup_op *op;

	put_node(s);
	op = run_upgrade(s, list, list, -1, 1);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/hooks"), 2);
	assert_string_equal(result_text(op, "/hooks/0/name"), "before-write");
	assert_string_equal(result_text(op, "/hooks/0/output"), "k3s\n");
	assert_string_equal(result_text(op, "/hooks/1/name"), "before-stop");
	assert_non_null(strstr(result_text(op, "/hooks/1/output"), ".k3s.k3sup-tmp-"));
	assert_int_equal(result_number(op, "/hooks/1/exit_code"), 0);
	assert_true(result_number(op, "/hooks/1/took_ms") >= 0);
	assert_true(is_content(s, INSTALLED, 2));
	k3sup_op_unref(op);
	op = run_upgrade(s, "exit 1", "exit 1", 0, 0); /* already so: nobody is asked */
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/hooks"), -ENOENT);
	k3sup_op_unref(op);
}

static void assert_refused(struct scratch *s, k3sup_op *op, const char *says)
{
	assert_says(op, says);
	assert_int_equal(result_number(op, "/changed"), 0);
	assert_int_equal(number_of(k3sup_op_error(op), "/evidence/hook/ok"), 0);
	assert_true(is_content(s, INSTALLED, 1));
	assert_int_equal(count_beside(s, INSTALLED), 1);
	k3sup_op_unref(op);
}

static void whatever_is_no_zero_is_a_refusal(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_node(s);
	op = run_upgrade(s, "exit 3", "exit 0", 0, K3SUP_E_HOOK);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/hooks"), 1);
	assert_int_equal(result_number(op, "/hooks/0/exit_code"), 3);
	assert_refused(s, op, "--before-write ended with status 3");
	op = run_upgrade(s, NULL, "kill -9 $$", 0, K3SUP_E_HOOK);
	assert_int_equal(result_number(op, "/hooks/0/signal"), SIGKILL);
	assert_refused(s, op, "--before-stop was ended by signal 9");
	op = run_upgrade(s, NULL, "/nowhere/at/all", 0, K3SUP_E_HOOK);
	assert_refused(s, op, "ended with status 127");
}

static void output_is_bounded_and_made_text(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_node(s);
	op = run_upgrade(s, "head -c 100000 /dev/zero | tr '\\000' x; exit 1", NULL, 0, K3SUP_E_HOOK);
	assert_int_equal(strlen(result_text(op, "/hooks/0/output")), 4096);
	k3sup_op_unref(op);
	op = run_upgrade(s, "printf '\\377'; exit 1", NULL, 0, K3SUP_E_HOOK);
	assert_string_equal(result_text(op, "/hooks/0/output"), "\\xff");
	k3sup_op_unref(op);
}

static void time_that_is_over_is_no_refusal_of_theirs(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_node(s);
	op = run_upgrade(s, NULL, "sleep 100", 1500, K3SUP_E_TIMEOUT);
	assert_true(is_content(s, INSTALLED, 1));
	assert_int_equal(count_beside(s, INSTALLED), 1);
	k3sup_op_unref(op);
}

static void an_empty_command_is_refused(void **state)
{
	struct scratch *s = *state;
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts), .payload = "/k3s", .before_write = ""};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts.before_write = "true";
	opts.before_stop = "";
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(they_are_run_in_order_and_reported),
		scratch_test(whatever_is_no_zero_is_a_refusal),
		scratch_test(output_is_bounded_and_made_text),
		scratch_test(time_that_is_over_is_no_refusal_of_theirs),
		scratch_test(an_empty_command_is_refused),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, rooms_build, fake_remove);
}
