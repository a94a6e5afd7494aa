/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <k3sup/error.h>

#include "base/util.h"

struct known {
	char name[64];
	int code;
};

/* The codes as the public header has them, so that a new one without a name and a sentence is noticed. */
static size_t read_header(struct known *ret, size_t room)
{
	FILE *file = fopen(ERROR_H, "re");
	char line[512];
	size_t n = 0;

	if (!file)
		fail_msg("cannot open %s", ERROR_H);
	while (fgets(line, sizeof(line), file)) {
		if (!k3sup__startswith(line, "#define K3SUP_E_"))
			continue;
		assert_true(n < room);
		if (sscanf(line, "#define %63s (%d)", ret[n].name, &ret[n].code) != 2)
			fail_msg("what is this: %s", line);
		n++;
	}
	fclose(file);
	assert_true(n > 30);
	return n;
}

static void assert_sentence_like(const char *text)
{
	size_t len = strlen(text);

	assert_in_range(len, 5, 100);
	assert_true(text[len - 1] != '.');
	for (size_t i = 0; i < len; i++)
		assert_true(text[i] >= ' ' && text[i] < 0x7f);
}

static void every_code_of_the_header_has_its_name_and_sentence(void **state)
{
	struct known known[200];
	size_t n = read_header(known, ELEMENTSOF(known));

	(void)state;
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(k3sup_error_name(known[i].code), known[i].name);
		assert_ptr_equal(k3sup_strerror(-known[i].code), k3sup_strerror(known[i].code));
		assert_ptr_equal(k3sup_error_name(-known[i].code), k3sup_error_name(known[i].code));
		assert_sentence_like(k3sup_strerror(known[i].code));
		assert_string_not_equal(k3sup_strerror(known[i].code), k3sup_strerror(-20000));
	}
}

static void codes_names_and_sentences_are_unique_and_in_range(void **state)
{
	struct known known[200];
	size_t n = read_header(known, ELEMENTSOF(known));

	(void)state;
	for (size_t i = 0; i < n; i++) {
		assert_in_range(-known[i].code, 10001, 10999);
		for (size_t j = 0; j < i; j++) {
			assert_int_not_equal(known[i].code, known[j].code);
			assert_string_not_equal(k3sup_strerror(known[i].code), k3sup_strerror(known[j].code));
		}
	}
}

static void system_errors_have_their_names(void **state)
{
	size_t named = 0;

	(void)state;
	assert_string_equal(k3sup_error_name(-ENOENT), "ENOENT");
	assert_string_equal(k3sup_error_name(ETXTBSY), "ETXTBSY");
	assert_string_equal(k3sup_error_name(-EOPNOTSUPP), "EOPNOTSUPP");
	for (int code = 1; code < 200; code++) {
		const char *name = k3sup_error_name(-code);

		if (k3sup__streq(name, "UNKNOWN")) {
			assert_string_equal(k3sup_strerror(-code), "unknown error");
			continue;
		}
		named++;
		assert_true(name[0] == 'E' && (isupper((unsigned char)name[1]) || name[1] == '2'));
		assert_sentence_like(k3sup_strerror(-code));
		for (int other = 1; other < code; other++)
			assert_string_not_equal(name, k3sup_error_name(other));
	}
	assert_true(named > 80);
}

static void any_int_has_an_answer(void **state)
{
	static const int odd[] = {INT_MIN, INT_MIN + 1, INT_MAX, -1000000, -10000, -9999, -4096, -4095, -134, 134, -10099, 10099};

	(void)state;
	assert_string_equal(k3sup_strerror(0), "success");
	assert_string_equal(k3sup_error_name(0), "OK");
	for (size_t i = 0; i < ELEMENTSOF(odd); i++) {
		assert_string_equal(k3sup_strerror(odd[i]), "unknown error");
		assert_string_equal(k3sup_error_name(odd[i]), "UNKNOWN");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_of_the_header_has_its_name_and_sentence),
		cmocka_unit_test(codes_names_and_sentences_are_unique_and_in_range),
		cmocka_unit_test(system_errors_have_their_names),
		cmocka_unit_test(any_int_has_an_answer),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
