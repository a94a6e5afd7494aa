/* SPDX-License-Identifier: Apache-2.0 */
#include "process/guard.h"

char *k3sup__guard_name(const struct k3sup__service *service)
{
	return k3sup__fmt("k3sup-guard-%.*s", (int)strcspn(service->name, "."), service->name);
}

int k3sup__guard_possible(k3sup_op *op, const struct k3sup__service *service)
{
	return service->manager->guard->possible ? service->manager->guard->possible(op, service) : 0;
}

int k3sup__guard_arm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	return service->manager->guard->arm(op, service, delay_ms);
}

int k3sup__guard_rearm(k3sup_op *op, struct k3sup__service *service, int64_t delay_ms)
{
	int r = service->manager->guard->rearm(op, service, delay_ms);

	/* Only now: nobody could have told us between a look and the guard's new time. */
	if (r >= 0)
		r = service->manager->look(op, service);
	if (r >= 0 && service->state != K3SUP__SERVICE_STOPPED)
		return k3sup__fail(op, K3SUP_E_GUARD, "%s was started by somebody else: it is %s", service->name,
			k3sup__service_state_name(service->state));
	return r;
}

int k3sup__guard_release(k3sup_op *op, const struct k3sup__service *service)
{
	return service->manager->guard->release ? service->manager->guard->release(op, service) : 0;
}

int k3sup__guard_disarm(k3sup_op *op, const struct k3sup__service *service)
{
	return service->manager->guard->disarm(op, service);
}
