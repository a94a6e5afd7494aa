/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions beside each other, and a link that leads to one of them.
 */
#include "../rooms.h"

#include "swap/backup.h"

#define DIR "/usr/local/bin/"
#define FILE1 DIR "k3s-" V1
#define FILE2 DIR "k3s-" V2

static k3sup_op *run(k3sup_op *op, int expected)
{
	assert_status(op, expected);
	return op;
}

static k3sup_op *swap_to(struct scratch *s, k3sup_progress_fn progress, int expected)
{
	_free_ char *payload = below(s, PAYLOAD);
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_SWAP_ALLOW_DOWNGRADE, .payload = payload};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap(node, &opts, &op), 0);
	assert_int_equal(k3sup_op_set_progress(op, progress, s), 0);
	k3sup_node_unref(node);
	return run(op, expected);
}

static k3sup_op *go_back(struct scratch *s, const char *version, int expected)
{
	struct k3sup_swap_rollback_opts opts = {.struct_size = sizeof(opts), .expect_version = version};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap_rollback(node, &opts, &op), 0);
	k3sup_node_unref(node);
	return run(op, expected);
}

static void put_link(struct scratch *s, const char *text, const char *path)
{
	_free_ char *whole = below(s, path);

	*strrchr(whole, '/') = '\0';
	make_dirs(whole);
	assert_int_equal(symlinkat(text, s->fd, path + 1), 0);
}

static char *link_of(struct scratch *s, const char *path)
{
	static char text[200];
	ssize_t n = readlinkat(s->fd, path + 1, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* k3s -> k3s-V1, and V2 as the payload. */
static void put_versions(struct scratch *s)
{
	put_wrapper(s, FILE1, 1);
	put_wrapper(s, PAYLOAD, 2);
	put_link(s, "k3s-" V1, INSTALLED);
}

static void the_new_version_lies_beside_and_the_link_changes(void **state)
{
	struct scratch *s = *state;
	struct stat old, link;
	k3sup_op *op;

	put_versions(s);
	assert_int_equal(fchmodat(s->fd, &FILE1[1], 0750, 0), 0);
	old = stat_below(s, FILE1);
	op = swap_to(s, NULL, 1);
	assert_string_equal(result_text(op, "/installed/path"), FILE2);
	assert_string_equal(result_text(op, "/backup/path"), FILE1);
	k3sup_op_unref(op);
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V2);
	assert_true(is_content(s, FILE2, 2) && is_content(s, FILE1, 1));
	assert_int_equal(stat_below(s, FILE1).st_ino, old.st_ino);
	assert_int_equal(stat_below(s, FILE1).st_nlink, 1);
	assert_int_equal(stat_below(s, FILE2).st_mode, old.st_mode);
	assert_int_equal(count_beside(s, INSTALLED), 3);
	link = stat_below(s, INSTALLED);
	k3sup_op_unref(swap_to(s, NULL, 0));
	assert_int_equal(stat_below(s, INSTALLED).st_ino, link.st_ino);

	op = go_back(s, NULL, 1);
	assert_string_equal(result_text(op, "/installed/path"), FILE1);
	assert_int_equal(result_number(op, "/authentication/recorded"), 1);
	k3sup_op_unref(op);
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	assert_int_equal(stat_below(s, FILE1).st_ino, old.st_ino);
	assert_int_equal(count_beside(s, INSTALLED), 3);
	k3sup_op_unref(go_back(s, NULL, 0));
	old = stat_below(s, FILE2);
	k3sup_op_unref(swap_to(s, NULL, 1)); /* it is still there */
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V2);
	assert_int_equal(stat_below(s, FILE2).st_ino, old.st_ino);
}

/* Whatever the link says, it says the same of the new file. */
static void the_form_of_the_link_stays(void **state)
{
	static const struct {
		const char *link, *text, *file, *then, *made;
	} all[] = {
		{INSTALLED, "/opt/k3s/k3s-" V1, "/opt/k3s/k3s-" V1, "/opt/k3s/k3s-" V2, "/opt/k3s/k3s-" V2},
		{INSTALLED, "../../../opt/k3s/" V1, "/opt/k3s/" V1, "../../../opt/k3s/" V2, "/opt/k3s/" V2},
		{INSTALLED, "k3s-v1.30.4-k3s1", DIR "k3s-v1.30.4-k3s1", "k3s-v1.30.5-k3s1", DIR "k3s-v1.30.5-k3s1"},
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		put_wrapper(s, all[i].file, 1);
		put_wrapper(s, PAYLOAD, 2);
		put_link(s, all[i].text, all[i].link);
		k3sup_op_unref(swap_to(s, NULL, 1));
		assert_string_equal(link_of(s, all[i].link), all[i].then);
		assert_true(is_content(s, all[i].made, 2) && is_content(s, all[i].file, 1));
		k3sup_op_unref(go_back(s, NULL, 1));
		assert_string_equal(link_of(s, all[i].link), all[i].text);
		assert_int_equal(unlinkat(s->fd, all[i].link + 1, 0), 0);
		assert_int_equal(unlinkat(s->fd, all[i].made + 1, 0), 0);
	}
}

