/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <zlib.h>

#include "base/digest.h"
#include "base/inflate.h"

struct taken {
	struct k3sup__digest *digest;
	uint64_t len, stop_at; /* stops behind so many bytes */
	size_t longest;
};

static int take(void *arg, const void *bytes, size_t len)
{
	struct taken *t = arg;

	t->len += len;
	t->longest = len > t->longest ? len : t->longest;
	if (t->stop_at > 0 && t->len >= t->stop_at)
		return K3SUP_E_BUSY;
	return t->digest != NULL ? k3sup__digest_update(t->digest, bytes, len) : 0;
}

/* One member, of `len` bytes that a generator makes (`noise`) or of zeros. */
static void add_member(int fd, size_t len, bool noise)
{
	_cleanup_(k3sup__freep) unsigned char *in = calloc(1, len + 1), *out = NULL;
	z_stream z = {0};
	uint32_t x = 1;

	assert_non_null(in);
	for (size_t i = 0; noise && i < len; i++)
		in[i] = (unsigned char)((x = x * 1664525u + 1013904223u) >> 24);
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.avail_out = (uInt)deflateBound(&z, len);
	out = malloc(z.avail_out);
	z.next_out = out;
	z.next_in = in;
	z.avail_in = (uInt)len;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(k3sup__write_full(fd, out, z.total_out), 0);
	deflateEnd(&z);
}

