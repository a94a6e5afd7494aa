/* SPDX-License-Identifier: Apache-2.0 */
#include "node/installed.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/identify.h"
#include "node/unit.h"
#include "node/warn.h"

/* k3s install.sh: BIN_DIR is /usr/local/bin, or /opt/bin where that is read-only; packages use /usr/bin; images /bin. */
static const char *const usual_places[] = {"/usr/local/bin/k3s", "/opt/bin/k3s", "/usr/bin/k3s", "/bin/k3s"};

static_assert(ELEMENTSOF(usual_places) + 1 == K3SUP__PLACES, "room for all places and NULL");

/* A place that has something there that cannot be used. */
struct bad {
	char *path; /* NULL: none */
	int code;   /* why */
};

/* What looking at the places came to. First those that a service of the node names, then the usual ones. */
struct search {
	struct k3sup__place *found;
	size_t count;
	size_t named;                    /* so many of them are named by services */
	struct bad bad_named, bad_usual; /* of each kind the first */
};

static void search_clear(struct search *s)
{
	for (size_t i = 0; i < s->count; i++)
		k3sup__place_clear(&s->found[i]);
	free(s->found);
	free(s->bad_named.path);
	free(s->bad_usual.path);
	*s = (struct search){0};
}

void k3sup__installed_places(const k3sup_node *node, const char *ret[static K3SUP__PLACES])
{
	size_t n = 0;

	if (node->k3s != NULL)
		ret[n++] = node->k3s;
	for (size_t i = 0; node->k3s == NULL && i < ELEMENTSOF(usual_places); i++)
		ret[n++] = usual_places[i];
	ret[n] = NULL;
}

void k3sup__usual_places(const char *ret[static K3SUP__PLACES])
{
	memcpy(ret, usual_places, sizeof(usual_places));
	ret[ELEMENTSOF(usual_places)] = NULL;
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

/* An untrusted one is the worst: it keeps a good one beside it from being taken for granted. */
static int note_bad(struct bad *bad, const char *path, int code)
{
	char *copy;

	if (bad->path != NULL && (code != K3SUP_E_UNTRUSTED || bad->code == code))
		return 0;
	copy = strdup(path);
	if (copy == NULL)
		return -ENOMEM;
	free(bad->path);
	*bad = (struct bad){copy, code};
	return 0;
}

/* One more place. Only a service names a file that is not there. */
static int look_at(const k3sup_node *node, const char *path, bool named, struct search *s)
{
	struct k3sup__place place = K3SUP__PLACE_NONE, *found;
	int r = find_one(node, path, &place);

	for (size_t i = 0; r == 0 && i < s->count; i++)
		if (s->found[i].st.st_dev == place.st.st_dev && s->found[i].st.st_ino == place.st.st_ino) {
			k3sup__place_clear(&place);
			return 0;
		}
	if (r == 0) {
		found = reallocarray(s->found, s->count + 1, sizeof(*found));
		if (found != NULL) {
			s->found = found;
			s->found[s->count++] = place;
			s->named += named;
			return 0;
		}
		r = -ENOMEM;
	}
	k3sup__place_clear(&place);
	if (r == -ENOMEM || (r == K3SUP_E_TARGET_MISSING && !named))
		return r == -ENOMEM ? r : 0;
	return note_bad(named ? &s->bad_named : &s->bad_usual, path, r);
}

/* The files that services start as k3s: units and init scripts which only root can write. */
static int look_at_units(k3sup_op *op, const k3sup_node *node, struct search *s)
{
	struct k3sup__units units;
	int r = k3sup__units_read(op, node, &units);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < units.count; i++) {
		const struct k3sup__unit *unit = &units.items[i];

		if (unit->state == K3SUP__UNIT_LOADED && unit->role != K3SUP__ROLE_UNKNOWN && unit->target != NULL && unit->root_directory == NULL)
			r = look_at(node, unit->target, true, s);
	}
	k3sup__units_clear(&units);
	return r;
}

static int look(k3sup_op *op, const k3sup_node *node, struct search *s)
{
	const char *places[K3SUP__PLACES];
	int r = node->k3s == NULL ? look_at_units(op, node, s) : 0;

	k3sup__installed_places(node, places);
	for (size_t i = 0; r == 0 && places[i] != NULL; i++)
		r = look_at(node, places[i], false, s);
	return r;
}

static bool is_build(k3sup_op *op, const struct k3sup__place *place, const char *hash)
{
	_close_ int fd = k3sup__place_open(place, O_RDONLY);
	struct k3sup__build build;

	return fd >= 0 && k3sup__build_read_fd(op, fd, place->path, K3SUP__BUILD_LENIENT, &build) == 0 && k3sup__streq(build.asset_hash, hash);
}

