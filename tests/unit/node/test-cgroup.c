/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/cgroup.h"

static void the_first_group_below_slices_is_the_unit(void **state)
{
	static const struct {
		const char *text;
		enum k3sup__keeper keeper;
		const char *unit;
	} cases[] = {
		{"0::/system.slice/k3s.service\n", K3SUP__KEEPER_SYSTEMD, "k3s.service"},
		{"0::/system.slice/k3s.service", K3SUP__KEEPER_SYSTEMD, "k3s.service"},
		{"0::/k3s.service\n", K3SUP__KEEPER_SYSTEMD, "k3s.service"},
		{"0::/system.slice/system-k3s.slice/k3s@east.service/init/more\n", K3SUP__KEEPER_SYSTEMD, "k3s@east.service"},
		{"0::/../../../../system.slice/k3s.service\n", K3SUP__KEEPER_SYSTEMD, "k3s.service"}, /* from a pod's cgroup namespace */
		{"12:pids:/system.slice/x.service\n1:name=systemd:/system.slice/k3s-agent.service\n0::/system.slice/k3s-agent.service\n",
			K3SUP__KEEPER_SYSTEMD, "k3s-agent.service"},
		{"1:name=systemd:/\n0::/system.slice/k3s.service\n", K3SUP__KEEPER_SYSTEMD, "k3s.service"},
		{"9:name=openrc:/k3s\n3:cpu:/\n", K3SUP__KEEPER_OPENRC, "k3s"},
		{"0::/openrc.k3s-agent\n", K3SUP__KEEPER_OPENRC, "k3s-agent"},
		{"0::/rc/k3s/x\n", K3SUP__KEEPER_OPENRC, "k3s"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/k3s-rootless.service\n", K3SUP__KEEPER_USER, ""},
		{"0::/user.slice/user-0.slice/session-1.scope\n", K3SUP__KEEPER_USER, ""},
		{"0::/\n", K3SUP__KEEPER_NONE, ""},
		{"", K3SUP__KEEPER_NONE, ""},
		{"\n\n::\n0::", K3SUP__KEEPER_NONE, ""},
		{"0::/init.scope\n", K3SUP__KEEPER_NONE, ""},
		{"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope/system.slice/k3s.service\n", K3SUP__KEEPER_NONE, ""},
		{"0::/kubepods/besteffort/pod1/1/system.slice/k3s.service\n", K3SUP__KEEPER_NONE, ""},
		{"0::/docker/1\n1:name=systemd:/docker/1/system.slice/k3s.service\n", K3SUP__KEEPER_NONE, ""},
		{"4:memory:/system.slice/k3s.service\n", K3SUP__KEEPER_NONE, ""},
		{"0::/system.slice/.service\n", K3SUP__KEEPER_NONE, ""},
		{"0::/system.slice/..service\n", K3SUP__KEEPER_NONE, ""},
		{"0::/system.slice/k3 s.service\n", K3SUP__KEEPER_NONE, ""},
		{"0::/rc\n", K3SUP__KEEPER_NONE, ""},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct k3sup__cgroup group;

		k3sup__cgroup_parse(cases[i].text, &group);
		if (group.keeper != cases[i].keeper || !k3sup__streq(group.unit, cases[i].unit))
			fail_msg("\"%s\": %d, \"%s\"", cases[i].text, (int)group.keeper, group.unit);
	}
}

static void a_name_that_is_too_long_is_nobodys(void **state)
{
	struct k3sup__cgroup group;
	char text[400];

	(void)state;
	for (size_t len = 240; len < 260; len++) {
		int n = snprintf(text, sizeof(text), "0::/system.slice/%0*d.service\n", (int)len, 0);

		assert_true(n > 0);
		k3sup__cgroup_parse(text, &group);
		assert_int_equal(group.keeper, len + strlen(".service") < K3SUP__UNIT_MAX ? K3SUP__KEEPER_SYSTEMD : K3SUP__KEEPER_NONE);
	}
}

static void managers_have_names(void **state)
{
	(void)state;
	assert_string_equal(k3sup__keeper_name(K3SUP__KEEPER_SYSTEMD), "systemd");
	assert_string_equal(k3sup__keeper_name(K3SUP__KEEPER_OPENRC), "openrc");
	assert_null(k3sup__keeper_name(K3SUP__KEEPER_USER));
	assert_null(k3sup__keeper_name(K3SUP__KEEPER_NONE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_group_below_slices_is_the_unit),
		cmocka_unit_test(a_name_that_is_too_long_is_nobodys),
		cmocka_unit_test(managers_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
