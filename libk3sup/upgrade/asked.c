/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/asked.h"

#include "process/running.h"
#include "upgrade/upgrade.h"

static bool is_bad(const struct k3sup_upgrade_opts *o)
{
	return o->rollback > K3SUP_ROLLBACK_NEVER || o->reserved || o->reserved3 || o->reserved4 || o->reserved5;
}

/* Which file that is the node says, and not the caller. */
static int take_backup(const struct k3sup_upgrade_opts *o, struct k3sup__source *ret)
{
	if (o->payload || (o->flags & (K3SUP_UPGRADE_PAYLOAD_FD | K3SUP_UPGRADE_RUN_VERSION)) || o->sums || o->signature || o->key ||
		o->server_version || o->keep_backups || (o->images && o->images[0]))
		return -EINVAL;
	return k3sup__source_take_backup(o->sha256, o->expect_version, ret);
}

static int take_files(const struct k3sup_upgrade_opts *o, struct k3sup__asked *ret)
{
	const struct k3sup__given_terms terms = {o->sha256, o->sums, o->signature, o->key, o->expect_version, o->server_version};
	int r = k3sup__upgrade_take_images(o, &ret->images);

	if (r < 0)
		return r;
	if (o->flags & K3SUP_UPGRADE_ROLLBACK)
		return take_backup(o, &ret->source);
	return k3sup__source_take(o->payload, o->flags & K3SUP_UPGRADE_PAYLOAD_FD, o->payload_fd, &terms, &ret->source);
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

void k3sup__asked_clear(struct k3sup__asked *asked)
{
	k3sup__source_clear(&asked->source);
	k3sup__images_clear(&asked->images);
	k3sup__hooks_clear(&asked->hooks);
	k3sup__restart_clear(&asked->restart);
	k3sup__stopping_clear(&asked->stopping);
}

int k3sup__asked_take(const struct k3sup_upgrade_opts *o, struct k3sup__asked *ret)
{
	struct k3sup__asked asked = {.source = {.fd = -1}, .images = K3SUP__IMAGES_NONE, .flags = o->flags};
	int r = is_bad(o) ? -EINVAL : k3sup__readiness_check(o->probe, o->health);

	if (r >= 0)
		r = k3sup__hooks_take(o->before_write, o->before_stop, &asked.hooks);
	if (r >= 0)
		r = take_restart(o, &asked.restart);
	if (r >= 0)
		r = k3sup__stopping_take(o, &asked.stopping);
	if (r >= 0)
		r = take_files(o, &asked);
	if (r < 0) {
		k3sup__asked_clear(&asked);
		return r;
	}
	asked.source.run_version = o->flags & K3SUP_UPGRADE_RUN_VERSION;
	asked.source.check_archive = true; /* a restart takes longer than a hash */
	*ret = asked;
	return 0;
}
