/* SPDX-License-Identifier: Apache-2.0 */
#include "process/health.h"

#include "process/ask.h"

#define LONGEST_MS 30000
#define AT_LEAST_MS 1000 /* also when the time is over: the last answer is told */
#define MOST_OUTPUT 1024

int k3sup__health_ask(k3sup_op *op, k3sup_node *node, const char *command, pid_t pid, int64_t deadline, k3sup__json **ret)
{
	_cleanup_(k3sup__strv_clear) struct k3sup__strv env = {0};
	int64_t longest = k3sup__deadline(LONGEST_MS), least = k3sup__deadline(AT_LEAST_MS);
	const struct k3sup__question question = {
		.what = "the health command",
		.command = command,
		.env = &env,
		.deadline = deadline < least ? least
			: deadline < longest ? deadline
					     : longest,
		.max_output = MOST_OUTPUT,
		.refused = K3SUP_E_NOT_READY,
	};
	int r = k3sup__strv_add(&env, k3sup__fmt("K3SUP_PID=%d", (int)pid));

	return r < 0 ? r : k3sup__ask(op, node, &question, ret);
}
