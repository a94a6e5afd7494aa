/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenRC. It has no process that carries out orders: its rc-service does, and whatever that starts belongs to whoever called it. So it is called by an outsider (guardian.h), never
 * by us. Where a signal does, its supervise-daemon is left alone and starts k3s again itself.
 *
 * Orders leave other services alone: a stop does not stop those that need k3s, which nobody would start again.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>

#include "node/initscript.h"
#include "node/procscan.h"
#include "node/unitof.h"
#include "process/guardian.h"
#include "process/openrc.h"
#include "process/owner.h"

static k3sup__json *facts_of(const struct k3sup__unit *unit)
{
	k3sup__json *facts = k3sup__json_object();

	k3sup__json_set_str(facts, "restart", unit->restart);
	k3sup__json_set(facts, "supervisor", unit->supervisor ? k3sup__json_str(unit->supervisor) : k3sup__json_null());
	k3sup__json_set_str(facts, "fragment", unit->files.count ? unit->files.items[0] : NULL);
	return facts;
}

/* ---- looking ---- */

/* Does some rc-service work on it just now? OpenRC holds this lock meanwhile (librc, svc_lock), and the kernel gives it back when that is killed. */
static int is_busy(const struct k3sup__service *service, bool *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("/run/openrc/exclusive/%s", service->name);
	_close_ int fd = -1;
	int r = path ? k3sup__root_find(NULL, &service->node->root, path, service->node->trust_flags, &place) : -ENOMEM;

	*ret = false;
	if (r < 0 || place.fd < 0)
		return r == -ENOMEM || r == -EMFILE || r == -ENFILE ? r : 0;
	fd = k3sup__place_open(&place, O_RDONLY);
	if (fd >= 0)
		*ret = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	return 0;
}

static int take_unit(k3sup_op *op, struct k3sup__service *service, const struct k3sup__unit *unit)
{
	if (unit->state != K3SUP__UNIT_LOADED)
		return k3sup__fail(op, K3SUP_E_NO_SERVICE, "the init script %s cannot be read: %s", service->name, unit->why);
	k3sup__json_unref(service->facts);
	service->facts = facts_of(unit);
	service->takes_all = unit->cgroup_cleanup;
	service->supervised = unit->supervisor && k3sup__streq(unit->supervisor, "supervise-daemon");
	if (!service->setting && !(service->setting = strdup("rc_cgroup_cleanup=yes")))
		return -ENOMEM;
	return 0;
}

static enum k3sup__service_state state_of(pid_t daemon, pid_t child, bool busy)
{
	if (daemon)
		return child ? K3SUP__SERVICE_RUNNING : busy ? K3SUP__SERVICE_STARTING : K3SUP__SERVICE_PAUSED;
	return busy ? K3SUP__SERVICE_STARTING : K3SUP__SERVICE_STOPPED;
}

static int look(k3sup_op *op, struct k3sup__service *service)
{
	struct k3sup__unit unit = {0};
	bool busy = false;
	int r = k3sup__initscript_read(op, service->node, service->name, &unit);

	if (r == -ENOENT)
		return k3sup__fail(op, K3SUP_E_NO_SERVICE, "there is no init script %s/%s", K3SUP__INIT_DIR, service->name);
	if (r >= 0)
		r = take_unit(op, service, &unit);
	k3sup__unit_clear(&unit);
	service->main_pid = 0;
	if (r >= 0)
		r = is_busy(service, &busy);
	if (r >= 0)
		r = k3sup__openrc_daemon(service->node, service->name, &service->keeper_pid);
	if (r >= 0 && service->keeper_pid)
		r = k3sup__proc_child(service->node->proc_fd, service->keeper_pid, &service->main_pid);
	if (r >= 0)
		service->state = state_of(service->keeper_pid, service->main_pid, busy);
	service->respawns = service->keeper_pid || service->supervised;
	return r;
}

/* ---- ordering ---- */

struct orders {
	const char *down[5], *up[4], *up_again[5];
	struct k3sup__guardian guardian;
};

static int find_program(k3sup_op *op, const struct k3sup__service *service, const char *const *paths, const char **ret)
{
	int r = k3sup__channel_find(op, &service->channel, paths, ret);

	return r == -ENOENT ? k3sup__fail(op, K3SUP_E_NO_SERVICE, "there is no %s on this node", strrchr(paths[0], '/') + 1) : r;
}

/* Also what rc-service executes, by names of its own, must be what root put there. */
static int find_programs(k3sup_op *op, const struct k3sup__service *service, const char **ret)
{
	static const char *const rc_service[] = {"/sbin/rc-service", "/usr/sbin/rc-service", "/bin/rc-service", "/usr/bin/rc-service", NULL},
				 *const run[] = {"/sbin/openrc-run", "/usr/sbin/openrc-run", NULL},
				 *const supervisor[] = {"/sbin/supervise-daemon", "/usr/sbin/supervise-daemon", "/bin/supervise-daemon",
					 "/usr/bin/supervise-daemon", NULL};
	const char *ignored;
	int r = find_program(op, service, run, &ignored);

	if (r >= 0)
		r = find_program(op, service, supervisor, &ignored);
	return r < 0 ? r : find_program(op, service, rc_service, ret);
}

