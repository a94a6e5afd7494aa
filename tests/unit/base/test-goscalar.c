/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <k3sup/error.h>

#include "base/yaml.h"

/* As a program with yaml.v2 2.4.0 printed them. */
static void what_go_prints(void **state)
{
	static const struct {
		const char *text, *printed;
	} table[] = {{"yes", "true"}, {"Y", "true"}, {"On", "true"}, {"TRUE", "true"}, {"tRUE", NULL}, {"no", "false"}, {"n", "false"},
		{"OFF", "false"}, {"1", NULL}, {"010", "8"}, {"0x1F", "31"}, {"0b101", "5"}, {"0o17", "15"}, {"08", "8"}, {"1_000", "1000"},
		{"+5", "5"}, {"-0", "0"}, {"-0x10", "-16"}, {"9223372036854775807", NULL}, {"18446744073709551615", NULL},
		{"18446744073709551616", "1.8446744073709552e+19"}, {"1.50", "1.5"}, {"1.", "1"}, {"1e3", "1000"}, {"1e20", "1e+20"},
		{"1e21", "1e+21"}, {"0.0001", NULL}, {"0.00001", "1e-05"}, {".5", "0.5"}, {"-.5e1", "-5"}, {"1e400", NULL},
		{".inf", "+Inf"}, {"-.Inf", "-Inf"}, {".NaN", "NaN"}, {"12:30", NULL}, {"1.2.3", NULL}, {"v1", NULL}, {"/x", NULL},
		{"0x", NULL}, {"+", NULL}, {"1.31", NULL}, {"0.1", NULL}, {"123456789.125", "1.23456789125e+08"}, {"123456.5", NULL},
		{"1e", NULL}, {"10.0.0.1", NULL}, {"6443", NULL}, {".", NULL}, {"..", NULL}, {"1__0", "10"}, {"_1", NULL}, {"0x_1", "1"},
		{"0777_", "511"}, {"1_.5", "1.5"}, {".5_0", "0.5"}, {"._5", NULL}, {"-08", "-8"}, {"0O7", "7"}, {"1e+", NULL},
		{"1.e3", "1000"}, {".e3", NULL}, {"2024-01-02", NULL}, {"2024-01-02T03:04:05Z", NULL},
		{"+18446744073709551615", "1.8446744073709552e+19"}, {"-9223372036854775809", "-9.223372036854776e+18"}, {"nO", NULL}};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		_free_ char *printed = NULL;
		int r = k3sup__yaml_go_scalar(table[i].text, &printed);

		assert_true(r == 0 || r == 1);
		assert_string_equal(r == 1 ? printed : table[i].text, table[i].printed != NULL ? table[i].printed : table[i].text);
	}
}

static void assert_refused(const char *text, int code)
{
	k3sup__json *value = NULL;
	_free_ char *why = NULL;

	assert_int_equal(k3sup__yaml_pairs(text, strlen(text), &value, &why), code);
	assert_non_null(why);
}

static void assert_pairs(const char *text, const char *json)
{
	k3sup__json *value = NULL;
	char *why = NULL;
	_free_ char *dumped = NULL;

	assert_int_equal(k3sup__yaml_pairs(text, strlen(text), &value, &why), 0);
	dumped = k3sup__json_dump(value);
	assert_string_equal(dumped, json);
	k3sup__json_unref(value);
}

static void pairs(void **state)
{
	(void)state;
	assert_pairs("", "[]");
	assert_pairs("a: yes\nb: 'yes'\na: [010, \"010\", ~]\n", "[[\"a\",\"true\"],[\"b\",\"yes\"],[\"a\",[\"8\",\"010\",null]]]");
	assert_pairs("yes: 1\n1.0: x\n~: y\n", "[[\"true\",\"1\"],[\"1\",\"x\"],[\"\",\"true\"]]");
	assert_pairs("a: {b: on}\n<<: {c: 1}\n", "[[\"a\",{\"b\":\"true\"}]]");
}

/* Each of them was given to yaml.v2 2.4.0: the first ones it refuses, the others it reads, some of them as something else than libyaml would. */
static void what_go_refuses_and_what_it_may_read(void **state)
{
	static const char *const refused[] = {
		"- a\n", "text\n", "a: [\n", "a: b: c\n", "a: *b\n", "a: &x [*x]\n", "<<: x\n", "a: 1\n\tb: 2\n", "a: 'x\n", "a: \x01\n"};
	static const char *const read[] = {
		"-\n  a: b\n", "-\n", "{a:, b: c}\n", "[a]: b\n", "a: !!str b\n", "a: b\n\ufeffc: d\n", "? a\n: b\n? ![\n: y\n"};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(refused); i++)
		assert_refused(refused[i], K3SUP_E_PARSE);
	for (size_t i = 0; i < ELEMENTSOF(read); i++)
		assert_refused(read[i], K3SUP_E_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_go_prints),
		cmocka_unit_test(pairs),
		cmocka_unit_test(what_go_refuses_and_what_it_may_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
