/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "process/channel.h"

static void elsewhere_it_is_a_chroot(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL), *home = open_node(s->ctx, "/", NULL);
	struct k3sup__channel channel = K3SUP__CHANNEL_NONE;

	assert_true(k3sup__channel_is_home(home) && !k3sup__channel_is_home(node));
	assert_int_equal(k3sup__channel_open(s->op, home, K3SUP__CHANNEL_DIRECT, &channel), 1);
	k3sup__channel_clear(&channel);
	assert_int_equal(k3sup__channel_open(s->op, home, K3SUP__CHANNEL_CHROOT, &channel), 0);
	assert_int_equal(k3sup__channel_open(s->op, node, K3SUP__CHANNEL_DIRECT, &channel), 0);
	assert_int_equal(k3sup__channel_open(s->op, node, K3SUP__CHANNEL_NAMESPACE, &channel), 0); /* process 1 has another root */
	assert_int_equal(k3sup__channel_open(s->op, node, K3SUP__CHANNEL_CHROOT, &channel), 1);
	assert_string_equal(k3sup__channel_name(channel.kind), "chroot");
	k3sup__channel_clear(&channel);
	k3sup_node_unref(node);
	k3sup_node_unref(home);
}

/* Of the host's programs only those that root alone can have put there; links lead within its root. */
static void programs_are_roots(void **state)
{
	static const char *const paths[] = {"/usr/bin/first", "/usr/bin/second", NULL};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__channel channel = K3SUP__CHANNEL_NONE;
	_free_ char *first = below(s, paths[0]);
	const char *found = NULL;

	assert_int_equal(k3sup__channel_open(s->op, node, K3SUP__CHANNEL_CHROOT, &channel), 1);
	assert_int_equal(k3sup__channel_find(s->op, &channel, paths, &found), -ENOENT);
	fake_install(s->path, paths[1], "", NULL);
	assert_int_equal(k3sup__channel_find(s->op, &channel, paths, &found), 0);
	assert_string_equal(found, paths[1]);
	assert_int_equal(symlink("/usr/bin/second", first), 0);
	assert_int_equal(k3sup__channel_find(s->op, &channel, paths, &found), 0);
	assert_string_equal(found, paths[0]);
	assert_int_equal(unlink(first), 0);
	fake_install(s->path, paths[0], "", NULL);
	assert_int_equal(chown(first, 65534, 65534), 0);
	assert_int_equal(k3sup__channel_find(s->op, &channel, paths, &found), K3SUP_E_UNTRUSTED);
	k3sup__op_forgive(s->op);
	assert_int_equal(k3sup__channel_has_dir(s->op, &channel, "/usr/bin"), 1);
	assert_int_equal(k3sup__channel_has_dir(s->op, &channel, "/usr/bin/second"), 0);
	assert_int_equal(k3sup__channel_has_dir(s->op, &channel, "/run/systemd/system"), 0);
	k3sup__channel_clear(&channel);
	k3sup_node_unref(node);
}

/* What runs there sees the node's root as its own. */
static void a_child_is_chrooted(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__channel channel = K3SUP__CHANNEL_NONE;
	struct k3sup__child_result result = {0};
	const char *const argv[] = {"/only-here", NULL};

	fake_install(s->path, "/only-here", "", NULL);
	assert_int_equal(k3sup__channel_open(s->op, node, K3SUP__CHANNEL_CHROOT, &channel), 1);
	/* It goes on until it is killed: the deadline proves that it was executed. */
	assert_int_equal(k3sup__channel_run(s->op, &channel, argv, k3sup__deadline(300), &result), 0);
	assert_true(result.timed_out || result.exit_code == 1); /* the fake ends with 1 if nobody listens */
	k3sup__child_result_clear(&result);
	assert_int_equal(k3sup__channel_run(s->op, &channel, (const char *const[]){"/nowhere", NULL}, k3sup__deadline(LONG), &result), -ENOENT);
	k3sup__channel_clear(&channel);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(elsewhere_it_is_a_chroot),
		scratch_test(programs_are_roots),
		scratch_test(a_child_is_chrooted),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, rooms_build, fake_remove);
}
