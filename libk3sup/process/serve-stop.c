/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stop: proven, not believed.
 */
#include <unistd.h>

#include "process/guard.h"
#include "process/serve.h"

#define LOOK_EVERY_MS 200
#define ABSENT_MS 7000 /* where nobody says that it stays stopped: longer than a supervisor's pause, as k3s's installer writes it (5 s) */

/* Does any of them say that it runs? Only one of the caller's commands may not know. */
static bool is_denied(const struct k3sup__serving *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (!s->by || s->list[i].service.state == K3SUP__SERVICE_RUNNING)
			return true;
	return false;
}

/* Was any of them started after our order? Not so the child of a --log pair, which may outlive its parent for a moment. */
static int refuse_restarted(k3sup_op *op, const struct k3sup__serving *s, const struct k3sup__serving *now)
{
	const long ticks = sysconf(_SC_CLK_TCK);

	for (size_t i = 0; i < now->count; i++) {
		const k3sup_process *process = now->list[i].process;
		int64_t start = (int64_t)(k3sup__process_start_time(process) * 1000 / (uint64_t)(ticks > 0 ? ticks : 100));

		if (start > s->ordered_at)
			return k3sup__fail(op,
				K3SUP_E_GUARD, "k3s was started again (process %d) while it was to stop: by its start guard, whose time was over, or by somebody else",
				(int)k3sup__process_pid(process));
	}
	return 0;
}

/* A stop was all that was asked for: whoever called may end. */
static int release(k3sup_op *op, const struct k3sup__serving *s)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->count && s->action == K3SUP_SERVICE_STOP && !s->nested; i++)
		if (s->list[i].guarded)
			r = k3sup__guard_release(op, &s->list[i].service);
	return r;
}

/* 1: no k3s of these services is seen any more, and their managers say the same, or do not know and none has been seen for a while. */
static int work_gone(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	struct k3sup__serving now = {.node = s->node, .name = s->name, .by = s->by};
	bool stopped;
	int r;

	r = k3sup__serving_look(op, s);
	stopped = r > 0;
	if (r >= 0)
		r = k3sup__serving_scan(op, &now);
	if (r > 0 && refuse_restarted(op, s, &now) < 0)
		r = K3SUP_E_GUARD;
	k3sup__serving_clear(&now);
	if (r != 0) {
		s->absent_since = 0;
		return r < 0 ? r : 0;
	}
	for (size_t i = 0; s->by && i < s->count; i++)
		s->list[i].service.main_pid = 0;
	if (s->absent_since == 0)
		s->absent_since = k3sup__now_ms();
	if (!stopped && (is_denied(s) || k3sup__now_ms() < s->absent_since + ABSENT_MS))
		return 0;
	r = release(op, s);
	return r < 0 ? r : 1;
}

/* A command that said that it failed may have done its work; it is not waited for as long. */
static int64_t stopped_by(const struct k3sup__serving *s)
{
	int64_t patience = k3sup__deadline(K3SUP__PATIENCE_MS);

	for (size_t i = 0; i < s->count; i++)
		if (s->by && k3sup__commands_said(&s->list[i].service, "stop") == 0 && patience < s->deadline)
			return patience;
	return s->deadline;
}

void k3sup__serving_begin_stop(struct k3sup__serving *s)
{
	s->stop_by = stopped_by(s);
	s->hold_at = k3sup__deadline(s->guard_delay_ms > 0 ? s->guard_delay_ms / 2 : 0);
}

static int out_of_time(k3sup_op *op, const struct k3sup__serving *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->by && k3sup__commands_said(&s->list[i].service, "stop") == 0)
			return k3sup__fail(op, K3SUP_E_SERVICE, "the stop command failed, and k3s was not seen to stop");
	return k3sup__fail(op, K3SUP_E_TIMEOUT, "%s was told to stop and has not done so in time", s->list[0].service.name);
}

/* A stop may take longer than the guard's time, which counts from its end. */
static int work_hold(k3sup_op *op)
{
	if (k3sup__serving_arm(op, k3sup__op_state(op)) < 0)
		k3sup__op_forgive(op);
	return 0;
}

/* One of those that have to end. */
static k3sup_process *living(const struct k3sup__served *one)
{
	k3sup_process *const all[] = {one->process, one->worker, one->keeper};

	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		if (all[i] && !k3sup__process_ended(all[i]))
			return all[i];
	return NULL;
}

static int watch_end(k3sup_op *op, const struct k3sup__served *one, k3sup_process *process)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	const int64_t now = k3sup__now_ms();

	if (!one->guarded)
		return k3sup__op_watch(op, process, s->stop_by);
	if (now >= s->hold_at) {
		s->hold_at = now + s->guard_delay_ms / 2;
		return k3sup__op_work(op, work_hold);
	}
	return k3sup__op_watch(op, process, s->hold_at < s->stop_by ? s->hold_at : s->stop_by);
}

int k3sup__serving_await_stop(k3sup_op *op)
{
	struct k3sup__serving *s = k3sup__op_state(op);
	const int64_t now = k3sup__now_ms();

	if (k3sup__op_woke(op) == K3SUP__WOKE_WORK && s->looked) {
		int r = k3sup__op_work_result(op);

		if (r != 0)
			return r < 0 ? r : 1;
		if (now >= s->stop_by)
			return out_of_time(op, s);
		s->looked = false;
		return k3sup__op_sleep(op, now + LOOK_EVERY_MS < s->stop_by ? now + LOOK_EVERY_MS : s->stop_by);
	}
	for (size_t i = 0; i < s->count && now < s->stop_by; i++) {
		k3sup_process *process = living(&s->list[i]);

		if (process)
			return watch_end(op, &s->list[i], process);
	}
	k3sup__op_went_down(op, now);
	s->looked = true;
	return k3sup__op_work(op, work_gone);
}
