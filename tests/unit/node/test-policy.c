/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <k3sup/doc.h>
#include <k3sup/error.h>

#include "node/policy.h"

#define GOOD \
	.struct_size = sizeof(struct k3sup_policy_opts), .payload_kind = "wrapper", .payload_arch = "amd64", .node_arch = "amd64", .role = "server"

static const char *const names[] = {
	"k3s", "arch", "downgrade", "pre-release", "packaging", "skip-minor", "agent-before-server", "floor", "build-date"};

/* The decision of one policy. */
static const char *decision(k3sup_doc *doc, const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		_free_ char *at_name = k3sup__fmt("/checks/%zu/name", i), *at_decision = k3sup__fmt("/checks/%zu/decision", i);
		const char *found = NULL, *what = NULL;

		assert_int_equal(k3sup_doc_str(doc, at_name, &found), 0);
		assert_int_equal(k3sup_doc_str(doc, at_decision, &what), 0);
		assert_string_equal(found, names[i]);
		if (k3sup__streq(name, names[i]))
			return what;
	}
	fail_msg("no policy is called %s", name);
	return NULL;
}

/* The code of the first refusal, 0 if there is none; and that one policy has decided so. */
static int judge(const struct k3sup_policy_opts *opts, const char *name, const char *expected)
{
	k3sup_doc *doc = NULL;
	int64_t ok = -1, code = 0;

	assert_int_equal(k3sup_policy_check(opts, &doc), 0);
	assert_int_equal(k3sup_doc_len(doc, "/checks"), ELEMENTSOF(names));
	assert_int_equal(k3sup_doc_i64(doc, "/ok", &ok), 0);
	assert_int_equal(k3sup_doc_i64(doc, "/error/code", &code), ok ? -ENOENT : 0);
	if (name && !k3sup__streq(decision(doc, name), expected))
		fail_msg("%s is decided as %s, not %s: %s", name, decision(doc, name), expected, k3sup_doc_json(doc));
	k3sup_doc_unref(doc);
	return (int)code;
}

static void each_policy_has_its_own_code(void **state)
{
	static const struct {
		const char *installed, *payload, *name;
		int code;
	} table[] = {
		{"v1.30.4+k3s1", "v1.30.4+k3s1", "downgrade", 0},
		{"v1.30.4+k3s1", "v1.30.5+k3s1", "downgrade", 0},
		{"v1.30.4+k3s1", "v1.31.0-rc1+k3s1", "downgrade", 0},
		{"v1.25.10+k3s1", "v1.26.0+k3s1", "downgrade", 0},
		{"v1.31.3+k3s1", "v1.31.2+k3s1", "downgrade", K3SUP_E_POLICY_DOWNGRADE},
		{"v1.31.3+k3s1", "v1.30.9+k3s9", "downgrade", K3SUP_E_POLICY_DOWNGRADE},
		{"v1.30.10+k3s1", "v1.30.9+k3s1", "downgrade", K3SUP_E_POLICY_DOWNGRADE},
		{"v1.31.2+k3s1", "v1.31.2-rc2+k3s1", "pre-release", K3SUP_E_POLICY_PRERELEASE},
		{"v1.31.2-rc10+k3s1", "v1.31.2-rc2+k3s1", "pre-release", K3SUP_E_POLICY_PRERELEASE},
		{"v1.31.2-beta1+k3s1", "v1.31.2-alpha9+k3s1", "pre-release", K3SUP_E_POLICY_PRERELEASE},
		{"v1.31.2-rc1+k3s1", "v1.31.2+k3s1", "pre-release", 0},
		{"v1.31.2+k3s2", "v1.31.2+k3s1", "packaging", K3SUP_E_POLICY_PACKAGING},
		{"v1.31.2+k3s10", "v1.31.2+k3s9", "packaging", K3SUP_E_POLICY_PACKAGING},
		{"v1.31.2+k3s1", "v1.31.2+k3s-7d66e419", "packaging", K3SUP_E_POLICY_PACKAGING},
		{"v1.31.2+k3s-7d66e419", "v1.31.2+k3s1", "packaging", 0},
		{"v1.31.2+k3s-7d66e419", "v1.31.2+k3s-7d66e419", "packaging", 0},
		{"v1.31.2+k3s-7d66e419", "v1.31.2+k3s-ffffffff", "packaging", K3SUP_E_POLICY_UNKNOWN},
		{"v1.31.2+k3s-ffffffff", "v1.31.2+k3s-7d66e419-dirty", "packaging", K3SUP_E_POLICY_UNKNOWN},
		{"v1.28.2+k3s1", "v1.29.9+k3s1", "skip-minor", 0},
		{"v1.28.2+k3s1", "v1.31.2+k3s1", "skip-minor", K3SUP_E_POLICY_SKIP_MINOR},
		{"v1.28.2+k3s1", "v1.30.0-alpha1+k3s1", "skip-minor", K3SUP_E_POLICY_SKIP_MINOR},
		{"v1.28.2+k3s1", "v2.0.0+k3s1", "skip-minor", K3SUP_E_POLICY_SKIP_MINOR},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		const struct k3sup_policy_opts opts = {GOOD, .installed = table[i].installed, .payload = table[i].payload};

		if (judge(&opts, table[i].name, table[i].code ? "refuse" : "pass") != table[i].code)
			fail_msg("%s after %s", table[i].payload, table[i].installed);
	}
}

