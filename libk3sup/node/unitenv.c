/* SPDX-License-Identifier: Apache-2.0 */
#include "node/uniteval.h"

#include <fnmatch.h>

#include "node/nodefile.h"
#include "node/unitwords.h"

#define MAX_ENV_FILE ((size_t)1024 * 1024)

int k3sup__eval_environment(struct k3sup__evaluation *e)
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
			return k3sup__eval_note(e, "its quotes or escapes are wrong; systemd ignores the rest of the line");
		if (r <= 0)
			break;
		r = k3sup__eval_resolve(e, word, &resolved, &why);
		if (r == 0) {
			e->unit->env_known = false;
			r = k3sup__eval_note(e, why) < 0 ? -ENOMEM : 1;
		} else if (r > 0 && k3sup__env_is_assignment(resolved)) {
			size_t len = (size_t)(strchr(resolved, '=') - resolved);

			r = k3sup__env_set(&e->unit->env, resolved, len, resolved + len + 1) < 0 ? -ENOMEM : 1;
		}
	}
	return r < 0 ? r : 0;
}

int k3sup__eval_unset(struct k3sup__evaluation *e)
{
	struct k3sup__strv *list = &e->unset;
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

static int read_env_file(struct k3sup__evaluation *e, const char *path, bool optional)
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
static int read_env_pattern(struct k3sup__evaluation *e, const char *path, bool optional)
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

int k3sup__eval_read_env_files(struct k3sup__evaluation *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && e->unit->state == K3SUP__UNIT_LOADED && i < e->env_files.count; i++) {
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

int k3sup__eval_env_file(struct k3sup__evaluation *e)
{
	const char *text = e->at->value, *why = NULL;
	_free_ char *resolved = NULL;
	bool optional = text[0] == '-';
	int r;

	if (*text == '\0') {
		k3sup__strv_clear(&e->env_files);
		return 0;
	}
	r = k3sup__eval_resolve(e, text + optional, &resolved, &why);
	if (r == 0) {
		e->unit->env_known = false;
		return k3sup__eval_note(e, why);
	}
	if (r < 0)
		return r;
	if (resolved[0] != '/')
		return k3sup__eval_note(e, "it is no absolute path; systemd ignores it");
	return k3sup__strv_add(&e->env_files, k3sup__fmt("%s%s", optional ? "-" : "", resolved));
}
