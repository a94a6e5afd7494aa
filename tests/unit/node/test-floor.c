/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/floor.h"

#define FLOOR "var/lib/k3sup/floor"

static k3sup_node *open_node(struct scratch *s)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	return node;
}

static void assert_floor(struct scratch *s, k3sup_node *node, const char *expected)
{
	_free_ char *floor = NULL;

	assert_int_equal(k3sup__floor_read(s->op, node, &floor), 0);
	if (expected)
		assert_string_equal(floor, expected);
	else
		assert_null(floor);
}

static void it_only_rises_unless_it_is_lowered(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s);

	assert_floor(s, node, NULL);
	assert_int_equal(count_entries(s->fd), 0); /* asking makes nothing */
	assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.4+k3s1", false), 1);
	assert_content(s->fd, FLOOR, "v1.30.4+k3s1\n");
	assert_int_equal(stat_at(s->fd, FLOOR).st_mode & 07777, 0600);
	assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.4+k3s1", false), 0);
	assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.4+k3s2", false), 1);
	assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.4-rc1+k3s9", false), 0);
	assert_int_equal(k3sup__floor_record(s->op, node, "", false), 0);
	assert_floor(s, node, "v1.30.4+k3s2");
	assert_int_equal(k3sup__floor_record(s->op, node, "v1.29.9+k3s1", true), 1);
	assert_int_equal(k3sup__floor_record(s->op, node, "v1.29.9+k3s1", true), 0);
	assert_floor(s, node, "v1.29.9+k3s1");
	k3sup_node_unref(node);
}

static void what_is_no_version_is_no_floor(void **state)
{
	static const char *const bad[] = {"", "\n", "v1.30.4+k3s1", "latest\n", "v1.30.4+k3s1\nv1.30.5+k3s1\n"};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s);
	_free_ char *floor = NULL;

	assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.4+k3s1", false), 1);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		put_file(s->fd, FLOOR, bad[i], 0600);
		assert_int_equal(k3sup__floor_read(s->op, node, &floor), K3SUP_E_STATE_DIR);
		assert_null(floor);
		assert_sentence(s, "floor");
		assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.9+k3s1", false), K3SUP_E_STATE_DIR);
		k3sup__op_forgive(s->op);
	}
	assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.3+k3s1", true), 1);
	assert_floor(s, node, "v1.30.3+k3s1");
	k3sup_node_unref(node);
}

static void somebody_elses_file_is_no_floor(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s);
	_free_ char *floor = NULL;

	assert_int_equal(k3sup__floor_record(s->op, node, "v1.30.4+k3s1", false), 1);
	assert_int_equal(fchmodat(s->fd, FLOOR, 0666, 0), 0);
	assert_int_equal(k3sup__floor_read(s->op, node, &floor), K3SUP_E_STATE_DIR);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(it_only_rises_unless_it_is_lowered),
		scratch_test(what_is_no_version_is_no_floor),
		scratch_test(somebody_elses_file_is_no_floor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