static void what_is_allowed_is_said(void **state)
{
	struct k3sup_policy_opts opts = {GOOD, .installed = "v1.31.3+k3s1", .payload = "v1.31.2+k3s1", .floor = "v1.31.3+k3s1"};

	(void)state;
	opts.flags = K3SUP_POLICY_ALLOW_SKIP_MINOR;
	assert_int_equal(judge(&opts, "downgrade", "refuse"), K3SUP_E_POLICY_DOWNGRADE);
	opts.flags = K3SUP_POLICY_ALLOW_DOWNGRADE;
	assert_int_equal(judge(&opts, "downgrade", "allowed"), 0);
	assert_int_equal(judge(&opts, "floor", "allowed"), 0);
	opts.payload = "v1.40.0+k3s1";
	assert_int_equal(judge(&opts, "skip-minor", "refuse"), K3SUP_E_POLICY_SKIP_MINOR);
	opts.flags = K3SUP_POLICY_ALLOW_SKIP_MINOR;
	assert_int_equal(judge(&opts, "skip-minor", "allowed"), 0);
	/* No flag makes another machine's program run here. */
	opts.flags |= K3SUP_POLICY_ALLOW_DOWNGRADE;
	opts.payload_arch = "arm64";
	assert_int_equal(judge(&opts, "arch", "refuse"), K3SUP_E_PAYLOAD_ARCH);
	opts.payload_kind = NULL;
	assert_int_equal(judge(&opts, "k3s", "refuse"), K3SUP_E_PAYLOAD_NOT_K3S);
}

static void unknown_is_no_pass(void **state)
{
	struct k3sup_policy_opts opts = {GOOD, .installed = "v1.30.4+k3s1", .payload = "latest"};

	(void)state;
	for (int i = 0; i < 3; i++) {
		opts.payload = i == 0 ? "latest" : i == 1 ? "" : NULL;
		assert_int_equal(judge(&opts, "downgrade", "refuse"), K3SUP_E_POLICY_UNKNOWN);
		assert_int_equal(judge(&opts, "pre-release", "refuse"), K3SUP_E_POLICY_UNKNOWN);
		assert_int_equal(judge(&opts, "packaging", "refuse"), K3SUP_E_POLICY_UNKNOWN);
		assert_int_equal(judge(&opts, "skip-minor", "refuse"), K3SUP_E_POLICY_UNKNOWN);
	}
	/* One permission does not stand for the other. */
	opts.flags = K3SUP_POLICY_ALLOW_DOWNGRADE;
	assert_int_equal(judge(&opts, "skip-minor", "refuse"), K3SUP_E_POLICY_UNKNOWN);
	opts.flags |= K3SUP_POLICY_ALLOW_SKIP_MINOR;
	assert_int_equal(judge(&opts, "downgrade", "allowed"), 0);
	opts.flags = 0;
	opts.payload = "v1.30.5+k3s1";
	opts.payload_arch = "";
	assert_int_equal(judge(&opts, "arch", "refuse"), K3SUP_E_PAYLOAD_ARCH);
	opts.payload_arch = "amd64";
	opts.payload_kind = "else";
	assert_int_equal(judge(&opts, "k3s", "refuse"), K3SUP_E_PAYLOAD_NOT_K3S);
}

/* B15's ancestors: both unknown, one unknown, and equal; "unknown equals unknown" once passed for "not older". */
static void a_torn_file_can_be_replaced_but_not_below_the_floor(void **state)
{
	struct k3sup_policy_opts opts = {GOOD, .payload = "v1.30.5+k3s1"};

	(void)state;
	for (int i = 0; i < 3; i++) {
		opts.installed = i == 0 ? NULL : i == 1 ? "" : "torn";
		opts.floor = NULL;
		assert_int_equal(judge(&opts, "downgrade", "warn"), 0);
		assert_int_equal(judge(&opts, "skip-minor", "warn"), 0);
		opts.floor = "v1.30.5+k3s1";
		assert_int_equal(judge(&opts, "floor", "pass"), 0);
		assert_int_equal(judge(&opts, "skip-minor", "pass"), 0);
		opts.floor = "v1.30.5+k3s2";
		assert_int_equal(judge(&opts, "floor", "refuse"), K3SUP_E_POLICY_FLOOR);
		opts.floor = "v1.28.9+k3s1";
		assert_int_equal(judge(&opts, "skip-minor", "refuse"), K3SUP_E_POLICY_SKIP_MINOR);
		opts.floor = "nonsense";
		assert_int_equal(judge(&opts, "floor", "refuse"), K3SUP_E_POLICY_UNKNOWN);
	}
	opts = (struct k3sup_policy_opts){GOOD, .installed = NULL, .payload = NULL};
	assert_int_equal(judge(&opts, "downgrade", "refuse"), K3SUP_E_POLICY_UNKNOWN);
}

