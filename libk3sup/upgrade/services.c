/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/services.h"

#include <signal.h>

#include "node/warn.h"
#include "process/guard.h"
#include "process/serve.h"
#include "process/signal.h"

static int own(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, const struct k3sup__restart *restart,
	struct k3sup__service *ret)
{
	int r;

	if (restart->by != K3SUP_RESTART_COMMANDS)
		return k3sup__service_of(op, node, candidate, ret);
	r = k3sup__commands_own(op, node, &restart->commands, candidate, ret);
	if (r < 0)
		*ret = K3SUP__SERVICE_NONE;
	return r;
}

int k3sup__services_add(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, const struct k3sup__restart *restart,
	struct k3sup__services *list)
{
	static const enum k3sup__how hows[] = {
		[K3SUP_RESTART_AUTO] = K3SUP__HOW_AUTO, [K3SUP_RESTART_SIGNAL] = K3SUP__HOW_SIGNAL, [K3SUP_RESTART_SERVICE] = K3SUP__HOW_SERVICE, [K3SUP_RESTART_COMMANDS] = K3SUP__HOW_SERVICE};
	struct k3sup__owned *owned = &list->list[list->count];
	int64_t changed = 0;
	int r;

	if (list->count >= K3SUP__MOST_SERVICES)
		return K3SUP_E_INTERNAL;
	r = own(op, node, candidate, restart, &owned->service);
	if (r < 0)
		return r;
	owned->process = k3sup_process_ref(candidate->process);
	owned->target = k3sup_process_ref(k3sup__signal_target(candidate));
	list->count++;
	r = k3sup__cgroup_shared(node, candidate->process);
	if (r < 0)
		return r;
	owned->apart = r == 0;
	if (k3sup__json_as_i64(k3sup__json_member(owned->service.facts, "changed_on_disk"), &changed) && changed)
		k3sup__warn(op, "%s was changed on disk; systemd goes on with what it has loaded until `systemctl daemon-reload`",
			owned->service.name);
	r = k3sup__service_admit(op, node, &owned->service, owned->process, hows[restart->by], &owned->how);
	if (r < 0 || restart->by != K3SUP_RESTART_COMMANDS)
		return r;
	if (list->count > 1)
		return k3sup__fail(op, K3SUP_E_AMBIGUOUS, "the commands are one k3s's, and a server and an agent would have to restart");
	return restart->guard_delay_ms > 0 ? k3sup__guard_possible(op, &owned->service) : 0;
}

int k3sup__services_add_stopped(k3sup_op *op, k3sup_node *node, const struct k3sup__restart *restart, struct k3sup__services *list)
{
	struct k3sup__serving serving = {.node.node = node, .by = restart->by == K3SUP_RESTART_COMMANDS ? &restart->commands : NULL};
	int r = k3sup__serving_find(op, &serving);

	for (size_t i = 0; r >= 0 && i < serving.count && list->count < K3SUP__MOST_SERVICES; i++) {
		struct k3sup__served *one = &serving.list[i];

		list->list[list->count++] = (struct k3sup__owned){.service = one->service, .how = K3SUP__HOW_SERVICE, .apart = one->apart};
		one->service = K3SUP__SERVICE_NONE;
	}
	k3sup__serving_clear(&serving);
	return r;
}

void k3sup__services_clear(struct k3sup__services *list)
{
	for (size_t i = 0; i < list->count; i++) {
		k3sup__service_clear(&list->list[i].service);
		k3sup_process_unref(list->list[i].process);
		k3sup_process_unref(list->list[i].target);
	}
	list->count = 0;
}

void k3sup__services_report(k3sup_op *op, const struct k3sup__services *list)
{
	static const char *const hows[] = {"auto", "service", "signal"};
	k3sup__json *facts = k3sup__op_facts(op), *all = k3sup__json_array();

	for (size_t i = 0; i < list->count; i++) {
		k3sup__json *one = k3sup__service_json(&list->list[i].service);

		k3sup__json_set_str(one, "restarted_by", list->list[i].service.commands ? "commands" : hows[list->list[i].how]);
		k3sup__json_add(all, one);
	}
	k3sup__json_set(facts, "service", list->count == 1 ? k3sup__json_ref(k3sup__json_element(all, 0)) : k3sup__json_null());
	k3sup__json_set(facts, "services", all);
}

int k3sup__services_restart(k3sup_op *op, k3sup_node *node, const struct k3sup__owned *owned, uint32_t restart)
{
	const struct k3sup__service *s = &owned->service;
	int r;

	if (owned->how == K3SUP__HOW_SERVICE) {
		r = s->manager->order(op, s, K3SUP__ORDER_RESTART);
		if (r >= 0)
			k3sup__log(op, K3SUP_LOG_INFO, "%s was told to restart %s", s->manager->name, s->name);
		if (r != K3SUP_E_SERVICE || restart != K3SUP_RESTART_AUTO || !s->respawns)
			return r < 0 ? r : 1;
		k3sup__warn(op, "%s", k3sup__op_sentence(op));
		k3sup__op_forgive(op);
	}
	return k3sup__signal_send(op, node, owned->target, SIGTERM);
}

int k3sup__services_apart(k3sup_op *op, const struct k3sup__services *list, k3sup_op *proof)
{
	k3sup_process *process;
	bool apart = list->count > 0;
	int r = 0;

	for (size_t i = 0; i < list->count; i++)
		apart &= list->list[i].apart;
	for (uint32_t i = 0; apart && r >= 0 && k3sup_op_process(proof, i, &process) >= 0; i++) {
		r = k3sup__cgroup_shared(k3sup__op_node(op), process);
		if (r > 0)
			r = k3sup__fail(op, K3SUP_E_SERVICE,
				"the new k3s (process %d) was started in the cgroup of this program and would end with it",
				(int)k3sup__process_pid(process));
		k3sup_process_unref(process);
	}
	return r;
}
