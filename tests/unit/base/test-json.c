/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include <k3sup/error.h>

#include "base/json.h"

static k3sup__json *parse(const char *text)
{
	k3sup__json *value = NULL;

	if (k3sup__json_parse(text, strlen(text), &value) < 0)
		fail_msg("cannot parse %s", text);
	return value;
}

/* consumes value */
static void assert_dump(k3sup__json *value, const char *expected)
{
	_free_ char *text = k3sup__json_dump(value);

	k3sup__json_unref(value);
	assert_non_null(text);
	assert_string_equal(text, expected);
}

static void everything_is_written_on_one_line_of_printable_ascii(void **state)
{
	k3sup__json *o = k3sup__json_object(), *a = k3sup__json_array();

	(void)state;
	k3sup__json_add(a, k3sup__json_int(INT64_MIN));
	k3sup__json_add(a, k3sup__json_bool(true));
	k3sup__json_add(a, k3sup__json_null());
	k3sup__json_add(a, k3sup__json_str(NULL));
	k3sup__json_set_str(o, "z", "first in, first out");
	k3sup__json_set(o, "a", a);
	k3sup__json_set(o, "t", k3sup__json_str("\x1b[31m\n\x7f \"\\ \xc3\xa4 \xf0\x9f\x90\xb3"));
	k3sup__json_set(o, "f", k3sup__json_fmt("%d%%", 5));
	assert_dump(o,
		"{\"z\":\"first in, first out\",\"a\":[-9223372036854775808,true,null,null],"
		"\"t\":\"\\u001B[31m\\n\\u007F \\\"\\\\ \\u00E4 \\uD83D\\uDC33\",\"f\":\"5%\"}");
}

static void a_dump_reads_back_as_the_same(void **state)
{
	k3sup__json *value = parse("{\"a\\u007f\":[\"\\u007f\\u007f\",1.5,{}],\"b\":\"\\u0001\"}"), *again = NULL;
	_free_ char *text = k3sup__json_dump(value);

	(void)state;
	assert_null(strchr(text, 0x7f));
	again = parse(text);
	assert_true(json_equal(value, again));
	k3sup__json_unref(again);
	k3sup__json_unref(value);
}

static void foreign_bytes_stay_visible(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *text;
	} cases[] = {
		{"k3s\xff", 4, "k3s\\xff"},
		{"\xc3", 1, "\\xc3"},
		{"\xed\xa0\x80", 3, "\\xed\\xa0\\x80"}, /* half of a surrogate pair */
		{"\xc0\xaf", 2, "\\xc0\\xaf"},          /* a slash in too long a form */
		{"\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80"},
		{"a\0b", 3, "a\\x00b"},
		{"", 0, ""},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		k3sup__json *value = k3sup__json_strn(cases[i].bytes, cases[i].len);

		assert_string_equal(k3sup__json_as_str(value), cases[i].text);
		k3sup__json_unref(value);
	}
}

/* The examples of RFC 6901, section 5. */
static void pointers_follow_the_rfc(void **state)
{
	k3sup__json *v = parse("{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/b\":1,\"c%d\":2,\"e^f\":3,\"g|h\":4,\"i\\\\j\":5,\"k\\\"l\":6,\" "
			       "\":7,\"m~n\":8,\"~1\":9}");
	static const struct {
		const char *path;
		int64_t number;
	} cases[] = {{"/", 0}, {"/a~1b", 1}, {"/c%d", 2}, {"/e^f", 3}, {"/g|h", 4}, {"/i\\j", 5}, {"/k\"l", 6}, {"/ ", 7}, {"/m~0n", 8},
		{"/~01", 9}};
	static const char *const nothing[] = {"/none", "/foo/2", "/foo/-", "/foo/01", "/foo/", "/foo/+1", "/foo/0/x",
		"/foo/99999999999999999999", "/foo/1 ", "foo", "/a/b", "//", "/foo/-1"};
	int64_t number;

	(void)state;
	assert_ptr_equal(k3sup__json_pointer(v, ""), v);
	assert_int_equal(k3sup__json_len(k3sup__json_pointer(v, "/foo")), 2);
	assert_string_equal(k3sup__json_as_str(k3sup__json_pointer(v, "/foo/0")), "bar");
	assert_string_equal(k3sup__json_as_str(k3sup__json_pointer(v, "/foo/1")), "baz");
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		assert_true(k3sup__json_as_i64(k3sup__json_pointer(v, cases[i].path), &number));
		assert_int_equal(number, cases[i].number);
	}
	for (size_t i = 0; i < ELEMENTSOF(nothing); i++)
		if (k3sup__json_pointer(v, nothing[i]))
			fail_msg("%s is there", nothing[i]);
	k3sup__json_unref(v);
}

