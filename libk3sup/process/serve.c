/* SPDX-License-Identifier: Apache-2.0 */
#include "process/serve.h"

#include "node/procscan.h"
#include "node/unit.h"
#include "process/guard.h"
#include "process/openrc.h"
#include "process/systemctl.h"

void k3sup__serving_clear(struct k3sup__serving *s)
{
	for (size_t i = 0; i < s->count; i++) {
		k3sup__service_clear(&s->list[i].service);
		k3sup_process_unref(s->list[i].process);
		k3sup_process_unref(s->list[i].worker);
		k3sup_process_unref(s->list[i].keeper);
	}
	s->count = 0;
}

/* Holds a supervise-daemon. That it is one was just seen by its number, and is seen again through the handle. */
static int take_keeper(k3sup_node *node, struct k3sup__served *one)
{
	struct k3sup__stat stat;
	_close_ int dirfd = -1;
	int r = one->service.keeper_pid ? k3sup__proc_open(node->proc_fd, one->service.keeper_pid, &dirfd) : -ESRCH;

	if (r >= 0)
		r = k3sup__stat_read(dirfd, &stat);
	if (r >= 0 && !k3sup__startswith("supervise-daemon", stat.comm))
		r = -ESRCH;
	if (r >= 0)
		r = k3sup__process_new(node->proc_fd, one->service.keeper_pid, dirfd, stat.start_time, &one->keeper);
	if (r >= 0)
		dirfd = -1;
	return r == -ESRCH ? 0 : r;
}

static int add_candidate(k3sup_op *op, struct k3sup__serving *s, const struct k3sup__candidate *c)
{
	struct k3sup__served *one = &s->list[s->count];
	struct k3sup__service service;
	int r;

	if (s->name && (!c->unit || !k3sup__streq(c->unit, s->name)))
		return 0;
	if (s->count >= K3SUP__MOST_SERVED)
		return k3sup__fail(op, K3SUP_E_AMBIGUOUS, "more k3s run than a server and an agent");
	if (s->by && s->count > 0)
		return k3sup__fail(op, K3SUP_E_AMBIGUOUS, "the commands are one k3s's, and a server and an agent run");
	r = s->by ? k3sup__commands_own(op, s->node.node, s->by, c, &service) : k3sup__service_of(op, s->node.node, c, &service);
	if (r < 0)
		return r;
	*one = (struct k3sup__served){.service = service, .process = k3sup_process_ref(c->process), .worker = k3sup_process_ref(c->worker)};
	s->count++;
	r = take_keeper(s->node.node, one);
	if (r < 0)
		return r;
	r = k3sup__cgroup_shared(s->node.node, c->process);
	one->apart = r == 0;
	return r < 0 ? r : 0;
}

int k3sup__serving_scan(k3sup_op *op, struct k3sup__serving *s)
{
	struct k3sup__place installed = K3SUP__PLACE_NONE;
	struct k3sup__sighting sighting = {0};
	int r;

	if (k3sup__installed_find(op, s->node.node, NULL, &installed) < 0)
		k3sup__op_forgive(op); /* what runs can be recognised without it */
	r = k3sup__identify_scan(op, s->node.node, &installed, &sighting);
	for (size_t i = 0; r >= 0 && i < sighting.count; i++)
		r = add_candidate(op, s, &sighting.candidates[i]);
	k3sup__sighting_clear(&sighting);
	k3sup__place_clear(&installed);
	return r < 0 ? r : (int)s->count;
}

/* systemd's where it runs, else OpenRC's. */
static int open_named(k3sup_op *op, k3sup_node *node, struct k3sup__service *service)
{
	int r = k3sup__systemd_open(op, node, service);

	if (r >= 0) {
		service->manager = &k3sup__systemd;
		return r;
	}
	if (r != K3SUP_E_NO_SERVICE || k3sup__op_sentence(op))
		return r;
	return k3sup__openrc_open(op, node, service);
}

static int add_named(k3sup_op *op, struct k3sup__serving *s, const char *name)
{
	struct k3sup__served *one = &s->list[s->count];
	int r;

	*one = (struct k3sup__served){.service = K3SUP__SERVICE_NONE, .apart = true};
	one->service.name = strdup(name);
	r = one->service.name ? open_named(op, s->node.node, &one->service) : -ENOMEM;
	if (r < 0) {
		k3sup__service_clear(&one->service);
		return r;
	}
	s->count++;
	return take_keeper(s->node.node, one);
}

