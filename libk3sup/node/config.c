/* SPDX-License-Identifier: Apache-2.0 */
#include "node/config.h"

#include <strings.h>

#include "base/yaml.h"
#include "node/nodefile.h"

#define DEFAULT_CONFIG "/etc/rancher/k3s/config.yaml"
#define MAX_CONFIG ((size_t)1024 * 1024)

/* ---- the merge ---- */

void k3sup__config_merge_clear(struct k3sup__config_merge *merge)
{
	k3sup__json_unref(merge->keys);
	merge->keys = NULL;
}

/* The length of the white space that a text begins with; 0: none. In UTF-8: what Go's unicode.IsSpace() takes for it. */
static size_t space(const char *text)
{
	static const char *const wide[] = {"\u00a0", "\u1680", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
	const unsigned char *at = (const unsigned char *)text;

	if (*text != '\0' && strchr(" \t\n\v\f\r", *text) != NULL)
		return 1;
	if (at[0] == 0xc2 && at[1] == 0x85)
		return 2;
	if (at[0] == 0xe2 && at[1] == 0x80 && at[2] >= 0x80 && at[2] <= 0x8a) /* U+2000 to U+200A */
		return 3;
	for (size_t i = 0; i < ELEMENTSOF(wide); i++)
		if (k3sup__startswith(text, wide[i]))
			return strlen(wide[i]);
	return 0;
}

/* Go's strings.TrimSpace(), which k3s applies to all that becomes text. */
static char *trimmed(const char *text)
{
	const char *end;

	while (space(text) > 0)
		text += space(text);
	end = text;
	for (const char *at = text; *at != '\0'; at += space(at) > 0 ? space(at) : 1)
		if (space(at) == 0)
			end = at + 1;
	return strndup(text, (size_t)(end - text));
}

static k3sup__json *find_key(const k3sup__json *keys, const char *key)
{
	for (size_t i = 0; i < k3sup__json_len(keys); i++) {
		k3sup__json *pair = k3sup__json_element(keys, i);

		const char *its_key = k3sup__json_as_str(k3sup__json_element(pair, 0)); /* NULL: lost for want of memory */

		if (its_key && k3sup__streq(its_key, key))
			return pair;
	}
	return NULL;
}

static bool is_list(const k3sup__json *value)
{
	return k3sup__json_is_container(value) && !k3sup__json_is_object(value);
}

/* What is appended: nothing for nothing, one element for a text, all of a list. */
static void append(k3sup__json *list, k3sup__json *value)
{
	if (is_list(value)) {
		for (size_t i = 0; i < k3sup__json_len(value); i++)
			k3sup__json_add(list, k3sup__json_ref(k3sup__json_element(value, i)));
	} else if (!k3sup__json_is_null(value)) {
		k3sup__json_add(list, k3sup__json_ref(value));
	}
}

/* [key, value] cannot be changed in place: a new list takes the value's place by way of an object that holds it. */
static int put_key(struct k3sup__config_merge *merge, const char *key, bool appends, k3sup__json *value)
{
	k3sup__json *pair = find_key(merge->keys, key), *holder = pair != NULL ? k3sup__json_element(pair, 1) : NULL, *list;

	if (holder == NULL) {
		pair = k3sup__json_array();
		holder = k3sup__json_object();
		k3sup__json_set(holder, "value", k3sup__json_ref(value));
		k3sup__json_add(pair, k3sup__json_str(key));
		k3sup__json_add(pair, holder);
		k3sup__json_add(merge->keys, pair);
		return 0;
	}
	if (!appends) {
		k3sup__json_set(holder, "value", k3sup__json_ref(value));
		return 0;
	}
	list = k3sup__json_array();
	append(list, k3sup__json_member(holder, "value"));
	append(list, value);
	k3sup__json_set(holder, "value", list);
	return 0;
}

int k3sup__config_add(struct k3sup__config_merge *merge, const char *text, size_t len, char **ret_why)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *pairs = NULL;
	int r = k3sup__yaml_pairs(text, len, &pairs, ret_why);

	if (merge->keys == NULL)
		merge->keys = k3sup__json_array();
	for (size_t i = 0; r == 0 && i < k3sup__json_len(pairs); i++) {
		k3sup__json *pair = k3sup__json_element(pairs, i);
		_free_ char *key = trimmed(k3sup__json_as_str(k3sup__json_element(pair, 0)));
		bool appends = key != NULL && k3sup__endswith(key, "+");

		if (key == NULL)
			return -ENOMEM;
		if (appends)
			key[strlen(key) - 1] = '\0';
		r = put_key(merge, key, appends, k3sup__json_element(pair, 1));
	}
	if (r == K3SUP_E_PARSE)
		return K3SUP_E_CONFIG;
	if (r == K3SUP_E_UNSUPPORTED)
		return K3SUP_E_PARSE;
	return r == 0 && (merge->keys == NULL || k3sup__json_broken(merge->keys)) ? -ENOMEM : r;
}

