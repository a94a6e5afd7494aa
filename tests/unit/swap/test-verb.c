/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb: options, the lock, and a payload that is none.
 */
#include "../rooms.h"

#include <inttypes.h>

#include "node/identify.h"
#include "swap/bytes.h"
#include "swap/swap.h"

static k3sup_op *begin_swap(k3sup_node *node, const char *payload, int64_t wait_lock_ms)
{
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = payload, .wait_lock_ms = wait_lock_ms};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_swap(node, &opts, &op), 0);
	return op;
}

static k3sup_op *run_swap(k3sup_node *node, const char *payload, int64_t wait_lock_ms, int expected)
{
	k3sup_op *op = begin_swap(node, payload, wait_lock_ms);

	assert_status(op, expected);
	assert_string_not_equal(result_text(op, "/authenticated"), "(none)"); /* whatever it ends with */
	return op;
}

static void put_bytes(const struct scratch *s, const char *name, const void *data, size_t len)
{
	int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, data, len), 0);
	close(fd);
}

static void put_elf(const struct scratch *s, const char *name, unsigned machine, size_t less)
{
	struct elf_spec spec = {.form = ELF_GO_NONE, .machine = machine, .data = WRAPPER(HASH2, V2), .data_len = strlen(WRAPPER(HASH2, V2))};
	size_t len;
	_free_ unsigned char *elf = elf_make(&spec, &len);

	put_bytes(s, name, elf, len - less);
}

static void each_bad_payload_has_its_code(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	const struct {
		const char *name;
		int code;
		bool seen; /* something is known of it */
	} all[] = {
		{"missing", K3SUP_E_PAYLOAD_MISSING, false},
		{"dir", K3SUP_E_PAYLOAD_NOT_FILE, false},
		{"fifo", K3SUP_E_PAYLOAD_NOT_FILE, false},
		{"empty", K3SUP_E_PAYLOAD_EMPTY, true},
		{"script", K3SUP_E_PAYLOAD_NOT_K3S, true},
		{"foreign", K3SUP_E_PAYLOAD_ARCH, true},
		{"cut", K3SUP_E_PAYLOAD_TRUNCATED, true},
		{"loose", K3SUP_E_UNTRUSTED, false},
	};

	put_wrapper(s, INSTALLED, 1);
	assert_int_equal(mkdirat(s->fd, "dir", 0755), 0);
	assert_int_equal(mkfifoat(s->fd, "fifo", 0600), 0);
	put_file(s->fd, "empty", "", 0755);
	put_file(s->fd, "script", "#!/bin/sh\nexit 0\n", 0755);
	put_elf(s, "foreign", EM_S390, 0);
	put_elf(s, "cut", 0, 300);
	put_elf(s, "loose", 0, 0);
	assert_int_equal(fchmodat(s->fd, "loose", 0777, 0), 0);
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		_free_ char *path = k3sup__fmt("%s/%s", s->path, all[i].name);
		k3sup_op *op = run_swap(node, path, 0, all[i].code);

		assert_says(op, all[i].name);
		assert_int_equal(result_number(op, "/changed"), 0);
		if (all[i].seen)
			assert_string_equal(result_text(op, "/wanted/path"), path);
		k3sup_op_unref(op);
		assert_true(is_content(s, INSTALLED, 1));
		assert_int_equal(count_beside(s, INSTALLED), 1);
	}
	k3sup_node_unref(node);
}

static void a_node_without_k3s_says_so(void **state)
{
	struct scratch *s = *state;
	_free_ char *payload = below(s, PAYLOAD);
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_wrapper(s, PAYLOAD, 2);
	op = run_swap(node, payload, 0, K3SUP_E_TARGET_MISSING);
	assert_string_equal(result_text(op, "/wanted/version"), V2);
	k3sup_op_unref(op);
	put_wrapper(s, INSTALLED, 1);
	put_wrapper(s, "/usr/bin/k3s", 1);
	op = run_swap(node, payload, 0, K3SUP_E_TARGET_AMBIGUOUS);
	assert_int_equal(k3sup_doc_len(k3sup_op_error(op), "/evidence/installed"), 2);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	node = open_node(s->ctx, s->path, "/usr/bin/k3s");
	k3sup_op_unref(run_swap(node, payload, 0, 1));
	assert_true(is_content(s, "/usr/bin/k3s", 2) && is_content(s, INSTALLED, 1));
	k3sup_node_unref(node);
}

