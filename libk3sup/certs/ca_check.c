/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_certs_ca_check(): what a server does with the directory of `k3s certificate rotate-ca --path` (k3s pkg/server/handlers/cert.go), without a server: missing and empty
 * files are taken from those in use; what is given is validated against them, also if it is the same.
 */
#include <time.h>
#include <unistd.h>

#include <k3sup/certs.h>

#include "certs/audit.h"

#define SERVICE_KEY "tls/service.key"
#define DEEPEST 8 /* certificates from the first one to a root */

struct ca_check_state {
	char *dir, *server_dir;
};

/* Both sides of one comparison. */
struct sides {
	struct k3sup__audit old, new;
	bool given; /* something that rotate-ca reads is in the prepared directory */
};

static const char *below_server(enum k3sup__ca ca)
{
	return k3sup__ca_paths[ca] + strlen("server/");
}

static bool is_root(const struct k3sup__cert *cert)
{
	const char *aki = k3sup__json_text(cert->facts, "aki"), *ski = k3sup__json_text(cert->facts, "ski");

	return aki == NULL || (ski != NULL && k3sup__streq(aki, ski));
}

static bool may_issue(const struct k3sup__audit *audit, const struct k3sup__cert *cert)
{
	return cert->ca && audit->now >= cert->not_before && audit->now <= cert->not_after;
}

/* Is there a way from cert to a root of the bundle in use? Intermediates come from both bundles, as Go's Verify takes them. */
static bool leads_to_root(const struct sides *sides, const struct k3sup__certs *old, const struct k3sup__certs *new,
	const struct k3sup__cert *cert, unsigned depth)
{
	for (size_t i = 0; i < old->count; i++) {
		const struct k3sup__cert *root = &old->list[i];

		if (is_root(root) &&
			(k3sup__streq(root->sha256, cert->sha256) || (may_issue(&sides->new, root) && k3sup__cert_signed_by(cert, root))))
			return true;
	}
	for (size_t i = 0; depth < DEEPEST && i < old->count + new->count; i++) {
		const struct k3sup__cert *via = i < old->count ? &old->list[i] : &new->list[i - old->count];
		bool own_root = i < old->count ? is_root(via) : i == old->count || k3sup__json_text(via->facts, "aki") == NULL;

		if (!own_root && via != cert && may_issue(&sides->new, via) && k3sup__cert_signed_by(cert, via) &&
			leads_to_root(sides, old, new, via, depth + 1))
			return true;
	}
	return false;
}

static void look_at_bundle(struct sides *sides, const char *path, const struct k3sup__certs *old, const struct k3sup__certs *new)
{
	struct k3sup__audit *audit = &sides->new;

	k3sup__audit_rows(audit, "ca", NULL, path, new);
	/* A server verifies the first one, and those on its way to a root; it does not mind when one ends. */
	for (size_t i = 0; i < new->count; i++) {
		k3sup__audit_dates(audit, path, &new->list[i], 0, i == 0 ? K3SUP__ACT : K3SUP__NOTE);
		if (k3sup__audit_lasts(audit, &new->list[i], 0))
			k3sup__audit_dates(audit, path, &new->list[i], K3SUP__CA_WINDOW, K3SUP__NOTE);
	}
	if (new->count == 1)
		k3sup__audit_problem(audit, K3SUP__ACT, path, "bundle", "it holds one certificate only; those that lead to a root have to follow it");
	if (!new->list[0].ca)
		k3sup__audit_problem(audit, K3SUP__ACT, path, "usage", "its first certificate may not sign others");
	if (old->count > 0 && !leads_to_root(sides, old, new, &new->list[0], 0))
		k3sup__audit_problem(audit, K3SUP__ACT, path,
			"chain", "its first certificate does not lead to a root that the nodes trust now: cross-sign it, or every node has to join again");
}

/* 1: dir has it, with something in it; 0: the present one would be taken; -ENOMEM, K3SUP_E_CANCELLED, K3SUP_E_PARSE */
static int is_given(struct sides *sides, const char *path)
{
	_cleanup_(k3sup__cert_file_clear) struct k3sup__cert_file file = {0};
	int r = k3sup__audit_read(&sides->new, path, &file);

	if (r == 1 && file.len == 0)
		r = 0;
	sides->given |= r != 0;
	return r;
}

