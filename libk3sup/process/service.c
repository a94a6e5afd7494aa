/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_service(): stop, start and restart, each until it is so.
 */
#include "process/serve.h"

#include "process/guard.h"
#include "process/running.h"

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 5}, {"restart", 20}, {"prove", 74}};

/* ---- looking and deciding ---- */

/* Is there a time, between a stop and a start, in which k3s is ours to start? */
static bool in_halves(const struct k3sup__serving *s)
{
	return s->action == K3SUP_SERVICE_RESTART && s->count > 0 && s->list[0].service.manager && s->list[0].service.manager->halves;
}

int k3sup__serving_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__serving *s)
{
	enum k3sup__how how;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->count; i++) {
		const struct k3sup__served *one = &s->list[i];

		if (!one->service.manager)
			return k3sup__fail(op, K3SUP_E_NO_SERVICE, "no service manager can be told: %s", one->service.why);
		r = k3sup__service_admit(op, node, &one->service, one->process, K3SUP__HOW_SERVICE, &how);
		if (r >= 0 && s->guard_delay_ms > 0 && (s->action == K3SUP_SERVICE_STOP || in_halves(s)))
			r = k3sup__guard_possible(op, &one->service);
	}
	return r;
}

static int work_look(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	k3sup_node *node = s->node.node;
	int r = s->action == K3SUP_SERVICE_STATUS || s->nested ? 0 : k3sup__node_take_turn(op, node);

	if (r < 0)
		return r;
	k3sup__op_begin(op, "identify", "looking for k3s and its service");
	r = k3sup__serving_find(op, s);
	return r >= 0 && s->action != K3SUP_SERVICE_STATUS ? k3sup__serving_admit(op, node, s) : r;
}

static bool is_so(const struct k3sup__serving *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->action == K3SUP_SERVICE_STOP ? s->list[i].process || s->list[i].service.state != K3SUP__SERVICE_STOPPED : !s->list[i].process)
			return false;
	return s->action != K3SUP_SERVICE_RESTART;
}

/* ---- ordering ---- */

/* Nothing was stopped, so nobody owes a start. Why not has been said; a guard that stays would start what runs already. */
static void give_up(k3sup_op *op, struct k3sup__serving *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->list[i].guarded && k3sup__guard_disarm(NULL, &s->list[i].service) >= 0)
			s->list[i].guarded = false;
	k3sup__log(op, K3SUP_LOG_INFO, "nothing was stopped");
}

static int work_order(k3sup_op *op)
{
	static const enum k3sup__order orders[] = {
		[K3SUP_SERVICE_STOP] = K3SUP__ORDER_STOP, [K3SUP_SERVICE_START] = K3SUP__ORDER_START, [K3SUP_SERVICE_RESTART] = K3SUP__ORDER_RESTART};
	struct k3sup__serving *s = k3sup__op_state(op);
	const bool halves = in_halves(s);
	int r = s->action == K3SUP_SERVICE_STOP || halves ? k3sup__serving_arm(op, s) : 0;

	k3sup__op_begin(op, "restart", "telling %s", s->list[0].service.name);
	if (r >= 0)
		r = k3sup__op_checkpoint(op);
	s->ordered_at = k3sup__now_ms();
	for (size_t i = 0; r >= 0 && i < s->count; i++) {
		k3sup__op_no_return(op);
		r = s->list[i].service.manager->order(op, &s->list[i].service, halves ? K3SUP__ORDER_STOP : orders[s->action]);
		s->ordered |= r >= 0;
	}
	if (r < 0 && !s->ordered)
		give_up(op, s);
	return r;
}

/* ---- the second half of a restart ---- */

/* The guard begins its time anew: a stop may take long. */
static int work_start(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	int r = 0;

	if (s->failed) {
		struct k3sup__serving now = {.node = s->node, .by = s->by};

		r = k3sup__serving_scan(op, &now);
		k3sup__serving_clear(&now);
		if (r > 0) /* it still runs */
			return 0;
	}
	/* Without its guard it is the more important to start it. */
	if (k3sup__serving_arm(s->failed ? NULL : op, s) < 0)
		k3sup__op_forgive(op);
	for (size_t i = 0; i < s->count; i++)
		r = s->list[i].service.manager->order(op, &s->list[i].service, K3SUP__ORDER_START);
	return r;
}

