/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/datadir.h"

#define CONFIG "etc/rancher/k3s/config.yaml"

static void put_below(struct scratch *s, const char *path, const char *content)
{
	_free_ char *dir = strdup(path);

	assert_non_null(dir);
	for (char *slash = strchr(dir, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdirat(s->fd, dir, 0755);
		*slash = '/';
	}
	put_file(s->fd, path, content, 0600);
}

/* ret: 0, or the code of the failure. path "" where it fails. */
static int find(struct scratch *s, const char *option, const char *observed, const char *path, const char *source)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path, .data_dir = option};
	struct k3sup__candidate candidate = {.role = K3SUP__ROLE_SERVER};
	k3sup_node *node = NULL;
	const char *from = NULL;
	char *found = NULL;
	int r;

	candidate.data_dir = observed != NULL ? strdup(observed) : NULL;
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	r = k3sup__data_dir_find(s->op, node, observed != NULL ? &candidate : NULL, &found, &from);
	k3sup_node_unref(node);
	free(candidate.data_dir);
	if (r == 0) {
		assert_string_equal(found, path);
		assert_string_equal(from, source);
	}
	free(found);
	return r;
}

static size_t warnings(struct scratch *s)
{
	return k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "warnings"));
}

static void without_anything_it_is_the_default(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(find(s, NULL, NULL, "/var/lib/rancher/k3s", "default"), 0);
	put_below(s, CONFIG, "token: x\n");
	assert_int_equal(find(s, NULL, NULL, "/var/lib/rancher/k3s", "default"), 0);
	put_below(s, CONFIG, "");
	assert_int_equal(find(s, NULL, NULL, "/var/lib/rancher/k3s", "default"), 0);
	put_below(s, CONFIG, "data-dir:\n");
	assert_int_equal(find(s, NULL, NULL, "/var/lib/rancher/k3s", "default"), 0);
}

static void the_option_then_the_process_then_the_configuration_count(void **state)
{
	struct scratch *s = *state;

	put_below(s, CONFIG, "data-dir: /srv/config\n");
	assert_int_equal(find(s, NULL, NULL, "/srv/config", "config"), 0);
	assert_int_equal(warnings(s), 0);
	assert_int_equal(find(s, NULL, "/srv/process", "/srv/process", "process"), 0);
	assert_int_equal(warnings(s), 1);
	assert_int_equal(find(s, "/srv/option", "/srv/process", "/srv/option", "option"), 0);
	assert_int_equal(warnings(s), 3);
	assert_int_equal(find(s, "/srv/config", "/srv/config", "/srv/config", "option"), 0);
	assert_int_equal(warnings(s), 3);
}

static void the_last_drop_in_wins(void **state)
{
	struct scratch *s = *state;

	put_below(s, CONFIG, "data-dir: /srv/main\n");
	put_below(s, CONFIG ".d/20-b.yml", "data-dir: /srv/b\n");
	put_below(s, CONFIG ".d/10-a.yaml", "data-dir: /srv/a\n");
	put_below(s, CONFIG ".d/30-other.YAML", "debug: true\n");
	put_below(s, CONFIG ".d/99-no.conf", "data-dir: /srv/no\n");
	put_below(s, CONFIG ".d/99-dir.yaml/x", "");
	assert_int_equal(find(s, NULL, NULL, "/srv/b", "config"), 0);
	assert_int_equal(unlinkat(s->fd, CONFIG, 0), 0);
	assert_int_equal(find(s, NULL, NULL, "/srv/b", "config"), 0);
}

static void a_way_round_by_links_is_no_disagreement(void **state)
{
	struct scratch *s = *state;

	put_below(s, CONFIG, "data-dir: /var/lib/rancher/k3s\n");
	put_below(s, "mnt/big/k3s/x", "");
	put_below(s, "var/lib/rancher/x", "");
	assert_int_equal(symlinkat("/mnt/big/k3s", s->fd, "var/lib/rancher/k3s"), 0);
	assert_int_equal(find(s, NULL, "/mnt/big/k3s", "/mnt/big/k3s", "process"), 0);
	assert_int_equal(warnings(s), 0);
}

static void a_configuration_that_others_can_write_chooses_nothing(void **state)
{
	struct scratch *s = *state;

	put_below(s, CONFIG, "data-dir: /srv/evil\n");
	assert_int_equal(fchmodat(s->fd, CONFIG, 0666, 0), 0);
	assert_int_equal(find(s, NULL, NULL, "", ""), K3SUP_E_UNTRUSTED);
	k3sup__op_forgive(s->op);
	assert_int_equal(find(s, "/srv/option", NULL, "/srv/option", "option"), 0);
	assert_int_equal(warnings(s), 1);
}

