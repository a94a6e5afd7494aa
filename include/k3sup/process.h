/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes: a handle that cannot become somebody else, the signal through it, and the two waits.
 */
#ifndef K3SUP_PROCESS_H
#define K3SUP_PROCESS_H

#include <k3sup/api.h>

struct k3sup_signal_opts {
	uint32_t struct_size;
	uint32_t flags;         /* 0 */
	k3sup_process *process; /* whom */
	const char *reserved;   /* NULL */
	int32_t signo;          /* 0: SIGTERM */
	uint32_t reserved2;     /* 0 */
};

struct k3sup_wait_exit_opts {
	uint32_t struct_size;
	uint32_t flags;         /* 0 */
	int64_t timeout_ms;     /* CLOCK_BOOTTIME; 0 or below: for ever */
	k3sup_process *process; /* whose end */
	const char *reserved;   /* NULL */
};

/* probe: how a k3s that runs and stays is asked whether it is ready */
#define K3SUP_PROBE_AUTO 0u /* what its role offers: a server as supervisor, and its kubelet unless that is disabled; an agent's kubelet */
#define K3SUP_PROBE_KUBELET 1u    /* http://127.0.0.1:10248/healthz */
#define K3SUP_PROBE_SUPERVISOR 2u /* /ping of the server's own port, over TLS that the node's own authority vouches for */
#define K3SUP_PROBE_APISERVER 3u  /* /readyz, as the node's own admin; on an agent as its kubelet, through its load-balancer */
#define K3SUP_PROBE_NONE 4u       /* running and staying is enough */

struct k3sup_wait_running_opts {
	uint32_t struct_size;
	uint32_t flags;          /* 0 */
	int64_t timeout_ms;      /* CLOCK_BOOTTIME; 0: 900000, below 0: for ever */
	int64_t stable_ms;       /* how long one and the same process must have stayed; 0: 20000, below 0: being there once is enough */
	k3sup_process *previous; /* NULL, or a process that does not count */
	const char *asset_hash;  /* the wanted build's H, 64 hex digits; NULL: any build */
	const char *health;      /* NULL, or a command for /bin/sh that ends with 0 if all is well; it runs as we do, outside the root */
	const char *reserved;    /* NULL */
	uint32_t probe;          /* K3SUP_PROBE_* */
	uint32_t reserved2;      /* 0 */
};

/* k3sup_service_opts.action */
#define K3SUP_SERVICE_STATUS 0u
#define K3SUP_SERVICE_STOP 1u
#define K3SUP_SERVICE_START 2u
#define K3SUP_SERVICE_RESTART 3u

struct k3sup_service_opts {
	uint32_t struct_size;
	uint32_t flags;       /* 0 */
	int64_t timeout_ms;   /* CLOCK_BOOTTIME; 0: 900000, below 0: for ever */
	int64_t wait_lock_ms; /* how long to wait for the node's lock; 0: not at all, below 0: as long as timeout_ms allows */
	int64_t stable_ms;    /* start, restart: how long the new k3s must have stayed; 0: 20000, below 0: being there once is enough */
	int64_t guard_delay_ms; /* stop (and a restart in two halves): when the start guard starts it again; 0: 30000, below 0: there is none */
	const char *name;       /* "k3s.service"; NULL: whatever runs k3s, or else the one that is installed */
	const char *reserved;       /* NULL */
	uint32_t action;            /* K3SUP_SERVICE_* */
	uint32_t reserved2;         /* 0 */
	const char *stop_command;   /* NULL, or these three commands for /bin/sh stand for the service, and name is NULL */
	const char *start_command;  /* has to return once k3s is started; it does nothing where k3s runs */
	const char *status_command; /* ends with 0 if k3s runs, with 3 if it is stopped for good, else if that cannot be told */
	const char *reserved3;      /* NULL */
};

K3SUP_BEGIN_DECLS

