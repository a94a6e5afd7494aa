/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include "base/base64.h"

static void texts_of_all_lengths(void **state)
{
	static const struct {
		const char *text, *bytes;
	} cases[] = {
		{"Zg==", "f"},
		{"Zm8=", "fo"},
		{"Zm9v", "foo"},
		{"Zm9vYg==", "foob"},
		{"Zm9vYmE=", "fooba"},
		{"Zm9v\r\nYmFy\n", "foobar"},
		{" Z m 9 v ", "foo"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_free_ char *text = strdup(cases[i].text);

		assert_int_equal(k3sup__base64((unsigned char *)text, strlen(text), true), strlen(cases[i].bytes));
		assert_string_equal(text, cases[i].text); /* only looked at */
		assert_int_equal(k3sup__base64((unsigned char *)text, strlen(text), false), strlen(cases[i].bytes));
		assert_memory_equal(text, cases[i].bytes, strlen(cases[i].bytes));
	}
}

static void what_is_no_base64(void **state)
{
	static const char *const cases[] = {"", " \n", "Z", "Zm9", "Zg=", "Zg===", "=", "Zg==Zg==", "Zm9v-", "Zm9_", "Zm=9"};
	unsigned char nul[] = {'Z', 'm', 0, '9', 'v'};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_free_ char *text = strdup(cases[i]);

		assert_int_equal(k3sup__base64((unsigned char *)text, strlen(text), false), -1);
	}
	assert_int_equal(k3sup__base64(nul, sizeof(nul), true), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_of_all_lengths),
		cmocka_unit_test(what_is_no_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
