/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unit.h"

#include <stdarg.h>
#include <stdio.h>

#include "node/initscript.h"
#include "node/nodefile.h"
#include "node/unitexec.h"
#include "node/unitfind.h"

#define MAX_UNIT ((size_t)1024 * 1024)

void k3sup__unit_clear(struct k3sup__unit *unit)
{
	free(unit->why);
	free(unit->name);
	free(unit->target);
	free(unit->directory);
	free(unit->root_directory);
	free(unit->user);
	free(unit->supervisor);
	k3sup__strv_clear(&unit->aliases);
	k3sup__strv_clear(&unit->files);
	k3sup__strv_clear(&unit->env_files);
	k3sup__strv_clear(&unit->notes);
	k3sup__strv_clear(&unit->argv);
	k3sup__strv_clear(&unit->env);
	k3sup__strv_clear(&unit->before);
	k3sup__assignments_clear(&unit->settings);
	*unit = (struct k3sup__unit){0};
}

void k3sup__units_clear(struct k3sup__units *units)
{
	for (size_t i = 0; i < units->count; i++)
		k3sup__unit_clear(&units->items[i]);
	free(units->items);
	*units = (struct k3sup__units){0};
}

int k3sup__unit_spoil(struct k3sup__unit *unit, enum k3sup__unit_state state, const char *fmt, ...)
{
	va_list ap;

	free(unit->why);
	va_start(ap, fmt);
	if (vasprintf(&unit->why, fmt, ap) < 0)
		unit->why = NULL;
	va_end(ap);
	unit->state = state;
	return unit->why != NULL ? 0 : -ENOMEM;
}

int k3sup__unit_note(struct k3sup__unit *unit, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return k3sup__strv_add(&unit->notes, text);
}

const char *k3sup__unit_setting(const struct k3sup__unit *unit, const char *section, const char *key)
{
	for (size_t i = unit->settings.count; i-- > 0;) {
		const struct k3sup__assignment *a = &unit->settings.items[i];

		if (k3sup__streq(a->section, section) && k3sup__streq(a->key, key) && a->value[0] != '\0')
			return a->value;
	}
	return NULL;
}

/* k3s-armhf as it is downloaded, k3s-v1.30.4+k3s1 beside its link, k3s.new. */
static bool is_k3s_file(const char *program)
{
	const char *slash = strrchr(program, '/'), *name = slash != NULL ? slash + 1 : program;

	return k3sup__startswith(name, "k3s") && (name[3] == '\0' || name[3] == '-' || name[3] == '.');
}

/* k3s's flags in front of the command whose value is the next argument (k3s pkg/cli/cmds). */
static bool takes_value(const char *flag)
{
	static const char *const flags[] = {"-d", "--data-dir", "-data-dir", "-l", "--log", "-log", "-c", "--config", "-config"};

	for (size_t i = 0; i < ELEMENTSOF(flags); i++)
		if (k3sup__streq(flag, flags[i]))
			return true;
	return false;
}

enum k3sup__role k3sup__role_of(const char *program, const struct k3sup__strv *argv)
{
	if (!is_k3s_file(program))
		return K3SUP__ROLE_UNKNOWN;
	for (size_t i = 1; i < argv->count; i++) {
		const char *arg = argv->items[i];

		if (k3sup__streq(arg, "server"))
			return K3SUP__ROLE_SERVER;
		if (k3sup__streq(arg, "agent"))
			return K3SUP__ROLE_AGENT;
		if (arg[0] != '-')
			return K3SUP__ROLE_UNKNOWN;
		if (takes_value(arg))
			i++;
	}
	return K3SUP__ROLE_UNKNOWN;
}

bool k3sup__unit_is_named_k3s(const char *name)
{
	return k3sup__streq(name, "k3s") || k3sup__startswith(name, "k3s-");
}

static const char *state_name(enum k3sup__unit_state state)
{
	static const char *const names[] = {
		[K3SUP__UNIT_LOADED] = "loaded", [K3SUP__UNIT_MASKED] = "masked", [K3SUP__UNIT_BAD] = "bad", [K3SUP__UNIT_UNTRUSTED] = "untrusted"};

	return names[state];
}

