/* SPDX-License-Identifier: Apache-2.0 */
#include "process/running.h"

#include "process/health.h"
#include "process/probe.h"
#include "process/running-state.h"

/* Also within an upgrade: its events say this step's name. */
static const struct k3sup__step plan[] = {{"prove", 1}};

#define ASK_EVERY_MS 1000 /* whether it is ready, once it has stayed */
#define ASK_MANAGER_EVERY_MS 1000
#define LOOK_EVERY_MS 100 /* the kernel tells nobody without CAP_NET_ADMIN that a process was started, so /proc is looked at again */

/* ---- looking ---- */

static int judge(k3sup_op *op, const struct k3sup__running *s)
{
	const struct k3sup__sighting *sighting = &s->sighting;
	int r = sighting->count == 0 ? K3SUP_E_NOT_RESTARTED : k3sup__sighting_judge(op, sighting);

	for (size_t i = 0; r == 0 && i < sighting->count; i++)
		if (sighting->candidates[i].unpacking || k3sup__is_listed(s->want.previous, sighting->candidates[i].process))
			r = K3SUP_E_NOT_RESTARTED;
		else if (!k3sup__want_matches(&s->want, &sighting->candidates[i]))
			r = K3SUP_E_WRONG_BUILD;
	return r == 0 && sighting->count < s->want.count ? K3SUP_E_NOT_RESTARTED : r;
}

/* None is there: has its manager given up, or started it again more often than could be seen? Twice, as it may be between a stop and a start that was told. */
static void ask_managers(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	bool gave_up = false;

	if (k3sup__now_ms() < s->managers_asked + ASK_MANAGER_EVERY_MS)
		return;
	s->managers_asked = k3sup__now_ms();
	for (size_t i = 0; i < K3SUP__MOST_SEEN && !gave_up; i++) {
		struct k3sup__service *service = s->want.services[i];

		if (!service || !service->manager || !service->manager->tells_end)
			continue;
		if (service->manager->look(op, service) < 0) {
			k3sup__op_forgive(op);
			continue;
		}
		s->loser = service;
		gave_up = service->gave_up;
		if (s->restarts[i] < 0 || service->restarts < s->restarts[i]) /* a start that was told makes it 0 */
			s->restarts[i] = service->restarts;
		if (service->restarts - s->restarts[i] > s->restarted)
			s->restarted = (unsigned)(service->restarts - s->restarts[i]);
	}
	s->gave_up = gave_up ? s->gave_up + 1 : 0;
}

static int look(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	struct k3sup__place installed = K3SUP__PLACE_NONE;
	int64_t began = k3sup__now_ms();
	int r;

	k3sup__sighting_clear(&s->sighting);
	/* Without an installed file only unpacked programs can be recognised: that is no reason to fail here. */
	if (k3sup__installed_find(op, s->node.node, s->want.asset_hash[0] ? s->want.asset_hash : NULL, &installed) < 0)
		k3sup__op_forgive(op);
	r = k3sup__identify_scan(op, s->node.node, &installed, &s->sighting);
	k3sup__place_clear(&installed);
	s->look_ms = k3sup__now_ms() - began;
	if (r >= 0)
		r = judge(op, s);
	if (r == K3SUP_E_NOT_RESTARTED)
		ask_managers(op);
	return r;
}

/* ---- the machine ---- */

/* The first look reads the whole program of a wrapper that unpacks, so on a slow machine it must not take all the time that the unpacking needs. */
static int64_t next_look(const struct k3sup__running *s)
{
	return k3sup__now_ms() + (s->look_ms > LOOK_EVERY_MS / 4 ? 4 * s->look_ms : LOOK_EVERY_MS);
}

static int not_there(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	bool came = s->seen.starts > 0 || s->seen.unpacking[0] || s->sighting.count > 0;
	int64_t until = !came && s->want.come_by < s->want.give_up ? s->want.come_by : s->want.give_up, next = next_look(s);

	if (k3sup__now_ms() >= until)
		return k3sup__running_give_up(op);
	k3sup__op_forgive(op);
	s->waited = true;
	return k3sup__op_sleep(op, next < until ? next : until);
}

static int look_again(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);

	s->phase = PHASE_LOOK;
	return k3sup__op_work(op, look);
}

