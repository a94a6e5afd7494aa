/* SPDX-License-Identifier: Apache-2.0 */
#include "node/initscript.h"

#include <stdio.h>
#include <strings.h>

#include "node/nodefile.h"
#include "node/shell.h"

#define MAX_SCRIPT ((size_t)1024 * 1024)

struct loading {
	k3sup_op *op;
	const k3sup_node *node;
	struct k3sup__unit *unit;
};

/* What the operation was told becomes the unit's reason; the operation goes on. */
static int spoil(struct loading *l, int code, const char *path)
{
	const char *said = k3sup__op_sentence(l->op);
	int r;

	if (code == -ENOMEM || k3sup__op_checkpoint(l->op) < 0)
		return code;
	r = k3sup__unit_spoil(l->unit, code == K3SUP_E_UNTRUSTED ? K3SUP__UNIT_UNTRUSTED : K3SUP__UNIT_BAD, "%s%s%s",
		said != NULL ? said : path, said != NULL ? "" : ": ", said != NULL ? "" : k3sup_strerror(code));
	k3sup__op_forgive(l->op);
	return r;
}

static int read_into(struct loading *l, struct k3sup__shell *shell, const char *path, struct k3sup__strv *list)
{
	struct k3sup__nodefile file;
	int r = k3sup__nodefile_read(l->op, l->node, path, MAX_SCRIPT, &file);

	if (r == -ENOENT)
		return r;
	if (r < 0)
		return spoil(l, r, path);
	if (l->unit->changed < file.st.st_mtim.tv_sec)
		l->unit->changed = file.st.st_mtim.tv_sec;
	r = k3sup__strv_add_copy(list, path, strlen(path));
	if (r == 0 && strlen(file.text) != file.len)
		r = k3sup__unit_spoil(l->unit, K3SUP__UNIT_BAD, "%s is no text", path);
	if (r == 0)
		r = k3sup__shell_read(shell, file.text, path);
	k3sup__nodefile_clear(&file);
	return r;
}

static int source(struct k3sup__shell *shell, const char *path, void *arg)
{
	struct loading *l = arg;

	return read_into(l, shell, path, &l->unit->env_files);
}

static int exists(const char *path, void *arg)
{
	struct loading *l = arg;
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &l->node->root, path, 0, &place);

	if (r == 0)
		return place.fd >= 0;
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP ? 0 : r == -ENOMEM ? r : -EINVAL;
}

static bool is_conf(const char *name)
{
	return name[0] != '.' && k3sup__endswith(name, ".conf");
}

static int read_optional(struct loading *l, struct k3sup__shell *shell, const char *path)
{
	int r = read_into(l, shell, path, &l->unit->files);

	return r == -ENOENT ? 0 : r;
}

/* What OpenRC calls its runlevel; NULL: it says nothing. */
static int runlevel(const struct loading *l, char **ret)
{
	struct k3sup__nodefile file;
	int r = k3sup__nodefile_read(NULL, l->node, "/run/openrc/softlevel", 256, &file);

	*ret = r == 0 ? strndup(file.text, strcspn(file.text, "/\n")) : NULL;
	if (r == 0)
		k3sup__nodefile_clear(&file);
	return (r == 0 && *ret == NULL) || r == -ENOMEM ? -ENOMEM : 0;
}

/* The runlevel's settings take the place of the service's. */
static int read_conf(struct loading *l, struct k3sup__shell *shell, const char *level, const char *name, size_t len)
{
	_free_ char *conf = k3sup__fmt("/etc/conf.d/%.*s", (int)len, name),
		    *own = k3sup__fmt("%s.%s", conf != NULL ? conf : "", level != NULL ? level : "");
	int r = conf == NULL || own == NULL ? -ENOMEM : level != NULL ? read_into(l, shell, own, &l->unit->files) : -ENOENT;

	return r == -ENOENT ? read_optional(l, shell, conf) : r;
}

static int read_service(struct loading *l, struct k3sup__shell *shell)
{
	const char *name = l->unit->name;
	size_t family = strcspn(name, ".");
	_free_ char *level = NULL;
	int r = runlevel(l, &level);

	if (r == 0 && family > 0 && name[family] != '\0')
		r = read_conf(l, shell, level, name, family);
	return r == 0 ? read_conf(l, shell, level, name, strlen(name)) : r;
}