/** k3sup_process_ref() - take one more reference. NULL is fine. Since: 0.1 */
K3SUP_API k3sup_process *k3sup_process_ref(k3sup_process *process);

/** k3sup_process_unref() - give a reference back; always returns NULL. The last one closes the pidfd. Since: 0.1 */
K3SUP_API k3sup_process *k3sup_process_unref(k3sup_process *process);

/**
 * k3sup_process_info() - what was seen when it was identified: boot_id, pid_ns, pid, start_time (clock ticks since boot), role, comm, exe, asset_hash, ...
 *
 * (boot_id, pid_ns, pid, start_time) together name a process for good; a pid alone does not.
 * Ownership: the handle's. Threads: any. Since: 0.1
 */
K3SUP_API k3sup_doc *k3sup_process_info(k3sup_process *process);

/** k3sup_process_pidfd() - its pidfd, which becomes readable when it ends. Ownership: the handle's; dup() to keep it. Since: 0.1 */
K3SUP_API int k3sup_process_pidfd(k3sup_process *process);

/**
 * k3sup_signal() - send one signal to exactly this process.
 *
 * Goes through the pidfd that is held since the process was identified, so it can never reach another process.
 * Pid 1 (but of a node with K3SUP_NODE_IS_CONTAINER), this process and its ancestors are refused. A process that executes another program by now than the one it was
 * identified by is not signalled either (K3SUP_E_GONE).
 * Status: 1 when the signal was sent, 0 when the process had ended already. Point of no return: the signal itself.
 * Errors: K3SUP_E_REFUSED_PID, K3SUP_E_GONE, -EPERM, -EINVAL. Capabilities: CAP_KILL for others' processes.
 * On disk: nothing. Since: 0.1
 */
