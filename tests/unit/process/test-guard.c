/* SPDX-License-Identifier: Apache-2.0 */
#include "manager.h"

#include "process/commands.h"
#include "process/guard.h"

#define STATE "systemctl show -p ActiveState -- k3sup-guard-k3s.timer"
#define SUB "systemctl show -p SubState -- k3sup-guard-k3s.timer"
#define FIRED "systemctl show -p InactiveExitTimestampMonotonic -- k3sup-guard-k3s.service"
#define LOOK "systemctl show --no-pager"
#define STOPPED "LoadState=loaded\nActiveState=inactive\nSubState=dead\nKillMode=process\nRestart=always\n"

struct node {
	struct scratch *s;
	k3sup_node *node;
	struct k3sup__service service;
};

static struct node begin(void **state)
{
	struct node n = {.s = *state, .service = K3SUP__SERVICE_NONE};

	n.node = open_node(n.s->ctx, n.s->path, NULL);
	manager_install(n.s);
	manager_says(n.s, 0, LOOK, STOPPED);
	n.service.name = strdup("k3s.service");
	assert_int_equal(k3sup__systemd_open(n.s->op, n.node, &n.service), 0);
	n.service.manager = &k3sup__systemd;
	free(manager_asked(n.s));
	return n;
}

static void end(struct node *n)
{
	k3sup__service_clear(&n->service);
	k3sup_node_unref(n->node);
}

static void assert_fails(struct node *n, int r, int code, const char *says)
{
	assert_int_equal(r, code);
	if (!strstr(k3sup__op_sentence(n->s->op), says))
		fail_msg("\"%s\" does not say \"%s\"", k3sup__op_sentence(n->s->op), says);
	k3sup__op_forgive(n->s->op);
}

static void names(void **state)
{
	static const char *const cases[][2] = {
		{"k3s.service", "k3sup-guard-k3s"}, {"k3s-agent.service", "k3sup-guard-k3s-agent"}, {"k3s", "k3sup-guard-k3s"}};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		char name[32];
		const struct k3sup__service service = {.name = name};
		_free_ char *guard = NULL;

		(void)snprintf(name, sizeof(name), "%s", cases[i][0]);
		guard = k3sup__guard_name(&service);
		assert_string_equal(guard, cases[i][1]);
	}
}

/* By systemd's own timer, told not to be late; one that is there begins anew in one job. */
static void armed_once(void **state)
{
	struct node n = begin(state);

	manager_says(n.s, 1, STATE, "ActiveState=inactive\n");
	assert_int_equal(k3sup__guard_arm(n.s->op, &n.service, 1500), 0);
	assert_asked(n.s,
		STATE
		"\nsystemctl reset-failed -- k3sup-guard-k3s.service\n"
		"systemd-run --quiet --on-active=1500ms --timer-property=AccuracySec=100ms --unit=k3sup-guard-k3s "
		"--description=starts k3s.service again, which k3sup has stopped /usr/bin/systemctl --no-block start -- k3s.service\n");
	manager_says(n.s, 1, STATE, "ActiveState=active\n");
	assert_int_equal(k3sup__guard_arm(n.s->op, &n.service, 1500), 0);
	assert_asked(n.s,
		STATE "\nsystemctl reset-failed -- k3sup-guard-k3s.timer\n"
		      "systemctl restart -- k3sup-guard-k3s.timer\n");
	end(&n);
}

/* Then nothing may be stopped. */
static void it_cannot_be_armed(void **state)
{
	struct node n = begin(state);
	_free_ char *program = below(n.s, SYSTEMD_RUN);

	manager_says(n.s, 1, STATE, "ActiveState=inactive\n");
	manager_says(n.s, 2, "systemctl reset-failed", "!\nUnit not loaded\n"); /* is no harm */
	manager_says(n.s, 3, "systemd-run", "!\nno room\nat all\n");
	assert_fails(&n, k3sup__guard_arm(n.s->op, &n.service, 1000), K3SUP_E_GUARD, "cannot be armed: no room");
	assert_int_equal(chown(program, 65534, 65534), 0);
	assert_int_equal(k3sup__guard_arm(n.s->op, &n.service, 1000), K3SUP_E_UNTRUSTED);
	k3sup__op_forgive(n.s->op);
	assert_int_equal(unlink(program), 0);
	assert_fails(&n, k3sup__guard_arm(n.s->op, &n.service, 1000), K3SUP_E_GUARD, "there is no systemd-run");
	end(&n);
}