/* ---- after the stop ---- */

static int stopped_step(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	int r = k3sup__serving_await_stop(op);

	if (r == K3SUP__WAIT || r == K3SUP__WORK)
		return r;
	k3sup__serving_report(op, s);
	if (!in_halves(s))
		return r;
	/* Whatever became of the stop, it is owed a start. */
	s->failed = r < 0 ? r : 0;
	if (s->failed)
		k3sup__op_seal_failure(op);
	s->phase = SERVING_START;
	return k3sup__op_work(op, work_start);
}

/* ---- a start: proven by what runs ---- */

static int call_proof(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	struct k3sup__want want = s->proof ? *s->proof : (struct k3sup__want){.count = s->count, .probe = K3SUP_PROBE_NONE, .most_ends = 5};
	k3sup_op *child;
	int r;

	want.come_by = want.give_up = s->deadline;
	want.stable_ms = s->stable_ms;
	for (size_t i = 0; i < s->count; i++) {
		int64_t patience = k3sup__deadline(K3SUP__PATIENCE_MS);

		want.services[i] = &s->list[i].service;
		if (s->action == K3SUP_SERVICE_RESTART)
			want.previous[i] = s->list[i].process;
		if (s->by && k3sup__commands_said(&s->list[i].service, "start") == 0 && patience < want.come_by)
			want.come_by = patience;
	}
	k3sup__op_begin(op, "prove", "waiting until k3s runs and stays");
	r = k3sup__running_op(s->node.node, &want, &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

static int work_end(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	k3sup_process *process = NULL;
	int r = k3sup__serving_apart(op, s, k3sup__op_child(op));

	if (s->by && k3sup_op_process(k3sup__op_child(op), 0, &process) >= 0)
		s->list[0].service.main_pid = k3sup__process_pid(process);
	k3sup_process_unref(process);

	for (size_t i = 0; r >= 0 && i < s->count; i++) {
		r = k3sup__guard_disarm(op, &s->list[i].service);
		s->list[i].guarded = false;
	}
	if (r >= 0)
		r = k3sup__serving_look(op, s);
	for (size_t i = 0; r >= 0 && i < s->count; i++)
		if (s->list[i].apart && s->list[i].service.manager->apart)
			r = s->list[i].service.manager->apart(op, &s->list[i].service);
	return r < 0 ? r : 0;
}

static int proven(k3sup_op *op)
{
	k3sup_op *child = k3sup__op_child(op);
	int r = k3sup__op_adopt(op, child);

	k3sup__running_report(op, child);
	return r < 0 ? r : k3sup__op_work(op, work_end);
}

static int started(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	int r = s->failed ? s->failed : k3sup__op_work_result(op);

	k3sup__serving_report(op, s);
	if (r < 0 || s->unproven)
		return r < 0 ? r : 1;
	s->phase = SERVING_PROVE;
	return K3SUP__AGAIN;
}

/* ---- the machine ---- */

static int after_look(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	int r = k3sup__node_await_turn(op, s->lock_deadline);

	if (r)
		return r;
	r = k3sup__op_work_result(op);
	k3sup__serving_report(op, s);
	if (r < 0 || s->action == K3SUP_SERVICE_STATUS)
		return r < 0 ? r : 0;
	if (is_so(s)) {
		if (s->action == K3SUP_SERVICE_STOP)
			return 0;
		s->phase = SERVING_PROVE;
		return K3SUP__AGAIN;
	}
	s->phase = SERVING_ORDER;
	return k3sup__op_work(op, work_order);
}

static int step(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	const enum k3sup__woke woke = k3sup__op_woke(op);

	switch (s->phase) {
	case SERVING_LOOK:
		if (woke == K3SUP__WOKE_WORK)
			return after_look(op);
		if (woke == K3SUP__WOKE_START)
			k3sup__op_plan(op, plan, ELEMENTSOF(plan));
		return k3sup__op_work(op, work_look);
	case SERVING_ORDER:
		if (k3sup__op_work_result(op) < 0) {
			k3sup__serving_report(op, s);
			return k3sup__op_work_result(op);
		}
		if (s->action == K3SUP_SERVICE_START && s->unproven)
			return k3sup__serving_report(op, s), 1;
		k3sup__serving_begin_stop(s);
		s->phase = s->action == K3SUP_SERVICE_STOP || in_halves(s) ? SERVING_STOPPED : SERVING_PROVE;
		return K3SUP__AGAIN;
	case SERVING_STOPPED:
		return stopped_step(op);
	case SERVING_START:
		return started(op);
	case SERVING_PROVE:
		if (woke == K3SUP__WOKE_CHILD) {
			s->phase = SERVING_END;
			return proven(op);
		}
		return call_proof(op);
	case SERVING_END:
		k3sup__serving_report(op, s);
		return k3sup__op_work_result(op) < 0 ? k3sup__op_work_result(op) : s->ordered;
	}
	return K3SUP_E_INTERNAL;
}

static void clear(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);

	if (!s->nested)
		k3sup__node_give_turn(op, s->node.node);
	k3sup__serving_clear(s);
	k3sup__commands_clear(&s->commands);
	free(s->name);
}

static const struct k3sup__op_class class = {
	.verb = "service",
	.state_size = sizeof(struct k3sup__serving),
	.step = step,
	.clear = clear,
};

int k3sup__service_op(k3sup_node *node, const struct k3sup__service_want *want, k3sup_op **ret_op)
{
	_cleanup_(k3sup__commands_clear) struct k3sup__commands commands = {0};
	_free_ char *name = want->name ? strdup(want->name) : NULL;
	struct k3sup__serving *s;
	k3sup_op *op;
	int r = want->name && !name ? -ENOMEM : 0;

	if (r >= 0 && want->commands)
		r = k3sup__commands_take(want->commands->stop, want->commands->start, want->commands->status, &commands);
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, want->deadline, &op);
	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	s->name = name;
	name = NULL;
	s->commands = commands;
	commands = (struct k3sup__commands){0};
	s->by = s->commands.start ? &s->commands : NULL;
	s->action = want->action;
	s->nested = want->nested;
	s->unproven = want->unproven;
	s->deadline = want->deadline;
	s->lock_deadline = want->lock_deadline;
	s->stable_ms = want->stable_ms;
	s->guard_delay_ms = want->guard_delay_ms;
	s->proof = want->proof;
	*ret_op = op;
	return 0;
}

