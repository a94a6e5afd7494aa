/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "node/initscript.h"

#define SCRIPT "etc/init.d/k3s-agent"

/* As install.sh writes it. */
static const char plain[] =
	"#!/sbin/openrc-run\n\ndepend() {\n    after network-online\n    want cgroups\n}\n\nstart_pre() {\n    rm -f /tmp/k3s.*\n}\n\n"
	"supervisor=supervise-daemon\nname=k3s-agent\ncommand=\"/usr/local/bin/k3s\"\ncommand_args=\"agent \\\n\t'--node-label' \\\n"
	"\t'a=\\\"it'\\''s\\\"' \\\n\n    >>/var/log/k3s-agent.log 2>&1\"\n\noutput_log=/var/log/k3s-agent.log\n"
	"error_log=/var/log/k3s-agent.log\n\npidfile=\"/var/run/k3s-agent.pid\"\nrespawn_delay=5\nrespawn_max=0\n\nset -o allexport\n"
	"if [ -f /etc/environment ]; then . /etc/environment; fi\n"
	"if [ -f /etc/rancher/k3s/k3s-agent.env ]; then . /etc/rancher/k3s/k3s-agent.env; fi\nset +o allexport\n";

static struct k3sup__unit read_script(struct scratch *s, const char *text)
{
	struct k3sup__unit unit;
	k3sup_node *node = tree_node(s);

	if (text != NULL) {
		put_tree(s, SCRIPT, text);
		assert_int_equal(fchmodat(s->fd, SCRIPT, 0755, 0), 0);
	}
	assert_int_equal(k3sup__initscript_read(s->op, node, "k3s-agent", &unit), 0);
	k3sup_node_unref(node);
	assert_null(k3sup__op_sentence(s->op));
	return unit;
}

static void assert_words(const struct k3sup__unit *unit, const char *const *words)
{
	if (unit->state != K3SUP__UNIT_LOADED)
		fail_msg("%s", unit->why);
	for (size_t i = 0; i < unit->argv.count; i++) {
		assert_non_null(words[i]);
		assert_string_equal(unit->argv.items[i], words[i]);
	}
	assert_null(words[unit->argv.count]);
}

static void the_installers_script(void **state)
{
	static const char *const words[] = {"/usr/local/bin/k3s", "agent", "--node-label", "a=\"it's\"", NULL};
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, "etc/environment", "LANG=C\n");
	put_tree(s, "etc/rancher/k3s/k3s-agent.env", "K3S_URL='https://server:6443'\nK3S_TOKEN='x'\n");
	unit = read_script(s, plain);
	assert_words(&unit, words);
	assert_int_equal(unit.role, K3SUP__ROLE_AGENT);
	assert_string_equal(unit.target, "/usr/local/bin/k3s");
	assert_string_equal(unit.supervisor, "supervise-daemon");
	assert_string_equal(unit.restart, "always");
	assert_string_equal(unit.directory, "/");
	assert_int_equal(unit.restart_us, 5000000);
	assert_int_equal(unit.respawn_max, 0);
	assert_false(unit.cgroup_cleanup);
	assert_true(unit.env_known);
	assert_string_equal(k3sup__env_get(&unit.env, "K3S_URL", 7), "https://server:6443");
	assert_string_equal(k3sup__env_get(&unit.env, "LANG", 4), "C");
	assert_null(k3sup__env_get(&unit.env, "command", 7));
	assert_int_equal(unit.env_files.count, 2);
	assert_int_equal(unit.notes.count, 0);
	k3sup__unit_clear(&unit);
}

/* OpenRC sources them before the script. */
static void settings_from_conf_d_and_rc_conf(void **state)
{
	static const char *const words[] = {"/opt/bin/k3s", "agent", "--node-name", "two words", "--debug", "k3s-agent", NULL};
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, "etc/conf.d/k3s-agent",
		"command=/opt/bin/k3s # the place\nK3S_OPTS=\"--node-name 'two words'\"\nrc_cgroup_cleanup=\"YES\"\nrespawn_max=7\n");
	put_tree(s, "etc/conf.d/k3s-agent.boot", "rc_cgroup_cleanup=no\n"); /* of another runlevel */
	put_tree(s, "etc/rc.conf", "#rc_parallel=NO\nrc_cgroup_cleanup=no\nrespawn_max=8\n");
	put_tree(s, "etc/rc.conf.d/x.conf", "export HTTP_PROXY=\"http://p:1\"\n");
	unit = read_script(s,
		"#!/sbin/openrc-run\nsupervisor=\"supervise-daemon\"\n: ${command:=\"/usr/bin/k3s\"} \"${respawn_delay:=3}\"\n"
		"command_args=\"agent ${K3S_OPTS}\"\ncommand_args_foreground='--debug $RC_SVCNAME >/dev/null 2>&1 "
		"</dev/null'\ndirectory=/srv\n"
		"command_args_background=\"&\"; respawn_delay=${respawn_delay:-9}\n[ -f /etc/nothing ] && . /etc/nothing\n"
		"description=\"$(uname) or so\"\n");
	assert_words(&unit, words);
	assert_true(unit.cgroup_cleanup);
	assert_int_equal(unit.restart_us, 3000000);
	assert_int_equal(unit.respawn_max, 7);
	assert_string_equal(unit.directory, "/srv");
	assert_string_equal(k3sup__env_get(&unit.env, "HTTP_PROXY", 10), "http://p:1");
	assert_int_equal(unit.notes.count, 1); /* description */
	k3sup__unit_clear(&unit);

	/* what the runlevel has takes the place of what the service has */
	put_tree(s, "run/openrc/softlevel", "boot\n");
	unit = read_script(s, "#!/sbin/openrc-run\nsupervisor=supervise-daemon\n: ${command:=/usr/bin/k3s}\ncommand_args=agent\n");
	assert_string_equal(unit.target, "/usr/bin/k3s");
	assert_false(unit.cgroup_cleanup);
	assert_int_equal(unit.respawn_max, 8);
	k3sup__unit_clear(&unit);
}

