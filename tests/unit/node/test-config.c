/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "node/config.h"

static char *joined(const struct k3sup__strv *strv)
{
	char *all = strdup("");

	for (size_t i = 0; i < strv->count; i++) {
		char *more = k3sup__fmt("%s%s%s", all, i > 0 ? " | " : "", strv->items[i]);

		free(all);
		all = more;
		assert_non_null(all);
	}
	return all;
}

/* Files in their order, and what a program with k3s's rules and yaml.v2 2.4.0 made of them. REFUSED: it fails. NULL: cannot be told. */
#define REFUSED "refused"
static const struct {
	const char *files[3];
	const char *args;
} merges[] = {
	{{"a: 1\n", "a: 2\n"}, "-a=2"},
	{{"a: [1, 2]\n", "a: [3]\n"}, "-a=3"},
	{{"a: 1\nb: 2\n", "c: 3\na: 4\n"}, "-a=4 | -b=2 | -c=3"},
	{{"a: x\n", "a+: y\n"}, "-a=x | -a=true"},
	{{"a: [x, y]\n", "a+:\n- z\n", "a+: w\n"}, "-a=x | -a=true | -a=z | -a=w"},
	{{"a+: y\n"}, "-a=true"},
	{{"a+: [y]\n", "a: z\n"}, "-a=z"},
	{{"a: x\na+: y\na+: z\n"}, "-a=x | -a=true | -a=z"},
	{{"a:\n", "a+: y\n"}, "-a=true"},
	{{"a: x\n", "a+:\n"}, "-a=x"},
	{{"a: 5\n", "a+: 6\n"}, "-a=5 | -a=6"},
	{{"a++: x\n", "a++: y\n"}, "--a+=x | --a+=true"},
	{{"t: x\nd: /y\n"}, "-t=x | -d=/y"},
	{{"a: yes\nb: \"yes\"\nc: 010\nd: 0644\ne: \"0644\"\nff: 1.50\n"}, "-a=true | -b=yes | -c=8 | -d=420 | -e=0644 | --ff=1.5"},
	{{"a:\nb: ''\nc1: [~, '']\n"}, "-a= | -b= | --c1= | --c1="},
	{{"a: []\n"}, ""},
	{{"a: ' x '\n' b ': [' y ']\n"}, "-a=x | -b=y"},
	{{"a: \"\\u00a0\\u2003x\\u2003y\\x85\\u3000\"\n\"\\u2028b\": \xc2\xa0z\n"}, "-a=x\u2003y | -b=z"},
	{{"a: !!str 5\n"}, NULL},     /* in a flow the comma behind it is a part of it, for some */
	{{"a: !!int \"5\"\n"}, NULL}, /* k3s reads -a=5, and other values than are written in some */
	{{"a: !!binary aGVsbG8=\n"}, NULL},
	{{"a: !!bool x\n"}, NULL},
	{{"a: x\n<<: {b: c}\n"}, "-a=x"}, /* forgotten */
	{{"a: x\n<<: [{b: c}]\n"}, "-a=x"},
	{{"<<: x\n"}, REFUSED},
	{{"<<: [x]\n"}, REFUSED},
	{{"[]\n", "a: x\n"}, "-a=x"},
	{{"{a: x}\n\tb: y\n"}, REFUSED},
	{{"a: x\n---\nb: y\n"}, "-a=x"},
	{{"data-dir: /a\n", "data-dir+: /b\n"}, "--data-dir=/a | --data-dir=/b"},
	{{""}, ""},
	{{"# nothing\n"}, ""},
	{{"a: {b: c}\n"}, NULL},
	{{"a: [[b]]\n"}, NULL},
	{{"- a\n"}, REFUSED},
	{{"a: [\n"}, REFUSED},
};

static void files_are_merged_as_k3s_merges_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(merges); i++) {
		struct k3sup__config_merge merge = {.keys = NULL};
		struct k3sup__strv args = {0};
		_free_ char *why = NULL, *all = NULL;
		int r = 0;

		for (size_t j = 0; r == 0 && j < 3 && merges[i].files[j] != NULL; j++)
			r = k3sup__config_add(&merge, merges[i].files[j], strlen(merges[i].files[j]), &why);
		if (r == 0)
			r = k3sup__config_args(&merge, &args, &why);
		assert_int_equal(r, merges[i].args == NULL ? K3SUP_E_PARSE : k3sup__streq(merges[i].args, REFUSED) ? K3SUP_E_CONFIG : 0);
		assert_true((r < 0) == (why != NULL));
		all = joined(&args);
		assert_string_equal(all, r == 0 ? merges[i].args : "");
		k3sup__strv_clear(&args);
		k3sup__config_merge_clear(&merge);
	}
}

static struct k3sup__strv words(const char *text)
{
	struct k3sup__strv strv = {0};
	_free_ char *copy = strdup(text);

