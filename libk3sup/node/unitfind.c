/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unitfind.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "node/nodefile.h"

#define MAX_ALIASES 8

const char *const k3sup__unit_dirs[] = {"/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
	"/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system",
	"/run/systemd/system.attached", "/run/systemd/generator", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
	"/lib/systemd/system", "/run/systemd/generator.late", NULL};

void k3sup__unit_found_clear(struct k3sup__unit_found *found)
{
	free(found->id);
	free(found->path);
	free(found->mask);
	k3sup__strv_clear(&found->aliases);
	*found = (struct k3sup__unit_found){0};
}

/* A missing one is no reason to complain about who may write there. */
static int look(k3sup_op *op, const k3sup_node *node, const char *path, struct k3sup__place *ret)
{
	int r = k3sup__root_find(NULL, &node->root, path, K3SUP__NOFOLLOW, ret);

	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && ret->fd < 0))
		return -ENOENT;
	k3sup__place_clear(ret);
	r = k3sup__root_find(op, &node->root, path, K3SUP__NOFOLLOW | node->trust_flags, ret);
	return r == 0 && ret->fd < 0 ? -ENOENT : r;
}

static int link_text(int dirfd, const char *name, char **ret)
{
	_free_ char *text = malloc(PATH_MAX + 1);
	ssize_t n;

	if (text == NULL)
		return -ENOMEM;
	n = readlinkat(dirfd, name, text, PATH_MAX);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	*ret = text;
	text = NULL;
	return 0;
}

static bool is_unit_dir(const k3sup_node *node, const char *path)
{
	for (size_t i = 0; k3sup__unit_dirs[i] != NULL; i++) {
		_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;

		if (k3sup__streq(path, k3sup__unit_dirs[i]))
			return true;
		if (k3sup__root_find(NULL, &node->root, k3sup__unit_dirs[i], 0, &place) == 0 && place.fd >= 0 && k3sup__streq(place.path, path))
			return true;
	}
	return false;
}

/*
 * What a link in a unit directory means: 1 with the unit's name if it leads to another unit of these directories (an alias); 0 if to a file elsewhere, or to one of the
 * same name. Only its own text counts, not where further links lead.
 */
static int alias_of(const k3sup_node *node, const char *link_dir, const char *link_name, const char *text, char **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place dir = K3SUP__PLACE_NONE;
	_free_ char *whole = text[0] == '/' ? strdup(text) : k3sup__fmt("%s/%s", link_dir, text);
	char *name;

	if (whole == NULL)
		return -ENOMEM;
	name = strrchr(whole, '/') + 1;
	if (k3sup__streq(name, link_name) || !k3sup__endswith(name, ".service"))
		return 0;
	name[-1] = '\0';
	if (k3sup__root_find(NULL, &node->root, whole[0] != '\0' ? whole : "/", 0, &dir) < 0 || dir.fd < 0 || !is_unit_dir(node, dir.path))
		return 0;
	*ret = strdup(name);
	return *ret != NULL ? 1 : -ENOMEM;
}

/* Links to /dev/null and empty files mask a unit. -ENOLINK: a link to nothing. */
static int judge_link(const k3sup_node *node, const char *path, const char *text, bool *ret_masked)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place end = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &node->root, path, 0, &end);

	/* A root without its /dev has the link all the same. */
	*ret_masked = k3sup__streq(text, "/dev/null") || (r == 0 && k3sup__streq(end.path, "/dev/null")) ||
		(r == 0 && end.fd >= 0 && S_ISREG(end.st.st_mode) && end.st.st_size == 0);
	if (*ret_masked || (r == 0 && end.fd >= 0))
		return 0;
	return r == 0 || r == -ENOENT || r == -ENOTDIR || r == -ELOOP ? -ENOLINK : r;
}

