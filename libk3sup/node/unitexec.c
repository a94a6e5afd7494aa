/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unitexec.h"

#include <fnmatch.h>
#include <stdio.h>
#include <strings.h>

#include "node/nodefile.h"
#include "node/unitwords.h"

#define MAX_ENV_FILE ((size_t)1024 * 1024)

/* A command as it is collected: not yet with variables in it. */
struct command {
	char *path;
	struct k3sup__strv argv;
	bool literal; /* ":": no variables */
};

struct evaluation {
	k3sup_op *op;
	const k3sup_node *node;
	struct k3sup__unit *unit;
	const struct k3sup__assignment *at;
	struct command command; /* the first one */
	size_t commands;
	struct k3sup__strv env_files; /* as they are written */
	struct k3sup__strv unset;
	bool beyond;    /* the command cannot be understood here, but systemd may */
	size_t skipped; /* the drop-in whose rest systemd does not read; 0: none */
};

static void command_clear(struct command *command)
{
	free(command->path);
	k3sup__strv_clear(&command->argv);
	*command = (struct command){0};
}

static bool is_loaded(const struct evaluation *e)
{
	return e->unit->state == K3SUP__UNIT_LOADED;
}

static const char *file_of(const struct evaluation *e)
{
	return e->unit->files.items[e->at->file];
}

/* Notes go with the line that they are about. Never with its text: that may hold a secret. */
static int note(struct evaluation *e, const char *what)
{
	return k3sup__unit_note(e->unit, "%s:%u: %s=: %s", file_of(e), e->at->line, e->at->key, what);
}

/* systemd does not load a unit with a wrong command; of a drop-in it only leaves out the rest. */
static int refuse(struct evaluation *e, const char *why)
{
	if (e->at->file > 0 && !e->beyond) {
		e->skipped = e->at->file;
		return note(e, why);
	}
	return k3sup__unit_spoil(e->unit, K3SUP__UNIT_BAD, "%s:%u: %s=: %s", file_of(e), e->at->line, e->at->key, why);
}

/* Specifiers of one word. 1, or 0 if they cannot be resolved: *ret is NULL then and *ret_why says why. */
static int resolve(struct evaluation *e, const char *text, char **ret, const char **ret_why)
{
	int r = k3sup__unit_specifiers(e->unit->name, text, ret);

	e->beyond = r == -ENODATA;
	if (r == -ENODATA)
		*ret_why = "it has a specifier that only the running systemd can resolve";
	if (r == -EBADSLT)
		*ret_why = "it has a specifier that systemd does not know";
	return r == -ENODATA || r == -EBADSLT ? 0 : r < 0 ? r : 1;
}

/* ---- commands ---- */

/* The prefixes of systemd.service(5), "Special executable prefixes"; each counts once. */
static const char *skip_prefixes(const char *word, bool *ret_argv0, bool *ret_literal, bool *ret_ignore)
{
	bool full = false, drop = false;

	for (;; word++) {
		if (*word == '-' && !*ret_ignore)
			*ret_ignore = true;
		else if (*word == '@' && !*ret_argv0)
			*ret_argv0 = true;
		else if (*word == ':' && !*ret_literal)
			*ret_literal = true;
		else if (*word == '+' && !full && !drop)
			full = true;
		else if (*word == '!' && !full && !drop)
			drop = true;
		else if (*word == '!' && drop && word[-1] == '!' && word[1] != '!')
			continue;
		else
			return word;
	}
}

/* An unquoted semicolon ends a command; "\;" is one as an argument. */
static bool is_semicolon(const char *at)
{
	return at[0] == ';' && (at[1] == '\0' || strchr(K3SUP__BLANKS, at[1]) != NULL);
}

static int add_argument(struct evaluation *e, const char *word, struct command *command, const char **ret_why)
{
	char *resolved = NULL;
	int r = resolve(e, word, &resolved, ret_why);

	if (r <= 0)
		return r;
	r = k3sup__strv_add(&command->argv, resolved);
	return r < 0 ? r : 1;
}