/* Its pidfd tells at once if it ends. */
static int stay(k3sup_op *op, int64_t until)
{
	struct k3sup__running *s = k3sup__op_state(op);

	s->waited = true;
	s->phase = PHASE_LOOK;
	return k3sup__op_watch(op, k3sup__seen_youngest(&s->seen)->process, until < s->want.give_up ? until : s->want.give_up);
}

static int ask_health(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);

	k3sup__json_unref(s->healthy);
	s->healthy = NULL;
	return k3sup__health_ask(op, s->node.node, s->health, k3sup__process_pid(s->sighting.candidates[0].process), s->want.give_up, &s->healthy);
}

/* It has stayed. Each is asked by itself, the command once for all. */
static int ask(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	k3sup_op *child;
	int r;

	if (s->want.probe != K3SUP_PROBE_NONE && s->asked < s->sighting.count) {
		s->phase = PHASE_PROBE;
		r = k3sup__probe_op(s->node.node, &s->sighting.candidates[s->asked++], s->want.probe, s->want.give_up, &child);
		return r < 0 ? r : k3sup__op_call(op, child);
	}
	if (s->health && s->phase != PHASE_HEALTH) {
		s->phase = PHASE_HEALTH;
		return k3sup__op_work(op, ask_health);
	}
	if (s->want.probe == K3SUP_PROBE_NONE && !s->health)
		return k3sup__seen_drop_ended(op, &s->seen) > 0 ? look_again(op) : k3sup__running_finish(op);
	for (size_t i = 0; i < s->sighting.count && i < K3SUP__MOST_SEEN; i++)
		s->ready[i] = k3sup_process_ref(s->sighting.candidates[i].process);
	return look_again(op);
}

static void forget_answers(struct k3sup__running *s)
{
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		s->ready[i] = k3sup_process_unref(s->ready[i]);
}

/* Has said that it is ready all that was seen just now, and is nobody missing? */
static bool all_are_ready(const struct k3sup__running *s)
{
	for (size_t i = 0; i < s->sighting.count; i++)
		if (!k3sup__is_listed(s->ready, s->sighting.candidates[i].process))
			return false;
	return true;
}

static int begin_asking(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);

	s->asked = 0;
	forget_answers(s);
	k3sup__json_unref(s->answers);
	s->answers = NULL;
	return ask(op);
}

/* status: of a probe or the command. */
static int after_answer(k3sup_op *op, int status)
{
	struct k3sup__running *s = k3sup__op_state(op);
	int64_t now = k3sup__now_ms();

	if (status >= 0)
		return ask(op);
	if (status != K3SUP_E_NOT_READY)
		return status;
	if (k3sup__seen_drop_ended(op, &s->seen) == 0 && now >= s->want.give_up) {
		s->last_look = status;
		return k3sup__running_give_up(op);
	}
	k3sup__op_forgive(op);
	return k3sup__seen_youngest(&s->seen)->process ? stay(op, now + ASK_EVERY_MS) : look_again(op);
}

static int after_probe(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	k3sup_op *child = k3sup__op_child(op);
	const k3sup__json *said = k3sup__json_member(k3sup__op_facts(child), "probes");

	if (!s->answers)
		s->answers = k3sup__json_array();
	for (size_t i = 0; i < k3sup__json_len(said); i++)
		k3sup__json_add(s->answers, k3sup__json_copy(k3sup__json_element(said, i)));
	return after_answer(op, k3sup__op_adopt(op, child));
}

static int there(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	int64_t now = k3sup__now_ms(), from = k3sup__seen_youngest(&s->seen)->from;
	int64_t stable_at = s->want.stable_ms > 0 ? from + s->want.stable_ms : now; /* being there is enough then, whatever the tick of its start */

	if (now >= stable_at && all_are_ready(s))
		return k3sup__running_finish(op);
	if (now >= stable_at)
		return begin_asking(op);
	if (now >= s->want.give_up)
		return k3sup__running_give_up(op);
	k3sup__op_progress(op, s->want.stable_ms - (stable_at - now), s->want.stable_ms);
	/* Looking again each second shows progress. */
	return stay(op, now + 1000 < stable_at ? now + 1000 : stable_at);
}

