/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/hooks.h"

#include "base/lock.h"
#include "node/warn.h"
#include "process/ask.h"

#define LONGEST_MS 3600000
#define MOST_OUTPUT 4096

static int take(const char *command, char **ret)
{
	if (!command)
		return 0;
	if (!*command)
		return -EINVAL;
	*ret = strdup(command);
	return *ret ? 0 : -ENOMEM;
}

int k3sup__hooks_take(const char *before_write, const char *before_stop, struct k3sup__hooks *ret)
{
	int r;

	*ret = (struct k3sup__hooks){0};
	r = take(before_write, &ret->before_write);
	if (r >= 0)
		r = take(before_stop, &ret->before_stop);
	if (r < 0)
		k3sup__hooks_clear(ret);
	return r;
}

void k3sup__hooks_clear(struct k3sup__hooks *hooks)
{
	free(hooks->before_write);
	free(hooks->before_stop);
	*hooks = (struct k3sup__hooks){0};
}

/* A value that is not known is an empty one: scripts run with set -u, too. */
static int add(struct k3sup__strv *env, const char *name, const char *value)
{
	return k3sup__strv_add(env, k3sup__fmt("%s=%s", name, value ? value : ""));
}

static int surroundings(const char *name, const struct k3sup__view *view, const struct k3sup__payload *payload, struct k3sup__strv *env)
{
	const struct k3sup__candidate *c = view->sighting.count ? &view->sighting.candidates[0] : NULL;
	int r = add(env, "K3SUP_HOOK", name);

	if (r >= 0)
		r = add(env, "K3SUP_FROM", view->build.version);
	if (r >= 0)
		r = add(env, "K3SUP_TO", payload ? payload->build.version : NULL);
	if (r >= 0)
		r = add(env, "K3SUP_K3S", view->installed.path);
	if (r >= 0)
		r = add(env, "K3SUP_DATA_DIR", view->data_dir.path);
	if (r >= 0)
		r = add(env, "K3SUP_ROLE", c ? k3sup__role_name(c->role) : NULL);
	if (r >= 0)
		r = c ? k3sup__strv_add(env, k3sup__fmt("K3SUP_PID=%d", (int)k3sup__process_pid(c->process))) : add(env, "K3SUP_PID", NULL);
	return r;
}

/* Programs of ours in the command (marks, above all) look at the same node, by the environment twins of their options. */
static int options(const k3sup_node *node, struct k3sup__strv *env)
{
	int r = k3sup__streq(node->state_dir, K3SUP__STATE_DIR) ? 0 : add(env, "K3SUP_STATE_DIR", node->state_dir);

	return r < 0 || k3sup__streq(node->proc_path, "/proc") ? r : add(env, "K3SUP_PROC", node->proc_path);
}

static void note(k3sup_op *op, const char *name, int64_t took_ms, k3sup__json *answer, int r)
{
	k3sup__json *facts = k3sup__op_facts(op), *hooks = k3sup__json_member(facts, "hooks");

	if (!hooks) {
		hooks = k3sup__json_array();
		k3sup__json_set(facts, "hooks", hooks);
	}
	k3sup__json_set_str(answer, "name", name);
	k3sup__json_set_int(answer, "took_ms", took_ms);
	if (r < 0)
		k3sup__json_set(k3sup__op_evidence(op), "hook", k3sup__json_copy(answer));
	k3sup__json_add(hooks, answer);
}

int k3sup__hook_run(k3sup_op *op, k3sup_node *node, const char *name, const char *command, const struct k3sup__view *view,
	const struct k3sup__payload *payload)
{
	_cleanup_(k3sup__strv_clear) struct k3sup__strv env = {0};
	_free_ char *what = k3sup__fmt("the command of --%s", name);
	int64_t longest = k3sup__deadline(LONGEST_MS), began = k3sup__now_ms(), deadline = k3sup__op_deadline(op);
	struct k3sup__question question = {
		.what = what,
		.command = command,
		.env = &env,
		.deadline = deadline == K3SUP__NEVER ? longest : deadline,
		.max_output = MOST_OUTPUT,
		.refused = K3SUP_E_HOOK,
	};
	k3sup__json *answer = NULL;
	int r = what ? surroundings(name, view, payload, &env) : -ENOMEM;

	if (r >= 0)
		r = options(node, &env);
	if (r < 0)
		return r;
	k3sup__op_begin(op, name, "running the command of --%s", name);
	r = k3sup__ask(op, node, &question, &answer);
	for (size_t i = 0; i < view->sighting.count; i++)
		if (k3sup__process_ended(view->sighting.candidates[i].process))
			k3sup__warn(op, "k3s (process %d) ended while %s ran", (int)k3sup__process_pid(view->sighting.candidates[i].process), what);
	if (answer)
		note(op, name, k3sup__now_ms() - began, answer, r);
	return r;
}