static int fail_bad(k3sup_op *op, const k3sup_node *node, const struct bad *s)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;

	switch (s->code) {
	case K3SUP_E_TARGET_MISSING:
		return k3sup__fail(op, s->code, "%s does not exist, but a service of the node starts k3s from there", s->path);
	case K3SUP_E_TARGET_DANGLING:
		return k3sup__fail(op, s->code, "%s is a symbolic link to nothing", s->path);
	case K3SUP_E_TARGET_LOOP:
		return k3sup__fail(op, s->code, "%s leads in a circle of symbolic links", s->path);
	case K3SUP_E_TARGET_NOT_FILE:
		return k3sup__fail(op, s->code, "%s is not a regular file", s->path);
	case K3SUP_E_UNTRUSTED:
		/* Once more for its sentence, which names the component. */
		(void)!k3sup__root_find(op, &node->root, s->path, node->trust_flags, &place);
		return k3sup__fail(op, s->code, "somebody else than root could change %s", s->path);
	default:
		return k3sup__fail(op, s->code, "%s cannot be examined: %s", s->path, k3sup_strerror(s->code));
	}
}

static int fail_many(k3sup_op *op, const struct search *s, size_t count)
{
	k3sup__json *list = k3sup__json_array();

	for (size_t i = 0; i < count; i++)
		k3sup__json_add(list, k3sup__json_str(s->found[i].path));
	k3sup__json_set(k3sup__op_evidence(op), "installed", list);
	return k3sup__fail(op, K3SUP_E_TARGET_AMBIGUOUS, "%zu k3s files are installed (%s, %s%s); say which one the node runs", count,
		s->found[0].path, s->found[1].path, count > 2 ? ", ..." : "");
}

/* The only one in [from, to) that is this build; false if there is none or more than one. */
static bool find_build(k3sup_op *op, const struct search *s, size_t from, size_t to, const char *hash, size_t *ret)
{
	size_t matches = 0;

	for (size_t i = from; hash != NULL && hash[0] != '\0' && i < to; i++)
		if (is_build(op, &s->found[i], hash)) {
			*ret = i;
			matches++;
		}
	return matches == 1;
}

/* What a service starts is what counts; copies elsewhere are stale (kubectl and the like may still be links to them). */
static int choose_named(k3sup_op *op, const k3sup_node *node, const char *running_hash, const struct search *s, size_t *ret)
{
	*ret = 0;
	if (s->named == 0)
		return find_build(op, s, 0, s->count, running_hash, ret) ? 0 : fail_bad(op, node, &s->bad_named);
	if (s->named > 1 && !find_build(op, s, 0, s->named, running_hash, ret))
		return fail_many(op, s, s->named);
	for (size_t i = s->named; i < s->count; i++)
		k3sup__warn(op, "%s is another k3s file, which no service of the node starts", s->found[i].path);
	return 0;
}

/* Which of what was found; below 0 if that cannot be told. */
static int choose(k3sup_op *op, const k3sup_node *node, const char *running_hash, const struct search *s, size_t *ret)
{
	if (s->named > 0 || s->bad_named.path != NULL)
		return choose_named(op, node, running_hash, s, ret);
	if (s->count == 0 && s->bad_usual.path != NULL)
		return fail_bad(op, node, &s->bad_usual);
	if (s->count == 0 && node->k3s != NULL)
		return k3sup__fail(op, K3SUP_E_TARGET_MISSING, "%s does not exist", node->k3s);
	if (s->count == 0)
		return k3sup__fail(op, K3SUP_E_TARGET_MISSING, "no k3s file is installed in any of the usual places");
	*ret = 0;
	/* An unusable one beside a good one: the node may run either. */
	if (s->count == 1 && s->bad_usual.code != K3SUP_E_UNTRUSTED)
		return 0;
	if (find_build(op, s, 0, s->count, running_hash, ret))
		return 0;
	return s->count == 1 ? fail_bad(op, node, &s->bad_usual) : fail_many(op, s, s->count);
}

int k3sup__installed_find(k3sup_op *op, k3sup_node *node, const char *running_hash, struct k3sup__place *ret)
{
	_cleanup_(search_clear) struct search s = {.count = 0};
	size_t chosen = 0;
	int r = look(op, node, &s);

	if (r == 0)
		r = choose(op, node, running_hash, &s, &chosen);
	if (r == 0) {
		*ret = s.found[chosen];
		s.found[chosen] = K3SUP__PLACE_NONE;
	}
	return r;
}

int k3sup__installed_of(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *running, struct k3sup__place *ret)
{
	if (node->k3s == NULL && running->target != NULL && find_one(node, running->target, ret) == 0)
		return 0;
	k3sup__place_clear(ret);
	return k3sup__installed_find(op, node, running->asset_hash, ret);
}
