/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/op.h"

struct opts {
	uint32_t struct_size;
	uint32_t flags;
	int64_t number;
	const char *text;
};

struct newer {
	struct opts old;
	int64_t more[3];
};

static void null_stands_for_the_defaults(void **state)
{
	struct opts o;

	(void)state;
	memset(&o, 0xff, sizeof(o));
	assert_int_equal(k3sup__opts(NULL, &o, sizeof(o), 0), 0);
	assert_int_equal(o.flags, 0);
	assert_int_equal(o.number, 0);
	assert_null(o.text);
}

static void an_older_callers_struct_is_filled_up(void **state)
{
	struct opts given = {.struct_size = offsetof(struct opts, text), .flags = 2, .number = 7, .text = "not said to be there"}, o;

	(void)state;
	memset(&o, 0xff, sizeof(o));
	assert_int_equal(k3sup__opts(&given, &o, sizeof(o), 3), 0);
	assert_int_equal(o.flags, 2);
	assert_int_equal(o.number, 7);
	assert_null(o.text);
	given.struct_size = 8;
	assert_int_equal(k3sup__opts(&given, &o, sizeof(o), 3), 0);
	assert_int_equal(o.number, 0);
}

static void a_struct_without_room_for_size_and_flags_is_refused(void **state)
{
	struct opts given = {.number = 7}, o;

	(void)state;
	for (given.struct_size = 0; given.struct_size < 8; given.struct_size++)
		assert_int_equal(k3sup__opts(&given, &o, sizeof(o), 3), -EINVAL);
}

static void unknown_flags_are_refused(void **state)
{
	struct opts given = {.struct_size = sizeof(given), .flags = 4}, o;

	(void)state;
	assert_int_equal(k3sup__opts(&given, &o, sizeof(o), 3), -EINVAL);
	assert_int_equal(k3sup__opts(&given, &o, sizeof(o), 4), 0);
}

static void a_newer_caller_is_refused_only_if_it_uses_what_is_unknown(void **state)
{
	struct newer given = {.old = {.struct_size = sizeof(given), .number = 7}};
	struct opts o;

	(void)state;
	assert_int_equal(k3sup__opts(&given, &o, sizeof(o), 0), 0);
	assert_int_equal(o.number, 7);
	for (size_t i = sizeof(struct opts); i < sizeof(given); i++) {
		((unsigned char *)&given)[i] = 1;
		assert_int_equal(k3sup__opts(&given, &o, sizeof(o), 0), -E2BIG);
		((unsigned char *)&given)[i] = 0;
	}
}

static void a_size_that_cannot_be_meant_is_not_read_through(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct opts *given, o;

	(void)state;
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map + 2 * page, page, PROT_NONE), 0);
	given = (struct opts *)(void *)(map + 2 * page - sizeof(*given));
	given->struct_size = UINT32_MAX;
	assert_int_equal(k3sup__opts(given, &o, sizeof(o), 0), -E2BIG);
	given->struct_size = sizeof(*given);
	assert_int_equal(k3sup__opts(given, &o, sizeof(o), 0), 0);
	munmap(map, 3 * page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(null_stands_for_the_defaults),
		cmocka_unit_test(an_older_callers_struct_is_filled_up),
		cmocka_unit_test(a_struct_without_room_for_size_and_flags_is_refused),
		cmocka_unit_test(unknown_flags_are_refused),
		cmocka_unit_test(a_newer_caller_is_refused_only_if_it_uses_what_is_unknown),
		cmocka_unit_test(a_size_that_cannot_be_meant_is_not_read_through),
	};

	return cmocka_run_group_tests_name("opts", tests, NULL, NULL);
}
