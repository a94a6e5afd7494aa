/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scripted machine: a clock that jumps where everybody sleeps, processes that are entries of a table, and a service manager that does as it is told.
 */
#include "law.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/process.h"
#include "base/sockets.h"
#include "node/identify.h"
#include "process/guard.h"
#include "process/owner.h"

#define SECONDS 1800000000 /* when it begins */
#define FIRST_PID 4194305  /* above every real one (PID_MAX_LIMIT): ours is never signalled */
#define OVERSLEPT 1900     /* ms */
#define UNPACKS_SLOWLY 240000

struct machine *machine;

void machine_new(const struct setup *setup)
{
	machine->setup = *setup;
	machine->boottime_ms = 1000000;
	machine->seconds = SECONDS;
	machine->armed = NEVER;
	machine->boot = 1;
	machine->next_pid = FIRST_PID;
	machine->ever_asked = 0;
	machine->lives_count = machine->starts = machine->leafs = 0;
	machine->running = -1;
	machine->start_at = machine->guard_at = machine->end_at = NEVER;
	machine->stopped = machine->counting = machine->logging = false;
	machine_start();
}

void machine_end(void)
{
	if (machine->running >= 0)
		machine->lives[machine->running].ended = true;
	machine->running = -1;
}

/* A k3s whose file is torn does not come up; its supervisor tries again. */
static void begin_life(void)
{
	unsigned build = node_installed();
	struct life *life = &machine->lives[machine->lives_count];
	const bool counting = machine->counting, logging = machine->logging;

	machine->start_at = NEVER;
	if (build == 0 || machine->lives_count == MOST_LIVES) {
		machine->start_at = machine->boottime_ms + 5000;
		return;
	}
	*life = (struct life){.pid = (int)machine->next_pid++,
		.build = build,
		.boot = machine->boot,
		.start = machine->boottime_ms / 10,
		.up_at = machine->boottime_ms + (build == machine->setup.slow ? UNPACKS_SLOWLY : 0)};
	machine->running = (int)machine->lives_count++;
	machine->stopped = false;
	machine->starts++;
	machine->end_at = build == machine->setup.dies ? machine->boottime_ms + machine->setup.lives : NEVER;
	machine->counting = machine->logging = false; /* what others do is neither cut nor lost */
	node_start_k3s(build);
	machine->counting = counting;
	machine->logging = logging;
}

void machine_tick(void)
{
	if (machine->running >= 0 && machine->end_at <= machine->boottime_ms) {
		machine_end();
		machine->start_at = machine->boottime_ms + machine->setup.pause;
	}
	if (machine->guard_at <= machine->boottime_ms) {
		machine->guard_at = NEVER;
		if (machine->running < 0)
			machine->start_at = machine->boottime_ms;
	}
	if (machine->running < 0 && machine->start_at <= machine->boottime_ms) {
		begin_life();
		machine->publications++;
	}
}

void machine_stop(void)
{
	machine_end();
	machine->start_at = machine->guard_at = NEVER;
	machine->stopped = true;
}

void machine_start(void)
{
	machine->stopped = false;
	if (machine->running < 0)
		begin_life();
}

void machine_wait(int64_t ms)
{
	machine->boottime_ms += ms;
	machine->seconds += ms / 1000;
	machine_tick();
}

void machine_reboot(void)
{
	machine_end();
	machine->boot++;
	machine->boottime_ms = 20000;
	machine->seconds += 60;
	machine->armed = machine->start_at = machine->guard_at = NEVER;
	machine_start();
}

unsigned machine_build(void)
{
	return machine->running < 0 ? 0 : machine->lives[machine->running].build;
}

unsigned machine_wants(void)
{
	return machine->running < 0 && machine->start_at != NEVER ? node_installed() : machine_build();
}

bool machine_forgotten(void)
{
	return machine->running < 0 && !machine->stopped && machine->start_at == NEVER && machine->guard_at == NEVER;
}

/* ---- the clock ---- */

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
time_t __wrap_time(time_t *ret);
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);

static int timer = -1;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	int64_t ms = clock == CLOCK_REALTIME ? machine->seconds * 1000 : machine->boottime_ms;

	*ret = (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
	return 0;
}

time_t __wrap_time(time_t *ret)
{
	if (ret)
		*ret = (time_t)machine->seconds;
	return (time_t)machine->seconds;
}

static void ring(void)
{
	const struct itimerspec now = {.it_value = {.tv_nsec = 1}};

	(void)__real_timerfd_settime(timer, 0, &now, NULL);
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	const struct itimerspec off = {0};

	(void)flags;
	timer = fd;
	machine->armed = new->it_value.tv_sec == 0 && new->it_value.tv_nsec == 0
		? NEVER
		: (int64_t) new->it_value.tv_sec * 1000 + new->it_value.tv_nsec / 1000000;
	if (machine->armed > machine->boottime_ms)
		return __real_timerfd_settime(fd, 0, &off, old);
	ring();
	return 0;
}

