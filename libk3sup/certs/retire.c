/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_certs_retire(): keep, then take away. The next start of k3s makes new ones (k3s pkg/daemons/control/deps; an agent's come from its server).
 */
#include "certs/retire.h"

#include <time.h>

#include <k3sup/certs.h>

#include "certs/live.h"

#define KEEP 5
#define DAY 86400

struct retire_state {
	struct k3sup__node_state node;
	struct k3sup__retiring what;
};

/* 1 if it had to be made, or something was left of a cut run. */
static int keep(struct k3sup__live *live, int *ret_backups, char **ret_name)
{
	const struct k3sup_node *node = live->node;
	bool made = false;
	int tidied, r;

	r = tidied = k3sup__live_tidy(live);
	if (r >= 0)
		r = k3sup__tls_backups_open(live->op, &node->root, node->state_dir, true, node->trust_flags, ret_backups);
	if (r >= 0)
		r = k3sup__live_keep(live, *ret_backups, ret_name, &made);
	if (r >= 0 && *ret_name != NULL)
		k3sup__json_set_str(k3sup__op_facts(live->op), "kept", *ret_name);
	return r < 0 ? r : made || tidied > 0;
}

static int keep_alone(struct k3sup__live *live, const struct k3sup__retiring *what)
{
	_close_ int backups = -1;
	_free_ char *name = NULL;

	(void)what;
	return keep(live, &backups, &name);
}

/* From the backup on it is only going forward: one more run goes on where this one was cut. */
static int keep_and_remove(struct k3sup__live *live, const struct k3sup__retiring *what)
{
	k3sup__json *facts = k3sup__op_facts(live->op);
	_close_ int backups = -1;
	_free_ char *name = NULL;
	int64_t since = what->keep_days > 0 ? (int64_t)time(NULL) - what->keep_days * (int64_t)DAY : 0;
	int removed = 0, triggered = 0, pruned = 0, kept, r;

	live->removed = k3sup__json_array();
	k3sup__json_set(facts, "retired", live->removed);
	r = kept = keep(live, &backups, &name);
	/* Where all is meant and nothing is there, that is the second retire before a start; the listener's alone has no file to take away. */
	if (r >= 0 && (live->files.count > 0 || live->services != NULL) && k3sup__live_wants(live, "k3s-server"))
		r = triggered = k3sup__live_set_trigger(live, true);
	if (r >= 0)
		r = removed = k3sup__live_remove(live, NULL);
	if (r >= 0)
		r = pruned = k3sup__live_prune(live, backups, what->keep != 0 ? what->keep : KEEP, since, name);
	k3sup__json_set_int(facts, "pruned", pruned > 0 ? pruned : 0);
	return r < 0 ? r : kept > 0 || removed > 0 || triggered > 0 || pruned > 0;
}

static int with_live(k3sup_op *op, k3sup_node *node, const struct k3sup__retiring *what, int (*still)(k3sup_op *op),
	int (*fn)(struct k3sup__live *live, const struct k3sup__retiring *what))
{
	struct k3sup__certs_where where;
	struct k3sup__live live = {.op = op, .node = node, .where = &where, .services = (const char *const *)what->services.items, .still = still};
	int r = k3sup__certs_where_again(op, node, what->known, &where);

	if (r < 0)
		return r;
	k3sup__certs_where_report(op, &where);
	r = k3sup__live_read(&live);
	if (r >= 0)
		r = fn(&live, what);
	k3sup__live_clear(&live);
	k3sup__certs_where_clear(&where);
	return r;
}

int k3sup__retire(k3sup_op *op, k3sup_node *node, const struct k3sup__retiring *what, int (*still)(k3sup_op *op))
{
	return with_live(op, node, what, still, keep_and_remove);
}

int k3sup__retire_keep(k3sup_op *op, k3sup_node *node, const struct k3sup__retiring *what)
{
	return with_live(op, node, what, NULL, keep_alone);
}

int k3sup__retire_sweep(k3sup_op *op, k3sup_node *node)
{
	_close_ int backups = -1;
	int r = k3sup__tls_backups_open(op, &node->root, node->state_dir, false, node->trust_flags, &backups);

	if (r == -ENOENT) {
		k3sup__op_forgive(op);
		return 0;
	}
	return r < 0 ? r : k3sup__tls_backups_sweep(op, backups);
}

static int work(k3sup_op *op)
{
	struct retire_state *s = k3sup__op_state(op);
	int r = k3sup__node_take_turn(op, s->node.node);

	return r < 0 ? r : k3sup__retire(op, s->node.node, &s->what, NULL);
}

static int step(k3sup_op *op)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, work);
}

static void clear(k3sup_op *op)
{
	struct retire_state *s = k3sup__op_state(op);

	k3sup__strv_clear(&s->what.services);
	k3sup__node_give_turn(op, s->node.node);
}

static const struct k3sup__op_class class = {
	.verb = "certs_retire",
	.state_size = sizeof(struct retire_state),
	.step = step,
	.clear = clear,
};

int k3sup_certs_retire(k3sup_node *node, const struct k3sup_certs_retire_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_certs_retire_opts o;
	struct k3sup__strv services = {0};
	struct retire_state *s;
	k3sup_op *op;
	int r = node != NULL && ret_op != NULL ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r >= 0 && o.reserved != NULL)
		r = -EINVAL;
	if (r >= 0)
		r = k3sup__cert_services_take(o.services, &services);
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0) {
		k3sup__strv_clear(&services);
		return r;
	}
	s = k3sup__op_state(op);
	s->what = (struct k3sup__retiring){.services = services, .keep = o.keep, .keep_days = o.keep_days};
	*ret_op = op;
	return 0;
}
