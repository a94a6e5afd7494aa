/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of an upgrade: the running k3s ends, its supervisor starts the new one, and that is proven to be the wanted build and to stay.
 */
#include "upgrade/upgrade.h"

#include "node/warn.h"
#include "process/guard.h"
#include "process/running.h"
#include "process/serve.h"
#include "process/signal.h"
#include "upgrade/window.h"

/* A start may fail once because somebody else unpacks just then, and some more times because a datastore is away for a moment. */
#define CRASH_LOOP 5
#define LAST_WORDS_MS 500
#define SUPERVISORS_PAUSE_MS 15000 /* RestartSec and respawn_delay are 5 s as k3s's installer writes them; unpacking takes some more */

/* Runs this k3s something else than what will be installed? */
static bool must_restart(const struct k3sup__view *view, const struct k3sup__payload *payload, const struct k3sup__candidate *c)
{
	if (c->image || c->unpacking)
		return view->same == 0 || c->exe_dev != view->installed.st.st_dev || c->exe_ino != view->installed.st.st_ino;
	return !k3sup__streq(c->asset_hash, payload->build.asset_hash);
}

int k3sup__upgrade_open_entry(k3sup_op *op, struct k3sup__upgrade *s)
{
	if (s->nested)
		return 0;
	return k3sup__entry_open(op, s->node.node, &s->view, &s->payload, s->restart.by != K3SUP_RESTART_NONE, &s->entry);
}

/* ---- restarting ---- */

bool k3sup__restart_is_due(const struct k3sup__view *view, const struct k3sup__payload *payload)
{
	for (size_t i = 0; i < view->sighting.count; i++)
		if (must_restart(view, payload, &view->sighting.candidates[i]))
			return true;
	return false;
}

int k3sup__restart_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	const struct k3sup__restart *restart, struct k3sup__services *ret)
{
	static const struct k3sup__restart by_manager = {.by = K3SUP_RESTART_SERVICE};
	const struct k3sup__sighting *sighting = &view->sighting;
	int r = 0;

	k3sup__services_clear(ret);
	if (!payload && restart->by != K3SUP_RESTART_COMMANDS)
		restart = &by_manager;
	for (size_t i = 0; r >= 0 && i < sighting->count && ret->count < K3SUP__MOST_SERVICES; i++) {
		if (payload && !must_restart(view, payload, &sighting->candidates[i]))
			continue;
		r = k3sup__signal_allowed(op, node, sighting->candidates[i].process);
		if (r >= 0)
			r = k3sup__services_add(op, node, &sighting->candidates[i], restart, ret);
	}
	return r < 0 || ret->count == 0 ? r : k3sup__view_startable(op, view);
}

/* A rename changes the ctime on some file systems, so that does not count. */
static bool is_file(const struct k3sup__place *place, const struct stat *st)
{
	return place->fd >= 0 && place->st.st_dev == st->st_dev && place->st.st_ino == st->st_ino && place->st.st_size == st->st_size &&
		place->st.st_mtim.tv_sec == st->st_mtim.tv_sec && place->st.st_mtim.tv_nsec == st->st_mtim.tv_nsec;
}

/* What is staged holds on to the view that it was made from: then only what runs is taken from the new one. */
static void take_view(struct k3sup__upgrade *s, struct k3sup__view *v)
{
	if (!s->staged) {
		k3sup__view_clear(&s->view);
		s->view = *v;
		return;
	}
	k3sup__sighting_clear(&s->view.sighting);
	s->view.sighting = v->sighting;
	s->view.running_error = v->running_error;
	v->sighting = (struct k3sup__sighting){0};
	k3sup__view_clear(v);
}

static int look_again(k3sup_op *op, struct k3sup__upgrade *s)
{
	struct k3sup__view v;
	int r = k3sup__view_take(op, s->node.node, NULL, &v);
	bool same;

	if (r < 0)
		return r;
	same = is_file(&v.installed, &s->payload_file);
	take_view(s, &v);
	if (!same)
		return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody replaced the installed k3s file meanwhile; k3s was not restarted");
	if (s->view.running_error == K3SUP_E_AMBIGUOUS)
		return k3sup__sighting_judge(op, &s->view.sighting);
	if (s->view.sighting.count > s->count)
		s->count = s->view.sighting.count;
	return 0;
}

