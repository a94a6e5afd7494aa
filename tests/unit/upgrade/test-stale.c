/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include <k3sup/upgrade.h>

static k3sup_op *run_state(k3sup_node *node)
{
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_state(node, NULL, &op), 0);
	assert_status(op, 0);
	return op;
}

static void make_link(const struct scratch *s, const char *text, const char *path)
{
	_free_ char *whole = below(s, path);

	assert_int_equal(symlink(text, whole), 0);
}

static void other_copies_are_told_with_the_links_to_them(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, "/opt/bin/k3s");
	_free_ char *script = below(s, "/usr/bin/k3s");
	k3sup_op *op;

	put_wrapper(s, "/opt/bin/k3s", 2);
	op = run_state(node);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/stale"), -ENOENT);
	k3sup_op_unref(op);

	put_wrapper(s, INSTALLED, 1);
	make_link(s, "k3s", "/usr/local/bin/kubectl");
	make_link(s, "/usr/local/bin/k3s", "/opt/bin/crictl");
	make_link(s, "k3s", "/opt/bin/ctr"); /* to the one that counts */
	make_link(s, "usr/bin", "/bin");
	put_wrapper(s, "/usr/bin/other", 1);
	put_file(AT_FDCWD, script, "#!/bin/sh\nexec /opt/bin/k3s \"$@\"\n", 0755);
	op = run_state(node);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/stale"), 1);
	assert_string_equal(result_text(op, "/stale/0/path"), INSTALLED);
	assert_string_equal(result_text(op, "/stale/0/version"), V1);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/stale/0/links"), 2);
	assert_string_equal(result_text(op, "/stale/0/links/0"), "/usr/local/bin/kubectl");
	assert_string_equal(result_text(op, "/stale/0/links/1"), "/opt/bin/crictl");
	k3sup_op_unref(op);
	/* once, though /bin is /usr/bin */
	assert_int_equal(unlink(script), 0);
	put_wrapper(s, "/usr/bin/k3s", 1);
	op = run_state(node);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/stale"), 2);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void a_link_to_the_installed_file_is_none(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_wrapper(s, "/usr/local/bin/k3s-v1.30.4+k3s1", 1);
	make_link(s, "k3s-v1.30.4+k3s1", INSTALLED);
	op = run_state(node);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/stale"), -ENOENT);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(other_copies_are_told_with_the_links_to_them),
		scratch_test(a_link_to_the_installed_file_is_none),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
