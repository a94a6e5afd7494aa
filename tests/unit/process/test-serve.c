/* SPDX-License-Identifier: Apache-2.0 */
#include "manager.h"

#include "process/serve.h"

#define SHOW "systemctl show --no-pager*-- "
#define RUNS "LoadState=loaded\nActiveState=active\nSubState=running\nRestart=always\nKillMode=process\nMainPID=%d\n"
#define STOPPED "LoadState=loaded\nActiveState=inactive\nSubState=dead\nRestart=always\nKillMode=process\nMainPID=0\n"
#define SERVER "k3s.service"
#define AGENT "k3s-agent.service"

static void put_unit(const struct scratch *s, const char *name, const char *role)
{
	_free_ char *path = k3sup__fmt("/etc/systemd/system/%s", name), *text = k3sup__fmt("[Service]\nExecStart=" INSTALLED " %s\n", role);

	write_text(s->path, path, text);
}

/* A service that runs, as systemd tells it. */
static pid_t start_service(const struct scratch *s, const char *name, const char *role, int number)
{
	_free_ char *title = k3sup__fmt(INSTALLED " %s", role), *file = k3sup__fmt(BIN1 "/k3s-%s", role);
	_free_ char *group = k3sup__fmt("0::/system.slice/%s\n", name), *asked = k3sup__fmt(SHOW "%s", name), *says = NULL;
	const struct fake_spec spec = {.file = file, .title = title, .root = s->path};
	pid_t pid;

	put_unit(s, name, role);
	pid = fake_start(&spec);
	fake_cgroup(pid, group);
	says = k3sup__fmt(RUNS, (int)pid);
	manager_says(s, number, asked, says);
	return pid;
}

static void stop_service(const struct scratch *s, pid_t pid, const char *name, int number)
{
	_free_ char *asked = k3sup__fmt(SHOW "%s", name);

	fake_stop(pid);
	manager_says(s, number, asked, STOPPED);
}

static struct k3sup__serving serving_of(k3sup_node *node)
{
	return (struct k3sup__serving){.node = {.node = node}};
}

static bool is_of(const struct k3sup__served *one, const char *name, pid_t pid)
{
	return k3sup__streq(one->service.name, name) && one->service.manager == &k3sup__systemd && one->service.main_pid == pid &&
		one->service.state == K3SUP__SERVICE_RUNNING && k3sup__process_pid(one->process) == pid;
}

static const struct k3sup__served *find_served(const struct k3sup__serving *serving, const char *name)
{
	for (size_t i = 0; i < serving->count; i++)
		if (k3sup__streq(serving->list[i].service.name, name))
			return &serving->list[i];
	fail_msg("%s is not served", name);
	return NULL;
}

/* Of a server and an agent on one host both are meant, unless one is named; and only when both have stopped it is a stop. */
static void server_and_agent(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__serving serving = serving_of(node);
	char agent_name[] = AGENT;
	pid_t server, agent;

	manager_install(s);
	put_node(s);
	server = start_service(s, SERVER, "server", 0);
	agent = start_service(s, AGENT, "agent", 1);
	assert_int_equal(k3sup__serving_find(s->op, &serving), 0);
	assert_int_equal(serving.count, 2);
	assert_true(is_of(find_served(&serving, SERVER), SERVER, server) && is_of(find_served(&serving, AGENT), AGENT, agent));
	k3sup__serving_report(s->op, &serving);
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "services")), 2);
	assert_null(k3sup__json_text(k3sup__json_member(k3sup__op_facts(s->op), "service"), "name"));
	assert_int_equal(k3sup__serving_look(s->op, &serving), 0);

	stop_service(s, server, SERVER, 0);
	assert_int_equal(k3sup__serving_look(s->op, &serving), 0);
	serving.name = agent_name;
	assert_int_equal(k3sup__serving_find(s->op, &serving), 0);
	assert_true(serving.count == 1 && is_of(&serving.list[0], AGENT, agent));
	k3sup__serving_report(s->op, &serving);
	assert_string_equal(k3sup__json_text(k3sup__json_member(k3sup__op_facts(s->op), "service"), "name"), AGENT);
	stop_service(s, agent, AGENT, 1);
	assert_int_equal(k3sup__serving_look(s->op, &serving), 1);
	k3sup__serving_clear(&serving);
	k3sup_node_unref(node);
}

/* One pair of commands cannot mean both. */
static void commands_are_for_one(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	char word[] = "true";
	const struct k3sup__commands commands = {word, word, word};
	struct k3sup__serving serving = serving_of(node);
	pid_t server, agent;

	manager_install(s);
	put_node(s);
	server = start_service(s, SERVER, "server", 0);
	agent = start_service(s, AGENT, "agent", 1);
	serving.by = &commands;
	assert_int_equal(k3sup__serving_find(s->op, &serving), K3SUP_E_AMBIGUOUS);
	k3sup__op_forgive(s->op);
	stop_service(s, agent, AGENT, 1);
	assert_int_equal(k3sup__serving_find(s->op, &serving), 0);
	assert_int_equal(serving.count, 1);
	assert_true(serving.list[0].service.manager == &k3sup__by_commands && k3sup__process_pid(serving.list[0].process) == server);
	k3sup__serving_clear(&serving);
	stop_service(s, server, SERVER, 0);
	k3sup_node_unref(node);
}

/* None runs: the one service whose file says that it would start k3s; of two none is chosen. */
static void what_is_installed(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__serving serving = serving_of(node);
	char name[] = AGENT, unknown[] = "k3s-east.service";

	manager_install(s);
	put_node(s);
	manager_says(s, 0, SHOW SERVER, STOPPED);
	manager_says(s, 1, SHOW AGENT, STOPPED);
	manager_says(s, 2, SHOW, "LoadState=not-found\n");
	assert_int_equal(k3sup__serving_find(s->op, &serving), K3SUP_E_NO_SERVICE);
	k3sup__op_forgive(s->op);

	put_unit(s, SERVER, "server");
	assert_int_equal(k3sup__serving_find(s->op, &serving), 0);
	assert_true(serving.count == 1 && !serving.list[0].process && serving.list[0].apart);
	assert_string_equal(serving.list[0].service.name, SERVER);

	put_unit(s, AGENT, "agent");
	assert_int_equal(k3sup__serving_find(s->op, &serving), K3SUP_E_AMBIGUOUS);
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_evidence(s->op), "services")), 2);
	k3sup__op_forgive(s->op);
	serving.name = name;
	assert_int_equal(k3sup__serving_find(s->op, &serving), 0);
	assert_string_equal(serving.list[0].service.name, AGENT);
	serving.name = unknown;
	assert_int_equal(k3sup__serving_find(s->op, &serving), K3SUP_E_NO_SERVICE);
	k3sup__op_forgive(s->op);
	k3sup__serving_clear(&serving);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(server_and_agent),
		scratch_test(commands_are_for_one),
		scratch_test(what_is_installed),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, manager_build, fake_remove);
}
