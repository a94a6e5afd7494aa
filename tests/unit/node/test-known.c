/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include <inttypes.h>
#include <time.h>

#include "elfmake.h"
#include "node/known.h"

#define SIZE ((int64_t)1 << 20)

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

static int put_k3s(struct scratch *s, const char *version)
{
	_free_ char *data = k3sup__fmt("embed/" ELF_HASH ".tar.zst %s ", version);
	struct elf_spec spec = {.data = data, .data_len = strlen(data)};
	size_t len;
	_free_ unsigned char *elf = elf_make(&spec, &len);
	int fd = openat(s->fd, "k3s", O_RDWR | O_CREAT | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, elf, len, 0), len);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	return fd;
}

/* What it takes: a read whole, or next to nothing. */
static bool reads(struct k3sup__known *known, int fd, const char *version)
{
	struct k3sup__build build;
	int64_t before = bytes_read(), taken;

	assert_int_equal(k3sup__known_read(known, fd, "k3s", &build), 0);
	taken = bytes_read() - before;
	assert_string_equal(build.version, version);
	assert_true(build.wrapper && build.size == (uint64_t)SIZE);
	assert_true(taken >= SIZE || taken < SIZE / 2);
	return taken >= SIZE;
}

/* Until its times are old enough to be believed. */
static void settle(int fd)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	struct timespec now;
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	do {
		(void)nanosleep(&pause, NULL);
		assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	} while (now.tv_sec < st.st_ctim.tv_sec + 3);
}

static void a_file_is_read_once_while_it_stays_as_it_is(void **state)
{
	struct scratch *s = *state;
	struct k3sup__known *known = k3sup__known_new();
	int fd = put_k3s(s, "v1.30.4+k3s1");

	assert_non_null(known);
	settle(fd);
	assert_true(reads(known, fd, "v1.30.4+k3s1"));
	for (int i = 0; i < 10; i++)
		assert_false(reads(known, fd, "v1.30.4+k3s1"));
	/* Changed in place, and as long: read at once, and again and again until the change is old enough. */
	close(put_k3s(s, "v1.30.5+k3s1"));
	assert_true(reads(known, fd, "v1.30.5+k3s1"));
	close(put_k3s(s, "v1.30.6+k3s1"));
	assert_true(reads(known, fd, "v1.30.6+k3s1"));
	settle(fd);
	assert_true(reads(known, fd, "v1.30.6+k3s1"));
	assert_false(reads(known, fd, "v1.30.6+k3s1"));
	close(fd);
	k3sup__known_free(known);
}

static void another_file_is_another(void **state)
{
	struct scratch *s = *state;
	struct k3sup__known *known = k3sup__known_new();
	int one = put_k3s(s, "v1.30.4+k3s1"), two;

	assert_non_null(known);
	assert_int_equal(renameat(s->fd, "k3s", s->fd, "k3s.old"), 0);
	two = put_k3s(s, "v1.30.5+k3s1");
	settle(two);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(reads(known, one, "v1.30.4+k3s1"), i == 0);
		assert_int_equal(reads(known, two, "v1.30.5+k3s1"), i == 0);
	}
	close(one);
	close(two);
	k3sup__known_free(known);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_file_is_read_once_while_it_stays_as_it_is),
		TEST(another_file_is_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
