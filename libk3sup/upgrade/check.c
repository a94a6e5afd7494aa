/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/check.h"

#include <assert.h>
#include <fcntl.h>

#include "node/warn.h"
#include "upgrade/failed.h"
#include "upgrade/plan.h"
#include "upgrade/prepared.h"
#include "upgrade/upgrade.h"

static_assert(K3SUP_UPGRADE_ALLOW_DOWNGRADE == K3SUP_SWAP_ALLOW_DOWNGRADE && K3SUP_UPGRADE_ALLOW_SKIP_MINOR == K3SUP_SWAP_ALLOW_SKIP_MINOR &&
		K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED == K3SUP_SWAP_ALLOW_PACKAGE_OWNED,
	"what is allowed has one number");

struct check_state {
	struct k3sup__node_state node;
	struct k3sup__asked asked;
};

int k3sup__need_file(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view)
{
	struct k3sup__place again = K3SUP__PLACE_NONE;
	int r;

	if (view->installed.fd >= 0)
		return 0;
	r = k3sup__installed_find(op, node, NULL, &again);
	k3sup__place_clear(&again);
	return r < 0 ? r : k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "the installed k3s file appeared while it was looked for");
}

struct k3sup__plan k3sup__upgrade_plan(
	const struct k3sup__view *view, const struct k3sup__payload *payload, const struct k3sup__images *images, uint32_t flags)
{
	return (struct k3sup__plan){
		.payload = payload,
		.target = &view->installed,
		.installed = &view->build,
		.data_dir = view->data_dir.path,
		.second_dir = k3sup__view_data_dir(view, 1),
		.images = images,
		.role = view->sighting.count ? k3sup__role_name(view->sighting.candidates[0].role) : NULL,
		.allow = flags & (K3SUP_UPGRADE_ALLOW_DOWNGRADE | K3SUP_UPGRADE_ALLOW_SKIP_MINOR | K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED),
	};
}

/* Where the installed file is the payload it would not be written, so nothing stands in the way but room for the images. */
static int already_so(k3sup_op *op, const struct check_state *s, const struct k3sup__view *view)
{
	_cleanup_(k3sup__checks_clear) struct k3sup__checks checks;

	k3sup__checks_begin(&checks);
	k3sup__checks_add(&checks, "already-so", K3SUP__PASS, 0, NULL, "%s is the payload already", view->installed.path);
	k3sup__room_check_images(s->node.node, &s->asked.images, &checks);
	return k3sup__checks_judge(op, &checks);
}

static int check(k3sup_op *op, struct check_state *s, struct k3sup__payload *payload, const struct k3sup__view *view)
{
	struct k3sup__plan plan = k3sup__upgrade_plan(view, payload, &s->asked.images, s->asked.flags);
	int r = k3sup__need_file(op, s->node.node, view);

	if (r >= 0)
		r = k3sup__images_look(op, s->node.node, &s->asked.images, view->data_dir.path);
	if (r >= 0)
		r = k3sup__images_prove(op, &s->asked.images);
	k3sup__images_report(op, &s->asked.images);
	if (r < 0)
		return r;
	if (view->same == 1)
		return already_so(op, s, view);
	r = k3sup__admit(op, s->node.node, &plan);
	return r < 0 ? r : k3sup__payload_check_archive(op, payload);
}

/* What anybody may see: the file. Which of several runs, and as what, only root can tell. */
static int look_at_file(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__view *ret)
{
	struct k3sup__view v = {.installed = K3SUP__PLACE_NONE};
	_close_ int fd = -1;
	int r = k3sup__installed_find(op, node, NULL, &v.installed);

	if (r >= 0)
		r = fd = k3sup__place_open(&v.installed, O_RDONLY);
	if (r >= 0)
		r = k3sup__build_read_fd(op, fd, v.installed.path, K3SUP__BUILD_LENIENT, &v.build);
	if (r >= 0)
		r = v.same = k3sup__swap_is_same(op, payload, &v.installed, v.same_sha256);
	if (r >= 0)
		r = k3sup__data_dir_look(op, node, NULL, NULL, NULL, v.build.version, &v.data_dir);
	if (r < 0) {
		k3sup__view_clear(&v);
		return r;
	}
	*ret = v;
	return 0;
}

