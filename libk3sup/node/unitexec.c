/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unitexec.h"

#include <stdio.h>
#include <strings.h>

#include "node/uniteval.h"
#include "node/unitwords.h"

int k3sup__eval_note(struct k3sup__evaluation *e, const char *what)
{
	return k3sup__unit_note(e->unit, "%s:%u: %s=: %s", e->unit->files.items[e->at->file], e->at->line, e->at->key, what);
}

int k3sup__eval_resolve(struct k3sup__evaluation *e, const char *text, char **ret, const char **ret_why)
{
	int r = k3sup__unit_specifiers(e->unit->name, text, ret);

	e->beyond = r == -ENODATA;
	if (r == -ENODATA)
		*ret_why = "it has a specifier that only the running systemd can resolve";
	if (r == -EBADSLT)
		*ret_why = "it has a specifier that systemd does not know";
	return r == -ENODATA || r == -EBADSLT ? 0 : r < 0 ? r : 1;
}

/* The last word that systemd knows for this key counts; a wrong one is as if it were not there. */
static void take_word(const struct k3sup__evaluation *e, const char *const *words, const char **value)
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

static int take_path(struct k3sup__evaluation *e, char **value)
{
	const char *why = NULL;
	char *resolved = NULL;
	int r = 1;

	if (e->at->value[0] != '\0')
		r = k3sup__eval_resolve(e, e->at->value[0] == '-' ? e->at->value + 1 : e->at->value, &resolved, &why);
	if (r == 0)
		return k3sup__eval_note(e, why);
	if (r < 0)
		return r;
	free(*value);
	*value = resolved;
	return 0;
}

/* The only one of these words that an empty assignment sets back. */
static void take_kill_mode(struct k3sup__evaluation *e, const char **mode)
{
	static const char *const modes[] = {"control-group", "process", "mixed", "none", NULL};

	if (e->at->value[0] == '\0')
		*mode = modes[0];
	else
		take_word(e, modes, mode);
}

static int take_service(struct k3sup__evaluation *e)
{
	static const char *const types[] = {"simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle", NULL};
	static const char *const restarts[] = {"no", "always", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", NULL};
	struct k3sup__unit *unit = e->unit;
	const char *key = e->at->key, *value = e->at->value;
	int64_t span;

	if (k3sup__streq(key, "ExecStart"))
		return k3sup__eval_exec_start(e);
	if (k3sup__streq(key, "Environment"))
		return k3sup__eval_environment(e);
	if (k3sup__streq(key, "EnvironmentFile"))
		return k3sup__eval_env_file(e);
	if (k3sup__streq(key, "UnsetEnvironment"))
		return k3sup__eval_unset(e);
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
		return k3sup__eval_note(e, "the values come from systemd's own environment, which is not known here");
	}
	if (k3sup__streq(key, "ExecStartPre"))
		k3sup__strv_clear(&unit->before);
	else if (k3sup__streq(key, "Type"))
		take_word(e, types, &unit->type);
	else if (k3sup__streq(key, "KillMode"))
		take_kill_mode(e, &unit->kill_mode);
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
static int find_program(struct k3sup__evaluation *e)
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

static int conclude(struct k3sup__evaluation *e)
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
	if (r < 0 || e->unit->state != K3SUP__UNIT_LOADED)
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
	struct k3sup__evaluation e = {.op = op, .node = node, .unit = unit};
	int r = 0;

	unit->type = "simple";
	unit->kill_mode = "control-group";
	unit->restart = "no";
	unit->restart_us = 100000;
	unit->env_known = true;
	for (size_t i = 0; r == 0 && unit->state == K3SUP__UNIT_LOADED && i < unit->settings.count; i++) {
		e.at = &unit->settings.items[i];
		if (k3sup__streq(e.at->section, "Service") && (e.skipped == 0 || e.at->file != e.skipped))
			r = take_service(&e);
	}
	if (r == 0 && unit->state == K3SUP__UNIT_LOADED)
		r = k3sup__eval_read_env_files(&e);
	if (r == 0 && unit->state == K3SUP__UNIT_LOADED)
		r = conclude(&e);
	k3sup__command_clear(&e.command);
	k3sup__strv_clear(&e.env_files);
	k3sup__strv_clear(&e.unset);
	return r;
}
