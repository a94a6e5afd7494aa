/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What systemd says of services whose k3s does not run: that one was stopped, that one failed and will not be started again (its start limit, a RestartPreventExitStatus=) and that
 * one is about to be started all look alike in files and processes.
 */
#include "upgrade/view.h"

#include "process/systemctl.h"

static int ask(k3sup_op *op, k3sup_node *node, const struct k3sup__unit *unit, k3sup__json **ret)
{
	struct k3sup__service service = K3SUP__SERVICE_NONE;
	int r;

	service.name = strdup(unit->name);
	r = service.name ? k3sup__systemd_open(op, node, &service) : -ENOMEM;
	if (r >= 0) {
		*ret = k3sup__json_copy(service.facts);
		k3sup__json_set_str(*ret, "state", k3sup__service_state_name(service.state));
		k3sup__json_set_bool(*ret, "gave_up", service.gave_up);
	}
	k3sup__service_clear(&service);
	if (r >= 0 || r == -ENOMEM || k3sup__op_checkpoint(op) < 0)
		return r;
	/* Nobody to be asked from here: from files it is known as well as it can be. */
	k3sup__op_forgive(op);
	return 0;
}

int k3sup__view_ask_manager(k3sup_op *op, k3sup_node *node, struct k3sup__view *view)
{
	k3sup__json *all = k3sup__json_object();
	int r = 0;

	for (size_t i = 0; r >= 0 && view->running_error == K3SUP_E_NO_K3S && i < view->units.count; i++) {
		const struct k3sup__unit *unit = &view->units.items[i];
		k3sup__json *said = NULL;

		if (unit->manager != K3SUP__MANAGER_SYSTEMD || unit->state != K3SUP__UNIT_LOADED)
			continue;
		r = ask(op, node, unit, &said);
		if (said)
			k3sup__json_set(all, unit->name, said);
	}
	view->managed = all;
	return r < 0 ? r : 0;
}
