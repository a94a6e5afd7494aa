/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include <k3sup/upgrade.h>

#include "base/digest.h"

static k3sup_op *run_state(k3sup_node *node, const char *payload, int expected)
{
	struct k3sup_state_opts opts = {.struct_size = sizeof(opts), .payload = payload};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_state(node, &opts, &op), 0);
	assert_status(op, expected);
	return op;
}

static void it_says_what_is_there_and_changes_nothing(void **state)
{
	struct scratch *s = *state;
	_free_ char *payload = below(s, PAYLOAD);
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_state(node, NULL, &op), 0);
	assert_status(op, 0);
	assert_string_equal(result_text(op, "/state"), "absent");
	assert_true(strlen(result_text(op, "/next")) > 10);
	k3sup_op_unref(op);
	assert_int_equal(count_entries(s->fd), 0);

	put_node(s);
	unit_start(s, &u);
	op = run_state(node, payload, 0);
	assert_string_equal(result_text(op, "/state"), "outdated");
	assert_string_equal(result_text(op, "/installed/version"), V1);
	assert_string_equal(result_text(op, "/running/version"), V1);
	assert_string_equal(result_text(op, "/wanted/version"), V2);
	assert_string_equal(result_text(op, "/node/root"), s->path);
	assert_true(has_flag(op, "outdated"));
	assert_int_equal(result_number(op, "/changed"), 0);
	k3sup_op_unref(op);
	op = run_state(node, NULL, 0);
	assert_string_equal(result_text(op, "/state"), "current");
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/wanted"), -ENOENT);
	k3sup_op_unref(op);
	assert_int_equal(count_beside(s, INSTALLED), 1);
	assert_true(stat_below(s, "/var/lib/k3sup").st_nlink == 0);
	unit_stop(&u);
	k3sup_node_unref(node);
}

/* "outdated" because of a torn payload would send people to install it. */
static void a_payload_is_verified_before_the_node_is_compared_with_it(void **state)
{
	struct scratch *s = *state;
	_free_ char *payload = below(s, PAYLOAD), *text = NULL;
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	struct k3sup_state_opts opts = {.struct_size = sizeof(opts), .payload = payload};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	char sha256[K3SUP__SHA256_HEX];
	k3sup_op *op = NULL;
	size_t len;

	put_node(s);
	assert_int_equal(k3sup__read_file(AT_FDCWD, payload, 64 << 20, &text, &len), 0);
	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_update(digest, text, len), 0);
	assert_int_equal(k3sup__digest_finish(digest, sha256), 0);
	op = run_state(node, payload, 0);
	assert_string_equal(result_text(op, "/authenticated"), "none");
	k3sup_op_unref(op);
	assert_int_equal(chmod(payload, 0777), 0);
	k3sup_op_unref(run_state(node, payload, K3SUP_E_UNTRUSTED));
	opts.sha256 = sha256;
	opts.expect_version = V2;
	assert_int_equal(k3sup_state(node, &opts, &op), 0);
	assert_status(op, 0);
	assert_string_equal(result_text(op, "/authenticated"), "digest");
	assert_true(has_flag(op, "outdated"));
	k3sup_op_unref(op);
	append_to(s, PAYLOAD, "x");
	assert_int_equal(chmod(payload, 0755), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(k3sup_state(node, &opts, &op), 0);
		assert_status(op, K3SUP_E_DIGEST_MISMATCH);
		assert_string_equal(result_text(op, "/authenticated"), "none");
		k3sup_op_unref(op);
		put_wrapper(s, INSTALLED, 2); /* the second time it is what is installed */
		append_to(s, INSTALLED, "x");
	}
	opts.sha256 = NULL;
	opts.expect_version = V1;
	assert_int_equal(k3sup_state(node, &opts, &op), 0);
	assert_status(op, K3SUP_E_VERSION_MISMATCH);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void a_k3s_that_unpacks_is_starting(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = {.root = s->path, .file = INSTALLED, .title = INSTALLED, .args = {"server"}};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	pid = fake_start(&spec);
	op = run_state(node, NULL, 0);
	assert_string_equal(result_text(op, "/state"), "starting");
	k3sup_op_unref(op);
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void a_payload_that_is_none_is_an_error(void **state)
{
	struct scratch *s = *state;
	_free_ char *script = below(s, "/script");
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_wrapper(s, INSTALLED, 1);
	k3sup_op_unref(run_state(node, "/nowhere/k3s", K3SUP_E_PAYLOAD_MISSING));
	put_file(s->fd, "script", "#!/bin/sh\n", 0755);
	op = run_state(node, script, K3SUP_E_PAYLOAD_NOT_K3S);
	assert_string_equal(result_text(op, "/wanted/path"), script);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void an_untrusted_file_is_an_error_and_says_which(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_wrapper(s, INSTALLED, 1);
	assert_int_equal(fchmodat(s->fd, "usr/local", 0777, 0), 0);
	op = run_state(node, NULL, K3SUP_E_UNTRUSTED);
	assert_says(op, "/usr/local");
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void bad_options_are_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup_state_opts opts = {.struct_size = sizeof(opts), .payload = ""};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_state(node, &opts, &op), -EINVAL);
	opts.payload = NULL;
	opts.reserved = "x";
	assert_int_equal(k3sup_state(node, &opts, &op), -EINVAL);
	assert_int_equal(k3sup_state(NULL, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_state(node, NULL, NULL), -EINVAL);
	assert_null(op);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(it_says_what_is_there_and_changes_nothing),
		scratch_test(a_payload_is_verified_before_the_node_is_compared_with_it),
		scratch_test(a_k3s_that_unpacks_is_starting),
		scratch_test(a_payload_that_is_none_is_an_error),
		scratch_test(an_untrusted_file_is_an_error_and_says_which),
		scratch_test(bad_options_are_refused),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