static void reading_what_is_not_there_or_of_another_type_gives_defaults(void **state)
{
	k3sup__json *v = parse("{\"s\":\"x\",\"i\":3,\"t\":true,\"n\":null,\"r\":1.5,\"a\":[1]}");
	int64_t number = -7;

	(void)state;
	assert_string_equal(k3sup__json_text(v, "s"), "x");
	assert_null(k3sup__json_text(v, "i"));
	assert_null(k3sup__json_text(NULL, "i"));
	assert_int_equal(k3sup__json_number(v, "i", 9), 3);
	assert_int_equal(k3sup__json_number(v, "s", 9), 9);
	assert_int_equal(k3sup__json_number(v, "none", 9), 9);
	assert_false(k3sup__json_as_i64(k3sup__json_member(v, "r"), &number));
	assert_int_equal(number, -7);
	assert_true(k3sup__json_as_i64(k3sup__json_member(v, "t"), &number));
	assert_int_equal(number, 1);
	assert_true(k3sup__json_is_null(k3sup__json_member(v, "n")));
	assert_false(k3sup__json_is_null(NULL));
	assert_int_equal(k3sup__json_len(k3sup__json_member(v, "s")), 0);
	assert_int_equal(k3sup__json_len(NULL), 0);
	assert_null(k3sup__json_element(k3sup__json_member(v, "a"), 1));
	k3sup__json_del(v, "s");
	assert_null(k3sup__json_member(v, "s"));
	k3sup__json_unref(v);
}

static int third(const char *key, k3sup__json *value, void *arg)
{
	char *seen = arg;

	(void)value;
	(void)strcat(seen, key);
	return k3sup__streq(key, "a") ? 42 : 0;
}

static void each_goes_in_order_of_insertion_and_stops(void **state)
{
	k3sup__json *v = parse("{\"z\":1,\"y\":2,\"a\":3,\"b\":4}");
	char seen[8] = "";

	(void)state;
	assert_int_equal(k3sup__json_each(v, third, seen), 42);
	assert_string_equal(seen, "zya");
	k3sup__json_unref(v);
}

static void parsing_is_strict(void **state)
{
	static const char *const bad[] = {"", " ", "{", "{\"a\":1,\"a\":2}", "1 2", "{} x", "[1,]", "'a'", "\"\\u0000\"", "\"\xff\"", "nul",
		"1e999", "99999999999999999999", "{\"a\\u0000\":1}"};
	k3sup__json *value = NULL;
	_free_ char *deep = malloc(10001);

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		if (k3sup__json_parse(bad[i], strlen(bad[i]), &value) != K3SUP_E_PARSE)
			fail_msg("%s was taken", bad[i]);
	assert_non_null(deep);
	memset(deep, '[', 10000);
	assert_int_equal(k3sup__json_parse(deep, 10000, &value), K3SUP_E_PARSE);
	assert_int_equal(k3sup__json_parse(deep, ((size_t)64 << 20) + 1, &value), -EFBIG);
	assert_null(value);
}

static void numbers_with_a_fraction_are_not_taken_for_damage(void **state)
{
	k3sup__json *v = parse("[1.5,0.5,{\"a\":[0.5],\"\\u0001lost\":true,\"lost\":null},null]");

	(void)state;
	assert_false(k3sup__json_broken(v));
	assert_dump(v, "[1.5,0.5,{\"a\":[0.5],\"\\u0001lost\":true,\"lost\":null},null]");
}

