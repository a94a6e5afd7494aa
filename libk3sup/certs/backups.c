/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_certs_backups(): ours, and k3s's own.
 */
#include <k3sup/certs.h>

#include "base/strv.h"
#include "certs/backup.h"
#include "certs/foreign.h"

struct backups_state {
	struct k3sup__node_state node;
};

/* Said and not failed with: the others can be well. */
static k3sup__json *describe(k3sup_op *op, int backups, const char *name)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	k3sup__json *one = k3sup__json_object();
	struct k3sup__tls_files kepts = {.count = 0};
	int r = k3sup__tls_backup_read(op, backups, name, &kepts, &manifest);

	k3sup__json_set_str(one, "name", name);
	k3sup__json_set_str(one, "kind", "k3sup");
	k3sup__json_set_bool(one, "whole", r >= 0);
	if (r < 0)
		k3sup__op_forgive(op);
	if (r >= 0) {
		k3sup__json *paths = k3sup__json_array();

		k3sup__json_set_str(one, "made", k3sup__json_text(manifest, "made"));
		for (size_t i = 0; i < kepts.count; i++)
			k3sup__json_add(paths, k3sup__json_str(kepts.list[i].path));
		k3sup__json_set(one, "files", paths);
	}
	k3sup__tls_files_clear(&kepts);
	return one;
}

static int list_own(k3sup_op *op, k3sup_node *node, k3sup__json *list)
{
	struct k3sup__strv names = {0};
	_close_ int backups = -1;
	int r = k3sup__tls_backups_open(op, &node->root, node->state_dir, false, node->trust_flags, &backups);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = k3sup__tls_backups_list(op, backups, &names);
	for (size_t i = 0; r >= 0 && i < names.count; i++)
		k3sup__json_add(list, describe(op, backups, names.items[i]));
	k3sup__strv_clear(&names);
	return r;
}

static int work(k3sup_op *op)
{
	k3sup_node *node = k3sup__op_node(op);
	k3sup__json *list = k3sup__json_array();
	struct k3sup__certs_where where;
	int r = k3sup__certs_where_find(op, node, &where);

	k3sup__json_set(k3sup__op_facts(op), "backups", list);
	if (r < 0)
		return r;
	k3sup__certs_where_report(op, &where);
	r = list_own(op, node, list);
	if (r >= 0)
		r = k3sup__foreign_list(op, node, &where, list);
	k3sup__certs_where_clear(&where);
	return r;
}

static int step(k3sup_op *op)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, work);
}

static const struct k3sup__op_class class = {
	.verb = "certs_backups",
	.state_size = sizeof(struct backups_state),
	.step = step,
};

int k3sup_certs_backups(k3sup_node *node, const struct k3sup_certs_backups_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_certs_backups_opts o;
	int r = node != NULL && ret_op != NULL ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	return r < 0 ? r : k3sup__node_op_new(node, &class, K3SUP__NEVER, ret_op);
}
