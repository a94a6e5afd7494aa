/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <k3sup/error.h>

#include "base/yaml.h"

/* Text in, JSON out. */
static const struct {
	const char *yaml;
	const char *json;
} readable[] = {
	/* nothing */
	{"", "null"},
	{"# only a remark\n", "null"},
	{"---\n", "null"},
	{"---\n...\n", "null"},
	/* as in k3s's manual */
	{"write-kubeconfig-mode: \"0644\"\ntls-san:\n  - \"foo.local\"\nnode-label:\n  - \"foo=bar\"\n  - "
	 "\"something=amazing\"\ncluster-init: true\n",
		"{\"write-kubeconfig-mode\":\"0644\",\"tls-san\":[\"foo.local\"],\"node-label\":[\"foo=bar\",\"something=amazing\"],"
		"\"cluster-init\":\"true\"}"},
	{"data-dir: /mnt/pool/k3s\n", "{\"data-dir\":\"/mnt/pool/k3s\"}"},
	{"data-dir: '/mnt/pool/k3s' # moved\r\ntoken: a:b\r\n", "{\"data-dir\":\"/mnt/pool/k3s\",\"token\":\"a:b\"}"},
	{"node-taint+:\n- a=b:NoExecute\n", "{\"node-taint+\":[\"a=b:NoExecute\"]}"},
	{"\"data-dir\": \"/a b/\\u00e9\"\n", "{\"data-dir\":\"/a b/\\u00E9\"}"},
	{"{data-dir: /x, debug: false}", "{\"data-dir\":\"/x\",\"debug\":\"false\"}"},
	{"kubelet-arg: >-\n  max-pods=5\n  v=2\n", "{\"kubelet-arg\":\"max-pods=5 v=2\"}"},
	{"token: |\n  a\n  b\n", "{\"token\":\"a\\nb\\n\"}"},
	{"\xef\xbb\xbf"
	 "a: 1\n",
		"{\"a\":\"1\"}"},
	/* scalars keep their text */
	{"[1, 010, 0x10, 1e3, 1.50, yes, No, 2024-01-01, 12:30:45, -0, .inf, '']",
		"[\"1\",\"010\",\"0x10\",\"1e3\",\"1.50\",\"yes\",\"No\",\"2024-01-01\",\"12:30:45\",\"-0\",\".inf\",\"\"]"},
	{"[null, Null, NULL, ~, 'null', \"~\", nuLL, !!str null, !!str ~]", "[null,null,null,null,\"null\",\"~\",\"nuLL\",\"null\",\"~\"]"},
	{"a:\nb: ~\n", "{\"a\":null,\"b\":null}"},
	{"just text", "\"just text\""},
	{"? a\n: b\n", "{\"a\":\"b\"}"},
	{"~: x\n", "{\"~\":\"x\"}"},
	{"1: x\n", "{\"1\":\"x\"}"},
	{"a: \"x\\0y\"\n", "{\"a\":\"x\\\\x00y\"}"},
	/* the last one wins */
	{"a: 1\nb: 2\na: 3\n", "{\"a\":\"3\",\"b\":\"2\"}"},
	/* the first document */
	{"a: 1\n---\na: 2\n", "{\"a\":\"1\"}"},
	{"a: 1\n--- [\n", "{\"a\":\"1\"}"},
	{"%YAML 1.2\n---\na: 1\n", "{\"a\":\"1\"}"},
	/* aliases */
	{"a: &x [1, 2]\nb: *x\nc: *x\n", "{\"a\":[\"1\",\"2\"],\"b\":[\"1\",\"2\"],\"c\":[\"1\",\"2\"]}"},
	{"a: &x 1\nb: &x 2\nc: *x\n", "{\"a\":\"1\",\"b\":\"2\",\"c\":\"2\"}"},
	{"a: &x key\n*x : 1\n", "{\"a\":\"key\",\"key\":\"1\"}"},
	{"&x key: *x\n", "{\"key\":\"key\"}"},
	/* what is merged is not seen by k3s */
	{"base: &x {data-dir: /x}\n<<: *x\n'<<': 1\n", "{\"base\":{\"data-dir\":\"/x\"},\"<<\":\"1\"}"},
};

static void configurations_are_read_as_k3s_reads_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(readable); i++) {
		_cleanup_(k3sup__json_unrefp) k3sup__json *value = NULL;
		_free_ char *why = NULL;
		_free_ char *json = NULL;
		int r = k3sup__yaml_parse(readable[i].yaml, strlen(readable[i].yaml), &value, &why);

		if (r != 0)
			fail_msg("%s: %d %s", readable[i].yaml, r, why);
		json = k3sup__json_dump(value);
		assert_string_equal(json, readable[i].json);
		assert_null(why);
	}
}

