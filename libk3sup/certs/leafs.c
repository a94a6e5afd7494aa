/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/leafs.h"

#include <time.h>

#include "certs/audit.h"
#include "certs/live.h"

#define BLOCK 4096u
#define ROW 512u
#define BACKUP_INODES 16u /* its directories, the manifest, and a journal that is written anew */

bool k3sup__leaf_is_key(const char *path)
{
	return k3sup__endswith(path, ".key");
}

/* The pair of a file; NULL if it is of none (the listener's). */
static const struct k3sup__pair *pair_of(const char *path)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++) {
		size_t len = strlen(k3sup__pairs[i].path);

		if (strncmp(path, k3sup__pairs[i].path, len) == 0 && (k3sup__streq(path + len, ".crt") || k3sup__streq(path + len, ".key")))
			return &k3sup__pairs[i];
	}
	return NULL;
}

bool k3sup__leaf_always_comes_back(const char *path)
{
	const struct k3sup__pair *pair = pair_of(path);

	return pair == NULL || (pair->flags & K3SUP__PAIR_NOT_ALL_ERAS) == 0;
}

/* "dynamic-cert.json", and the trigger that a start has not followed. */
bool k3sup__leaf_is_listener(const char *path)
{
	return k3sup__startswith(path, "server/tls/dynamic-cert");
}

static void take_certificates(const struct k3sup__audit *audit, struct k3sup__leafs *ret)
{
	for (size_t i = 0; i < k3sup__json_len(audit->certificates); i++) {
		const k3sup__json *row = k3sup__json_element(audit->certificates, i);
		const char *path = k3sup__json_text(row, "path");
		int64_t ends = audit->now + k3sup__json_number(row, "residual_seconds", 0);

		/* A file's first certificate is the leaf; authorities come behind it. */
		if (path == NULL || k3sup__json_number(row, "position", 0) != 0 || (pair_of(path) == NULL && !k3sup__leaf_is_listener(path)))
			continue;
		k3sup__json_set_str(ret->prints, path, k3sup__json_text(row, "sha256"));
		if (ends < ret->ends)
			ret->ends = ends;
	}
}

static void take_problems(const struct k3sup__audit *audit, struct k3sup__leafs *ret)
{
	for (size_t i = 0; i < k3sup__json_len(audit->problems); i++) {
		k3sup__json *problem = k3sup__json_element(audit->problems, i);
		const char *path = k3sup__json_text(problem, "path"), *remedy = k3sup__json_text(problem, "remedy");

		if (path != NULL && remedy != NULL && !k3sup__streq(remedy, "note") && (pair_of(path) != NULL || k3sup__leaf_is_listener(path)))
			k3sup__json_add(ret->problems, k3sup__json_ref(problem));
	}
}

static int audit_leafs(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *where, const char *const *services, struct k3sup__leafs *ret)
{
	/* No window: whoever has k3s make certificates for a few days has them renewed by each start. */
	_cleanup_(k3sup__audit_close) struct k3sup__audit audit = {
		.op = op,
		.root = &node->root,
		.data_dir = where->data_dir,
		.server = where->server,
		.services = services,
		.now = (int64_t)time(NULL),
	};
	int r = k3sup__audit_open(&audit);

	if (r >= 0)
		r = k3sup__audit_authorities(&audit);
	if (r >= 0)
		r = k3sup__audit_pairs(&audit);
	if (r >= 0)
		r = k3sup__audit_listener(&audit);
	if (r < 0)
		return r;
	take_certificates(&audit, ret);
	take_problems(&audit, ret);
	return 0;
}

/* Each file takes whole blocks, and a row of the manifest. */
static void take_backup(const struct k3sup__tls_files *files, struct k3sup__leafs *ret)
{
	if (files->count == 0)
		return;
	ret->inodes = files->count + BACKUP_INODES;
	ret->bytes = BACKUP_INODES * BLOCK + files->count * ROW;
	for (size_t i = 0; i < files->count; i++)
		ret->bytes += (files->list[i].len + BLOCK - 1) / BLOCK * BLOCK;
}

int k3sup__leafs_look(k3sup_op *op, k3sup_node *node, const struct k3sup__certs_where *where, const char *const *services, struct k3sup__leafs *ret)
{
	struct k3sup__live live = {.op = op, .node = node, .where = where, .services = services};
	int r = k3sup__live_look(&live);

	*ret = (struct k3sup__leafs){.prints = k3sup__json_object(), .problems = k3sup__json_array(), .ends = INT64_MAX};
	for (size_t i = 0; r >= 0 && i < live.files.count; i++)
		if (live.files.list[i].key)
			k3sup__json_set_str(ret->prints, live.files.list[i].path, live.files.list[i].sha256);
	take_backup(&live.files, ret);
	k3sup__live_clear(&live);
	if (r >= 0)
		r = audit_leafs(op, node, where, services, ret);
	if (r >= 0 && (k3sup__json_broken(ret->prints) || k3sup__json_broken(ret->problems)))
		r = -ENOMEM;
	if (r < 0)
		k3sup__leafs_clear(ret);
	return r;
}

void k3sup__leafs_clear(struct k3sup__leafs *leafs)
{
	k3sup__json_unref(leafs->prints);
	k3sup__json_unref(leafs->problems);
	*leafs = (struct k3sup__leafs){.ends = INT64_MAX};
}
