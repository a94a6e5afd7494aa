/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first part of an upgrade: what is there and what is to be done about it. Nothing is written before this is over.
 */
#include "upgrade/upgrade.h"

#include "upgrade/check.h"
#include "upgrade/prepared.h"

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
	if (s->stopping.window && v->running_error == K3SUP_E_NO_K3S) {
		s->count = s->stopping.rotation.count;
		return 0;
	}
	/* The build to get away from may be in its supervisor's pause, between two starts. */
	if ((k3sup__is_no_k3s(v->running_error) && v->same == 1) || (v->running_error == K3SUP_E_NO_K3S && s->payload.is_backup)) {
		s->start_awaited = true;
		s->count = 1;
		return 0;
	}
	if (v->running_error < 0)
		return k3sup__sighting_judge(op, &v->sighting);
	r = k3sup__restart_admit(op, s->node.node, v, s->stopping.window ? NULL : &s->payload, &s->restart, &s->services);
	s->restarts = s->stopping.window ? k3sup__restart_is_due(v, &s->payload) : s->services.count > 0;
	return r;
}

struct k3sup__plan k3sup__upgrade_todo(const struct k3sup__upgrade *s, const struct k3sup__images *images)
{
	struct k3sup__plan todo = k3sup__upgrade_plan(&s->view, &s->payload, images, s->flags);

	todo.keep = s->keep_backups;
	return todo;
}

/* Nobody is asked where nothing is replaced; what an earlier run was cut before is caught up with. */
static int admit(k3sup_op *op, struct k3sup__upgrade *s)
{
	struct k3sup__plan todo = k3sup__upgrade_todo(s, &s->images);
	int r;

	if (s->view.same == 0)
		return k3sup__admit(op, s->node.node, &todo);
	r = k3sup__admit_images(op, s->node.node, &s->images);
	return r < 0 ? r : k3sup__upgrade_settle(op, s, s->view.installed.path);
}

/* Has a run of ours stopped k3s? Or would nobody else start it, after the build that is gone back from has ended? */
static bool is_owed(const struct k3sup__upgrade *s)
{
	return s->entry.owed.id[0] || (s->nested && s->restart.by == K3SUP_RESTART_COMMANDS);
}

int k3sup__upgrade_look(k3sup_op *op)
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
	/* What an earlier run has begun would go by unseen. */
	if (r >= 0 && s->view.journal_error < 0)
		r = k3sup__fail(op, s->view.journal_error, "%s", s->view.journal_text);
	if (r >= 0 && s->view.same == 1)
		r = k3sup__payload_prove(op, &s->payload, s->view.same_sha256);
	if (r >= 0)
		r = k3sup__upgrade_look_at_images(op, s);
	if (r >= 0 && !s->nested)
		k3sup__entry_take_over(op, node, &s->view, &s->payload, &s->entry);
	if (r >= 0 && !s->nested)
		k3sup__prepared_warn(op, node, &s->view);
	if (r >= 0)
		r = k3sup__stopping_look(op, node, &s->payload, &s->stopping);
	if (r >= 0)
		r = k3sup__rollback_look(op, s);
	if (r < 0 || s->back.resumed)
		return r;
	r = k3sup__stopping_decide(op, node, &s->view, is_owed(s), &s->restart, &s->stopping);
	if (r >= 0)
		r = decide(op, s);
	if (r >= 0)
		r = k3sup__rollback_admit(op, s);
	if (r >= 0)
		r = admit(op, s);
	return r;
}
