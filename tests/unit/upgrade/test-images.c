/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an upgrade does with images: before the swap, and in the end. Which k3s runs matters little here, so most of it asks for the file alone.
 */
#include "../rooms.h"

#include <k3sup/process.h>
#include <k3sup/upgrade.h>

#define A "/src/k3s-airgap-images.tar.zst"
#define IMAGES DATA_DIR "/agent/images/k3s-airgap-images.tar.zst"
#define KEPT DATA_DIR "/agent/.k3sup-images/k3s-airgap-images.tar.zst.k3sup-backup"

#define KEPT_OF_1 KEPT ".bb7cbef5feb5" /* FRAME_HASH1 */

static void store(const struct scratch *s, const char *path, const char *text)
{
	_free_ char *whole = below(s, path), *dir = strdup(whole);

	*strrchr(dir, '/') = '\0';
	make_dirs(dir);
	put_file(AT_FDCWD, whole, text, 0644);
}

static void assert_stored(const struct scratch *s, const char *path, const char *text)
{
	_free_ char *whole = below(s, path);

	assert_content(AT_FDCWD, whole, text);
}

static int32_t stop_at(const struct k3sup_progress *progress, void *step)
{
	return k3sup__streq(progress->step, step);
}

/* step: where the progress callback asks to stop; NULL: nowhere. */
static k3sup_op *upgrade(const struct scratch *s, k3sup_node *node, const struct k3sup_upgrade_opts *more, const char *step, int expected)
{
	_free_ char *payload = below(s, PAYLOAD), *image = below(s, A);
	const char *const files[] = {image, NULL};
	struct k3sup_upgrade_opts opts = *more;
	k3sup_op *op = NULL;

	opts.struct_size = sizeof(opts);
	opts.payload = payload;
	opts.stable_ms = -1;
	opts.probe = K3SUP_PROBE_NONE; /* fakes answer nobody */
	opts.timeout_ms = LONG;
	opts.images = files;
	assert_int_equal(k3sup_upgrade(node, &opts, &op), 0);
	if (step)
		assert_int_equal(k3sup_op_set_progress(op, stop_at, (void *)(uintptr_t)step), 0);
	assert_status(op, expected);
	return op;
}

static void they_come_before_the_swap_and_are_undone_without_it(void **state)
{
	const struct k3sup_upgrade_opts none = {.restart = K3SUP_RESTART_NONE};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	store(s, A, "new");
	store(s, IMAGES, "old");
	op = upgrade(s, node, &none, "stage", K3SUP_E_CALLBACK);
	assert_int_equal(result_number(op, "/changed"), 0);
	assert_false(has_flag(op, "images-kept"));
	assert_false(has_flag(op, "open-operation"));
	k3sup_op_unref(op);
	assert_stored(s, IMAGES, "old");
	assert_true(is_content(s, INSTALLED, 1));
	assert_int_equal(stat_below(s, DATA_DIR "/agent/.k3sup-images").st_nlink, 0);

	op = upgrade(s, node, &none, NULL, 1);
	assert_string_equal(result_text(op, "/images/0/action"), "replace");
	assert_string_equal(result_text(op, "/steps/2/name"), "images");
	assert_string_equal(result_text(op, "/steps/3/name"), "stage");
	assert_true(has_flag(op, "images-kept"));
	k3sup_op_unref(op);
	assert_stored(s, IMAGES, "new");
	assert_stored(s, KEPT_OF_1, "old");
	k3sup_op_unref(upgrade(s, node, &none, NULL, 0));
	assert_stored(s, KEPT_OF_1, "old");
	k3sup_node_unref(node);
}

static void the_proof_commits_them(void **state)
{
	const struct k3sup_upgrade_opts restart = {0};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct unit u = {0};
	k3sup_op *op;

	put_node(s);
	store(s, A, "new");
	store(s, IMAGES, "old");
	unit_start(s, &u);
	op = upgrade(s, node, &restart, NULL, 1);
	assert_int_equal(result_number(op, "/images/0/changed"), 1);
	assert_false(has_flag(op, "images-kept"));
	k3sup_op_unref(op);
	assert_stored(s, IMAGES, "new");
	assert_int_equal(stat_below(s, DATA_DIR "/agent/.k3sup-images").st_nlink, 0);
	k3sup_op_unref(upgrade(s, node, &restart, NULL, 0));
	/* what others left behind goes with a proof, too, and that is a change */
	store(s, KEPT, "older");
	{
		_free_ char *work = below(s, DATA_DIR "/agent/.k3sup-images");

		assert_int_equal(chmod(work, 0700), 0);
	}
	k3sup_op_unref(upgrade(s, node, &restart, NULL, 1));
	assert_int_equal(stat_below(s, DATA_DIR "/agent/.k3sup-images").st_nlink, 0);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void the_check_only_tells(void **state)
{
	const struct k3sup_upgrade_opts check = {.flags = K3SUP_UPGRADE_CHECK};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	store(s, A, "new");
	store(s, IMAGES, "old");
	for (int i = 0; i < 2; i++) { /* the second time the k3s file is the payload already */
		op = upgrade(s, node, &check, NULL, 0);
		assert_string_equal(result_text(op, "/images/0/action"), "replace");
		assert_int_equal(result_number(op, "/images/0/changed"), 0);
		k3sup_op_unref(op);
		assert_stored(s, IMAGES, "old");
		put_wrapper(s, INSTALLED, 2);
	}
	k3sup_node_unref(node);
}

static void bad_options_are_refused(void **state)
{
	static const char *const twice[] = {"/a/x.tar", "/b/x.tar", NULL};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts), .payload = "/x", .images = twice};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts.flags = K3SUP_UPGRADE_CHECK;
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts.images = twice + 1;
	opts.payload = NULL;
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts.payload = "/x";
	opts.reserved5 = "x";
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	assert_null(op);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(they_come_before_the_swap_and_are_undone_without_it),
		scratch_test(the_proof_commits_them),
		scratch_test(the_check_only_tells),
		scratch_test(bad_options_are_refused),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, rooms_build, fake_remove);
}