/* 1; 0 with *ret_why: systemd would not take it, or nobody can tell. */
static int take_arguments(struct evaluation *e, const char **text, struct command *command, const char **ret_why)
{
	int r = 1;

	while (r > 0 && **text != '\0' && !is_semicolon(*text)) {
		_free_ char *word = NULL;

		if ((*text)[0] == '\\' && is_semicolon(*text + 1)) {
			*text += 2;
			*text += strspn(*text, K3SUP__BLANKS);
			r = add_argument(e, ";", command, ret_why);
			continue;
		}
		r = k3sup__unit_word(text, false, &word);
		if (r == -EINVAL)
			*ret_why = "its quotes are not closed";
		if (r > 0)
			r = add_argument(e, word, command, ret_why);
	}
	return r == -EINVAL ? 0 : r < 0 ? r : *ret_why == NULL;
}

static int check_path(const char *path, const char **ret_why)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)path[i] < ' ' || path[i] == 127)
			*ret_why = "the name of its program has control characters";
	if (len == 0)
		*ret_why = "it names no program";
	else if (path[len - 1] == '/' || k3sup__endswith(path, "/.") || k3sup__endswith(path, "/.."))
		*ret_why = "its program is a directory";
	else if (path[0] != '/' && strchr(path, '/') != NULL)
		*ret_why = "its program is neither an absolute path nor a plain name";
	return *ret_why == NULL;
}

static int take_command(struct evaluation *e, const char **text, struct command *command, const char **ret_why)
{
	bool argv0 = false, ignore = false;
	_free_ char *word = NULL;
	int r = k3sup__unit_word(text, false, &word);

	if (r <= 0)
		return r == -EINVAL ? (*ret_why = "its quotes are not closed", 0) : r;
	if (k3sup__streq(word, ";"))
		return 1;
	r = resolve(e, skip_prefixes(word, &argv0, &command->literal, &ignore), &command->path, ret_why);
	if (r > 0)
		r = check_path(command->path, ret_why);
	if (r > 0 && !argv0) {
		r = k3sup__strv_add_copy(&command->argv, command->path, strlen(command->path));
		r = r < 0 ? r : 1;
	}
	if (r > 0)
		r = take_arguments(e, text, command, ret_why);
	if (r > 0 && command->argv.count == 0) {
		*ret_why = "after @ it names no argument 0";
		r = 0;
	}
	if (r == 0 && ignore) { /* "-": systemd goes on without it */
		command_clear(command);
		*ret_why = NULL;
		*text += strlen(*text);
		return 1;
	}
	return r;
}

static int take_exec_start(struct evaluation *e)
{
	const char *text = e->at->value, *why = NULL;
	int r = 1;

	if (*text == '\0') {
		command_clear(&e->command);
		e->commands = 0;
		return 0;
	}
	while (r > 0 && *text != '\0') {
		struct command command = {.path = NULL};

		r = take_command(e, &text, &command, &why);
		if (r > 0 && is_semicolon(text)) {
			text++;
			text += strspn(text, K3SUP__BLANKS);
		}
		if (r > 0 && command.path != NULL && e->commands++ == 0) {
			e->command = command;
			continue;
		}
		command_clear(&command);
	}
	return r < 0 ? r : r == 0 ? refuse(e, why != NULL ? why : "it cannot be understood") : 0;
}

/* ---- environment ---- */

static int take_environment(struct evaluation *e)
{
	const char *text = e->at->value;
	int r = 1;

	if (*text == '\0')
		k3sup__strv_clear(&e->unit->env);
	while (r > 0 && *text != '\0') {
		_free_ char *word = NULL, *resolved = NULL;
		const char *why = NULL;

		r = k3sup__unit_word(&text, true, &word);
		if (r == -EINVAL)
			return note(e, "its quotes or escapes are wrong; systemd ignores the rest of the line");
		if (r <= 0)
			break;
		r = resolve(e, word, &resolved, &why);
		if (r == 0) {
			e->unit->env_known = false;
			r = note(e, why) < 0 ? -ENOMEM : 1;
		} else if (r > 0 && k3sup__env_is_assignment(resolved)) {
			size_t len = (size_t)(strchr(resolved, '=') - resolved);

			r = k3sup__env_set(&e->unit->env, resolved, len, resolved + len + 1) < 0 ? -ENOMEM : 1;
		}
	}
	return r < 0 ? r : 0;
}

