/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <pthread.h>
#include <signal.h>

#include "base/util.h"

static void close_keeps_errno_and_forgets_the_descriptor(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	errno = EXDEV;
	assert_int_equal(k3sup__close(fd), -1);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	errno = EXDEV;
	assert_int_equal(k3sup__close(-1), -1);
	assert_int_equal(k3sup__close(-ENOENT), -1);
	assert_int_equal(errno, EXDEV);
}

static void leaving_a_scope_closes_and_frees(void **state)
{
	int seen;

	(void)state;
	{
		_close_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		_free_ char *text = strdup("the sanitizer would tell");

		assert_non_null(text);
		assert_true(fd >= 0);
		seen = fd;
	}
	assert_int_equal(fcntl(seen, F_GETFD), -1);
}

static void prefixes_and_suffixes(void **state)
{
	(void)state;
	assert_true(k3sup__startswith("k3s-agent", "k3s"));
	assert_false(k3sup__startswith("k3", "k3s"));
	assert_true(k3sup__endswith("a.service", ".service"));
	assert_true(k3sup__endswith("", ""));
	assert_false(k3sup__endswith("service", ".service"));
}

static void formatted_text_is_the_callers(void **state)
{
	_free_ char *text = k3sup__fmt("%s-%d", "a", 7);

	(void)state;
	assert_string_equal(text, "a-7");
}

static void deadlines_saturate(void **state)
{
	int64_t now = k3sup__now_ms();

	(void)state;
	assert_true(k3sup__deadline(-1) == K3SUP__NEVER);
	assert_true(k3sup__deadline(INT64_MIN) == K3SUP__NEVER);
	assert_true(k3sup__deadline(INT64_MAX) == K3SUP__NEVER);
	assert_true(k3sup__deadline(INT64_MAX - 1) == K3SUP__NEVER);
	assert_in_range(k3sup__deadline(0), now, now + 10000);
	assert_in_range(k3sup__deadline(60000), now + 60000, now + 70000);
	assert_true(k3sup__now_ms() >= now);
}

static void a_file_of_just_the_size_is_read_and_a_bigger_one_refused(void **state)
{
	struct scratch *s = *state;
	static const size_t sizes[] = {0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 5000};
	size_t len;

	for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
		_free_ char *text = calloc(1, sizes[i] + 1);
		_free_ char *got = NULL;
		char *untouched = text;

		memset(text, 'x', sizes[i]);
		put_file(s->fd, "f", text, 0600);
		assert_int_equal(k3sup__read_file(s->fd, "f", sizes[i], &got, &len), 0);
		assert_int_equal(len, sizes[i]);
		assert_string_equal(got, text);
		if (sizes[i] > 0)
			assert_int_equal(k3sup__read_file(s->fd, "f", sizes[i] - 1, &untouched, NULL), -EFBIG);
		assert_ptr_equal(untouched, text);
	}
}

static void only_files_are_read(void **state)
{
	struct scratch *s = *state;
	_free_ char *text = NULL;

	assert_int_equal(k3sup__read_file(s->fd, "none", 100, &text, NULL), -ENOENT);
	assert_int_equal(mkdirat(s->fd, "dir", 0700), 0);
	assert_int_equal(k3sup__read_file(s->fd, "dir", 100, &text, NULL), -EISDIR);
	put_file(s->fd, "f", "x", 0600);
	assert_int_equal(symlinkat("f", s->fd, "link"), 0);
	assert_int_equal(k3sup__read_file(s->fd, "link", 100, &text, NULL), -ELOOP);
	assert_null(text);
	/* nobody writes: it must not wait */
	assert_int_equal(mkfifoat(s->fd, "fifo", 0600), 0);
	assert_int_equal(k3sup__read_file(s->fd, "fifo", 100, &text, NULL), 0);
	assert_string_equal(text, "");
}

static void files_that_say_they_are_empty_are_read(void **state)
{
	_free_ char *text = NULL;
	size_t len;

	(void)state;
	assert_int_equal(k3sup__read_file(AT_FDCWD, "/proc/self/maps", 16 << 20, &text, &len), 0);
	assert_true(len > 1024);
	assert_int_equal(strlen(text), len);
}

