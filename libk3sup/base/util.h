/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few small things that every file needs: attributes, cleanup, clocks, fd helpers. libc only.
 */
#ifndef K3SUP_BASE_UTIL_H
#define K3SUP_BASE_UTIL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))

/* Closes an open descriptor, keeps errno, returns -1 so that `fd = k3sup__close(fd)` forgets it. */
int k3sup__close(int fd);

static inline void k3sup__closep(int *fd)
{
	*fd = k3sup__close(*fd);
}

static inline void k3sup__freep(void *p)
{
	free(*(void **)p);
}

#define _close_ _cleanup_(k3sup__closep)
#define _free_ _cleanup_(k3sup__freep)

static inline bool k3sup__streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static inline bool k3sup__startswith(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool k3sup__endswith(const char *text, const char *suffix);

/* Formatted text in fresh memory, NULL if there is none left. */
char *k3sup__fmt(const char *fmt, ...) _printf_(1, 2);

/* Milliseconds of CLOCK_BOOTTIME: time in suspend counts, settimeofday() does not. All deadlines are on this clock. */
int64_t k3sup__now_ms(void);

/* Deadlines: now + timeout, saturating; K3SUP__NEVER for a negative timeout. */
#define K3SUP__NEVER INT64_MAX
int64_t k3sup__deadline(int64_t timeout_ms);

/* read(2) and pread(2) until len bytes or the end of the file; EINTR is handled. Bytes read, or -errno. */
ssize_t k3sup__read_full(int fd, void *buf, size_t len);
ssize_t k3sup__pread_full(int fd, void *buf, size_t len, int64_t offset);
/* write(2) until all is written. 0 or -errno (a write that takes nothing is -EIO). */
int k3sup__write_full(int fd, const void *buf, size_t len);

/* A small file as a whole, at most max bytes, NUL added behind; len may be NULL. 0, -EFBIG or -errno. dirfd and path as in openat(2), O_NOFOLLOW. */
int k3sup__read_file(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len) _must_check_;

/* Lowercase hex of bytes; ret has 2 * len + 1 bytes. */
void k3sup__hex(const void *bytes, size_t len, char *ret);
/* The other way round; hex is known to be 2 * len lowercase digits. */
void k3sup__unhex(const char *hex, void *ret, size_t len);
/* Exactly `digits` lowercase hex digits (the caller knows that so many bytes are there)? */
bool k3sup__is_hex(const char *text, size_t digits);

#endif
