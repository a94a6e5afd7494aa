/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/foreign.h"

#include <dirent.h>
#include <fcntl.h>
#include <time.h>

#include "base/strv.h"
#include "certs/audit.h"

#define SERVER_TLS "server/tls/"

struct search {
	k3sup_op *op;
	k3sup_node *node;
	const struct k3sup__certs_where *where;
	const char *dir; /* "server" or "agent" */
	struct k3sup__audit live;
};

/* Where the pair lies in a backup, below its directory; NULL if it is not in such ones. */
static const char *place_of(const struct search *s, const struct k3sup__pair *pair)
{
	bool agent = (pair->flags & K3SUP__PAIR_AGENT) != 0;

	if (agent)
		return pair->path + strlen("agent/");
	return k3sup__streq(s->dir, "server") ? pair->path + strlen(SERVER_TLS) : NULL;
}

/* Is there a pair of the other side that would have the same name? Not where that has no certificate: what fits the one that is there is ours then. */
static bool is_mixed(const struct search *s, const struct k3sup__pair *pair)
{
	for (size_t i = 0; k3sup__streq(s->dir, "server") && i < k3sup__n_pairs; i++)
		if (&k3sup__pairs[i] != pair && (k3sup__pairs[i].flags & K3SUP__PAIR_KEY_ONLY) == 0 &&
			k3sup__streq(place_of(s, &k3sup__pairs[i]), place_of(s, pair)))
			return true;
	return false;
}

static bool is_of_use(const struct search *s, const struct k3sup__pair *pair, const struct k3sup__certs *certs, const struct k3sup__keys *keys)
{
	const struct k3sup__certs *ca = &(pair->flags & K3SUP__PAIR_AGENT ? s->live.agent_cas : s->live.cas)[pair->ca];

	return certs->count > 0 && keys->count > 0 && k3sup__key_fits(keys->list[0], &certs->list[0]) && ca->count > 0 &&
		k3sup__cert_signed_by(&certs->list[0], &ca->list[0]);
}

static void add(k3sup__json *list, const struct k3sup__pair *pair, const char *suffix)
{
	k3sup__json_add(list, k3sup__json_fmt("%s%s", pair->path, suffix));
}

static int look_at_pair(struct search *s, struct k3sup__audit *kept, const char *name, const struct k3sup__pair *pair, k3sup__json *files,
	k3sup__json *lost)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	_cleanup_(k3sup__keys_clear) struct k3sup__keys keys = {0};
	const char *place = place_of(s, pair);
	_free_ char *crt = k3sup__fmt("%s/%s.crt", name, place != NULL ? place : ""),
		    *key = k3sup__fmt("%s/%s.key", name, place != NULL ? place : "");
	int have_crt = 0, have_key = 0;
	bool use;

	if (crt == NULL || key == NULL)
		return -ENOMEM;
	if (place == NULL)
		return 0;
	if ((pair->flags & K3SUP__PAIR_KEY_ONLY) == 0)
		have_crt = k3sup__audit_certs(kept, crt, K3SUP__NOTE, &certs);
	if (have_crt >= 0 || have_crt == K3SUP_E_PARSE)
		have_key = k3sup__audit_keys(kept, key, K3SUP__NOTE, &keys);
	if ((have_crt < 0 && have_crt != K3SUP_E_PARSE) || (have_key < 0 && have_key != K3SUP_E_PARSE))
		return have_crt < 0 && have_crt != K3SUP_E_PARSE ? have_crt : have_key;
	use = !is_mixed(s, pair) && is_of_use(s, pair, &certs, &keys);
	if (have_crt != 0)
		add(use ? files : lost, pair, ".crt");
	if (have_key != 0)
		add(use ? files : lost, pair, ".key");
	return 0;
}

static int look_inside(struct search *s, const char *name, k3sup__json *files, k3sup__json *lost)
{
	_free_ char *top = k3sup__fmt("%s/%s", s->where->data_dir, s->dir);
	_cleanup_(k3sup__audit_close) struct k3sup__audit kept = {.op = s->op, .root = &s->node->root, .data_dir = top, .prepared = true};
	int r = top == NULL ? -ENOMEM : k3sup__audit_open(&kept);

	for (size_t i = 0; r >= 0 && i < k3sup__n_pairs; i++)
		r = look_at_pair(s, &kept, name, &k3sup__pairs[i], files, lost);
	return r;
}

