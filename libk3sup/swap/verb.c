/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/preflight.h"

#include "node/identify.h"

#include <fcntl.h>

#include <k3sup/ctx.h>

#define ALLOW_ALL (K3SUP_SWAP_ALLOW_DOWNGRADE | K3SUP_SWAP_ALLOW_SKIP_MINOR | K3SUP_SWAP_ALLOW_PACKAGE_OWNED)

struct swap_state {
	struct k3sup__node_state node;
	struct k3sup__source source;
	int64_t lock_deadline;
	uint32_t allow, keep;
};

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 4}, {"stage", 50}, {"verify", 40}, {"swap", 5}};

static void report(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__place *target, const struct k3sup__swapped *swapped)
{
	k3sup__json *installed = k3sup__build_json(&payload->build);

	if (swapped->renamed)
		k3sup__json_set_str(installed, "sha256", swapped->sha256);
	if (swapped->asset_check)
		k3sup__json_set_str(installed, "asset_check", swapped->asset_check);
	k3sup__json_set_str(installed, "path", swapped->path ? swapped->path : target->path);
	k3sup__json_set(k3sup__op_facts(op), "installed", installed);
	k3sup__proof_report(op, payload->proof);
	k3sup__swapped_report(op, payload, swapped);
}

/* May it be replaced? The installed file is read for its build only now: where it is the payload already, nothing is asked. */
static int replace(k3sup_op *op, k3sup_node *node, struct k3sup__plan *todo, struct k3sup__swapped *swapped)
{
	struct k3sup__build installed;
	_free_ char *data_dir = NULL;
	_close_ int fd = k3sup__place_open(todo->target, O_RDONLY);
	const char *source;
	int r = fd < 0 ? fd : k3sup__build_read_fd(op, fd, todo->target->path, K3SUP__BUILD_LENIENT, &installed);

	if (r < 0) {
		k3sup__op_forgive(op);
		return k3sup__fail(op, r == -ENOMEM ? r : K3SUP_E_TARGET_CHANGED, "somebody changes %s just now", todo->target->path);
	}
	r = k3sup__data_dir_find(op, node, NULL, &data_dir, &source);
	if (r < 0)
		return r;
	todo->installed = &installed;
	todo->data_dir = data_dir;
	r = k3sup__admit(op, node, todo);
	if (r >= 0)
		r = k3sup__swap_run(op, node, todo, swapped);
	todo->installed = NULL;
	todo->data_dir = NULL;
	return r;
}

static int swap_to(k3sup_op *op, k3sup_node *node, struct k3sup__plan *todo)
{
	struct k3sup__swapped swapped = {0};
	char sha256[K3SUP__SHA256_HEX];
	int r = k3sup__swap_is_same(op, todo->payload, todo->target, sha256);
	bool same = r > 0;

	if (same)
		r = k3sup__payload_prove(op, todo->payload, sha256);
	if (same && r >= 0)
		r = k3sup__swap_leftovers(op, node, todo->target, true);
	else if (!same && r >= 0)
		r = replace(op, node, todo, &swapped);
	if (r >= 0) {
		int settled = k3sup__settle(op, node, todo, swapped.renamed ? swapped.path : todo->target->path);

		r = settled < 0 ? settled : r;
	}
	if (r >= 0 || swapped.renamed)
		report(op, todo->payload, todo->target, &swapped);
	k3sup__swapped_clear(&swapped);
	return r < 0 ? r : r > 0 || swapped.renamed;
}

static int work(k3sup_op *op)
{
	struct swap_state *s = k3sup__op_state(op);
	k3sup_node *node = s->node.node;
	struct k3sup__payload payload = K3SUP__PAYLOAD_NONE;
	struct k3sup__place target = K3SUP__PLACE_NONE;
	struct k3sup__plan todo = {.payload = &payload, .target = &target, .allow = s->allow, .keep = s->keep};
	int r = k3sup__node_take_turn(op, node);

	if (r < 0)
		return r;
	k3sup__op_begin(op, "identify", "looking at payload and target");
	r = k3sup__payload_load(op, node, &s->source, &payload);
	if (r >= 0)
		r = k3sup__installed_find(op, node, NULL, &target);
	if (r >= 0)
		r = swap_to(op, node, &todo);
	k3sup__place_clear(&target);
	k3sup__payload_clear(&payload);
	return r;
}

static int step(k3sup_op *op)
{
	const struct swap_state *s = k3sup__op_state(op);

	return k3sup__node_turn_step(op, s->lock_deadline, plan, ELEMENTSOF(plan), work);
}

static void clear(k3sup_op *op)
{
	struct swap_state *s = k3sup__op_state(op);

	k3sup__node_give_turn(op, s->node.node);
	k3sup__source_clear(&s->source);
}

static const struct k3sup__op_class class = {
	.verb = "swap",
	.state_size = sizeof(struct swap_state),
	.step = step,
	.clear = clear,
};

static const struct k3sup__op_class rollback_class = {
	.verb = "swap_rollback",
	.state_size = sizeof(struct swap_state),
	.step = step,
	.clear = clear,
};

/* Consumes the source, on failure too. */
static int begin(k3sup_node *node, const struct k3sup__op_class *which, struct k3sup__source *source, int64_t wait_lock_ms, uint32_t allow,
	uint32_t keep, k3sup_op **ret_op)
{
	struct swap_state *s;
	k3sup_op *op;
	int r = k3sup__node_op_new(node, which, K3SUP__NEVER, &op);

	if (r < 0) {
		k3sup__source_clear(source);
		return r;
	}
	s = k3sup__op_state(op);
	s->source = *source;
	s->lock_deadline = k3sup__deadline(wait_lock_ms);
	s->allow = allow;
	s->keep = keep;
	k3sup__proof_report(op, NULL); /* until something is proven, whatever it ends with */
	*ret_op = op;
	return 0;
}

int k3sup_swap(k3sup_node *node, const struct k3sup_swap_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_swap_opts o;
	struct k3sup__given_terms terms;
	struct k3sup__source source;
	int r = node && opts && ret_op
		? k3sup__opts(opts, &o, sizeof(o), K3SUP_SWAP_PAYLOAD_FD | K3SUP_SWAP_CHECK_ARCHIVE | K3SUP_SWAP_RUN_VERSION | ALLOW_ALL)
		: -EINVAL;

	if (r >= 0 && o.reserved)
		r = -EINVAL;
	if (r >= 0) {
		terms = (struct k3sup__given_terms){o.sha256, o.sums, o.signature, o.key, o.expect_version, o.server_version};
		r = k3sup__source_take(o.payload, o.flags & K3SUP_SWAP_PAYLOAD_FD, o.payload_fd, &terms, &source);
	}
	if (r < 0)
		return r;
	source.run_version = o.flags & K3SUP_SWAP_RUN_VERSION;
	source.check_archive = o.flags & K3SUP_SWAP_CHECK_ARCHIVE;
	return begin(node, &class, &source, o.wait_lock_ms, o.flags & ALLOW_ALL, o.keep_backups, ret_op);
}

int k3sup_swap_rollback(k3sup_node *node, const struct k3sup_swap_rollback_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_swap_rollback_opts o;
	struct k3sup__source source;
	int r = node && ret_op ? k3sup__opts(opts, &o, sizeof(o), K3SUP_SWAP_ALLOW_PACKAGE_OWNED) : -EINVAL;

	if (r >= 0)
		r = k3sup__source_take_backup(o.sha256, o.expect_version, &source);
	return r < 0 ? r : begin(node, &rollback_class, &source, o.wait_lock_ms, o.flags, 0, ret_op);
}