/* -ENODATA: Go prints it in a form of its own (maps, and lists in lists). */
static int add_argument(struct k3sup__strv *args, const char *key, k3sup__json *value)
{
	_free_ char *text = NULL;

	if (k3sup__json_is_container(value))
		return -ENODATA;
	text = trimmed(k3sup__json_is_null(value) ? "" : k3sup__json_as_str(value));
	return text != NULL ? k3sup__strv_add(args, k3sup__fmt("%s%s=%s", strlen(key) == 1 ? "-" : "--", key, text)) : -ENOMEM;
}

int k3sup__config_args(const struct k3sup__config_merge *merge, struct k3sup__strv *ret, char **ret_why)
{
	struct k3sup__strv args = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < k3sup__json_len(merge->keys); i++) {
		k3sup__json *pair = k3sup__json_element(merge->keys, i), *value = k3sup__json_member(k3sup__json_element(pair, 1), "value");
		const char *key = k3sup__json_as_str(k3sup__json_element(pair, 0));

		if (!is_list(value))
			r = add_argument(&args, key, value);
		for (size_t j = 0; r == 0 && is_list(value) && j < k3sup__json_len(value); j++)
			r = add_argument(&args, key, k3sup__json_element(value, j));
		if (r == -ENODATA) {
			*ret_why = k3sup__fmt("the value of %s is neither a text nor a list of texts", key);
			r = K3SUP_E_PARSE;
		}
	}
	if (r < 0) {
		k3sup__strv_clear(&args);
		return r;
	}
	*ret = args;
	return 0;
}

/* ---- the files ---- */

void k3sup__config_clear(struct k3sup__config *config)
{
	free(config->path);
	k3sup__strv_clear(&config->files);
	k3sup__strv_clear(&config->args);
	*config = (struct k3sup__config){0};
}

/* The first one counts, wherever it stands. 1 with a value, which may be empty; 0: there is none. A flag at the end without its value means no file at all. */
static int named_in(const struct k3sup__strv *argv, const char **ret)
{
	static const char *const flags[] = {"--config", "-c"};

	for (size_t i = 0; argv != NULL && i < argv->count; i++)
		for (size_t j = 0; j < ELEMENTSOF(flags); j++) {
			size_t len = strlen(flags[j]);

			if (strncmp(argv->items[i], flags[j], len) != 0 || (argv->items[i][len] != '\0' && argv->items[i][len] != '='))
				continue;
			*ret = argv->items[i][len] == '=' ? argv->items[i] + len + 1 : i + 1 < argv->count ? argv->items[i + 1] : "";
			return 1;
		}
	return 0;
}

static int choose(k3sup_op *op, const struct k3sup__strv *argv, const struct k3sup__strv *env, const char *directory, struct k3sup__config *config)
{
	const char *named = env != NULL ? k3sup__env_get(env, "K3S_CONFIG_FILE", strlen("K3S_CONFIG_FILE")) : NULL;

	config->named_by = "environment";
	if (named == NULL || named[0] == '\0') {
		bool given = named_in(argv, &named) > 0;

		config->named_by = given ? "option" : "default";
		named = given ? named : DEFAULT_CONFIG;
	}
	if (named[0] == '\0')
		return 0;
	if (strncasecmp(named, "http://", 7) == 0 || strncasecmp(named, "https://", 8) == 0)
		return k3sup__fail(op, K3SUP_E_PARSE, "k3s's configuration is on a web server, which is not asked");
	config->path = named[0] == '/' ? strdup(named)
				       : k3sup__fmt("%s/%s", directory != NULL && !k3sup__streq(directory, "/") ? directory : "", named);
	return config->path != NULL ? 0 : -ENOMEM;
}

