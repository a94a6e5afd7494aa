/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on disk after a swap, whatever others do meanwhile. Nothing of it needs a k3s that runs; a mount table of its own is needed for small and read-only file systems.
 */
#include "../rooms.h"

#include "swap/swap.h"

#include <sys/statvfs.h>

/* What a callback does at a step: "stage" comes before the first byte, and again when all are copied; "swap" directly before the backup. */
struct hook {
	const char *step;
	bool when_copied;
	int32_t answer;
	void (*fn)(const struct scratch *s);
	const struct scratch *s;
	unsigned calls;
};

static int32_t on_progress(const struct k3sup_progress *progress, void *userdata)
{
	struct hook *hook = userdata;

	if (!k3sup__streq(progress->step, hook->step) || (hook->when_copied && progress->done != progress->total) ||
		(hook->when_copied && progress->done < 0))
		return 0;
	if (hook->fn && hook->calls == 0)
		hook->fn(hook->s);
	hook->calls++;
	return hook->answer;
}

static k3sup_op *run_swap(struct scratch *s, struct hook *hook, int expected)
{
	_free_ char *payload = below(s, PAYLOAD);
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = payload};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap(node, &opts, &op), 0);
	if (hook) {
		hook->s = s;
		assert_int_equal(k3sup_op_set_progress(op, on_progress, hook), 0);
	}
	assert_status(op, expected);
	assert_string_not_equal(result_text(op, "/authenticated"), "(none)"); /* whatever it ends with */
	if (hook)
		assert_true(hook->calls > 0);
	k3sup_node_unref(node);
	return op;
}

static void put_pair(const struct scratch *s)
{
	put_wrapper(s, INSTALLED, 1);
	put_wrapper(s, PAYLOAD, 2);
}

/* As it was: build 1, one name, nothing beside it. */
static void assert_untouched(const struct scratch *s)
{
	assert_true(is_content(s, INSTALLED, 1));
	assert_int_equal(count_beside(s, INSTALLED), 1);
	assert_int_equal(stat_below(s, INSTALLED).st_nlink, 1);
}

static void the_target_becomes_the_payload_and_the_old_one_is_kept(void **state)
{
	struct scratch *s = *state;
	struct stat old, now;
	k3sup_op *op;

	put_pair(s);
	assert_int_equal(fchmodat(s->fd, "usr/local/bin/k3s", 0750, 0), 0);
	assert_int_equal(fchownat(s->fd, "usr/local/bin/k3s", 0, 12, 0), 0);
	old = stat_below(s, INSTALLED);
	op = run_swap(s, NULL, 1);
	now = stat_below(s, INSTALLED);
	assert_true(is_content(s, INSTALLED, 2) && is_content(s, BACKUP, 1));
	assert_int_equal(stat_below(s, BACKUP).st_ino, old.st_ino);
	assert_int_equal(now.st_mode, old.st_mode);
	assert_int_equal(now.st_gid, old.st_gid);
	assert_int_equal(now.st_nlink, 1);
	assert_int_equal(count_beside(s, INSTALLED), 2);
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_string_equal(result_text(op, "/installed/path"), INSTALLED);
	assert_string_equal(result_text(op, "/installed/version"), V2);
	assert_string_equal(result_text(op, "/backup/path"), BACKUP);
	assert_int_equal(strlen(result_text(op, "/backup/sha256")), 64);
	assert_string_equal(result_text(op, "/wanted/sha256"), result_text(op, "/installed/sha256"));
	assert_string_not_equal(result_text(op, "/wanted/sha256"), result_text(op, "/backup/sha256"));
	k3sup_op_unref(op);
	op = run_swap(s, NULL, 0);
	assert_int_equal(result_number(op, "/changed"), 0);
	assert_int_equal(stat_below(s, INSTALLED).st_ino, now.st_ino);
	k3sup_op_unref(op);
	assert_int_equal(count_beside(s, INSTALLED), 2); /* a backup of another build is none of a cut run's traces */
}

/* Equal in size, and different in a byte at the end only: neither size nor time nor name decides. */
static void same_is_what_has_the_same_bytes(void **state)
{
	struct scratch *s = *state;
	_free_ char *installed = below(s, INSTALLED), *payload = below(s, PAYLOAD);
	k3sup_op *op;

	put_wrapper(s, INSTALLED, 2);
	put_wrapper(s, PAYLOAD, 2);
	append_to(s, INSTALLED, "a");
	append_to(s, PAYLOAD, "b");
	assert_int_equal(stat_below(s, INSTALLED).st_size, stat_below(s, PAYLOAD).st_size);
	op = run_swap(s, NULL, 1);
	k3sup_op_unref(op);
	append_to(s, PAYLOAD, "c"); /* longer */
	op = run_swap(s, NULL, 1);
	k3sup_op_unref(op);
	assert_int_equal(rename(payload, installed), 0); /* the very inode */
	assert_int_equal(link(installed, payload), 0);
	op = run_swap(s, NULL, 0);
	k3sup_op_unref(op);
}