/*
 * Who runs now? Staging took time: what was seen before it may have ended, and its supervisor may have started the old or the new file meanwhile. Processes seen here are
 * held by their pidfds until the signal.
 */
int k3sup__restart_look(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = look_again(op, s);

	if (r >= 0 && s->stopping.window) {
		r = k3sup__turn_prepare(op, s);
		if (r < 0 || s->stopping.window)
			return r;
	}
	if (r >= 0)
		r = k3sup__restart_admit(op, s->node.node, &s->view, &s->payload, &s->restart, &s->services);
	if (r >= 0 && s->services.count > 0)
		r = k3sup__upgrade_open_entry(op, s);
	if (r >= 0 && s->services.count > 0 && s->restart.by == K3SUP_RESTART_COMMANDS && !s->nested)
		r = k3sup__entry_stops(op, s->node.node, &s->view, &s->entry);
	return r;
}

int k3sup__restart_order(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = 0;

	if (s->payload.is_backup && s->view.sighting.count == 0 && s->restart.by != K3SUP_RESTART_SIGNAL)
		return k3sup__rollback_start(op);
	for (size_t i = 0; r >= 0 && i < s->services.count; i++) {
		const struct k3sup__owned *owned = &s->services.list[i];

		if (i == 0) {
			k3sup__op_begin(op, "restart",
				owned->how == K3SUP__HOW_SERVICE ? "having k3s (process %d) restarted by its service manager"
								 : "telling k3s (process %d) to end; its supervisor starts it again",
				(int)k3sup__process_pid(owned->process));
			r = k3sup__op_checkpoint(op); /* the progress callback was just asked */
			if (r < 0)
				break;
			k3sup__op_no_return(op);
			if (k3sup__process_pid(owned->process) == 1)
				k3sup__warn(op, "the container ends with k3s; when it is made anew, %s is the image's again unless it is on a volume",
					s->view.installed.path);
		}
		r = k3sup__services_restart(op, s->node.node, owned, s->restart.by);
		if (r < 0)
			break;
		s->signalled |= r > 0;
		s->old[i] = k3sup_process_ref(owned->process); /* also if it had ended by itself: it does not count as the new one */
	}
	return r;
}

int k3sup__restart_wait(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);

	for (size_t i = 0; i < ELEMENTSOF(s->old); i++) {
		if (!s->old[i])
			continue;
		if (!k3sup__process_ended(s->old[i])) {
			if (k3sup__now_ms() >= k3sup__op_deadline(op))
				return k3sup__fail(op, K3SUP_E_TIMEOUT, "k3s (process %d) was told to end and has not done so in time",
					(int)k3sup__process_pid(s->old[i]));
			return k3sup__op_watch(op, s->old[i], k3sup__op_deadline(op));
		}
		k3sup__op_went_down(op, k3sup__now_ms());
	}
	return 0;
}

/* ---- restarting by the caller's commands ---- */

int k3sup__restart_call(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup_process *old = s->services.list[0].process;
	const struct k3sup__service_want want = {
		.commands = &s->restart.commands,
		.action = K3SUP_SERVICE_RESTART,
		.nested = true,
		.unproven = true,
		.deadline = k3sup__op_deadline(op),
		.lock_deadline = k3sup__now_ms(),
		.guard_delay_ms = s->restart.guard_delay_ms,
	};
	k3sup_op *child;
	int r;

	k3sup__op_begin(op, "restart", "having k3s (process %d) stopped and started by the caller's commands", (int)k3sup__process_pid(old));
	r = k3sup__op_checkpoint(op);
	if (r >= 0)
		r = k3sup__service_op(s->node.node, &want, &child);
	if (r < 0)
		return r;
	k3sup__op_no_return(op);
	return k3sup__op_call(op, child);
}

