/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "process/owner.h"

#define SERVICE "9:name=systemd:/system.slice/k3s.service\n8:pids:/\n0::/system.slice/k3s.service\n"

static void below_the_unit_is_within(void **state)
{
	static const struct {
		const char *text;
		bool within;
	} cases[] = {
		{SERVICE, true},
		{"1:name=systemd:/system.slice/k3s.service/kubepods/pod1\n", true},
		{"0::/system.slice/k3s.service\n", true},
		{"0::/system.slice/k3s.service2\n", false},
		{"0::/system.slice/xk3s.service\n", false},
		{"0::/system.slice\n", false},
		{"0::/\n", false},
		{"0::/kubepods.slice/k3s.service\n", false},
		/* systemd's own hierarchy counts where there is one */
		{"9:name=systemd:/user.slice\n0::/system.slice/k3s.service\n", false},
		{"", false},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		assert_int_equal(k3sup__cgroup_within(cases[i].text, SERVICE, "k3s.service"), cases[i].within);
	assert_false(k3sup__cgroup_within(SERVICE, SERVICE, "s.service"));
	assert_false(k3sup__cgroup_within(SERVICE, "0::/\n", "k3s.service"));
}

static void the_root_is_nobodys_own(void **state)
{
	static const struct {
		const char *a, *b;
		bool common;
		const char *of_1;
	} cases[] = {
		{SERVICE, SERVICE, true, NULL},
		{"0::/kubepods/x\n", "0::/kubepods/x\n", true, NULL},
		{"0::/kubepods/x\n", "0::/kubepods/xy\n", false, NULL},
		{"0::/kubepods/xy\n", "0::/kubepods/x\n", false, NULL},
		{"0::/\n", "0::/\n", false, NULL},
		{"8:pids:/\n1:cpu:/docker/1\n", "1:cpu:/docker/1\n0::/system.slice/k3s.service\n", true, NULL},
		{"8:pids:/docker/1\n", "7:cpu:/docker/1\n", false, NULL},
		{"", "", false, NULL},
		/* in a control group namespace our own is shown as "/", and process 1's as one further up, unless we are in the root like it */
		{"0::/\n", "0::/\n", true, "0::/../..\n"},
		{"0::/\n", "0::/../..\n", false, "0::/../..\n"},
		{"1:cpu:/\n0::/\n", "1:cpu:/\n0::/../..\n", false, "1:cpu:/\n0::/../..\n"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		assert_int_equal(k3sup__cgroup_common(cases[i].a, cases[i].b, cases[i].of_1), cases[i].common);
}

/* rc-cgroup.sh of all ages: a hierarchy of OpenRC's own, and groups in the unified one, by three names. */
static void what_openrc_empties(void **state)
{
	static const struct {
		const char *text;
		bool in;
	} cases[] = {
		{"1:name=openrc:/k3s\n", true},
		{"0::/k3s\n", true},
		{"0::/k3s/shim\n", true},
		{"0::/openrc.k3s\n", true},
		{"0::/rc/k3s\n", true},
		{"0::/../k3s\n", true},
		{"0::/k3s-agent\n", false},
		{"0::/kubepods/k3s\n", false},
		{"3:pids:/k3s\n", false},
		{"0::/\n", false},
		{"", false},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		assert_int_equal(k3sup__cgroup_of_openrc(cases[i].text, "k3s"), cases[i].in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(below_the_unit_is_within),
		cmocka_unit_test(the_root_is_nobodys_own),
		cmocka_unit_test(what_openrc_empties),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