/* The key in use where the prepared directory has none. */
static int look_at_key(struct sides *sides, const char *path, bool given, const struct k3sup__certs *certs)
{
	_cleanup_(k3sup__keys_clear) struct k3sup__keys keys = {0};
	struct k3sup__audit *from = given ? &sides->new : &sides->old;
	int r = k3sup__audit_keys(from, path, K3SUP__ACT, &keys);

	if (r == 1 && !k3sup__key_fits(keys.list[0], &certs->list[0]))
		k3sup__audit_problem(&sides->new, K3SUP__ACT, path, "key-mismatch",
			given ? "its first key is not that of the first certificate"
			      : "it is not there, and the present key is not that of the new certificate");
	return r < 0 && r != K3SUP_E_PARSE ? r : 0;
}

static int look_at_ca(struct sides *sides, enum k3sup__ca ca)
{
	_free_ char *crt = k3sup__fmt("%s.crt", below_server(ca)), *key = k3sup__fmt("%s.key", below_server(ca));
	struct k3sup__certs *old = &sides->old.cas[ca], *new = &sides->new.cas[ca];
	int given, key_given, r;

	if (crt == NULL || key == NULL)
		return -ENOMEM;
	given = is_given(sides, crt);
	key_given = given >= 0 || given == K3SUP_E_PARSE ? is_given(sides, key) : given;
	if (given < 0 || key_given < 0)
		return given == K3SUP_E_PARSE || key_given == K3SUP_E_PARSE ? 0 : given < 0 ? given : key_given;
	if (given == 0 && key_given == 0)
		return 0;
	r = k3sup__audit_certs(&sides->old, crt, K3SUP__ACT, old);
	if (r < 0 && r != K3SUP_E_PARSE)
		return r;
	if (given == 1) {
		r = k3sup__audit_certs(&sides->new, crt, K3SUP__ACT, new);
		if (r != 1)
			return r == K3SUP_E_PARSE ? 0 : r;
		look_at_bundle(sides, crt, old, new);
	}
	if (given == 0 && old->count == 0)
		return 0;
	return look_at_key(sides, key, key_given == 1, given == 1 ? new : old);
}

/* Tokens that were signed with the present key have to stay valid. */
static int look_at_service_key(struct sides *sides)
{
	_cleanup_(k3sup__keys_clear) struct k3sup__keys old = {0}, new = {0};
	int r = is_given(sides, SERVICE_KEY);

	if (r <= 0)
		return r == K3SUP_E_PARSE ? 0 : r;
	r = k3sup__audit_keys(&sides->new, SERVICE_KEY, K3SUP__ACT, &new);
	if (r == 1)
		r = k3sup__audit_keys(&sides->old, SERVICE_KEY, K3SUP__ACT, &old);
	if (r < 0 || old.count == 0 || new.count == 0)
		return r == K3SUP_E_PARSE ? 0 : r;
	for (size_t i = 0; i < new.count; i++)
		if (k3sup__keys_equal(old.list[0], new.list[i]))
			return 0;
	k3sup__audit_problem(&sides->new, K3SUP__ACT, SERVICE_KEY, "service-key",
		"it does not hold the present signing key: every token in the cluster would be void");
	return 0;
}

/* ---- the two directories ---- */

static int absolute(const char *path, char **ret)
{
	_free_ char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);

	if (path[0] != '/' && cwd == NULL)
		return -errno;
	*ret = path[0] == '/' ? strdup(path) : k3sup__fmt("%s/%s", cwd, path);
	return *ret == NULL ? -ENOMEM : 0;
}

static int find_tls(k3sup_op *op, const struct k3sup__root *root, const char *dir, struct k3sup__place *ret)
{
	_free_ char *path = k3sup__fmt("%s/tls", dir);
	int r = path == NULL ? -ENOMEM : k3sup__root_find(op, root, path, 0, ret);

	if (r == -ENOMEM)
		return r;
	if (r < 0 || ret->fd < 0 || !S_ISDIR(ret->st.st_mode))
		return k3sup__fail(op, K3SUP_E_DATA_DIR, "there is no directory tls in %s", dir);
	return 0;
}

