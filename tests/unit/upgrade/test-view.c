/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a look at a node comes to: the state from crafted facts, and the facts from crafted nodes.
 */
#include "../rooms.h"

#include "base/journal.h"
#include "base/lock.h"
#include "upgrade/view.h"

/* ---- the state: which fact outranks which ---- */

#define NONE -1 /* no installed file */

static void facts_make_the_state_in_this_order(void **state)
{
	static struct k3sup__candidate two[2];
	k3sup__json *holder = k3sup__json_object();
	const struct {
		const char *state;
		struct k3sup__view view;
	} all[] = {
		{"absent", {.installed.fd = NONE, .installed_error = K3SUP_E_TARGET_MISSING, .running_error = K3SUP_E_NO_K3S}},
		{"absent", {.installed.fd = NONE, .installed_error = K3SUP_E_TARGET_DANGLING, .running_error = K3SUP_E_NO_K3S, .same = 0}},
		/* ambiguous: of files or of processes, whatever else is true */
		{"ambiguous", {.installed.fd = NONE, .installed_error = K3SUP_E_TARGET_AMBIGUOUS, .running_error = K3SUP_E_NO_K3S}},
		{"ambiguous", {.running_error = K3SUP_E_AMBIGUOUS, .sighting.count = 2, .leftovers = 1, .pending = true, .same = 0}},
		{"ambiguous", {.installed.fd = NONE, .running_error = K3SUP_E_AMBIGUOUS, .sighting.count = 2}},
		/* interrupted: but not while somebody is at work */
		{"interrupted", {.leftovers = 1, .running_error = K3SUP_E_NO_K3S, .same = -1}},
		{"interrupted", {.leftovers = 2, .sighting.count = 1, .unpacking = true, .pending = true, .same = 0}},
		{"not-running", {.leftovers = 1, .holder = holder, .running_error = K3SUP_E_NO_K3S}},
		{"current", {.leftovers = 1, .holder = holder, .sighting.count = 1, .same = 1}},
		{"interrupted", {.leftovers = 1, .rotation = holder, .running_error = K3SUP_E_NO_K3S}},
		{"rotation-pending", {.rotation = holder, .running_error = K3SUP_E_NO_K3S}},
		{"rotation-pending", {.rotation = holder, .sighting.count = 1, .pending = true, .same = 0}},
		{"current", {.rotation = holder, .holder = holder, .sighting.count = 1, .same = 1}},
		{"not-running", {.running_error = K3SUP_E_NO_K3S, .same = 0}},
		{"not-running", {.running_error = K3SUP_E_NO_K3S, .same = 1}},
		{"starting", {.sighting.count = 1, .unpacking = true, .pending = true, .same = 0}},
		{"starting", {.installed.fd = NONE, .sighting.count = 1, .unpacking = true}},
		{"degraded", {.installed.fd = NONE, .installed_error = K3SUP_E_TARGET_MISSING, .sighting.count = 1, .same = 0}},
		{"restart-pending", {.sighting.count = 1, .pending = true, .same = 0}},
		{"restart-pending", {.sighting.count = 2, .pending = true, .same = 1}},
		{"outdated", {.sighting.count = 1, .same = 0}},
		{"current", {.sighting.count = 1, .same = 1}},
		{"current", {.sighting.count = 2, .same = -1, .open_entry = holder}},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		struct k3sup__view view = all[i].view;

		view.sighting.candidates = two;
		if (!k3sup__streq(k3sup__view_state(&view), all[i].state))
			fail_msg("case %zu: %s, not %s", i, k3sup__view_state(&view), all[i].state);
	}
	k3sup__json_unref(holder);
}

/* ---- the facts ---- */

static struct k3sup__view take(struct scratch *s, k3sup_node *node, const char *payload)
{
	struct k3sup__payload p = K3SUP__PAYLOAD_NONE;
	struct k3sup__source source = {.fd = -1};
	struct k3sup__view v;

	source.path = payload ? below(s, payload) : NULL;
	if (payload)
		assert_int_equal(k3sup__payload_load(s->op, node, &source, &p), 0);
	assert_int_equal(k3sup__view_take(s->op, node, payload ? &p : NULL, &v), 0);
	k3sup__payload_clear(&p);
	k3sup__source_clear(&source);
	return v;
}

static size_t warnings(struct scratch *s)
{
	return k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "warnings"));
}

