/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The check: what it decides, and that it touches nothing. That the upgrade decides alike is seen beside it.
 */
#include "../base/scratch.h"

#include <k3sup.h>

#include "../node/elfmake.h"
#include "node/build.h"

#define K3S "usr/local/bin/k3s"

static void put_k3s(struct scratch *s, const char *name, const char *version, const char *hash)
{
	_free_ char *data = k3sup__fmt("embed/%s.tar.zst %s ", hash, version);
	struct elf_spec spec = {.data = data, .data_len = strlen(data)};
	size_t len;
	unsigned char *elf = elf_make(&spec, &len);
	int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, elf, len), 0);
	close(fd);
	free(elf);
}

/* A node below the scratch directory, and a payload beside it. */
static void put_node(struct scratch *s, const char *installed, const char *payload)
{
	static const char *const dirs[] = {"node", "node/usr", "node/usr/local", "node/usr/local/bin", "node/var", "node/var/lib"};

	for (size_t i = 0; i < ELEMENTSOF(dirs); i++)
		(void)mkdirat(s->fd, dirs[i], 0755);
	put_k3s(s, "node/" K3S, installed, ELF_HASH);
	put_k3s(s, "payload", payload, ELF_HASH2);
}

static k3sup_doc *run(struct scratch *s, uint32_t flags, int status)
{
	_free_ char *root = k3sup__fmt("%s/node", s->path), *payload = k3sup__fmt("%s/payload", s->path);
	struct k3sup_node_opts node_opts = {.struct_size = sizeof(node_opts), .root = root};
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts), .payload = payload, .flags = flags, .restart = K3SUP_RESTART_NONE};
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	k3sup_doc *doc;
	int r;

	assert_int_equal(k3sup_node_new(s->ctx, &node_opts, &node), 0);
	assert_int_equal(k3sup_upgrade(node, &opts, &op), 0);
	r = k3sup_op_wait(op, -1);
	doc = k3sup_doc_ref(k3sup_op_result(op));
	if (r != status)
		fail_msg("%s, not %s: %s", k3sup_error_name(r), k3sup_error_name(status), k3sup_doc_json(doc));
	if (status < 0) { /* the sentence is of the very refusal */
		const char *text = NULL;

		assert_int_equal(k3sup_doc_str(k3sup_op_error(op), "/message", &text), 0);
		assert_string_not_equal(text, k3sup_strerror(status));
	}
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	return doc;
}

static void assert_decision(k3sup_doc *doc, const char *name, const char *expected)
{
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/checks"); i++) {
		_free_ char *at_name = k3sup__fmt("/checks/%lld/name", (long long)i), *at = k3sup__fmt("/checks/%lld/decision", (long long)i);
		const char *found = NULL, *decision = NULL;

		assert_int_equal(k3sup_doc_str(doc, at_name, &found), 0);
		assert_int_equal(k3sup_doc_str(doc, at, &decision), 0);
		if (!k3sup__streq(found, name))
			continue;
		assert_string_equal(decision, expected);
		return;
	}
	fail_msg("no check %s: %s", name, k3sup_doc_json(doc));
}

