/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/plan.h"

static k3sup__json *plan_of(k3sup_op *op)
{
	k3sup__json *facts = k3sup__op_facts(op), *plan = k3sup__json_member(facts, "plan");

	if (plan)
		return plan;
	k3sup__json_set(facts, "plan", k3sup__json_array());
	return k3sup__json_member(facts, "plan");
}

/* Consumes text. */
static void add(k3sup_op *op, const char *step, k3sup__json *text)
{
	k3sup__json *one = k3sup__json_object();

	k3sup__json_set_str(one, "step", step);
	k3sup__json_set(one, "text", text);
	k3sup__json_add(plan_of(op), one);
}

static void add_hook(k3sup_op *op, const char *name, const char *command)
{
	if (command)
		add(op, name, k3sup__json_fmt("run: %s", command));
}

static void add_retire(k3sup_op *op, const struct k3sup__stopping *stopping)
{
	if (!stopping->rotation.done)
		add(op, "retire",
			k3sup__json_fmt("keep and take away %zu certificates and keys below %s",
				k3sup__json_len(stopping->rotation.leafs.prints), stopping->rotation.where.data_dir));
}

/* Stopped and not yet started: the file is swapped meanwhile. */
static void add_stop(k3sup_op *op, const struct k3sup__asked *asked, const struct k3sup__view *view)
{
	if (!asked->stopping.window)
		return;
	if (view->same == 1 && asked->stopping.rotation.alive)
		add_hook(op, "before-stop", asked->hooks.before_stop);
	if (asked->stopping.rotation.alive)
		add(op, "stop", k3sup__json_str("stop k3s, with a start guard"));
	add_retire(op, &asked->stopping);
}

void k3sup__plan_files(k3sup_op *op, const struct k3sup__asked *asked, const struct k3sup__payload *payload, const struct k3sup__view *view)
{
	const char *target = view->installed.path;

	(void)plan_of(op);
	if (view->same == 0 || k3sup__images_missing(&asked->images) > 0 || !asked->stopping.rotation.done)
		add_hook(op, "before-write", asked->hooks.before_write);
	if (k3sup__images_missing(&asked->images) > 0)
		add(op, "images",
			k3sup__json_fmt("put %zu files into %s/agent/images", k3sup__images_missing(&asked->images), view->data_dir.path));
	if (view->same == 0) {
		add(op, "stage", k3sup__json_fmt("copy %s beside %s", payload->shown, target));
		add(op, "verify", k3sup__json_str("check the copy"));
		add_hook(op, "before-stop", asked->hooks.before_stop);
		if (payload->build.asset_hash[0] && asked->restart.by != K3SUP_RESTART_NONE && !(asked->flags & K3SUP_UPGRADE_NO_UNPACK_AHEAD))
			for (size_t i = 0; k3sup__view_data_dir(view, i); i++)
				add(op, "unpack", k3sup__json_fmt("have the new build unpack itself into %s", k3sup__view_data_dir(view, i)));
	}
	add_stop(op, asked, view);
	if (view->same == 0) {
		add(op, "swap", k3sup__json_fmt("make %s be that copy, and keep the old one", target));
	} else if (view->leftovers > 0) {
		add(op, "swap", k3sup__json_fmt("remove what a cut run left beside %s", target));
	}
	if (asked->stopping.left)
		add_retire(op, &asked->stopping);
}

const char *k3sup__plan_restarter(const struct k3sup__owned *owned)
{
	if (owned->service.commands)
		return "commands";
	return owned->how == K3SUP__HOW_SERVICE && owned->service.name ? owned->service.name : "a signal";
}

void k3sup__plan_restart(k3sup_op *op, const struct k3sup__asked *asked, const struct k3sup__view *view, const struct k3sup__services *services)
{
	if (!(asked->flags & K3SUP_UPGRADE_DRY_RUN))
		return;
	if (asked->stopping.window) {
		add(op, "start", k3sup__json_str("start k3s"));
		add(op, "prove", k3sup__json_str("wait until the wanted build runs, stays and is ready"));
	}
	if (asked->stopping.rotates && !asked->stopping.left && (!asked->stopping.rotation.done || asked->stopping.rotation.resumed))
		add(op, "certificates", k3sup__json_str("look whether k3s has made new certificates, and serves them"));
	if (asked->stopping.window)
		return;
	if (services->count > 0 && view->same == 1)
		add_hook(op, "before-stop", asked->hooks.before_stop);
	for (size_t i = 0; i < services->count; i++) {
		const struct k3sup__owned *owned = &services->list[i];

		add(op, "restart",
			k3sup__json_fmt("restart k3s (process %d) by %s", (int)k3sup__process_pid(owned->process), k3sup__plan_restarter(owned)));
	}
	if (services->count > 0)
		add(op, "prove", k3sup__json_str("wait until the wanted build runs, stays and is ready"));
}

bool k3sup__plan_says_change(k3sup_op *op)
{
	return k3sup__json_len(k3sup__json_member(k3sup__op_facts(op), "plan")) > 0;
}