/* The caller's descriptor is read from the file's beginning, is not moved, and may be closed as soon as the verb is back. */
static void a_descriptor_does_as_well(void **state)
{
	struct scratch *s = *state;
	_free_ char *payload = below(s, PAYLOAD);
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_SWAP_PAYLOAD_FD, .payload = "/ignored"};
	k3sup_op *op = NULL;

	put_wrapper(s, INSTALLED, 1);
	put_wrapper(s, PAYLOAD, 2);
	opts.payload_fd = open(payload, O_RDONLY | O_CLOEXEC);
	assert_int_equal(lseek(opts.payload_fd, 100, SEEK_SET), 100);
	assert_int_equal(k3sup_swap(node, &opts, &op), 0);
	close(opts.payload_fd);
	assert_status(op, 1);
	assert_string_equal(result_text(op, "/wanted/path"), "the given descriptor");
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 2));
	opts.payload_fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(k3sup_swap(node, &opts, &op), 0);
	close(opts.payload_fd);
	assert_status(op, K3SUP_E_PAYLOAD_NOT_FILE);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void the_lock_is_taken_waited_for_and_reused(void **state)
{
	struct scratch *s = *state;
	_free_ char *payload = below(s, PAYLOAD);
	k3sup_node *node = open_node(s->ctx, s->path, NULL), *other = open_node(s->ctx, s->path, NULL);
	k3sup_op *op, *second;
	int64_t began;

	put_wrapper(s, INSTALLED, 1);
	put_wrapper(s, PAYLOAD, 2);
	assert_int_equal(k3sup_node_lock(other), 1);
	op = run_swap(node, payload, 0, K3SUP_E_BUSY);
	assert_int_equal(number_of(k3sup_op_error(op), "/evidence/holder/pid"), getpid());
	k3sup_op_unref(op);
	began = k3sup__now_ms();
	k3sup_op_unref(run_swap(node, payload, 150, K3SUP_E_BUSY));
	assert_in_range(k3sup__now_ms() - began, 150, 5000);
	assert_true(is_content(s, INSTALLED, 1));

	op = begin_swap(node, payload, -1);
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	k3sup_op_cancel(op);
	assert_status(op, K3SUP_E_CANCELLED);
	k3sup_op_unref(op);

	op = begin_swap(node, payload, -1);
	second = begin_swap(node, payload, -1); /* one at a time on one handle, too */
	assert_int_equal(k3sup_op_wait(op, 150), -EINPROGRESS);
	assert_int_equal(k3sup_node_unlock(other), 1);
	assert_status(op, 1);
	assert_status(second, 0);
	k3sup_op_unref(op);
	k3sup_op_unref(second);

	assert_int_equal(k3sup_node_lock(node), 1);
	k3sup_op_unref(run_swap(node, payload, 0, 0));
	assert_int_equal(k3sup_node_lock(other), K3SUP_E_BUSY); /* kept for its handle */
	k3sup_node_unref(node);
	assert_int_equal(k3sup_node_lock(other), 1);
	k3sup_node_unref(other);
}

