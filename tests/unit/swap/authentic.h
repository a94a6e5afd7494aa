/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of authenticated payloads share: a node's root in the scratch directory, payloads that are as small or as big as is wanted, and one call of
 * k3sup_swap() with its answer.
 */
#ifndef K3SUP_TESTS_UNIT_SWAP_AUTHENTIC_H
#define K3SUP_TESTS_UNIT_SWAP_AUTHENTIC_H

#include "../base/scratch.h"
#include "../node/elfmake.h"

#include <k3sup/ctx.h>
#include <k3sup/doc.h>
#include <k3sup/node.h>
#include <k3sup/swap.h>

#include "base/digest.h"
#include "node/sums.h"

#define OLD "v1.30.4+k3s1"
#define NEW "v1.30.5+k3s1"
#define EVIL "v1.30.6+k3s1"

#if defined(__aarch64__)
#define HOST_MACHINE EM_AARCH64
#define HOST_ARCH "arm64"
#elif defined(__arm__)
#define HOST_MACHINE EM_ARM
#define HOST_ARCH "arm"
#elif defined(__s390x__)
#define HOST_MACHINE EM_S390
#define HOST_ARCH "s390x"
#elif defined(__riscv)
#define HOST_MACHINE EM_RISCV
#define HOST_ARCH "riscv64"
#else
#define HOST_MACHINE EM_X86_64
#define HOST_ARCH "amd64"
#endif

static inline void sh(struct scratch *s, const char *fmt, ...) _printf_(2, 3);
static inline void sh(struct scratch *s, const char *fmt, ...)
{
	_free_ char *command = NULL, *all = NULL;
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&command, fmt, ap) > 0);
	va_end(ap);
	all = k3sup__fmt("cd %s && { %s; } >log 2>&1", s->path, command);
	if (system(all) != 0) /* NOLINT: openssl(1) and gzip(1) are the point */
		fail_msg("%s", command);
}

/* A wrapper of this version, to be freed. Two versions of one length give files of one length. */
static inline unsigned char *make_k3s(const char *version, size_t *ret_len)
{
	_free_ char *data = k3sup__fmt("embed/%s.tar.zst %s ", k3sup__streq(version, OLD) ? ELF_HASH : ELF_HASH2, version);
	struct elf_spec spec = {.machine = HOST_MACHINE,
		.is32 = HOST_MACHINE == EM_ARM,
		.big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__,
		.data = data,
		.data_len = strlen(data)};

	return elf_make(&spec, ret_len);
}

static inline void put_k3s(struct scratch *s, const char *name, const char *version, mode_t mode)
{
	size_t len;
	_free_ unsigned char *elf = make_k3s(version, &len);
	int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, elf, len), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* OLD is installed, NEW is the payload "new". */
static inline void put_node(struct scratch *s)
{
	sh(s, "mkdir -p usr/local/bin");
	put_k3s(s, "usr/local/bin/k3s", OLD, 0755);
	put_k3s(s, "new", NEW, 0755);
}

static inline void digest_of(struct scratch *s, const char *name, char hex[static K3SUP__SHA256_HEX])
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	_free_ char *bytes = NULL;
	size_t len;

	assert_int_equal(k3sup__read_file(s->fd, name, 64 << 20, &bytes, &len), 0);
	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_update(digest, bytes, len), 0);
	assert_int_equal(k3sup__digest_finish(digest, hex), 0);
}

static inline bool is_installed(struct scratch *s, const char *version)
{
	_free_ char *bytes = NULL;
	size_t len, wanted_len;
	_free_ unsigned char *wanted = make_k3s(version, &wanted_len);

	assert_int_equal(k3sup__read_file(s->fd, "usr/local/bin/k3s", 64 << 20, &bytes, &len), 0);
	return len == wanted_len && memcmp(bytes, wanted, len) == 0;
}

struct call {
	const char *payload; /* a name in the scratch directory, as the other files are */
	int fd;              /* with payload NULL */
	const char *sha256, *sums, *signature, *key, *expect_version;
};

struct answer {
	int status;
	char authenticated[16], is_over[16], message[512]; /* is_over: what the signature is over */
};

static inline void copy_text(k3sup_doc *doc, const char *path, char *ret, size_t size)
{
	const char *text = NULL;

	(void)snprintf(ret, size, "%s", doc && k3sup_doc_str(doc, path, &text) == 0 ? text : "");
}

static inline char *in_scratch(struct scratch *s, const char *name)
{
	return name ? k3sup__fmt("%s/%s", s->path, name) : NULL;
}

static inline struct answer swap(struct scratch *s, struct call c)
{
	_free_ char *payload = in_scratch(s, c.payload), *sums = in_scratch(s, c.sums), *signature = in_scratch(s, c.signature),
		    *key = in_scratch(s, c.key);
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = s->path, .k3s = "/usr/local/bin/k3s"};
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts),
		.flags = payload ? 0 : K3SUP_SWAP_PAYLOAD_FD,
		.payload = payload,
		.payload_fd = c.fd,
		.sha256 = c.sha256,
		.sums = sums,
		.signature = signature,
		.key = key,
		.expect_version = c.expect_version};
	struct answer answer = {0};
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &where, &node), 0);
	answer.status = k3sup_swap(node, &opts, &op);
	if (answer.status == 0)
		answer.status = k3sup_op_wait(op, -1);
	if (op) {
		copy_text(k3sup_op_result(op), "/authenticated", answer.authenticated, sizeof(answer.authenticated));
		copy_text(k3sup_op_result(op), "/authentication/signed", answer.is_over, sizeof(answer.is_over));
		copy_text(k3sup_op_error(op), "/message", answer.message, sizeof(answer.message));
	}
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	return answer;
}

/* Refused, with this word in the sentence, and nothing happened. */
static inline void assert_refused(struct scratch *s, struct call c, int code, const char *word)
{
	struct answer a = swap(s, c);

	if (a.status != code || !strstr(a.message, word))
		fail_msg("%s: %s", k3sup_error_name(a.status), a.message);
	assert_true(is_installed(s, OLD));
	assert_string_not_equal(a.authenticated, "digest");
	assert_string_not_equal(a.authenticated, "signature");
}

/* Installed, and then found to be so; the old file is installed again afterwards. */
static inline void assert_taken(struct scratch *s, struct call c, const char *authenticated, const char *is_over)
{
	for (int status = 1; status >= 0; status--) {
		struct answer a = swap(s, c);

		if (a.status != status)
			fail_msg("%s: %s", k3sup_error_name(a.status), a.message);
		assert_string_equal(a.authenticated, authenticated);
		assert_string_equal(a.is_over, is_over);
		assert_true(is_installed(s, NEW));
	}
	put_k3s(s, "usr/local/bin/k3s.old", OLD, 0755);
	sh(s, "mv usr/local/bin/k3s.old usr/local/bin/k3s; rm -f usr/local/bin/k3s.k3sup-backup");
}

#endif
