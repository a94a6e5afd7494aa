/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "node/unit.h"

#define ETC "etc/systemd/system/"
#define RUN "run/systemd/system/"
#define LIB "usr/lib/systemd/system/"
#define UNIT ETC "k3s.service"

/* As install.sh writes it. */
static const char plain[] =
	"[Unit]\nDescription=Lightweight Kubernetes\n\n[Install]\nWantedBy=multi-user.target\n\n[Service]\nType=notify\n"
	"EnvironmentFile=-/etc/default/%N\nEnvironmentFile=-/etc/sysconfig/%N\nEnvironmentFile=-/etc/systemd/system/k3s.service.env\n"
	"KillMode=process\nDelegate=yes\nUser=root\n# Having non-zero Limit*s\nLimitNOFILE=1048576\nTimeoutStartSec=0\nRestart=always\n"
	"RestartSec=5s\nExecStartPre=-/sbin/modprobe br_netfilter\nExecStartPre=-/sbin/modprobe overlay\n"
	"ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--node-label' \\\n\t'a=it'\\''s' \\\n\t'--data-dir' \\\n\t'/srv/big disk' "
	"\\\n\n";

static struct k3sup__unit read_unit(struct scratch *s, const char *name)
{
	struct k3sup__unit unit;
	k3sup_node *node = tree_node(s);

	assert_int_equal(k3sup__unit_read(s->op, node, name, &unit), 0);
	k3sup_node_unref(node);
	assert_null(k3sup__op_sentence(s->op)); /* a finding, not a failure */
	return unit;
}

static void assert_argv(const struct k3sup__unit *unit, const char *words)
{
	_free_ char *text = strdup("");

	for (size_t i = 0; i < unit->argv.count; i++) {
		char *more = k3sup__fmt("%s%s%s", text, i > 0 ? "|" : "", unit->argv.items[i]);

		free(text);
		text = more;
		assert_non_null(text);
	}
	assert_string_equal(text, words);
}

