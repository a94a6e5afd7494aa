/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"
#include "node/node.h"

struct exit_state {
	struct k3sup__node_state node;
	k3sup_process *process;
	int64_t deadline;
};

static int step(k3sup_op *op)
{
	struct exit_state *s = k3sup__op_state(op);

	if (k3sup__op_woke(op) == K3SUP__WOKE_START)
		k3sup__json_set_int(k3sup__op_facts(op), "pid", k3sup__process_pid(s->process));
	if (k3sup__process_ended(s->process))
		return k3sup__op_woke(op) == K3SUP__WOKE_START ? 0 : 1;
	/* Not the engine's deadline: a host that comes late to its loop must not hear of a process that ended in time that it did not. */
	if (k3sup__now_ms() >= s->deadline)
		return k3sup__fail(op, K3SUP_E_TIMEOUT, "process %d has not ended in time", (int)k3sup__process_pid(s->process));
	return k3sup__op_watch(op, s->process, s->deadline);
}

static void clear(k3sup_op *op)
{
	struct exit_state *s = k3sup__op_state(op);

	k3sup_process_unref(s->process);
}

static const struct k3sup__op_class class = {
	.verb = "wait_exit",
	.state_size = sizeof(struct exit_state),
	.step = step,
	.clear = clear,
};

int k3sup_wait_exit(k3sup_node *node, const struct k3sup_wait_exit_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_wait_exit_opts o;
	struct exit_state *s;
	k3sup_op *op;
	int r = node && opts && ret_op ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r < 0)
		return r;
	if (!o.process || o.reserved)
		return -EINVAL;
	r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	s->process = k3sup_process_ref(o.process);
	s->deadline = o.timeout_ms > 0 ? k3sup__deadline(o.timeout_ms) : K3SUP__NEVER;
	*ret_op = op;
	return 0;
}
