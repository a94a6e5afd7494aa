/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int k3sup__close(int fd)
{
	int saved = errno;

	/* EINTR from close(2) leaves the descriptor closed on Linux; trying again could close a stranger's. */
	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return -1;
}

bool k3sup__endswith(const char *text, const char *suffix)
{
	size_t n = strlen(text), m = strlen(suffix);

	return n >= m && memcmp(text + n - m, suffix, m) == 0;
}

char *k3sup__fmt(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return text;
}

int64_t k3sup__now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t k3sup__deadline(int64_t timeout_ms)
{
	int64_t deadline;

	if (timeout_ms < 0 || __builtin_add_overflow(k3sup__now_ms(), timeout_ms, &deadline))
		return K3SUP__NEVER;
	return deadline;
}

ssize_t k3sup__read_full(int fd, void *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (char *)buf + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

ssize_t k3sup__pread_full(int fd, void *buf, size_t len, int64_t offset)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(fd, (char *)buf + have, len - have, offset + (int64_t)have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

int k3sup__write_full(int fd, const void *buf, size_t len)
{
	const char *at = buf;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int k3sup__read_file(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len)
{
	_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	_free_ char *text = NULL;
	size_t have = 0, room = 0;

	if (fd < 0)
		return -errno;
	/* Files of /proc say that they have no size, so the buffer grows as the text comes. */
	for (;;) {
		ssize_t n;

		if (have == room) {
			size_t more = room ? room * 2 : 1024;
			char *bigger;

			if (more > max + 1)
				more = max + 1;
			if (more == room)
				return -EFBIG;
			bigger = realloc(text, more + 1);
			if (!bigger)
				return -ENOMEM;
			text = bigger;
			room = more;
		}
		n = k3sup__read_full(fd, text + have, room - have);
		if (n < 0)
			return (int)n;
		have += (size_t)n;
		if (have < room)
			break;
	}
	if (have > max)
		return -EFBIG;
	text[have] = '\0';
	*ret_text = text;
	text = NULL;
	if (ret_len)
		*ret_len = have;
	return 0;
}

void k3sup__hex(const void *bytes, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = bytes;

	for (size_t i = 0; i < len; i++) {
		ret[2 * i] = digits[b[i] >> 4];
		ret[2 * i + 1] = digits[b[i] & 15];
	}
	ret[2 * len] = '\0';
}

void k3sup__unhex(const char *hex, void *ret, size_t len)
{
	unsigned char *b = ret;

	for (size_t i = 0; i < 2 * len; i++) {
		int value = hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10;

		b[i / 2] = (unsigned char)(i % 2 == 0 ? value << 4 : b[i / 2] | value);
	}
}

bool k3sup__is_hex(const char *text, size_t digits)
{
	for (size_t i = 0; i < digits; i++)
		if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
			return false;
	return true;
}
