/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/window.h"

#include "node/warn.h"
#include "process/guard.h"
#include "process/serve.h"

static const struct k3sup__step plan[] = {{"stop", 15}, {"retire", 10}, {"start", 75}};

#define LEAST_FOR_START_MS 20000 /* after the deadline, too: k3s is not left stopped */

enum phase { PHASE_FIND, PHASE_STOP, PHASE_WORK, PHASE_START };

struct window {
	struct k3sup__node_state node;
	struct k3sup__window_want want;
	char *health;
	enum phase phase;
	struct k3sup__serving serving; /* as it was found; its guards are the ones that wait */
	size_t step, started;
	int64_t half_over; /* half of the guard's time, as it was begun last; K3SUP__NEVER if there is none */
	bool down;         /* some k3s could not be started again */
	int status;        /* what went wrong first, or 0 */
	k3sup__json *said; /* by the caller's stop command, or NULL */
};

/* ---- before the stop ---- */

static const struct k3sup__commands *commands_of(const struct k3sup__restart *by)
{
	return by->by == K3SUP_RESTART_COMMANDS ? &by->commands : NULL;
}

static int find(k3sup_op *op, k3sup_node *node, const struct k3sup__restart *by, struct k3sup__serving *ret)
{
	int r;

	ret->node.node = node;
	ret->by = commands_of(by);
	ret->action = K3SUP_SERVICE_STOP;
	ret->guard_delay_ms = by->guard_delay_ms;
	r = k3sup__serving_find(op, ret);
	return r < 0 ? r : k3sup__serving_admit(op, node, ret);
}

int k3sup__window_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__restart *by)
{
	struct k3sup__serving serving = {0};
	int r = find(op, node, by, &serving);

	k3sup__serving_report(op, &serving);
	k3sup__serving_clear(&serving);
	return r;
}

int k3sup__window_look(k3sup_op *op, k3sup_node *node, const struct k3sup__restart *by, bool running, bool *ret_alive, size_t *ret_count)
{
	struct k3sup__serving serving = {.node.node = node, .by = commands_of(by)};
	int r = k3sup__serving_find(op, &serving);

	*ret_alive = running;
	*ret_count = r >= 0 && running ? serving.count : 1;
	for (size_t i = 0; r >= 0 && i < serving.count; i++)
		*ret_alive |= serving.list[i].service.state != K3SUP__SERVICE_STOPPED && serving.list[i].service.state != K3SUP__SERVICE_UNKNOWN;
	k3sup__serving_clear(&serving);
	if ((r == K3SUP_E_NO_SERVICE || r == K3SUP_E_AMBIGUOUS) && !running) {
		k3sup__op_forgive(op); /* then nobody is asked to start it */
		return 0;
	}
	return r < 0 ? r : 0;
}

static int work_find(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);
	int r = find(op, s->node.node, s->want.by, &s->serving);

	for (size_t i = 0; s->want.stopped && r >= 0 && i < s->serving.count && s->want.by->guard_delay_ms > 0; i++)
		r = k3sup__guard_arm(op, &s->serving.list[i].service, s->want.by->guard_delay_ms);
	return r;
}

static void cross(k3sup_op *op, struct window *s)
{
	k3sup__op_no_return(op);
	k3sup__op_no_return(s->want.owner);
	k3sup__json_set_bool(k3sup__op_facts(op), "stopped", true);
}

/* ---- while it is stopped ---- */

/* Still by us: its guard waits, and nobody has started it. */
static int still_stopped(k3sup_op *op, struct window *s)
{
	struct k3sup__serving now = {.node = s->node, .by = s->serving.by};
	const int64_t delay = s->want.by->guard_delay_ms;
	int r = 0;

	s->half_over = delay > 0 ? k3sup__deadline(delay / 2) : K3SUP__NEVER;
	for (size_t i = 0; r >= 0 && i < s->serving.count && delay > 0; i++)
		r = k3sup__guard_rearm(op, &s->serving.list[i].service, delay);
	if (r >= 0)
		r = k3sup__serving_scan(op, &now);
	if (r > 0)
		r = k3sup__fail(op, K3SUP_E_GUARD, "k3s (process %d) was started by somebody else while it was stopped by us",
			(int)k3sup__process_pid(now.list[0].process));
	k3sup__serving_clear(&now);
	return r;
}

int k3sup__window_still_stopped(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);

	return k3sup__now_ms() < s->half_over ? 0 : still_stopped(op, s);
}

static int work_step(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);
	int r = still_stopped(op, s);

	return r < 0 ? r : s->want.steps[s->step](op, s->want.arg);
}

/* ---- the children ---- */

static int take(const char *key, k3sup__json *value, void *arg)
{
	static const char *const its_own[] = {"ok", "changed", "error", "steps", "warnings", "running"};

	for (size_t i = 0; i < ELEMENTSOF(its_own); i++)
		if (k3sup__streq(key, its_own[i]))
			return 0;
	k3sup__json_set(arg, key, k3sup__json_copy(value));
	return 0;
}

int k3sup__take_over(k3sup_op *op, k3sup_op *child)
{
	const k3sup__json *warnings = k3sup__json_member(k3sup__op_facts(child), "warnings");

	(void)k3sup__json_each(k3sup__op_facts(child), take, k3sup__op_facts(op));
	for (size_t i = 0; i < k3sup__json_len(warnings); i++)
		k3sup__warn(op, "%s", k3sup__json_as_str(k3sup__json_element(warnings, i)));
	return k3sup__op_adopt(op, child);
}