/* What the commands said is told of the service, in the end. */
void k3sup__restart_take_facts(k3sup_op *op, k3sup_op *child)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	const k3sup__json *one = k3sup__json_element(k3sup__json_member(k3sup__op_facts(child), "services"), 0);
	struct k3sup__service *service = &s->services.list[0].service;

	if (!one)
		return;
	k3sup__json_unref(service->facts);
	service->facts = k3sup__json_copy(one);
	s->start_failed = k3sup__commands_said(service, "start") == 0;
}

int k3sup__restart_called(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup_op *child = k3sup__op_child(op);
	int r = k3sup__take_over(op, child);
	const k3sup__json *facts;

	k3sup__restart_take_facts(op, child);
	facts = s->services.list[0].service.facts;
	s->signalled = k3sup__json_member(facts, "stop") || k3sup__json_member(facts, "start");
	if (r < 0)
		return r;
	s->called = true;
	s->old[0] = k3sup_process_ref(s->services.list[0].process);
	return 0;
}

static int settle(k3sup_op *op, struct k3sup__owned *owned)
{
	struct k3sup__service *service = &owned->service;
	int r;

	k3sup__json_del(service->facts, "guard");
	r = k3sup__guard_disarm(op, service);
	if (r >= 0 && owned->apart && service->manager->apart) {
		r = service->manager->look(op, service);
		if (r >= 0)
			r = service->manager->apart(op, service);
	}
	return r;
}

int k3sup__restart_settle(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__entry_note_started(op, s->node.node, &s->entry);

	for (size_t i = 0; r >= 0 && s->called && i < s->services.count; i++)
		r = settle(op, &s->services.list[i]);
	return r < 0 ? r : 0;
}

/* ---- proving ---- */

/* A moment before the operation's own deadline ends it, where that still can: so that the answer says what was seen, and not "out of time". */
static int64_t prove_until(k3sup_op *op)
{
	int64_t deadline = k3sup__op_deadline(op);

	return deadline == K3SUP__NEVER || k3sup__op_is_past_return(op) ? deadline : deadline - LAST_WORDS_MS;
}

int k3sup__prove_call(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	struct k3sup__want want = {
		.count = s->count ? s->count : 1,
		.by_file = true,
		.file_dev = s->payload_file.st_dev,
		.file_ino = s->payload_file.st_ino,
		.come_by = prove_until(op),
		.give_up = prove_until(op),
		.stable_ms = s->stable_ms,
		.probe = s->probe,
		.health = s->health,
		.most_ends = CRASH_LOOP,
	};
	k3sup_op *child;
	int r;

	memcpy(want.asset_hash, s->payload.build.asset_hash, sizeof(want.asset_hash));
	memcpy(want.previous, s->old, sizeof(want.previous));
	for (size_t i = 0; i < s->services.count; i++)
		want.services[i] = &s->services.list[i].service;
	if (s->start_awaited || s->start_failed) {
		int64_t pause = k3sup__deadline(SUPERVISORS_PAUSE_MS);

		if (want.come_by > pause)
			want.come_by = pause;
	}
	k3sup__op_begin(op, "prove", "waiting until the wanted build runs and stays");
	r = k3sup__running_op(s->node.node, &want, &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

int k3sup__prove_result(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__op_adopt(op, k3sup__op_child(op));

	k3sup__running_report(op, k3sup__op_child(op));
	if (r == K3SUP_E_NOT_RESTARTED && s->start_awaited) {
		k3sup__op_forgive(op);
		r = k3sup__fail(op, K3SUP_E_NO_K3S, "%s is the %s%s, but no k3s runs, and none was started while one was waited for (%d s at most)",
			s->view.installed.path, s->payload.is_backup ? "backup's build" : "payload",
			s->swapped.renamed ? " now" : " already", SUPERVISORS_PAUSE_MS / 1000);
	}
	return r < 0 ? r : k3sup__services_apart(op, &s->services, k3sup__op_child(op));
}
