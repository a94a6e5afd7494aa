/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an upgrade: staged beside the old ones, and swapped.
 */
#include "upgrade/upgrade.h"

#include "node/warn.h"

/* All that takes time and can fail, so that the commands before the stop decide about something that is there. */
int k3sup__upgrade_stage(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	struct k3sup__plan todo = k3sup__upgrade_todo(s, NULL);
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

int k3sup__upgrade_settle(k3sup_op *op, const struct k3sup__upgrade *s, const char *path)
{
	struct k3sup__plan todo = k3sup__upgrade_todo(s, NULL);
	int r = k3sup__settle(op, s->node.node, &todo, path);

	if (r >= 0 || r == -ENOMEM || !s->payload.is_backup)
		return r;
	k3sup__warn(op, "%s", k3sup__op_sentence(op) ? k3sup__op_sentence(op) : k3sup_strerror(r));
	k3sup__op_forgive(op);
	return 0;
}

int k3sup__upgrade_swap(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = swap(op, s);

	if (r >= 0 && s->swapped.renamed)
		r = k3sup__upgrade_settle(op, s, s->swapped.path);
	if (r >= 0 && s->payload.is_backup)
		r = k3sup__upgrade_restore_images(op, s);
	else if (r >= 0 && s->swapped.renamed)
		r = k3sup__upgrade_forget_images(op, s);
	if (!s->stopping.window) /* then k3s is stopped */
		k3sup__op_may_stop(op);
	return r;
}
