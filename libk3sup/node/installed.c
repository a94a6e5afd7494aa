/* SPDX-License-Identifier: Apache-2.0 */
#include "node/installed.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/identify.h"

/* k3s install.sh: BIN_DIR is /usr/local/bin, or /opt/bin where that is read-only; packages use /usr/bin; images /bin. */
static const char *const usual_places[] = {"/usr/local/bin/k3s", "/opt/bin/k3s", "/usr/bin/k3s", "/bin/k3s"};

static_assert(ELEMENTSOF(usual_places) + 1 == K3SUP__PLACES, "room for all places and NULL");

/* What looking at the places came to. */
struct search {
	struct k3sup__place found[K3SUP__PLACES];
	size_t count;
	const char *bad; /* the first place that has something there that cannot be used */
	int code;        /* why */
};

void k3sup__installed_places(const k3sup_node *node, const char *ret[static K3SUP__PLACES])
{
	size_t n = 0;

	if (node->k3s != NULL)
		ret[n++] = node->k3s;
	for (size_t i = 0; node->k3s == NULL && i < ELEMENTSOF(usual_places); i++)
		ret[n++] = usual_places[i];
	ret[n] = NULL;
}

/* A link whose target is missing, even the directory of its target? */
static bool is_link(const struct k3sup__root *root, const char *path)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;

	return k3sup__root_find(NULL, root, path, K3SUP__NOFOLLOW, &place) == 0 && place.fd >= 0 && S_ISLNK(place.st.st_mode);
}

/*
 * First without trust: a place that has no k3s is nothing to complain about, whoever may write its directory. What is taken is what was found the second time.
 */
static int find_one(const k3sup_node *node, const char *path, struct k3sup__place *ret)
{
	int r = k3sup__root_find(NULL, &node->root, path, 0, ret);

	if (r == 0 && ret->fd < 0)
		r = -ENOENT;
	k3sup__place_clear(ret);
	if (r == -ENOENT || r == -ENOTDIR)
		return is_link(&node->root, path) ? K3SUP_E_TARGET_DANGLING : K3SUP_E_TARGET_MISSING;
	if (r == -ELOOP)
		return K3SUP_E_TARGET_LOOP;
	if (r < 0)
		return r;
	r = k3sup__root_find(NULL, &node->root, path, node->trust_flags, ret);
	if (r < 0)
		return r;
	if (ret->fd < 0)
		return K3SUP_E_TARGET_MISSING;
	return S_ISREG(ret->st.st_mode) ? 0 : K3SUP_E_TARGET_NOT_FILE;
}

static void look(const k3sup_node *node, struct search *s)
{
	const char *places[K3SUP__PLACES];

	k3sup__installed_places(node, places);
	for (size_t i = 0; places[i] != NULL; i++) {
		struct k3sup__place place = K3SUP__PLACE_NONE;
		int r = find_one(node, places[i], &place);
		bool known = false;

		for (size_t j = 0; r == 0 && j < s->count; j++)
			known = known || (s->found[j].st.st_dev == place.st.st_dev && s->found[j].st.st_ino == place.st.st_ino);
		if (r == 0 && !known) {
			s->found[s->count++] = place;
			continue;
		}
		k3sup__place_clear(&place);
		/* An untrusted one is the worst: it keeps a good one beside it from being taken for granted. */
		if (r < 0 && r != K3SUP_E_TARGET_MISSING && (s->bad == NULL || (r == K3SUP_E_UNTRUSTED && s->code != r))) {
			s->bad = places[i];
			s->code = r;
		}
	}
}

static bool is_build(k3sup_op *op, const struct k3sup__place *place, const char *hash)
{
	_close_ int fd = k3sup__place_open(place, O_RDONLY);
	struct k3sup__build build;

	return fd >= 0 && k3sup__build_read_fd(op, fd, place->path, K3SUP__BUILD_LENIENT, &build) == 0 && k3sup__streq(build.asset_hash, hash);
}

static int fail_bad(k3sup_op *op, const k3sup_node *node, const struct search *s)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;

	switch (s->code) {
	case K3SUP_E_TARGET_DANGLING:
		return k3sup__fail(op, s->code, "%s is a symbolic link to nothing", s->bad);
	case K3SUP_E_TARGET_LOOP:
		return k3sup__fail(op, s->code, "%s leads in a circle of symbolic links", s->bad);
	case K3SUP_E_TARGET_NOT_FILE:
		return k3sup__fail(op, s->code, "%s is not a regular file", s->bad);
	case K3SUP_E_UNTRUSTED:
		/* Once more for its sentence, which names the component. */
		(void)!k3sup__root_find(op, &node->root, s->bad, node->trust_flags, &place);
		return k3sup__fail(op, s->code, "somebody else than root could change %s", s->bad);
	default:
		return k3sup__fail(op, s->code, "%s cannot be examined: %s", s->bad, k3sup_strerror(s->code));
	}
}

static int fail_many(k3sup_op *op, const struct search *s)
{
	k3sup__json *list = k3sup__json_array();

	for (size_t i = 0; i < s->count; i++)
		k3sup__json_add(list, k3sup__json_str(s->found[i].path));
	k3sup__json_set(k3sup__op_evidence(op), "installed", list);
	return k3sup__fail(op, K3SUP_E_TARGET_AMBIGUOUS, "%zu k3s files are installed (%s, %s%s); say which one the node runs", s->count,
		s->found[0].path, s->found[1].path, s->count > 2 ? ", ..." : "");
}

/* Which of what was found; below 0 if that cannot be told. */
static int choose(k3sup_op *op, const k3sup_node *node, const char *running_hash, const struct search *s, size_t *ret)
{
	size_t matches = 0;

	if (s->count == 0 && s->bad != NULL)
		return fail_bad(op, node, s);
	if (s->count == 0 && node->k3s != NULL)
		return k3sup__fail(op, K3SUP_E_TARGET_MISSING, "%s does not exist", node->k3s);
	if (s->count == 0)
		return k3sup__fail(op, K3SUP_E_TARGET_MISSING, "no k3s file is installed in any of the usual places");
	*ret = 0;
	/* An unusable one beside a good one: the node may run either. */
	if (s->count == 1 && s->code != K3SUP_E_UNTRUSTED)
		return 0;
	for (size_t i = 0; running_hash != NULL && running_hash[0] != '\0' && i < s->count; i++)
		if (is_build(op, &s->found[i], running_hash)) {
			*ret = i;
			matches++;
		}
	if (matches == 1)
		return 0;
	return s->count == 1 ? fail_bad(op, node, s) : fail_many(op, s);
}

int k3sup__installed_find(k3sup_op *op, k3sup_node *node, const char *running_hash, struct k3sup__place *ret)
{
	struct search s = {.count = 0};
	size_t chosen = 0;
	int r;

	look(node, &s);
	r = choose(op, node, running_hash, &s, &chosen);
	for (size_t i = 0; i < s.count; i++) {
		if (r == 0 && i == chosen)
			*ret = s.found[i];
		else
			k3sup__place_clear(&s.found[i]);
	}
	return r;
}