K3SUP_API int k3sup_signal(k3sup_node *node, const struct k3sup_signal_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_wait_exit() - wait until this process has ended.
 *
 * Costs no system call while it waits, and one descriptor per process however many operations wait for it.
 * Status: 1 when it ended, 0 when it had ended already; K3SUP_E_TIMEOUT, K3SUP_E_CANCELLED. No point of no return. Since: 0.1
 */
K3SUP_API int k3sup_wait_exit(k3sup_node *node, const struct k3sup_wait_exit_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_wait_running() - wait until the node's k3s runs, is the wanted build, stays, and is ready.
 *
 * A k3s that ends before stable_ms is over is forgotten and the next one is waited for; the result says how many starts and ends there were, and of the last ones
 * (deaths) how long they lived and, where the kernel tells (Linux 6.15, or whoever started them is slow to hear of it), how they ended. Its age counts from
 * its own start, or from the end of unpacking where that was seen. Without asset_hash any build counts.
 *
 * Once it has stayed it is asked whether it is ready (probe, then health), about once a second until it is or the time is over: what is alive and not ready is starting,
 * and that is never a reason to give up. Only sockets that this very process listens on are asked, in its own network namespace, at whatever address and
 * port they are, and what they answer over TLS is believed only if the node's own authority has signed it. The answers are in the result (probes, health).
 * health is given 30 s each time, PATH, K3SUP_PID and K3SUP_ROOT.
 *
 * Status: 0 when it had been running as long already at the first look and was ready, else 1. The process is handed out by k3sup_op_process().
 * Errors, when the time is over: K3SUP_E_NOT_RESTARTED (none came), K3SUP_E_WRONG_BUILD (another build runs), K3SUP_E_NOT_STABLE (it comes and ends, more than once or
 * for good), K3SUP_E_TIMEOUT (it runs, but not yet for stable_ms), K3SUP_E_NOT_READY (it stays, and is not ready), K3SUP_E_AMBIGUOUS; and K3SUP_E_CANCELLED, -EACCES
 * (of a probe that may not look). Capabilities: CAP_SYS_PTRACE for probes, CAP_SYS_ADMIN if k3s is in another network namespace.
 * No point of no return; on disk: nothing. Since: 0.1
 */
K3SUP_API int k3sup_wait_running(k3sup_node *node, const struct k3sup_wait_running_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_service() - the service that runs k3s: what it is, its stop, start or restart.
 * @opts: NULL for the defaults: what it is.
 *
 * Asks systemd, as k3sup_upgrade() does: through the node's own systemctl, and about the unit as it is loaded. It owns a k3s that is the main process of one of its services.
 * Or OpenRC, whose service it is by OpenRC's record of the supervise-daemon that it started; its rc-service is never run by this program but by a process outside of it (named
 * k3sup-guard): in process 1's namespaces, in the root control groups, with process 1's limits, so that what it starts is the host's whoever asked for it, and an order that was begun is
 * carried out whatever becomes of this program. From a container that takes the host's pid namespace and all of root's rights; what would be confined is refused
 * (K3SUP_E_CONFINED). Services that need k3s are left alone.
 * With a server and an agent that run, both are meant unless a name is given.
 *
 * K3SUP_SERVICE_STATUS: services, in the result, and running. Takes no lock, changes nothing; status 0.
 * K3SUP_SERVICE_STOP: until its k3s has ended (by its pidfd), its manager calls it stopped, and none is seen any more; containers and their shims go on. Before it
 * is told, a start guard is armed that starts it again when guard_delay_ms are over, whatever has become of this program: a transient timer (k3sup-guard-NAME.timer), or that
 * process, which a later run finds by its socket /run/k3sup/guard-NAME and which does so at once if this program ends before the stop is done. It stays
 * armed, and a START or RESTART disarms it after its proof: who stops k3s owes it a start within that time. Refused: what could not be started again or would end us
 * (K3SUP_E_SERVICE_MASKED, K3SUP_E_SERVICE_TAKES_US, which also is OpenRC's rc_cgroup_cleanup=yes, K3SUP_E_NOT_SUPERVISED for a service of OpenRC without supervise-daemon,
 * K3SUP_E_NO_SERVICE for a k3s that no manager owns), and where no guard can be armed (K3SUP_E_GUARD, K3SUP_E_CONFINED). Under OpenRC its supervise-daemon is gone, too.
 * K3SUP_SERVICE_START, K3SUP_SERVICE_RESTART: one job of systemd, queued and not waited for, or the orders to rc-service, until k3s runs and has stayed for stable_ms. It must not
 * be in our own cgroup, nor its supervise-daemon (K3SUP_E_SERVICE).
 *
 * With commands of the caller's these are used instead of a service manager, for the one k3s that runs. They run as we do, outside the root, with PATH, K3SUP_ROOT and K3SUP_PID
 * (of stop and status), up to 30 s for status and 180 s for the others; their last output and status are in the result. What they say is a hint: a stop is over when the process
 * has ended, no k3s is seen, and status is 3; or, where status is neither 0 nor 3, none has been seen for 7 s. A start is proven by what runs. A restart is a stop and a start, in
 * which k3s is started again whatever fails. Their guard is a timer of the node's systemd, or without one such a process outside of this program, that runs the start command with K3SUP_ROOT=/, unless status is 0;
 * so it exists only where our root and mounts are the node's own. In a container K3SUP_E_GUARD, unless guard_delay_ms is below 0. What a start command leaves running must not
 * write to the command's own output, which nobody reads any more.
 *
 * Status: 1 when something was done, 0 when it was so already (stopped, or running). Point of no return: the job.
 * Errors: those above, K3SUP_E_BUSY, K3SUP_E_AMBIGUOUS (several services are installed, none runs), K3SUP_E_TIMEOUT, K3SUP_E_SERVICE, those of k3sup_identify() and
 * k3sup_wait_running(). Capabilities: root; from a container CAP_SYS_CHROOT or CAP_SYS_ADMIN. On disk: nothing (what systemd keeps in /run; the guard's socket there). Since: 0.1
 */
K3SUP_API int k3sup_service(k3sup_node *node, const struct k3sup_service_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
