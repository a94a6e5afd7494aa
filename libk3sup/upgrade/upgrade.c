/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/upgrade.h"

#include "upgrade/check.h"

#define FLAGS \
	(K3SUP_UPGRADE_PAYLOAD_FD | K3SUP_UPGRADE_ALLOW_DOWNGRADE | K3SUP_UPGRADE_ALLOW_SKIP_MINOR | K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED | \
		K3SUP_UPGRADE_CHECK | K3SUP_UPGRADE_ROLLBACK | K3SUP_UPGRADE_RUN_VERSION | K3SUP_UPGRADE_NO_UNPACK_AHEAD | \
		K3SUP_UPGRADE_RETRY_FAILED | K3SUP_UPGRADE_DRY_RUN | K3SUP_UPGRADE_ROTATE_CERTS)

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 3}, {"before-write", 2}, {"images", 20}, {"stage", 17}, {"verify", 13},
	{"before-stop", 2}, {"unpack", 20}, {"swap", 4}, {"restart", 12}, {"prove", 50}, {"rollback", 20}, {"certificates", 10}};

/* ---- the caller's commands ---- */

static int work_before_write(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	return k3sup__hook_run(op, s->node.node, "before-write", s->hooks.before_write, &s->view, &s->payload);
}

static int work_before_stop(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	return k3sup__hook_run(op, s->node.node, "before-stop", s->hooks.before_stop, &s->view, &s->payload);
}

/* ---- the machine ---- */

static int conclude(k3sup_op *op, int status)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	s->status = status < 0 ? status : k3sup__upgrade_has_changed(s);
	s->phase = PHASE_REPORT;
	k3sup__op_no_return(op);
	if (status < 0)
		k3sup__op_seal_failure(op);
	return k3sup__op_work(op, k3sup__upgrade_report);
}

static int go(k3sup_op *op, enum k3sup__phase phase, int (*work)(k3sup_op *op))
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	s->phase = phase;
	return work ? k3sup__op_work(op, work) : K3SUP__AGAIN;
}

static bool writes(const struct k3sup__upgrade *s)
{
	return s->hooks.before_write && (s->view.same == 0 || k3sup__images_missing(&s->images) > 0 || !s->stopping.rotation.done);
}

static bool swaps(const struct k3sup__upgrade *s)
{
	return s->swap && !s->stopping.window;
}

static bool stages(const struct k3sup__upgrade *s)
{
	return s->swap;
}

static bool stops(const struct k3sup__upgrade *s)
{
	return s->hooks.before_stop && (s->staged || s->restarts || (s->stopping.window && s->stopping.rotation.alive));
}

static bool unpacks(const struct k3sup__upgrade *s)
{
	return s->restart.by != K3SUP_RESTART_NONE && !(s->flags & K3SUP_UPGRADE_NO_UNPACK_AHEAD) &&
		(s->staged || s->restarts || s->start_awaited || (s->stopping.window && !s->stopping.rotation.alive));
}

/* Up to the swap, in this order; each only where it has something to do. */
static const struct {
	enum k3sup__phase phase;
	bool (*is_due)(const struct k3sup__upgrade *s);
	int (*work)(k3sup_op *op);
} files[] = {
	{PHASE_BEFORE_WRITE, writes, work_before_write},
	{PHASE_STAGE, stages, k3sup__upgrade_stage},
	{PHASE_BEFORE_STOP, stops, work_before_stop},
	{PHASE_UNPACK, unpacks, k3sup__upgrade_unpack},
	{PHASE_SWAP, swaps, k3sup__upgrade_swap},
};

static int after_work(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	if (r < 0)
		return conclude(op, r);
	if (s->back.resumed)
		return go(op, PHASE_BACK, NULL);
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		if (files[i].phase > s->phase && files[i].is_due(s))
			return go(op, files[i].phase, files[i].work);
	if (s->stopping.left)
		return go(op, PHASE_RETIRE, k3sup__turn_retire);
	if (s->restart.by == K3SUP_RESTART_NONE)
		return conclude(op, 0);
	return s->swap || s->restarts || s->stopping.window || s->payload.is_backup ? go(op, PHASE_AGAIN, k3sup__restart_look)
										    : go(op, PHASE_PROVE, NULL);
}