/* k3s copies a link as a link: then there is only one directory, the live one. */
static int is_link(struct search *s, const char *name)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s/%s", s->where->data_dir, s->dir, name);
	int r = path == NULL ? -ENOMEM : k3sup__root_find(s->op, &s->node->root, path, K3SUP__NOFOLLOW, &place);

	return r < 0 ? r : place.fd >= 0 && !S_ISDIR(place.st.st_mode);
}

static int describe(struct search *s, const char *name, k3sup__json *list)
{
	k3sup__json *one = k3sup__json_object(), *files = k3sup__json_array(), *lost = k3sup__json_array();
	int r = is_link(s, name);

	k3sup__json_set(one, "name", k3sup__json_fmt("%s/%s", s->dir, name));
	k3sup__json_set_str(one, "kind", "k3s");
	k3sup__json_set_bool(one, "whole", false);
	if (r == 1)
		k3sup__json_set_str(one, "text", "made by k3s; it is a link and no copy: nothing was kept");
	else if (k3sup__streq(s->dir, "server"))
		k3sup__json_set_str(one,
			"text", "made by k3s; `files` can be copied back pair by pair while k3s is stopped; those in `lost` may be an agent's or the server's, or are of no use any more");
	else
		k3sup__json_set_str(one, "text", "made by k3s; an agent gets its certificates from its server");
	k3sup__json_set(one, "files", files);
	k3sup__json_set(one, "lost", lost);
	k3sup__json_add(list, one);
	return r == 0 ? look_inside(s, name, files, lost) : r < 0 ? r : 0;
}

static bool is_foreign(const char *name)
{
	return k3sup__startswith(name, "tls-") && name[4] != '\0' && strspn(name + 4, "0123456789") == strlen(name + 4);
}

static int list_names(struct search *s, struct k3sup__strv *names)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s", s->where->data_dir, s->dir);
	struct dirent *entry;
	DIR *opened;
	int fd, r = path == NULL ? -ENOMEM : k3sup__root_find(s->op, &s->node->root, path, 0, &place);

	if (r < 0 || place.fd < 0)
		return r == -ENOENT ? 0 : r;
	fd = k3sup__place_open(&place, O_RDONLY | O_DIRECTORY);
	opened = fd >= 0 ? fdopendir(fd) : NULL;
	if (opened == NULL) {
		r = fd < 0 ? fd : -errno;
		(void)k3sup__close(fd);
		return k3sup__fail(s->op, r, "%s cannot be listed", path);
	}
	while (r >= 0 && (entry = readdir(opened)) != NULL)
		if (is_foreign(entry->d_name))
			r = k3sup__strv_add_copy(names, entry->d_name, strlen(entry->d_name));
	(void)closedir(opened);
	k3sup__strv_sort(names);
	return r;
}

static int list_in(struct search *s, const char *dir, k3sup__json *list)
{
	struct k3sup__strv names = {0};
	int r;

	s->dir = dir;
	r = list_names(s, &names);
	for (size_t i = 0; r >= 0 && i < names.count; i++)
		r = describe(s, names.items[i], list);
	k3sup__strv_clear(&names);
	return r;
}

int k3sup__foreign_list(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *where, k3sup__json *list)
{
	struct search s = {.op = op, .node = node, .where = where};
	int r;

	s.live = (struct k3sup__audit){
		.op = op, .root = &node->root, .data_dir = where->data_dir, .server = where->server, .now = (int64_t)time(NULL), .window = K3SUP__CA_WINDOW};
	r = k3sup__audit_open(&s.live);
	if (r >= 0)
		r = k3sup__audit_authorities(&s.live);
	if (r >= 0)
		r = list_in(&s, "server", list);
	if (r >= 0)
		r = list_in(&s, "agent", list);
	k3sup__audit_close(&s.live);
	return r;
}
