/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_build_read() as its caller sees it; k3sup_identify() is with its scan in test-identify.c.
 */
#include "../base/scratch.h"

#include "elfmake.h"

#include <k3sup/node.h>

static const char data[] = "embed/" ELF_HASH ".tar.zst\0v1.30.4+k3s1\0";

static char *put_k3s(struct scratch *s)
{
	struct elf_spec spec = {.data = data, .data_len = sizeof(data)};
	size_t len;
	unsigned char *elf = elf_make(&spec, &len);
	int fd = openat(s->fd, "k3s", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);

	assert_int_equal(k3sup__write_full(fd, elf, len), 0);
	close(fd);
	free(elf);
	return k3sup__fmt("%s/k3s", s->path);
}

static k3sup_doc *result_of(struct scratch *s, const struct k3sup_build_read_opts *opts, int status)
{
	k3sup_op *op = NULL;
	k3sup_doc *doc;

	assert_int_equal(k3sup_build_read(s->ctx, opts, &op), 0);
	assert_int_equal(k3sup_op_wait(op, -1), status);
	doc = k3sup_doc_ref(k3sup_op_result(op));
	k3sup_op_unref(op);
	return doc;
}

static void assert_text(k3sup_doc *doc, const char *path, const char *expected)
{
	const char *text = NULL;

	assert_int_equal(k3sup_doc_str(doc, path, &text), 0);
	assert_string_equal(text, expected);
}

static void a_file_is_described_by_path_and_by_descriptor(void **state)
{
	struct scratch *s = *state;
	_free_ char *path = put_k3s(s);
	struct k3sup_build_read_opts opts = {.struct_size = sizeof(opts), .path = path, .fd = 4711};
	k3sup_doc *doc = result_of(s, &opts, 0), *other;
	const char *sha = NULL;

	assert_text(doc, "/path", path);
	assert_text(doc, "/kind", "wrapper");
	assert_text(doc, "/version", "v1.30.4+k3s1");
	assert_text(doc, "/asset_hash", ELF_HASH);
	assert_text(doc, "/arch", "amd64");
	assert_int_equal(k3sup_doc_str(doc, "/sha256", &sha), 0);
	opts = (struct k3sup_build_read_opts){.struct_size = sizeof(opts), .flags = K3SUP_BUILD_READ_FD, .fd = open(path, O_RDONLY | O_CLOEXEC)};
	assert_int_equal(lseek(opts.fd, 100, SEEK_SET), 100);
	other = result_of(s, &opts, 0);
	assert_text(other, "/sha256", sha);
	assert_int_equal(lseek(opts.fd, 0, SEEK_CUR), 100);
	assert_int_equal(close(opts.fd), 0); /* it stayed ours */
	k3sup_doc_unref(other);
	k3sup_doc_unref(doc);
}

static void what_cannot_be_established_is_absent(void **state)
{
	struct scratch *s = *state;
	struct k3sup_build_read_opts opts = {.struct_size = sizeof(opts), .path = "/bin/sh"};
	k3sup_doc *doc = result_of(s, &opts, K3SUP_E_PAYLOAD_NOT_K3S);
	const char *text;

	assert_text(doc, "/path", "/bin/sh");
	assert_int_equal(k3sup_doc_str(doc, "/version", &text), -ENOENT);
	assert_int_equal(k3sup_doc_str(doc, "/kind", &text), -ENOENT);
	k3sup_doc_unref(doc);
	opts.path = "/nowhere/k3s";
	k3sup_doc_unref(result_of(s, &opts, K3SUP_E_PAYLOAD_MISSING));
}

static void wrong_arguments_start_nothing(void **state)
{
	struct scratch *s = *state;
	struct k3sup_build_read_opts opts = {.struct_size = sizeof(opts)};
	k3sup_op *op = (k3sup_op *)s;

	assert_int_equal(k3sup_build_read(s->ctx, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_build_read(s->ctx, &opts, &op), -EINVAL);
	opts.path = "/x";
	assert_int_equal(k3sup_build_read(NULL, &opts, &op), -EINVAL);
	assert_int_equal(k3sup_build_read(s->ctx, &opts, NULL), -EINVAL);
	opts.reserved2 = 1;
	assert_int_equal(k3sup_build_read(s->ctx, &opts, &op), -EINVAL);
	opts = (struct k3sup_build_read_opts){.struct_size = sizeof(opts), .flags = K3SUP_BUILD_READ_FD, .fd = -1};
	assert_int_equal(k3sup_build_read(s->ctx, &opts, &op), -EBADF);
	assert_ptr_equal(op, s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_file_is_described_by_path_and_by_descriptor),
		TEST(what_cannot_be_established_is_absent),
		TEST(wrong_arguments_start_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
