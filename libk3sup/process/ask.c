/* SPDX-License-Identifier: Apache-2.0 */
#include "process/ask.h"

#include "base/child.h"

static k3sup__json *answer_json(const struct k3sup__child_result *result)
{
	k3sup__json *answer = k3sup__json_object();

	k3sup__json_set_bool(answer, "ok", result->exit_code == 0);
	if (result->exit_code >= 0)
		k3sup__json_set_int(answer, "exit_code", result->exit_code);
	else
		k3sup__json_set_int(answer, "signal", result->term_signal);
	if (result->timed_out)
		k3sup__json_set_bool(answer, "timed_out", true);
	if (result->output_len > 0)
		k3sup__json_set(answer, "output", k3sup__json_strn(result->output, result->output_len));
	return answer;
}

static int judge(k3sup_op *op, const struct k3sup__question *q, const struct k3sup__child_result *result)
{
	if (result->timed_out)
		return k3sup__fail(op, q->refused, "%s had not ended in time", q->what);
	if (result->exit_code < 0)
		return k3sup__fail(op, q->refused, "%s was ended by signal %d", q->what, result->term_signal);
	if (result->exit_code > 0)
		return k3sup__fail(op, q->refused, "%s ended with status %d", q->what, result->exit_code);
	return 0;
}

static int run(k3sup_op *op, const struct k3sup__question *q, const struct k3sup__strv *env, k3sup__json **ret)
{
	const char *const argv[] = {"/bin/sh", "-c", q->command, NULL};
	const struct k3sup__child_spec spec = {
		.argv = argv,
		.env = (const char *const *)env->items,
		.root_fd = -1,
		.deadline = q->deadline,
		.max_output = q->max_output,
	};
	struct k3sup__child_result result = {0};
	int r = k3sup__child_run(op, &spec, &result);

	if (r < 0)
		return k3sup__fail(op, r, "%s could not be run: %s", q->what, k3sup_strerror(r));
	*ret = answer_json(&result);
	r = judge(op, q, &result);
	k3sup__child_result_clear(&result);
	return r;
}

int k3sup__ask(k3sup_op *op, k3sup_node *node, const struct k3sup__question *question, k3sup__json **ret)
{
	_cleanup_(k3sup__strv_clear) struct k3sup__strv env = {0};
	int r = k3sup__strv_add(&env, strdup(K3SUP__ASK_PATH));

	*ret = NULL;
	if (r >= 0)
		r = k3sup__strv_add(&env, k3sup__fmt("K3SUP_ROOT=%s", node->root.path));
	for (size_t i = 0; r >= 0 && question->env && i < question->env->count; i++)
		r = k3sup__strv_add(&env, strdup(question->env->items[i]));
	return r < 0 ? r : run(op, question, &env, ret);
}
