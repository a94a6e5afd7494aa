/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a build that ends again and again: it is remembered, and where that is safe the build before is put back and proven. That is an upgrade of its own, to the
 * backup, called by the one that failed.
 */
#include "upgrade/rollback.h"

#include "base/durable.h"
#include "node/identify.h"
#include "node/version.h"
#include "node/warn.h"
#include "process/serve.h"
#include "swap/bytes.h"
#include "upgrade/failed.h"
#include "upgrade/upgrade.h"

#define LEAST_MS 2000 /* less time than this is none: the next run goes on */

/* ---- before anything is changed ---- */

static void take_text(const k3sup__json *build, const char *key, size_t size, char *ret)
{
	const char *text = k3sup__json_text(build, key);

	if (text && strlen(text) < size)
		strcpy(ret, text);
}

/* The build that was installed before this upgrade, whichever run has replaced it. size 0: it replaced nothing. */
static void find_before(struct k3sup__upgrade *s)
{
	const k3sup__json *before = k3sup__json_member(s->view.open_entry, "before");
	struct k3sup__build *b = &s->back.before;

	*b = (struct k3sup__build){0};
	if (s->view.same == 0) {
		*b = s->view.build;
		return;
	}
	if (!s->entry.resumed || !before || k3sup__build_is(before, &s->payload.build))
		return;
	b->size = (uint64_t)k3sup__json_number(before, "size", 0);
	take_text(before, "asset_hash", sizeof(b->asset_hash), b->asset_hash);
	take_text(before, "version", sizeof(b->version), b->version);
}

/* Do only agents run here, or where none runs, would only agents be started? */
static bool only_agents(const struct k3sup__view *v)
{
	size_t others = 0, agents = 0;

	for (size_t i = 0; i < v->sighting.count; i++)
		*(v->sighting.candidates[i].role == K3SUP__ROLE_AGENT ? &agents : &others) += 1;
	for (size_t i = 0; v->sighting.count == 0 && i < v->units.count; i++)
		*(v->units.items[i].state == K3SUP__UNIT_LOADED && v->units.items[i].role == K3SUP__ROLE_AGENT ? &agents : &others) += 1;
	return others == 0 && agents > 0;
}

/* What it had replaced is there again: who has put something else there since wants that. */
static bool is_cut_on_its_way_back(const struct k3sup__upgrade *s)
{
	return s->view.same == 0 && s->entry.resumed && s->restart.by != K3SUP_RESTART_NONE &&
		k3sup__build_is(k3sup__json_member(s->view.open_entry, "before"), &s->view.build);
}

/* Another try is wanted. Between two starts, though, it can only be waited for k3s: that it runs has to be known first. */
static bool is_tried_again(const struct k3sup__upgrade *s)
{
	return (s->flags & K3SUP_UPGRADE_RETRY_FAILED) && !(is_cut_on_its_way_back(s) && s->view.running_error == K3SUP_E_NO_K3S);
}

int k3sup__rollback_look(k3sup_op *op, struct k3sup__upgrade *s)
{
	k3sup__json *known;
	int r;

	find_before(s);
	s->back.agents = only_agents(&s->view);
	if (s->payload.is_backup)
		return 0;
	r = k3sup__failed_find(op, s->view.failed, &s->payload, &known);
	if (r <= 0 || is_tried_again(s))
		return r < 0 ? r : 0;
	s->back.known = k3sup__json_ref(known);
	if (s->view.same != 0)
		return 0;
	if (!is_cut_on_its_way_back(s))
		return k3sup__failed_refuse(op, known);
	/* It is finished, not begun anew. */
	s->back.resumed = true;
	memcpy(s->back.sha256, k3sup__json_text(known, "sha256"), sizeof(s->back.sha256) - 1);
	s->back.text = strdup(k3sup__json_text(known, "text") ? k3sup__json_text(known, "text") : "it failed");
	return s->back.text ? 0 : -ENOMEM;
}

/* One that is in place already is only proven; it is not started once more. */
int k3sup__rollback_admit(k3sup_op *op, const struct k3sup__upgrade *s)
{
	return s->back.known && s->restarts ? k3sup__failed_refuse(op, s->back.known) : 0;
}

void k3sup__back_clear(struct k3sup__back *back)
{
	k3sup__json_unref(back->known);
	free(back->text);
}

/* ---- after the proof has failed ---- */