static void it_touches_nothing_and_the_upgrade_decides_alike(void **state)
{
	static const struct {
		const char *installed, *payload, *check;
		uint32_t flag;
		int code;
	} table[] = {
		{"v1.30.4+k3s1", "v1.30.5+k3s1", "downgrade", 0, 0},
		{"v1.30.4+k3s1", "v1.30.3+k3s1", "downgrade", K3SUP_UPGRADE_ALLOW_DOWNGRADE, K3SUP_E_POLICY_DOWNGRADE},
		{"v1.30.4+k3s2", "v1.30.4+k3s1", "packaging", K3SUP_UPGRADE_ALLOW_DOWNGRADE, K3SUP_E_POLICY_PACKAGING},
		{"v1.30.4+k3s1", "v1.32.0+k3s1", "skip-minor", K3SUP_UPGRADE_ALLOW_SKIP_MINOR, K3SUP_E_POLICY_SKIP_MINOR},
	};
	struct scratch *s = *state;
	k3sup_doc *done;

	if (!k3sup__build_runs_here("amd64"))
		skip();
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		k3sup_doc *doc;

		put_node(s, table[i].installed, table[i].payload);
		doc = run(s, K3SUP_UPGRADE_CHECK, table[i].code);
		assert_decision(doc, table[i].check, table[i].code ? "refuse" : "pass");
		assert_decision(doc, "data-dir-space", "pass");
		k3sup_doc_unref(doc);
		k3sup_doc_unref(run(s, K3SUP_UPGRADE_CHECK | table[i].flag, 0));
		assert_int_equal(stat_at(s->fd, "node/var/lib/k3sup").st_nlink, 0);
		assert_int_equal(stat_at(s->fd, "node/" K3S).st_nlink, 1);
	}
	/* The last one, for good. */
	k3sup_doc_unref(run(s, 0, K3SUP_E_POLICY_SKIP_MINOR));
	assert_int_equal(stat_at(s->fd, "node/" K3S ".k3sup-backup").st_nlink, 0);
	k3sup_doc_unref(run(s, K3SUP_UPGRADE_ALLOW_SKIP_MINOR, 1));
	assert_content(s->fd, "node/var/lib/k3sup/floor", "v1.32.0+k3s1\n");
	/* Nothing is asked where nothing is written. */
	done = run(s, K3SUP_UPGRADE_CHECK, 0);
	assert_decision(done, "already-so", "pass");
	assert_decision(done, "failed-before", "pass");
	assert_decision(done, "state-dir", "pass");
	assert_decision(done, "lock", "pass");
	assert_decision(done, "journal", "pass");
	assert_int_equal(k3sup_doc_len(done, "/checks"), 5);
	k3sup_doc_unref(done);
}

static void a_lost_floor_is_caught_up_with(void **state)
{
	struct scratch *s = *state;

	if (!k3sup__build_runs_here("amd64"))
		skip();
	put_node(s, "v1.30.4+k3s1", "v1.30.5+k3s1");
	k3sup_doc_unref(run(s, 0, 1));
	assert_int_equal(unlinkat(s->fd, "node/var/lib/k3sup/floor", 0), 0); /* as a cut leaves it */
	put_file(s->fd, "node/var/lib/k3sup/.floor.k3sup-tmp-01234567", "v1", 0600);
	k3sup_doc_unref(run(s, 0, 0));
	assert_content(s->fd, "node/var/lib/k3sup/floor", "v1.30.5+k3s1\n");
	assert_int_equal(stat_at(s->fd, "node/var/lib/k3sup/.floor.k3sup-tmp-01234567").st_nlink, 0);
	/* Torn, and somebody offers what is genuine and old. */
	put_file(s->fd, "node/" K3S, "torn", 0755);
	put_k3s(s, "payload", "v1.30.4+k3s1", ELF_HASH);
	k3sup_doc_unref(run(s, 0, K3SUP_E_POLICY_FLOOR));
	k3sup_doc_unref(run(s, K3SUP_UPGRADE_ALLOW_DOWNGRADE, 1));
	assert_content(s->fd, "node/var/lib/k3sup/floor", "v1.30.4+k3s1\n");
}

static void a_missing_file_is_refused_as_by_the_upgrade(void **state)
{
	struct scratch *s = *state;

	if (!k3sup__build_runs_here("amd64"))
		skip();
	put_node(s, "v1.30.4+k3s1", "v1.30.5+k3s1");
	assert_int_equal(unlinkat(s->fd, "node/" K3S, 0), 0);
	k3sup_doc_unref(run(s, K3SUP_UPGRADE_CHECK, K3SUP_E_TARGET_MISSING));
	k3sup_doc_unref(run(s, 0, K3SUP_E_TARGET_MISSING));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(it_touches_nothing_and_the_upgrade_decides_alike),
		scratch_test(a_lost_floor_is_caught_up_with),
		scratch_test(a_missing_file_is_refused_as_by_the_upgrade),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
