/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_certs_backups(): ours, and k3s's own (<data-dir>/server/tls-<unix seconds>, agent/tls-...), with what can be had back from them.
 */
#include <dirent.h>
#include <fcntl.h>

#include <k3sup/certs.h>

#include "base/strv.h"
#include "certs/backup.h"
#include "certs/where.h"

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

/*
 * k3s copies an agent's files flat over the server's of the same name (pkg/cli/cert): which of both such a file is cannot be told, and since 2025 they differ. The rest of
 * a server's can be had back by hand; an agent's come from its server anyway.
 */
static void describe_foreign(k3sup__json *list, const char *dir, const char *name, bool server)
{
	static const char *const mixed[] = {"client-kube-proxy.crt", "client-kube-proxy.key", "client-k3s-controller.crt",
		"client-k3s-controller.key", "client-kubelet.key", "serving-kubelet.key"};
	k3sup__json *one = k3sup__json_object(), *lost = k3sup__json_array();

	k3sup__json_set(one, "name", k3sup__json_fmt("%s/%s", dir, name));
	k3sup__json_set_str(one, "kind", "k3s");
	k3sup__json_set_bool(one, "whole", false);
	k3sup__json_set_str(one, "text",
		server ? "made by k3s; the files in `lost` may be an agent's or the server's, the others can be copied back pair by pair"
		       : "made by k3s; an agent gets its certificates from its server");
	for (size_t i = 0; server && i < ELEMENTSOF(mixed); i++)
		k3sup__json_add(lost, k3sup__json_str(mixed[i]));
	k3sup__json_set(one, "lost", lost);
	k3sup__json_add(list, one);
}

static bool is_foreign(const char *name)
{
	return k3sup__startswith(name, "tls-") && name[4] != '\0' && strspn(name + 4, "0123456789") == strlen(name + 4);
}

static int list_foreign(k3sup_op *op, k3sup_node *node, const char *data_dir, const char *dir, k3sup__json *list)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s", data_dir, dir);
	struct k3sup__strv names = {0};
	struct dirent *entry;
	DIR *opened;
	int fd, r = path == NULL ? -ENOMEM : k3sup__root_find(op, &node->root, path, 0, &place);

	if (r < 0 || place.fd < 0)
		return r == -ENOENT ? 0 : r;
	fd = k3sup__place_open(&place, O_RDONLY | O_DIRECTORY);
	opened = fd >= 0 ? fdopendir(fd) : NULL;
	if (opened == NULL)
		return k3sup__fail(op, fd < 0 ? fd : -errno, "%s cannot be listed", path);
	while (r >= 0 && (entry = readdir(opened)) != NULL)
		if (is_foreign(entry->d_name))
			r = k3sup__strv_add_copy(&names, entry->d_name, strlen(entry->d_name));
	(void)closedir(opened);
	k3sup__strv_sort(&names);
	for (size_t i = 0; i < names.count; i++)
		describe_foreign(list, dir, names.items[i], k3sup__streq(dir, "server"));
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
		r = list_foreign(op, node, where.data_dir, "server", list);
	if (r >= 0)
		r = list_foreign(op, node, where.data_dir, "agent", list);
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
