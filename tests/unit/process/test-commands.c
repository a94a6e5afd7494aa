/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "process/commands.h"
#include "process/guard.h"

static void all_three_or_none(void **state)
{
	static const struct {
		const char *stop, *start, *status;
		int r;
	} cases[] = {
		{NULL, NULL, NULL, 0},
		{"a", "b", "c", 1},
		{"a", "b", NULL, -EINVAL},
		{NULL, "b", "c", -EINVAL},
		{"a", NULL, "c", -EINVAL},
		{"", "b", "c", -EINVAL},
		{"a", "", "c", -EINVAL},
		{"a", "b", "", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct k3sup__commands commands;

		assert_int_equal(k3sup__commands_take(cases[i].stop, cases[i].start, cases[i].status, &commands), cases[i].r);
		assert_true((commands.stop != NULL) == (cases[i].r == 1));
		k3sup__commands_clear(&commands);
	}
}

static struct k3sup__service own(struct scratch *s, k3sup_node *node, const struct k3sup__commands *commands)
{
	struct k3sup__service service;

	assert_int_equal(k3sup__commands_own(s->op, node, commands, NULL, &service), 0);
	return service;
}

static void status_is_what_the_command_says(void **state)
{
	static const struct {
		const char *status;
		enum k3sup__service_state state;
	} cases[] = {
		{"exit 0", K3SUP__SERVICE_RUNNING},
		{"exit 3", K3SUP__SERVICE_STOPPED},
		{"exit 1", K3SUP__SERVICE_UNKNOWN},
		{"exit 4", K3SUP__SERVICE_UNKNOWN},
		{"kill -9 $$", K3SUP__SERVICE_UNKNOWN},
		{"no-such-command-anywhere", K3SUP__SERVICE_UNKNOWN},
		/* a clean environment */
		{"[ \"$HOME$LD_LIBRARY_PATH$K3SUP_PID\" = '' ] && [ -d \"$K3SUP_ROOT\" ]", K3SUP__SERVICE_RUNNING},
	};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		char status[128], word[] = "true";
		const struct k3sup__commands commands = {word, word, status};
		struct k3sup__service service;

		(void)snprintf(status, sizeof(status), "%s", cases[i].status);
		service = own(s, node, &commands);
		assert_int_equal(service.state, cases[i].state);
		assert_string_equal(service.manager->name, "commands");
		assert_int_equal(k3sup__commands_said(&service, "status"), cases[i].state == K3SUP__SERVICE_RUNNING);
		k3sup__service_clear(&service);
	}
	k3sup_node_unref(node);
}

/* What it says is kept, a failure is a warning, and what it leaves running is not waited for. */
static void an_order_is_run_and_told(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	char stop[] = "echo stopping $K3SUP_PID; exit 7",
	     start[] = "sleep 600 & kill $!; sleep 600 >/dev/null 2>&1 & echo $! >$K3SUP_ROOT/pid", status[] = "exit 3";
	const struct k3sup__commands commands = {stop, start, status};
	struct k3sup__service service = own(s, node, &commands);
	_free_ char *pid = NULL;

	assert_int_equal(k3sup__commands_said(&service, "stop"), -ENOENT);
	service.main_pid = 4711;
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_STOP), 0);
	assert_int_equal(k3sup__commands_said(&service, "stop"), 0);
	assert_string_equal(k3sup__json_text(k3sup__json_member(service.facts, "stop"), "output"), "stopping 4711\n");
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "warnings")), 1);
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_START), 0);
	assert_int_equal(k3sup__commands_said(&service, "start"), 1);
	assert_int_equal(k3sup__read_file(s->fd, "pid", 64, &pid, NULL), 0);
	assert_int_equal(kill((pid_t)strtol(pid, NULL, 10), SIGKILL), 0);
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_RESTART), K3SUP_E_INTERNAL);
	k3sup__service_clear(&service);
	k3sup_node_unref(node);
}

/* Where our root is not the node's, nobody else could run them; and there is nothing to disarm. */
static void elsewhere_there_is_no_guard(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	char word[] = "true", other[] = "false";
	const struct k3sup__commands commands = {word, word, word}, others = {word, other, word};
	struct k3sup__service service = own(s, node, &commands), another = own(s, node, &others);

	assert_string_not_equal(service.name, another.name);
	assert_int_equal(k3sup__guard_possible(s->op, &service), K3SUP_E_GUARD);
	k3sup__op_forgive(s->op);
	assert_int_equal(k3sup__guard_arm(s->op, &service, 1000), K3SUP_E_GUARD);
	assert_int_equal(k3sup__guard_disarm(s->op, &service), 0);
	k3sup__service_clear(&service);
	k3sup__service_clear(&another);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_three_or_none),
		scratch_test(status_is_what_the_command_says),
		scratch_test(an_order_is_run_and_told),
		scratch_test(elsewhere_there_is_no_guard),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
