/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/stopping.h"

#include "swap/bytes.h"
#include "upgrade/window.h"

int k3sup__stopping_take(const struct k3sup_upgrade_opts *o, struct k3sup__stopping *ret)
{
	ret->rotates = (o->flags & K3SUP_UPGRADE_ROTATE_CERTS) != 0;
	ret->rotation.done = true;
	if (!ret->rotates)
		return o->rotate_key ? -EINVAL : 0;
	return o->flags & K3SUP_UPGRADE_ROLLBACK ? -EINVAL : k3sup__rotation_take(o->rotate_key, -1, NULL, 0, 0, &ret->rotation);
}

/* One payload, one rotation: a second run, as by a Job's second pod, does nothing. */
static int default_key(k3sup_op *op, const struct k3sup__payload *payload, struct k3sup__rotation *rotation)
{
	char sha256[K3SUP__SHA256_HEX];
	int r = 0;

	if (payload->sha256[0])
		memcpy(sha256, payload->sha256, sizeof(sha256));
	else
		r = k3sup__bytes_digest(op, payload->fd, payload->shown, sha256);
	if (r < 0)
		return r;
	rotation->key = k3sup__fmt("payload:%s", sha256);
	return rotation->key ? 0 : -ENOMEM;
}

int k3sup__stopping_look(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__stopping *s)
{
	int r = !s->rotates || s->rotation.key ? 0 : default_key(op, payload, &s->rotation);

	if (r >= 0 && s->rotates)
		r = k3sup__rotation_look(op, node, &s->rotation);
	if (r < 0 || !s->rotates)
		return r;
	k3sup__rotation_report(op, &s->rotation);
	return 0;
}

/* Only what has to be known is asked for: a manager's answer takes time. */
static int look_for_k3s(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__restart *restart,
	struct k3sup__rotation *rotation)
{
	const bool running = view->sighting.count > 0;

	rotation->alive = running;
	rotation->count = running ? view->sighting.count : 1;
	/* What its status command says of a k3s that the commands have stopped is a hint. */
	if ((running && rotation->done) || (!running && rotation->ours && restart->by == K3SUP_RESTART_COMMANDS))
		return 0;
	return k3sup__window_look(op, node, restart, running, &rotation->alive, &rotation->count);
}

int k3sup__stopping_decide(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, bool owed, struct k3sup__restart *restart,
	struct k3sup__stopping *s)
{
	struct k3sup__rotation *rotation = &s->rotation;
	bool wanted;
	int r;

	rotation->ours = owed;
	if (!s->rotates &&
		(!owed || view->running_error != K3SUP_E_NO_K3S || restart->by == K3SUP_RESTART_NONE || restart->by == K3SUP_RESTART_SIGNAL)) {
		rotation->alive = true;
		return 0;
	}
	r = look_for_k3s(op, node, view, restart, rotation);
	if (r >= 0)
		r = k3sup__rotation_admit(op, node, rotation, restart);
	if (r < 0)
		return r;
	wanted = !rotation->done || rotation->resumed;
	s->window = restart->by != K3SUP_RESTART_NONE && k3sup__rotation_needs_window(rotation);
	s->left = wanted && !rotation->alive && !s->window;
	if (s->left)
		restart->by = K3SUP_RESTART_NONE;
	return 0;
}
