/* SPDX-License-Identifier: Apache-2.0 */
#include "node/datadir.h"

#include "node/config.h"
#include "node/version.h"
#include "node/warn.h"

#define ENVIRONMENT "K3S_DATA_DIR"

struct looking {
	k3sup_op *op;
	k3sup_node *node;
	struct k3sup__data_dir *found;
	const char *version;
	bool server; /* a unit or process that is a server's */
};

void k3sup__data_dir_clear(struct k3sup__data_dir *data_dir)
{
	free(data_dir->path);
	free(data_dir->suspicion);
	free(data_dir->unstartable);
	k3sup__json_unref(data_dir->sources);
	*data_dir = (struct k3sup__data_dir){0};
}

k3sup__json *k3sup__data_dir_json(const struct k3sup__data_dir *data_dir)
{
	k3sup__json *json = k3sup__json_object();

	k3sup__json_set_str(json, "path", data_dir->path);
	k3sup__json_set_str(json, "source", data_dir->source);
	k3sup__json_set(json, "sources", k3sup__json_copy(data_dir->sources));
	return json;
}

/* The same directory, if only by way of links. */
static bool same_dir(const k3sup_node *node, const char *a, const char *b)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place pa = K3SUP__PLACE_NONE, pb = K3SUP__PLACE_NONE;

	if (k3sup__streq(a, b))
		return true;
	if (k3sup__root_find(NULL, &node->root, a, 0, &pa) < 0 || k3sup__root_find(NULL, &node->root, b, 0, &pb) < 0)
		return false;
	return k3sup__streq(pa.path, pb.path) || (pa.fd >= 0 && pb.fd >= 0 && pa.st.st_dev == pb.st.st_dev && pa.st.st_ino == pb.st.st_ino);
}

static const char *phrase(const char *source)
{
	static const char *const phrases[][2] = {{"process", "the running k3s works in"}, {"journal", "the journal says"},
		{"unit", "its command line says"}, {"config", "k3s's configuration says"}, {"environment", ENVIRONMENT " says"},
		{"default", "k3s's default is"}};

	for (size_t i = 0; i < ELEMENTSOF(phrases); i++)
		if (k3sup__streq(phrases[i][0], source))
			return phrases[i][1];
	return "the caller says";
}

/* Sources come in the order in which they count: the first one decides. source: static. from: where it is said, may be NULL. */
static int add(struct looking *l, const char *source, const char *path, const char *from)
{
	k3sup__json *one = k3sup__json_object();

	k3sup__json_set_str(one, "source", source);
	k3sup__json_set_str(one, "path", path);
	if (from != NULL)
		k3sup__json_set_str(one, "from", from);
	k3sup__json_add(l->found->sources, one);
	if (l->found->path != NULL) {
		if (!same_dir(l->node, l->found->path, path))
			k3sup__warn(l->op, "the data-dir is %s (%s), but %s %s%s%s%s", l->found->path, l->found->source, phrase(source),
				path, from != NULL ? " (" : "", from != NULL ? from : "", from != NULL ? ")" : "");
		return 0;
	}
	l->found->source = source;
	l->found->path = strdup(path);
	return l->found->path != NULL ? 0 : -ENOMEM;
}

/* What cannot be used matters only where nothing else decides. */
static int fail(struct looking *l, int code, const char *path)
{
	const char *said;

	if (code == -ENOMEM || k3sup__op_checkpoint(l->op) < 0)
		return code;
	if (l->found->path == NULL)
		return code;
	said = k3sup__op_sentence(l->op);
	k3sup__warn(l->op, "k3s's configuration cannot be read: %s", said != NULL ? said : path);
	if (code == K3SUP_E_CONFIG && l->found->unstartable == NULL) {
		l->found->unstartable = strdup(said != NULL ? said : path);
		if (l->found->unstartable == NULL)
			return -ENOMEM;
	}
	k3sup__op_forgive(l->op);
	return 0;
}

/* k3s replaces ~ and $HOME by the home directory of its process, which is not known here; a relative path begins where the service is started. */
static int add_written(struct looking *l, const char *source, const char *path, const char *directory, const char *from)
{
	_free_ char *whole = NULL;
	int r;

	if (strchr(path, '~') != NULL || strstr(path, "$HOME") != NULL || strstr(path, "${HOME}") != NULL) {
		r = k3sup__fail(l->op, K3SUP_E_PARSE, "the data-dir in %s begins in a home directory, which is not known here", from);
		return fail(l, r, from);
	}
	if (path[0] != '/' && directory == NULL) {
		r = k3sup__fail(l->op, K3SUP_E_PARSE, "the data-dir in %s is relative, and nobody knows where k3s is started", from);
		return fail(l, r, from);
	}
	whole = path[0] == '/' ? strdup(path) : k3sup__fmt("%s/%s", !k3sup__streq(directory, "/") ? directory : "", path);
	return whole != NULL ? add(l, source, whole, from) : -ENOMEM;
}

