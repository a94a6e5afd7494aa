/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/frames.h"

#define BEHIND 64

/* A frame as the zstd program makes them, with blocks of all kinds. Returns its length. */
static size_t make_frame(unsigned char *at, unsigned descriptor, unsigned blocks, unsigned *seed)
{
	static const size_t dictionary[] = {0, 1, 2, 4}, content[] = {0, 2, 4, 8};
	bool one = (descriptor & 0x20) == 0 || (descriptor >> 6) == 0; /* a window, or a size that is not left out */
	size_t len = 5 + (size_t)one + dictionary[descriptor & 3] + content[descriptor >> 6];

	memset(at, 0x55, len);
	memcpy(at, "\x28\xb5\x2f\xfd", 4);
	at[4] = (unsigned char)descriptor;
	for (unsigned i = 0; i < blocks; i++) {
		unsigned type = (unsigned)rand_r(seed) % 3, size = (unsigned)rand_r(seed) % 2000;
		unsigned word = (i + 1 == blocks) | type << 1 | size << 3;

		at[len++] = (unsigned char)word;
		at[len++] = (unsigned char)(word >> 8);
		at[len++] = (unsigned char)(word >> 16);
		for (unsigned n = type == 1 ? 1 : size; n > 0; n--)
			at[len++] = (unsigned char)rand_r(seed);
	}
	if ((descriptor & 0x04) != 0)
		len += 4;
	return len;
}

/* Shows it in pieces of this size, as a scan does: with some of what was there before each. */
static void see(struct scratch *s, const unsigned char *bytes, size_t len, size_t piece, bool digest, struct k3sup__frames *ret)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *d = NULL;
	int fd = openat(s->fd, "file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, bytes, len), 0);
	if (digest)
		assert_int_equal(k3sup__digest_new(&d), 0);
	*ret = (struct k3sup__frames){.fd = fd, .digest = d};
	for (size_t at = 0; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece, behind = at < BEHIND ? at : BEHIND;
		/* of its own, so that a look beyond it is seen by sanitizers */
		_free_ unsigned char *copy = malloc(behind + n);

		assert_non_null(copy);
		memcpy(copy, bytes + at - behind, behind + n);
		assert_int_equal(k3sup__frames_see(ret, copy, behind + n, at - behind, at), 0);
	}
	k3sup__frames_end(ret);
	ret->digest = NULL;
	close(fd);
}

static void digest_of(const unsigned char *bytes, size_t len, char ret[static K3SUP__SHA256_HEX])
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;

	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_update(digest, bytes, len), 0);
	assert_int_equal(k3sup__digest_finish(digest, ret), 0);
}

static unsigned char *noise(size_t len, unsigned *seed)
{
	unsigned char *bytes = malloc(len);

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (unsigned char)rand_r(seed);
	return bytes;
}

static void a_frame_is_found_with_its_digest_wherever_pieces_end(void **state)
{
	static const size_t pieces[] = {1, 3, 7, 100, 4096, 50001, 1 << 20};
	struct scratch *s = *state;
	unsigned seed = 1;

	for (unsigned descriptor = 0; descriptor < 256; descriptor++) {
		const size_t total = 300000, at = 1000 + descriptor;
		_free_ unsigned char *bytes = NULL;
		char expected[K3SUP__SHA256_HEX];
		struct k3sup__frames frames;
		size_t len;

		if ((descriptor & 0x08) != 0)
			continue;
		bytes = noise(total, &seed);
		len = make_frame(bytes + at, descriptor, 40 + descriptor % 100, &seed);
		assert_true(at + len < total);
		digest_of(bytes + at, len, expected);
		see(s, bytes, total, pieces[descriptor / 2 % ELEMENTSOF(pieces)], true, &frames);
		if (frames.count != 1 || frames.torn)
			fail_msg("descriptor %u: %zu frames%s", descriptor, frames.count, frames.torn ? ", torn" : "");
		assert_int_equal(frames.whole[0].start, at);
		assert_int_equal(frames.whole[0].end, at + len);
		assert_string_equal(frames.whole[0].sha256, expected);
	}
}

