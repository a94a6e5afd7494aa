/* SPDX-License-Identifier: Apache-2.0 */
#include "process/signal.h"

#include <k3sup/version.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* 0 and the parent, or why that cannot be known. */
static int parent_of(const k3sup_node *node, pid_t pid, pid_t *ret)
{
	_close_ int dirfd = -1;
	struct k3sup__stat stat;
	char name[32];
	int r;

	snprintf(name, sizeof(name), "%d", (int)pid);
	dirfd = openat(node->proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	r = k3sup__stat_read(dirfd, &stat);
	if (r == 0)
		*ret = stat.ppid;
	return r;
}

/* Our parent, its parent and so on up to pid 1: ending one of them would end us, or whoever started us and waits for our answer. */
static int refuse_ancestors(k3sup_op *op, const k3sup_node *node, pid_t pid)
{
	pid_t at = getpid();

	/* Bounded: /proc is read while processes come and go, a chain of parents need not be consistent. */
	for (int n = 0; n < 256 && at > 1; n++) {
		int r;

		if (at == pid)
			return k3sup__fail(op, K3SUP_E_REFUSED_PID, "process %d is %s and is not signalled", (int)pid,
				at == getpid() ? "this program" : "a parent of this program");
		r = parent_of(node, at, &at);
		if (r == -ESRCH) /* it ended meanwhile, and its children were given to another one; or hidepid hides it, and so it cannot be a k3s that was found */
			break;
		if (r < 0)
			return k3sup__fail(op, r, "cannot tell whether process %d is a parent of this program: %s", (int)pid, k3sup_strerror(r));
	}
	return 0;
}

int k3sup__signal_allowed(k3sup_op *op, k3sup_node *node, const k3sup_process *process)
{
	pid_t pid = k3sup__process_pid(process);

	if (pid < 1 || (pid == 1 && !node->is_container))
		return k3sup__fail(op, K3SUP_E_REFUSED_PID,
			"process 1 is not signalled: in a container its end is the container's end (--node-is-container allows that)");
	return refuse_ancestors(op, node, pid);
}

static bool is_at_least(const char *version, const char *first)
{
	int32_t order;

	return k3sup_version_compare(version, first, &order) == 0 && order >= 0;
}

static bool hands_signals_on(const char *version)
{
	return is_at_least(version, "v1.34.2-rc1+k3s1") || (k3sup__startswith(version, "v1.33.") && is_at_least(version, "v1.33.6-rc1+k3s1"));
}

k3sup_process *k3sup__signal_target(const struct k3sup__candidate *c)
{
	struct k3sup__build build;
	_close_ int fd = -1;

	if (c->worker == NULL)
		return c->process;
	fd = openat(k3sup__process_dirfd(c->process), "exe", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && k3sup__build_read_fd(NULL, fd, c->exe, K3SUP__BUILD_LENIENT, &build) == 0 && build.version[0] != '\0')
		return hands_signals_on(build.version) ? c->process : c->worker;
	return k3sup__process_pid(c->process) == 1 ? c->worker : c->process;
}

int k3sup__signal_send(k3sup_op *op, k3sup_node *node, const k3sup_process *process, int signo)
{
	pid_t pid = k3sup__process_pid(process);
	int r = k3sup__signal_allowed(op, node, process);

	if (r < 0)
		return r;
	/* The pidfd is the identity: it was compared with what /proc said when it was taken, and has not changed hands since. A zombie takes signals, too. */
	r = k3sup__process_check(process);
	if (r == K3SUP_E_GONE)
		return k3sup__fail(op, r, "process %d executes another program by now and is not signalled", (int)pid);
	if (r == 0)
		r = k3sup__process_signal(process, signo);
	if (r == -ESRCH)
		return 0;
	if (r < 0)
		return k3sup__fail(op, r, "cannot send signal %d to process %d: %s", signo, (int)k3sup__process_pid(process), k3sup_strerror(r));
	k3sup__log(op, K3SUP_LOG_INFO, "signal %d sent to process %d", signo, (int)k3sup__process_pid(process));
	return 1;
}

/* ---- the verb ---- */

struct signal_state {
	struct k3sup__node_state node;
	k3sup_process *process;
	int signo;
};

static int step(k3sup_op *op)
{
	struct signal_state *s = k3sup__op_state(op);

	k3sup__json_set_int(k3sup__op_facts(op), "pid", k3sup__process_pid(s->process));
	k3sup__json_set_int(k3sup__op_facts(op), "signo", s->signo);
	return k3sup__signal_send(op, s->node.node, s->process, s->signo);
}

static void clear(k3sup_op *op)
{
	struct signal_state *s = k3sup__op_state(op);

	k3sup_process_unref(s->process);
}

static const struct k3sup__op_class class = {
	.verb = "signal",
	.state_size = sizeof(struct signal_state),
	.step = step,
	.clear = clear,
};

int k3sup_signal(k3sup_node *node, const struct k3sup_signal_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_signal_opts o;
	struct signal_state *s;
	k3sup_op *op;
	int r = node && opts && ret_op ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r < 0)
		return r;
	if (!o.process || o.signo < 0 || o.signo > SIGRTMAX || o.reserved || o.reserved2)
		return -EINVAL;
	r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	s->process = k3sup_process_ref(o.process);
	s->signo = o.signo ? o.signo : SIGTERM;
	*ret_op = op;
	return 0;
}
