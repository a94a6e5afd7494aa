/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/layout.h"

#include <unistd.h>

#include "base/durable.h"
#include "node/identify.h"
#include "node/installed.h"
#include "node/unit.h"
#include "node/version.h"

#define MOST_LINKS 40 /* as the kernel follows */

/* ---- looking ---- */

/* Where the version in a name begins that ends in one; -1 if there is none. */
static ssize_t find_version(const char *name)
{
	struct k3sup__version version;

	for (const char *at = strchr(name, 'v'); at; at = strchr(at + 1, 'v'))
		if (k3sup__version_parse(at, strlen(at), &version) == 0)
			return at - name;
	return -1;
}

/* Where a link leads, as a path inside the root. */
static char *follow(const struct k3sup__place *link, const char *text)
{
	return text[0] == '/' ? strdup(text) : k3sup__fmt("%.*s%s", (int)(link->name - link->path), link->path, text);
}

/* One link further from the place in ret: 1; 0 if that is no link. */
static int step(const k3sup_node *node, struct k3sup__place *ret, struct k3sup__layout *layout)
{
	_free_ char *text = NULL, *path = NULL;
	struct k3sup__place next = K3SUP__PLACE_NONE;
	int r;

	if (ret->fd < 0 || !S_ISLNK(ret->st.st_mode))
		return 0;
	text = k3sup__link_text(ret->fd);
	if (!text)
		return -errno;
	path = follow(ret, text);
	r = path ? k3sup__root_find(NULL, &node->root, path, node->trust_flags | K3SUP__NOFOLLOW, &next) : -ENOMEM;
	if (r < 0)
		return r;
	k3sup__place_clear(&layout->link);
	free(layout->text);
	layout->link = *ret;
	layout->text = text;
	text = NULL;
	*ret = next;
	return 1;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Not a way to any file. What cannot be told is none of these: a link that was overlooked would stay, and its version's file be replaced by another version. */
static bool leads_nowhere(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -ENAMETOOLONG || r == K3SUP_E_UNTRUSTED || r == K3SUP_E_ESCAPE ||
		(r == -EACCES && geteuid() != 0);
}

/* The last link on the way from this place to the target. 0 also if the way leads elsewhere, or nowhere: layout has no link then. */
static int find_link(const k3sup_node *node, const char *place, struct k3sup__layout *layout)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place at = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &node->root, place, node->trust_flags | K3SUP__NOFOLLOW, &at);

	if (r >= 0)
		r = 1;
	for (int i = 0; r > 0 && i < MOST_LINKS; i++)
		r = step(node, &at, layout);
	if (r != 0 || at.fd < 0 || !same(&at.st, &layout->target->st))
		k3sup__place_clear(&layout->link);
	return leads_nowhere(r) || r > 0 ? 0 : r;
}

/* One more way to name the k3s file. False: it is the file itself, or leads there by another link than the ways before. */
static int take_way(const k3sup_node *node, const char *place, struct k3sup__layout *layout, bool *agrees)
{
	struct k3sup__layout other = {.target = layout->target, .link = K3SUP__PLACE_NONE};
	_cleanup_(k3sup__place_clear) struct k3sup__place direct = K3SUP__PLACE_NONE;
	int r = find_link(node, place, layout->link.fd < 0 ? layout : &other);

	if (r >= 0 && other.link.fd >= 0)
		*agrees = same(&other.link.st, &layout->link.st);
	k3sup__layout_clear(&other);
	if (r >= 0)
		r = k3sup__root_find(NULL, &node->root, place, node->trust_flags | K3SUP__NOFOLLOW, &direct);
	if (r >= 0 && direct.fd >= 0 && same(&direct.st, &layout->target->st))
		*agrees = false;
	return leads_nowhere(r) ? 0 : r;
}

static int find_links(k3sup_op *op, k3sup_node *node, struct k3sup__layout *layout)
{
	const char *places[K3SUP__PLACES];
	struct k3sup__units units;
	bool agree = true;
	int r = k3sup__units_read(op, node, &units);

	if (r < 0)
		return r;
	k3sup__installed_places(node, places);
	for (size_t i = 0; r >= 0 && agree && places[i]; i++)
		r = take_way(node, places[i], layout, &agree);
	for (size_t i = 0; r >= 0 && agree && i < units.count; i++)
		if (units.items[i].target && !units.items[i].root_directory)
			r = take_way(node, units.items[i].target, layout, &agree);
	if (!agree)
		k3sup__place_clear(&layout->link);
	k3sup__units_clear(&units);
	return r;
}

int k3sup__layout_find(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, struct k3sup__layout *ret)
{
	struct k3sup__layout layout = {.target = target, .link = K3SUP__PLACE_NONE};
	ssize_t version = find_version(target->name);
	int r = 0;

	if (version >= 0) {
		layout.stem = (size_t)version;
		layout.dashed = strchr(target->name + version, '+') == NULL && strstr(target->name + version, "-k3s") != NULL;
		r = find_links(op, node, &layout);
	}
	if (r < 0) {
		k3sup__layout_clear(&layout);
		return k3sup__fail(op, r, "cannot tell which link leads to %s: %s", target->path, k3sup_strerror(r));
	}
	*ret = layout;
	return 0;
}

void k3sup__layout_clear(struct k3sup__layout *layout)
{
	k3sup__place_clear(&layout->link);
	free(layout->text);
	layout->text = NULL;
}

int k3sup__layout_name(const struct k3sup__layout *layout, const char *version, char **ret)
{
	struct k3sup__version parsed;
	char *plus;

	*ret = NULL;
	if (layout->link.fd < 0 || k3sup__version_parse(version, strlen(version), &parsed) < 0)
		return 0;
	*ret = k3sup__fmt("%.*s%s", (int)layout->stem, layout->target->name, version);
	if (!*ret)
		return -ENOMEM;
	plus = layout->dashed ? strchr(*ret + layout->stem, '+') : NULL;
	if (plus)
		*plus = '-';
	if (k3sup__streq(*ret, layout->target->name)) {
		free(*ret);
		*ret = NULL;
	}
	return 0;
}

static bool has_form(const struct k3sup__layout *layout, const char *name)
{
	return layout->link.fd >= 0 && strncmp(name, layout->target->name, layout->stem) == 0 && find_version(name) == (ssize_t)layout->stem;
}

bool k3sup__layout_is_version(const struct k3sup__layout *layout, const char *name)
{
	return has_form(layout, name) && !k3sup__streq(name, layout->target->name);
}

bool k3sup__layout_is_this_version(const struct k3sup__layout *layout, const char *name, const char *version)
{
	struct k3sup__version wanted, its;

	return has_form(layout, name) && k3sup__version_parse(version, strlen(version), &wanted) == 0 &&
		k3sup__version_parse(name + layout->stem, strlen(name + layout->stem), &its) == 0 && k3sup__version_order(&wanted, &its) == 0;
}

const struct k3sup__place *k3sup__layout_front(const struct k3sup__layout *layout)
{
	return layout->link.fd >= 0 ? &layout->link : layout->target;
}

/* ---- doing ---- */

int k3sup__layout_relink(k3sup_op *op, const struct k3sup__layout *layout, const char *name, int (*before_rename)(k3sup_op *op), bool *ret_renamed)
{
	const char *slash = strrchr(layout->text, '/');
	_free_ char *text = k3sup__fmt("%.*s%s", slash ? (int)(slash + 1 - layout->text) : 0, layout->text, name);

	*ret_renamed = false;
	if (!text)
		return -ENOMEM;
	return k3sup__durable_relink(op, &layout->link, text, before_rename, ret_renamed);
}