/* Where nothing is ready everybody sleeps until the timer is due, and oversleeps: fewer looks, and nothing may depend on when they are. */
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	int ready = __real_poll(fds, n, 0);

	if (ready != 0 || timeout == 0)
		return ready;
	if (timer < 0 || machine->armed == NEVER)
		return __real_poll(fds, n, timeout);
	if (machine->armed > machine->boottime_ms)
		machine_wait(machine->armed - machine->boottime_ms + OVERSLEPT);
	ring();
	return __real_poll(fds, n, -1);
}

/* ---- processes ---- */

static struct life *life_of(const k3sup_process *process)
{
	return (struct life *)(void *)process;
}

static k3sup_process *handle_of(struct life *life)
{
	return (k3sup_process *)(void *)life;
}

k3sup_process *__wrap_k3sup_process_ref(k3sup_process *process);
k3sup_process *__wrap_k3sup_process_unref(k3sup_process *process);
int __wrap_k3sup_process_pidfd(k3sup_process *process);
pid_t __wrap_k3sup__process_pid(const k3sup_process *process);
uint64_t __wrap_k3sup__process_start_time(const k3sup_process *process);
int __wrap_k3sup__process_dirfd(const k3sup_process *process);
bool __wrap_k3sup__process_ended(const k3sup_process *process);
bool __wrap_k3sup__process_same(const k3sup_process *a, const k3sup_process *b);
int __wrap_k3sup__process_exit_status(const k3sup_process *process, int *ret);
int __wrap_k3sup__process_check(const k3sup_process *process);
int __wrap_k3sup__process_signal(const k3sup_process *process, int signo);
int __wrap_k3sup__boot_id(int proc_fd, char ret[static 37]);
int __wrap_k3sup__identify_scan(k3sup_op *op, k3sup_node *node, const struct k3sup__place *installed, struct k3sup__sighting *ret);

k3sup_process *__wrap_k3sup_process_ref(k3sup_process *process)
{
	return process;
}

k3sup_process *__wrap_k3sup_process_unref(k3sup_process *process)
{
	(void)process;
	return NULL;
}

/* Nobody is woken by an end: who waits for one looks again, too. */
int __wrap_k3sup_process_pidfd(k3sup_process *process)
{
	static int fds[2] = {-1, -1};
	int *fd = &fds[life_of(process)->ended];

	if (*fd < 0)
		*fd = eventfd(life_of(process)->ended, EFD_CLOEXEC);
	return *fd;
}

pid_t __wrap_k3sup__process_pid(const k3sup_process *process)
{
	return life_of(process)->pid;
}

uint64_t __wrap_k3sup__process_start_time(const k3sup_process *process)
{
	return (uint64_t)life_of(process)->start;
}

int __wrap_k3sup__process_dirfd(const k3sup_process *process)
{
	(void)process;
	return -1;
}

bool __wrap_k3sup__process_ended(const k3sup_process *process)
{
	return life_of(process)->ended;
}

bool __wrap_k3sup__process_same(const k3sup_process *a, const k3sup_process *b)
{
	return a == b;
}

int __wrap_k3sup__process_exit_status(const k3sup_process *process, int *ret)
{
	(void)process;
	*ret = 0;
	return -ENODATA;
}

int __wrap_k3sup__process_check(const k3sup_process *process)
{
	return life_of(process)->ended ? -ESRCH : 0;
}

int __wrap_k3sup__process_signal(const k3sup_process *process, int signo)
{
	(void)signo;
	if (life_of(process)->ended)
		return -ESRCH;
	(void)point();
	machine_end();
	machine->start_at = machine->boottime_ms + machine->setup.pause;
	machine->publications++;
	(void)point();
	return 0;
}

int __wrap_k3sup__boot_id(int proc_fd, char ret[static 37])
{
	(void)proc_fd;
	(void)snprintf(ret, 37, "00000000-0000-4000-8000-%012x", machine->boot);
	return 0;
}

/* The wrapper: it has the file that is installed, if that is of its build. */
static int still_unpacks(const struct life *life, struct k3sup__candidate *c)
{
	_free_ char *k3s = at(INSTALLED);
	struct stat st;

	c->unpacking = true;
	free(c->exe);
	c->exe = strdup(INSTALLED);
	if (life->build == node_installed() && stat(k3s, &st) == 0) {
		c->exe_dev = st.st_dev;
		c->exe_ino = st.st_ino;
	}
	free(c->data_dir);
	c->data_dir = NULL;
	return c->exe ? 0 : -ENOMEM;
}

static int add_candidate(struct life *life, struct k3sup__candidate *c)
{
	const char *hash = build_hashes[life->build];

	*c = (struct k3sup__candidate){
		.process = handle_of(life),
		.role = K3SUP__ROLE_SERVER,
		.comm = "k3s-server",
		.ppid = 1,
		.exe = k3sup__fmt(DATA_DIR "/data/%s/bin/k3s", hash),
		.keeper = machine->setup.managed ? K3SUP__KEEPER_SYSTEMD : K3SUP__KEEPER_NONE,
		.unit = machine->setup.managed ? strdup("k3s.service") : NULL,
		.unit_main = machine->setup.managed,
		.data_dir = strdup(DATA_DIR),
	};
	memcpy(c->asset_hash, hash, sizeof(c->asset_hash));
	if (machine->boottime_ms < life->up_at)
		return still_unpacks(life, c);
	return c->exe && c->data_dir ? 0 : -ENOMEM;
}