static void a_link_stays_and_the_file_at_its_end_is_replaced(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_wrapper(s, "/srv/k3s/k3s-1.30", 1);
	put_wrapper(s, PAYLOAD, 2);
	assert_int_equal(mkdirat(s->fd, "usr", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "usr/local", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "usr/local/bin", 0755), 0);
	assert_int_equal(symlinkat("/srv/k3s/k3s-1.30", s->fd, "usr/local/bin/k3s"), 0);
	op = run_swap(s, NULL, 1);
	assert_string_equal(result_text(op, "/installed/path"), "/srv/k3s/k3s-1.30");
	k3sup_op_unref(op);
	assert_true(S_ISLNK(stat_below(s, INSTALLED).st_mode));
	assert_true(is_content(s, "/srv/k3s/k3s-1.30", 2));
	assert_int_equal(count_beside(s, INSTALLED), 1);
	assert_int_equal(count_beside(s, "/srv/k3s/k3s-1.30"), 2);
}

/* ---- what cut runs left ---- */

static void put_leftovers(const struct scratch *s)
{
	put_file(s->fd, "usr/local/bin/.k3s.k3sup-tmp-0123abcd", "half", 0600);
	assert_int_equal(linkat(s->fd, "usr/local/bin/k3s", s->fd, "usr/local/bin/k3s.k3sup-backup", 0), 0);
}

static void traces_are_counted_and_removed(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__place target = K3SUP__PLACE_NONE;

	put_pair(s);
	assert_int_equal(k3sup__root_find(s->op, &node->root, INSTALLED, K3SUP__TRUSTED, &target), 0);
	assert_int_equal(k3sup__swap_leftovers(s->op, node, &target, false), 0);
	put_leftovers(s);
	put_file(s->fd, "usr/local/bin/.k3s.k3sup-tmp-mine", "not a temp of ours", 0600);
	assert_int_equal(k3sup__swap_leftovers(s->op, node, &target, false), 2);
	assert_int_equal(count_beside(s, INSTALLED), 4);
	assert_int_equal(k3sup__swap_leftovers(s->op, node, &target, true), 2);
	assert_int_equal(count_beside(s, INSTALLED), 2);
	assert_int_equal(k3sup__swap_leftovers(s->op, node, &target, true), 0);
	k3sup__place_clear(&target);
	k3sup_node_unref(node);
}

static void a_cut_run_is_finished(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_pair(s);
	put_leftovers(s);
	op = run_swap(s, NULL, 1);
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 2) && is_content(s, BACKUP, 1));
	assert_int_equal(stat_below(s, INSTALLED).st_nlink, 1);
	assert_int_equal(count_beside(s, INSTALLED), 2);
}

/* Status 1, however many there were. */
static void removing_traces_is_a_change(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	put_wrapper(s, INSTALLED, 2);
	put_wrapper(s, PAYLOAD, 2);
	put_leftovers(s);
	op = run_swap(s, NULL, 1);
	k3sup_op_unref(op);
	assert_int_equal(count_beside(s, INSTALLED), 1);
	op = run_swap(s, NULL, 0);
	k3sup_op_unref(op);
}

/* ---- what others do meanwhile ---- */

static void replace_target(const struct scratch *s)
{
	put_wrapper(s, "/usr/local/bin/theirs", 1);
	append_to(s, "/usr/local/bin/theirs", "theirs");
	assert_int_equal(renameat(s->fd, "usr/local/bin/theirs", s->fd, "usr/local/bin/k3s"), 0);
}

static void write_target(const struct scratch *s)
{
	append_to(s, INSTALLED, "theirs");
}

static void write_payload(const struct scratch *s)
{
	_free_ char *path = below(s, PAYLOAD);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, "x", 1, 4096), 1);
	close(fd);
}

static void cut_payload(const struct scratch *s)
{
	_free_ char *path = below(s, PAYLOAD);

	assert_int_equal(truncate(path, 4096), 0);
}

static void what_somebody_else_installs_meanwhile_is_not_overwritten(void **state)
{
	static void (*const deeds[])(const struct scratch *s) = {replace_target, write_target};
	struct scratch *s = *state;

	for (size_t deed = 0; deed < ELEMENTSOF(deeds); deed++)
		for (int late = 0; late < 2; late++) {
			struct hook hook = {.step = "stage", .when_copied = late, .fn = deeds[deed]};
			struct stat before, after;
			k3sup_op *op;

			put_pair(s);
			before = stat_below(s, INSTALLED);
			op = run_swap(s, &hook, K3SUP_E_TARGET_CHANGED);
			assert_int_equal(result_number(op, "/changed"), 0);
			k3sup_op_unref(op);
			after = stat_below(s, INSTALLED);
			assert_int_equal(after.st_size, before.st_size + (off_t)strlen("theirs"));
			assert_int_equal(count_beside(s, INSTALLED), 1);
		}
}