static int open_new(struct scratch *s)
{
	int fd = openat(s->fd, "packed", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static int unpack(struct scratch *s, int fd, struct taken *taken)
{
	return k3sup__inflate(s->op, fd, "packed", take, taken);
}

static void members_come_out_one_behind_the_other(void **state)
{
	_close_ int fd = open_new(*state);
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	struct taken taken = {0};
	char hex[K3SUP__SHA256_HEX];

	add_member(fd, 1, false);
	assert_int_equal(k3sup__is_gzip(fd), 1);
	add_member(fd, 0, false);
	add_member(fd, 999998, false);
	add_member(fd, 1, false);
	assert_int_equal(k3sup__digest_new(&digest), 0);
	taken.digest = digest;
	assert_int_equal(unpack(*state, fd, &taken), 0);
	assert_int_equal(taken.len, 1000000);
	assert_int_equal(k3sup__digest_finish(digest, hex), 0);
	assert_string_equal(hex, "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"); /* head -c 1000000 /dev/zero | sha256sum */
}

static void what_zlibs_neighbours_pack_is_read(void **state)
{
	struct scratch *s = *state;
	_free_ char *command = k3sup__fmt("head -c 3000000 /dev/zero | gzip -9 > %s/packed", s->path);
	struct taken taken = {0};
	_close_ int fd = -1;

	assert_int_equal(system(command), 0); /* NOLINT: gzip is the point */
	fd = openat(s->fd, "packed", O_RDONLY | O_CLOEXEC);
	assert_int_equal(unpack(s, fd, &taken), 0);
	assert_int_equal(taken.len, 3000000);
	assert_true(taken.longest <= 1 << 20);
}

static void plain_files_are_no_gzip(void **state)
{
	struct scratch *s = *state;
	_close_ int fd = open_new(s);

	assert_int_equal(k3sup__is_gzip(fd), 0);
	put_file(s->fd, "packed", "\x1f", 0600);
	assert_int_equal(k3sup__is_gzip(fd), 0);
	put_file(s->fd, "packed",
		"\x7f"
		"ELF",
		0600);
	assert_int_equal(k3sup__is_gzip(fd), 0);
	assert_int_equal(k3sup__is_gzip(-1), -EBADF);
}

/* At every length but the whole one. */
static void a_cut_stream_is_truncated(void **state)
{
	struct scratch *s = *state;
	_close_ int fd = open_new(s);
	struct stat st;

	add_member(fd, 300, true);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t len = st.st_size - 1; len >= 0; len--) {
		struct taken taken = {0};

		assert_int_equal(ftruncate(fd, len), 0);
		assert_int_equal(unpack(s, fd, &taken), K3SUP_E_PAYLOAD_TRUNCATED);
		assert_sentence(s, "in the middle");
	}
}

static void a_cut_second_member_is_truncated(void **state)
{
	struct scratch *s = *state;
	_close_ int fd = open_new(s);
	struct taken taken = {0};
	struct stat st;

	add_member(fd, 300, true);
	add_member(fd, 300, true);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
	assert_int_equal(unpack(s, fd, &taken), K3SUP_E_PAYLOAD_TRUNCATED);
}

static void damage_is_found(void **state)
{
	struct scratch *s = *state;
	_close_ int fd = open_new(s);
	struct stat st;

	add_member(fd, 300, true);
	assert_int_equal(fstat(fd, &st), 0);
	/* Every bit behind the header counts, down to the length at the end; in the header, flags and method do. */
	for (off_t at = 10; at < st.st_size; at++) {
		struct taken taken = {0};
		unsigned char byte;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 1;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_true(unpack(s, fd, &taken) < 0);
		k3sup__op_forgive(s->op);
		byte ^= 1;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
}

static void anything_behind_the_end_is_refused(void **state)
{
	static const char *const behind[] = {"\n", "garbage", "\x1f\x8b", "\x1fgarbage and more of it"};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(behind); i++) {
		_close_ int fd = open_new(s);
		struct taken taken = {0};
		int r;

		add_member(fd, 300, true);
		assert_int_equal(k3sup__write_full(fd, behind[i], strlen(behind[i])), 0);
		r = unpack(s, fd, &taken);
		assert_int_equal(r, i == 2 ? K3SUP_E_PAYLOAD_TRUNCATED : K3SUP_E_GZIP);
		k3sup__op_forgive(s->op);
	}
	{
		_close_ int fd = open_new(s);
		struct taken taken = {0};

		add_member(fd, 300, true);
		assert_int_equal(k3sup__write_full(fd, "\0\0\0\0", 4), 0);
		assert_int_equal(unpack(s, fd, &taken), K3SUP_E_GZIP);
		assert_sentence(s, "behind the end");
	}
}

static void a_bomb_is_stopped_by_its_ratio(void **state)
{
	struct scratch *s = *state;
	_close_ int fd = open_new(s);
	struct taken taken = {0};

	add_member(fd, (size_t)64 << 20, false);
	assert_int_equal(unpack(s, fd, &taken), K3SUP_E_GZIP);
	assert_sentence(s, "times its size");
	assert_true(taken.len <= K3SUP__INFLATE_FREE + (1 << 20));
}

/* Some noise keeps the ratio below the first cap, so that the second is met. */
static void more_than_the_cap_is_refused(void **state)
{
	struct scratch *s = *state;
	_close_ int fd = -1;
	struct taken taken = {0};
	struct stat st;
	_free_ char *text = NULL;

	if (getenv("K3SUP_TEST_VALGRIND") != NULL)
		skip(); /* a gibibyte takes minutes there */
	fd = open_new(s);
	add_member(fd, (size_t)1 << 20, true);
	add_member(fd, (size_t)127 << 20, false);
	assert_int_equal(fstat(fd, &st), 0);
	text = malloc((size_t)st.st_size);
	assert_int_equal(k3sup__pread_full(fd, text, (size_t)st.st_size, 0), st.st_size);
	for (int i = 0; i < 8; i++)
		assert_int_equal(k3sup__write_full(fd, text, (size_t)st.st_size), 0);
	if (unpack(s, fd, &taken) != K3SUP_E_GZIP || !strstr(s->op->message, "1024 MiB") || taken.len > K3SUP__INFLATE_MAX)
		fail_msg("%s", s->op->message);
}

static void what_the_sink_says_ends_it(void **state)
{
	struct scratch *s = *state;
	_close_ int fd = open_new(s);
	struct taken taken = {.stop_at = 1};

	add_member(fd, 3 << 20, false);
	assert_int_equal(unpack(s, fd, &taken), K3SUP_E_BUSY);
	assert_true(taken.len <= 1 << 20);
	assert_int_equal(unpack(s, -1, &taken), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(members_come_out_one_behind_the_other),
		scratch_test(what_zlibs_neighbours_pack_is_read),
		scratch_test(plain_files_are_no_gzip),
		scratch_test(a_cut_stream_is_truncated),
		scratch_test(a_cut_second_member_is_truncated),
		scratch_test(damage_is_found),
		scratch_test(anything_behind_the_end_is_refused),
		scratch_test(a_bomb_is_stopped_by_its_ratio),
		scratch_test(more_than_the_cap_is_refused),
		scratch_test(what_the_sink_says_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