static int add_file(k3sup_op *op, const k3sup_node *node, const char *path, struct k3sup__config *config, struct k3sup__config_merge *merge)
{
	struct k3sup__nodefile file;
	_free_ char *why = NULL;
	int r = k3sup__nodefile_read(op, node, path, MAX_CONFIG, &file);

	if (r < 0)
		return r;
	r = k3sup__config_add(merge, file.text, file.len, &why);
	k3sup__nodefile_clear(&file);
	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be read: %s", path, why != NULL ? why : k3sup_strerror(r));
	return k3sup__strv_add_copy(&config->files, path, strlen(path));
}

static bool is_yaml(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot != NULL && (strcasecmp(dot, ".yaml") == 0 || strcasecmp(dot, ".yml") == 0);
}

static bool is_directory(const k3sup_node *node, const char *path)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;

	/* Go's DirEntry does not follow links: one to a directory is read, and k3s dies of it. */
	return k3sup__root_find(NULL, &node->root, path, K3SUP__NOFOLLOW, &place) == 0 && place.fd >= 0 && S_ISDIR(place.st.st_mode);
}

/* -ENOENT: one of them is not there. k3s takes that for having no configuration (parser.go, Parse: os.IsNotExist()), whatever it has read. */
static int add_drop_ins(k3sup_op *op, const k3sup_node *node, struct k3sup__config *config, struct k3sup__config_merge *merge)
{
	_free_ char *dir = k3sup__fmt("%s.d", config->path);
	struct k3sup__strv names = {0};
	int r = dir != NULL ? k3sup__nodedir_list(op, node, dir, is_yaml, &names) : -ENOMEM;

	if (r == -ENOENT)
		return 0;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		_free_ char *path = k3sup__fmt("%s/%s", dir, names.items[i]);

		if (path == NULL)
			r = -ENOMEM;
		else if (!is_directory(node, path))
			r = add_file(op, node, path, config, merge);
		if (r == -ENOENT)
			k3sup__log(op, K3SUP_LOG_WARNING,
				"%s is a symbolic link to nothing, because of which k3s reads no configuration at all", path);
	}
	k3sup__strv_clear(&names);
	return r;
}

int k3sup__config_read(k3sup_op *op, const k3sup_node *node, const struct k3sup__strv *argv, const struct k3sup__strv *env,
	const char *directory, struct k3sup__config *ret)
{
	struct k3sup__config_merge merge = {.keys = NULL};
	struct k3sup__config config = {.path = NULL};
	_free_ char *why = NULL;
	int r = choose(op, argv, env, directory, &config);

	if (r == 0 && config.path != NULL) {
		r = add_file(op, node, config.path, &config, &merge);
		if (r == 0 || r == -ENOENT)
			r = add_drop_ins(op, node, &config, &merge);
	}
	if (r == -ENOENT) {
		k3sup__config_merge_clear(&merge);
		k3sup__strv_clear(&config.files);
		r = 0;
	}
	if (r == 0) {
		r = k3sup__config_args(&merge, &config.args, &why);
		if (r < 0)
			r = k3sup__fail(op, r, "%s: %s", config.path, why != NULL ? why : k3sup_strerror(r));
	}
	k3sup__config_merge_clear(&merge);
	if (r < 0) {
		k3sup__config_clear(&config);
		return r;
	}
	*ret = config;
	return 0;
}

/* ---- flags ---- */

/* The form that an argument has: its length with the dashes, 0: another flag. */
static size_t form(const char *arg, const char *name, size_t len)
{
	size_t dashes = strspn(arg, "-");

	if (dashes < 1 || dashes > 2 || strncmp(arg + dashes, name, len) != 0 || (arg[dashes + len] != '\0' && arg[dashes + len] != '='))
		return 0;
	return dashes + len;
}

int k3sup__flag_find(const struct k3sup__strv *args, const char *name, char letter, const char **ret)
{
	bool seen_long = false, seen_short = false;

	for (size_t i = 0; i < args->count; i++) {
		size_t is_long = form(args->items[i], name, strlen(name)), is_short = letter != '\0' ? form(args->items[i], &letter, 1) : 0;
		size_t len = is_long > 0 ? is_long : is_short;

		if (k3sup__streq(args->items[i], "--"))
			break;
		if (len == 0)
			continue;
		seen_long = seen_long || is_long > 0;
		seen_short = seen_short || is_short > 0;
		if (args->items[i][len] == '=')
			*ret = args->items[i] + len + 1;
		else
			*ret = i + 1 < args->count ? args->items[++i] : "";
	}
	return seen_long && seen_short ? -EINVAL : seen_long || seen_short;
}
