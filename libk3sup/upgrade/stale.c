/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other k3s files in the usual places than the one that is upgraded: people who type k3s or kubectl may get one of them (install.sh makes links of these names beside k3s).
 */
#include <fcntl.h>

#include "node/installed.h"
#include "upgrade/view.h"

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The links beside any of the places that lead to this file. */
static k3sup__json *links_to(const k3sup_node *node, const char *const *places, const struct stat *st)
{
	static const char *const names[] = {"kubectl", "crictl", "ctr"};
	k3sup__json *links = k3sup__json_array();

	for (size_t i = 0; places[i]; i++)
		for (size_t j = 0; j < ELEMENTSOF(names); j++) {
			_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
			_free_ char *path = k3sup__fmt("%.*s%s", (int)(strrchr(places[i], '/') + 1 - places[i]), places[i], names[j]);

			if (path && k3sup__root_find(NULL, &node->root, path, 0, &place) == 0 && place.fd >= 0 && is_same(&place.st, st))
				k3sup__json_add(links, k3sup__json_str(path));
		}
	return links;
}

/* NULL if it is no k3s, or cannot be read: then nobody can say that it is a stale one. */
static k3sup__json *describe(k3sup_op *op, const k3sup_node *node, const char *const *places, const struct k3sup__place *place)
{
	_close_ int fd = k3sup__place_open(place, O_RDONLY);
	struct k3sup__build build;
	k3sup__json *one;

	if (fd < 0 || k3sup__build_read_fd(op, fd, place->path, K3SUP__BUILD_LENIENT, &build) < 0) {
		k3sup__op_forgive(op);
		return NULL;
	}
	if (!build.wrapper && !build.inner)
		return NULL;
	one = k3sup__build_json(&build);
	k3sup__json_set_str(one, "path", place->path);
	k3sup__json_set(one, "links", links_to(node, places, &place->st));
	return one;
}

void k3sup__stale_report(k3sup_op *op, const k3sup_node *node, const struct k3sup__view *view)
{
	const char *places[K3SUP__PLACES];
	struct stat seen[K3SUP__PLACES];
	size_t count = 0;
	k3sup__json *stale = k3sup__json_array();

	k3sup__usual_places(places);
	seen[count++] = view->installed.st;
	for (size_t i = 0; view->installed.fd >= 0 && places[i]; i++) {
		_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
		k3sup__json *one = NULL;
		bool known = false;

		if (k3sup__root_find(NULL, &node->root, places[i], 0, &place) < 0 || place.fd < 0 || !S_ISREG(place.st.st_mode))
			continue;
		for (size_t j = 0; j < count; j++)
			known |= is_same(&seen[j], &place.st);
		if (!known)
			one = describe(op, node, places, &place);
		if (count < ELEMENTSOF(seen))
			seen[count++] = place.st;
		if (one)
			k3sup__json_add(stale, one);
	}
	if (k3sup__json_len(stale) > 0)
		k3sup__json_set(k3sup__op_facts(op), "stale", k3sup__json_ref(stale));
	k3sup__json_unref(stale);
}