static int add_commands(k3sup_op *op, struct k3sup__serving *s)
{
	struct k3sup__served *one = &s->list[s->count];
	int r;

	/* From a shell on the node itself, a k3s that a command starts is in the cgroup of that shell's session, and so are we; it does not end with us. */
	*one = (struct k3sup__served){.service = K3SUP__SERVICE_NONE, .apart = !k3sup__channel_is_home(s->node.node)};
	r = k3sup__commands_own(op, s->node.node, s->by, NULL, &one->service);
	s->count += r >= 0;
	return r;
}

/* None runs. The services whose files say that they would start one. */
static int add_installed(k3sup_op *op, struct k3sup__serving *s)
{
	struct k3sup__units units = {0};
	k3sup__json *names = k3sup__json_array();
	const char *only = NULL;
	size_t n = 0;
	int openrc = k3sup__openrc_booted(s->node.node), r = openrc < 0 ? openrc : k3sup__units_read(op, s->node.node, &units);

	for (size_t i = 0; r >= 0 && i < units.count; i++) {
		const struct k3sup__unit *u = &units.items[i];

		if (u->manager != (openrc ? K3SUP__MANAGER_OPENRC : K3SUP__MANAGER_SYSTEMD) || u->state != K3SUP__UNIT_LOADED)
			continue;
		k3sup__json_add(names, k3sup__json_str(u->name));
		only = u->name;
		n++;
	}
	if (r >= 0 && n > 1) {
		k3sup__json_set(k3sup__op_evidence(op), "services", k3sup__json_ref(names));
		r = k3sup__fail(op, K3SUP_E_AMBIGUOUS, "no k3s runs, and %zu services could start one: name one of them", n);
	} else if (r >= 0 && n == 0) {
		r = k3sup__fail(op, K3SUP_E_NO_SERVICE, "no k3s runs, and no service that would start one is installed");
	} else if (r >= 0) {
		r = add_named(op, s, only);
	}
	k3sup__json_unref(names);
	k3sup__units_clear(&units);
	return r;
}

int k3sup__serving_find(k3sup_op *op, struct k3sup__serving *s)
{
	int r;

	k3sup__serving_clear(s);
	r = k3sup__serving_scan(op, s);
	if (r != 0)
		return r < 0 ? r : 0;
	if (s->by)
		return add_commands(op, s);
	r = s->name ? add_named(op, s, s->name) : add_installed(op, s);
	if (r == K3SUP_E_NO_SERVICE && !k3sup__op_sentence(op))
		return k3sup__fail(op, r, "there is no service manager here that could be asked about k3s");
	return r;
}

int k3sup__serving_arm(k3sup_op *op, struct k3sup__serving *s)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->count && s->guard_delay_ms > 0; i++) {
		r = k3sup__guard_arm(op, &s->list[i].service, s->guard_delay_ms);
		s->list[i].guarded = r >= 0;
	}
	return r;
}

int k3sup__serving_look(k3sup_op *op, struct k3sup__serving *s)
{
	bool stopped = true;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->count; i++) {
		r = s->list[i].service.manager->look(op, &s->list[i].service);
		stopped = stopped && s->list[i].service.state == K3SUP__SERVICE_STOPPED;
	}
	return r < 0 ? r : stopped;
}

int k3sup__serving_apart(k3sup_op *op, const struct k3sup__serving *s, k3sup_op *proof)
{
	k3sup_process *process;
	bool apart = true;
	int r = 0;

	for (size_t i = 0; i < s->count; i++)
		apart = apart && s->list[i].apart;
	for (uint32_t i = 0; apart && r >= 0 && k3sup_op_process(proof, i, &process) >= 0; i++) {
		r = k3sup__cgroup_shared(s->node.node, process);
		if (r > 0)
			r = k3sup__fail(op, K3SUP_E_SERVICE,
				"the new k3s (process %d) was started in the cgroup of this program and would end with it",
				(int)k3sup__process_pid(process));
		k3sup_process_unref(process);
	}
	return r;
}

void k3sup__serving_report(k3sup_op *op, const struct k3sup__serving *s)
{
	k3sup__json *facts = k3sup__op_facts(op), *all = k3sup__json_array();

	for (size_t i = 0; i < s->count; i++) {
		k3sup__json *one = k3sup__service_json(&s->list[i].service);

		if (s->list[i].guarded) {
			_free_ char *name = k3sup__guard_name(&s->list[i].service);
			k3sup__json *guard = k3sup__json_object();

			k3sup__json_set_str(guard, "name", name);
			k3sup__json_set_int(guard, "delay_ms", s->guard_delay_ms);
			k3sup__json_set(one, "guard", guard);
		}
		k3sup__json_add(all, one);
	}
	k3sup__json_set(facts, "service", s->count == 1 ? k3sup__json_ref(k3sup__json_element(all, 0)) : k3sup__json_null());
	k3sup__json_set(facts, "services", all);
}