static void a_payload_that_changes_is_not_installed(void **state)
{
	struct scratch *s = *state;
	struct hook cut = {.step = "stage", .fn = cut_payload}, written = {.step = "stage", .when_copied = true, .fn = write_payload};

	put_pair(s);
	k3sup_op_unref(run_swap(s, &written, K3SUP_E_PAYLOAD_CHANGED));
	assert_untouched(s);
	put_wrapper(s, PAYLOAD, 2);
	k3sup_op_unref(run_swap(s, &cut, K3SUP_E_PAYLOAD_CHANGED));
	assert_untouched(s);
}

static void a_stop_before_the_rename_leaves_no_trace(void **state)
{
	struct scratch *s = *state;
	struct hook early = {.step = "stage", .answer = 1}, copied = {.step = "stage", .when_copied = true, .answer = 1},
		    last = {.step = "swap", .answer = 1};
	struct hook *const all[] = {&early, &copied, &last};

	put_pair(s);
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		k3sup_op *op = run_swap(s, all[i], K3SUP_E_CALLBACK);

		assert_int_equal(result_number(op, "/changed"), 0);
		k3sup_op_unref(op);
		assert_untouched(s);
	}
}

/* ---- where it cannot be done ---- */

static void mount_bin(const struct scratch *s, const char *options)
{
	_free_ char *dir = below(s, "/usr/local/bin");

	make_dirs(dir);
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, options), 0);
	put_wrapper(s, INSTALLED, 1);
}

static void remount_bin(const struct scratch *s, unsigned long flags)
{
	_free_ char *dir = below(s, "/usr/local/bin");

	assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | flags, NULL), 0);
}

static void unmount_bin(const struct scratch *s)
{
	_free_ char *dir = below(s, "/usr/local/bin");

	assert_int_equal(umount2(dir, MNT_DETACH), 0);
}

static void a_full_file_system_is_known_before_the_first_byte(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	mount_bin(s, "size=1200k,mode=0755");
	put_wrapper(s, PAYLOAD, 2);
	op = run_swap(s, NULL, -ENOSPC);
	assert_true(number_of(k3sup_op_error(op), "/evidence/needed_bytes") > number_of(k3sup_op_error(op), "/evidence/free_bytes"));
	k3sup_op_unref(op);
	assert_untouched(s);
	unmount_bin(s);
}

static void a_file_system_that_does_not_count_is_not_full(void **state)
{
	struct scratch *s = *state;
	_free_ char *dir = below(s, "/usr/local/bin");
	struct statvfs vfs;

	mount_bin(s, "size=0,mode=0755");
	put_wrapper(s, PAYLOAD, 2);
	assert_int_equal(statvfs(dir, &vfs), 0);
	assert_int_equal(vfs.f_blocks, 0);
	k3sup_op_unref(run_swap(s, NULL, 1));
	unmount_bin(s);
}

static void a_read_only_file_system_has_its_own_code(void **state)
{
	struct scratch *s = *state;
	k3sup_op *op;

	mount_bin(s, "mode=0755");
	put_wrapper(s, PAYLOAD, 2);
	remount_bin(s, MS_RDONLY);
	op = run_swap(s, NULL, K3SUP_E_TARGET_READONLY);
	assert_says(op, "read-only");
	k3sup_op_unref(op);
	assert_untouched(s);
	/* Already so needs no writing; removing traces does. */
	put_wrapper(s, PAYLOAD, 1);
	k3sup_op_unref(run_swap(s, NULL, 0));
	remount_bin(s, 0);
	put_leftovers(s);
	remount_bin(s, MS_RDONLY);
	k3sup_op_unref(run_swap(s, NULL, K3SUP_E_TARGET_READONLY));
	unmount_bin(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_target_becomes_the_payload_and_the_old_one_is_kept),
		scratch_test(same_is_what_has_the_same_bytes),
		scratch_test(a_link_stays_and_the_file_at_its_end_is_replaced),
		scratch_test(traces_are_counted_and_removed),
		scratch_test(a_cut_run_is_finished),
		scratch_test(removing_traces_is_a_change),
		scratch_test(what_somebody_else_installs_meanwhile_is_not_overwritten),
		scratch_test(a_payload_that_changes_is_not_installed),
		scratch_test(a_stop_before_the_rename_leaves_no_trace),
		scratch_test(a_full_file_system_is_known_before_the_first_byte),
		scratch_test(a_file_system_that_does_not_count_is_not_full),
		scratch_test(a_read_only_file_system_has_its_own_code),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
