/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

static void links_are_followed_inside_the_root(void **state)
{
	struct tree *t = *state;
	_free_ char *tls = k3sup__fmt("%s/server/tls", t->s->path), *moved = k3sup__fmt("%s/srv", t->s->path);
	_free_ char *crt = k3sup__fmt("%s/srv/client-admin.crt", t->s->path), *outside = k3sup__fmt("%s/elsewhere.crt", t->s->path);

	/* An absolute link means the node's directory, and a file may be one, too. */
	assert_int_equal(rename(tls, moved), 0);
	assert_int_equal(symlink("/srv", tls), 0);
	assert_int_equal(rename(crt, outside), 0);
	assert_int_equal(symlink("/elsewhere.crt", crt), 0);
	assert_problems(t, "");
}

static void what_is_no_file_is_said_and_not_waited_for(void **state)
{
	struct tree *t = *state;
	_free_ char *fifo = k3sup__fmt("%s/server/tls/client-admin.crt", t->s->path),
		    *dir = k3sup__fmt("%s/agent/client-kubelet.key", t->s->path);

	remove_file(t, "server/tls/client-admin.crt");
	assert_int_equal(mkfifo(fifo, 0644), 0);
	remove_file(t, "agent/client-kubelet.key");
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_problems(t, "server/tls/client-admin.crt unreadable act, agent/client-kubelet.key unreadable act");
}

static void a_huge_file_is_not_read(void **state)
{
	struct tree *t = *state;
	_free_ char *path = k3sup__fmt("%s/server/tls/client-admin.crt", t->s->path);

	assert_int_equal(truncate(path, (off_t)1 << 32), 0);
	assert_problems(t, "server/tls/client-admin.crt unreadable act");
}

static void strangers_are_reported_and_nothing_else(void **state)
{
	struct tree *t = *state;

	put_text(t, "server/tls/mine.crt", 0644, "whatever");
	put_text(t, "agent/old-client-kubelet.key", 0600, "");
	put_text(t, "agent/readme.txt", 0644, ""); /* an agent's directory is not for certificates alone */
	put_text(t, "server/tls/etcd/readme.txt", 0644, "");
	put_text(t, "server/tls/etcd/.leaf.k3sup-tmp-12345678", 0600, ""); /* ours, of a run that was cut */
	put_text(t, "server/tls/temporary-certs/apiserver-loopback-client__.crt", 0644, "");
	assert_problems(t, "server/tls/temporary-certs/apiserver-loopback-client__.crt empty note");
	look(t);
	assert_int_equal(k3sup__json_len(t->audit.unknown), 3);
	assert_string_equal(k3sup__json_as_str(k3sup__json_element(t->audit.unknown, 0)), "server/tls/mine.crt");
	assert_string_equal(k3sup__json_as_str(k3sup__json_element(t->audit.unknown, 1)), "server/tls/etcd/readme.txt");
	assert_string_equal(k3sup__json_as_str(k3sup__json_element(t->audit.unknown, 2)), "agent/old-client-kubelet.key");
	unlook(t);
}

static void an_empty_data_dir_has_no_authorities(void **state)
{
	struct tree *t = *state;
	_free_ char *command = k3sup__fmt("rm -r %s/server %s/agent", t->s->path, t->s->path);
	_free_ char *found = NULL;

	assert_int_equal(system(command), 0); /* NOLINT: the scratch directory's path is ours */
	found = problems(t);
	assert_non_null(strstr(found, "server/tls/client-ca.crt missing act, server/tls/client-ca.key missing act"));
	assert_non_null(strstr(found, "server/tls/client-admin.crt missing start"));
	assert_null(strstr(found, "client-kube-proxy"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(links_are_followed_inside_the_root),
		tree_test(what_is_no_file_is_said_and_not_waited_for),
		tree_test(a_huge_file_is_not_read),
		tree_test(strangers_are_reported_and_nothing_else),
		tree_test(an_empty_data_dir_has_no_authorities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