static int prepare(k3sup_op *op, const struct k3sup__service *service, struct orders *o)
{
	const char *program;
	int r = find_programs(op, service, &program);

	if (r < 0)
		return r;
	*o = (struct orders){.down = {program, "--nodeps", service->name, "stop", NULL},
		.up = {program, service->name, "start", NULL},
		.up_again = {program, "--nodeps", service->name, "start", NULL}};
	o->guardian = (struct k3sup__guardian){
		.node = service->node, .channel = &service->channel, .service = service->name, .down = o->down, .up = o->up, .up_again = o->up_again};
	return 0;
}

static int order(k3sup_op *op, const struct k3sup__service *service, enum k3sup__order order)
{
	struct orders o;
	int r = prepare(op, service, &o);

	return r < 0 ? r : k3sup__guardian_order(op, &o.guardian, order);
}

/* Could it be told, and would it be well? Asked before anything is changed. */
static int able(k3sup_op *op, const struct k3sup__service *service)
{
	struct orders o;
	int r = service->can_start ? prepare(op, service, &o) : K3SUP_E_CONFINED;

	if (r == K3SUP_E_CONFINED)
		return k3sup__fail(op, r,
			"what this program starts would be in its own mount namespace: process 1's cannot be entered, or has another root");
	if (r >= 0)
		r = k3sup__guardian_possible(op, service->node);
	if (r >= 0 && !service->supervised)
		r = k3sup__fail(op, K3SUP_E_NOT_SUPERVISED, "no supervise-daemon looks after %s", service->name);
	return r;
}

/* The new supervise-daemon, too: k3s leaves its group on some systems, and that one would not. */
static int apart(k3sup_op *op, const struct k3sup__service *service)
{
	struct orders o;
	int r = prepare(op, service, &o);

	if (r >= 0 && service->keeper_pid)
		r = k3sup__guardian_is_outside(op, &o.guardian, service->keeper_pid);
	if (r != K3SUP_E_CONFINED)
		return r;
	k3sup__op_forgive(op);
	return k3sup__fail(op, K3SUP_E_SERVICE,
		"the new supervise-daemon of %s (process %d) is in the control group or mount namespace of this program", service->name,
		(int)service->keeper_pid);
}

/* ---- the guard ---- */

static int arm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	struct orders o;
	int r = prepare(op, service, &o);

	return r < 0 ? r : k3sup__guardian_arm(op, &o.guardian, delay_ms);
}

static int rearm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	struct orders o;
	int r = prepare(op, service, &o);

	return r < 0 ? r : k3sup__guardian_rearm(op, &o.guardian, delay_ms);
}

static int release(k3sup_op *op, const struct k3sup__service *service)
{
	struct orders o;
	int r = prepare(op, service, &o);

	return r < 0 ? r : k3sup__guardian_release(op, &o.guardian);
}

static int disarm(k3sup_op *op, const struct k3sup__service *service)
{
	struct orders o;
	int r = prepare(op, service, &o);

	return r < 0 ? r : k3sup__guardian_disarm(op, &o.guardian);
}

static const struct k3sup__guard_way guard = {.arm = arm, .rearm = rearm, .release = release, .disarm = disarm};

const struct k3sup__service_manager k3sup__openrc = {
	.name = "openrc", .look = look, .order = order, .able = able, .apart = apart, .guard = &guard, .respawner = true};

/* ---- whose is it? ---- */

static int attach(k3sup_op *op, k3sup_node *node, struct k3sup__service *service)
{
	int r;

	service->node = node;
	r = look(op, service);
	if (r >= 0)
		r = k3sup__guardian_channel(op, node, &service->channel);
	if (r < 0)
		return r;
	service->can_start = r > 0;
	service->manager = &k3sup__openrc;
	return 0;
}

int k3sup__openrc_booted(k3sup_node *node)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &node->root, "/run/openrc/softlevel", node->trust_flags, &place);

	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
		return r;
	return r >= 0 && place.fd >= 0;
}

int k3sup__openrc_open(k3sup_op *op, k3sup_node *node, struct k3sup__service *service)
{
	int r = k3sup__openrc_booted(node);

	if (r == 0)
		return K3SUP_E_NO_SERVICE;
	return r < 0 ? r : attach(op, node, service);
}

int k3sup__openrc_owns(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret)
{
	int r;

	if (candidate->keeper != K3SUP__KEEPER_OPENRC || !candidate->unit_main)
		return 0;
	k3sup__service_clear(ret);
	ret->name = strdup(candidate->unit);
	if (!ret->name)
		return -ENOMEM;
	r = attach(op, node, ret);
	if (r < 0)
		return r;
	ret->main_pid = k3sup__process_pid(candidate->process);
	if (!ret->keeper_pid) /* start-stop-daemon started it */
		ret->state = K3SUP__SERVICE_RUNNING;
	return 1;
}