static int take_list(struct evaluation *e, struct k3sup__strv *list)
{
	const char *text = e->at->value;
	int r = 1;

	if (*text == '\0')
		k3sup__strv_clear(list);
	while (r > 0 && *text != '\0') {
		char *word = NULL;

		r = k3sup__unit_word(&text, false, &word);
		if (r > 0)
			r = k3sup__strv_add(list, word) < 0 ? -ENOMEM : 1;
	}
	return r == -ENOMEM ? r : 0;
}

static int read_env_file(struct evaluation *e, const char *path, bool optional)
{
	struct k3sup__nodefile file;
	struct k3sup__unit *unit = e->unit;
	int r = k3sup__nodefile_read(e->op, e->node, path, MAX_ENV_FILE, &file);

	if (r == -ENOENT)
		return optional ? 0 : k3sup__unit_note(unit, "%s does not exist; systemd does not start the service without it", path);
	if (r == -ENOMEM || (r < 0 && k3sup__op_checkpoint(e->op) < 0))
		return r;
	if (r < 0) {
		const char *said = k3sup__op_sentence(e->op);

		unit->env_known = false;
		if (r == K3SUP_E_UNTRUSTED)
			r = k3sup__unit_spoil(unit, K3SUP__UNIT_UNTRUSTED, "%s", said != NULL ? said : path);
		else
			r = k3sup__unit_note(unit, "%s", said != NULL ? said : path);
		k3sup__op_forgive(e->op);
		return r;
	}
	r = k3sup__strv_add_copy(&unit->env_files, path, strlen(path));
	if (r == 0)
		r = k3sup__env_parse(file.text, file.len, &unit->env);
	if (unit->changed < file.st.st_mtim.tv_sec)
		unit->changed = file.st.st_mtim.tv_sec;
	k3sup__nodefile_clear(&file);
	return r;
}

static bool has_pattern(const char *text)
{
	return strpbrk(text, "*?[") != NULL;
}

/* EnvironmentFile= may be a pattern; here only its last component may. */
static int read_env_pattern(struct evaluation *e, const char *path, bool optional)
{
	const char *slash = strrchr(path, '/');
	_free_ char *dir = strndup(path, (size_t)(slash - path));
	struct k3sup__strv names = {0};
	size_t matches = 0;
	int r;

	if (dir == NULL)
		return -ENOMEM;
	if (has_pattern(dir)) {
		e->unit->env_known = false;
		return k3sup__unit_note(e->unit, "%s: patterns in directories are not followed", path);
	}
	r = k3sup__nodedir_list(e->op, e->node, dir[0] != '\0' ? dir : "/", NULL, &names);
	if (r < 0 && r != -ENOENT && r != -ENOMEM) {
		const char *said = k3sup__op_sentence(e->op);

		r = k3sup__unit_spoil(e->unit, r == K3SUP_E_UNTRUSTED ? K3SUP__UNIT_UNTRUSTED : K3SUP__UNIT_BAD, "%s", said != NULL ? said : dir);
		k3sup__op_forgive(e->op);
	}
	for (size_t i = 0; (r == 0 || r == -ENOENT) && i < names.count; i++) {
		_free_ char *one = NULL;

		if (fnmatch(slash + 1, names.items[i], FNM_PERIOD) != 0)
			continue;
		matches++;
		one = k3sup__fmt("%s/%s", dir, names.items[i]);
		r = one != NULL ? read_env_file(e, one, true) : -ENOMEM;
	}
	k3sup__strv_clear(&names);
	if ((r == 0 || r == -ENOENT) && matches == 0 && !optional)
		return k3sup__unit_note(e->unit, "%s matches nothing; systemd does not start the service without it", path);
	return r == -ENOENT ? 0 : r;
}

