/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/upgrade.h"

#include "node/warn.h"
#include "process/running.h"
#include "process/signal.h"
#include "upgrade/check.h"
#include "upgrade/failed.h"
#include "upgrade/prepared.h"

#define FLAGS \
	(K3SUP_UPGRADE_PAYLOAD_FD | K3SUP_UPGRADE_ALLOW_DOWNGRADE | K3SUP_UPGRADE_ALLOW_SKIP_MINOR | K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED | \
		K3SUP_UPGRADE_CHECK | K3SUP_UPGRADE_ROLLBACK | K3SUP_UPGRADE_RUN_VERSION | K3SUP_UPGRADE_NO_UNPACK_AHEAD | \
		K3SUP_UPGRADE_RETRY_FAILED | K3SUP_UPGRADE_DRY_RUN)

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 3}, {"before-write", 2}, {"images", 20}, {"stage", 17}, {"verify", 13},
	{"before-stop", 2}, {"unpack", 20}, {"swap", 4}, {"restart", 12}, {"prove", 50}, {"rollback", 20}};

/* ---- deciding: nothing is written before this is over ---- */

static int decide(k3sup_op *op, struct k3sup__upgrade *s)
{
	const struct k3sup__view *v = &s->view;
	int r = k3sup__need_file(op, s->node.node, v);

	if (r < 0)
		return r;
	s->swap = v->same == 0 || v->leftovers > 0 || s->images.count > 0 || (s->payload.is_backup && v->images_kept);
	s->payload_file = v->installed.st;
	if (s->restart.by == K3SUP_RESTART_NONE)
		return 0;
	s->count = v->sighting.count;
	/* The build to get away from may be in its supervisor's pause, between two starts. */
	if ((k3sup__is_no_k3s(v->running_error) && v->same == 1) || (v->running_error == K3SUP_E_NO_K3S && s->payload.is_backup)) {
		s->start_awaited = true;
		s->count = 1;
		return 0;
	}
	if (v->running_error < 0)
		return k3sup__sighting_judge(op, &v->sighting);
	r = k3sup__restart_admit(op, s->node.node, v, &s->payload, &s->restart, &s->services);
	s->restarts = s->services.count > 0;
	return r;
}

static struct k3sup__plan plan_of(const struct k3sup__upgrade *s, const struct k3sup__images *images)
{
	struct k3sup__plan todo = k3sup__upgrade_plan(&s->view, &s->payload, images, s->flags);

	todo.keep = s->keep_backups;
	return todo;
}

/* Nobody is asked where nothing is replaced; what an earlier run was cut before is caught up with. */
static int admit(k3sup_op *op, struct k3sup__upgrade *s)
{
	struct k3sup__plan todo = plan_of(s, &s->images);
	int r;

	if (s->view.same == 0)
		return k3sup__admit(op, s->node.node, &todo);
	r = k3sup__admit_images(op, s->node.node, &s->images);
	return r < 0 ? r : k3sup__settle(op, s->node.node, &todo, s->view.installed.path);
}

static int work_look(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup_node *node = s->node.node;
	int r = s->nested ? 0 : k3sup__node_take_turn(op, node);

	if (r < 0)
		return r;
	k3sup__op_begin(op, "identify", "looking at payload and node");
	r = k3sup__payload_load(op, node, &s->source, &s->payload);
	if (r >= 0)
		r = k3sup__view_take(op, node, &s->payload, &s->view);
	if (r >= 0 && s->view.same == 1)
		r = k3sup__payload_prove(op, &s->payload, s->view.same_sha256);
	if (r >= 0)
		r = k3sup__upgrade_look_at_images(op, s);
	if (r >= 0 && !s->nested)
		k3sup__entry_take_over(op, node, &s->view, &s->payload, &s->entry);
	if (r >= 0 && !s->nested)
		k3sup__prepared_warn(op, node, &s->view);
	if (r >= 0)
		r = k3sup__rollback_look(op, s);
	if (r < 0 || s->back.resumed)
		return r;
	r = decide(op, s);
	if (r >= 0)
		r = k3sup__rollback_admit(op, s);
	if (r >= 0)
		r = admit(op, s);
	/* Nobody else would start it. */
	if (r >= 0 && s->start_awaited && (s->entry.stopped || s->nested) && s->restart.by == K3SUP_RESTART_COMMANDS) {
		s->starts = true;
		s->start_awaited = false;
	}
	return r;
}

/* ---- swapping ---- */