static void assert_bad(struct scratch *s, const char *name, enum k3sup__unit_state state, const char *part)
{
	struct k3sup__unit unit = read_unit(s, name);

	assert_int_equal(unit.state, state);
	assert_non_null(unit.why);
	if (strstr(unit.why, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", unit.why, part);
	assert_int_equal(unit.argv.count, 0);
	k3sup__unit_clear(&unit);
}

static void the_installers_unit(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, UNIT, plain);
	put_tree(s, ETC "k3s.service.env", "K3S_TOKEN='se'\"'\"'cret'\nK3S_DATA_DIR=/from/env\n");
	put_tree(s, "etc/default/k3s", "K3S_DATA_DIR=/from/default\n");
	unit = read_unit(s, "k3s.service");
	assert_int_equal(unit.state, K3SUP__UNIT_LOADED);
	assert_argv(&unit, "/usr/local/bin/k3s|server|--node-label|a=it's|--data-dir|/srv/big disk");
	assert_string_equal(unit.target, "/usr/local/bin/k3s");
	assert_int_equal(unit.role, K3SUP__ROLE_SERVER);
	assert_string_equal(unit.type, "notify");
	assert_string_equal(unit.kill_mode, "process");
	assert_string_equal(unit.restart, "always");
	assert_int_equal(unit.restart_us, 5000000);
	assert_true(unit.delegate && unit.env_known && !unit.private_tmp);
	assert_int_equal(unit.before.count, 2);
	assert_string_equal(k3sup__env_get(&unit.env, "K3S_TOKEN", 9), "se'cret");
	assert_string_equal(k3sup__env_get(&unit.env, "K3S_DATA_DIR", 12), "/from/env");
	assert_int_equal(unit.env_files.count, 2);
	assert_string_equal(k3sup__unit_setting(&unit, "Service", "TimeoutStartSec"), "0");
	assert_null(k3sup__unit_setting(&unit, "Service", "TimeoutStopSec"));
	assert_int_equal(unit.notes.count, 0);
	k3sup__unit_clear(&unit);
}

static void what_the_report_says_holds_no_secret(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;
	k3sup__json *json;
	_free_ char *text = NULL;

	put_tree(s, UNIT, "[Service]\nEnvironment=K3S_TOKEN=hush1 \"bad\nEnvironment=X=%H-hush2\nExecStart=/usr/bin/k3s agent --token hush3\n");
	unit = read_unit(s, "k3s.service");
	assert_int_equal(unit.notes.count, 2);
	json = k3sup__unit_json(&unit);
	text = k3sup__json_dump(json);
	assert_null(strstr(text, "hush"));
	assert_string_equal(k3sup__json_text(json, "role"), "agent");
	assert_string_equal(k3sup__json_text(json, "target"), "/usr/bin/k3s");
	assert_string_equal(k3sup__json_text(json, "fragment"), "/" UNIT);
	assert_string_equal(k3sup__json_text(json, "unit_state"), "loaded");
	k3sup__json_unref(json);
	k3sup__unit_clear(&unit);
}

/* systemd.unit(5): the first directory wins; drop-ins by name, whatever directory they are in. */
static void directories_and_drop_ins_in_their_order(void **state)
{
	static const char *const files[] = {"/" ETC "k3s-a.service", "/" RUN "service.d/05-x.conf", "/" ETC "k3s-.service.d/10-a.conf",
		"/" RUN "k3s-a.service.d/20-b.conf", "/" LIB "k3s-a.service.d/30-c.conf"};
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, LIB "k3s-a.service", "[Service]\nExecStart=/lib/k3s server\n");
	put_tree(s, ETC "k3s-a.service", "[Service]\nExecStart=/usr/bin/k3s server\nKillMode=process\n");
	put_tree(s, LIB "k3s-a.service.d/30-c.conf", "[Service]\nRestart=always\nEnvironment=A=3 B=3\n");
	put_tree(s, RUN "k3s-a.service.d/20-b.conf", "[Service]\nRestart=on-failure\nEnvironment=A=2 C=2\n");
	put_tree(s, LIB "k3s-a.service.d/20-b.conf", "[Service]\nEnvironment=HIDDEN=1\n");
	put_tree(s, LIB "k3s-a.service.d/10-a.conf", "[Service]\nEnvironment=HIDDEN=2\n");
	put_tree(s, ETC "k3s-.service.d/10-a.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/k3s agent\nKillMode=nonsense\n");
	put_tree(s, RUN "service.d/05-x.conf", "[Service]\nRestartSec=1min 500ms\n");
	put_tree(s, RUN "service.d/.06-x.conf", "[Service]\nRestartSec=9\n");
	put_tree(s, RUN "service.d/07-x.conf.bak", "[Service]\nRestartSec=9\n");
	unit = read_unit(s, "k3s-a.service");
	assert_int_equal(unit.state, K3SUP__UNIT_LOADED);
	assert_int_equal(unit.files.count, ELEMENTSOF(files));
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		assert_string_equal(unit.files.items[i], files[i]);
	assert_int_equal(unit.role, K3SUP__ROLE_AGENT);
	assert_string_equal(unit.restart, "always");
	assert_string_equal(unit.kill_mode, "process");
	assert_int_equal(unit.restart_us, 60500000);
	assert_string_equal(k3sup__env_get(&unit.env, "A", 1), "3");
	assert_string_equal(k3sup__env_get(&unit.env, "C", 1), "2");
	assert_null(k3sup__env_get(&unit.env, "HIDDEN", 6));
	k3sup__unit_clear(&unit);
}

static void aliases_lead_to_the_unit_and_bring_their_drop_ins(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;
	struct k3sup__units units;
	k3sup_node *node;

	put_tree(s, LIB "k3s-real.service", "[Service]\nExecStart=/usr/bin/k3s server %n\n");
	put_tree(s, ETC "k3s.service.d/x.conf", "[Service]\nEnvironment=ALIAS=1\n");
	link_tree(s, "/usr/lib/systemd/system/k3s-real.service", UNIT);
	link_tree(s, "k3s.service", ETC "kube.service");
	unit = read_unit(s, "kube.service");
	assert_string_equal(unit.name, "k3s-real.service");
	assert_argv(&unit, "/usr/bin/k3s|server|k3s-real.service");
	assert_string_equal(k3sup__env_get(&unit.env, "ALIAS", 5), "1");
	assert_true(k3sup__strv_has(&unit.aliases, "k3s.service"));
	k3sup__unit_clear(&unit);
	node = tree_node(s);
	assert_int_equal(k3sup__units_read(s->op, node, &units), 0);
	assert_int_equal(units.count, 1);
	k3sup__units_clear(&units);
	k3sup_node_unref(node);
}

