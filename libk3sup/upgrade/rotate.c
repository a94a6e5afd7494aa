/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_rotate(): which of stop, retire, start and prove are missing, and doing them.
 */
#include <k3sup/rotate.h>

#include "node/warn.h"
#include "upgrade/hooks.h"
#include "upgrade/renewed.h"
#include "upgrade/view.h"
#include "upgrade/window.h"

#define CRASH_LOOP 5
#define FLAGS (K3SUP_ROTATE_IF_WITHIN | K3SUP_ROTATE_DRY_RUN)

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 4}, {"before-write", 1}, {"before-stop", 1}, {"restart", 78}, {"verify", 15}};

enum phase { PHASE_LOOK, PHASE_WINDOW, PHASE_RETIRE, PHASE_PROVE, PHASE_VERIFY, PHASE_REPORT };

struct rotate {
	struct k3sup__node_state node;
	struct k3sup__rotation rotation;
	struct k3sup__restart restart;
	struct k3sup__hooks hooks;
	uint32_t flags, probe;
	int64_t lock_deadline, stable_ms;
	char *health;

	enum phase phase;
	bool touched; /* k3s was stopped, or something was taken away */
	bool started; /* k3s was started by us, which has to be noted */
	bool waits;   /* a rotation is pending and k3s left stopped */
	int status;
};

/* ---- deciding ---- */

static void report_wishes(k3sup_op *op, const struct rotate *s)
{
	k3sup__rotation_report(op, &s->rotation);
	if (!(s->flags & K3SUP_ROTATE_DRY_RUN))
		return;
	k3sup__rotation_plan(op, &s->rotation);
	k3sup__json_set_bool(k3sup__op_facts(op), "would_change", !s->rotation.done || s->rotation.resumed);
}

static bool needs_window(const struct rotate *s)
{
	return k3sup__rotation_needs_window(&s->rotation);
}

/* The caller may still refuse: nothing was written yet, and k3s runs. */
static int ask_caller(k3sup_op *op, const struct rotate *s)
{
	const bool writes = s->hooks.before_write && !s->rotation.done, stops = s->hooks.before_stop && s->rotation.alive && needs_window(s);
	struct k3sup__view view;
	int r = writes || stops ? k3sup__view_take(op, s->node.node, NULL, &view) : 0;

	if (r < 0 || (!writes && !stops))
		return r;
	if (writes)
		r = k3sup__hook_run(op, s->node.node, "before-write", s->hooks.before_write, &view, NULL);
	if (r >= 0 && stops)
		r = k3sup__hook_run(op, s->node.node, "before-stop", s->hooks.before_stop, &view, NULL);
	k3sup__view_clear(&view);
	return r;
}

static int work_look(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	int r = s->flags & K3SUP_ROTATE_DRY_RUN ? 0 : k3sup__node_take_turn(op, s->node.node);

	if (r < 0)
		return r;
	k3sup__op_begin(op, "identify", "looking at k3s and its certificates");
	r = k3sup__rotation_look(op, s->node.node, &s->rotation);
	if (r < 0)
		return r;
	report_wishes(op, s);
	r = k3sup__window_look(op, s->node.node, &s->restart, s->rotation.where.running, &s->rotation.alive, &s->rotation.count);
	if (r >= 0)
		r = k3sup__rotation_admit(op, s->node.node, &s->rotation, &s->restart);
	if (r >= 0 && !(s->flags & K3SUP_ROTATE_DRY_RUN))
		r = ask_caller(op, s);
	/* The last thing before the stop, or before the first file is taken away. */
	if (r >= 0 && !(s->flags & K3SUP_ROTATE_DRY_RUN) && (!s->rotation.done || needs_window(s)))
		r = k3sup__rotation_open(op, s->node.node, &s->rotation, needs_window(s) && s->restart.by != K3SUP_RESTART_NONE);
	return r;
}

/* ---- the window ---- */

static int step_keep(k3sup_op *op, void *arg)
{
	struct rotate *s = arg;

	return s->rotation.done ? 0 : k3sup__retire_keep(op, s->node.node, &s->rotation.retiring);
}

static int step_retire(k3sup_op *op, void *arg)
{
	struct rotate *s = arg;

	return s->rotation.done ? 0 : k3sup__rotation_retire(op, s->node.node, &s->rotation, k3sup__window_still_stopped);
}

static struct k3sup__want proof_of(const struct rotate *s)
{
	return (struct k3sup__want){
		.count = s->rotation.count, .stable_ms = s->stable_ms, .probe = s->probe, .health = s->health, .most_ends = CRASH_LOOP};
}

static int call_window(k3sup_op *op)
{
	static int (*const steps[])(k3sup_op * op, void *arg) = {step_keep, step_retire, NULL};
	struct rotate *s = k3sup__op_state(op);
	const struct k3sup__window_want want = {
		.owner = op,
		.deadline = k3sup__op_deadline(op),
		.by = &s->restart,
		.stopped = !s->rotation.alive,
		.steps = steps,
		.arg = s,
		.proof = proof_of(s),
	};
	k3sup_op *child;
	int r = k3sup__window_op(s->node.node, &want, &child);

	s->phase = PHASE_WINDOW;
	k3sup__op_begin(op, "restart", "stopping k3s, and starting it with new certificates");
	return r < 0 ? r : k3sup__op_call(op, child);
}