static int find_both(k3sup_op *op, const struct k3sup__root *root, const char *dir, const char *server_dir)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place new = K3SUP__PLACE_NONE, old = K3SUP__PLACE_NONE;
	int r = find_tls(op, root, dir, &new);

	if (r >= 0)
		r = find_tls(op, root, server_dir, &old);
	if (r >= 0 && old.st.st_dev == new.st.st_dev && old.st.st_ino == new.st.st_ino)
		r = k3sup__fail(op, K3SUP_E_DATA_DIR, "%s is the live directory: prepare the new authorities in another one", dir);
	return r;
}

static int compare(struct sides *sides)
{
	int r = k3sup__audit_open(&sides->old);

	if (r >= 0)
		r = k3sup__audit_open(&sides->new);
	for (enum k3sup__ca ca = 0; r >= 0 && ca < K3SUP__N_CAS; ca++)
		r = look_at_ca(sides, ca);
	if (r >= 0)
		r = look_at_service_key(sides);
	/* A server takes that, too, and changes nothing: whoever has prepared something has put it elsewhere. */
	if (r >= 0 && !sides->given)
		k3sup__audit_problem(&sides->new, K3SUP__NOTE, "tls",
			"missing", "none of the files that rotate-ca reads is in it (client-ca, server-ca, request-header-ca, etcd/server-ca, etcd/peer-ca as .crt and .key; service.key)");
	return r;
}

/* What is wrong with the files in use stands in the way, too, under their whole path. */
static void report(k3sup_op *op, const struct sides *sides)
{
	k3sup__json *facts = k3sup__op_facts(op), *problems = k3sup__json_copy(sides->new.problems);

	for (size_t i = 0; i < k3sup__json_len(sides->old.problems); i++) {
		k3sup__json *problem = k3sup__json_copy(k3sup__json_element(sides->old.problems, i));

		k3sup__json_set(problem, "path", k3sup__json_fmt("%s/%s", sides->old.data_dir, k3sup__json_text(problem, "path")));
		k3sup__json_add(problems, problem);
	}
	k3sup__json_set_bool(facts, "takes", !sides->new.needs_action && !sides->old.needs_action);
	k3sup__json_set(facts, "problems", problems);
	k3sup__json_set(facts, "certificates", k3sup__json_ref(sides->new.certificates));
}

static int work(k3sup_op *op)
{
	struct ca_check_state *s = k3sup__op_state(op);
	_cleanup_(k3sup__root_close) struct k3sup__root root = {.fd = -1};
	_free_ char *dir = NULL, *server_dir = NULL;
	struct sides sides = {.given = false};
	int r = absolute(s->dir, &dir);

	if (r >= 0)
		r = absolute(s->server_dir, &server_dir);
	if (r >= 0)
		r = k3sup__root_open(op, "/", &root);
	if (r >= 0)
		r = find_both(op, &root, dir, server_dir);
	if (r < 0)
		return r;
	sides.new = (struct k3sup__audit){
		.op = op, .root = &root, .data_dir = dir, .prepared = true, .now = (int64_t)time(NULL), .window = K3SUP__CA_WINDOW};
	sides.old = sides.new;
	sides.old.data_dir = server_dir;
	r = compare(&sides);
	if (r >= 0)
		report(op, &sides);
	k3sup__audit_close(&sides.old);
	k3sup__audit_close(&sides.new);
	return r;
}

static int step(k3sup_op *op)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, work);
}

static void clear(k3sup_op *op)
{
	struct ca_check_state *s = k3sup__op_state(op);

	free(s->dir);
	free(s->server_dir);
}

static const struct k3sup__op_class class = {
	.verb = "certs_ca_check",
	.state_size = sizeof(struct ca_check_state),
	.step = step,
	.clear = clear,
};

int k3sup_certs_ca_check(k3sup_ctx *ctx, const struct k3sup_certs_ca_check_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_certs_ca_check_opts o;
	_free_ char *dir = NULL, *server_dir = NULL;
	struct ca_check_state *s;
	k3sup_op *op;
	int r = ctx != NULL && opts != NULL && ret_op != NULL ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r >= 0 && (o.dir == NULL || o.server_dir == NULL))
		r = -EINVAL;
	if (r < 0)
		return r;
	dir = strdup(o.dir);
	server_dir = strdup(o.server_dir);
	if (dir == NULL || server_dir == NULL)
		return -ENOMEM;
	r = k3sup__op_new(ctx, &class, K3SUP__NEVER, &op);
	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	*s = (struct ca_check_state){.dir = dir, .server_dir = server_dir};
	dir = server_dir = NULL;
	*ret_op = op;
	return 0;
}