bool k3sup__said(k3sup_op *child, const char *fact)
{
	int64_t value = 0;

	return k3sup__json_as_i64(k3sup__json_member(k3sup__op_facts(child), fact), &value) && value != 0;
}

static int call(k3sup_op *op, const struct k3sup__service_want *want)
{
	struct window *s = k3sup__op_state(op);
	k3sup_op *child;
	int r = k3sup__service_op(s->node.node, want, &child);

	return r < 0 ? r : k3sup__op_call(op, child);
}

static int call_stop(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);

	k3sup__op_begin(op, "stop", "stopping k3s");
	return call(op,
		&(struct k3sup__service_want){.commands = s->serving.by,
			.action = K3SUP_SERVICE_STOP,
			.nested = true,
			.deadline = s->want.deadline,
			.guard_delay_ms = s->want.by->guard_delay_ms});
}

static int call_start(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);
	const int64_t least = k3sup__deadline(LEAST_FOR_START_MS);
	const bool last = s->started + 1 == s->serving.count, unproven = s->want.unproven && s->status >= 0;

	s->phase = PHASE_START;
	k3sup__op_begin(op, "start", "starting %s", s->serving.list[s->started].service.name);
	return call(op,
		&(struct k3sup__service_want){
			.commands = s->serving.by,
			.action = K3SUP_SERVICE_START,
			.name = s->serving.by ? NULL : s->serving.list[s->started].service.name,
			.nested = true,
			.unproven = unproven,
			.deadline = s->want.deadline > least ? s->want.deadline : least,
			.stable_ms = last ? s->want.proof.stable_ms : 0,
			.proof = last && s->status >= 0 && !unproven ? &s->want.proof : NULL,
		});
}

/* ---- the machine ---- */

static int next(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);

	if (s->status < 0 || !s->want.steps[s->step])
		return call_start(op);
	s->phase = PHASE_WORK;
	k3sup__op_begin(op, "retire", "k3s is stopped");
	return k3sup__op_work(op, work_step);
}

static int after_find(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	if (r < 0)
		return r;
	if (s->want.stopped) {
		cross(op, s);
		return next(op);
	}
	s->phase = PHASE_STOP;
	return call_stop(op);
}

static k3sup__json *first_service(k3sup_op *op)
{
	return k3sup__json_element(k3sup__json_member(k3sup__op_facts(op), "services"), 0);
}

static int after_stop(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);
	k3sup_op *child = k3sup__op_child(op);
	int r = k3sup__take_over(op, child);

	s->said = k3sup__json_copy(k3sup__json_member(first_service(op), "stop"));
	if (r < 0 && !k3sup__op_is_past_return(child))
		return r; /* it was never told to stop */
	cross(op, s);
	s->status = r;
	return next(op);
}

static int after_step(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);

	s->status = k3sup__op_work_result(op);
	s->step++;
	return next(op);
}

/* That k3s does not run is worse than what went wrong before: that becomes a warning. */
static int after_start(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);
	k3sup_op *child = k3sup__op_child(op);
	int r;

	if (k3sup_op_status(child) < 0 && s->status < 0) {
		k3sup__warn(op, "%s", k3sup__op_sentence(op));
		k3sup__op_forgive(op);
		s->status = 0;
	}
	r = k3sup__take_over(op, child);
	if (s->said) { /* what the start says of the service took the place of what the stop said */
		k3sup__json_set(first_service(op), "stop", k3sup__json_copy(s->said));
		k3sup__json_set(k3sup__json_member(k3sup__op_facts(op), "service"), "stop", k3sup__json_copy(s->said));
	}
	s->down |= r < 0;
	if (s->status >= 0)
		s->status = r;
	if (++s->started < s->serving.count)
		return call_start(op);
	k3sup__json_set_bool(k3sup__op_facts(op), "started", !s->down);
	return s->status < 0 ? s->status : 1;
}

static int step(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);

	switch (s->phase) {
	case PHASE_FIND:
		if (k3sup__op_woke(op) == K3SUP__WOKE_WORK)
			return after_find(op);
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
		return k3sup__op_work(op, work_find);
	case PHASE_STOP:
		return after_stop(op);
	case PHASE_WORK:
		return after_step(op);
	case PHASE_START:
		return after_start(op);
	}
	return K3SUP_E_INTERNAL;
}

static void clear(k3sup_op *op)
{
	struct window *s = k3sup__op_state(op);

	k3sup__serving_clear(&s->serving);
	k3sup__json_unref(s->said);
	free(s->health);
}

static const struct k3sup__op_class class = {
	.verb = "window",
	.state_size = sizeof(struct window),
	.step = step,
	.clear = clear,
};

int k3sup__window_op(k3sup_node *node, const struct k3sup__window_want *want, k3sup_op **ret_op)
{
	char *health = want->proof.health ? strdup(want->proof.health) : NULL;
	struct window *s;
	k3sup_op *op;
	int r = want->proof.health && !health ? -ENOMEM : k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);

	if (r < 0) {
		free(health);
		return r;
	}
	s = k3sup__op_state(op);
	s->want = *want;
	s->want.proof.health = s->health = health;
	*ret_op = op;
	return 0;
}