static void a_configuration_that_cannot_be_read_is_an_error_only_where_it_decides(void **state)
{
	static const struct {
		const char *text;
		int code;
	} bad[] = {{"data-dir: [a\n", K3SUP_E_CONFIG}, {"data-dir: relative\n", K3SUP_E_PARSE}, {"data-dir: ~/k3s\n", K3SUP_E_PARSE},
		{"- a\n", K3SUP_E_CONFIG}, {"\tx", K3SUP_E_CONFIG}, {"a: !!str b\n", K3SUP_E_PARSE}};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		put_below(s, CONFIG, bad[i].text);
		assert_int_equal(find(s, NULL, NULL, "", ""), bad[i].code);
		assert_sentence(s, "/etc/rancher/k3s/config.yaml");
		assert_int_equal(find(s, NULL, "/srv/process", "/srv/process", "process"), 0);
		assert_int_equal(warnings(s), i + 1);
	}
}

static void the_hosts_links_are_followed_inside_the_root(void **state)
{
	struct scratch *s = *state;

	put_below(s, "srv/real.yaml", "data-dir: /srv/inside\n");
	put_below(s, "etc/rancher/k3s/x", "");
	assert_int_equal(symlinkat("/srv/real.yaml", s->fd, CONFIG), 0);
	assert_int_equal(find(s, NULL, NULL, "/srv/inside", "config"), 0);
}

/* What is said, as "source path (from); ...", and the first of it. */
static char *look(struct scratch *s, enum k3sup__role role, const char *observed, const char *unit, const char *version)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	struct k3sup__candidate candidate = {.role = role};
	struct k3sup__data_dir found;
	k3sup_node *node = NULL;
	char *all;
	int r;

	candidate.data_dir = observed != NULL ? strdup(observed) : NULL;
	candidate.unit = unit != NULL ? strdup(unit) : NULL;
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	r = k3sup__data_dir_look(s->op, node, role != K3SUP__ROLE_UNKNOWN ? &candidate : NULL, NULL, NULL, version, &found);
	k3sup_node_unref(node);
	free(candidate.data_dir);
	free(candidate.unit);
	if (r < 0)
		return k3sup__fmt("%s", k3sup_error_name(r));
	all = strdup(found.suspicion != NULL ? "! " : "");
	for (size_t i = 0; i < k3sup__json_len(found.sources); i++) {
		k3sup__json *one = k3sup__json_element(found.sources, i);
		char *more = k3sup__fmt("%s%s%s %s", all, i > 0 ? "; " : "", k3sup__json_text(one, "source"), k3sup__json_text(one, "path"));

		free(all);
		all = more;
		if (i == 0) {
			assert_string_equal(found.source, k3sup__json_text(one, "source"));
			assert_string_equal(found.path, k3sup__json_text(one, "path"));
		}
	}
	k3sup__data_dir_clear(&found);
	return all;
}

static void assert_look(struct scratch *s, enum k3sup__role role, const char *observed, const char *unit, const char *version, const char *expected)
{
	_free_ char *all = look(s, role, observed, unit, version);

	assert_string_equal(all, expected);
}

#define UNIT "etc/systemd/system/k3s.service"
#define NOBODY K3SUP__ROLE_UNKNOWN, NULL, NULL

/* G02 */
static void the_unit_the_configuration_and_the_environment(void **state)
{
	struct scratch *s = *state;

	put_below(s, UNIT, "[Service]\nExecStart=/usr/bin/k3s -d /wrapper server --data-dir /unit\nEnvironment=K3S_DATA_DIR=/env\n");
	put_below(s, CONFIG, "data-dir: /config\n");
	assert_look(s, NOBODY, NULL, "unit /unit; config /config; environment /env");
	assert_int_equal(warnings(s), 2);
	assert_look(s, K3SUP__ROLE_SERVER, "/seen", "k3s.service", NULL, "process /seen; unit /unit; config /config; environment /env");
	put_below(s, UNIT, "[Service]\nExecStart=/usr/bin/k3s server\nEnvironmentFile=/etc/k3s.env\n");
	put_below(s, "etc/k3s.env", "K3S_DATA_DIR='/env'\n");
	assert_look(s, NOBODY, NULL, "config /config; environment /env");
	assert_int_equal(unlinkat(s->fd, CONFIG, 0), 0);
	assert_look(s, NOBODY, NULL, "environment /env");
	assert_look(s, NOBODY, "v1.30.3+k3s1", "environment /env");
	assert_look(s, NOBODY, "v1.30.2+k3s1", "default /var/lib/rancher/k3s");
	assert_look(s, NOBODY, "v1.27.16+k3s1", "environment /env");
	assert_look(s, NOBODY, "v1.26.15+k3s1", "default /var/lib/rancher/k3s");
	assert_look(s, NOBODY, "v1.31.0+k3s1", "environment /env");
	put_below(s, "etc/k3s.env", "K3S_CONFIG_FILE=/srv/k3s.yaml\n");
	put_below(s, "srv/k3s.yaml", "data-dir: sub\n");
	assert_look(s, NOBODY, NULL, "config /sub");
	put_below(s, UNIT, "[Service]\nExecStart=/usr/bin/k3s server -d=\nEnvironmentFile=/etc/k3s.env\nWorkingDirectory=/srv\n");
	put_below(s, "srv/k3s.yaml", "d: sub\n");
	assert_look(s, NOBODY, NULL, "config /srv/sub");
}