static int after_look(k3sup_op *op)
{
	const struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__node_await_turn(op, s->lock_deadline);

	return r ? r : after_work(op);
}

/* What child operations do next, or the end. */
static int call(k3sup_op *op, enum k3sup__phase phase, int (*fn)(k3sup_op *op))
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r;

	s->phase = phase;
	r = fn(op);
	return r < 0 ? conclude(op, r) : r;
}

static int after_look_again(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	if (r < 0)
		return conclude(op, r);
	if (s->stopping.window)
		return call(op, PHASE_WINDOW, k3sup__turn_call);
	if (s->restart.by == K3SUP_RESTART_COMMANDS && s->services.count > 0)
		return call(op, PHASE_COMMANDS, k3sup__restart_call);
	return go(op, PHASE_ORDER, k3sup__restart_order);
}

static int after_call(k3sup_op *op, int r)
{
	return r < 0 ? conclude(op, r) : go(op, PHASE_EXIT, NULL);
}

static int exit_step(k3sup_op *op)
{
	int r = k3sup__restart_wait(op);

	if (r == K3SUP__WAIT)
		return r;
	return r < 0 ? conclude(op, r) : go(op, PHASE_PROVE, NULL);
}

static int verify(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	return k3sup__turn_is_to_verify(s) ? call(op, PHASE_VERIFY, k3sup__turn_verify) : conclude(op, s->status);
}

static int settle(k3sup_op *op)
{
	const struct k3sup__upgrade *s = k3sup__op_state(op);

	return s->called || s->entry.owed.id[0] ? go(op, PHASE_SETTLE, k3sup__restart_settle) : verify(op);
}

/* Was it a new build that has failed, and not one that was there before? */
static bool is_new(const struct k3sup__upgrade *s)
{
	return !s->stopping.window || s->swapped.renamed || s->restarts || s->entry.resumed;
}

static int prove_step(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r;

	if (!s->proving) {
		s->proving = true;
		return call(op, PHASE_PROVE, k3sup__prove_call);
	}
	r = k3sup__prove_result(op);
	if (is_new(s) && k3sup__rollback_is_asked(op, s, r))
		return go(op, PHASE_FAILED, k3sup__rollback_judge);
	if (r < 0)
		return conclude(op, r);
	return settle(op);
}

static int after_settling(k3sup_op *op)
{
	const struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	return r < 0 && s->status >= 0 ? conclude(op, r) : verify(op);
}

static int after_failure(k3sup_op *op)
{
	return k3sup__op_work_result(op) > 0 ? go(op, PHASE_BACK, NULL) : conclude(op, K3SUP_E_NOT_STABLE);
}

/* The build before runs with the new certificates. */
static int back_step(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	if (k3sup__op_woke(op) != K3SUP__WOKE_CHILD) {
		k3sup__op_no_return(op);
		return call(op, PHASE_BACK, k3sup__rollback_call);
	}
	s->status = k3sup__rollback_result(op);
	return s->back.done ? settle(op) : conclude(op, s->status);
}

static int after_verifying(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__turn_verified(op);

	return conclude(op, s->status < 0 ? s->status : r);
}