static void a_linked_file_elsewhere_keeps_the_links_name(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, "nix/store/x/other.service", "[Service]\nExecStart=/nix/store/k/bin/k3s server %N\n");
	link_tree(s, "/nix/store/x/other.service", UNIT);
	unit = read_unit(s, "k3s.service");
	assert_string_equal(unit.name, "k3s.service");
	assert_argv(&unit, "/nix/store/k/bin/k3s|server|k3s");
	k3sup__unit_clear(&unit);
}

static void masked_dangling_and_circular_units(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;
	k3sup_node *node = tree_node(s);

	put_tree(s, LIB "k3s.service", plain);
	link_tree(s, "/dev/null", UNIT);
	assert_bad(s, "k3s.service", K3SUP__UNIT_MASKED, "/" UNIT);
	put_tree(s, RUN "k3s-empty.service", "");
	assert_bad(s, "k3s-empty.service", K3SUP__UNIT_MASKED, "/" RUN "k3s-empty.service");
	link_tree(s, "/nowhere/k3s.service", ETC "k3s-gone.service");
	assert_bad(s, "k3s-gone.service", K3SUP__UNIT_BAD, "a symbolic link to nothing");
	link_tree(s, "k3s-y.service", ETC "k3s-x.service");
	link_tree(s, "k3s-x.service", ETC "k3s-y.service");
	assert_bad(s, "k3s-x.service", K3SUP__UNIT_BAD, "k3s-x.service");
	assert_int_equal(k3sup__unit_read(s->op, node, "k3s-none.service", &unit), -ENOENT);
	k3sup_node_unref(node);
}

static void what_systemd_refuses_is_refused(void **state)
{
	static const struct {
		const char *text, *part;
	} bad[] = {
		{"[Service]\nType=simple\n", "no ExecStart"},
		{"[Service]\nExecStart=/usr/bin/k3s server\nExecStart=/usr/bin/k3s agent\n", "2 ExecStart="},
		{"[Service]\nExecStart=/usr/bin/k3s server ; /bin/true\n", "2 ExecStart="},
		{"[Service]\nExecStart=/usr/bin/k3s 'server\n", "quotes are not closed"},
		{"[Service]\nExecStart=usr/bin/k3s server\n", "neither an absolute path"},
		{"[Service]\nExecStart=/usr/bin/k3s/ server\n", "a directory"},
		{"[Service]\nExecStart=/usr/bin/k3s server %Z\n", "does not know"},
		{"[Service]\nExecStart=/usr/bin/k3s server %H\n", "only the running systemd"},
		{"[Service\nExecStart=/usr/bin/k3s server\n", ":1: a section header"},
		{"[Service]\nExecStart=k3s server\n", "in none of systemd's directories"},
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		put_tree(s, UNIT, bad[i].text);
		assert_bad(s, "k3s.service", K3SUP__UNIT_BAD, bad[i].part);
	}
}

