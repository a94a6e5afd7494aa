/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb that puts images in place: options, the lock, the data-dir of what runs, commit and restore, and a writer that flips the source. What is done with each file is
 * in test-images.c.
 */
#include "../rooms.h"

#include "swap/swap.h"

#include <pthread.h>
#include <stdatomic.h>

#define A "/src/k3s-airgap-images.tar.zst"
#define IMAGES DATA_DIR "/agent/images/k3s-airgap-images.tar.zst"
#define KEPT DATA_DIR "/agent/.k3sup-images/k3s-airgap-images.tar.zst.k3sup-backup"
#define SHA_NEW "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437" /* of "new" */

static void store_text(const struct scratch *s, const char *path, const char *text)
{
	_free_ char *whole = below(s, path), *dir = strdup(whole);

	*strrchr(dir, '/') = '\0';
	make_dirs(dir);
	put_file(AT_FDCWD, whole, text, 0644);
}

static void assert_text(const struct scratch *s, const char *path, const char *text)
{
	_free_ char *whole = below(s, path);

	assert_content(AT_FDCWD, whole, text);
}

static bool is_there(const struct scratch *s, const char *path)
{
	return stat_below(s, path).st_nlink > 0;
}

static k3sup_op *begin_stage(const struct scratch *s, k3sup_node *node, uint32_t flags, const char *file, const char *sha256)
{
	_free_ char *whole = file ? below(s, file) : NULL;
	const char *const files[] = {whole, NULL};
	struct k3sup_stage_opts opts = {.struct_size = sizeof(opts), .flags = flags, .files = files, .sha256 = sha256};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_stage(node, &opts, &op), 0);
	return op;
}

static k3sup_op *run_stage(const struct scratch *s, k3sup_node *node, uint32_t flags, const char *file, const char *sha256, int expected)
{
	k3sup_op *op = begin_stage(s, node, flags, file, sha256);

	assert_status(op, expected);
	assert_string_not_equal(result_text(op, "/authenticated"), "(none)"); /* whatever it ends with */
	return op;
}

static void files_are_staged_committed_and_restored(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	store_text(s, A, "new");
	store_text(s, IMAGES, "old");
	op = run_stage(s, node, 0, A, SHA_NEW, 1);
	assert_string_equal(result_text(op, "/images/0/action"), "replace");
	assert_string_equal(result_text(op, "/images/0/path"), IMAGES);
	assert_string_equal(result_text(op, "/images/0/sha256"), SHA_NEW);
	assert_string_equal(result_text(op, "/images/0/authenticated"), "digest");
	assert_string_equal(result_text(op, "/authenticated"), "digest");
	assert_string_equal(result_text(op, "/data_dir/source"), "default");
	assert_int_equal(result_number(op, "/images/0/kept"), 1);
	assert_int_equal(result_number(op, "/changed"), 1);
	k3sup_op_unref(op);
	assert_text(s, IMAGES, "new");
	assert_text(s, KEPT, "old");
	op = run_stage(s, node, 0, A, NULL, 0);
	assert_string_equal(result_text(op, "/authenticated"), "none");
	assert_string_equal(result_text(op, "/images/0/action"), "none");
	k3sup_op_unref(op);

	k3sup_op_unref(run_stage(s, node, K3SUP_STAGE_RESTORE, NULL, NULL, 1));
	assert_text(s, IMAGES, "old");
	assert_false(is_there(s, KEPT));
	k3sup_op_unref(run_stage(s, node, K3SUP_STAGE_RESTORE, NULL, NULL, 0));

	k3sup_op_unref(run_stage(s, node, K3SUP_STAGE_COMMIT, A, SHA_NEW, 1));
	assert_text(s, IMAGES, "new");
	assert_false(is_there(s, DATA_DIR "/agent/.k3sup-images"));
	k3sup_op_unref(run_stage(s, node, K3SUP_STAGE_COMMIT, NULL, NULL, 0));
	op = run_stage(s, node, 0, "/src/none.tar", NULL, K3SUP_E_PAYLOAD_MISSING);
	assert_int_equal(result_number(op, "/changed"), 0);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void the_data_dir_is_that_of_what_runs(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct fake_spec spec = {.file = "/srv/k3s/data/" HASH1 "/bin/k3s-agent", .title = "/usr/local/bin/k3s agent", .cwd = "/", .root = s->path};
	static const char *const links[] = {"k3s-server", "k3s-agent", "kubectl", "containerd", NULL};
	k3sup_op *op;
	pid_t pid;

	fake_install(s->path, "/srv/k3s/data/" HASH1 "/bin/k3s", "", links);
	store_text(s, A, "new");
	pid = fake_start(&spec);
	op = run_stage(s, node, 0, A, NULL, 1);
	assert_string_equal(result_text(op, "/data_dir/source"), "process");
	assert_string_equal(result_text(op, "/images/0/path"), "/srv/k3s/agent/images/k3s-airgap-images.tar.zst");
	k3sup_op_unref(op);
	assert_text(s, "/srv/k3s/agent/images/k3s-airgap-images.tar.zst", "new");
	assert_false(is_there(s, DATA_DIR));
	fake_stop(pid);
	k3sup_node_unref(node);
}

static void the_lock_is_taken_and_waited_for(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL), *other = open_node(s->ctx, s->path, NULL);
	_free_ char *whole = below(s, A);
	const char *const files[] = {whole, NULL};
	struct k3sup_stage_opts opts = {.struct_size = sizeof(opts), .wait_lock_ms = -1, .files = files};
	k3sup_op *op = NULL;

	store_text(s, A, "new");
	assert_int_equal(k3sup_node_lock(other), 1);
	k3sup_op_unref(run_stage(s, node, 0, A, NULL, K3SUP_E_BUSY));
	assert_false(is_there(s, DATA_DIR));
	assert_int_equal(k3sup_stage(node, &opts, &op), 0);
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	assert_int_equal(k3sup_node_unlock(other), 1);
	assert_status(op, 1);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_node_unref(other);
}

