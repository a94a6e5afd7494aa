/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_certs_restore(): the leafs of a backup become the live ones again, while k3s is stopped.
 */
#include <k3sup/certs.h>

#include "certs/live.h"

struct restore_state {
	struct k3sup__node_state node;
	char *backup;
};

static int refuse(k3sup_op *op, const char *name, const char *why, const char *path)
{
	return k3sup__fail(op, K3SUP_E_BACKUP, "the backup %s cannot be put back: %s%s%s", name, path, path[0] != '\0' ? " " : "", why);
}

/* Leafs of authorities that are not in use any more would be renewed at the next start, and break what runs until then. */
static int check_authorities(
	k3sup_op *op, const char *name, const k3sup__json *manifest, const struct k3sup__live *live, const struct k3sup__tls_files *kepts)
{
	const k3sup__json *then = k3sup__json_member(manifest, "authorities");

	for (size_t i = 0; i < k3sup__n_pairs; i++) {
		_free_ char *crt = k3sup__fmt("%s.crt", k3sup__pairs[i].path);
		const char *path = k3sup__ca_paths[k3sup__pairs[i].ca], *a, *b;

		if (crt == NULL)
			return -ENOMEM;
		if (k3sup__tls_files_find(kepts, crt) == NULL)
			continue;
		a = k3sup__json_text(then, path);
		b = k3sup__json_text(live->authorities, path);
		if (a == NULL || b == NULL || !k3sup__streq(a, b))
			return refuse(op, name, "is another authority than when it was made", path);
	}
	return 0;
}

/* Both halves, and they fit; a key without a certificate is fine where its certificate lies elsewhere (a kubelet's on a server), or for old agents. */
static int check_pair(k3sup_op *op, struct k3sup__pki *pki, const char *name, const struct k3sup__tls_file *crt, const struct k3sup__tls_file *key)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	_cleanup_(k3sup__keys_clear) struct k3sup__keys keys = {0};
	const char *why = NULL;
	int r;

	if (crt == NULL)
		return 0;
	if (key == NULL)
		return refuse(op, name, "has lost its key", crt->path);
	r = k3sup__certs_parse(pki, crt->text, crt->len, &certs, &why);
	if (r >= 0)
		r = k3sup__keys_parse(pki, key->text, key->len, &keys, &why);
	if (r == -ENOMEM)
		return r;
	return r < 0 || !k3sup__key_fits(keys.list[0], &certs.list[0]) ? refuse(op, name, "does not fit its key", crt->path) : 0;
}

static int check_pairs(k3sup_op *op, const char *name, const struct k3sup__tls_files *kepts)
{
	_cleanup_(k3sup__pki_freep) struct k3sup__pki *pki = NULL;
	int r = k3sup__pki_new(&pki);

	for (size_t i = 0; r >= 0 && i < k3sup__n_pairs; i++) {
		_free_ char *crt = k3sup__fmt("%s.crt", k3sup__pairs[i].path), *key = k3sup__fmt("%s.key", k3sup__pairs[i].path);

		r = crt == NULL || key == NULL
			? -ENOMEM
			: check_pair(op, pki, name, k3sup__tls_files_find(kepts, crt), k3sup__tls_files_find(kepts, key));
	}
	return r;
}

static bool is_live(const struct k3sup__live *live, const struct k3sup__tls_file *kept)
{
	const struct k3sup__tls_file *now = k3sup__tls_files_find(&live->files, kept->path);

	return now != NULL && k3sup__streq(now->sha256, kept->sha256);
}

/* The pair of each file that is not there as it was: as a whole, since a half that stays would not match what comes. */
static void choose(const struct k3sup__live *live, const struct k3sup__tls_files *kepts, bool *chosen)
{
	for (size_t i = 0; i < kepts->count; i++) {
		size_t stem = strlen(kepts->list[i].path) - strlen(".crt");

		for (size_t k = 0; k < kepts->count; k++)
			if (strncmp(kepts->list[i].path, kepts->list[k].path, stem + 1) == 0 && !is_live(live, &kepts->list[k]))
				chosen[i] = true;
	}
}

/* Live halves of the chosen pairs are taken away, also those that the backup does not have. */
static int remove_chosen(struct k3sup__live *live, const struct k3sup__tls_files *kepts, const bool *chosen)
{
	struct k3sup__tls_files doomed = {.count = 0}; /* borrows the paths */
	int r;

	for (size_t i = 0; i < live->files.count; i++) {
		size_t stem = strlen(live->files.list[i].path) - strlen(".crt");

		for (size_t k = 0; k < kepts->count; k++)
			if (chosen[k] && strncmp(live->files.list[i].path, kepts->list[k].path, stem + 1) == 0) {
				doomed.list[doomed.count++] = (struct k3sup__tls_file){.path = live->files.list[i].path};
				break;
			}
	}
	r = k3sup__live_remove(live, &doomed);
	return r;
}