static bool is_flagged(struct scratch *s, const char *flag)
{
	const k3sup__json *flags = k3sup__json_member(k3sup__op_facts(s->op), "flags");

	for (size_t i = 0; i < k3sup__json_len(flags); i++)
		if (k3sup__streq(k3sup__json_as_str(k3sup__json_element(flags, i)), flag))
			return true;
	return false;
}

static void a_file_is_compared_with_the_payload(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__view v;

	put_wrapper(s, PAYLOAD, 2);
	v = take(s, node, PAYLOAD);
	assert_int_equal(v.same, 0);
	assert_int_equal(v.installed_error, K3SUP_E_TARGET_MISSING);
	k3sup__view_clear(&v);
	put_wrapper(s, INSTALLED, 1);
	v = take(s, node, PAYLOAD);
	assert_int_equal(v.same, 0);
	assert_int_equal(v.running_error, K3SUP_E_NO_K3S);
	assert_string_equal(v.build.version, V1);
	k3sup__view_clear(&v);
	put_wrapper(s, INSTALLED, 2);
	v = take(s, node, PAYLOAD);
	assert_int_equal(v.same, 1);
	k3sup__view_clear(&v);
	v = take(s, node, NULL);
	assert_int_equal(v.same, -1);
	k3sup__view_clear(&v);
	k3sup__view_clear(&v); /* twice is fine */
	k3sup_node_unref(node);
}

/* A directory of ours that cannot be read, or is not ours alone, is no reason to say nothing about k3s. */
static void without_the_journal_the_rest_is_seen(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__view v;

	put_wrapper(s, INSTALLED, 1);
	v = take(s, node, NULL);
	assert_int_equal(warnings(s), 0); /* none is normal */
	k3sup__view_clear(&v);
	assert_int_equal(mkdirat(s->fd, "var", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "var/lib", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "var/lib/k3sup", 0755), 0);
	v = take(s, node, NULL);
	assert_string_equal(k3sup__view_state(&v), "not-running");
	assert_int_equal(warnings(s), 2); /* journal and lock */
	k3sup__view_clear(&v);
	v = take(s, node, NULL);
	assert_int_equal(warnings(s), 2); /* said once */
	k3sup__view_clear(&v);
	k3sup_node_unref(node);
}