static int call_proof(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	struct k3sup__want want = proof_of(s);
	k3sup_op *child;
	int r;

	s->phase = PHASE_PROVE;
	want.come_by = want.give_up = k3sup__op_deadline(op);
	k3sup__op_begin(op, "restart", "an earlier run was cut; waiting until k3s has stayed and is ready");
	r = k3sup__running_op(s->node.node, &want, &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

/* ---- reporting ---- */

/* From here on, if it does not run, somebody else has stopped it. */
static int note_started(k3sup_op *op, struct rotate *s)
{
	bool started = s->started;

	s->started = false;
	return started ? k3sup__rotation_started(op, s->node.node, &s->rotation) : 0;
}

/* A rotation that could not be proven, or that was cut halfway, stays open. One that touched nothing leaves nothing to prove. */
static bool is_over(const struct rotate *s)
{
	return s->status < 0 ? !s->touched && !s->rotation.resumed : !s->waits;
}

static int report_node(k3sup_op *op, struct rotate *s)
{
	static const char *const ours[] = {"service", "services"};
	k3sup__json *facts = k3sup__op_facts(op), *kept[ELEMENTSOF(ours)] = {NULL};
	struct k3sup__view v;
	int r;

	for (size_t i = 0; i < ELEMENTSOF(ours); i++) {
		k3sup__json *value = k3sup__json_member(facts, ours[i]);

		kept[i] = value ? k3sup__json_ref(value) : NULL;
	}
	r = k3sup__view_take(op, s->node.node, NULL, &v);
	if (r >= 0) {
		k3sup__view_report(op, s->node.node, &v);
		k3sup__view_clear(&v);
	}
	for (size_t i = 0; i < ELEMENTSOF(ours); i++)
		if (kept[i])
			k3sup__json_set(facts, ours[i], kept[i]);
	return r;
}

static int work_report(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	k3sup__json *facts = k3sup__op_facts(op);
	int r = note_started(op, s);

	if (r >= 0 && is_over(s))
		r = k3sup__rotation_close(op, s->node.node, &s->rotation, s->status);
	else if (r >= 0)
		r = k3sup__rotation_pending(op, s->node.node, &s->rotation);
	if (r < 0)
		k3sup__op_seal_failure(op);
	if (report_node(op, s) < 0 && r >= 0 && s->status >= 0)
		k3sup__op_forgive(op); /* what could not be looked at once more is absent */
	k3sup__json_set_bool(facts, "changed", s->touched);
	k3sup__json_set_bool(facts, "left_stopped", s->waits);
	k3sup__json_set_int(facts, "downtime_ms", k3sup__op_downtime(op) < 0 ? 0 : k3sup__op_downtime(op));
	return s->status < 0 ? 0 : r;
}

static int conclude(k3sup_op *op, int status)
{
	struct rotate *s = k3sup__op_state(op);

	s->status = status < 0 ? status : s->touched;
	s->phase = PHASE_REPORT;
	k3sup__op_no_return(op);
	if (status < 0)
		k3sup__op_seal_failure(op);
	return k3sup__op_work(op, work_report);
}

/* ---- verifying ---- */

static int work_started(k3sup_op *op)
{
	return note_started(op, k3sup__op_state(op));
}

static int begin_verify(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);

	s->phase = PHASE_VERIFY;
	k3sup__op_begin(op, "verify", "looking whether k3s has made new certificates");
	return k3sup__op_work(op, work_started);
}

static int verify_step(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	k3sup_op *child;
	int r;

	if (k3sup__op_woke(op) == K3SUP__WOKE_CHILD)
		return conclude(op, k3sup__take_over(op, k3sup__op_child(op)));
	r = k3sup__op_work_result(op);
	if (r >= 0)
		r = k3sup__renewed_op(s->node.node, &s->rotation, k3sup__op_deadline(op), &child);
	return r < 0 ? conclude(op, r) : k3sup__op_call(op, child);
}

/* ---- the machine ---- */

static int work_retire(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);

	return s->rotation.done ? 0 : k3sup__rotation_retire(op, s->node.node, &s->rotation, NULL);
}

static int after_look(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	int r = k3sup__node_await_turn(op, s->lock_deadline);

	if (r)
		return r;
	r = k3sup__op_work_result(op);
	if (r < 0 || (s->flags & K3SUP_ROTATE_DRY_RUN))
		return conclude(op, r);
	if (needs_window(s) && s->restart.by != K3SUP_RESTART_NONE)
		return call_window(op);
	if (!s->rotation.alive) {
		s->phase = PHASE_RETIRE;
		return k3sup__op_work(op, work_retire);
	}
	return s->rotation.resumed ? call_proof(op) : conclude(op, 0);
}

