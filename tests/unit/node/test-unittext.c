/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/unittext.h"

static void assert_assigned(const char *text, size_t len, const char *all, int expected)
{
	struct k3sup__assignments found = {0};
	_free_ char *said = strdup("");
	unsigned line = 0;

	assert_int_equal(k3sup__unit_parse(text, len, 0, &found, &line), expected);
	for (size_t i = 0; i < found.count; i++) {
		char *more = k3sup__fmt("%s[%s]%s=%s;", said, found.items[i].section, found.items[i].key, found.items[i].value);

		free(said);
		said = more;
	}
	assert_string_equal(said, all);
	k3sup__assignments_clear(&found);
}

static void unit_files(void **state)
{
	static const struct {
		const char *text, *all;
		int r;
	} table[] = {
		{"[S]\nA=1\n B = 2 \nC=\n", "[S]A=1;[S]B=2;[S]C=;", 0},
		{"A=1\n[S]\nB=2\n[T]\nB=3=4\n", "[S]B=2;[T]B=3=4;", 0},
		{"[S]\n# a=1\n ; b=1\nno equals\n[  T ]\nA=1", "[  T ]A=1;", 0},
		{"[S]\nA=1 \\\n  2 \\\n# comment \\\n\t; another\n3\nB=4\n", "[S]A=1    2  3;[S]B=4;", 0},
		{"[S]\nA=1\\\\\nB=2\n", "[S]A=1\\\\;[S]B=2;", 0},
		{"[S]\nA=1 \\\n\nB=2\n", "[S]A=1;[S]B=2;", 0},
		{"[S]\r\nA=1 \\\r\n2\r\nB=3", "[S]A=1  2;[S]B=3;", 0},
		{"[S]\nA=1 \\", "[S]A=1;", 0},
		{"\357\273\277[S]\nA=1\n", "[S]A=1;", 0},
		{"[S]\nA=\377\nB=\303\251\nC=\355\240\200\nD=\300\200\n", "[S]B=\303\251;", 0},
		{"[S]\nA=1\n[T\nB=2\n", "[S]A=1;", -EBADMSG},
		{"", "", 0},
	};
	static const char with_nul[] = "[S]\nA=1\0B=2\nC=3";

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		assert_assigned(table[i].text, strlen(table[i].text), table[i].all, table[i].r);
	assert_assigned(with_nul, sizeof(with_nul) - 1, "[S]A=1;[S]B=2;[S]C=3;", 0);
}

static void environment_files(void **state)
{
	static const struct {
		const char *text, *all;
	} table[] = {
		{"A=1\nB = 2 \n#C=3\n ;D=4\n\nE=5", "A=1;B=2;E=5;"},
		{"A='a b' \nB=\"c d\"\nC=a\"b\n", "A=a b;B=c d;C=a\"b;"},
		{"A='it'\\''s'\nB='se'\"'\"'cret'\n", "A=it''s';B=se'cret;"},
		{"A=a\\\nb\nB=\"x\\\ny\"\nC='m\nn'\n", "A=ab;B=xy;C=m\nn;"},
		{"A=\"\\$x \\`y \\\" \\\\ \\z\"\nB=\\$x\\n\n", "A=$x `y \" \\ \\z;B=$xn;"},
		{"A=1\nA=2\n", "A=2;"},
		{"1A=1\nA-B=1\n=1\nexport C=1\nD\n", ""},
		{"A=1 2  \nB=1\\ \nC=\n", "A=1 2;B=1 ;C=;"},
		{"#x \\\nA=1\nB=2\n", "B=2;"},
		{"A=$B\n", "A=$B;"},
		{"A=1\r\nB=2\r\n", "A=1;B=2;"},
		{"A=\377\nB=1\n", "B=1;"},
		{"A='open", "A=open;"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct k3sup__strv env = {0};
		_free_ char *said = strdup("");

		assert_int_equal(k3sup__env_parse(table[i].text, strlen(table[i].text), &env), 0);
		for (size_t j = 0; j < env.count; j++) {
			char *more = k3sup__fmt("%s%s;", said, env.items[j]);

			free(said);
			said = more;
		}
		assert_string_equal(said, table[i].all);
		k3sup__strv_clear(&env);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unit_files),
		cmocka_unit_test(environment_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
