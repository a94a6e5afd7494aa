/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/where.h"

#include <fcntl.h>

#include "certs/inventory.h"
#include "node/build.h"
#include "node/datadir.h"

/* What cannot be found out about an installed file is not needed: certificates are there without it, too. */
static int look_for_k3s(k3sup_op *op, k3sup_node *node, struct k3sup__sighting *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place installed = K3SUP__PLACE_NONE;
	int r = k3sup__installed_find(op, node, NULL, &installed);

	if (r < 0)
		k3sup__op_forgive(op);
	return k3sup__identify_scan(op, node, &installed, ret);
}

/* A server's rather than an agent's beside it. */
static void take_process(struct k3sup__certs_where *where, const struct k3sup__candidate *candidate)
{
	if (where->running && candidate->role != K3SUP__ROLE_SERVER)
		return;
	k3sup_process_unref(where->process);
	k3sup_process_unref(where->worker);
	where->running = true;
	where->pid = k3sup__process_pid(candidate->process);
	where->process = k3sup_process_ref(candidate->process);
	where->worker = k3sup_process_ref(candidate->worker);
}

/* "" if it cannot be told: then it is taken for a new one. */
static void read_version(k3sup_op *op, k3sup_node *node, struct k3sup__build *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place installed = K3SUP__PLACE_NONE;
	_close_ int fd = -1;
	int r = k3sup__installed_find(op, node, NULL, &installed);

	*ret = (struct k3sup__build){0};
	if (r >= 0)
		r = fd = k3sup__place_open(&installed, O_RDONLY);
	if (r >= 0)
		r = k3sup__build_read_fd(op, fd, installed.path, K3SUP__BUILD_LENIENT, ret);
	if (r < 0)
		k3sup__op_forgive(op);
}

static bool names_environment(const struct k3sup__data_dir *found)
{
	for (size_t i = 0; i < k3sup__json_len(found->sources); i++) {
		const char *source = k3sup__json_text(k3sup__json_element(found->sources, i), "source");

		if (source && k3sup__streq(source, "environment"))
			return true;
	}
	return false;
}

/* The installed file is read only where its age matters: an old k3s does not know K3S_DATA_DIR. */
static int take_data_dir(
	k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, const char *stopped, struct k3sup__certs_where *ret)
{
	struct k3sup__data_dir found;
	struct k3sup__build build;
	int r = k3sup__data_dir_look(op, node, candidate, stopped, NULL, NULL, &found);

	if (r >= 0 && !candidate && names_environment(&found)) {
		k3sup__data_dir_clear(&found);
		read_version(op, node, &build);
		r = k3sup__data_dir_look(op, node, NULL, stopped, NULL, build.version, &found);
	}
	if (r < 0)
		return r;
	ret->data_dir = found.path;
	found.path = NULL;
	ret->source = found.source;
	ret->sources = k3sup__json_ref(found.sources);
	ret->suspicious = found.suspicion != NULL;
	ret->unstartable = found.unstartable;
	found.unstartable = NULL;
	k3sup__data_dir_clear(&found);
	return 0;
}

/* "a unit says /x, the default is /y": whoever has named the wrong one is among them. */
static char *tell_sources(const struct k3sup__certs_where *where)
{
	char *text = NULL;

	for (size_t i = 0; i < k3sup__json_len(where->sources); i++) {
		const k3sup__json *one = k3sup__json_element(where->sources, i);
		const char *source = k3sup__json_text(one, "source"), *path = k3sup__json_text(one, "path"), *from = k3sup__json_text(one, "from");
		char *more = k3sup__fmt("%s%s%s: %s%s%s%s", text ? text : "", text ? "; " : "", source ? source : "?", path ? path : "?",
			from ? " (" : "", from ? from : "", from ? ")" : "");

		free(text);
		text = more;
	}
	return text;
}

static int fail_data_dir(k3sup_op *op, const struct k3sup__certs_where *where, const char *what)
{
	_free_ char *sources = tell_sources(where);

	k3sup__json_set(k3sup__op_evidence(op), "sources", k3sup__json_copy(where->sources));
	return k3sup__fail(op, K3SUP_E_DATA_DIR, "%s; who says where the data-dir is: %s", what, sources ? sources : where->source);
}