static bool is_same_minor(const char *a, const char *b)
{
	struct k3sup__version v, w;

	return k3sup__version_parse(a, strlen(a), &v) >= 0 && k3sup__version_parse(b, strlen(b), &w) >= 0 && v.major == w.major &&
		v.minor == w.minor && v.pre == K3SUP__PRE_NONE && w.pre == K3SUP__PRE_NONE;
}

static bool has_unpacked(k3sup_node *node, const char *data_dir, const char *asset_hash)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/data/%s", data_dir, asset_hash);

	return path && k3sup__root_find(NULL, &node->root, path, node->trust_flags, &place) >= 0 && place.fd >= 0;
}

/*
 * A wrapper executes nothing but what lies in data/<H>. Where that never came to be (a full disk, a damaged archive), its server has never opened a datastore. That the build
 * before has its own there shows that it is the right place to look at. k3s also executes a copy below the default data-dir, which anybody's `k3s kubectl` makes; and of a server and
 * an agent nobody says here which one's place this is.
 */
static bool never_got_to_its_datastore(const struct k3sup__upgrade *s)
{
	const struct k3sup__build *before = &s->back.before, *now = &s->payload.build;

	return s->data_dir && s->count <= 1 && before->asset_hash[0] && now->asset_hash[0] &&
		has_unpacked(s->node.node, s->data_dir, before->asset_hash) && !has_unpacked(s->node.node, s->data_dir, now->asset_hash) &&
		!has_unpacked(s->node.node, K3SUP__DEFAULT_DATA_DIR, now->asset_hash);
}

static bool decided(struct k3sup__upgrade *s, const char *decision, const char *why)
{
	s->back.decision = decision;
	s->back.why = why;
	return k3sup__streq(decision, "roll-back");
}

static bool decide(const k3sup_op *op, struct k3sup__upgrade *s)
{
	const struct k3sup__build *before = &s->back.before;

	if (s->back.mode == K3SUP_ROLLBACK_NEVER)
		return decided(s, "never", "the caller wants none");
	if (before->size == 0)
		return decided(s, "impossible", "this upgrade has not replaced the installed file");
	if (k3sup__failed_about(s->view.failed, before))
		return decided(s, "impossible", "the build before had failed, too");
	if (k3sup__op_deadline((k3sup_op *)(uintptr_t)op) != K3SUP__NEVER && k3sup__op_deadline((k3sup_op *)(uintptr_t)op) - k3sup__now_ms() < LEAST_MS)
		return decided(s, "no-time", "the time is over; one more run goes on");
	if (s->back.mode == K3SUP_ROLLBACK_ALWAYS)
		return decided(s, "roll-back", "the caller wants it always");
	if (s->back.agents)
		return decided(s, "roll-back", "only agents run here: they keep nothing that an older build could not read");
	if (is_same_minor(before->version, s->payload.build.version))
		return decided(s, "roll-back", "both builds are of the same minor version");
	if (never_got_to_its_datastore(s))
		return decided(s, "roll-back", "the new build was never unpacked, so it has never opened its datastore");
	return decided(s, "unsafe", "the new build may have changed its datastore in a way that an older minor version cannot read");
}

/* Which bytes failed: of the installed file, which is the payload. */
static int digest(k3sup_op *op, struct k3sup__upgrade *s)
{
	const char *known = s->swapped.sha256[0] ? s->swapped.sha256 : s->payload.sha256;

	if (!known[0])
		return k3sup__bytes_digest(op, s->payload.fd, s->payload.shown, s->back.sha256);
	memcpy(s->back.sha256, known, sizeof(s->back.sha256));
	return 0;
}

int k3sup__rollback_judge(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int r = digest(op, s);

	if (r >= 0)
		r = k3sup__failed_note(op, s->node.node, &s->payload.build, s->back.sha256, K3SUP_E_NOT_STABLE, s->back.text);
	if (r < 0)
		k3sup__warn(op, "it cannot be remembered that this build failed: %s", k3sup_strerror(r));
	return decide(op, s);
}

bool k3sup__rollback_is_asked(k3sup_op *op, struct k3sup__upgrade *s, int proven)
{
	const char *text = k3sup__op_sentence(op);

	if (proven != K3SUP_E_NOT_STABLE || s->payload.is_backup)
		return false;
	free(s->back.text);
	s->back.text = strdup(text ? text : k3sup_strerror(proven));
	k3sup__op_seal_failure(op); /* what is tried now does not change what has failed */
	return s->back.text != NULL;
}