static void servers_come_first(void **state)
{
	struct k3sup_policy_opts opts = {GOOD, .installed = "v1.30.4+k3s1", .payload = "v1.30.5+k3s1"};

	(void)state;
	opts.server = "v1.30.4+k3s1";
	assert_int_equal(judge(&opts, "agent-before-server", "pass"), 0); /* a server itself */
	opts.role = "agent";
	assert_int_equal(judge(&opts, "agent-before-server", "refuse"), K3SUP_E_POLICY_AGENT_FIRST);
	opts.role = NULL; /* may be one */
	assert_int_equal(judge(&opts, "agent-before-server", "refuse"), K3SUP_E_POLICY_AGENT_FIRST);
	opts.server = "v1.30.5+k3s1";
	assert_int_equal(judge(&opts, "agent-before-server", "pass"), 0);
	opts.server = "v1.30.5"; /* as Kubernetes counts */
	assert_int_equal(judge(&opts, "agent-before-server", "pass"), 0);
	opts.server = "v1.30.5-rc1";
	assert_int_equal(judge(&opts, "agent-before-server", "refuse"), K3SUP_E_POLICY_AGENT_FIRST);
	opts.server = "stable";
	assert_int_equal(judge(&opts, "agent-before-server", "refuse"), K3SUP_E_POLICY_UNKNOWN);
	opts.server = NULL;
	assert_int_equal(judge(&opts, "agent-before-server", "warn"), 0);
	opts.role = "agent";
	assert_int_equal(judge(&opts, "agent-before-server", "warn"), 0);
}

/* k3s-io/k3s#7537; upstream's own check was wrong three times: both unknown, one unknown, and days of one month. */
static void a_newer_minor_may_be_the_older_build(void **state)
{
	static const struct {
		const char *installed, *payload;
		int code;
	} table[] = {
		{NULL, NULL, 0},
		{"", "2022-12-09T21:15:18Z", 0},
		{"2023-05-26T21:50:22Z", "", 0},
		{"2023-05-26T21:50:22Z", "2023-05-26T21:50:22Z", 0},
		{"2023-05-26T21:50:22Z", "2022-12-09T21:15:18Z", K3SUP_E_POLICY_BUILD_DATE},
		{"2022-12-09T21:15:18Z", "2023-05-26T21:50:22Z", 0},
		{"2024-01-02T00:00:00Z", "2023-12-31T23:59:59Z", K3SUP_E_POLICY_BUILD_DATE},
		{"2023-05-27T00:00:00Z", "2023-05-01T00:00:00Z", 0},
		{"2023-10-27T00:00:00Z", "2023-09-01T00:00:00Z", K3SUP_E_POLICY_BUILD_DATE},
		{"2023-05-27T00:00:00Z", "1970-01-01T01:01:01Z", 0}, /* NixOS */
		{"2023-05-27T00:00:00Z", "2023-13-01T00:00:00Z", 0},
		{"2023-05-27T00:00:00Z", "2022/12/09", 0},
		{"2023-05-27T00:00:00Z", "2022-1", 0},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct k3sup_policy_opts opts = {GOOD, .installed = "v1.25.10+k3s1", .payload = "v1.26.0+k3s1",
			.installed_built = table[i].installed, .payload_built = table[i].payload};

		assert_int_equal(judge(&opts, "build-date", table[i].code ? "refuse" : "pass"), table[i].code);
		opts.flags = K3SUP_POLICY_ALLOW_DOWNGRADE;
		assert_int_equal(judge(&opts, "build-date", table[i].code ? "allowed" : "pass"), 0);
	}
}

static void wrong_arguments_are_refused(void **state)
{
	struct k3sup_policy_opts opts = {GOOD};
	k3sup_doc *doc = NULL;

	(void)state;
	assert_int_equal(k3sup_policy_check(&opts, NULL), -EINVAL);
	opts.role = "etcd";
	assert_int_equal(k3sup_policy_check(&opts, &doc), -EINVAL);
	opts.role = "";
	opts.flags = 0x80000000u;
	assert_int_equal(k3sup_policy_check(&opts, &doc), -EINVAL);
	assert_null(doc);
}