static int after_window(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	k3sup_op *child = k3sup__op_child(op);
	int r = k3sup__take_over(op, child);

	s->touched = s->rotation.retired || k3sup__said(child, "stopped");
	s->started = k3sup__said(child, "started");
	return r < 0 ? conclude(op, r) : begin_verify(op);
}

/* The operator's stop is left alone. */
static int after_retire(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	s->touched |= s->rotation.retired;
	if (r >= 0 && s->rotation.id[0]) {
		s->waits = true;
		k3sup__warn(op, "k3s was stopped by somebody else and is left so; its next start makes new certificates, and a run after that proves them");
	}
	return conclude(op, r);
}

static int after_proof(k3sup_op *op)
{
	k3sup_op *child = k3sup__op_child(op);
	int r = k3sup__op_adopt(op, child);

	k3sup__running_report(op, child);
	return r < 0 ? conclude(op, r) : begin_verify(op);
}

static int step(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);
	enum k3sup__woke woke = k3sup__op_woke(op);
	int r;

	if (woke == K3SUP__WOKE_STOP)
		return conclude(op, k3sup__op_stop_code(op));
	switch (s->phase) {
	case PHASE_LOOK:
		if (woke == K3SUP__WOKE_WORK) {
			r = after_look(op);
			return r < 0 && s->phase != PHASE_REPORT ? conclude(op, r) : r;
		}
		if (woke == K3SUP__WOKE_START) {
			k3sup__op_plan(op, plan, ELEMENTSOF(plan));
			k3sup__op_begin(op, "lock", "taking the node's lock");
		}
		return k3sup__op_work(op, work_look);
	case PHASE_WINDOW:
		return after_window(op);
	case PHASE_RETIRE:
		return after_retire(op);
	case PHASE_PROVE:
		return after_proof(op);
	case PHASE_VERIFY:
		return verify_step(op);
	case PHASE_REPORT:
		return k3sup__op_work_result(op) < 0 ? k3sup__op_work_result(op) : s->status;
	}
	return K3SUP_E_INTERNAL;
}

static void clear(k3sup_op *op)
{
	struct rotate *s = k3sup__op_state(op);

	k3sup__node_give_turn(op, s->node.node);
	k3sup__rotation_clear(&s->rotation);
	k3sup__restart_clear(&s->restart);
	k3sup__hooks_clear(&s->hooks);
	free(s->health);
}

static const struct k3sup__op_class class = {
	.verb = "rotate",
	.state_size = sizeof(struct rotate),
	.step = step,
	.clear = clear,
	.concludes = true,
};

static int take(const struct k3sup_rotate_opts *o, struct k3sup__rotation *ret, struct k3sup__restart *ret_restart)
{
	const bool within = (o->flags & K3SUP_ROTATE_IF_WITHIN) != 0;
	int r;

	if (o->restart > K3SUP_RESTART_COMMANDS || o->reserved || o->reserved2 || o->reserved3 || (!o->key && !within) ||
		(!within && o->if_within_days))
		return -EINVAL;
	r = k3sup__commands_take(o->stop_command, o->start_command, o->status_command, &ret_restart->commands);
	if (r >= 0 && (r == 1) != (o->restart == K3SUP_RESTART_COMMANDS))
		r = -EINVAL;
	if (r >= 0)
		r = k3sup__rotation_take(o->key, within ? (int64_t)o->if_within_days : -1, o->services, o->keep, o->keep_days, ret);
	ret_restart->by = o->restart;
	ret_restart->guard_delay_ms = o->guard_delay_ms ? o->guard_delay_ms : 30000;
	return r;
}

int k3sup_rotate(k3sup_node *node, const struct k3sup_rotate_opts *opts, k3sup_op **ret_op)
{
	struct k3sup__rotation rotation = {0};
	struct k3sup__restart restart = {0};
	struct k3sup__hooks hooks = {0};
	struct k3sup_rotate_opts o;
	char *health = NULL;
	struct rotate *s;
	k3sup_op *op;
	int r = node && opts && ret_op ? k3sup__opts(opts, &o, sizeof(o), FLAGS) : -EINVAL;

	if (r >= 0)
		r = k3sup__readiness_check(o.probe, o.health);
	if (r >= 0)
		r = take(&o, &rotation, &restart);
	if (r >= 0)
		r = k3sup__hooks_take(o.before_write, o.before_stop, &hooks);
	if (r >= 0 && o.health && !(health = strdup(o.health)))
		r = -ENOMEM;
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000), &op);
	if (r < 0) {
		free(health);
		k3sup__restart_clear(&restart);
		k3sup__rotation_clear(&rotation);
		k3sup__hooks_clear(&hooks);
		return r;
	}
	s = k3sup__op_state(op);
	s->rotation = rotation;
	s->restart = restart;
	s->hooks = hooks;
	s->health = health;
	s->flags = o.flags;
	s->probe = o.probe;
	s->lock_deadline = k3sup__deadline(o.wait_lock_ms);
	s->stable_ms = o.stable_ms < 0 ? 0 : o.stable_ms ? o.stable_ms : 20000;
	*ret_op = op;
	return 0;
}