/* The global settings, then the service's (openrc-run.sh; before there was a supervise-daemon it was the other way round). The script itself first in the list of files, though it is read last. */
static int read_all(struct loading *l, struct k3sup__shell *shell, const char *script, const char *text)
{
	struct k3sup__strv names = {0};
	int r = k3sup__strv_add_copy(&l->unit->files, script, strlen(script));

	if (r == 0)
		r = read_optional(l, shell, "/etc/rc.conf");
	if (r == 0) {
		r = k3sup__nodedir_list(l->op, l->node, "/etc/rc.conf.d", is_conf, &names);
		r = r == -ENOENT ? 0 : r < 0 ? spoil(l, r, "/etc/rc.conf.d") : 0;
	}
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		_free_ char *path = k3sup__fmt("/etc/rc.conf.d/%s", names.items[i]);

		r = path != NULL ? read_optional(l, shell, path) : -ENOMEM;
	}
	k3sup__strv_clear(&names);
	if (r == 0)
		r = read_service(l, shell);
	return r == 0 ? k3sup__shell_read(shell, text, script) : r;
}

static bool is_yes(const char *text)
{
	return text != NULL &&
		(strcasecmp(text, "yes") == 0 || strcasecmp(text, "true") == 0 || strcasecmp(text, "on") == 0 || k3sup__streq(text, "1"));
}

static int64_t number(const struct k3sup__shell *shell, const char *name, int64_t fallback)
{
	const char *text = k3sup__shell_get(shell, name);
	int64_t value = 0;

	if (text == NULL || text[0] == '\0' || strlen(text) > 9 || text[strspn(text, "0123456789")] != '\0')
		return fallback;
	for (; *text != '\0'; text++)
		value = value * 10 + (*text - '0');
	return value;
}

static int take_text(const struct k3sup__shell *shell, const char *name, char **ret)
{
	const char *text = k3sup__shell_get(shell, name);

	if (text == NULL || text[0] == '\0')
		return 0;
	*ret = strdup(text);
	return *ret != NULL ? 0 : -ENOMEM;
}

/* eval supervise-daemon ... $command -- $command_args $command_args_foreground */
static int take_command(struct loading *l, struct k3sup__shell *shell)
{
	const char *command = k3sup__shell_get(shell, "command"), *args = k3sup__shell_get(shell, "command_args"),
		   *more = k3sup__shell_get(shell, "command_args_foreground");
	_free_ char *all = k3sup__fmt("%s %s %s", command != NULL ? command : "", args != NULL ? args : "", more != NULL ? more : "");
	struct k3sup__unit *unit = l->unit;
	struct k3sup__strv words = {0};
	int r = all != NULL ? k3sup__shell_words(shell, command != NULL ? command : "", &words) : -ENOMEM;
	bool plain = r == 0 && words.count == 1 && words.items[0][0] == '/';

	k3sup__strv_clear(&words);
	if (r == 0 && !plain)
		return k3sup__unit_spoil(unit, K3SUP__UNIT_BAD, "%s: command= is not one absolute path", unit->files.items[0]);
	if (r == 0)
		r = k3sup__shell_words(shell, all, &unit->argv);
	if (r == -EINVAL)
		return k3sup__unit_spoil(unit, K3SUP__UNIT_BAD, "%s: command_args= cannot be understood", unit->files.items[0]);
	if (r == 0 && (unit->target = strdup(unit->argv.items[0])) == NULL)
		r = -ENOMEM;
	return r;
}

static int take_environment(struct k3sup__unit *unit, const struct k3sup__shell *shell)
{
	int r = 0;

	unit->env_known = !shell->lost;
	for (size_t i = 0; r == 0 && i < shell->exported.count; i++) {
		const char *name = shell->exported.items[i], *value = k3sup__shell_get(shell, name);

		if (!k3sup__shell_is_known(shell, name))
			unit->env_known = false;
		else if (value != NULL)
			r = k3sup__env_set(&unit->env, name, strlen(name), value);
	}
	return r;
}

/* Why this is not the form that supervise-daemon runs as it is written; NULL: it is. */
static const char *misfit(const struct k3sup__shell *shell)
{
	static const char *const needed[] = {
		"command", "command_args", "command_args_foreground", "supervisor", "directory", "chroot", "command_user"};
	static const char *const own[] = {"start", "stop", "default_start", "default_stop"};

	if (shell->lost)
		return "";
	for (size_t i = 0; i < ELEMENTSOF(own); i++)
		if (k3sup__strv_has(&shell->functions, own[i]))
			return "it has a start or stop function of its own";
	for (size_t i = 0; i < ELEMENTSOF(needed); i++)
		if (!k3sup__shell_is_known(shell, needed[i]))
			return "";
	return NULL;
}