static int step(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	enum k3sup__woke woke = k3sup__op_woke(op);

	if (woke == K3SUP__WOKE_STOP)
		return conclude(op, k3sup__op_stop_code(op));
	switch (s->phase) {
	case PHASE_LOOK:
		if (woke == K3SUP__WOKE_WORK)
			return after_look(op);
		if (woke == K3SUP__WOKE_START) {
			k3sup__op_plan(op, plan, ELEMENTSOF(plan));
			k3sup__op_begin(op, "lock", "taking the node's lock");
		}
		return k3sup__op_work(op, k3sup__upgrade_look);
	case PHASE_BEFORE_WRITE:
	case PHASE_STAGE:
	case PHASE_BEFORE_STOP:
	case PHASE_UNPACK:
	case PHASE_SWAP:
		return after_work(op);
	case PHASE_AGAIN:
		return after_look_again(op);
	case PHASE_ORDER:
		return k3sup__op_work_result(op) < 0 ? conclude(op, k3sup__op_work_result(op)) : go(op, PHASE_EXIT, NULL);
	case PHASE_COMMANDS:
		return after_call(op, k3sup__restart_called(op));
	case PHASE_WINDOW:
		return after_call(op, k3sup__turn_result(op));
	case PHASE_RETIRE:
		return conclude(op, k3sup__op_work_result(op));
	case PHASE_EXIT:
		return exit_step(op);
	case PHASE_PROVE:
		return prove_step(op);
	case PHASE_SETTLE:
		return after_settling(op);
	case PHASE_VERIFY:
		return after_verifying(op);
	case PHASE_FAILED:
		return after_failure(op);
	case PHASE_BACK:
		return back_step(op);
	case PHASE_REPORT:
		return k3sup__op_work_result(op) < 0 ? k3sup__op_work_result(op) : s->status;
	}
	return K3SUP_E_INTERNAL;
}

static void clear(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	k3sup__node_give_turn(op, s->node.node);
	for (size_t i = 0; i < ELEMENTSOF(s->old); i++)
		k3sup_process_unref(s->old[i]);
	k3sup__services_clear(&s->services);
	k3sup__staged_free(s->staged); /* before what it points to */
	k3sup__view_clear(&s->view);
	k3sup__swapped_clear(&s->swapped);
	k3sup__payload_clear(&s->payload);
	k3sup__source_clear(&s->source);
	free(s->health);
	k3sup__back_clear(&s->back);
	k3sup__hooks_clear(&s->hooks);
	k3sup__images_clear(&s->images);
	free(s->data_dir);
	k3sup__restart_clear(&s->restart);
	k3sup__stopping_clear(&s->stopping);
}

static const struct k3sup__op_class class = {
	.verb = "upgrade",
	.state_size = sizeof(struct k3sup__upgrade),
	.step = step,
	.clear = clear,
	.concludes = true,
};

static int new_upgrade(k3sup_node *node, const struct k3sup_upgrade_opts *o, struct k3sup__asked *asked, int64_t deadline, k3sup_op **ret_op)
{
	char *health = o->health ? strdup(o->health) : NULL;
	struct k3sup__upgrade *s;
	k3sup_op *op;
	int r = o->health && !health ? -ENOMEM : k3sup__node_op_new(node, &class, deadline, &op);

	if (r < 0) {
		free(health);
		k3sup__asked_clear(asked);
		return r;
	}
	s = k3sup__op_state(op);
	s->health = health;
	s->hooks = asked->hooks;
	s->probe = o->probe;
	s->source = asked->source;
	s->images = asked->images;
	s->payload = K3SUP__PAYLOAD_NONE;
	s->view.installed = K3SUP__PLACE_NONE;
	s->lock_deadline = k3sup__deadline(o->wait_lock_ms);
	s->stable_ms = o->stable_ms < 0 ? 0 : o->stable_ms ? o->stable_ms : 20000;
	s->restart = asked->restart;
	s->stopping = asked->stopping;
	s->flags = o->flags;
	s->keep_backups = o->keep_backups;
	s->back.mode = o->rollback;
	*ret_op = op;
	return 0;
}

int k3sup_upgrade(k3sup_node *node, const struct k3sup_upgrade_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts o;
	struct k3sup__asked asked;
	int64_t deadline;
	int r = node && opts && ret_op ? k3sup__opts(opts, &o, sizeof(o), FLAGS) : -EINVAL;

	if (r >= 0)
		r = k3sup__asked_take(&o, &asked);
	if (r < 0)
		return r;
	deadline = k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000);
	if (o.flags & (K3SUP_UPGRADE_CHECK | K3SUP_UPGRADE_DRY_RUN))
		return k3sup__check_new(node, &asked, deadline, ret_op);
	return new_upgrade(node, &o, &asked, deadline, ret_op);
}