static int take_known(struct k3sup__certs_where *where, const struct k3sup__certs_where *known, enum k3sup__role *ret_role)
{
	*ret_role = known->server ? K3SUP__ROLE_SERVER : K3SUP__ROLE_AGENT;
	where->source = known->source;
	where->sources = k3sup__json_ref(known->sources);
	where->data_dir = strdup(known->data_dir);
	return where->data_dir ? 0 : -ENOMEM;
}

/* role: of the running k3s, a server's if there are both */
static int find_data_dir(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *known, const char *stopped,
	struct k3sup__certs_where *ret, enum k3sup__role *ret_role)
{
	struct k3sup__sighting sighting;
	int r = look_for_k3s(op, node, &sighting);

	if (r == K3SUP_E_FOREIGN_PROC) { /* files can be read without */
		k3sup__op_forgive(op);
		ret->unseen = true;
	} else if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < sighting.count; i++)
		take_process(ret, &sighting.candidates[i]);
	r = k3sup__sighting_judge(op, &sighting);
	if (r == K3SUP_E_NO_K3S || (r == K3SUP_E_AMBIGUOUS && node->data_dir != NULL)) {
		k3sup__op_forgive(op);
		r = known ? take_known(ret, known, ret_role) : take_data_dir(op, node, NULL, stopped, ret);
	} else if (r >= 0) {
		for (size_t i = 0; i < sighting.count; i++)
			if (*ret_role != K3SUP__ROLE_SERVER)
				*ret_role = sighting.candidates[i].role;
		r = take_data_dir(op, node, &sighting.candidates[0], NULL, ret);
	}
	k3sup__sighting_clear(&sighting);
	return r;
}

static int has_dir(k3sup_node *node, const char *data_dir, const char *name)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s", data_dir, name);
	int r = path == NULL ? -ENOMEM : k3sup__root_find(NULL, &node->root, path, 0, &place);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	return r < 0 ? r : place.fd >= 0 && S_ISDIR(place.st.st_mode);
}

static int has_file(k3sup_node *node, const char *data_dir, const char *name, const char *suffix)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s%s", data_dir, name, suffix);
	int r = path == NULL ? -ENOMEM : k3sup__root_find(NULL, &node->root, path, K3SUP__NOFOLLOW, &place);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	return r < 0 ? r : place.fd >= 0;
}

/* Copies of authorities, which stay when the leafs are retired, or a leaf. `k3s certificate rotate` makes agent/tls-<seconds> in any directory. */
static int has_an_agents(k3sup_node *node, const char *data_dir)
{
	static const char *const copies[] = {"agent/client-ca.crt", "agent/server-ca.crt"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(copies); i++)
		r = has_file(node, data_dir, copies[i], "");
	for (size_t i = 0; r == 0 && i < k3sup__n_pairs; i++) {
		if ((k3sup__pairs[i].flags & K3SUP__PAIR_AGENT) == 0)
			continue;
		r = has_file(node, data_dir, k3sup__pairs[i].path, ".crt");
		if (r == 0)
			r = has_file(node, data_dir, k3sup__pairs[i].path, ".key");
	}
	return r;
}

/* Where else a server keeps its certificates: a place that something names as the data-dir, or where it is by default. NULL: nowhere; else it is one of ours. */
static const char *find_a_servers(k3sup_node *node, const struct k3sup__certs_where *where)
{
	for (size_t i = 0; i < k3sup__json_len(where->sources); i++) {
		const char *path = k3sup__json_text(k3sup__json_element(where->sources, i), "path");

		if (path != NULL && !k3sup__streq(path, where->data_dir) && has_dir(node, path, "server/tls") == 1)
			return path;
	}
	return has_dir(node, K3SUP__DEFAULT_DATA_DIR, "server/tls") == 1 ? K3SUP__DEFAULT_DATA_DIR : NULL;
}

/* While nothing runs that would tell what this node is. */
static int refuse_if_a_servers(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *where)
{
	const char *other = where->suspicious ? "what starts k3s here starts a server" : find_a_servers(node, where);
	_free_ char *what = NULL;

	if (other == NULL)
		return 0;
	what = k3sup__fmt("%s (from: %s) looks like an agent's, but %s%s: give its own data-dir", where->data_dir, where->source,
		other[0] == '/' ? "there is a server's in " : "", other);
	return what ? fail_data_dir(op, where, what) : -ENOMEM;
}