static void what_others_could_change_is_no_evidence(void **state)
{
	struct scratch *s = *state;

	put_tree(s, UNIT, plain);
	put_tree(s, ETC "k3s.service.env", "A=1\n");
	put_tree(s, ETC "k3s.service.d/a.conf", "[Service]\n");
	assert_int_equal(fchmodat(s->fd, ETC "k3s.service.env", 0666, 0), 0);
	assert_bad(s, "k3s.service", K3SUP__UNIT_UNTRUSTED, "k3s.service.env");
	assert_int_equal(fchmodat(s->fd, ETC "k3s.service.env", 0600, 0), 0);
	assert_int_equal(fchmodat(s->fd, ETC "k3s.service.d", 0777, 0), 0);
	assert_bad(s, "k3s.service", K3SUP__UNIT_UNTRUSTED, "k3s.service.d");
	assert_int_equal(fchmodat(s->fd, ETC "k3s.service.d", 0755, 0), 0);
	assert_int_equal(fchmodat(s->fd, ETC "k3s.service.d/a.conf", 0666, 0), 0);
	assert_bad(s, "k3s.service", K3SUP__UNIT_UNTRUSTED, "a.conf");
	assert_int_equal(fchmodat(s->fd, ETC "k3s.service.d/a.conf", 0644, 0), 0);
	assert_int_equal(fchmodat(s->fd, UNIT, 0646, 0), 0);
	assert_bad(s, "k3s.service", K3SUP__UNIT_UNTRUSTED, UNIT);
	assert_int_equal(fchmodat(s->fd, UNIT, 0644, 0), 0);
	assert_int_equal(fchmodat(s->fd, "etc/systemd/system", 0777, 0), 0);
	assert_bad(s, "k3s.service", K3SUP__UNIT_UNTRUSTED, "systemd/system");
	if (geteuid() == 0) {
		assert_int_equal(fchmodat(s->fd, "etc/systemd/system", 0755, 0), 0);
		assert_int_equal(fchownat(s->fd, UNIT, 1000, 0, 0), 0);
		assert_bad(s, "k3s.service", K3SUP__UNIT_UNTRUSTED, UNIT);
	}
}

static void environment_files_and_variables(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, UNIT,
		"[Service]\nEnvironment=GONE=1\nEnvironment=\nEnvironment=\"A=a b\" B=1 ROLE=server\nPrivateTmp=yes\n"
		"EnvironmentFile=/etc/nowhere\nEnvironmentFile=\nEnvironmentFile=-/etc/k3s/*.env\nEnvironmentFile=/etc/missing\n"
		"EnvironmentFile=relative\nUnsetEnvironment=C D=2\n"
		"ExecStart=@/usr/bin/k3s kube $ROLE --x=${A} $A '$A' $$A ${NONE}y $NONE --d=${D}\n");
	put_tree(s, "etc/k3s/b.env", "B=2\n");
	put_tree(s, "etc/k3s/a.env", "B=3\nC=1\nD=1\n");
	put_tree(s, "etc/k3s/.c.env", "B=4\n");
	unit = read_unit(s, "k3s.service");
	assert_int_equal(unit.state, K3SUP__UNIT_LOADED);
	assert_argv(&unit, "kube|server|--x=a b|a|b|a|b|$A|y|--d=1");
	assert_string_equal(unit.target, "/usr/bin/k3s");
	assert_int_equal(unit.role, K3SUP__ROLE_SERVER);
	assert_true(unit.private_tmp);
	assert_null(k3sup__env_get(&unit.env, "GONE", 4));
	assert_null(k3sup__env_get(&unit.env, "C", 1));
	assert_string_equal(k3sup__env_get(&unit.env, "B", 1), "2");
	assert_int_equal(unit.notes.count, 2); /* missing, relative */
	k3sup__unit_clear(&unit);
}

static void plain_names_are_looked_for(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;

	put_tree(s, UNIT, "[Service]\nExecStart=-:k3s --debug -d /x agent '${A}'\nWorkingDirectory=-/srv/%p\nRootDirectory=/\n");
	put_tree(s, "usr/bin/k3s", "x");
	unit = read_unit(s, "k3s.service");
	assert_int_equal(unit.state, K3SUP__UNIT_LOADED);
	assert_string_equal(unit.target, "/usr/bin/k3s");
	assert_argv(&unit, "k3s|--debug|-d|/x|agent|${A}");
	assert_int_equal(unit.role, K3SUP__ROLE_AGENT);
	assert_string_equal(unit.directory, "/srv/k3s");
	k3sup__unit_clear(&unit);
}