static void what_only_begins_like_one_is_none(void **state)
{
	struct scratch *s = *state;
	struct k3sup__frames frames;
	unsigned seed = 2;
	_free_ unsigned char *bytes = noise(200000, &seed);
	size_t len;

	/* The number in the code of a program, many times; a frame that is too short to be an archive; then the archive. */
	for (size_t at = 0; at < 60000; at += 1 + (size_t)rand_r(&seed) % 200)
		memcpy(bytes + at, "\x28\xb5\x2f\xfd", 4);
	(void)make_frame(bytes + 60100, 0x84, K3SUP__FRAME_BLOCKS - 1, &seed);
	len = make_frame(bytes + 130000, 0x84, K3SUP__FRAME_BLOCKS, &seed);
	see(s, bytes, 200000, 4096, false, &frames);
	assert_int_equal(frames.count, 1);
	assert_int_equal(frames.whole[0].start, 130000);
	assert_int_equal(frames.whole[0].end, 130000 + len);
	assert_string_equal(frames.whole[0].sha256, "");
	assert_false(frames.torn);
}

static void several_are_all_found(void **state)
{
	struct scratch *s = *state;
	unsigned seed = 3;
	_free_ unsigned char *bytes = noise(600000, &seed);
	size_t at = 100, starts[6];
	struct k3sup__frames frames;

	for (size_t i = 0; i < ELEMENTSOF(starts); i++) {
		starts[i] = at;
		at += make_frame(bytes + at, 0x04, 40, &seed) + (i % 2 == 0 ? 0 : 100);
	}
	see(s, bytes, 600000, 1 << 20, true, &frames);
	assert_int_equal(frames.count, K3SUP__FRAMES);
	for (size_t i = 0; i < frames.count; i++) {
		char expected[K3SUP__SHA256_HEX];

		assert_int_equal(frames.whole[i].start, starts[i]);
		digest_of(bytes + starts[i], (size_t)(frames.whole[i].end - starts[i]), expected);
		assert_string_equal(frames.whole[i].sha256, expected);
	}
}

/* Wherever it is cut: never whole. Behind the blocks that make it sure it is known to be torn. */
static void a_cut_frame_is_never_whole(void **state)
{
	struct scratch *s = *state;
	unsigned seed = 4;
	_free_ unsigned char *bytes = noise(200000, &seed);
	size_t len = make_frame(bytes + 50, 0x84, 60, &seed);
	struct k3sup__frames frames;

	for (size_t cut = 50 + len - 1; cut > 50; cut -= cut > 50 + len - 40 ? 1 : 997 < cut - 50 ? 997 : cut - 50) {
		see(s, bytes, cut, 10000, cut % 2 == 0, &frames);
		assert_int_equal(frames.count, 0);
		assert_true(frames.torn || cut < 50 + len / 4 * 3);
	}
	/* and in the middle of a file, another one follows */
	{
		_free_ unsigned char *two = noise(400000, &seed);
		char expected[K3SUP__SHA256_HEX];
		size_t other;

		memcpy(two + 50, bytes + 50, len / 5 * 4);
		memset(two + 50 + len / 5 * 4, 0xff, 3000);
		other = make_frame(two + 200000, 0x84, 60, &seed);
		see(s, two, 400000, 10000, true, &frames);
		assert_true(frames.torn && frames.count == 1 && frames.whole[0].start == 200000 && frames.whole[0].end == 200000 + other);
		digest_of(two + 200000, other, expected);
		assert_string_equal(frames.whole[0].sha256, expected);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_frame_is_found_with_its_digest_wherever_pieces_end),
		TEST(what_only_begins_like_one_is_none),
		TEST(several_are_all_found),
		TEST(a_cut_frame_is_never_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