/* One step: 0 with found->path or found->mask; 1 with another name in *ret_alias; -ENOENT; -ENOLINK with found->path. */
static int find_in(k3sup_op *op, const k3sup_node *node, const char *dir, const char *name, struct k3sup__unit_found *found, char **ret_alias)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s", dir, name), *text = NULL;
	bool masked = false;
	int r = path != NULL ? look(op, node, path, &place) : -ENOMEM;

	if (r < 0)
		return r;
	if (S_ISLNK(place.st.st_mode)) {
		r = link_text(place.dirfd, place.name, &text);
		if (r == 0)
			r = alias_of(node, dir, name, text, ret_alias);
		if (r == 0)
			r = judge_link(node, path, text, &masked);
		if (r != 0 && r != -ENOLINK)
			return r;
	} else {
		masked = S_ISREG(place.st.st_mode) && place.st.st_size == 0;
	}
	*(masked ? &found->mask : &found->path) = path;
	path = NULL;
	return r;
}

static int find_name(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit_found *found, char **ret_alias)
{
	for (size_t i = 0; k3sup__unit_dirs[i] != NULL; i++) {
		int r = find_in(op, node, k3sup__unit_dirs[i], name, found, ret_alias);

		if (r != -ENOENT)
			return r;
	}
	return -ENOENT;
}

/* k3s@east.service is written as k3s@.service, unless it has a file of its own (systemd.unit(5)). NULL: it is no instance, or memory ran out. */
static char *template_of(const char *name)
{
	const char *at = strchr(name, '@'), *dot = strrchr(name, '.');

	return at != NULL && dot != NULL && at + 1 < dot ? k3sup__fmt("%.*s@%s", (int)(at - name), name, dot) : NULL;
}

static int find_template(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit_found *found)
{
	_free_ char *template = template_of(name), *alias = NULL;
	int r = template != NULL ? find_name(op, node, template, found, &alias) : -ENOENT;

	return r > 0 ? -ENOENT : r; /* a template by another name: an instance of that one, which is more than is told here */
}

static int add_alias(const k3sup_node *node, const char *dir, int dirfd, const char *name, struct k3sup__unit_found *found)
{
	_free_ char *text = NULL, *alias = NULL;
	int r;

	if (k3sup__strv_has(&found->aliases, name) || link_text(dirfd, name, &text) < 0)
		return 0;
	r = alias_of(node, dir, name, text, &alias);
	return r > 0 && k3sup__streq(alias, found->id) ? k3sup__strv_add_copy(&found->aliases, name, strlen(name)) : r < 0 ? r : 0;
}

static bool is_service(const char *name)
{
	return k3sup__endswith(name, ".service");
}

/* Other links in the unit directories that stand for this unit: their drop-ins count, too. */
static int add_aliases(const k3sup_node *node, struct k3sup__unit_found *found)
{
	int r = 0;

	for (size_t i = 0; r == 0 && k3sup__unit_dirs[i] != NULL; i++) {
		_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
		const char *dir = k3sup__unit_dirs[i];
		struct k3sup__strv names = {0};

		/* A directory that cannot be trusted or read is no reason by itself, since nothing of the unit comes from there so far. */
		if (k3sup__nodedir_list(NULL, node, dir, is_service, &names) == 0 && k3sup__root_find(NULL, &node->root, dir, 0, &place) == 0)
			for (size_t j = 0; r == 0 && place.fd >= 0 && j < names.count; j++)
				r = add_alias(node, dir, place.fd, names.items[j], found);
		k3sup__strv_clear(&names);
	}
	return r;
}

int k3sup__unit_find(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit_found *ret)
{
	struct k3sup__unit_found found = {.id = strdup(name)};
	int r = found.id != NULL ? 1 : -ENOMEM;

	for (unsigned i = 0; r > 0; i++) {
		char *alias = NULL;

		r = i < MAX_ALIASES ? find_name(op, node, found.id, &found, &alias) : -ELOOP;
		if (r == -ENOENT)
			r = find_template(op, node, found.id, &found);
		if (r > 0) {
			free(found.id);
			found.id = alias;
		}
	}
	if (r == 0 && found.path != NULL)
		r = add_aliases(node, &found);
	if (r < 0 && r != -ENOLINK) {
		k3sup__unit_found_clear(&found);
		return r;
	}
	*ret = found;
	return r;
}