/* All that takes time and can fail, so that the commands before the stop decide about something that is there. */
static int work_stage(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	struct k3sup__plan todo = plan_of(s, NULL);
	int r = k3sup__upgrade_stage_images(op, s);

	if (r < 0 || s->view.same == 1)
		return r;
	r = k3sup__upgrade_open_entry(op, s);
	return r < 0 ? r : k3sup__swap_stage(op, s->node.node, &todo, &s->swapped, &s->staged);
}

static int swap(k3sup_op *op, struct k3sup__upgrade *s)
{
	int r;

	if (!s->staged) {
		r = k3sup__swap_leftovers(op, s->node.node, &s->view.installed, true);
		s->cleaned = r > 0;
		return r;
	}
	r = k3sup__swap_publish(s->staged);
	k3sup__staged_free(s->staged);
	s->staged = NULL;
	if (s->swapped.renamed)
		s->payload_file = s->swapped.st;
	k3sup__swapped_report(op, &s->payload, &s->swapped);
	return r;
}

static int work_swap(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	struct k3sup__plan todo = plan_of(s, NULL);
	int r = swap(op, s);

	if (r >= 0 && s->swapped.renamed)
		r = k3sup__settle(op, s->node.node, &todo, s->swapped.path);
	if (r >= 0 && s->payload.is_backup)
		r = k3sup__upgrade_restore_images(op, s);
	k3sup__op_may_stop(op);
	return r;
}

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

/* ---- reporting: of failures and stops, too ---- */

static bool has_changed(const struct k3sup__upgrade *s)
{
	/* What was unpacked for nothing changes nothing: it is there for the next try. */
	return s->swapped.renamed || s->cleaned || (s->unpacked && s->status >= 0) || s->signalled || s->back.changed ||
		k3sup__images_changed(&s->images);
}

/*
 * What failed or was cut halfway stays open: the next run proves. A refusal that touched nothing leaves nothing to prove. Who asks for the file only does not prove what an
 * earlier run had still to prove.
 */
static bool is_over(const struct k3sup__upgrade *s)
{
	if (s->back.done)
		return true;
	if (s->status < 0)
		return !s->swapped.renamed && !s->signalled && !s->entry.resumed && !k3sup__images_changed(&s->images);
	return s->restart.by != K3SUP_RESTART_NONE || !s->entry.prove;
}

/* What failed before did not this time. It was proven: that nobody can write it down is no failure. */
static void tidy_memory(k3sup_op *op, const struct k3sup__upgrade *s)
{
	int r = k3sup__failed_proven(op, s->node.node, &s->payload.build);

	if (r < 0) {
		k3sup__warn(op, "it cannot be written down that this build was proven: %s", k3sup_strerror(r));
		k3sup__op_forgive(op);
	}
}

static int work_report(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup__json *facts = k3sup__op_facts(op);
	struct k3sup__view v;
	int r;

	k3sup__staged_free(s->staged); /* a temp of a run that is over is no leftover */
	s->staged = NULL;
	r = k3sup__upgrade_end_images(op, s);
	if (r < 0)
		k3sup__op_seal_failure(op); /* proven, and not tidied up: the next run does */
	if (s->status >= 0)
		s->status = has_changed(s);
	if (r >= 0 && is_over(s)) {
		r = k3sup__entry_close(op, s->node.node, s->status, &s->entry);
		if (r < 0)
			k3sup__op_seal_failure(op); /* the look below must not take back the sentence */
		if (s->status < 0)
			r = 0; /* what went wrong first is how it ends */
	}
	if (s->status >= 0 && s->restart.by != K3SUP_RESTART_NONE && !s->nested)
		tidy_memory(op, s);
	k3sup__rollback_report(op, s);
	if (s->nested)
		return r;
	if (s->payload.fd >= 0 && k3sup__view_take(op, s->node.node, s->status < 0 ? &s->payload : NULL, &v) >= 0) {
		k3sup__view_report(op, s->node.node, &v);
		k3sup__view_clear(&v);
	}
	k3sup__json_set_bool(facts, "changed", has_changed(s));
	k3sup__json_set_bool(facts, "resumed", s->entry.resumed);
	k3sup__json_set_int(facts, "downtime_ms", k3sup__op_downtime(op) < 0 ? 0 : k3sup__op_downtime(op));
	k3sup__services_report(op, &s->services);
	k3sup__proof_report(op, s->payload.proof);
	return r;
}