static int conclude(struct loading *l, struct k3sup__shell *shell)
{
	struct k3sup__unit *unit = l->unit;
	const char *why = misfit(shell);
	int r = 0;

	for (size_t i = 0; r == 0 && i < shell->odd.count; i++)
		r = k3sup__strv_add_copy(&unit->notes, shell->odd.items[i], strlen(shell->odd.items[i]));
	if (r == 0 && why != NULL)
		return k3sup__unit_spoil(unit, K3SUP__UNIT_BAD, "%s: %s", unit->files.items[0],
			why[0] != '\0' || shell->odd.count == 0 ? why : shell->odd.items[shell->odd.count - 1]);
	if (r == 0)
		r = take_command(l, shell);
	if (r < 0 || unit->state != K3SUP__UNIT_LOADED)
		return r;
	unit->role = k3sup__role_of(unit->target, &unit->argv);
	r = take_environment(unit, shell);
	if (r == 0)
		r = take_text(shell, "supervisor", &unit->supervisor);
	if (r == 0)
		r = take_text(shell, "directory", &unit->directory);
	if (r == 0)
		r = take_text(shell, "chroot", &unit->root_directory);
	if (r == 0)
		r = take_text(shell, "command_user", &unit->user);
	if (r == 0 && unit->directory == NULL && (unit->directory = strdup("/")) == NULL)
		r = -ENOMEM;
	unit->restart = unit->supervisor != NULL && k3sup__streq(unit->supervisor, "supervise-daemon") ? "always" : "no";
	/* Without a word supervise-daemon waits 0 s and gives up after 10 respawns. */
	unit->restart_us = number(shell, "respawn_delay", 0) * 1000000;
	unit->respawn_max = number(shell, "respawn_max", 10);
	unit->cgroup_cleanup = is_yes(k3sup__shell_get(shell, "rc_cgroup_cleanup"));
	return r;
}

static bool is_openrc(const char *text)
{
	size_t line = strcspn(text, "\n");

	if (strncmp(text, "#!", 2) != 0)
		return false;
	return memmem(text, line, "openrc-run", strlen("openrc-run")) != NULL || memmem(text, line, "runscript", strlen("runscript")) != NULL;
}

static int load(struct loading *l, const char *path, const struct k3sup__nodefile *file)
{
	struct k3sup__shell shell = {.source = source, .exists = exists, .arg = l};
	static const char *const names[] = {"RC_SVCNAME", "SVCNAME"};
	int r = 0;

	l->unit->changed = file->st.st_mtim.tv_sec;
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(names); i++)
		r = k3sup__env_set(&shell.vars, names[i], strlen(names[i]), l->unit->name);
	if (r == 0)
		r = k3sup__env_set(&shell.vars, "RC_SERVICE", strlen("RC_SERVICE"), path);
	if (r == 0)
		r = read_all(l, &shell, path, file->text);
	if (r == 0 && l->unit->state == K3SUP__UNIT_LOADED)
		r = conclude(l, &shell);
	k3sup__shell_clear(&shell);
	return r;
}

int k3sup__initscript_read(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit *ret)
{
	_free_ char *path = k3sup__fmt("%s/%s", K3SUP__INIT_DIR, name);
	struct k3sup__unit unit = {.manager = K3SUP__MANAGER_OPENRC, .name = strdup(name)};
	struct loading l = {.op = op, .node = node, .unit = &unit};
	struct k3sup__nodefile file = {.len = 0};
	int r = path != NULL && unit.name != NULL ? k3sup__nodefile_read(op, node, path, MAX_SCRIPT, &file) : -ENOMEM;

	if (r == 0 && (strlen(file.text) != file.len || !is_openrc(file.text)))
		r = k3sup__unit_spoil(&unit, K3SUP__UNIT_BAD, "%s is no script of OpenRC", path);
	else if (r == 0 && (file.st.st_mode & 0111) == 0)
		r = k3sup__unit_spoil(&unit, K3SUP__UNIT_BAD, "%s is not executable", path);
	else if (r == 0)
		r = load(&l, path, &file);
	else if (r != -ENOENT)
		r = spoil(&l, r, path);
	if (r == 0 && unit.files.count == 0)
		r = k3sup__strv_add_copy(&unit.files, path, strlen(path));
	k3sup__nodefile_clear(&file);
	if (r < 0) {
		k3sup__unit_clear(&unit);
		return r;
	}
	*ret = unit;
	return 0;
}