/* ---- everything the grammar makes of a few values for each part ---- */

static const char *const cores[] = {"v1.28.9", "v1.30.4", "v1.30.10", "v1.31.0", "v2.0.0"}; /* ascending, as all of these */
static const int minors[] = {28, 30, 30, 31, 100};
static const char *const pres[] = {"-alpha1", "-beta1", "-rc1", "-rc2", "-rc10", ""};
static const char *const builds[] = {"", "+k3s-00000000", "+k3s-ffffffff", "+k3s1", "+k3s2", "+k3s10"};

#define COUNT (ELEMENTSOF(cores) * ELEMENTSOF(pres) * ELEMENTSOF(builds))

struct made {
	char text[64];
	size_t core, pre, build;
};

static struct made *generate(void)
{
	struct made *all = calloc(COUNT, sizeof(*all));

	assert_non_null(all);
	for (size_t i = 0; i < COUNT; i++) {
		struct made *m = &all[i];

		m->core = i / (ELEMENTSOF(pres) * ELEMENTSOF(builds));
		m->pre = i / ELEMENTSOF(builds) % ELEMENTSOF(pres);
		m->build = i % ELEMENTSOF(builds);
		(void)snprintf(m->text, sizeof(m->text), "%s%s%s", cores[m->core], pres[m->pre], builds[m->build]);
	}
	return all;
}

static bool is_untagged(const struct made *m)
{
	return m->build == 1 || m->build == 2;
}

/* The first refusal, told from the parts: an index into the lists is the whole order. -1: unknown. */
static int expected(const struct made *all, int installed, int payload, int floor, uint32_t flags)
{
	const struct made *i = installed < 0 ? NULL : &all[installed], *p = &all[payload], *f = floor < 0 ? NULL : &all[floor], *from = i ? i : f;
	bool down = flags & K3SUP_POLICY_ALLOW_DOWNGRADE, skip = flags & K3SUP_POLICY_ALLOW_SKIP_MINOR;

	if (i && !down) {
		if (p->core < i->core)
			return K3SUP_E_POLICY_DOWNGRADE;
		if (p->core == i->core && p->pre < i->pre)
			return K3SUP_E_POLICY_PRERELEASE;
		if (p->core == i->core && p->pre == i->pre && p->build != i->build && is_untagged(p) && is_untagged(i))
			return K3SUP_E_POLICY_UNKNOWN;
		if (p->core == i->core && p->pre == i->pre && p->build < i->build)
			return K3SUP_E_POLICY_PACKAGING;
	}
	if (from && !skip && minors[p->core] > minors[from->core] + 1)
		return K3SUP_E_POLICY_SKIP_MINOR;
	return f && !down && payload < floor ? K3SUP_E_POLICY_FLOOR : 0;
}

static void every_pair_is_decided_as_its_parts_say(void **state)
{
	struct made *all;

	(void)state;
	if (getenv("K3SUP_TEST_VALGRIND"))
		skip(); /* minutes */
	all = generate();
	for (int i = -1; i < (int)COUNT; i++)
		for (int p = 0; p < (int)COUNT; p++)
			for (uint32_t flags = 0; flags < 4; flags++) {
				/* A floor: none, or a different one for each pair. */
				int floor = (i + 7 * p) % (int)(COUNT + 1) - 1;
				const struct k3sup_policy_opts opts = {
					GOOD,
					.flags = flags,
					.installed = i < 0 ? NULL : all[i].text,
					.payload = all[p].text,
					.floor = floor < 0 ? NULL : all[floor].text,
				};
				struct k3sup__checks checks;

				k3sup__checks_begin(&checks);
				k3sup__policy_judge(&opts, &checks);
				if (checks.code != expected(all, i, p, floor, flags))
					fail_msg("%s after %s, floor %s, flags %u: %s, not %s", opts.payload,
						opts.installed ? opts.installed : "unknown", opts.floor ? opts.floor : "none", flags,
						k3sup_error_name(checks.code), k3sup_error_name(expected(all, i, p, floor, flags)));
				assert_int_equal(k3sup__json_len(checks.list), ELEMENTSOF(names));
				k3sup__checks_clear(&checks);
			}
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_policy_has_its_own_code),
		cmocka_unit_test(what_is_allowed_is_said),
		cmocka_unit_test(unknown_is_no_pass),
		cmocka_unit_test(a_torn_file_can_be_replaced_but_not_below_the_floor),
		cmocka_unit_test(servers_come_first),
		cmocka_unit_test(a_newer_minor_may_be_the_older_build),
		cmocka_unit_test(wrong_arguments_are_refused),
		cmocka_unit_test(every_pair_is_decided_as_its_parts_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