/* The last link of a chain is the one; the first one may be anybody's name for it. */
static void the_last_link_changes(void **state)
{
	struct scratch *s = *state;

	put_wrapper(s, "/opt/k3s/k3s-" V1, 1);
	put_wrapper(s, PAYLOAD, 2);
	put_link(s, "k3s-" V1, "/opt/k3s/current");
	put_link(s, "/opt/k3s/current", INSTALLED);
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "/opt/k3s/current");
	assert_string_equal(link_of(s, "/opt/k3s/current"), "k3s-" V2);
	assert_int_equal(count_beside(s, "/opt/k3s/current"), 3);
}

/* No version in the name, the same version, or two links: the file at the end is replaced where it is. */
static void otherwise_the_file_is_replaced(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	put_wrapper(s, PAYLOAD, 1);
	append_to(s, PAYLOAD, "built again");
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	assert_true(is_content(s, FILE1 ".k3sup-backup", 1));
	k3sup_op_unref(go_back(s, NULL, 1));
	assert_true(is_content(s, FILE1, 1));
	assert_int_equal(unlinkat(s->fd, &FILE1[1], 0), 0);
	assert_int_equal(unlinkat(s->fd, FILE1 ".k3sup-backup" + 1, 0), 0);

	put_wrapper(s, FILE1, 1);
	put_wrapper(s, PAYLOAD, 2);
	put_link(s, FILE1, "/usr/bin/k3s");
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	assert_true(is_content(s, FILE1, 2));
}

static void put_unit(struct scratch *s, const char *file)
{
	_free_ char *dir = below(s, "/etc/systemd/system"), *text = k3sup__fmt("[Service]\nExecStart=%s server\n", file);

	make_dirs(dir);
	put_file(s->fd, "etc/systemd/system/k3s.service", text, 0644);
}

/* A service that names the version itself would go on starting it; one that names the link, wherever that is, starts what it leads to. */
static void a_service_may_start_the_file_itself(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	put_unit(s, FILE1);
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	assert_true(is_content(s, FILE1, 2));
	put_wrapper(s, "/opt/k3s/k3s-" V1, 1);
	put_link(s, "k3s-" V1, "/opt/k3s/k3s");
	assert_int_equal(unlinkat(s->fd, &INSTALLED[1], 0), 0);
	put_unit(s, "/opt/k3s/k3s");
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_string_equal(link_of(s, "/opt/k3s/k3s"), "k3s-" V2);
}