struct pipe_end {
	int fd;
	size_t bytes;
	unsigned sum;
};

static void *slow_reader(void *arg)
{
	struct pipe_end *end = arg;
	unsigned char buf[777];
	ssize_t n;

	while ((n = read(end->fd, buf, sizeof(buf))) > 0) {
		end->bytes += (size_t)n;
		for (ssize_t i = 0; i < n; i++)
			end->sum += buf[i];
	}
	return NULL;
}

static void a_write_goes_on_until_all_is_taken(void **state)
{
	size_t len = 1 << 20;
	_free_ unsigned char *data = malloc(len);
	struct pipe_end end = {0};
	unsigned sum = 0;
	pthread_t thread;
	int fds[2];

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		sum += data[i] = (unsigned char)(i * 7);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	end.fd = fds[0];
	assert_int_equal(pthread_create(&thread, NULL, slow_reader, &end), 0);
	assert_int_equal(k3sup__write_full(fds[1], data, len), 0);
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_int_equal(end.bytes, len);
	assert_int_equal(end.sum, sum);
}

static void *piecemeal_writer(void *arg)
{
	struct pipe_end *end = arg;

	for (size_t i = 0; i < end->bytes; i++)
		if (write(end->fd, &"abc"[i % 3], 1) != 1)
			break;
	close(end->fd);
	return NULL;
}

static void a_read_goes_on_until_the_end(void **state)
{
	struct pipe_end end = {.bytes = 5};
	pthread_t thread;
	char buf[8] = "";
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	end.fd = fds[1];
	assert_int_equal(pthread_create(&thread, NULL, piecemeal_writer, &end), 0);
	assert_int_equal(k3sup__read_full(fds[0], buf, 4), 4);
	assert_memory_equal(buf, "abca", 4);
	assert_int_equal(k3sup__read_full(fds[0], buf, sizeof(buf)), 1);
	assert_int_equal(k3sup__read_full(fds[0], buf, sizeof(buf)), 0);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_int_equal(k3sup__read_full(-1, buf, 1), -EBADF);
	assert_int_equal(k3sup__write_full(-1, buf, 1), -EBADF);
	assert_int_equal(k3sup__pread_full(-1, buf, 1, 0), -EBADF);
}

static void a_positioned_read_leaves_the_position(void **state)
{
	struct scratch *s = *state;
	char buf[8] = "";
	int fd;

	put_file(s->fd, "f", "0123456789", 0600);
	fd = openat(s->fd, "f", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(k3sup__pread_full(fd, buf, 4, 7), 3);
	assert_memory_equal(buf, "789", 3);
	assert_int_equal(k3sup__pread_full(fd, buf, 4, 3), 4);
	assert_memory_equal(buf, "3456", 4);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	close(fd);
}

static void hex_is_lowercase_and_exact(void **state)
{
	char text[7];

	(void)state;
	k3sup__hex("\x00\xfe\x5a", 3, text);
	assert_string_equal(text, "00fe5a");
	assert_true(k3sup__is_hex("00fe5a", 6));
	assert_true(k3sup__is_hex("00fe5ag", 6));
	assert_false(k3sup__is_hex("00fe5ag", 7));
	assert_false(k3sup__is_hex("00FE5A", 6));
	assert_false(k3sup__is_hex("00fe", 5)); /* the NUL is no digit */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(close_keeps_errno_and_forgets_the_descriptor),
		cmocka_unit_test(leaving_a_scope_closes_and_frees),
		cmocka_unit_test(prefixes_and_suffixes),
		cmocka_unit_test(formatted_text_is_the_callers),
		cmocka_unit_test(deadlines_saturate),
		scratch_test(a_file_of_just_the_size_is_read_and_a_bigger_one_refused),
		scratch_test(only_files_are_read),
		cmocka_unit_test(files_that_say_they_are_empty_are_read),
		cmocka_unit_test(a_write_goes_on_until_all_is_taken),
		cmocka_unit_test(a_read_goes_on_until_the_end),
		scratch_test(a_positioned_read_leaves_the_position),
		cmocka_unit_test(hex_is_lowercase_and_exact),
	};

	return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
