/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start guard of the caller's commands where there is no systemd: a guardian that runs the start command as we would, where we are. So it exists only where that is the node itself.
 */
#include "process/guard.h"

#include "process/ask.h"
#include "process/commands.h"
#include "process/guardian.h"

/*
 * status, start, the number and the start time of the k3s that is to stop. We may have been killed while it is ending: that it runs still says nothing then, so it is waited for, try after
 * try. Fields 3 and 22 of /proc/PID/stat, behind the name: its state and its start.
 */
static const char pays[] = "if [ \"$3\" ] && read -r stat <\"/proc/$3/stat\"; then\n"
			   "set -- \"$1\" \"$2\" \"$3\" \"$4\" ${stat##*) }\n"
			   "[ \"$5\" = Z ] || [ \"${24}\" != \"$4\" ] || exit 1\n"
			   "fi 2>/dev/null\n"
			   "/bin/sh -c \"$1\" && exit\n"
			   "exec /bin/sh -c \"$2\"\n";

struct pledge {
	char *pid, *start;
	const char *up[9];
	struct k3sup__guardian guardian;
};

static void pledge_clear(struct pledge *p)
{
	free(p->pid);
	free(p->start);
}

static int prepare(const struct k3sup__service *service, struct pledge *p)
{
	static const char *const nothing[] = {"/bin/false", NULL}; /* the stop command is ours to run */
	static const char *const env[] = {K3SUP__ASK_PATH, "K3SUP_ROOT=/", NULL};

	*p = (struct pledge){.pid = service->main_pid ? k3sup__fmt("%d", (int)service->main_pid) : strdup(""),
		.start = k3sup__fmt("%llu", (unsigned long long)service->main_start)};
	if (!p->pid || !p->start)
		return -ENOMEM;
	memcpy(p->up,
		(const char *const[]){"/bin/sh", "-c", pays, "sh", service->commands->status, service->commands->start, p->pid, p->start, NULL},
		sizeof(p->up));
	p->guardian = (struct k3sup__guardian){
		.node = service->node, .channel = &service->channel, .service = service->name, .down = nothing, .up = p->up, .up_again = p->up, .env = env};
	return 0;
}

static int possible(k3sup_op *op, const struct k3sup__service *service)
{
	if (service->channel.host)
		return k3sup__guardian_possible(op, service->node);
	return k3sup__fail(op, K3SUP_E_GUARD,
		"nobody would start k3s again if this program ended between the stop command and the start command: what outlives a "
		"container is not where "
		"its commands are");
}

static int arm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	_cleanup_(pledge_clear) struct pledge p = {.pid = NULL};
	int r = possible(op, service);

	if (r >= 0)
		r = prepare(service, &p);
	return r < 0 ? r : k3sup__guardian_arm(op, &p.guardian, delay_ms);
}

static int rearm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	_cleanup_(pledge_clear) struct pledge p = {.pid = NULL};
	int r = prepare(service, &p);

	return r < 0 ? r : k3sup__guardian_rearm(op, &p.guardian, delay_ms);
}

static int release(k3sup_op *op, const struct k3sup__service *service)
{
	_cleanup_(pledge_clear) struct pledge p = {.pid = NULL};
	int r = prepare(service, &p);

	return r < 0 ? r : k3sup__guardian_release(op, &p.guardian);
}

static int disarm(k3sup_op *op, const struct k3sup__service *service)
{
	_cleanup_(pledge_clear) struct pledge p = {.pid = NULL};
	int r;

	if (!service->channel.host) /* there can be none */
		return 0;
	r = prepare(service, &p);
	return r < 0 ? r : k3sup__guardian_disarm(op, &p.guardian);
}

const struct k3sup__guard_way k3sup__guard_commands = {.possible = possible, .arm = arm, .rearm = rearm, .release = release, .disarm = disarm};