static void bad_options_are_refused(void **state)
{
	static const char *const none[] = {NULL}, *const one[] = {"/x.tar", NULL}, *const two[] = {"/x.tar", "/y/x.tar", NULL};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	const struct k3sup_stage_opts bad[] = {
		{.files = NULL},
		{.files = none},
		{.files = two},
		{.files = one, .sha256 = "abc"},
		{.files = one, .key = "/k"},
		{.files = one, .reserved = "x"},
		{.files = one, .flags = 4},
		{.files = one, .flags = K3SUP_STAGE_RESTORE},
		{.flags = K3SUP_STAGE_COMMIT | K3SUP_STAGE_RESTORE},
	};
	struct k3sup_stage_opts fine = {.struct_size = sizeof(fine), .files = one};
	k3sup_op *op = NULL;

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		struct k3sup_stage_opts opts = bad[i];

		opts.struct_size = sizeof(opts);
		if (k3sup_stage(node, &opts, &op) != -EINVAL)
			fail_msg("%zu", i);
	}
	assert_int_equal(k3sup_stage(node, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_stage(NULL, &fine, &op), -EINVAL);
	assert_int_equal(k3sup_stage(node, &fine, NULL), -EINVAL);
	assert_null(op);
	k3sup_node_unref(node);
}

/* ---- the bytes that are verified are the bytes that get in ---- */

#define SIZE ((size_t)300000) /* more than one chunk */

struct flipper {
	char path[128];
	atomic_bool stop;
	char *good, *bad;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;
	int fd = open(f->path, O_WRONLY | O_CLOEXEC);

	for (unsigned i = 0; !atomic_load(&f->stop); i++)
		if (pwrite(fd, i % 2 ? f->good : f->bad, SIZE, 0) != (ssize_t)SIZE)
			break;
	close(fd);
	return NULL;
}

static void a_writer_that_flips_the_source_gets_nothing_in(void **state)
{
	const char *full = getenv("K3SUP_TEST_FULL");
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *good = malloc(SIZE), *bad = malloc(SIZE), *whole = below(s, IMAGES), *text = NULL;
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	struct flipper f = {.good = good, .bad = bad};
	unsigned runs = full && *full ? 2000 : 150, in = 0, refused = 0;
	char sha256[K3SUP__SHA256_HEX];
	pthread_t thread;

	memset(good, 'g', SIZE);
	memset(bad, 'b', SIZE);
	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_update(digest, good, SIZE), 0);
	assert_int_equal(k3sup__digest_finish(digest, sha256), 0);
	store_text(s, A, "");
	(void)snprintf(f.path, sizeof(f.path), "%s" A, s->path);
	assert_int_equal(truncate(f.path, (off_t)SIZE), 0);
	assert_int_equal(pthread_create(&thread, NULL, flip, &f), 0);
	for (unsigned i = 0; i < runs; i++) {
		k3sup_op *op = begin_stage(s, node, K3SUP_STAGE_COMMIT, A, sha256);
		int r = k3sup_op_wait(op, LONG);

		k3sup_op_unref(op);
		if (r < 0) {
			assert_true(r == K3SUP_E_DIGEST_MISMATCH || r == K3SUP_E_PAYLOAD_CHANGED);
			refused++;
			assert_int_equal(is_there(s, IMAGES), in > 0);
		} else {
			in++;
		}
		if (is_there(s, IMAGES)) {
			assert_int_equal(k3sup__read_file(AT_FDCWD, whole, SIZE, &text, NULL), 0);
			assert_memory_equal(text, good, SIZE);
			free(text);
			text = NULL;
			assert_int_equal(unlink(whole), 0);
			in = 0;
		}
	}
	atomic_store(&f.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	print_message("%u runs, %u refused\n", runs, refused);
	assert_true(refused > 0);
	k3sup_op_unref(run_stage(s, node, 0, A, NULL, 1));
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(files_are_staged_committed_and_restored),
		scratch_test(the_data_dir_is_that_of_what_runs),
		scratch_test(the_lock_is_taken_and_waited_for),
		scratch_test(bad_options_are_refused),
		scratch_test(a_writer_that_flips_the_source_gets_nothing_in),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
