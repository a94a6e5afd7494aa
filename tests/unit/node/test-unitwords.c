/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/unitwords.h"

/* Words joined by "|"; "!" stands for quotes or escapes that are wrong. */
static char *words_of(const char *text, bool strict)
{
	char *all = strdup("");
	int r;

	for (;;) {
		_free_ char *word = NULL, *before = all;

		r = k3sup__unit_word(&text, strict, &word);
		if (r == 0) {
			before = NULL;
			return all;
		}
		all = k3sup__fmt("%s%s%s", before, before[0] != '\0' ? "|" : "", r > 0 ? word : "!");
		assert_non_null(all);
		if (r < 0)
			return all;
	}
}

static void words_as_systemd_takes_them(void **state)
{
	static const struct {
		const char *text, *words;
	} table[] = {
		{"a  b\tc ", "a|b|c"},
		{"'a b' \"c d\" e\"f g\"h", "a b|c d|ef gh"},
		{"'it'\\''s'", "it's"},
		{"\\x41\\101\\u00e9\\U0001F600", "AA\303\251\360\237\230\200"},
		{"'\\n' \"\\t\" \\s \\\\ \\\"", "\n|\t| |\\|\""},
		{"\\q '\\z' \\x4 \\x00 \\400", "\\q|\\z|\\x4|\\x00|\\400"},
		{"a\\", "a\\"},
		{"'a", "!"},
		{"b \"a\\", "b|!"},
		{"\\ud800", "\\ud800"},
		{"a'b'\"c\"", "abc"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		_free_ char *words = words_of(table[i].text, false);

		assert_string_equal(words, table[i].words);
	}
}

static void an_empty_word_in_quotes_is_one(void **state)
{
	const char *text = "'' \"\"x";
	char *word = NULL;

	(void)state;
	assert_int_equal(k3sup__unit_word(&text, false, &word), 1);
	assert_string_equal(word, "");
	free(word);
	assert_int_equal(k3sup__unit_word(&text, false, &word), 1);
	assert_string_equal(word, "x");
	free(word);
	assert_int_equal(k3sup__unit_word(&text, false, &word), 0);
}

static void wrong_escapes_end_an_environment_line(void **state)
{
	_free_ char *bad = words_of("A=1 B=\\q C=2", true), *open = words_of("A=1 B=\\", true);

	(void)state;
	assert_string_equal(bad, "A=1|!");
	assert_string_equal(open, "A=1|!");
}

static void specifiers(void **state)
{
	static const struct {
		const char *unit, *text, *value;
		int r;
	} table[] = {
		{"k3s.service", "%n %N %p %P %%", "k3s.service k3s k3s k3s %", 0},
		{"k3s-a-b.service", "%j %J [%i]", "b b []", 0},
		{"k3s-a@x-y.service", "%n|%N|%p|%P|%i|%I|%j", "k3s-a@x-y.service|k3s-a@x-y|k3s-a|k3s/a|x-y|x/y|a", 0},
		{"a\\x2db@\\x41.service", "%P %I %i", "a-b A \\x41", 0},
		{"k3s.service", "%t %S %C %L %E %T %V %h %u %U %g %G", "/run /var/lib /var/cache /var/log /etc /tmp /var/tmp /root root 0 root 0", 0},
		{"k3s.service", "100% %! %", "100% %! %", 0},
		{"k3s.service", "a%Hb", NULL, -ENODATA},
		{"k3s.service", "%m", NULL, -ENODATA},
		{"k3s.service", "%Z", NULL, -EBADSLT},
		{"k3s.service", "%0", NULL, -EBADSLT},
		{"k3s.service", "", "", 0},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		char *value = NULL;

		assert_int_equal(k3sup__unit_specifiers(table[i].unit, table[i].text, &value), table[i].r);
		if (table[i].value == NULL)
			assert_null(value);
		else
			assert_string_equal(value, table[i].value);
		free(value);
	}
}

static void variables(void **state)
{
	static const struct {
		const char *word, *words;
	} table[] = {
		{"$A", "one"},
		{"$B", "two|three four|fi\"ve"},
		{"$NONE", ""},
		{"x${A}y${NONE}z", "xoneyz"},
		{"${B}", "two  'three four' fi\\\"ve"},
		{"$$A $${A}", "$A ${A}"},
		{"x$A", "x$A"},
		{"${A", "${A"},
		{"$A/b", ""},
		{"${}", ""},
		{"$", ""},
		{"a$", "a$"},
	};
	struct k3sup__strv env = {0};

	(void)state;
	assert_int_equal(k3sup__env_set(&env, "A", 1, "one"), 0);
	assert_int_equal(k3sup__env_set(&env, "B", 1, "two  'three four' fi\\\"ve"), 0);
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct k3sup__strv argv = {0}, ret = {0};
		_free_ char *all = strdup("");

		assert_int_equal(k3sup__strv_add(&argv, strdup("$A")), 0);
		assert_int_equal(k3sup__strv_add(&argv, strdup(table[i].word)), 0);
		assert_int_equal(k3sup__unit_expand(&argv, &env, &ret), 0);
		assert_string_equal(ret.items[0], "$A");
		for (size_t j = 1; j < ret.count; j++) {
			char *more = k3sup__fmt("%s%s%s", all, j > 1 ? "|" : "", ret.items[j]);

			free(all);
			all = more;
		}
		assert_string_equal(all, table[i].words);
		k3sup__strv_clear(&argv);
		k3sup__strv_clear(&ret);
	}
	k3sup__strv_clear(&env);
}

static void time_spans(void **state)
{
	static const struct {
		const char *text;
		int64_t us;
	} table[] = {{"5", 5000000}, {"5s", 5000000}, {" 5 s ", 5000000}, {"1min 30s", 90000000}, {"500ms", 500000}, {"2.5", 2500000},
		{"1h2m3s4ms5us", 3723004005}, {"infinity", -1}, {"0", 0}, {"3 days", 259200000000}, {"2 weeks", 1209600000000}};
	static const char *const bad[] = {"", "s", "-1", "5x", "1.2.3", "0x5", "1e3", "infinity 5", "99999999999999999y", "5 5 x"};
	int64_t us;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		assert_int_equal(k3sup__unit_span(table[i].text, &us), 0);
		assert_int_equal(us, table[i].us);
	}
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_int_equal(k3sup__unit_span(bad[i], &us), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_as_systemd_takes_them),
		cmocka_unit_test(an_empty_word_in_quotes_is_one),
		cmocka_unit_test(wrong_escapes_end_an_environment_line),
		cmocka_unit_test(specifiers),
		cmocka_unit_test(variables),
		cmocka_unit_test(time_spans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