static int conclude(k3sup_op *op, int status)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	s->status = status < 0 ? status : has_changed(s);
	s->phase = PHASE_REPORT;
	k3sup__op_no_return(op);
	if (status < 0)
		k3sup__op_seal_failure(op);
	return k3sup__op_work(op, work_report);
}

/* ---- the machine ---- */

static int go(k3sup_op *op, enum k3sup__phase phase, int (*work)(k3sup_op *op))
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	s->phase = phase;
	return work ? k3sup__op_work(op, work) : K3SUP__AGAIN;
}

static bool writes(const struct k3sup__upgrade *s)
{
	return s->hooks.before_write && (s->view.same == 0 || k3sup__images_missing(&s->images) > 0);
}

static bool swaps(const struct k3sup__upgrade *s)
{
	return s->swap;
}

static bool stops(const struct k3sup__upgrade *s)
{
	return s->hooks.before_stop && (s->staged || s->restarts);
}

static bool unpacks(const struct k3sup__upgrade *s)
{
	return s->restart.by != K3SUP_RESTART_NONE && !(s->flags & K3SUP_UPGRADE_NO_UNPACK_AHEAD) &&
		(s->staged || s->restarts || s->start_awaited || s->starts);
}

/* Up to the swap, in this order; each only where it has something to do. */
static const struct {
	enum k3sup__phase phase;
	bool (*is_due)(const struct k3sup__upgrade *s);
	int (*work)(k3sup_op *op);
} files[] = {
	{PHASE_BEFORE_WRITE, writes, work_before_write},
	{PHASE_STAGE, swaps, work_stage},
	{PHASE_BEFORE_STOP, stops, work_before_stop},
	{PHASE_UNPACK, unpacks, k3sup__upgrade_unpack},
	{PHASE_SWAP, swaps, work_swap},
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
	if (s->restart.by == K3SUP_RESTART_NONE)
		return conclude(op, 0);
	return s->swap || s->restarts || s->starts || s->nested ? go(op, PHASE_AGAIN, k3sup__restart_look) : go(op, PHASE_PROVE, NULL);
}

static int after_look(k3sup_op *op)
{
	const struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__node_await_turn(op, s->lock_deadline);

	return r ? r : after_work(op);
}

static int after_look_again(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	if (r < 0 || s->restart.by != K3SUP_RESTART_COMMANDS || s->services.count == 0)
		return r < 0 ? conclude(op, r) : go(op, PHASE_ORDER, k3sup__restart_order);
	s->phase = PHASE_COMMANDS;
	r = k3sup__restart_call(op);
	return r < 0 ? conclude(op, r) : r;
}

static int after_commands(k3sup_op *op)
{
	int r = k3sup__restart_called(op);

	return r < 0 ? conclude(op, r) : go(op, PHASE_EXIT, NULL);
}

static int exit_step(k3sup_op *op)
{
	int r = k3sup__restart_wait(op);

	if (r == K3SUP__WAIT)
		return r;
	return r < 0 ? conclude(op, r) : go(op, PHASE_PROVE, NULL);
}

static int prove_step(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r;

	if (!s->proving) {
		s->proving = true;
		r = k3sup__prove_call(op);
		return r < 0 ? conclude(op, r) : r;
	}
	r = k3sup__prove_result(op);
	if (k3sup__rollback_is_asked(op, s, r))
		return go(op, PHASE_FAILED, k3sup__rollback_judge);
	return r < 0 || !s->called ? conclude(op, r) : go(op, PHASE_DISARM, k3sup__restart_disarm);
}

static int after_failure(k3sup_op *op)
{
	return k3sup__op_work_result(op) > 0 ? go(op, PHASE_BACK, NULL) : conclude(op, K3SUP_E_NOT_STABLE);
}

static int back_step(k3sup_op *op)
{
	int r;

	if (k3sup__op_woke(op) == K3SUP__WOKE_CHILD)
		return conclude(op, k3sup__rollback_result(op));
	k3sup__op_no_return(op);
	r = k3sup__rollback_call(op);
	return r < 0 ? conclude(op, r) : r;
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
		return k3sup__op_work(op, work_look);
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
		return after_commands(op);
	case PHASE_EXIT:
		return exit_step(op);
	case PHASE_PROVE:
		return prove_step(op);
	case PHASE_DISARM:
		return conclude(op, k3sup__op_work_result(op) < 0 ? k3sup__op_work_result(op) : 0);
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
}