static int look(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__view *ret, bool *whole)
{
	int r = k3sup__view_take(op, node, payload, ret);

	*whole = r >= 0;
	if (r != -EPERM && r != -EACCES)
		return r;
	k3sup__op_forgive(op);
	k3sup__warn(op, "the node's processes cannot be examined: %s", k3sup_strerror(r));
	return look_at_file(op, node, payload, ret);
}

static void report(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, bool whole)
{
	k3sup__json *installed;

	if (whole) {
		k3sup__view_report(op, node, view);
		return;
	}
	installed = k3sup__build_json(&view->build);
	k3sup__json_set_str(installed, "path", view->installed.path);
	k3sup__json_set(k3sup__op_facts(op), "installed", installed);
}

void k3sup__check_add(k3sup_op *op, const char *name, const char *decision, k3sup__json *text, int error)
{
	k3sup__json *check = k3sup__json_object();

	k3sup__json_set_str(check, "name", name);
	k3sup__json_set_str(check, "decision", decision);
	k3sup__json_set(check, "text", text);
	if (error < 0)
		k3sup__json_set_str(check, "error", k3sup_error_name(error));
	k3sup__json_add(k3sup__json_member(k3sup__op_facts(op), "checks"), check);
}

static k3sup__json *sentence(k3sup_op *op, int code)
{
	const char *why = k3sup__op_sentence(op);

	return k3sup__json_str(why ? why : k3sup_strerror(code));
}

/* Would what runs be started again? Only if the file may be replaced at all. */
static int check_restart(k3sup_op *op, const struct check_state *s, const struct k3sup__payload *payload, const struct k3sup__view *view)
{
	struct k3sup__services services = {0};
	int r = k3sup__restart_admit(op, s->node.node, view, s->asked.stopping.window ? NULL : payload, &s->asked.restart, &services);

	if (r >= 0)
		k3sup__plan_restart(op, &s->asked, view, &services);
	if (services.count > 0) {
		k3sup__check_add(op, "restart", r < 0 ? "refuse" : "pass",
			r < 0 ? sentence(op, r) : k3sup__json_fmt("k3s would be restarted by %s", k3sup__plan_restarter(&services.list[0])), r);
	}
	k3sup__services_report(op, &services);
	k3sup__services_clear(&services);
	return r;
}

/* One that is in place and is only proven is not refused, whatever it did before. */
static int check_failed(k3sup_op *op, const struct check_state *s, const struct k3sup__payload *payload, const struct k3sup__view *view)
{
	k3sup__json *known = NULL;
	int r = payload->is_backup ? 0 : k3sup__failed_find(op, view->failed, payload, &known);

	if (r < 0)
		return r;
	if (!known) {
		k3sup__check_add(op, "failed-before", "pass", k3sup__json_str("this payload has not failed on this node"), 0);
	} else if ((s->asked.flags & K3SUP_UPGRADE_RETRY_FAILED) || (view->same == 1 && !view->pending)) {
		k3sup__check_add(op, "failed-before", "allowed", k3sup__json_str("this very payload failed on this node before"), 0);
	} else {
		r = k3sup__failed_refuse(op, known);
		k3sup__check_add(op, "failed-before", "refuse", sentence(op, r), r);
		return r;
	}
	return 0;
}

/* The key was used, or what would be taken away. */
static k3sup__json *rotation_text(const struct k3sup__rotation *rotation)
{
	if (!rotation->done)
		return k3sup__json_fmt("%zu certificates and keys would be replaced, under the key %s",
			k3sup__json_len(rotation->leafs.prints), rotation->key);
	return k3sup__json_fmt("none that was replaced under the key %s is live%s", rotation->key,
		rotation->resumed ? "; that the new ones are served has still to be seen" : "");
}

static int check_stopping(k3sup_op *op, struct check_state *s, const struct k3sup__payload *payload, const struct k3sup__view *view)
{
	struct k3sup__stopping *stopping = &s->asked.stopping;
	struct k3sup__owed owed = k3sup__entry_owed(s->node.node, view->records);
	int r = k3sup__stopping_look(op, s->node.node, payload, stopping);

	if (r >= 0)
		r = k3sup__stopping_decide(op, s->node.node, view, owed.id[0] != '\0', &s->asked.restart, stopping);
	if (!stopping->rotates)
		return r;
	if (r >= 0)
		k3sup__rotation_plan(op, &stopping->rotation);
	k3sup__check_add(op, "rotate-certs", r < 0 ? "refuse" : "pass", r < 0 ? sentence(op, r) : rotation_text(&stopping->rotation), r);
	return r;
}