static int read_env_files(struct evaluation *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && is_loaded(e) && i < e->env_files.count; i++) {
		const char *path = e->env_files.items[i];
		bool optional = path[0] == '-';

		path += optional;
		r = has_pattern(path) ? read_env_pattern(e, path, optional) : read_env_file(e, path, optional);
	}
	for (size_t i = 0; i < e->unset.count; i++) {
		const char *name = e->unset.items[i], *equals = strchr(name, '=');
		size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
		const char *value = k3sup__env_get(&e->unit->env, name, len);

		if (value != NULL && (equals == NULL || k3sup__streq(value, equals + 1)))
			k3sup__env_unset(&e->unit->env, name, len);
	}
	return r;
}

static int take_env_file(struct evaluation *e)
{
	const char *text = e->at->value, *why = NULL;
	_free_ char *resolved = NULL;
	bool optional = text[0] == '-';
	int r;

	if (*text == '\0') {
		k3sup__strv_clear(&e->env_files);
		return 0;
	}
	r = resolve(e, text + optional, &resolved, &why);
	if (r == 0) {
		e->unit->env_known = false;
		return note(e, why);
	}
	if (r < 0)
		return r;
	if (resolved[0] != '/')
		return note(e, "it is no absolute path; systemd ignores it");
	return k3sup__strv_add(&e->env_files, k3sup__fmt("%s%s", optional ? "-" : "", resolved));
}

/* ---- the rest ---- */

/* The last word that systemd knows for this key counts; a wrong one is as if it were not there. */
static void take_word(const struct evaluation *e, const char *const *words, const char **value)
{
	for (; *words != NULL; words++)
		if (k3sup__streq(e->at->value, *words))
			*value = *words;
}

/* 1, 0; -1: no boolean */
static int boolean(const char *text)
{
	static const char *const yes[] = {"1", "yes", "y", "true", "t", "on"}, *const no[] = {"0", "no", "n", "false", "f", "off"};

	for (size_t i = 0; i < ELEMENTSOF(yes); i++)
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0)
			return strcasecmp(text, yes[i]) == 0;
	return -1;
}

static int take_path(struct evaluation *e, char **value)
{
	const char *why = NULL;
	char *resolved = NULL;
	int r = 1;

	if (e->at->value[0] != '\0')
		r = resolve(e, e->at->value[0] == '-' ? e->at->value + 1 : e->at->value, &resolved, &why);
	if (r == 0)
		return note(e, why);
	if (r < 0)
		return r;
	free(*value);
	*value = resolved;
	return 0;
}