static void a_lost_value_breaks_all_that_holds_it(void **state)
{
	k3sup__json *o = k3sup__json_object(), *a = k3sup__json_array(), *copy;

	(void)state;
	assert_true(k3sup__json_broken(NULL));
	assert_false(k3sup__json_broken(o));
	k3sup__json_add(a, NULL);
	k3sup__json_set(o, "list", a);
	assert_true(k3sup__json_broken(o));
	assert_null(k3sup__json_dump(o));
	copy = k3sup__json_copy(o);
	assert_true(k3sup__json_broken(copy));
	k3sup__json_unref(copy);
	k3sup__json_unref(o);
	o = k3sup__json_object();
	k3sup__json_set(o, "x", NULL);
	assert_true(k3sup__json_broken(o));
	k3sup__json_unref(o);
	k3sup__json_set(NULL, "x", k3sup__json_int(1)); /* evidence of no operation */
	k3sup__json_add(NULL, k3sup__json_int(1));
}

/* ---- without memory ---- */

static long allow;      /* so many allocations succeed */
static long fail_count; /* then so many fail */

static void *failing_malloc(size_t size)
{
	if (allow > 0) {
		allow--;
		return malloc(size);
	}
	if (fail_count > 0) {
		fail_count--;
		return NULL;
	}
	return malloc(size);
}

static k3sup__json *build(void)
{
	k3sup__json *o = k3sup__json_object(), *list = k3sup__json_array();
	char key[16];

	for (int i = 0; i < 20; i++)
		k3sup__json_add(list, k3sup__json_str(i % 2 ? "even" : "o\xff"));
	k3sup__json_set(o, "list", list);
	for (int i = 0; i < 20; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		k3sup__json_set_int(o, key, i);
	}
	k3sup__json_set(o, "empty", k3sup__json_object());
	return o;
}

/* 0: whole or known to be broken; 100: nothing failed. In a child, so that the allocator is changed for nobody else. */
static int try_build(long succeed, long fail, const char *whole)
{
	_free_ char *text = NULL;
	k3sup__json *value;
	bool broken, struck;

	allow = succeed;
	fail_count = fail;
	value = build();
	struck = fail_count != fail;
	broken = k3sup__json_broken(value);
	allow = fail_count = 0;
	text = k3sup__json_dump(value);
	k3sup__json_unref(value);
	if (!struck)
		return 100;
	return broken ? text != NULL : !text || !k3sup__streq(text, whole);
}

static void no_allocation_fails_unnoticed(void **state)
{
	static const long fails[] = {1, 2, 3, 1000000};
	k3sup__json *value = build();
	_free_ char *whole = k3sup__json_dump(value);

	(void)state;
	k3sup__json_unref(value);
	assert_non_null(whole);
	for (size_t f = 0; f < ELEMENTSOF(fails); f++) {
		int status = 0;

		for (long n = 0; status == 0; n++) {
			pid_t pid = fork();

			assert_true(pid >= 0);
			if (pid == 0) {
				json_set_alloc_funcs(failing_malloc, free);
				_exit(try_build(n, fails[f], whole));
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(WIFEXITED(status));
			status = WEXITSTATUS(status);
			if (status != 0 && status != 100)
				fail_msg("allocation %ld and %ld more failed, and nobody noticed", n, fails[f] - 1);
			assert_true(n > 20 || status == 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_written_on_one_line_of_printable_ascii),
		cmocka_unit_test(a_dump_reads_back_as_the_same),
		cmocka_unit_test(foreign_bytes_stay_visible),
		cmocka_unit_test(pointers_follow_the_rfc),
		cmocka_unit_test(reading_what_is_not_there_or_of_another_type_gives_defaults),
		cmocka_unit_test(each_goes_in_order_of_insertion_and_stops),
		cmocka_unit_test(parsing_is_strict),
		cmocka_unit_test(numbers_with_a_fraction_are_not_taken_for_damage),
		cmocka_unit_test(a_lost_value_breaks_all_that_holds_it),
		cmocka_unit_test(no_allocation_fails_unnoticed),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