/* Certificate, then key: each is on disk before the next one is written. */
static int put_chosen(struct k3sup__live *live, const struct k3sup__tls_files *kepts, const bool *chosen, k3sup__json *restored)
{
	int r = 0;

	for (int keys = 0; keys <= 1; keys++)
		for (size_t i = 0; r >= 0 && i < kepts->count; i++) {
			if (!chosen[i] || kepts->list[i].key != (keys == 1))
				continue;
			r = k3sup__live_put(live, &kepts->list[i]);
			if (r >= 0)
				k3sup__json_add(restored, k3sup__json_str(kepts->list[i].path));
		}
	return r;
}

static int put_back(struct k3sup__live *live, int backups, const struct k3sup__tls_files *kepts)
{
	k3sup__json *facts = k3sup__op_facts(live->op), *restored = k3sup__json_array();
	bool chosen[K3SUP__CERT_MOST] = {false}, made = false, any = false;
	_free_ char *kept = NULL;
	int r = k3sup__live_tidy(live), tidied = r, triggered;

	k3sup__json_set(facts, "restored", restored);
	choose(live, kepts, chosen);
	for (size_t i = 0; i < kepts->count; i++)
		any |= chosen[i];
	if (r >= 0 && any)
		r = k3sup__live_keep(live, backups, &kept, &made); /* what is live now can be wanted again, too */
	if (r >= 0 && kept != NULL)
		k3sup__json_set_str(facts, "kept", kept);
	if (r >= 0 && any)
		r = remove_chosen(live, kepts, chosen);
	if (r >= 0)
		r = put_chosen(live, kepts, chosen, restored);
	triggered = r < 0 ? r : k3sup__live_set_trigger(live, false);
	r = triggered < 0 ? triggered : k3sup__tls_backups_prune(live->op, backups, SIZE_MAX, 0, NULL); /* only what cut runs have left */
	return r < 0 ? r : any || triggered > 0 || tidied > 0;
}

static int restore_from(struct k3sup__live *live, int backups, const char *name)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	struct k3sup__tls_files kepts = {.count = 0};
	int r = k3sup__tls_backup_read(live->op, backups, name, &kepts, &manifest);

	k3sup__json_set_str(k3sup__op_facts(live->op), "from", name);
	if (r >= 0)
		r = check_authorities(live->op, name, manifest, live, &kepts);
	if (r >= 0)
		r = check_pairs(live->op, name, &kepts);
	if (r >= 0)
		r = put_back(live, backups, &kepts);
	k3sup__tls_files_clear(&kepts);
	return r;
}

static int restore(k3sup_op *op, k3sup_node *node, const char *wanted)
{
	struct k3sup__certs_where where;
	struct k3sup__live live = {.op = op, .node = node, .where = &where};
	_close_ int backups = -1;
	int r = k3sup__certs_where_find(op, node, &where);

	if (r < 0)
		return r;
	k3sup__certs_where_report(op, &where);
	r = k3sup__live_read(&live);
	if (r >= 0)
		r = k3sup__tls_backups_open(op, &node->root, node->state_dir, true, node->trust_flags, &backups);
	if (r >= 0)
		r = restore_from(&live, backups, wanted);
	k3sup__live_clear(&live);
	k3sup__certs_where_clear(&where);
	return r;
}

static int work(k3sup_op *op)
{
	struct restore_state *s = k3sup__op_state(op);
	int r = k3sup__node_take_turn(op, s->node.node);

	return r < 0 ? r : restore(op, s->node.node, s->backup);
}

static int step(k3sup_op *op)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, work);
}

static void clear(k3sup_op *op)
{
	struct restore_state *s = k3sup__op_state(op);

	free(s->backup);
	k3sup__node_give_turn(op, s->node.node);
}

static const struct k3sup__op_class class = {
	.verb = "certs_restore",
	.state_size = sizeof(struct restore_state),
	.step = step,
	.clear = clear,
};

int k3sup_certs_restore(k3sup_node *node, const struct k3sup_certs_restore_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_certs_restore_opts o;
	_free_ char *backup = NULL;
	struct restore_state *s;
	k3sup_op *op;
	int r = node != NULL && opts != NULL && ret_op != NULL ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r >= 0 && (o.reserved != NULL || o.backup == NULL || o.backup[0] == '\0' || strchr(o.backup, '/') != NULL))
		r = -EINVAL;
	if (r >= 0 && (backup = strdup(o.backup)) == NULL)
		r = -ENOMEM;
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	s->backup = backup;
	backup = NULL;
	*ret_op = op;
	return 0;
}
