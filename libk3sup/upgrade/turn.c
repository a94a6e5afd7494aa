/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of an upgrade, where it needs k3s to be stopped: guard, stop, retire, swap, start. The proof is that of any upgrade; after it, whether k3s has made new certificates.
 */
#include "upgrade/upgrade.h"

#include "node/warn.h"
#include "upgrade/renewed.h"
#include "upgrade/window.h"

/* ---- right before ---- */

/* Staging took time, and somebody else, the start guard of a cut run above all, may have started k3s meanwhile. Then there may be nothing left to stop it for. */
static void decide_again(struct k3sup__upgrade *s)
{
	struct k3sup__rotation *rotation = &s->stopping.rotation;

	if (rotation->alive || s->view.sighting.count == 0)
		return;
	rotation->alive = true;
	s->stopping.window = !rotation->done || s->staged || k3sup__restart_is_due(&s->view, &s->payload);
}

/* The entry that says that we have stopped k3s: the rotation's, if there is something to retire. Who finds it stopped already has that entry. */
static int note_stop(k3sup_op *op, struct k3sup__upgrade *s)
{
	struct k3sup__rotation *rotation = &s->stopping.rotation;
	int r;

	if (rotation->done) {
		r = rotation->alive ? k3sup__upgrade_open_entry(op, s) : 0;
		return r >= 0 && rotation->alive && !s->nested ? k3sup__entry_stops(op, s->node.node, &s->view, &s->entry) : r;
	}
	r = s->restarts ? k3sup__upgrade_open_entry(op, s) : 0;
	if (r >= 0)
		r = k3sup__rotation_open(op, s->node.node, rotation, true);
	if (r < 0)
		return r;
	memcpy(s->entry.owed.id, rotation->id, sizeof(rotation->id));
	s->entry.owed.verb = K3SUP__VERB_ROTATE;
	return 0;
}

int k3sup__turn_prepare(k3sup_op *op, struct k3sup__upgrade *s)
{
	int r;

	decide_again(s);
	if (!s->stopping.window)
		return 0;
	r = k3sup__restart_admit(op, s->node.node, &s->view, NULL, &s->restart, &s->services);
	if (r >= 0 && s->services.count == 0)
		r = k3sup__services_add_stopped(op, s->node.node, &s->restart, &s->services);
	return r < 0 ? r : note_stop(op, s);
}

/* ---- while k3s is stopped ---- */

/* op: of the window; arg: the upgrade's */
static int step_keep(k3sup_op *op, void *arg)
{
	struct k3sup__upgrade *s = k3sup__op_state(arg);
	const struct k3sup__rotation *rotation = &s->stopping.rotation;

	return rotation->done ? 0 : k3sup__retire_keep(op, s->node.node, &rotation->retiring);
}

static int step_retire(k3sup_op *op, void *arg)
{
	struct k3sup__upgrade *s = k3sup__op_state(arg);

	return s->stopping.rotation.done ? 0 : k3sup__rotation_retire(op, s->node.node, &s->stopping.rotation, k3sup__window_still_stopped);
}

static int step_swap(k3sup_op *op, void *arg)
{
	struct k3sup__upgrade *s = k3sup__op_state(arg);
	int r = s->swap ? k3sup__upgrade_swap(arg) : 0;

	/* Not the upgrade's yet: that k3s could not be started again would be worse. */
	return r < 0 ? k3sup__op_take_failure(op, arg, r) : r;
}

int k3sup__turn_call(k3sup_op *op)
{
	static int (*const steps[])(k3sup_op * op, void *arg) = {step_keep, step_retire, step_swap, NULL};
	struct k3sup__upgrade *s = k3sup__op_state(op);
	const struct k3sup__window_want want = {
		.owner = op,
		.deadline = k3sup__op_deadline(op),
		.by = &s->restart,
		.stopped = !s->stopping.rotation.alive,
		.steps = steps,
		.arg = op,
		.unproven = true,
		.proof = {.count = s->count ? s->count : 1, .stable_ms = s->stable_ms},
	};
	k3sup_op *child;
	int r;

	k3sup__op_begin(op, "restart", want.stopped ? "having k3s started, as an earlier run has stopped it" : "having k3s stopped and started");
	r = k3sup__op_checkpoint(op);
	if (r >= 0)
		r = k3sup__window_op(s->node.node, &want, &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

int k3sup__turn_result(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup_op *child = k3sup__op_child(op);
	int r = k3sup__take_over(op, child);

	s->stopping.stopped = k3sup__said(child, "stopped");
	s->stopping.came_back = r < 0 && (!s->stopping.stopped || k3sup__said(child, "started"));
	if (s->restart.by == K3SUP_RESTART_COMMANDS)
		k3sup__restart_take_facts(op, child);
	if (r < 0)
		return r;
	s->called = s->signalled = true;
	for (size_t i = 0; i < s->services.count; i++)
		s->old[i] = s->services.list[i].process ? k3sup_process_ref(s->services.list[i].process) : NULL;
	return 0;
}

/* ---- a k3s that is left stopped ---- */

int k3sup__turn_retire(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	struct k3sup__rotation *rotation = &s->stopping.rotation;
	int r = rotation->done ? 0 : k3sup__rotation_open(op, s->node.node, rotation, false);

	if (r >= 0 && !rotation->done)
		r = k3sup__rotation_retire(op, s->node.node, rotation, NULL);
	if (r >= 0)
		k3sup__warn(op, "k3s was stopped by somebody else and is left so; its next start makes new certificates, and a run after that proves them");
	return r;
}

/* ---- after the proof ---- */

bool k3sup__turn_is_to_verify(const struct k3sup__upgrade *s)
{
	return s->stopping.rotates && s->stopping.rotation.id[0];
}

int k3sup__turn_verify(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup_op *child;
	int r;

	k3sup__op_begin(op, "certificates", "looking whether k3s has made new certificates");
	r = k3sup__renewed_op(s->node.node, &s->stopping.rotation, k3sup__op_deadline(op), &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

int k3sup__turn_verified(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = k3sup__take_over(op, k3sup__op_child(op));

	s->stopping.verified = r >= 0;
	return r;
}

/* ---- the end ---- */

/*
 * A rotation that could not be proven, that was cut halfway, or that waits for somebody else to start k3s, stays open. One that touched nothing leaves nothing to prove; nor does one
 * that has nothing to replace, also where it had to start the k3s that a run under another key had stopped.
 */
static bool is_over(const struct k3sup__upgrade *s)
{
	const struct k3sup__stopping *stopping = &s->stopping;
	const bool waits = stopping->left && s->status >= 0;
	const bool open = stopping->rotation.resumed || stopping->rotation.retired || stopping->stopped || waits;

	return stopping->verified || !open || !stopping->rotation.id[0];
}

int k3sup__turn_report(k3sup_op *op, struct k3sup__upgrade *s)
{
	struct k3sup__stopping *stopping = &s->stopping;
	k3sup__json *facts = k3sup__op_facts(op);
	int r = stopping->came_back ? k3sup__entry_note_started(op, s->node.node, &s->entry) : 0;

	if (!stopping->rotates)
		return r;
	if (r >= 0 && is_over(s))
		r = k3sup__rotation_close(op, s->node.node, &stopping->rotation, stopping->verified ? 0 : s->status);
	else if (r >= 0)
		r = k3sup__rotation_pending(op, s->node.node, &stopping->rotation);
	k3sup__json_set_bool(facts, "left_stopped", stopping->left && s->status >= 0);
	if (s->back.done && stopping->rotation.retired)
		k3sup__warn(op, "the new certificates stay; what they have replaced is in the backup");
	return r;
}
