/* SPDX-License-Identifier: Apache-2.0 */
#include "manager.h"

#define SHOW "systemctl show --no-pager"
#define UNIT \
	"LoadState=loaded\nUnitFileState=enabled\nKillMode=process\nRestart=always\nType=notify\nRestartPreventExitStatus=\nResult=" \
	"success\nNRestarts=3\nJob=0\n"

static struct k3sup__service named(const char *name)
{
	struct k3sup__service service = K3SUP__SERVICE_NONE;

	service.name = strdup(name);
	assert_non_null(service.name);
	return service;
}

static struct k3sup__service open_service(struct scratch *s, k3sup_node *node, int expected)
{
	struct k3sup__service service = named("k3s.service");

	assert_int_equal(k3sup__systemd_open(s->op, node, &service), expected);
	return service;
}

static void a_property_is_a_whole_line(void **state)
{
	static const struct {
		const char *text, *key, *value;
	} cases[] = {
		{"A=1\nB=2\n", "B", "2"},
		{"A=1\nB=2", "B", "2"},
		{"AB=1\nB=2\n", "B", "2"},
		{"AB=1\n", "A", ""},
		{"A=x=y z\n", "A", "x=y z"},
		{"A=\nB=2\n", "A", ""},
		{"\n\nA=1\n", "A", "1"},
		{"", "A", ""},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_free_ char *value = k3sup__property(cases[i].text, cases[i].key);

		assert_string_equal(value, cases[i].value);
	}
}

static void states(void **state)
{
	static const struct {
		const char *says;
		enum k3sup__service_state state;
		bool gave_up;
	} cases[] = {
		{"ActiveState=active\nSubState=running\n", K3SUP__SERVICE_RUNNING, false},
		{"ActiveState=reloading\nSubState=reload\n", K3SUP__SERVICE_RUNNING, false},
		{"ActiveState=activating\nSubState=start\n", K3SUP__SERVICE_STARTING, false},
		{"ActiveState=activating\nSubState=auto-restart\n", K3SUP__SERVICE_PAUSED, false},
		{"ActiveState=failed\nSubState=failed-before-auto-restart\n", K3SUP__SERVICE_PAUSED, false},
		{"ActiveState=deactivating\nSubState=stop-sigterm\n", K3SUP__SERVICE_STOPPING, false},
		{"ActiveState=inactive\nSubState=dead\n", K3SUP__SERVICE_STOPPED, false},
		{"ActiveState=failed\nSubState=failed\n", K3SUP__SERVICE_STOPPED, true},
		/* a start is queued */
		{"Job=17\nActiveState=inactive\nSubState=dead\n", K3SUP__SERVICE_STARTING, false},
		{"Job=17\nActiveState=failed\nSubState=failed\n", K3SUP__SERVICE_STARTING, false},
		{"ActiveState=maintenance\nSubState=x\n", K3SUP__SERVICE_UNKNOWN, false},
		{"", K3SUP__SERVICE_UNKNOWN, false},
	};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	manager_install(s);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_free_ char *says = k3sup__fmt("%s" UNIT, cases[i].says);
		struct k3sup__service service;

		manager_says(s, 0, SHOW, says);
		service = open_service(s, node, 0);
		assert_int_equal(service.state, cases[i].state);
		assert_int_equal(service.gave_up, cases[i].gave_up);
		k3sup__service_clear(&service);
	}
	k3sup_node_unref(node);
}

