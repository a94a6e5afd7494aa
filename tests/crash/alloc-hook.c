/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled without any sanitizer: allocations come before the sanitizer is ready. */
#include "alloc-hook.h"

#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define _everybodys_ __attribute__((visibility("default")))

struct hook hook;
unsigned hook_kept;

#define KEPT_ROOM 65536u
static void *kept[KEPT_ROOM]; /* counted blocks that nobody has freed yet; GONE: one was here */
#define GONE ((void *)(uintptr_t)1)

static struct {
	uintptr_t from, to;
	enum asker asker;
} ranges[64];
static size_t n_ranges;

/* The sanitizer's, where there is one. */
extern void *__interceptor_malloc(size_t size) __attribute__((weak));
extern void *__interceptor_calloc(size_t count, size_t size) __attribute__((weak));
extern void *__interceptor_realloc(void *p, size_t size) __attribute__((weak));
extern void __interceptor_free(void *p) __attribute__((weak));
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void __libc_free(void *p);

static enum asker asker_of_file(const char *path)
{
	static const struct {
		const char *name;
		enum asker asker;
	} files[] = {{"/libjansson.", JANSSON}, {"/libyaml-", YAML}, {"/libz.", ZLIB}, {"/libc.", LIBC}, {"/libuv.", UV}, {"/libcrypto.", CRYPTO}};

	if (!*path) /* the program */
		return OURS;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		if (strstr(path, files[i].name))
			return files[i].asker;
	return OTHERS;
}

static int add_ranges(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (size_t i = 0; i < info->dlpi_phnum && n_ranges < sizeof(ranges) / sizeof(*ranges); i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
			ranges[n_ranges].from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
			ranges[n_ranges].to = ranges[n_ranges].from + info->dlpi_phdr[i].p_memsz;
			ranges[n_ranges++].asker = asker_of_file(info->dlpi_name);
		}
	return 0;
}

static enum asker asker_at(const void *caller)
{
	for (size_t i = 0; i < n_ranges; i++)
		if ((uintptr_t)caller >= ranges[i].from && (uintptr_t)caller < ranges[i].to)
			return ranges[i].asker;
	return OTHERS;
}

void hook_arm(unsigned askers, unsigned fail_at, bool for_good)
{
	if (n_ranges == 0)
		dl_iterate_phdr(add_ranges, NULL);
	hook = (struct hook){.armed = true, .askers = askers, .fail_at = fail_at, .for_good = for_good};
}

/* One allocation of this caller: does it count, and shall it fail? */
static bool count_and_fail(const void *caller, bool *ret_counts)
{
	enum asker asker;

	*ret_counts = false;
	if (!hook.armed)
		return false;
	asker = asker_at(caller);
	if (!(hook.askers & 1u << asker))
		return false;
	*ret_counts = true;
	hook.by[asker]++;
	hook.count++;
	if (hook.fail_at == 0 || hook.count < hook.fail_at || (hook.count > hook.fail_at && !hook.for_good))
		return false;
	if (hook.failed++ == 0)
		hook.first = caller;
	errno = ENOMEM;
	return true;
}

static void **slot_of(const void *p)
{
	size_t at = ((uintptr_t)p >> 4) * 2654435761u % KEPT_ROOM;

	while (kept[at] && kept[at] != p)
		at = (at + 1) % KEPT_ROOM;
	return &kept[at];
}

static void keep(void *p)
{
	if (!p)
		return;
	if (hook_kept > KEPT_ROOM / 2)
		abort();
	*slot_of(p) = p;
	hook_kept++;
}

static void forget(const void *p)
{
	void **slot;

	if (!p || hook_kept == 0)
		return;
	slot = slot_of(p);
	if (*slot == p) {
		*slot = GONE;
		hook_kept--;
	}
}

static void *allocate(size_t size, const void *caller)
{
	bool counts;
	void *p;

	if (count_and_fail(caller, &counts))
		return NULL;
	p = __interceptor_malloc ? __interceptor_malloc(size) : __libc_malloc(size);
	if (counts)
		keep(p);
	return p;
}

_everybodys_ void *malloc(size_t size)
{
	return allocate(size, __builtin_return_address(0));
}

_everybodys_ void *calloc(size_t count, size_t size)
{
	bool counts;
	void *p;

	if (count_and_fail(__builtin_return_address(0), &counts))
		return NULL;
	p = __interceptor_calloc ? __interceptor_calloc(count, size) : __libc_calloc(count, size);
	if (counts)
		keep(p);
	return p;
}

static void *reallocate(void *old, size_t size, const void *caller)
{
	bool counts;
	void *p;

	if (count_and_fail(caller, &counts))
		return NULL;
	p = __interceptor_realloc ? __interceptor_realloc(old, size) : __libc_realloc(old, size);
	if (p || size == 0)
		forget(old);
	if (counts)
		keep(p);
	return p;
}

_everybodys_ void *realloc(void *old, size_t size)
{
	return reallocate(old, size, __builtin_return_address(0));
}

_everybodys_ void *reallocarray(void *old, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return reallocate(old, bytes, __builtin_return_address(0));
}

_everybodys_ void free(void *p)
{
	int kept_errno = errno;

	forget(p);
	if (__interceptor_free)
		__interceptor_free(p);
	else
		__libc_free(p);
	errno = kept_errno;
}

_everybodys_ char *strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = allocate(size, __builtin_return_address(0));

	return copy ? memcpy(copy, text, size) : NULL;
}

_everybodys_ char *strndup(const char *text, size_t most)
{
	size_t len = strnlen(text, most);
	char *copy = allocate(len + 1, __builtin_return_address(0));

	if (!copy)
		return NULL;
	copy[len] = '\0';
	return memcpy(copy, text, len);
}
