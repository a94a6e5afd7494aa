/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb k3sup_swap_backups().
 */
#include <fcntl.h>

#include "node/identify.h"
#include "swap/backup.h"

struct backups_state {
	struct k3sup__node_state node;
	int64_t lock_deadline;
	uint32_t keep;
};

/* A file that cannot be read, or is not what its name says, is listed all the same. */
static k3sup__json *describe(k3sup_op *op, k3sup_node *node, const struct k3sup__backups *b, const struct k3sup__backup *backup)
{
	struct k3sup__build build = {.size = (uint64_t)backup->st.st_size};
	k3sup__json *one, *record = NULL;
	_close_ int fd = k3sup__backup_open(op, node, b, backup);
	int64_t at = -1;

	if (fd < 0 || k3sup__build_read_fd(op, fd, backup->path, K3SUP__BUILD_LENIENT | K3SUP__BUILD_SHA256, &build) < 0)
		k3sup__op_forgive(op);
	one = k3sup__build_json(&build);
	if (build.sha256[0])
		record = k3sup__kept_find(b->records, NULL, NULL, build.sha256, NULL);
	k3sup__json_set_str(one, "path", backup->path);
	k3sup__json_set(one, "mode", k3sup__json_fmt("%04o", (unsigned)backup->st.st_mode & 07777u));
	k3sup__json_set_bool(one, "verified", record != NULL);
	k3sup__json_set_bool(one, "ours", backup->ours);
	if (record)
		at = k3sup__json_number(record, "at", -1);
	if (at >= 0)
		k3sup__json_set_int(one, "at", at);
	return one;
}

static int list(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target)
{
	k3sup__json *facts = k3sup__op_facts(op), *all = k3sup__json_array(), *installed = k3sup__json_object();
	struct k3sup__backups b = {.layout = K3SUP__LAYOUT_NONE};
	int r = k3sup__backups_find(op, node, target, &b);

	for (size_t i = 0; r >= 0 && i < b.count; i++) {
		k3sup__json_add(all, describe(op, node, &b, &b.all[i]));
		r = k3sup__op_checkpoint(op);
	}
	if (r >= 0) {
		k3sup__json_set_str(installed, "path", target->path);
		k3sup__json_set_str(installed, "target", k3sup__layout_front(&b.layout)->path);
		k3sup__json_set(facts, "leftovers", k3sup__json_ref(b.litter));
	}
	k3sup__json_set(facts, "installed", installed);
	k3sup__json_set(facts, "backups", all);
	k3sup__backups_clear(&b);
	return r;
}

static int work(k3sup_op *op)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place target = K3SUP__PLACE_NONE;
	struct backups_state *s = k3sup__op_state(op);
	k3sup_node *node = s->node.node;
	int removed = 0, r = s->keep ? k3sup__node_take_turn(op, node) : 0;

	if (r >= 0)
		r = k3sup__installed_find(op, node, NULL, &target);
	if (r >= 0 && s->keep)
		r = removed = k3sup__backups_prune(op, node, &target, s->keep);
	if (r >= 0)
		r = list(op, node, &target);
	return r < 0 ? r : removed > 0;
}

static int step(k3sup_op *op)
{
	const struct backups_state *s = k3sup__op_state(op);

	return k3sup__node_turn_step(op, s->lock_deadline, NULL, 0, work);
}

static void clear(k3sup_op *op)
{
	struct backups_state *s = k3sup__op_state(op);

	k3sup__node_give_turn(op, s->node.node);
}

static const struct k3sup__op_class class = {
	.verb = "swap_backups",
	.state_size = sizeof(struct backups_state),
	.step = step,
	.clear = clear,
};

int k3sup_swap_backups(k3sup_node *node, const struct k3sup_swap_backups_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_swap_backups_opts o;
	struct backups_state *s;
	k3sup_op *op;
	int r = node && ret_op ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r >= 0 && o.reserved)
		r = -EINVAL;
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	s->keep = o.keep;
	s->lock_deadline = k3sup__deadline(o.wait_lock_ms);
	*ret_op = op;
	return 0;
}
