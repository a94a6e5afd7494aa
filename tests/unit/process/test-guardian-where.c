/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "base/strv.h"
#include "process/guardian.h"

/* A /proc of files: what is asked of it is what process 1 and we say about ourselves. */
static k3sup_node look_at(const struct scratch *s)
{
	static const char *const dirs[] = {"1", "1/ns", "self", "self/ns", "self/attr"};

	for (size_t i = 0; i < ELEMENTSOF(dirs); i++)
		assert_true(mkdirat(s->fd, dirs[i], 0755) == 0 || errno == EEXIST);
	return (k3sup_node){.proc_fd = s->fd};
}

static void put_namespaces(const struct scratch *s, const char *kind, bool same)
{
	_free_ char *first = k3sup__fmt("1/ns/%s", kind), *own = k3sup__fmt("self/ns/%s", kind);

	(void)unlinkat(s->fd, own, 0);
	put_file(s->fd, first, "", 0644);
	if (same)
		assert_int_equal(linkat(s->fd, first, s->fd, own, 0), 0);
	else
		put_file(s->fd, own, "", 0644);
}

#define LINE(root, at, kind) "30 24 0:26 " root " " at " rw,nosuid - " kind " none rw\n"

static void the_top_of_each_hierarchy(void **state)
{
	struct scratch *s = *state;
	const k3sup_node node = look_at(s);
	struct k3sup__strv groups = {0};

	assert_int_equal(k3sup__guardian_groups(&node, &groups), -ENOENT);
	put_file(s->fd, "1/mountinfo",
		LINE("/", "/", "ext4") LINE("/", "/sys/fs/cgroup", "cgroup2") LINE("/..", "/a", "cgroup") LINE("/../..", "/b", "cgroup")
			LINE("/kubepods", "/c", "cgroup2") LINE("/../x", "/d", "cgroup") LINE("/", "/e\\040f", "cgroup")
				LINE("/", "/g", "cgroupfs"),
		0644);
	assert_int_equal(k3sup__guardian_groups(&node, &groups), 0);
	assert_int_equal(groups.count, 3);
	assert_string_equal(groups.items[0], "/sys/fs/cgroup/cgroup.procs");
	assert_string_equal(groups.items[1], "/a/cgroup.procs");
	assert_string_equal(groups.items[2], "/b/cgroup.procs");
	k3sup__strv_clear(&groups);
}

#define STATUS(bounding, seccomp, nnp) "Name:\tx\nCapBnd:\t" bounding "\nNoNewPrivs:\t" nnp "\nSeccomp:\t" seccomp "\n"

static void what_is_inherited(void **state)
{
	static const struct {
		const char *ours, *of_1, *profile;
		bool same_users;
		const char *says; /* NULL: it is not confined */
	} cases[] = {
		{STATUS("1ff", "0", "0"), STATUS("1ff", "0", "0"), NULL, true, NULL},
		{STATUS("1ff", "0", "0"), STATUS("1ff", "0", "0"), "unconfined\n", true, NULL},
		{STATUS("1ff", "0", "0"), STATUS("1ff", "0", "0"), "docker-default (complain)\n", true, NULL},
		{STATUS("1ff", "0", "0"), STATUS("1ff", "0", "0"), "docker-default (enforce)\n", true, "AppArmor"},
		{STATUS("1ff", "0", "0"), STATUS("1ff", "0", "0"), NULL, false, "user namespace"},
		{STATUS("0ff", "0", "0"), STATUS("1ff", "0", "0"), NULL, true, "capabilities"},
		{STATUS("1ff", "0", "0"), STATUS("0ff", "0", "0"), NULL, true, NULL}, /* of process 1 in a machine that is a container */
		{STATUS("1ff", "2", "0"), STATUS("1ff", "0", "0"), NULL, true, "seccomp"},
		{STATUS("1ff", "2", "0"), STATUS("1ff", "2", "0"), NULL, true, NULL},
		{STATUS("1ff", "0", "1"), STATUS("1ff", "0", "0"), NULL, true, "no_new_privs"},
		{"Name:\tx\n", "Name:\tx\n", NULL, true, NULL}, /* a kernel that says nothing of them */
	};
	struct scratch *s = *state;
	const k3sup_node node = look_at(s);

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		put_file(s->fd, "self/status", cases[i].ours, 0644);
		put_file(s->fd, "1/status", cases[i].of_1, 0644);
		put_namespaces(s, "user", cases[i].same_users);
		(void)unlinkat(s->fd, "self/attr/current", 0);
		if (cases[i].profile)
			put_file(s->fd, "self/attr/current", cases[i].profile, 0644);
		assert_int_equal(k3sup__guardian_possible(s->op, &node), cases[i].says ? K3SUP_E_CONFINED : 0);
		if (cases[i].says)
			assert_sentence(s, cases[i].says);
	}
	assert_int_equal(unlinkat(s->fd, "self/ns/user", 0), 0); /* a kernel without user namespaces */
	assert_int_equal(k3sup__guardian_possible(s->op, &node), 0);
	assert_int_equal(unlinkat(s->fd, "1/status", 0), 0);
	assert_int_equal(k3sup__guardian_possible(s->op, &node), -ENOENT);
	assert_sentence(s, "cannot see what this program inherits");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_top_of_each_hierarchy),
		scratch_test(what_is_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