/* The first line with a key counts: what comes before UNIT replaces it. */
static void settings(void **state)
{
	static const struct {
		const char *says;
		bool respawns, masked, takes_all, takes_nothing;
		int exit_code, exit_signal;
	} cases[] = {
		{"", true, false, false, false, -1, 0},
		{"Restart=on-failure\n", false, false, false, false, -1, 0},
		{"RestartPreventExitStatus=1\n", false, false, false, false, -1, 0},
		{"LoadState=masked\n", true, true, false, false, -1, 0},
		{"UnitFileState=masked-runtime\n", true, true, false, false, -1, 0},
		{"KillMode=control-group\n", true, false, true, false, -1, 0},
		{"KillMode=mixed\n", true, false, true, false, -1, 0},
		{"KillMode=none\n", true, false, false, true, -1, 0},
		{"ExecMainCode=1\nExecMainStatus=7\n", true, false, false, false, 7, 0},
		{"ExecMainCode=2\nExecMainStatus=9\n", true, false, false, false, -1, 9},
		{"ExecMainCode=3\nExecMainStatus=6\n", true, false, false, false, -1, 6},
		{"ExecMainCode=0\nExecMainStatus=0\n", true, false, false, false, -1, 0},
	};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	manager_install(s);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_free_ char *says = k3sup__fmt("%sMainPID=4711\nActiveState=active\nSubState=running\n" UNIT, cases[i].says);
		struct k3sup__service service;

		manager_says(s, 0, SHOW, says);
		service = open_service(s, node, 0);
		assert_true(service.main_pid == 4711 && service.restarts == 3);
		assert_true(service.respawns == cases[i].respawns && service.masked == cases[i].masked);
		assert_true(service.takes_all == cases[i].takes_all && service.takes_nothing == cases[i].takes_nothing);
		assert_true(service.exit_code == cases[i].exit_code && service.exit_signal == cases[i].exit_signal);
		k3sup__service_clear(&service);
	}
	k3sup_node_unref(node);
}

static void who_cannot_be_asked(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *program = below(s, SYSTEMCTL);
	struct k3sup__service service;

	service = open_service(s, node, K3SUP_E_NO_SERVICE); /* not booted with systemd */
	k3sup__service_clear(&service);
	manager_install(s);
	manager_says(s, 0, SHOW, "LoadState=not-found\nActiveState=inactive\n");
	service = open_service(s, node, K3SUP_E_NO_SERVICE);
	assert_non_null(strstr(k3sup__op_sentence(s->op), "knows no k3s.service"));
	k3sup__service_clear(&service);
	k3sup__op_forgive(s->op);
	manager_says(s, 0, SHOW, "!\nFailed to connect to bus\nmore\n");
	service = open_service(s, node, K3SUP_E_SERVICE);
	assert_non_null(strstr(k3sup__op_sentence(s->op), "Failed to connect to bus"));
	assert_null(strstr(k3sup__op_sentence(s->op), "more"));
	k3sup__service_clear(&service);
	k3sup__op_forgive(s->op);
	assert_int_equal(chown(program, 65534, 65534), 0);
	service = open_service(s, node, K3SUP_E_UNTRUSTED);
	k3sup__service_clear(&service);
	k3sup__op_forgive(s->op);
	assert_int_equal(unlink(program), 0);
	service = open_service(s, node, K3SUP_E_NO_SERVICE);
	k3sup__service_clear(&service);
	k3sup__op_forgive(s->op);
	k3sup_node_unref(node);
}

/* Orders do not wait, and a name that looks like an option is none. */
static void orders(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__service service;

	manager_install(s);
	manager_says(s, 0, SHOW, "ActiveState=active\n" UNIT);
	service = open_service(s, node, 0);
	service.manager = &k3sup__systemd;
	free(manager_asked(s));
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_STOP), 0);
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_START), 0);
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_RESTART), 0);
	assert_asked(s, "systemctl --no-block stop -- k3s.service\nsystemctl --no-block start -- k3s.service\nsystemctl --no-block restart -- k3s.service\n");
	manager_says(s, 1, "systemctl --no-block stop", "!\nUnit is on fire.\n");
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_STOP), K3SUP_E_SERVICE);
	assert_string_equal(k3sup__op_sentence(s->op), "systemctl stop: Unit is on fire.");
	k3sup__op_forgive(s->op);
	k3sup__service_clear(&service);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_property_is_a_whole_line),
		scratch_test(states),
		scratch_test(settings),
		scratch_test(who_cannot_be_asked),
		scratch_test(orders),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, manager_build, fake_remove);
}