static void rearmed_while_it_waits(void **state)
{
	struct node n = begin(state);

	manager_says(n.s, 1, SUB, "SubState=waiting\n");
	manager_says(n.s, 2, FIRED, "InactiveExitTimestampMonotonic=0\n");
	assert_int_equal(k3sup__guard_rearm(n.s->op, &n.service, 1000), 0);

	/* between the order and now it has fired */
	manager_says(n.s, 2, FIRED, "InactiveExitTimestampMonotonic=123456\n");
	assert_fails(&n, k3sup__guard_rearm(n.s->op, &n.service, 1000), K3SUP_E_GUARD, "has started it");
	manager_says(n.s, 2, FIRED, "InactiveExitTimestampMonotonic=0\n");
	manager_says(n.s, 3, "systemctl restart", "!\nUnit not found\n");
	assert_fails(&n, k3sup__guard_rearm(n.s->op, &n.service, 1000), K3SUP_E_GUARD, "cannot begin its time anew");
	manager_says(n.s, 1, SUB, "SubState=elapsed\n");
	assert_fails(&n, k3sup__guard_rearm(n.s->op, &n.service, 1000), K3SUP_E_GUARD, "does not wait any more");
	end(&n);
}

/* The guard waits, and k3s was started: it is no longer stopped by us. */
static void rearmed_in_vain(void **state)
{
	struct node n = begin(state);

	manager_says(n.s, 1, SUB, "SubState=waiting\n");
	manager_says(n.s, 2, FIRED, "InactiveExitTimestampMonotonic=0\n");
	manager_says(n.s, 0, LOOK, "LoadState=loaded\nActiveState=activating\nSubState=start\n");
	assert_fails(&n, k3sup__guard_rearm(n.s->op, &n.service, 1000), K3SUP_E_GUARD, "started by somebody else");
	end(&n);
}

static void disarmed(void **state)
{
	struct node n = begin(state);

	manager_says(n.s, 1, STATE, "ActiveState=active\n");
	assert_int_equal(k3sup__guard_disarm(n.s->op, &n.service), 1);
	assert_asked(n.s, STATE "\nsystemctl stop -- k3sup-guard-k3s.timer\n");
	manager_says(n.s, 1, STATE, "ActiveState=inactive\n");
	assert_int_equal(k3sup__guard_disarm(n.s->op, &n.service), 0);
	assert_asked(n.s, STATE "\n");
	assert_int_equal(k3sup__guard_release(n.s->op, &n.service), 0);
	assert_asked(n.s, "");
	end(&n);
}

/* Their start command, unless the status command says that it runs: a dollar in them is theirs, and not systemd's. */
static void of_commands(void **state)
{
	struct node n = begin(state);
	char stop[] = "true", start[] = "start $HOME", status[] = "pidof k3s";
	const struct k3sup__commands commands = {stop, start, status};
	_free_ char *asked = NULL;

	n.service.commands = &commands;
	manager_says(n.s, 1, STATE, "ActiveState=inactive\n");
	assert_int_equal(k3sup__guard_possible(n.s->op, &n.service), 0);
	assert_int_equal(k3sup__guard_arm(n.s->op, &n.service, 1000), 0);
	asked = manager_asked(n.s);
	assert_non_null(strstr(asked, "--property=KillMode=process"));
	assert_non_null(strstr(asked, " sh pidof k3s start $$HOME\n"));
	assert_null(strstr(asked, "systemctl --no-block start"));
	end(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		scratch_test(armed_once),
		scratch_test(it_cannot_be_armed),
		scratch_test(rearmed_while_it_waits),
		scratch_test(rearmed_in_vain),
		scratch_test(disarmed),
		scratch_test(of_commands),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, manager_build, fake_remove);
}
