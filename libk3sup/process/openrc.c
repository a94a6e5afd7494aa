/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenRC. Its restart is a stop and a start that its script does, and that nobody finishes if the script is killed halfway (with the container it was called from, say); in a container
 * the new supervise-daemon would be ours, with our cgroup and mounts. So it is not called: the k3s is told to end, and the supervise-daemon that runs starts it again.
 */
#include "process/owner.h"

#include "node/initscript.h"

static k3sup__json *facts_of(const struct k3sup__unit *unit)
{
	k3sup__json *facts = k3sup__json_object();

	k3sup__json_set_str(facts, "restart", unit->restart);
	k3sup__json_set(facts, "supervisor", unit->supervisor ? k3sup__json_str(unit->supervisor) : k3sup__json_null());
	k3sup__json_set_str(facts, "fragment", unit->files.count ? unit->files.items[0] : NULL);
	return facts;
}

static int look(k3sup_op *op, struct k3sup__service *service)
{
	struct k3sup__unit unit = {0};
	int r = k3sup__initscript_read(op, service->node, service->name, &unit);

	if (r == -ENOENT)
		return k3sup__fail(op, K3SUP_E_NO_SERVICE, "there is no init script %s/%s", K3SUP__INIT_DIR, service->name);
	if (r < 0)
		return r;
	if (unit.state == K3SUP__UNIT_LOADED) {
		k3sup__json_unref(service->facts);
		service->facts = facts_of(&unit);
		service->state = service->main_pid ? K3SUP__SERVICE_RUNNING : K3SUP__SERVICE_UNKNOWN;
	} else {
		r = k3sup__fail(op, K3SUP_E_NO_SERVICE, "the init script %s cannot be read: %s", service->name, unit.why);
	}
	k3sup__unit_clear(&unit);
	return r;
}

const struct k3sup__service_manager k3sup__openrc = {.name = "openrc", .look = look};

int k3sup__openrc_owns(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret)
{
	int r;

	if (candidate->keeper != K3SUP__KEEPER_OPENRC || !candidate->unit_main)
		return 0;
	k3sup__service_clear(ret);
	ret->node = node;
	ret->name = strdup(candidate->unit);
	if (!ret->name)
		return -ENOMEM;
	ret->main_pid = k3sup__process_pid(candidate->process);
	r = look(op, ret);
	if (r < 0)
		return r;
	ret->manager = &k3sup__openrc;
	return 1;
}