/* What runs is looked at as the upgrade does it: one that does not is waited for only where its file is in place, or is put back. */
static int plan(k3sup_op *op, const struct check_state *s, const struct k3sup__payload *payload, const struct k3sup__view *view)
{
	bool awaited = k3sup__is_no_k3s(view->running_error) && (view->same == 1 || payload->is_backup || s->asked.stopping.window);

	k3sup__plan_files(op, &s->asked, payload, view);
	if (s->asked.restart.by == K3SUP_RESTART_NONE || view->running_error >= 0 || awaited)
		return 0;
	return k3sup__sighting_judge(op, &view->sighting);
}

static int work(k3sup_op *op)
{
	struct check_state *s = k3sup__op_state(op);
	struct k3sup__payload payload = K3SUP__PAYLOAD_NONE;
	struct k3sup__view view;
	bool whole = false;
	int r;

	k3sup__op_begin(op, "verify", "looking at the payload");
	r = k3sup__payload_load(op, s->node.node, &s->asked.source, &payload);
	if (r >= 0)
		r = k3sup__payload_verify(op, &payload);
	k3sup__op_begin(op, "identify", "looking at the node");
	if (r >= 0)
		r = look(op, s->node.node, &payload, &view, &whole);
	if (r >= 0) {
		k3sup__op_begin(op, "check", "asking the policies");
		if (whole)
			k3sup__prepared_warn(op, s->node.node, &view);
		r = check(op, s, &payload, &view);
		if (r >= 0 && whole)
			r = k3sup__check_memory(op, s->node.node, &view);
		if (r >= 0 && whole)
			r = check_failed(op, s, &payload, &view);
		if (r >= 0 && whole)
			r = check_stopping(op, s, &payload, &view);
		if (r >= 0 && (s->asked.flags & K3SUP_UPGRADE_DRY_RUN))
			r = whole ? plan(op, s, &payload, &view) : k3sup__fail(op, -EPERM, "only root can say what an upgrade would do");
		if (r >= 0 && whole && s->asked.restart.by != K3SUP_RESTART_NONE)
			r = check_restart(op, s, &payload, &view);
		if (r < 0)
			k3sup__op_seal_failure(op); /* the report must not take back the sentence */
		report(op, s->node.node, &view, whole);
		k3sup__view_clear(&view);
	}
	k3sup__proof_report(op, payload.proof);
	k3sup__payload_clear(&payload);
	k3sup__json_set_bool(k3sup__op_facts(op), "changed", false);
	return r >= 0 && (s->asked.flags & K3SUP_UPGRADE_DRY_RUN) ? k3sup__plan_says_change(op) : r;
}

static const struct k3sup__step steps[] = {{"verify", 80}, {"identify", 15}, {"check", 5}};

static int step(k3sup_op *op)
{
	if (k3sup__op_woke(op) == K3SUP__WOKE_WORK)
		return k3sup__op_work_result(op);
	k3sup__op_plan(op, steps, ELEMENTSOF(steps));
	return k3sup__op_work(op, work);
}

static void clear(k3sup_op *op)
{
	struct check_state *s = k3sup__op_state(op);

	k3sup__asked_clear(&s->asked);
}

static const struct k3sup__op_class class = {
	.verb = "check",
	.state_size = sizeof(struct check_state),
	.step = step,
	.clear = clear,
};

int k3sup__check_new(k3sup_node *node, struct k3sup__asked *asked, int64_t deadline, k3sup_op **ret_op)
{
	struct check_state *s;
	k3sup_op *op;
	int r = k3sup__node_op_new(node, &class, deadline, &op);

	if (r < 0) {
		k3sup__asked_clear(asked);
		return r;
	}
	s = k3sup__op_state(op);
	s->asked = *asked;
	*ret_op = op;
	return 0;
}