	for (char *save, *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
		assert_int_equal(k3sup__strv_add(&strv, strdup(word)), 0);
	return strv;
}

static int read_config(struct scratch *s, const char *argv, const char *env, const char *directory, const char *path, const char *args)
{
	struct k3sup__strv a = words(argv), e = words(env);
	struct k3sup__config config = {.path = NULL};
	k3sup_node *node = tree_node(s);
	int r = k3sup__config_read(s->op, node, &a, &e, directory, &config);

	if (r == 0) {
		_free_ char *all = joined(&config.args);

		assert_string_equal(config.path != NULL ? config.path : "", path);
		assert_string_equal(all, args);
	}
	k3sup__config_clear(&config);
	k3sup__strv_clear(&a);
	k3sup__strv_clear(&e);
	k3sup_node_unref(node);
	return r;
}

#define MAIN "/etc/rancher/k3s/config.yaml"

static void which_file_it_is(void **state)
{
	struct scratch *s = *state;

	put_tree(s, MAIN + 1, "data-dir: /default\n");
	put_tree(s, "x.yaml", "data-dir: /named\n");
	put_tree(s, "x.yaml.d/a.yml", "token: t\n");
	put_tree(s, "y.yaml", "data-dir: /other\n");
	assert_int_equal(read_config(s, "k3s server", "", "/", MAIN, "--data-dir=/default"), 0);
	assert_int_equal(read_config(s, "k3s server --config /x.yaml -c /y.yaml", "", "/", "/x.yaml", "--data-dir=/named | --token=t"), 0);
	assert_int_equal(read_config(s, "k3s server -c=/y.yaml", "", "/", "/y.yaml", "--data-dir=/other"), 0);
	assert_int_equal(read_config(s, "k3s server -c y.yaml", "", NULL, "/y.yaml", "--data-dir=/other"), 0);
	assert_int_equal(read_config(s, "k3s server -c ../y.yaml", "", "/etc", "/etc/../y.yaml", "--data-dir=/other"), 0);
	assert_int_equal(read_config(s, "k3s server --config /x.yaml", "K3S_CONFIG_FILE=/y.yaml", "/", "/y.yaml", "--data-dir=/other"), 0);
	assert_int_equal(read_config(s, "k3s server", "K3S_CONFIG_FILE=", "/", MAIN, "--data-dir=/default"), 0);
	assert_int_equal(read_config(s, "k3s server --config=", "", "/", "", ""), 0);
	assert_int_equal(read_config(s, "k3s server --config", "", "/", "", ""), 0);
	assert_int_equal(read_config(s, "k3s server -config /x.yaml", "", "/", MAIN, "--data-dir=/default"), 0);
	assert_int_equal(read_config(s, "k3s server -c /missing", "", "/", "/missing", ""), 0);
	assert_int_equal(read_config(s, "k3s server -c https://x/y", "", "/", "", ""), K3SUP_E_PARSE);
	assert_sentence(s, "web server");
}

/* G01 */
static void which_drop_ins_count(void **state)
{
	struct scratch *s = *state;

	put_tree(s, "etc/rancher/k3s/config.yaml.d/20-b.YAML", "a1: b\n");
	put_tree(s, "etc/rancher/k3s/config.yaml.d/10-a.yml", "a1: a\nb1: a\n");
	put_tree(s, "etc/rancher/k3s/config.yaml.d/.hidden.yaml", "c1: h\n");
	put_tree(s, "etc/rancher/k3s/config.yaml.d/99.yaml.bak", "a1: no\n");
	put_tree(s, "etc/rancher/k3s/config.yaml.d/99.json", "a1: no\n");
	put_tree(s, "etc/rancher/k3s/config.yaml.d/dir.yaml/x.yaml", "a1: no\n");
	assert_int_equal(read_config(s, "k3s server", "", "/", MAIN, "--c1=h | --a1=b | --b1=a"), 0);
	put_tree(s, MAIN + 1, "b1: main\n");
	assert_int_equal(read_config(s, "k3s server", "", "/", MAIN, "--b1=a | --c1=h | --a1=b"), 0);
	link_tree(s, "dir.yaml", "etc/rancher/k3s/config.yaml.d/98.yaml");
	assert_int_equal(read_config(s, "k3s server", "", "/", MAIN, ""), -EISDIR);
	assert_sentence(s, "98.yaml");
	/* k3s takes it for having no configuration */
	link_tree(s, "nowhere", "etc/rancher/k3s/config.yaml.d/98.yaml");
	assert_int_equal(read_config(s, "k3s server", "", "/", MAIN, ""), 0);
	assert_int_equal(unlinkat(s->fd, "etc/rancher/k3s/config.yaml.d/98.yaml", 0), 0);
	assert_int_equal(fchmodat(s->fd, "etc/rancher/k3s/config.yaml.d", 0777, 0), 0);
	assert_int_equal(read_config(s, "k3s server", "", "/", MAIN, ""), K3SUP_E_UNTRUSTED);
}

static void the_last_flag_counts(void **state)
{
	static const struct {
		const char *args, *value;
		int r;
	} table[] = {
		{"--data-dir /a", "/a", 1},
		{"--data-dir=/a --x -data-dir /b", "/b", 1},
		{"-d /a --d=/b", "/b", 1},
		{"--debug -x", NULL, 0},
		{"--data-dirs /a ---data-dir /b", NULL, 0},
		{"--data-dir", "", 1},
		{"-- --data-dir /a", NULL, 0},
		{"--data-dir -d", "-d", 1},
		{"--data-dir=/a -d /b", "/b", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct k3sup__strv args = words(table[i].args);
		const char *value = NULL;

		assert_int_equal(k3sup__flag_find(&args, "data-dir", 'd', &value), table[i].r);
		if (table[i].value == NULL)
			assert_null(value);
		else
			assert_string_equal(value, table[i].value);
		k3sup__strv_clear(&args);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_merged_as_k3s_merges_them),
		scratch_test(which_file_it_is),
		scratch_test(which_drop_ins_count),
		cmocka_unit_test(the_last_flag_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