/* To somebody who is not root it is the same: what can be seen is said. */
static void a_state_without_rights_is_a_state_with_a_warning(void **state)
{
	struct scratch *s = *state;
	int status;
	pid_t pid;

	put_wrapper(s, INSTALLED, 1);
	assert_int_equal(fchmod(s->fd, 0755), 0);
	assert_int_equal(mkdirat(s->fd, "var", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "var/lib", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "var/lib/k3sup", 0700), 0);
	pid = fork();
	if (pid == 0) {
		k3sup_ctx *ctx = NULL;
		k3sup_node *node;
		k3sup_op *op = NULL;

		if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		if (k3sup_ctx_new(NULL, &ctx) < 0)
			_exit(3);
		node = open_node(ctx, s->path, NULL);
		if (k3sup_state(node, NULL, &op) < 0 || k3sup_op_wait(op, LONG) != 0)
			_exit(4);
		if (!k3sup__streq(result_text(op, "/state"), "not-running") || !strstr(result_text(op, "/warnings/0"), "journal"))
			_exit(5);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void the_holder_of_the_lock_is_named_and_its_temps_are_no_traces(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL), *other = open_node(s->ctx, s->path, NULL);
	struct k3sup__view v;

	put_wrapper(s, INSTALLED, 1);
	put_file(s->fd, "usr/local/bin/.k3s.k3sup-tmp-0123abcd", "half", 0600);
	v = take(s, node, NULL);
	assert_string_equal(k3sup__view_state(&v), "interrupted");
	k3sup__view_report(s->op, node, &v);
	assert_true(is_flagged(s, "leftovers") && !is_flagged(s, "busy"));
	k3sup__view_clear(&v);
	assert_int_equal(k3sup_node_lock(other), 1);
	v = take(s, node, NULL);
	assert_string_equal(k3sup__view_state(&v), "not-running");
	k3sup__view_report(s->op, node, &v);
	assert_true(is_flagged(s, "busy"));
	assert_int_equal(k3sup__json_number(k3sup__json_member(k3sup__op_facts(s->op), "lock"), "pid", 0), getpid());
	k3sup__view_clear(&v);
	v = take(s, other, NULL); /* to itself it is not "another run" */
	assert_null(v.holder);
	k3sup__view_clear(&v);
	k3sup_node_unref(node);
	k3sup_node_unref(other);
}

static void what_runs_is_told_from_what_is_installed(void **state)
{
	struct scratch *s = *state;
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	const k3sup__json *running;
	struct k3sup__view v;

	put_node(s);
	unit_start(s, &u);
	v = take(s, node, NULL);
	assert_string_equal(k3sup__view_state(&v), "current");
	k3sup__view_report(s->op, node, &v);
	running = k3sup__json_member(k3sup__op_facts(s->op), "running");
	assert_string_equal(k3sup__json_text(running, "version"), V1);
	assert_string_equal(k3sup__json_text(running, "asset_hash"), HASH1);
	assert_null(k3sup__json_member(running, "title"));
	assert_null(k3sup__json_member(running, "args"));
	assert_true(k3sup__json_is_null(k3sup__json_member(k3sup__op_facts(s->op), "backup")));
	k3sup__view_clear(&v);
	put_wrapper(s, INSTALLED, 2);
	v = take(s, node, PAYLOAD);
	assert_string_equal(k3sup__view_state(&v), "restart-pending");
	k3sup__view_report(s->op, node, &v);
	assert_true(is_flagged(s, "restart-pending") && !is_flagged(s, "outdated"));
	k3sup__view_clear(&v);
	assert_int_equal(unlinkat(s->fd, "usr/local/bin/k3s", 0), 0);
	v = take(s, node, PAYLOAD);
	assert_string_equal(k3sup__view_state(&v), "degraded");
	k3sup__view_report(s->op, node, &v);
	assert_string_equal(k3sup__json_text(k3sup__json_member(k3sup__op_facts(s->op), "evidence"), "installed_error"), "K3SUP_E_TARGET_MISSING");
	k3sup__view_clear(&v);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void put_entry(struct scratch *s, k3sup_node *node, const char *target)
{
	k3sup__json *record = k3sup__json_object();
	int dirfd = -1;

	assert_int_equal(k3sup__state_dir_open(s->op, &node->root, node->state_dir, true, node->trust_flags, &dirfd), 0);
	k3sup__json_set_str(record, "op", "0123");
	k3sup__json_set_str(record, "event", "open");
	k3sup__json_set_str(record, "verb", "upgrade");
	k3sup__json_set_str(record, "target", target);
	assert_int_equal(k3sup__journal_append(s->op, dirfd, record), 0);
	close(dirfd);
}

static void of_several_files_the_one_that_runs_or_was_begun_with_counts(void **state)
{
	struct scratch *s = *state;
	struct unit u = {.file = "/usr/bin/k3s"};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__view v;

	put_node(s);
	put_wrapper(s, "/usr/bin/k3s", 2);
	v = take(s, node, NULL);
	assert_string_equal(k3sup__view_state(&v), "ambiguous");
	k3sup__view_report(s->op, node, &v);
	assert_int_equal(k3sup__json_len(k3sup__json_pointer(k3sup__op_facts(s->op), "/evidence/installed")), 2);
	k3sup__view_clear(&v);
	unit_start(s, &u);
	v = take(s, node, NULL);
	assert_string_equal(v.installed.path, "/usr/bin/k3s");
	assert_string_equal(k3sup__view_state(&v), "current");
	k3sup__view_clear(&v);
	unit_stop(&u);
	put_entry(s, node, "/nowhere/k3s");
	v = take(s, node, NULL);
	assert_string_equal(k3sup__view_state(&v), "ambiguous");
	k3sup__view_clear(&v);
	put_entry(s, node, INSTALLED);
	v = take(s, node, NULL);
	assert_string_equal(v.installed.path, INSTALLED);
	assert_non_null(v.open_entry);
	k3sup__view_clear(&v);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(facts_make_the_state_in_this_order),
		scratch_test(a_file_is_compared_with_the_payload),
		scratch_test(without_the_journal_the_rest_is_seen),
		scratch_test(a_state_without_rights_is_a_state_with_a_warning),
		scratch_test(the_holder_of_the_lock_is_named_and_its_temps_are_no_traces),
		scratch_test(what_runs_is_told_from_what_is_installed),
		scratch_test(of_several_files_the_one_that_runs_or_was_begun_with_counts),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