static const struct {
	const char *yaml;
	int code;
	const char *why;
} refused[] = {
	{"a: b: c\n", K3SUP_E_PARSE, "line 1: mapping values are not allowed"},
	{"a: 1\nb: [1, 2\nc: 3\n", K3SUP_E_PARSE, "line 3"},
	{"a: 1\n\tb: 2\n", K3SUP_E_PARSE, "line 2"},
	{"a: 'x\n", K3SUP_E_PARSE, "unexpected end of stream"},
	{"a: *nobody\n", K3SUP_E_PARSE, "line 1: an alias of an anchor that is not there"},
	{"a: 1\nb: &x [*x]\n", K3SUP_E_PARSE, "line 2: a value that contains itself"},
	{"a: &x {b: {c: *x}}\n", K3SUP_E_PARSE, "contains itself"},
	{"[a, b]: c\n", K3SUP_E_PARSE, "a key that is no text"},
	{"{a: b}: c\n", K3SUP_E_PARSE, "a key that is no text"},
	{"a: &x [1]\n*x : 1\n", K3SUP_E_PARSE, "a key that is no text"},
	{"\"a\\0b\": c\n", K3SUP_E_PARSE, "a key that is no text"},
	{"a: \"\\ud800\"\n", K3SUP_E_PARSE, "line 1"},
	{"a: \xff\n", K3SUP_E_PARSE, "line 1"},
	{"a: \x01\n", K3SUP_E_PARSE, "line 1"},
	{"%\xab", K3SUP_E_PARSE, "line 1"},
	{"]", K3SUP_E_PARSE, "line 1"},
	{"- a\nb: c\n", K3SUP_E_PARSE, "line 2"},
};

static void what_is_not_yaml_is_refused_with_its_line(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
		k3sup__json *value = NULL;
		_free_ char *why = NULL;
		int r = k3sup__yaml_parse(refused[i].yaml, strlen(refused[i].yaml), &value, &why);

		if (r != refused[i].code || !why || !strstr(why, refused[i].why))
			fail_msg("%s: %d %s", refused[i].yaml, r, why);
		assert_null(value);
		assert_int_equal(k3sup__yaml_parse(refused[i].yaml, strlen(refused[i].yaml), &value, NULL), refused[i].code);
	}
}

/* `count` times `part`, between `head` and `tail`. */
static char *repeated(const char *head, const char *part, size_t count, const char *tail)
{
	const size_t len = strlen(part);
	char *text = malloc(strlen(head) + len * count + strlen(tail) + 1);
	char *at;

	assert_non_null(text);
	at = stpcpy(text, head);
	for (size_t i = 0; i < count; i++)
		at = stpcpy(at, part);
	stpcpy(at, tail);
	return text;
}

static void assert_code(const char *yaml, int code)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *value = NULL;
	_free_ char *why = NULL;
	const int64_t began = k3sup__now_ms();
	int r = k3sup__yaml_parse(yaml, strlen(yaml), &value, &why);

	if (r != code)
		fail_msg("%.40s...: %d %s", yaml, r, why);
	assert_int_equal(value != NULL, code == 0);
	/* Generous for valgrind and sanitizers; what the bounds are there to stop would take minutes or for ever. */
	assert_true(k3sup__now_ms() - began < 30000);
}

static void text_is_bounded(void **state)
{
	_free_ char *fits = repeated("", "#", (1 << 20) - 1, "\n");
	_free_ char *too_long = repeated("", "#", 1 << 20, "\n");

	(void)state;
	assert_code(fits, 0);
	assert_code(too_long, -EFBIG);
}

static void nesting_is_bounded(void **state)
{
	_free_ char *close = repeated("", "]", 63, "");
	_free_ char *fits = repeated("", "[", 63, close);
	_free_ char *too_deep = repeated("", "[", 65, "");
	_free_ char *deepest = repeated("", "[", 500000, "");
	_free_ char *mappings = repeated("", "{a: ", 100000, "");
	_free_ char *dashes = repeated("", "- ", 100000, "");

	(void)state;
	assert_code(fits, 0);
	assert_code(too_deep, -EFBIG);
	assert_code(deepest, -EFBIG);
	assert_code(mappings, -EFBIG);
	assert_code(dashes, -EFBIG);
}