int __wrap_k3sup__identify_scan(k3sup_op *op, k3sup_node *node, const struct k3sup__place *installed, struct k3sup__sighting *ret)
{
	int r;

	(void)op;
	(void)node;
	(void)installed;
	*ret = (struct k3sup__sighting){.passed_over = k3sup__json_array()};
	machine_tick();
	if (machine->running < 0)
		return 0;
	ret->candidates = calloc(1, sizeof(*ret->candidates));
	if (!ret->candidates) {
		k3sup__sighting_clear(ret);
		return -ENOMEM;
	}
	ret->count = 1;
	r = add_candidate(&machine->lives[machine->running], &ret->candidates[0]);
	if (r < 0)
		k3sup__sighting_clear(ret);
	return r;
}

int __wrap_k3sup__listeners_find(const k3sup_process *process, const k3sup_process *worker, struct k3sup__listeners *ret);

/* It serves nothing: what is on the wire is another test's subject. */
int __wrap_k3sup__listeners_find(const k3sup_process *process, const k3sup_process *worker, struct k3sup__listeners *ret)
{
	(void)process;
	(void)worker;
	*ret = (struct k3sup__listeners){0};
	return 0;
}

/* ---- the service manager ---- */

int __wrap_k3sup__service_of(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret);
int __wrap_k3sup__cgroup_shared(k3sup_node *node, const k3sup_process *process);
int __wrap_k3sup__systemd_open(k3sup_op *op, k3sup_node *node, struct k3sup__service *service);
extern const struct k3sup__service_manager __wrap_k3sup__systemd;

static int look(k3sup_op *op, struct k3sup__service *service)
{
	(void)op;
	machine_tick();
	service->main_pid = machine->running < 0 ? 0 : machine->lives[machine->running].pid;
	service->state = machine->running >= 0 ? K3SUP__SERVICE_RUNNING
		: machine->start_at == NEVER   ? K3SUP__SERVICE_STOPPED
					       : K3SUP__SERVICE_PAUSED;
	return 0;
}

/* A job is done by the manager, whatever becomes of who asked for it. */
static int order(k3sup_op *op, const struct k3sup__service *service, enum k3sup__order what)
{
	(void)op;
	(void)service;
	(void)point();
	if (what != K3SUP__ORDER_START) {
		machine_end();
		machine->start_at = NEVER;
	}
	if (what != K3SUP__ORDER_STOP && machine->running < 0)
		machine->start_at = machine->boottime_ms + machine->setup.pause;
	machine->publications++;
	(void)point();
	return 0;
}

static int arm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	(void)op;
	(void)service;
	(void)point();
	if (machine->mutant != GUARD_NOT_ARMED)
		machine->guard_at = machine->boottime_ms + delay_ms;
	(void)point();
	return 0;
}

static int rearm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	if (machine->guard_at == NEVER && machine->mutant != GUARD_NOT_ARMED)
		return k3sup__fail(op, K3SUP_E_GUARD, "the guard does not wait any more");
	return arm(op, service, delay_ms);
}

static int disarm(k3sup_op *op, const struct k3sup__service *service)
{
	bool armed = machine->guard_at != NEVER;

	(void)op;
	(void)service;
	(void)point();
	machine->guard_at = NEVER;
	return armed;
}

static const struct k3sup__guard_way guard = {.arm = arm, .rearm = rearm, .disarm = disarm};
const struct k3sup__service_manager __wrap_k3sup__systemd = {.name = "systemd", .look = look, .order = order, .guard = &guard};

int __wrap_k3sup__service_of(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret)
{
	(void)candidate;
	*ret = K3SUP__SERVICE_NONE;
	ret->node = node;
	ret->respawns = true;
	ret->facts = k3sup__json_object();
	if (!machine->setup.managed) {
		ret->why = strdup("no service manager that could be asked owns it");
		return ret->why ? 0 : -ENOMEM;
	}
	ret->manager = &__wrap_k3sup__systemd;
	ret->name = strdup("k3s.service");
	return ret->name ? look(op, ret) : -ENOMEM;
}

/* By its name, where no k3s runs. */
int __wrap_k3sup__systemd_open(k3sup_op *op, k3sup_node *node, struct k3sup__service *service)
{
	service->node = node;
	service->respawns = true;
	service->facts = k3sup__json_object();
	return machine->setup.managed ? look(op, service) : K3SUP_E_NO_SERVICE;
}

int __wrap_k3sup__cgroup_shared(k3sup_node *node, const k3sup_process *process)
{
	(void)node;
	(void)process;
	return 0;
}
