/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going back to the backup, and the number of backups. The backup is believed for what was recorded of it, and for nothing else where something was.
 */
#include "../rooms.h"

#include "swap/backup.h"

#define SECOND BACKUP "-2"
#define THIRD BACKUP "-3"
#define JOURNAL "/var/lib/k3sup/journal"
#define FLOOR "var/lib/k3sup/floor"

static k3sup_op *run(k3sup_op *op, int expected)
{
	assert_status(op, expected);
	return op;
}

static k3sup_op *swap_to(struct scratch *s, uint32_t keep, int expected)
{
	_free_ char *payload = below(s, PAYLOAD);
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_SWAP_ALLOW_DOWNGRADE, .payload = payload, .keep_backups = keep};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap(node, &opts, &op), 0);
	k3sup_node_unref(node);
	return run(op, expected);
}

static k3sup_op *go_back(struct scratch *s, const char *sha256, const char *version, int expected)
{
	struct k3sup_swap_rollback_opts opts = {.struct_size = sizeof(opts), .sha256 = sha256, .expect_version = version};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap_rollback(node, &opts, &op), 0);
	k3sup_node_unref(node);
	return run(op, expected);
}

static k3sup_op *list(struct scratch *s, uint32_t keep, int expected)
{
	struct k3sup_swap_backups_opts opts = {.struct_size = sizeof(opts), .keep = keep};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap_backups(node, &opts, &op), 0);
	k3sup_node_unref(node);
	return run(op, expected);
}

/* The payload becomes this build, of this length: what is appended tells one build from another of the same version. */
static void put_payload(struct scratch *s, int build, const char *tail)
{
	put_wrapper(s, PAYLOAD, build);
	append_to(s, PAYLOAD, tail);
}

/* Build 1 was installed, build 2 is. */
static void put_upgraded(struct scratch *s)
{
	put_wrapper(s, INSTALLED, 1);
	put_wrapper(s, PAYLOAD, 2);
	k3sup_op_unref(swap_to(s, 0, 1));
	assert_true(is_content(s, INSTALLED, 2) && is_content(s, BACKUP, 1));
}

static void remove_below(struct scratch *s, const char *path)
{
	assert_int_equal(unlinkat(s->fd, path + 1, 0), 0);
}

static bool warned(k3sup_op *op, const char *part)
{
	for (int64_t i = 0; i < k3sup_doc_len(k3sup_op_result(op), "/warnings"); i++) {
		_free_ char *path = k3sup__fmt("/warnings/%lld", (long long)i);

		if (strstr(result_text(op, path), part))
			return true;
	}
	return false;
}

/* ---- going back ---- */

static void the_installed_file_becomes_the_backup_again(void **state)
{
	struct scratch *s = *state;
	struct stat backup;
	k3sup_op *op;

	put_wrapper(s, INSTALLED, 1);
	put_wrapper(s, PAYLOAD, 2);
	assert_int_equal(fchmodat(s->fd, "usr/local/bin/k3s", 0750, 0), 0);
	k3sup_op_unref(swap_to(s, 0, 1));
	backup = stat_below(s, BACKUP);
	assert_content(s->fd, FLOOR, V2 "\n");
	op = go_back(s, NULL, NULL, 1);
	assert_true(is_content(s, INSTALLED, 1) && is_content(s, BACKUP, 1));
	assert_content(s->fd, FLOOR, V1 "\n");
	assert_int_equal(count_beside(s, INSTALLED), 2);
	assert_int_equal(stat_below(s, BACKUP).st_ino, backup.st_ino);
	assert_int_not_equal(stat_below(s, INSTALLED).st_ino, backup.st_ino);
	assert_int_equal(stat_below(s, INSTALLED).st_mode, backup.st_mode);
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_string_equal(result_text(op, "/installed/version"), V1);
	assert_string_equal(result_text(op, "/wanted/path"), BACKUP);
	assert_string_equal(result_text(op, "/backup/path"), BACKUP);
	assert_string_equal(result_text(op, "/backup/sha256"), result_text(op, "/installed/sha256"));
	assert_string_equal(result_text(op, "/authenticated"), "digest");
	assert_int_equal(result_number(op, "/authentication/recorded"), 1);
	k3sup_op_unref(op);
	backup = stat_below(s, INSTALLED);
	op = go_back(s, NULL, NULL, 0);
	assert_int_equal(result_number(op, "/changed"), 0);
	k3sup_op_unref(op);
	assert_int_equal(stat_below(s, INSTALLED).st_ino, backup.st_ino);
	/* And forward: the floor is not in the way of what it was made by. One that was cut off, or that nobody can read, is caught up with. */
	k3sup_op_unref(swap_to(s, 0, 1));
	k3sup_op_unref(go_back(s, NULL, NULL, 1));
	put_file(s->fd, FLOOR, V2 "\n", 0600);
	k3sup_op_unref(go_back(s, NULL, NULL, 0));
	assert_content(s->fd, FLOOR, V1 "\n");
	put_file(s->fd, FLOOR, "garbage", 0600);
	k3sup_op_unref(go_back(s, NULL, NULL, 0));
	assert_content(s->fd, FLOOR, V1 "\n");
	/* What cannot be written is said; the file is back. */
	k3sup_op_unref(swap_to(s, 0, 1));
	remove_below(s, "/" FLOOR);
	assert_int_equal(mkdirat(s->fd, FLOOR, 0700), 0);
	op = go_back(s, NULL, NULL, K3SUP_E_TARGET_NOT_FILE);
	assert_says(op, "floor");
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 1));
}