static void all_units_that_may_start_k3s(void **state)
{
	static const char *const names[] = {"k3s-agent.service", "k3s-masked.service", "k3s-node1.service", "k3s.service", "k3s"};
	struct scratch *s = *state;
	struct k3sup__units units;
	k3sup_node *node = tree_node(s);

	assert_int_equal(k3sup__units_read(s->op, node, &units), 0);
	assert_int_equal(units.count, 0);
	put_tree(s, UNIT, plain);
	put_tree(s, LIB "k3s-agent.service", "[Service]\nExecStart=/usr/bin/k3s agent\n");
	put_tree(s, RUN "k3s-node1.service", "[Service]\nExecStart=/opt/bin/k3s server\n");
	put_tree(s, ETC "k3s-backup.service", "[Service]\nExecStart=/usr/bin/k3s etcd-snapshot save\n");
	put_tree(s, ETC "k3s-tool.service", "[Service]\nExecStart=/usr/bin/tool server\n");
	put_tree(s, ETC "k3s@.service", "[Service]\nExecStart=/usr/bin/k3s server\n");
	put_tree(s, ETC "k3sup.service", "[Service]\nExecStart=/usr/bin/k3s server\n");
	link_tree(s, "/dev/null", ETC "k3s-masked.service");
	put_tree(s, "etc/init.d/k3s", "#!/sbin/openrc-run\nsupervisor=supervise-daemon\ncommand=/usr/bin/k3s\ncommand_args=server\n");
	assert_int_equal(fchmodat(s->fd, "etc/init.d/k3s", 0755, 0), 0);
	assert_int_equal(k3sup__units_read(s->op, node, &units), 0);
	assert_int_equal(units.count, ELEMENTSOF(names));
	for (size_t i = 0; i < units.count; i++)
		assert_string_equal(units.items[i].name, names[i]);
	assert_int_equal(units.items[4].manager, K3SUP__MANAGER_OPENRC);
	k3sup__units_clear(&units);
	k3sup_node_unref(node);
}

/* k3s@east.service is written as k3s@.service, with drop-ins of both, unless it has a file of its own. */
static void an_instance_is_its_templates(void **state)
{
	struct scratch *s = *state;
	struct k3sup__unit unit;
	struct k3sup__units units;
	k3sup_node *node;

	put_tree(s, ETC "k3s@.service", "[Service]\nExecStart=/usr/bin/k3s agent --data-dir /srv/%i\nRestart=always\n");
	put_tree(s, ETC "k3s@.service.d/10-a.conf", "[Service]\nEnvironment=A=template B=template\n");
	put_tree(s, ETC "k3s@east.service.d/20-b.conf", "[Service]\nEnvironment=B=%I\n");
	put_tree(s, ETC "k3s@west.service", "[Service]\nExecStart=/opt/k3s server\n");
	unit = read_unit(s, "k3s@east.service");
	assert_string_equal(unit.name, "k3s@east.service");
	assert_int_equal(unit.state, K3SUP__UNIT_LOADED);
	assert_int_equal(unit.role, K3SUP__ROLE_AGENT);
	assert_argv(&unit, "/usr/bin/k3s|agent|--data-dir|/srv/east");
	assert_string_equal(k3sup__env_get(&unit.env, "A", 1), "template");
	assert_string_equal(k3sup__env_get(&unit.env, "B", 1), "east");
	k3sup__unit_clear(&unit);
	unit = read_unit(s, "k3s@west.service");
	assert_argv(&unit, "/opt/k3s|server");
	k3sup__unit_clear(&unit);
	/* Listed are those that have a file of their own: a template starts nothing. */
	node = tree_node(s);
	assert_int_equal(k3sup__units_read(s->op, node, &units), 0);
	assert_int_equal(units.count, 1);
	assert_string_equal(units.items[0].name, "k3s@west.service");
	k3sup__units_clear(&units);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_installers_unit),
		scratch_test(an_instance_is_its_templates),
		scratch_test(what_the_report_says_holds_no_secret),
		scratch_test(directories_and_drop_ins_in_their_order),
		scratch_test(aliases_lead_to_the_unit_and_bring_their_drop_ins),
		scratch_test(a_linked_file_elsewhere_keeps_the_links_name),
		scratch_test(masked_dangling_and_circular_units),
		scratch_test(what_systemd_refuses_is_refused),
		scratch_test(what_others_could_change_is_no_evidence),
		scratch_test(environment_files_and_variables),
		scratch_test(plain_names_are_looked_for),
		scratch_test(all_units_that_may_start_k3s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