static void what_is_not_understood_is_said(void **state)
{
	static const struct {
		const char *rest, *part;
	} bad[] = {
		{"command_args=\"server $(cat /x)\"\n", "more than can be understood"},
		{"command_args=`x`\n", "cannot be understood"},
		{"if [ -n \"$X\" ]; then command_args=agent; fi\n", "more than can be understood"},
		{"case $X in a) command_args=b;; esac\n", "cannot be understood"},
		{"for i in 1 2; do command_args=$i; done\n", "cannot be understood"},
		{"start() {\n\tk3s server\n}\n", "a start or stop function of its own"},
		{"do_something\n", "a command that is not understood"},
		{". /etc/missing\n", "a file that does not exist"},
		{". \"$(x)\"\n", "a file that cannot be named"},
		{"command_args=\"server | tee x\"\n", "command_args= cannot be understood"},
		{"command_args='server ${X%y}'\n", "command_args= cannot be understood"},
		{"command='/usr/bin/nice /usr/bin/k3s'\n", "not one absolute path"},
		{"command=k3s\n", "not one absolute path"},
		{"command_args=\"server\n", "cannot be understood"},
		{"eval command_args=x\n", "a command that is not understood"},
		{"cat <<E\ncommand_args=x\nE\n", "cannot be understood"},
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		_free_ char *text = k3sup__fmt("#!/sbin/openrc-run\ncommand=/usr/bin/k3s\ncommand_args=server\n%s", bad[i].rest);
		struct k3sup__unit unit = read_script(s, text);

		assert_int_equal(unit.state, K3SUP__UNIT_BAD);
		if (strstr(unit.why, bad[i].part) == NULL)
			fail_msg("%s\"%s\" does not say \"%s\"", bad[i].rest, unit.why, bad[i].part);
		assert_int_equal(unit.argv.count, 0);
		k3sup__unit_clear(&unit);
	}
}

static void conditions_on_files_and_what_is_harmless(void **state)
{
	static const char *const words[] = {"/usr/bin/k3s", "server", NULL};
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, "etc/there", "A=1\n");
	unit = read_script(s,
		"#!/usr/bin/openrc-run\ncommand=/usr/bin/k3s\nif [ -e /etc/there ]; "
		"then\n\tcommand_args=server\nelse\n\tcommand_args=agent\nfi\n"
		"if [ -f /etc/not ]\nthen command_args=wrong\n. /etc/not\nelse\n\tB=2\nfi\n[ -r /etc/there ] && . /etc/there\n"
		"if [ -n \"$X\" ]; then OTHER=1; fi\nextra() { true; }\nulimit -n 1024\nexport A B\n");
	assert_words(&unit, words);
	assert_int_equal(unit.restart_us, 0);
	assert_string_equal(unit.restart, "no");
	assert_string_equal(k3sup__env_get(&unit.env, "A", 1), "1");
	assert_string_equal(k3sup__env_get(&unit.env, "B", 1), "2");
	k3sup__unit_clear(&unit);
}

static void no_evidence(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;
	k3sup_node *node = tree_node(s);

	assert_int_equal(k3sup__initscript_read(s->op, node, "k3s-agent", &unit), -ENOENT);
	k3sup_node_unref(node);
	put_tree(s, "etc/rancher/k3s/k3s-agent.env", "A=1\n");
	assert_int_equal(fchmodat(s->fd, "etc/rancher/k3s/k3s-agent.env", 0666, 0), 0);
	unit = read_script(s, plain);
	assert_int_equal(unit.state, K3SUP__UNIT_UNTRUSTED);
	assert_non_null(strstr(unit.why, "k3s-agent.env"));
	k3sup__unit_clear(&unit);
	assert_int_equal(fchmodat(s->fd, SCRIPT, 0777, 0), 0);
	unit = read_script(s, NULL);
	assert_int_equal(unit.state, K3SUP__UNIT_UNTRUSTED);
	k3sup__unit_clear(&unit);
	assert_int_equal(fchmodat(s->fd, SCRIPT, 0644, 0), 0);
	unit = read_script(s, NULL);
	assert_int_equal(unit.state, K3SUP__UNIT_BAD);
	assert_non_null(strstr(unit.why, "not executable"));
	k3sup__unit_clear(&unit);
	unit = read_script(s, "#!/bin/sh\ncommand=/usr/bin/k3s\n");
	assert_int_equal(unit.state, K3SUP__UNIT_BAD);
	assert_non_null(strstr(unit.why, "no script of OpenRC"));
	k3sup__unit_clear(&unit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_installers_script),
		scratch_test(settings_from_conf_d_and_rc_conf),
		scratch_test(what_is_not_understood_is_said),
		scratch_test(conditions_on_files_and_what_is_harmless),
		scratch_test(no_evidence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