k3sup__json *k3sup__unit_json(const struct k3sup__unit *unit)
{
	k3sup__json *json = k3sup__json_object(), *drop_ins = k3sup__json_array();

	k3sup__json_set_str(json, "name", unit->name);
	k3sup__json_set_str(json, "manager", unit->manager == K3SUP__MANAGER_SYSTEMD ? "systemd" : "openrc");
	k3sup__json_set_str(json, "unit_state", state_name(unit->state));
	if (unit->why != NULL)
		k3sup__json_set_str(json, "why", unit->why);
	if (unit->files.count > 0)
		k3sup__json_set_str(json, "fragment", unit->files.items[0]);
	for (size_t i = 1; i < unit->files.count; i++)
		k3sup__json_add(drop_ins, k3sup__json_str(unit->files.items[i]));
	k3sup__json_set(json, "drop_ins", drop_ins);
	k3sup__json_set(json, "environment_files", k3sup__strv_json(&unit->env_files));
	if (unit->aliases.count > 0)
		k3sup__json_set(json, "aliases", k3sup__strv_json(&unit->aliases));
	if (unit->notes.count > 0)
		k3sup__json_set(json, "notes", k3sup__strv_json(&unit->notes));
	if (unit->state != K3SUP__UNIT_LOADED)
		return json;
	k3sup__json_set_str(json, "role", k3sup__role_name(unit->role));
	k3sup__json_set_str(json, "target", unit->target);
	if (unit->type != NULL)
		k3sup__json_set_str(json, "type", unit->type);
	if (unit->kill_mode != NULL)
		k3sup__json_set_str(json, "kill_mode", unit->kill_mode);
	if (unit->supervisor != NULL)
		k3sup__json_set_str(json, "supervisor", unit->supervisor);
	k3sup__json_set_str(json, "restart", unit->restart);
	return json;
}

/* ---- systemd ---- */

/* What the operation was told becomes the unit's reason; the operation goes on. */
static int spoil(k3sup_op *op, struct k3sup__unit *unit, int code, const char *path)
{
	const char *said = k3sup__op_sentence(op);
	int r;

	if (code == -ENOMEM || k3sup__op_checkpoint(op) < 0)
		return code;
	r = k3sup__unit_spoil(unit, code == K3SUP_E_UNTRUSTED ? K3SUP__UNIT_UNTRUSTED : K3SUP__UNIT_BAD, "%s%s%s",
		said != NULL ? said : path, said != NULL ? "" : ": ", said != NULL ? "" : k3sup_strerror(code));
	k3sup__op_forgive(op);
	return r;
}

static int add_file(k3sup_op *op, const k3sup_node *node, struct k3sup__unit *unit, const char *path, bool drop_in)
{
	struct k3sup__nodefile file;
	unsigned line;
	int r = k3sup__strv_add_copy(&unit->files, path, strlen(path));

	if (r == 0)
		r = k3sup__nodefile_read(op, node, path, MAX_UNIT, &file);
	if (r < 0)
		return spoil(op, unit, r, path);
	if (unit->changed < file.st.st_mtim.tv_sec)
		unit->changed = file.st.st_mtim.tv_sec;
	r = k3sup__unit_parse(file.text, file.len, unit->files.count - 1, &unit->settings, &line);
	k3sup__nodefile_clear(&file);
	if (r == -EBADMSG && drop_in) /* systemd takes what stands before that line */
		return k3sup__unit_note(unit, "%s:%u: a section header that is not closed; systemd ignores the rest of the file", path, line);
	if (r == -EBADMSG)
		return k3sup__unit_spoil(
			unit, K3SUP__UNIT_BAD, "%s:%u: a section header that is not closed; systemd does not load this", path, line);
	return r;
}

static int add_drop_ins(k3sup_op *op, const k3sup_node *node, struct k3sup__unit *unit)
{
	struct k3sup__strv paths = {0};
	int r = k3sup__unit_drop_ins(op, node, unit->name, &unit->aliases, &paths);

	if (r < 0)
		return spoil(op, unit, r, "the drop-ins");
	for (size_t i = 0; r == 0 && unit->state == K3SUP__UNIT_LOADED && i < paths.count; i++)
		r = add_file(op, node, unit, paths.items[i], true);
	k3sup__strv_clear(&paths);
	return r;
}

static int load(k3sup_op *op, const k3sup_node *node, struct k3sup__unit_found *found, struct k3sup__unit *unit)
{
	int r;

	if (found->mask != NULL) {
		r = k3sup__strv_add_copy(&unit->files, found->mask, strlen(found->mask));
		return r == 0 ? k3sup__unit_spoil(unit, K3SUP__UNIT_MASKED, "%s masks it", found->mask) : r;
	}
	r = add_file(op, node, unit, found->path, false);
	if (r == 0 && unit->state == K3SUP__UNIT_LOADED)
		r = add_drop_ins(op, node, unit);
	if (r == 0 && unit->state == K3SUP__UNIT_LOADED)
		r = k3sup__unit_evaluate(op, node, unit);
	return r;
}