/* What has the new version's name and is something else is kept, too. */
static void a_foreign_file_of_that_name_is_kept(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	put_wrapper(s, FILE2, 2);
	append_to(s, FILE2, "torn");
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_true(is_content(s, FILE2, 2) && is_content(s, FILE1, 1));
	assert_int_equal(count_beside(s, INSTALLED), 4);
	assert_int_equal(stat_below(s, FILE2 ".k3sup-backup").st_size, stat_below(s, FILE2).st_size + 4);
	k3sup_op_unref(go_back(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
}

static void versions_that_were_made_here_go_when_they_are_too_many(void **state)
{
	static const char *const versions[] = {"v1.30.6+k3s1", "v1.30.7+k3s1", "v1.30.8+k3s1"};
	struct scratch *s = *state;

	put_versions(s);
	put_wrapper(s, DIR "k3s-v1.30.1+k3s1", 1); /* somebody's */
	k3sup_op_unref(swap_to(s, NULL, 1));
	for (size_t i = 0; i < ELEMENTSOF(versions); i++) {
		_free_ char *tail = k3sup__fmt("embed/%064zu.tar.zst %s ", i, versions[i]);

		fake_install(s->path, PAYLOAD, tail, NULL);
		k3sup_op_unref(swap_to(s, NULL, 1));
	}
	/* The link, what it leads to, the one before; and what others put there: V1, and a much older one. */
	assert_string_equal(link_of(s, INSTALLED), "k3s-v1.30.8+k3s1");
	assert_int_equal(count_beside(s, INSTALLED), 5);
	assert_true(stat_below(s, DIR "k3s-v1.30.7+k3s1").st_ino && stat_below(s, FILE1).st_ino && !stat_below(s, FILE2).st_ino);
	k3sup_op_unref(go_back(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-v1.30.7+k3s1");
	k3sup_op_unref(go_back(s, NULL, 0));
	k3sup_op_unref(go_back(s, V1, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	k3sup_op_unref(go_back(s, V1, 0));
	k3sup_op_unref(go_back(s, NULL, 0));
}

static void a_version_that_was_there_stays_when_it_was_installed_meanwhile(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	k3sup_op_unref(swap_to(s, NULL, 1));
	put_wrapper(s, PAYLOAD, 1);
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	put_wrapper(s, PAYLOAD, 2);
	k3sup_op_unref(swap_to(s, NULL, 1));
	fake_install(s->path, PAYLOAD, "embed/" HASH1 ".tar.zst v1.30.6+k3s1 ", NULL);
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-v1.30.6+k3s1");
	assert_true(stat_below(s, FILE1).st_ino && stat_below(s, FILE2).st_ino);
}

/* What was kept is gone then, and what was made here is what is left; but one goes there once. */
static void a_version_that_was_overwritten_in_its_place(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	k3sup_op_unref(swap_to(s, NULL, 1));
	k3sup_op_unref(go_back(s, NULL, 1));
	fake_install(s->path, FILE1, "embed/" HASH1 ".tar.zst v1.30.9+k3s1 ", NULL);
	k3sup_op_unref(go_back(s, NULL, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V2);
	k3sup_op_unref(go_back(s, NULL, 0));
	k3sup_op_unref(go_back(s, V1, K3SUP_E_VERSION_MISMATCH));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V2);
}

static void without_a_record_the_caller_has_to_choose(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	k3sup_op_unref(go_back(s, NULL, K3SUP_E_BACKUP_MISSING));
	put_wrapper(s, FILE2, 2);
	fake_install(s->path, DIR "k3s-v1.30.1+k3s1", "embed/" HASH1 ".tar.zst v1.30.1+k3s1 ", NULL);
	k3sup_op_unref(go_back(s, NULL, K3SUP_E_BACKUP_MISSING));
	k3sup_op_unref(go_back(s, "v1.30.3+k3s1", K3SUP_E_VERSION_MISMATCH));
	k3sup_op_unref(go_back(s, "v1.30.1-k3s1", 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-v1.30.1+k3s1");
	k3sup_op_unref(go_back(s, NULL, 0));
	k3sup_op_unref(go_back(s, V1, 1));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
}

static int32_t stop_at_swap(const struct k3sup_progress *progress, void *userdata)
{
	(void)userdata;
	return k3sup__streq(progress->step, "swap");
}

static void a_stop_leaves_no_trace(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	k3sup_op_unref(swap_to(s, stop_at_swap, K3SUP_E_CALLBACK));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	assert_int_equal(count_beside(s, INSTALLED), 2);
}

static void what_cut_runs_left_goes(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	assert_int_equal(symlinkat("k3s-" V2, s->fd, "usr/local/bin/.k3s.k3sup-tmp-0123abcd"), 0);
	put_file(s->fd, "usr/local/bin/.k3s.k3sup-tmp-1123abcd", "half", 0600);
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_int_equal(count_beside(s, INSTALLED), 3);
	assert_int_equal(symlinkat("k3s-" V1, s->fd, "usr/local/bin/.k3s.k3sup-tmp-0123abcd"), 0);
	k3sup_op_unref(swap_to(s, NULL, 1));
	assert_int_equal(count_beside(s, INSTALLED), 3);
}

static int32_t replace_link(const struct k3sup_progress *progress, void *userdata)
{
	struct scratch *s = userdata;

	if (k3sup__streq(progress->step, "swap")) {
		assert_int_equal(unlinkat(s->fd, &INSTALLED[1], 0), 0);
		assert_int_equal(symlinkat("k3s-" V1, s->fd, &INSTALLED[1]), 0);
	}
	return 0;
}

static void a_link_that_somebody_else_changes_meanwhile_stays(void **state)
{
	struct scratch *s = *state;

	put_versions(s);
	k3sup_op_unref(swap_to(s, replace_link, K3SUP_E_TARGET_CHANGED));
	assert_string_equal(link_of(s, INSTALLED), "k3s-" V1);
	assert_int_equal(count_beside(s, INSTALLED), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_new_version_lies_beside_and_the_link_changes),
		scratch_test(the_form_of_the_link_stays),
		scratch_test(the_last_link_changes),
		scratch_test(otherwise_the_file_is_replaced),
		scratch_test(a_service_may_start_the_file_itself),
		scratch_test(a_foreign_file_of_that_name_is_kept),
		scratch_test(versions_that_were_made_here_go_when_they_are_too_many),
		scratch_test(a_version_that_was_there_stays_when_it_was_installed_meanwhile),
		scratch_test(a_version_that_was_overwritten_in_its_place),
		scratch_test(without_a_record_the_caller_has_to_choose),
		scratch_test(a_stop_leaves_no_trace),
		scratch_test(what_cut_runs_left_goes),
		scratch_test(a_link_that_somebody_else_changes_meanwhile_stays),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