static const struct k3sup__op_class class = {
	.verb = "upgrade",
	.state_size = sizeof(struct k3sup__upgrade),
	.step = step,
	.clear = clear,
	.concludes = true,
};

/* Which file that is the node says, and not the caller. */
static int take_backup(const struct k3sup_upgrade_opts *o, struct k3sup__source *ret)
{
	if (o->payload || (o->flags & (K3SUP_UPGRADE_PAYLOAD_FD | K3SUP_UPGRADE_RUN_VERSION)) || o->sums || o->signature || o->key ||
		o->server_version || o->keep_backups || (o->images && o->images[0]))
		return -EINVAL;
	return k3sup__source_take_backup(o->sha256, o->expect_version, ret);
}

static int take(const struct k3sup_upgrade_opts *o, struct k3sup__source *source, struct k3sup__images *images)
{
	const struct k3sup__given_terms terms = {o->sha256, o->sums, o->signature, o->key, o->expect_version, o->server_version};
	int r = k3sup__upgrade_take_images(o, images);

	if (r >= 0 && (o->flags & K3SUP_UPGRADE_ROLLBACK))
		r = take_backup(o, source);
	else if (r >= 0)
		r = k3sup__source_take(o->payload, o->flags & K3SUP_UPGRADE_PAYLOAD_FD, o->payload_fd, &terms, source);
	if (r < 0)
		k3sup__images_clear(images);
	return r;
}

static int take_restart(const struct k3sup_upgrade_opts *o, struct k3sup__restart *ret)
{
	int r = k3sup__commands_take(o->stop_command, o->start_command, o->status_command, &ret->commands);

	if (r < 0 || o->restart > K3SUP_RESTART_COMMANDS || (r > 0) != (o->restart == K3SUP_RESTART_COMMANDS))
		return r < 0 ? r : -EINVAL;
	ret->by = o->restart;
	ret->guard_delay_ms = o->guard_delay_ms ? o->guard_delay_ms : 30000;
	return 0;
}

static void clear_asked(struct k3sup__asked *asked)
{
	k3sup__source_clear(&asked->source);
	k3sup__images_clear(&asked->images);
	k3sup__hooks_clear(&asked->hooks);
	k3sup__restart_clear(&asked->restart);
}

static int new_upgrade(k3sup_node *node, const struct k3sup_upgrade_opts *o, struct k3sup__asked *asked, int64_t deadline, k3sup_op **ret_op)
{
	char *health = o->health ? strdup(o->health) : NULL;
	struct k3sup__upgrade *s;
	k3sup_op *op;
	int r = o->health && !health ? -ENOMEM : k3sup__node_op_new(node, &class, deadline, &op);

	if (r < 0) {
		free(health);
		clear_asked(asked);
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
	s->flags = o->flags;
	s->keep_backups = o->keep_backups;
	s->back.mode = o->rollback;
	*ret_op = op;
	return 0;
}

static bool is_bad(const struct k3sup_upgrade_opts *o)
{
	return o->rollback > K3SUP_ROLLBACK_NEVER || o->reserved || o->reserved3 || o->reserved4 || o->reserved5 || o->reserved7;
}

int k3sup_upgrade(k3sup_node *node, const struct k3sup_upgrade_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts o;
	struct k3sup__asked asked = {0};
	int64_t deadline;
	int r = node && opts && ret_op ? k3sup__opts(opts, &o, sizeof(o), FLAGS) : -EINVAL;

	if (r >= 0 && is_bad(&o))
		r = -EINVAL;
	if (r >= 0)
		r = k3sup__readiness_check(o.probe, o.health);
	if (r >= 0)
		r = k3sup__hooks_take(&o, &asked.hooks);
	if (r >= 0)
		r = take_restart(&o, &asked.restart);
	if (r >= 0)
		r = take(&o, &asked.source, &asked.images);
	if (r < 0) {
		k3sup__hooks_clear(&asked.hooks);
		k3sup__restart_clear(&asked.restart);
		return r;
	}
	asked.source.run_version = o.flags & K3SUP_UPGRADE_RUN_VERSION;
	asked.source.check_archive = true; /* a restart takes longer than a hash */
	asked.flags = o.flags;
	deadline = k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000);
	if (o.flags & (K3SUP_UPGRADE_CHECK | K3SUP_UPGRADE_DRY_RUN))
		return k3sup__check_new(node, &asked, deadline, ret_op);
	return new_upgrade(node, &o, &asked, deadline, ret_op);
}