int k3sup_service(k3sup_node *node, const struct k3sup_service_opts *opts, k3sup_op **ret_op)
{
	_cleanup_(k3sup__commands_clear) struct k3sup__commands commands = {0};
	struct k3sup_service_opts o;
	int r = node && ret_op ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;
	struct k3sup__service_want want;

	if (r < 0)
		return r;
	if (o.action > K3SUP_SERVICE_RESTART || o.reserved || o.reserved2 || o.reserved3 ||
		(o.name && (!*o.name || o.name[0] == '-' || strchr(o.name, '/'))))
		return -EINVAL;
	r = k3sup__commands_take(o.stop_command, o.start_command, o.status_command, &commands);
	if (r < 0 || (r > 0 && o.name))
		return r < 0 ? r : -EINVAL;
	want = (struct k3sup__service_want){
		.name = o.name,
		.commands = r > 0 ? &commands : NULL,
		.action = o.action,
		.deadline = k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000),
		.lock_deadline = k3sup__deadline(o.wait_lock_ms),
		.stable_ms = o.stable_ms < 0 ? 0
			: o.stable_ms        ? o.stable_ms
					     : 20000,
		.guard_delay_ms = o.guard_delay_ms ? o.guard_delay_ms : 30000,
	};
	return k3sup__service_op(node, &want, ret_op);
}