/* urfave/cli reads the variable since k3s #10589. */
bool k3sup__data_dir_reads_env(const char *text)
{
	static const uint32_t since[][2] = {{27, 16}, {28, 12}, {29, 7}, {30, 3}};
	struct k3sup__version version;

	if (text == NULL || k3sup__version_parse(text, strlen(text), &version) < 0)
		return true;
	for (size_t i = 0; version.major == 1 && i < ELEMENTSOF(since); i++)
		if (version.minor == since[i][0])
			return version.patch >= since[i][1];
	return version.major > 1 || version.minor > since[ELEMENTSOF(since) - 1][0];
}

/* The arguments behind "server" or "agent": those in front of it are the wrapper's, which decide only where it unpacks itself. */
static struct k3sup__strv behind_command(const struct k3sup__strv *argv)
{
	for (size_t i = 1; argv != NULL && i < argv->count; i++)
		if (k3sup__streq(argv->items[i], "server") || k3sup__streq(argv->items[i], "agent"))
			return (struct k3sup__strv){.items = argv->items + i + 1, .count = argv->count - i - 1};
	return (struct k3sup__strv){0};
}

/* *ret: what is said, NULL: nothing. An empty value is none, also for k3s. */
static int find_flag(struct looking *l, const struct k3sup__strv *args, const char *from, bool *is_short, const char **ret)
{
	int r = k3sup__flag_find(args, "data-dir", 'd', ret);
	const char *unused;

	*is_short = r > 0 && k3sup__flag_find(args, "data-dir", '\0', &unused) == 0;
	if (r > 0 && (*ret)[0] == '\0')
		*ret = NULL;
	if (r == -EINVAL)
		return k3sup__fail(l->op, K3SUP_E_CONFIG, "%s gives both data-dir and d, with which k3s does not start", from);
	return 0;
}

static int add_flags(struct looking *l, const struct k3sup__unit *unit, const struct k3sup__config *config)
{
	struct k3sup__strv line = behind_command(unit != NULL ? &unit->argv : NULL);
	const char *directory = unit != NULL ? unit->directory : NULL, *said = NULL, *configured = NULL;
	const char *file = config->files.count > 0 ? config->files.items[config->files.count - 1] : config->path;
	bool line_short = false, config_short = false;
	int r = unit != NULL ? find_flag(l, &line, unit->name, &line_short, &said) : 0;

	if (r == 0)
		r = find_flag(l, &config->args, file != NULL ? file : "", &config_short, &configured);
	if (r == 0 && said != NULL && configured != NULL && line_short != config_short)
		r = k3sup__fail(l->op, K3SUP_E_CONFIG, "%s and %s give data-dir in different forms, with which k3s does not start",
			unit->name, file);
	if (r < 0)
		return fail(l, r, file);
	if (said != NULL)
		r = add_written(l, "unit", said, directory, unit->name);
	if (r == 0 && configured != NULL)
		r = add_written(l, "config", configured, directory, file);
	return r;
}

static int add_environment(struct looking *l, const struct k3sup__unit *unit)
{
	const char *value = k3sup__env_get(&unit->env, ENVIRONMENT, strlen(ENVIRONMENT));

	if (value == NULL || value[0] == '\0')
		return 0;
	if (!k3sup__data_dir_reads_env(l->version)) {
		k3sup__warn(l->op, "%s sets " ENVIRONMENT ", which k3s %s does not read", unit->name, l->version);
		return 0;
	}
	return add_written(l, "environment", value, unit->directory, unit->name);
}

/* unit: NULL: k3s is started by somebody who is not known, so perhaps without arguments. */
static int add_unit(struct looking *l, const struct k3sup__unit *unit)
{
	struct k3sup__config config = {.path = NULL};
	int r = k3sup__config_read(l->op, l->node, unit != NULL ? &unit->argv : NULL, unit != NULL ? &unit->env : NULL,
		unit != NULL ? unit->directory : NULL, &config);

	if (r < 0)
		r = fail(l, r, "its configuration");
	else
		r = add_flags(l, unit, &config);
	if (r == 0 && unit != NULL)
		r = add_environment(l, unit);
	k3sup__config_clear(&config);
	return r;
}