int k3sup__rollback_call(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	int64_t deadline = k3sup__op_deadline(op), left = deadline - k3sup__now_ms();
	const struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts),
		.flags = K3SUP_UPGRADE_ROLLBACK | K3SUP_UPGRADE_NO_UNPACK_AHEAD | (s->flags & K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED),
		.timeout_ms = deadline == K3SUP__NEVER ? -1
			: left > 1                     ? left
						       : 1,
		.stable_ms = s->stable_ms ? s->stable_ms : -1,
		.restart = s->restart.by,
		.guard_delay_ms = s->restart.guard_delay_ms,
		.stop_command = s->restart.commands.stop,
		.start_command = s->restart.commands.start,
		.status_command = s->restart.commands.status,
		.probe = s->probe,
		.health = s->health,
		.sha256 = s->swapped.old_sha256[0] ? s->swapped.old_sha256 : NULL,
		.expect_version = s->back.before.version[0] ? s->back.before.version : NULL, /* others may have made another backup since */
		.rollback = K3SUP_ROLLBACK_NEVER,
	};
	k3sup_op *child = NULL;
	int r;

	k3sup__op_begin(op, "rollback", "putting the build before back, since the new one failed");
	r = k3sup_upgrade(s->node.node, &opts, &child);
	if (r < 0)
		return r;
	((struct k3sup__upgrade *)k3sup__op_state(child))->nested = true;
	return k3sup__op_call(op, child);
}

int k3sup__rollback_result(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup_op *child = k3sup__op_child(op);
	int r = k3sup_op_status(child);
	int64_t changed = 0;

	(void)k3sup__json_as_i64(k3sup__json_member(k3sup__op_facts(child), "changed"), &changed);
	s->back.changed = changed != 0;
	s->back.error = r < 0 ? r : 0;
	s->back.done = r >= 0;
	/* It was another try that was cut, before it had replaced anything; the backup is another build's. */
	if (r == K3SUP_E_VERSION_MISMATCH && s->back.resumed)
		return k3sup__failed_refuse(op, s->back.known);
	if (r < 0)
		return s->back.resumed ? k3sup__op_adopt(op, child) : K3SUP_E_NOT_STABLE;
	return k3sup__op_fail_instead(op, K3SUP_E_ROLLED_BACK, "%s%s was put back, runs and is proven, since the new build failed: %s",
		s->back.before.version[0] ? "" : "the build before", s->back.before.version, s->back.text);
}

void k3sup__rollback_report(k3sup_op *op, struct k3sup__upgrade *s)
{
	k3sup__json *rollback;
	int r;

	if (!s->back.decision && !s->back.resumed)
		return;
	if (s->back.done) {
		r = k3sup__failed_note_back(op, s->node.node, s->back.sha256, &s->back.before);
		if (r < 0)
			k3sup__warn(op, "it cannot be remembered that the build before was put back: %s", k3sup_strerror(r));
	}
	rollback = k3sup__json_object();
	k3sup__json_set_str(rollback, "decision", s->back.done ? "done" : s->back.error < 0 ? "failed" : s->back.decision);
	if (s->back.why)
		k3sup__json_set_str(rollback, "why", s->back.why);
	if (s->back.error < 0)
		k3sup__json_set_str(rollback, "error", k3sup_error_name(s->back.error));
	if (s->back.before.version[0])
		k3sup__json_set_str(rollback, "to", s->back.before.version);
	k3sup__json_set_str(rollback, "reason", s->back.text);
	k3sup__json_set(k3sup__op_facts(op), "rollback", rollback);
}

/* ---- nothing runs: its manager may have given up ---- */

int k3sup__rollback_start(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	struct k3sup__serving serving = {.node = s->node};
	int r = k3sup__serving_find(op, &serving);

	for (size_t i = 0; r >= 0 && i < serving.count; i++) {
		const struct k3sup__service *service = &serving.list[i].service;

		/* In its pause it comes by itself; and who stopped it wants it stopped. After a failed upgrade of ours neither may be waited for. */
		if (!service->manager || !service->manager->order || (!s->nested && !service->gave_up))
			continue;
		r = service->manager->order(op, service, K3SUP__ORDER_RESTART);
		if (r >= 0)
			s->start_awaited = false;
	}
	k3sup__serving_clear(&serving);
	/* Where nobody can be told, a supervisor is waited for as ever. */
	if (r < 0)
		k3sup__op_forgive(op);
	return r == -ENOMEM ? r : 0;
}
