/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the caller of an upgrade asks for: taken from the options, before there is an operation.
 */
#ifndef K3SUP_UPGRADE_ASKED_H
#define K3SUP_UPGRADE_ASKED_H

#include "swap/images.h"
#include "swap/swap.h"
#include "upgrade/hooks.h"
#include "upgrade/services.h"
#include "upgrade/stopping.h"

struct k3sup__asked {
	struct k3sup__source source;
	struct k3sup__images images;
	struct k3sup__hooks hooks;
	uint32_t flags;
	struct k3sup__restart restart;
	struct k3sup__stopping stopping;
};

/* opts: whole, as k3sup__opts() leaves them. 0, -EINVAL, -ENOMEM; nothing is to be cleared then. */
int k3sup__asked_take(const struct k3sup_upgrade_opts *opts, struct k3sup__asked *ret) _must_check_;
void k3sup__asked_clear(struct k3sup__asked *asked);

#endif
