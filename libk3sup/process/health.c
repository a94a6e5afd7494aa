/* SPDX-License-Identifier: Apache-2.0 */
#include "process/health.h"

#include "base/child.h"

#define LONGEST_MS 30000
#define AT_LEAST_MS 1000 /* also when the time is over: the last answer is told */
#define MOST_OUTPUT 1024

static k3sup__json *answer_json(const struct k3sup__child_result *result)
{
	k3sup__json *answer = k3sup__json_object();

	k3sup__json_set_bool(answer, "ok", result->exit_code == 0);
	if (result->exit_code >= 0)
		k3sup__json_set_int(answer, "exit_code", result->exit_code);
	else
		k3sup__json_set_int(answer, "signal", result->term_signal);
	if (result->output_len > 0)
		k3sup__json_set(answer, "output", k3sup__json_strn(result->output, result->output_len));
	return answer;
}

static int run(k3sup_op *op, const char *command, const char *const *env, int64_t deadline, struct k3sup__child_result *result)
{
	const char *const argv[] = {"/bin/sh", "-c", command, NULL};
	int64_t longest = k3sup__deadline(LONGEST_MS), least = k3sup__deadline(AT_LEAST_MS);
	const struct k3sup__child_spec spec = {
		.argv = argv,
		.env = env,
		.root_fd = -1,
		.deadline = deadline < least ? least
			: deadline < longest ? deadline
					     : longest,
		.max_output = MOST_OUTPUT,
	};
	int r = k3sup__child_run(op, &spec, result);

	return r < 0 ? k3sup__fail(op, r, "the health command could not be run: %s", k3sup_strerror(r)) : 0;
}

int k3sup__health_ask(k3sup_op *op, k3sup_node *node, const char *command, pid_t pid, int64_t deadline, k3sup__json **ret)
{
	_free_ char *of_pid = k3sup__fmt("K3SUP_PID=%d", (int)pid), *of_root = k3sup__fmt("K3SUP_ROOT=%s", node->root.path);
	const char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", of_pid, of_root, NULL};
	struct k3sup__child_result result = {0};
	int r = of_pid && of_root ? run(op, command, env, deadline, &result) : -ENOMEM;

	if (r < 0)
		return r;
	*ret = answer_json(&result);
	if (result.timed_out)
		r = k3sup__fail(op, K3SUP_E_NOT_READY, "the health command had not ended in time");
	else if (result.exit_code < 0)
		r = k3sup__fail(op, K3SUP_E_NOT_READY, "the health command was ended by signal %d", result.term_signal);
	else if (result.exit_code > 0)
		r = k3sup__fail(op, K3SUP_E_NOT_READY, "the health command ended with status %d", result.exit_code);
	k3sup__child_result_clear(&result);
	return r;
}