static void nesting_through_aliases_counts(void **state)
{
	/* 40 levels, and 30 more around the alias of them */
	_free_ char *close40 = repeated("", "]", 40, "\n");
	_free_ char *open40 = repeated("a: &x ", "[", 40, close40);
	_free_ char *close20 = repeated(" *x ", "]", 20, "\n");
	_free_ char *open20 = repeated("b: ", "[", 20, close20);
	_free_ char *close30 = repeated(" *x ", "]", 30, "\n");
	_free_ char *open30 = repeated("b: ", "[", 30, close30);
	_free_ char *fits = k3sup__fmt("%s%s", open40, open20);
	_free_ char *too_deep = k3sup__fmt("%s%s", open40, open30);

	(void)state;
	assert_code(fits, 0);
	assert_code(too_deep, -EFBIG);
}

static void values_are_bounded(void **state)
{
	_free_ char *fits = repeated("[", "a,", 99000, "]");
	_free_ char *too_many = repeated("[", "a,", 101000, "]");

	(void)state;
	assert_code(fits, 0);
	assert_code(too_many, -EFBIG);
}

static void a_billion_laughs_are_refused(void **state)
{
	(void)state;
	assert_code("a: &a [x,x,x,x,x,x,x,x,x]\n"
		    "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
		    "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
		    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
		    "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
		    "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
		    "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
		-EFBIG);
}

static void long_text_through_aliases_counts(void **state)
{
	_free_ char *line = repeated("a: &x ", "y", 500000, "\n");
	_free_ char *few = repeated(line, "- *x\n", 0, "b: [*x, *x]\n");
	_free_ char *aliases = repeated("b: [", "*x,", 1000, "]\n");
	_free_ char *many = k3sup__fmt("%s%s", line, aliases);

	(void)state;
	assert_code(few, 0);
	assert_code(many, -EFBIG);
}

static void anchors_are_bounded(void **state)
{
	_free_ char *fits = repeated("[", "&a x,", 999, "]");
	_free_ char *too_many = repeated("[", "&a x,", 1001, "]");

	(void)state;
	assert_code(fits, 0);
	assert_code(too_many, -EFBIG);
}

static void shared_values_are_apart(void **state)
{
	static const char text[] = "a: &x {k: 1}\nb: *x\n";
	_cleanup_(k3sup__json_unrefp) k3sup__json *value = NULL;
	_free_ char *json = NULL;

	(void)state;
	assert_int_equal(k3sup__yaml_parse(text, strlen(text), &value, NULL), 0);
	k3sup__json_set_int(k3sup__json_member(value, "a"), "k", 2);
	json = k3sup__json_dump(value);
	assert_string_equal(json, "{\"a\":{\"k\":2},\"b\":{\"k\":\"1\"}}");
}

/* Every beginning of a text, and every text with one byte changed: whatever comes back, nothing breaks. */
static void damaged_texts_do_no_harm(void **state)
{
	static const char text[] = "a: &x [1, 'two', \"th\\u00e9\"]\n? b\n: {c: *x, <<: ~}\nd: |\n  e\n---\n- f\n";
	static const char bytes[] = "\0\t\n\r !\"#%&'*,-:<>?[]{|}~\x7f\x80\xff";

	(void)state;
	for (size_t at = 0; at < sizeof(text) - 1; at++) {
		for (size_t i = 0; i < sizeof(bytes); i++) {
			_cleanup_(k3sup__json_unrefp) k3sup__json *value = NULL;
			_free_ char *copy = strdup(text);
			size_t len = i == sizeof(bytes) - 1 ? at : sizeof(text) - 1;
			int r;

			copy[at] = bytes[i];
			r = k3sup__yaml_parse(copy, len, &value, NULL);
			assert_true(r == 0 || r == K3SUP_E_PARSE);
			assert_int_equal(r == 0, value != NULL);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configurations_are_read_as_k3s_reads_them),
		cmocka_unit_test(what_is_not_yaml_is_refused_with_its_line),
		cmocka_unit_test(text_is_bounded),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(nesting_through_aliases_counts),
		cmocka_unit_test(values_are_bounded),
		cmocka_unit_test(a_billion_laughs_are_refused),
		cmocka_unit_test(long_text_through_aliases_counts),
		cmocka_unit_test(anchors_are_bounded),
		cmocka_unit_test(shared_values_are_apart),
		cmocka_unit_test(damaged_texts_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