static void what_is_not_what_was_kept_is_not_installed(void **state)
{
	struct scratch *s = *state;
	_free_ char *path = below(s, BACKUP);
	k3sup_op *op;

	put_upgraded(s);
	append_to(s, BACKUP, "rotten");
	op = go_back(s, NULL, NULL, K3SUP_E_BACKUP_DAMAGED);
	assert_says(op, BACKUP);
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 2));
	assert_int_equal(count_beside(s, INSTALLED), 2);
	assert_int_equal(truncate(path, 100), 0);
	k3sup_op_unref(go_back(s, NULL, NULL, K3SUP_E_PAYLOAD_TRUNCATED));
	remove_below(s, BACKUP);
	k3sup_op_unref(go_back(s, NULL, NULL, K3SUP_E_BACKUP_MISSING));
	assert_int_equal(symlinkat("/payload/k3s", s->fd, &BACKUP[1]), 0);
	k3sup_op_unref(go_back(s, NULL, NULL, K3SUP_E_BACKUP_MISSING));
	assert_true(is_content(s, INSTALLED, 2));
}

/* Whoever knows better may say so; what is said counts, and nothing else. */
static void a_digest_that_is_given_counts(void **state)
{
	static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
	struct scratch *s = *state;
	char given[K3SUP__SHA256_HEX];
	k3sup_op *op;

	put_upgraded(s);
	k3sup_op_unref(go_back(s, zeros, NULL, K3SUP_E_DIGEST_MISMATCH));
	append_to(s, BACKUP, "known to be right");
	op = list(s, 0, 0);
	assert_int_equal(result_number(op, "/backups/0/verified"), 0);
	(void)strcpy(given, result_text(op, "/backups/0/sha256"));
	k3sup_op_unref(op);
	k3sup_op_unref(go_back(s, given, V2, K3SUP_E_VERSION_MISMATCH));
	assert_true(is_content(s, INSTALLED, 2));
	op = go_back(s, given, V1, 1);
	assert_string_equal(result_text(op, "/authenticated"), "digest");
	assert_string_equal(result_text(op, "/installed/sha256"), given);
	k3sup_op_unref(op);
}

static void without_a_record_it_must_at_least_be_a_whole_k3s(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_upgraded(s);
	remove_below(s, JOURNAL);
	put_file(s->fd, &BACKUP[1], "#!/bin/sh\n", 0755);
	k3sup_op_unref(go_back(s, NULL, NULL, K3SUP_E_PAYLOAD_NOT_K3S));
	put_wrapper(s, BACKUP, 1);
	assert_int_equal(fchmodat(s->fd, &BACKUP[1], 0777, 0), 0);
	k3sup_op_unref(go_back(s, NULL, NULL, K3SUP_E_UNTRUSTED));
	assert_int_equal(fchmodat(s->fd, &BACKUP[1], 0755, 0), 0);
	assert_true(is_content(s, INSTALLED, 2));
	op = go_back(s, NULL, NULL, 1);
	assert_true(warned(op, "nothing is recorded"));
	assert_string_equal(result_text(op, "/authenticated"), "none");
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 1));
	k3sup_op_unref(go_back(s, NULL, NULL, 0));
}

/* A swap that was cut before its rename changed nothing: what it wanted to keep is installed, and stays. */
static void a_swap_that_was_cut_is_taken_back(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_upgraded(s);
	remove_below(s, INSTALLED);
	assert_int_equal(linkat(s->fd, &BACKUP[1], s->fd, &INSTALLED[1], 0), 0);
	put_file(s->fd, "usr/local/bin/.k3s.k3sup-tmp-0123abcd", "half", 0600);
	op = list(s, 0, 0);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/backups"), 0);
	assert_string_equal(result_text(op, "/leftovers/0"), ".k3s.k3sup-tmp-0123abcd");
	k3sup_op_unref(op);
	k3sup_op_unref(go_back(s, NULL, NULL, 1));
	assert_true(is_content(s, INSTALLED, 1));
	assert_int_equal(count_beside(s, INSTALLED), 1);
	k3sup_op_unref(go_back(s, NULL, NULL, 0));
}