static void bad_options_are_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup_swap_opts fine = {.struct_size = sizeof(fine), .payload = "/x"}, opts;
	k3sup_op *op = NULL;

	opts = fine;
	opts.payload = NULL;
	assert_int_equal(k3sup_swap(node, &opts, &op), -EINVAL);
	opts.payload = "";
	assert_int_equal(k3sup_swap(node, &opts, &op), -EINVAL);
	opts.flags = K3SUP_SWAP_PAYLOAD_FD;
	opts.payload_fd = -1;
	assert_int_equal(k3sup_swap(node, &opts, &op), -EBADF);
	assert_int_equal(k3sup_swap(node, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_swap(NULL, &fine, &op), -EINVAL);
	assert_int_equal(k3sup_swap(node, &fine, NULL), -EINVAL);
	assert_null(op);
	k3sup_node_unref(node);
}

/* How much this process has read until now. */
static int64_t bytes_read(void)
{
	char line[64];
	FILE *f = fopen("/proc/self/io", "re");
	int64_t n = -1;

	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	(void)fclose(f);
	assert_int_equal(sscanf(line, "rchar: %" SCNd64, &n), 1); /* NOLINT */
	return n;
}

/* Where nothing is to be done: the payload once, and the installed file beside it; with a digest, too. */
static void already_so_costs_one_reading(void **state)
{
	struct scratch *s = *state;
	_free_ char *payload = below(s, PAYLOAD);
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = payload};
	char digest[K3SUP__SHA256_HEX];
	int fd;

	put_wrapper(s, INSTALLED, 2);
	put_wrapper(s, PAYLOAD, 2);
	fd = open(payload, O_RDONLY | O_CLOEXEC);
	assert_int_equal(k3sup__bytes_digest(NULL, fd, "it", digest), 0);
	close(fd);
	for (int i = 0; i < 2; i++) {
		int64_t size = (int64_t)stat_below(s, PAYLOAD).st_size, before = bytes_read();
		k3sup_op *op = NULL;

		opts.sha256 = i == 1 ? digest : NULL;
		assert_int_equal(k3sup_swap(node, &opts, &op), 0);
		assert_status(op, 0);
		assert_true(bytes_read() - before < 2 * size + size / 2);
		assert_string_equal(result_text(op, "/authenticated"), i == 1 ? "digest" : "none");
		k3sup_op_unref(op);
	}
	k3sup_node_unref(node);
}

/* What was found out in passing counts for the file that was read, not for one that came into its place. */
static void a_file_that_was_replaced_since_is_compared_again(void **state)
{
	struct scratch *s = *state;
	struct k3sup__payload payload = K3SUP__PAYLOAD_NONE;
	struct k3sup__place target = K3SUP__PLACE_NONE;
	_free_ char *path = below(s, PAYLOAD);
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__source source;
	char digest[K3SUP__SHA256_HEX];

	put_wrapper(s, INSTALLED, 2);
	put_wrapper(s, PAYLOAD, 2);
	assert_int_equal(k3sup__source_take(path, false, -1, NULL, &source), 0);
	assert_int_equal(k3sup__payload_load(s->op, node, &source, &payload), 0);
	assert_int_equal(k3sup__installed_find(s->op, node, NULL, &target), 0);
	assert_true(k3sup__payload_is(&payload, &target.st));
	assert_int_equal(k3sup__swap_is_same(s->op, &payload, &target, digest), 1);
	k3sup__place_clear(&target);
	put_wrapper(s, INSTALLED, 1); /* as long */
	assert_int_equal(k3sup__installed_find(s->op, node, NULL, &target), 0);
	assert_false(k3sup__payload_is(&payload, &target.st));
	assert_int_equal(k3sup__swap_is_same(s->op, &payload, &target, digest), 0);
	k3sup__place_clear(&target);
	k3sup__payload_clear(&payload);
	k3sup__source_clear(&source);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(each_bad_payload_has_its_code),
		scratch_test(a_node_without_k3s_says_so),
		scratch_test(a_descriptor_does_as_well),
		scratch_test(the_lock_is_taken_waited_for_and_reused),
		scratch_test(bad_options_are_refused),
		scratch_test(already_so_costs_one_reading),
		scratch_test(a_file_that_was_replaced_since_is_compared_again),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