/* ---- drop-ins ---- */

static bool is_drop_in(const char *name)
{
	return name[0] != '.' && k3sup__endswith(name, ".conf");
}

struct drop_ins {
	struct k3sup__strv names; /* of the files, for a name that comes twice the first one counts */
	struct k3sup__strv paths;
};

static int add_dir(k3sup_op *op, const k3sup_node *node, const char *dir, struct drop_ins *to)
{
	struct k3sup__strv names = {0};
	int r = k3sup__nodedir_list(op, node, dir, is_drop_in, &names);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (k3sup__strv_has(&to->names, names.items[i]))
			continue;
		r = k3sup__strv_add_copy(&to->names, names.items[i], strlen(names.items[i]));
		if (r == 0)
			/* The name in front, to sort by: it has no slash, and what follows it sorts before any other character but NUL. */
			r = k3sup__strv_add(&to->paths, k3sup__fmt("%s\001%s/%s", names.items[i], dir, names.items[i]));
	}
	k3sup__strv_clear(&names);
	return r;
}

/* UNIT.d in one directory, its template's, then those of its prefixes: k3s-a-b.service.d, k3s-a-.service.d, k3s-.service.d. */
static int add_chain(k3sup_op *op, const k3sup_node *node, const char *base, const char *name, struct drop_ins *to)
{
	const char *dot = strrchr(name, '.'), *at = strchr(name, '@');
	size_t len = (size_t)((at != NULL ? at : dot) - name);
	_free_ char *own = k3sup__fmt("%s/%s.d", base, name), *template = template_of(name);
	_free_ char *shared = template != NULL ? k3sup__fmt("%s/%s.d", base, template) : NULL;
	int r = own != NULL ? add_dir(op, node, own, to) : -ENOMEM;

	if (r == 0 && shared != NULL)
		r = add_dir(op, node, shared, to);

	if (len > 0 && name[len - 1] == '-')
		len--;
	for (; r == 0 && len > 0; len--) {
		_free_ char *dir = NULL;

		if (name[len - 1] != '-')
			continue;
		dir = k3sup__fmt("%s/%.*s%s.d", base, (int)len, name, dot);
		r = dir != NULL ? add_dir(op, node, dir, to) : -ENOMEM;
	}
	return r;
}

static int add_unit(k3sup_op *op, const k3sup_node *node, const char *name, struct drop_ins *to)
{
	int r = 0;

	for (size_t i = 0; r == 0 && k3sup__unit_dirs[i] != NULL; i++)
		r = add_chain(op, node, k3sup__unit_dirs[i], name, to);
	return r;
}

int k3sup__unit_drop_ins(k3sup_op *op, const k3sup_node *node, const char *id, const struct k3sup__strv *aliases, struct k3sup__strv *ret)
{
	struct drop_ins d = {.names = {0}};
	int r = add_unit(op, node, id, &d);

	for (size_t i = 0; r == 0 && i < aliases->count; i++)
		r = add_unit(op, node, aliases->items[i], &d);
	/* The most generic ones count least. */
	for (size_t i = 0; r == 0 && k3sup__unit_dirs[i] != NULL; i++) {
		_free_ char *dir = k3sup__fmt("%s/service.d", k3sup__unit_dirs[i]);

		r = dir != NULL ? add_dir(op, node, dir, &d) : -ENOMEM;
	}
	k3sup__strv_sort(&d.paths);
	for (size_t i = 0; i < d.paths.count; i++) {
		char *path = strchr(d.paths.items[i], '\001') + 1;

		memmove(d.paths.items[i], path, strlen(path) + 1);
	}
	k3sup__strv_clear(&d.names);
	if (r < 0) {
		k3sup__strv_clear(&d.paths);
		return r;
	}
	*ret = d.paths;
	return 0;
}