static void replace_installed(struct scratch *s)
{
	put_wrapper(s, "/usr/local/bin/theirs", 1);
	append_to(s, "/usr/local/bin/theirs", "theirs");
	assert_int_equal(renameat(s->fd, "usr/local/bin/theirs", s->fd, "usr/local/bin/k3s"), 0);
}

static int32_t on_progress(const struct k3sup_progress *progress, void *userdata)
{
	if (k3sup__streq(progress->step, "verify"))
		replace_installed(userdata);
	return 0;
}

static void what_somebody_else_installs_meanwhile_stays(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;
	off_t size;

	put_upgraded(s);
	assert_int_equal(k3sup_swap_rollback(node, NULL, &op), 0);
	assert_int_equal(k3sup_op_set_progress(op, on_progress, s), 0);
	assert_status(op, K3SUP_E_TARGET_CHANGED);
	k3sup_op_unref(op);
	size = stat_below(s, INSTALLED).st_size;
	assert_int_not_equal(size, stat_below(s, BACKUP).st_size);
	assert_true(is_content(s, BACKUP, 1));
	assert_int_equal(count_beside(s, INSTALLED), 2);
	k3sup_node_unref(node);
}

/* ---- the number of them ---- */

static void so_many_are_kept_as_the_caller_says(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_wrapper(s, INSTALLED, 1);
	for (int i = 0; i < 4; i++) {
		static const char *const tails[] = {"a", "bb", "ccc", "dddd"};

		put_payload(s, 2, tails[i]);
		k3sup_op_unref(swap_to(s, 3, 1));
	}
	assert_int_equal(count_beside(s, INSTALLED), 4);
	assert_true(stat_below(s, BACKUP).st_size > stat_below(s, SECOND).st_size);
	assert_true(stat_below(s, SECOND).st_size > stat_below(s, THIRD).st_size);
	op = list(s, 0, 0);
	assert_string_equal(result_text(op, "/backups/0/path"), BACKUP);
	assert_string_equal(result_text(op, "/backups/1/path"), SECOND);
	assert_string_equal(result_text(op, "/backups/2/path"), THIRD);
	assert_string_equal(result_text(op, "/backups/2/mode"), "0755");
	assert_int_equal(result_number(op, "/backups/2/verified"), 1);
	assert_int_equal(result_number(op, "/backups/2/ours"), 1);
	assert_true(result_number(op, "/backups/2/at") > 1000000000);
	k3sup_op_unref(op);
	k3sup_op_unref(list(s, 3, 0));
	op = list(s, 2, 1);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/backups"), 2);
	k3sup_op_unref(op);
	put_payload(s, 2, "eeeee");
	k3sup_op_unref(swap_to(s, 0, 1));
	assert_int_equal(count_beside(s, INSTALLED), 2);
	k3sup_op_unref(list(s, 1, 0));
}

static void only_what_is_ours_for_sure_is_removed(void **state)
{
	struct scratch *s = *state;

	put_upgraded(s);
	put_wrapper(s, SECOND, 2);
	append_to(s, SECOND, "somebody's");
	put_wrapper(s, BACKUP "-02", 1);
	put_wrapper(s, BACKUP "-1", 1);
	put_wrapper(s, BACKUP "-x", 1);
	put_wrapper(s, THIRD, 1);
	assert_int_equal(fchmodat(s->fd, &THIRD[1], 0777, 0), 0);
	k3sup_op_unref(list(s, 1, 0));
	assert_int_equal(count_beside(s, INSTALLED), 7);
	assert_int_equal(fchmodat(s->fd, &THIRD[1], 0755, 0), 0);
	k3sup_op_unref(list(s, 1, 1)); /* its bytes are those that were kept */
	assert_int_equal(count_beside(s, INSTALLED), 6);
	assert_int_equal(stat_below(s, THIRD).st_ino, 0);
}

/* Cut between two of its renames a name is free; the next run does not move what is beyond. */
static void a_gap_is_filled_first(void **state)
{
	struct scratch *s = *state;

	put_upgraded(s);
	assert_int_equal(renameat(s->fd, &BACKUP[1], s->fd, &SECOND[1]), 0);
	put_payload(s, 2, "more");
	k3sup_op_unref(swap_to(s, 2, 1));
	assert_true(is_content(s, SECOND, 1));
	assert_true(is_content(s, BACKUP, 2));
	assert_int_equal(count_beside(s, INSTALLED), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_installed_file_becomes_the_backup_again),
		scratch_test(what_is_not_what_was_kept_is_not_installed),
		scratch_test(a_digest_that_is_given_counts),
		scratch_test(without_a_record_it_must_at_least_be_a_whole_k3s),
		scratch_test(a_swap_that_was_cut_is_taken_back),
		scratch_test(what_somebody_else_installs_meanwhile_stays),
		scratch_test(so_many_are_kept_as_the_caller_says),
		scratch_test(only_what_is_ours_for_sure_is_removed),
		scratch_test(a_gap_is_filled_first),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