static int take_service(struct evaluation *e)
{
	static const char *const types[] = {"simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle", NULL};
	static const char *const kill_modes[] = {"control-group", "process", "mixed", "none", NULL};
	static const char *const restarts[] = {"no", "always", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", NULL};
	struct k3sup__unit *unit = e->unit;
	const char *key = e->at->key, *value = e->at->value;
	int64_t span;

	if (k3sup__streq(key, "ExecStart"))
		return take_exec_start(e);
	if (k3sup__streq(key, "Environment"))
		return take_environment(e);
	if (k3sup__streq(key, "EnvironmentFile"))
		return take_env_file(e);
	if (k3sup__streq(key, "UnsetEnvironment"))
		return take_list(e, &e->unset);
	if (k3sup__streq(key, "ExecStartPre") && value[0] != '\0')
		return k3sup__strv_add_copy(&unit->before, value, strlen(value));
	if (k3sup__streq(key, "WorkingDirectory"))
		return take_path(e, &unit->directory);
	if (k3sup__streq(key, "RootDirectory") || k3sup__streq(key, "RootImage"))
		return take_path(e, &unit->root_directory);
	if (k3sup__streq(key, "User"))
		return take_path(e, &unit->user);
	if (k3sup__streq(key, "PassEnvironment") && value[0] != '\0') {
		unit->env_known = false;
		return note(e, "the values come from systemd's own environment, which is not known here");
	}
	if (k3sup__streq(key, "ExecStartPre"))
		k3sup__strv_clear(&unit->before);
	else if (k3sup__streq(key, "Type"))
		take_word(e, types, &unit->type);
	else if (k3sup__streq(key, "KillMode"))
		take_word(e, kill_modes, &unit->kill_mode);
	else if (k3sup__streq(key, "Restart"))
		take_word(e, restarts, &unit->restart);
	else if (k3sup__streq(key, "RestartSec") && k3sup__unit_span(value, &span) == 0)
		unit->restart_us = span;
	else if (k3sup__streq(key, "PrivateTmp") && boolean(value) >= 0)
		unit->private_tmp = boolean(value) > 0;
	else if (k3sup__streq(key, "Delegate"))
		unit->delegate = value[0] != '\0' && boolean(value) != 0; /* also a list of controllers */
	return 0;
}

/* systemd looks for a plain name in its fixed path (systemd.service(5)). */
static int find_program(struct evaluation *e)
{
	static const char *const dirs[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};

	if (e->command.path[0] == '/') {
		e->unit->target = strdup(e->command.path);
		return e->unit->target != NULL ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < ELEMENTSOF(dirs); i++) {
		_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
		_free_ char *path = k3sup__fmt("%s/%s", dirs[i], e->command.path);

		if (path == NULL)
			return -ENOMEM;
		if (k3sup__root_find(NULL, &e->node->root, path, 0, &place) < 0 || place.fd < 0 || !S_ISREG(place.st.st_mode))
			continue;
		e->unit->target = path;
		path = NULL;
		return 0;
	}
	return k3sup__unit_spoil(e->unit, K3SUP__UNIT_BAD, "its program %s is in none of systemd's directories", e->command.path);
}

static int conclude(struct evaluation *e)
{
	struct k3sup__unit *unit = e->unit;
	int r;

	if (e->commands == 0)
		return k3sup__unit_spoil(unit, K3SUP__UNIT_BAD, "it has no ExecStart=");
	if (e->commands > 1 && !k3sup__streq(unit->type, "oneshot"))
		return k3sup__unit_spoil(unit, K3SUP__UNIT_BAD,
			"it has %zu ExecStart=; systemd does not load that unless Type=oneshot (a drop-in needs an empty ExecStart= first)",
			e->commands);
	r = find_program(e);
	if (r < 0 || !is_loaded(e))
		return r;
	if (e->command.literal) {
		unit->argv = e->command.argv;
		e->command.argv = (struct k3sup__strv){0};
	} else {
		r = k3sup__unit_expand(&e->command.argv, &unit->env, &unit->argv);
	}
	if (r == 0 && unit->directory == NULL && (unit->directory = strdup("/")) == NULL)
		r = -ENOMEM;
	if (r == 0)
		unit->role = k3sup__role_of(unit->target, &unit->argv);
	return r;
}

int k3sup__unit_evaluate(k3sup_op *op, const k3sup_node *node, struct k3sup__unit *unit)
{
	struct evaluation e = {.op = op, .node = node, .unit = unit};
	int r = 0;

	unit->type = "simple";
	unit->kill_mode = "control-group";
	unit->restart = "no";
	unit->restart_us = 100000;
	unit->env_known = true;
	for (size_t i = 0; r == 0 && is_loaded(&e) && i < unit->settings.count; i++) {
		e.at = &unit->settings.items[i];
		if (k3sup__streq(e.at->section, "Service") && (e.skipped == 0 || e.at->file != e.skipped))
			r = take_service(&e);
	}
	if (r == 0 && is_loaded(&e))
		r = read_env_files(&e);
	if (r == 0 && is_loaded(&e))
		r = conclude(&e);
	command_clear(&e.command);
	k3sup__strv_clear(&e.env_files);
	k3sup__strv_clear(&e.unset);
	return r;
}