static void two_forms_of_the_flag_are_refused_as_by_k3s(void **state)
{
	struct scratch *s = *state;

	put_below(s, UNIT, "[Service]\nExecStart=/usr/bin/k3s server -d /unit\n");
	put_below(s, CONFIG, "data-dir: /config\n");
	assert_look(s, NOBODY, NULL, "K3SUP_E_CONFIG");
	assert_sentence(s, "k3s does not start");
	assert_look(s, K3SUP__ROLE_SERVER, "/seen", NULL, NULL, "process /seen");
	put_below(s, CONFIG, "d: /config\n");
	assert_look(s, NOBODY, NULL, "unit /unit; config /config");
}

static void only_the_unit_of_the_running_k3s_is_asked(void **state)
{
	struct scratch *s = *state;

	put_below(s, UNIT, "[Service]\nExecStart=/usr/bin/k3s server --data-dir /server\n");
	put_below(s, "etc/systemd/system/k3s-agent.service", "[Service]\nExecStart=/usr/bin/k3s agent --data-dir /agent\n");
	put_below(s, "etc/systemd/system/k3s-other.service", "[Service]\nExecStart=/usr/bin/k3s server --data-dir /other\n");
	assert_look(s, K3SUP__ROLE_AGENT, NULL, "k3s-agent.service", NULL, "unit /agent");
	assert_look(s, K3SUP__ROLE_AGENT, NULL, NULL, NULL, "unit /agent");
	assert_look(s, K3SUP__ROLE_SERVER, NULL, "k3s-other.service", NULL, "unit /other");
	assert_look(s, NOBODY, NULL, "unit /other; unit /server; unit /agent");
	assert_int_equal(fchmodat(s->fd, UNIT, 0666, 0), 0);
	assert_look(s, NOBODY, NULL, "unit /other; unit /agent");
}

/* A server that looks like an agent from there: the sign of a wrong data-dir. */
static void a_server_without_a_servers_directory_is_suspicious(void **state)
{
	struct scratch *s = *state;

	put_below(s, UNIT, "[Service]\nExecStart=/usr/bin/k3s server\n");
	assert_look(s, NOBODY, NULL, "default /var/lib/rancher/k3s");
	put_below(s, "var/lib/rancher/k3s/agent/x", "");
	assert_look(s, NOBODY, NULL, "! default /var/lib/rancher/k3s");
	assert_int_equal(warnings(s), 1);
	put_below(s, "var/lib/rancher/k3s/server/x", "");
	assert_look(s, NOBODY, NULL, "default /var/lib/rancher/k3s");
}

/* What a run that was cut has stopped, with its arguments: it says so itself once it runs again, and whoever gives a place knows better. */
static void of_what_we_have_stopped_the_journal_knows(void **state)
{
	struct scratch *s = *state;
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	struct k3sup__candidate candidate = {.role = K3SUP__ROLE_SERVER, .data_dir = strdup("/seen")};

	put_below(s, UNIT, "[Service]\nExecStart=/usr/bin/k3s server --data-dir /unit\n");
	for (int i = 0; i < 3; i++) {
		static const char *const expected[][2] = {{"journal", "/left"}, {"process", "/seen"}, {"option", "/given"}};
		struct k3sup__data_dir found;
		k3sup_node *node = NULL;

		opts.data_dir = i == 2 ? "/given" : NULL;
		assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
		assert_int_equal(k3sup__data_dir_look(s->op, node, i == 1 ? &candidate : NULL, "/left", NULL, NULL, &found), 0);
		k3sup_node_unref(node);
		assert_string_equal(found.source, expected[i][0]);
		assert_string_equal(found.path, expected[i][1]);
		k3sup__data_dir_clear(&found);
	}
	assert_int_equal(warnings(s), 4); /* the unit disagrees each time, and the journal with the caller */
	free(candidate.data_dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_anything_it_is_the_default),
		TEST(the_option_then_the_process_then_the_configuration_count),
		TEST(the_last_drop_in_wins),
		TEST(a_way_round_by_links_is_no_disagreement),
		TEST(a_configuration_that_others_can_write_chooses_nothing),
		TEST(a_configuration_that_cannot_be_read_is_an_error_only_where_it_decides),
		TEST(the_hosts_links_are_followed_inside_the_root),
		TEST(the_unit_the_configuration_and_the_environment),
		TEST(two_forms_of_the_flag_are_refused_as_by_k3s),
		TEST(only_the_unit_of_the_running_k3s_is_asked),
		TEST(of_what_we_have_stopped_the_journal_knows),
		TEST(a_server_without_a_servers_directory_is_suspicious),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