static int after_look(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	/* These may pass by themselves; anything else (no right to read /proc) will not. */
	if (r < 0 && r != K3SUP_E_NOT_RESTARTED && r != K3SUP_E_WRONG_BUILD && r != K3SUP_E_AMBIGUOUS)
		return r;
	s->last_look = r;
	(void)k3sup__seen_drop_ended(op, &s->seen);
	k3sup__seen_take(&s->seen, &s->want, &s->sighting);
	if (r == 0)
		k3sup__op_came_up(op, k3sup__seen_youngest(&s->seen)->from);
	else
		forget_answers(s);
	if (k3sup__seen_drop_ended(op, &s->seen) > 0 && r == 0)
		return look_again(op);
	if (s->want.most_ends > 0 && s->seen.deaths.count >= s->want.most_ends)
		return k3sup__running_call_it_a_loop(op);
	if (k3sup__running_has_lost(s))
		return k3sup__running_call_it_lost(op);
	return r < 0 ? not_there(op) : there(op);
}

static int step(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);

	switch (k3sup__op_woke(op)) {
	case K3SUP__WOKE_WORK:
		return s->phase == PHASE_HEALTH ? after_answer(op, k3sup__op_work_result(op)) : after_look(op);
	case K3SUP__WOKE_CHILD:
		return after_probe(op);
	case K3SUP__WOKE_START:
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
		k3sup__op_begin(op, "prove", "waiting until k3s runs and stays");
		break;
	case K3SUP__WOKE_PROCESS:
	case K3SUP__WOKE_DEADLINE:
	case K3SUP__WOKE_FD:
	case K3SUP__WOKE_STOP:
		(void)k3sup__seen_drop_ended(op, &s->seen);
		break;
	}
	return look_again(op);
}

static void clear(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);

	k3sup__sighting_clear(&s->sighting);
	k3sup__seen_clear(&s->seen);
	k3sup__json_unref(s->answers);
	k3sup__json_unref(s->healthy);
	free(s->health);
	forget_answers(s);
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		k3sup_process_unref(s->want.previous[i]);
}

static const struct k3sup__op_class class = {
	.verb = "wait_running",
	.state_size = sizeof(struct k3sup__running),
	.step = step,
	.clear = clear,
};

int k3sup__readiness_check(uint32_t probe, const char *health)
{
	return probe > K3SUP_PROBE_NONE || (health && !*health) ? -EINVAL : 0;
}

int k3sup__running_op(k3sup_node *node, const struct k3sup__want *want, k3sup_op **ret_op)
{
	char *health = want->health ? strdup(want->health) : NULL;
	struct k3sup__running *s;
	k3sup_op *op;
	int r = want->health && !health ? -ENOMEM : k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);

	if (r < 0) {
		free(health);
		return r;
	}
	s = k3sup__op_state(op);
	s->want = *want;
	s->want.health = s->health = health;
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		s->restarts[i] = -1;
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		k3sup_process_ref(s->want.previous[i]);
	*ret_op = op;
	return 0;
}

void k3sup__running_report(k3sup_op *op, k3sup_op *child)
{
	static const char *const keys[] = {"starts", "ends", "deaths", "probes", "health"};
	const k3sup__json *seen = k3sup__op_facts(child);

	if (k3sup_op_status(child) < 0)
		seen = k3sup__json_member(k3sup__json_member(seen, "error"), "evidence");
	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		const k3sup__json *value = k3sup__json_member(seen, keys[i]);

		if (value)
			k3sup__json_set(k3sup__op_facts(op), keys[i], k3sup__json_copy(value));
	}
}

int k3sup_wait_running(k3sup_node *node, const struct k3sup_wait_running_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_wait_running_opts o;
	struct k3sup__want want = {.count = 1};
	int r = node && ret_op ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

	if (r >= 0)
		r = o.reserved || o.reserved2 ? -EINVAL : k3sup__readiness_check(o.probe, o.health);
	if (r < 0)
		return r;
	if (o.asset_hash) {
		if (strlen(o.asset_hash) != K3SUP__H_LEN || !k3sup__is_hex(o.asset_hash, K3SUP__H_LEN))
			return -EINVAL;
		memcpy(want.asset_hash, o.asset_hash, sizeof(want.asset_hash));
	}
	want.come_by = want.give_up = k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000);
	want.stable_ms = o.stable_ms < 0 ? 0 : o.stable_ms ? o.stable_ms : 20000;
	want.previous[0] = o.previous;
	want.probe = o.probe;
	want.health = o.health;
	return k3sup__running_op(node, &want, ret_op);
}