/* Those that start the k3s in question: the running one's, or all, servers first. */
static bool is_meant(const struct k3sup__unit *unit, const struct k3sup__candidate *candidate, enum k3sup__role role)
{
	if (unit->state != K3SUP__UNIT_LOADED || unit->role != role)
		return false;
	return candidate == NULL || candidate->unit == NULL || k3sup__streq(candidate->unit, unit->name) ||
		k3sup__strv_has(&unit->aliases, candidate->unit);
}

static int add_units(struct looking *l, const struct k3sup__candidate *candidate, const struct k3sup__units *units)
{
	static const enum k3sup__role roles[] = {K3SUP__ROLE_SERVER, K3SUP__ROLE_AGENT};
	size_t meant = 0;
	int r = 0;

	for (size_t j = 0; j < ELEMENTSOF(roles); j++)
		for (size_t i = 0; r == 0 && i < units->count; i++) {
			const struct k3sup__unit *unit = &units->items[i];

			if (!is_meant(unit, candidate, roles[j]))
				continue;
			if (candidate != NULL && candidate->role != K3SUP__ROLE_UNKNOWN && candidate->role != unit->role)
				continue;
			meant++;
			l->server = l->server || unit->role == K3SUP__ROLE_SERVER;
			r = add_unit(l, unit);
		}
	return r == 0 && meant == 0 ? add_unit(l, NULL) : r;
}

static bool is_there(const k3sup_node *node, const char *dir, const char *name)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s", dir, name);

	return path != NULL && k3sup__root_find(NULL, &node->root, path, 0, &place) == 0 && place.fd >= 0;
}

/* k3s itself takes a data-dir without server/ for an agent's; a server's that looks so is the wrong one. */
static int suspect(struct looking *l)
{
	struct k3sup__data_dir *found = l->found;

	if (!l->server || is_there(l->node, found->path, "server") || !is_there(l->node, found->path, "agent"))
		return 0;
	found->suspicion = k3sup__fmt("this node's k3s is a server, but %s (from: %s) is not a server's", found->path, found->source);
	if (found->suspicion == NULL)
		return -ENOMEM;
	k3sup__warn(l->op, "%s", found->suspicion);
	return 0;
}

static int look(struct looking *l, const struct k3sup__candidate *candidate, const char *stopped, const struct k3sup__units *units)
{
	int r = 0;

	if (l->node->data_dir != NULL)
		r = add(l, "option", l->node->data_dir, NULL);
	if (r == 0 && candidate != NULL && candidate->data_dir != NULL)
		r = add(l, "process", candidate->data_dir, NULL);
	if (r == 0 && candidate == NULL && stopped != NULL)
		r = add(l, "journal", stopped, NULL);
	if (r == 0)
		r = add_units(l, candidate, units);
	if (r == 0 && l->found->path == NULL)
		r = add(l, "default", K3SUP__DEFAULT_DATA_DIR, NULL);
	if (r == 0)
		r = suspect(l);
	return r == 0 && k3sup__json_broken(l->found->sources) ? -ENOMEM : r;
}

int k3sup__data_dir_look(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, const char *stopped,
	const struct k3sup__units *units, const char *version, struct k3sup__data_dir *ret)
{
	struct k3sup__data_dir found = {.sources = k3sup__json_array()};
	struct looking l = {.op = op, .node = node, .found = &found, .version = version != NULL && version[0] != '\0' ? version : NULL};
	struct k3sup__units own = {0};
	int r = units == NULL ? k3sup__units_read(op, node, &own) : 0;

	l.server = candidate != NULL && candidate->role == K3SUP__ROLE_SERVER;
	if (r == 0)
		r = look(&l, candidate, stopped, units != NULL ? units : &own);
	k3sup__units_clear(&own);
	if (r < 0) {
		k3sup__data_dir_clear(&found);
		return r;
	}
	*ret = found;
	return 0;
}

int k3sup__startable(k3sup_op *op, const char *unstartable)
{
	return unstartable == NULL ? 0 : k3sup__fail(op, K3SUP_E_CONFIG, "k3s would not start with its configuration as it is now: %s", unstartable);
}

int k3sup__data_dir_find(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, char **ret_path, const char **ret_source)
{
	struct k3sup__data_dir found;
	int r = k3sup__data_dir_look(op, node, candidate, NULL, NULL, NULL, &found);

	if (r < 0)
		return r;
	*ret_path = found.path;
	*ret_source = found.source;
	found.path = NULL;
	k3sup__data_dir_clear(&found);
	return 0;
}
