/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service managers behind one interface: who starts k3s, and how it is told to stop, start or restart it. All functions here are for work functions: they run children.
 */
#ifndef K3SUP_PROCESS_SERVICE_H
#define K3SUP_PROCESS_SERVICE_H

#include "node/identify.h"
#include "process/channel.h"

enum k3sup__service_state {
	K3SUP__SERVICE_UNKNOWN,
	K3SUP__SERVICE_STOPPED, /* and it stays so until it is started; "failed" after a clean stop is this, too (k3s up to 2021 ends with 1 on SIGTERM) */
	K3SUP__SERVICE_PAUSED, /* nothing runs, and its manager is about to start it again */
	K3SUP__SERVICE_STOPPING,
	K3SUP__SERVICE_STARTING,
	K3SUP__SERVICE_RUNNING,
};

enum k3sup__order { K3SUP__ORDER_STOP, K3SUP__ORDER_START, K3SUP__ORDER_RESTART };

struct k3sup__commands;

struct k3sup__service {
	const struct k3sup__service_manager *manager; /* NULL: none owns it; why says so */
	struct k3sup__channel channel; /* to its manager's programs; of the caller's commands to what guards them, if there can be such */
	const struct k3sup__commands *commands; /* of the caller; borrowed */
	k3sup_node *node;                       /* borrowed */
	char *name;                             /* "k3s.service", "k3s" */
	char *why;                              /* without a manager: a sentence */
	/* what the last look said */
	enum k3sup__service_state state;
	pid_t main_pid;      /* 0: none */
	uint64_t main_start; /* of commands: its start time, as /proc has it */
	bool respawns;       /* starts k3s again whenever it ends, however it ends */
	bool masked;         /* its manager will not start it */
	bool takes_all;      /* its stop ends whatever is in its cgroup, containers too */
	bool takes_nothing;  /* its stop ends nothing */
	bool gave_up; /* its manager failed to start it, or it ended, and nothing is about to start it again (systemd: "failed", also by start-limit-hit) */
	int64_t restarts;   /* that its manager did by itself; -1: not known */
	int exit_code;      /* how its last main process ended; -1: by a signal, or not known */
	int exit_signal;    /* likewise; 0: by none, or not known */
	pid_t keeper_pid;   /* OpenRC: its supervise-daemon; 0: none runs */
	bool supervised;    /* OpenRC: by supervise-daemon */
	bool can_start;     /* OpenRC: the channel leads out of our namespaces */
	char *setting;      /* "KillMode=control-group": which setting says so */
	k3sup__json *facts; /* what a report says about it */
};
#define K3SUP__SERVICE_NONE ((struct k3sup__service){.channel = K3SUP__CHANNEL_NONE, .restarts = -1, .exit_code = -1})

/* Who starts it again while it is stopped by us. process/guard.h says what they do. */
struct k3sup__guard_way {
	/* NULL: it can be, as far as can be seen beforehand */
	int (*possible)(k3sup_op *op, const struct k3sup__service *service);
	int (*arm)(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms);
	int (*rearm)(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms);
	int (*release)(k3sup_op *op, const struct k3sup__service *service); /* NULL: it does not watch us */
	int (*disarm)(k3sup_op *op, const struct k3sup__service *service);
};

struct k3sup__service_manager {
	const char *name; /* in reports */
	bool tells_end;   /* a look says gave_up, restarts and how it ended */
	bool halves; /* has no restart of its own: that is a stop and a start; and its order is over when it returns, though nothing need have come of it */
	/* What does it say about this service now? Fills in what the last look said. 0, or why it could not be asked. */
	int (*look)(k3sup_op *op, struct k3sup__service *service);
	/*
	 * Gives the order, which goes on without us, and does not wait for ever until it is carried out. 0, or K3SUP_E_SERVICE with what the manager said.
	 */
	int (*order)(k3sup_op *op, const struct k3sup__service *service, enum k3sup__order order);
	/* Can orders be given from where we are? NULL: if it answers, they can. Asked before anything is changed; after a look. */
	int (*able)(k3sup_op *op, const struct k3sup__service *service);
	/* Is what it started now neither in our control group nor in our mount namespace? NULL: it is not our descendant anyway. After a look. */
	int (*apart)(k3sup_op *op, const struct k3sup__service *service);
	const struct k3sup__guard_way *guard;
	bool respawner; /* it starts k3s again after a signal, with less ado than by an order */
};

extern const struct k3sup__service_manager k3sup__systemd, k3sup__openrc, k3sup__by_commands;
extern const struct k3sup__guard_way k3sup__guard_timer; /* of systemd */
extern const struct k3sup__guard_way k3sup__guard_commands;

void k3sup__service_clear(struct k3sup__service *service);
const char *k3sup__service_state_name(enum k3sup__service_state state);
k3sup__json *k3sup__service_json(const struct k3sup__service *service);

/* 1: this manager owns it, and was looked at; 0: not; -errno. On 0 service->why may say why not. */
int k3sup__systemd_owns(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret) _must_check_;

int k3sup__openrc_owns(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret) _must_check_;

#endif