/* Nothing runs, and no server is in there. */
static int look_for_agent(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *where)
{
	_free_ char *what = NULL;
	int r = refuse_if_a_servers(op, node, where);

	if (r == 0)
		r = has_an_agents(node, where->data_dir);
	if (r != 0)
		return r == 1 ? 0 : r;
	what = k3sup__fmt("no k3s has started in %s (from: %s): its directory agent holds no certificate of an agent's", where->data_dir,
		where->source);
	return what ? fail_data_dir(op, where, what) : -ENOMEM;
}

/* k3s itself takes a data-dir without server/ for an agent's, also where it is the wrong one: then it "rotates" nothing and says that it succeeded. */
static int tell_role(k3sup_op *op, k3sup_node *node, struct k3sup__certs_where *where, enum k3sup__role role)
{
	int server = has_dir(node, where->data_dir, "server"), agent = has_dir(node, where->data_dir, "agent");
	_free_ char *what = NULL;

	if (server < 0 || agent < 0)
		return k3sup__fail(op, server < 0 ? server : agent, "%s cannot be looked into: %s", where->data_dir,
			k3sup_strerror(server < 0 ? server : agent));
	if (server == 0 && agent == 0) {
		what = k3sup__fmt("no k3s has started in %s (from: %s): neither server nor agent is in there", where->data_dir, where->source);
		return what ? fail_data_dir(op, where, what) : -ENOMEM;
	}
	if (server == 0 && role == K3SUP__ROLE_SERVER) {
		what = k3sup__fmt("a server runs, but %s (from: %s) is not a server's: give its own data-dir", where->data_dir, where->source);
		return what ? fail_data_dir(op, where, what) : -ENOMEM;
	}
	/* An agent that was a server once still has that one's directory. */
	where->server = server == 1 && role != K3SUP__ROLE_AGENT;
	return server == 0 && role == K3SUP__ROLE_UNKNOWN ? look_for_agent(op, node, where) : 0;
}

static int find_real(k3sup_node *node, const char *data_dir, char **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &node->root, data_dir, 0, &place);

	*ret = r < 0 ? NULL : strdup(place.path);
	return r < 0 ? r : *ret == NULL ? -ENOMEM : 0;
}

static int find(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *known, const char *stopped, struct k3sup__certs_where *ret)
{
	enum k3sup__role role = K3SUP__ROLE_UNKNOWN;
	int r;

	*ret = (struct k3sup__certs_where){0};
	r = find_data_dir(op, node, known, stopped, ret, &role);
	if (r >= 0)
		r = tell_role(op, node, ret, role);
	if (r >= 0)
		r = find_real(node, ret->data_dir, &ret->real);
	if (r < 0)
		k3sup__certs_where_clear(ret);
	return r;
}

int k3sup__certs_where_find(k3sup_op *op, k3sup_node *node, struct k3sup__certs_where *ret)
{
	return find(op, node, NULL, NULL, ret);
}

int k3sup__certs_where_again(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *known, struct k3sup__certs_where *ret)
{
	return find(op, node, known, NULL, ret);
}

int k3sup__certs_where_stopped(k3sup_op *op, k3sup_node *node, const char *stopped, struct k3sup__certs_where *ret)
{
	return find(op, node, NULL, stopped, ret);
}

void k3sup__certs_where_clear(struct k3sup__certs_where *where)
{
	free(where->data_dir);
	free(where->real);
	free(where->unstartable);
	k3sup__json_unref(where->sources);
	k3sup_process_unref(where->process);
	k3sup_process_unref(where->worker);
	*where = (struct k3sup__certs_where){0};
}

void k3sup__certs_where_report(k3sup_op *op, const struct k3sup__certs_where *where)
{
	k3sup__json *facts = k3sup__op_facts(op), *data_dir = k3sup__json_object();

	k3sup__json_set_str(facts, "role", where->server ? "server" : "agent");
	k3sup__json_set_str(data_dir, "path", where->data_dir);
	k3sup__json_set_str(data_dir, "source", where->source);
	k3sup__json_set_str(data_dir, "real", where->real);
	k3sup__json_set(facts, "data_dir", data_dir);
}