int k3sup__unit_read(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit *ret)
{
	struct k3sup__unit_found found = {.id = NULL};
	struct k3sup__unit unit = {.manager = K3SUP__MANAGER_SYSTEMD};
	int r = k3sup__unit_find(op, node, name, &found);

	if (r == -ENOENT)
		return r;
	unit.name = found.id != NULL ? found.id : strdup(name);
	unit.aliases = found.aliases;
	found.id = NULL;
	found.aliases = (struct k3sup__strv){0};
	if (unit.name == NULL)
		r = -ENOMEM;
	else if (r == -ENOLINK)
		r = k3sup__unit_spoil(&unit, K3SUP__UNIT_BAD, "%s is a symbolic link to nothing", found.path);
	else if (r < 0)
		r = spoil(op, &unit, r, name);
	else
		r = load(op, node, &found, &unit);
	k3sup__unit_found_clear(&found);
	if (r < 0) {
		k3sup__unit_clear(&unit);
		return r;
	}
	*ret = unit;
	return 0;
}

/* ---- all of them ---- */

static bool is_k3s_service(const char *name)
{
	/* Of instances those that have a file of their own; a template is none. */
	return k3sup__endswith(name, ".service") && strstr(name, "@.") == NULL &&
		(k3sup__startswith(name, "k3s-") || k3sup__startswith(name, "k3s@") || k3sup__streq(name, "k3s.service"));
}

static int keep(struct k3sup__units *units, struct k3sup__unit *unit)
{
	struct k3sup__unit *items;

	for (size_t i = 0; i < units->count; i++)
		if (units->items[i].manager == unit->manager && k3sup__streq(units->items[i].name, unit->name))
			return 0; /* the same by another name */
	if (unit->state == K3SUP__UNIT_LOADED && unit->role == K3SUP__ROLE_UNKNOWN)
		return 0;
	items = reallocarray(units->items, units->count + 1, sizeof(*items));
	if (items == NULL)
		return -ENOMEM;
	units->items = items;
	items[units->count++] = *unit;
	*unit = (struct k3sup__unit){0};
	return 0;
}

static int list_names(k3sup_op *op, const k3sup_node *node, const char *dir, bool (*want)(const char *name), struct k3sup__strv *to)
{
	struct k3sup__strv names = {0};
	int r = k3sup__nodedir_list(op, node, dir, want, &names);

	/* Somebody else than root may write there: nothing in it is evidence, and what is in trusted places stays so. */
	if (r < 0 && r != -ENOMEM) {
		k3sup__op_forgive(op);
		return 0;
	}
	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (!k3sup__strv_has(to, names.items[i]))
			r = k3sup__strv_add_copy(to, names.items[i], strlen(names.items[i]));
	k3sup__strv_clear(&names);
	return r;
}

static int read_all(k3sup_op *op, const k3sup_node *node, const struct k3sup__strv *names,
	int (*read)(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit *ret), struct k3sup__units *to)
{
	for (size_t i = 0; i < names->count; i++) {
		struct k3sup__unit unit = {0};
		int r = k3sup__op_checkpoint(op);

		if (r == 0)
			r = read(op, node, names->items[i], &unit);
		if (r == 0)
			r = keep(to, &unit);
		k3sup__unit_clear(&unit);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

int k3sup__units_read(k3sup_op *op, const k3sup_node *node, struct k3sup__units *ret)
{
	struct k3sup__strv services = {0}, scripts = {0};
	struct k3sup__units units = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && k3sup__unit_dirs[i] != NULL; i++)
		r = list_names(op, node, k3sup__unit_dirs[i], is_k3s_service, &services);
	if (r == 0)
		r = list_names(op, node, K3SUP__INIT_DIR, k3sup__unit_is_named_k3s, &scripts);
	k3sup__strv_sort(&services);
	if (r == 0)
		r = read_all(op, node, &services, k3sup__unit_read, &units);
	if (r == 0)
		r = read_all(op, node, &scripts, k3sup__initscript_read, &units);
	k3sup__strv_clear(&services);
	k3sup__strv_clear(&scripts);
	if (r < 0) {
		k3sup__units_clear(&units);
		return r;
	}
	*ret = units;
	return 0;
}
