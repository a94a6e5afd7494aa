/* SPDX-License-Identifier: Apache-2.0 */
#include "process/running.h"

#include <unistd.h>

/* Also within an upgrade: its events say this step's name. */
static const struct k3sup__step plan[] = {{"prove", 1}};

#define LOOK_EVERY_MS 100 /* the kernel tells nobody without CAP_NET_ADMIN that a process was started, so /proc is looked at again */

/* A k3s that was found, and since when it counts. */
struct watched {
	k3sup_process *process;
	int64_t from;
};

#define MOST 2 /* a server and an agent */

struct running_state {
	struct k3sup__node_state node;
	struct k3sup__want want;
	struct k3sup__sighting sighting;
	struct watched seen[MOST];      /* are what is wanted, and have yet to stay */
	k3sup_process *unpacking[MOST]; /* were seen while they still unpacked: their age does not count from their start */
	unsigned starts, ends;          /* how often the wanted build was seen to start, and to end before it had stayed */
	int last_look;                  /* what the last look said: 0, or the code that is returned when time is over */
	int64_t look_ms;                /* how long it took */
	bool waited;
};

bool k3sup__want_matches(const struct k3sup__want *want, const struct k3sup__candidate *c)
{
	if (c->unpacking)
		return false;
	if (want->asset_hash[0])
		return k3sup__streq(want->asset_hash, c->asset_hash);
	return !want->by_file || (c->image && c->exe_dev == want->file_dev && c->exe_ino == want->file_ino);
}

/* ---- looking ---- */

static bool is_listed(k3sup_process *const *list, const k3sup_process *process)
{
	for (size_t i = 0; i < MOST; i++)
		if (list[i] && k3sup__process_same(list[i], process))
			return true;
	return false;
}

static int judge(k3sup_op *op, const struct running_state *s)
{
	const struct k3sup__sighting *sighting = &s->sighting;
	int r = sighting->count == 0 ? K3SUP_E_NOT_RESTARTED : k3sup__sighting_judge(op, sighting);

	for (size_t i = 0; r == 0 && i < sighting->count; i++)
		if (sighting->candidates[i].unpacking || is_listed(s->want.previous, sighting->candidates[i].process))
			r = K3SUP_E_NOT_RESTARTED;
		else if (!k3sup__want_matches(&s->want, &sighting->candidates[i]))
			r = K3SUP_E_WRONG_BUILD;
	return r == 0 && sighting->count < s->want.count ? K3SUP_E_NOT_RESTARTED : r;
}

static int look(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
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
	return r < 0 ? r : judge(op, s);
}

/* ---- watching ---- */

/* The process's own age decides, not how long we have been looking. Start times are clock ticks since boot, on CLOCK_BOOTTIME (proc(5)). */
static int64_t started_at(const k3sup_process *process)
{
	long ticks = sysconf(_SC_CLK_TCK);

	return (int64_t)(k3sup__process_start_time(process) * 1000 / (uint64_t)(ticks > 0 ? ticks : 100));
}

/* Lets go of those that have ended. How many? */
static unsigned drop_ended(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	unsigned n = 0;

	for (size_t i = 0; i < MOST; i++) {
		struct watched *w = &s->seen[i];

		if (!w->process || !k3sup__process_ended(w->process))
			continue;
		k3sup__log(op, K3SUP_LOG_WARNING, "process %d ended before it had stayed", (int)k3sup__process_pid(w->process));
		k3sup__op_went_down(op, k3sup__now_ms());
		w->process = k3sup_process_unref(w->process);
		n++;
	}
	s->ends += n;
	return n;
}

/* All that the last look found are wanted ones. */
static void take_found(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	struct watched found[MOST] = {{0}};

	for (size_t i = 0; i < s->sighting.count && i < MOST; i++) {
		k3sup_process *process = s->sighting.candidates[i].process;
		struct watched *w = &found[i];

		w->process = k3sup_process_ref(process);
		for (size_t j = 0; j < MOST; j++)
			if (s->seen[j].process && k3sup__process_same(s->seen[j].process, process))
				w->from = s->seen[j].from;
		if (w->from)
			continue;
		w->from = is_listed(s->unpacking, process) ? k3sup__now_ms() : started_at(process);
		s->starts++;
		k3sup__op_came_up(op, w->from);
	}
	for (size_t i = 0; i < MOST; i++)
		k3sup_process_unref(s->seen[i].process);
	memcpy(s->seen, found, sizeof(found));
}

/* Wrappers that unpack: the same processes, but not yet the wanted build. */
static void note_unpacking(struct running_state *s)
{
	for (size_t i = 0; i < s->sighting.count; i++) {
		k3sup_process *process = s->sighting.candidates[i].process;

		if (!s->sighting.candidates[i].unpacking || is_listed(s->unpacking, process))
			continue;
		k3sup_process_unref(s->unpacking[1]);
		s->unpacking[1] = s->unpacking[0];
		s->unpacking[0] = k3sup_process_ref(process);
	}
}

/* The youngest is the last one to have stayed. */
static const struct watched *youngest(const struct running_state *s)
{
	const struct watched *a = &s->seen[0], *b = &s->seen[1];

	if (!a->process || !b->process)
		return a->process ? a : b;
	return b->from > a->from ? b : a;
}

/* ---- ending ---- */

static int finish(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	k3sup__json *facts = k3sup__op_facts(op);
	int r = 0;

	k3sup__json_set(facts, "running", k3sup__sighting_json(&s->sighting));
	k3sup__json_set_int(facts, "starts", s->starts);
	for (size_t i = 0; r == 0 && i < s->sighting.count; i++)
		r = k3sup__op_add_process(op, s->sighting.candidates[i].process);
	return r < 0 ? r : s->waited;
}

static int give_up(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	k3sup__json *evidence = k3sup__op_evidence(op);
	const struct watched *w = youngest(s);
	const char *hash = s->want.asset_hash;

	k3sup__json_set(evidence, "running", k3sup__sighting_json(&s->sighting));
	k3sup__json_set_int(evidence, "starts", s->starts);
	if (s->last_look == K3SUP_E_AMBIGUOUS) /* it has its sentence */
		return s->last_look;
	if (s->last_look == K3SUP_E_WRONG_BUILD)
		return k3sup__fail(op, s->last_look, "the k3s that runs is not the wanted build%s%.12s", hash[0] ? " " : "", hash);
	if (s->ends > 0)
		return k3sup__fail(op, K3SUP_E_NOT_STABLE, "k3s came up %u times and ended %u times before it had stayed for %lld ms",
			s->starts, s->ends, (long long)s->want.stable_ms);
	if (s->last_look == 0)
		return k3sup__fail(op, K3SUP_E_TIMEOUT, "k3s runs as process %d, but had not yet stayed for %lld ms when the time was over",
			(int)k3sup__process_pid(w->process), (long long)s->want.stable_ms);
	return k3sup__fail(op, s->last_look,
		s->sighting.count > 0 ? "not all of k3s was started within the given time" : "no k3s was started within the given time");
}

/* ---- the machine ---- */

/* A look reads the whole program of a wrapper that unpacks, so on a slow machine it must not take all the time that the unpacking needs. */
static int64_t next_look(const struct running_state *s)
{
	return k3sup__now_ms() + (s->look_ms > LOOK_EVERY_MS / 4 ? 4 * s->look_ms : LOOK_EVERY_MS);
}

static int not_there(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	bool came = s->starts > 0 || s->unpacking[0] || s->sighting.count > 0;
	int64_t until = !came && s->want.come_by < s->want.give_up ? s->want.come_by : s->want.give_up, next = next_look(s);

	if (k3sup__now_ms() >= until)
		return give_up(op);
	k3sup__op_forgive(op);
	s->waited = true;
	return k3sup__op_sleep(op, next < until ? next : until);
}

static int there(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	const struct watched *w = youngest(s);
	int64_t now = k3sup__now_ms(), stable_at = w->from + s->want.stable_ms;

	if (now >= stable_at)
		return finish(op);
	if (now >= s->want.give_up)
		return give_up(op);
	s->waited = true;
	k3sup__op_progress(op, s->want.stable_ms - (stable_at - now), s->want.stable_ms);
	/* Looking again each second shows progress; the pidfd tells at once if it ends. */
	now += 1000;
	if (now > stable_at)
		now = stable_at;
	return k3sup__op_watch(op, w->process, now < s->want.give_up ? now : s->want.give_up);
}

static int after_look(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	/* These may pass by themselves; anything else (no right to read /proc) will not. */
	if (r < 0 && r != K3SUP_E_NOT_RESTARTED && r != K3SUP_E_WRONG_BUILD && r != K3SUP_E_AMBIGUOUS)
		return r;
	s->last_look = r;
	(void)drop_ended(op);
	if (r < 0) {
		note_unpacking(s);
		return not_there(op);
	}
	take_found(op);
	return drop_ended(op) > 0 ? k3sup__op_work(op, look) : there(op);
}

static int step(k3sup_op *op)
{
	switch (k3sup__op_woke(op)) {
	case K3SUP__WOKE_WORK:
		return after_look(op);
	case K3SUP__WOKE_START:
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
		k3sup__op_begin(op, "prove", "waiting until k3s runs and stays");
		break;
	case K3SUP__WOKE_PROCESS:
	case K3SUP__WOKE_DEADLINE:
	case K3SUP__WOKE_CHILD:
	case K3SUP__WOKE_STOP:
		(void)drop_ended(op);
		break;
	}
	return k3sup__op_work(op, look);
}

static void clear(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);

	k3sup__sighting_clear(&s->sighting);
	for (size_t i = 0; i < MOST; i++) {
		k3sup_process_unref(s->seen[i].process);
		k3sup_process_unref(s->unpacking[i]);
		k3sup_process_unref(s->want.previous[i]);
	}
}

static const struct k3sup__op_class class = {
	.verb = "wait_running",
	.state_size = sizeof(struct running_state),
	.step = step,
	.clear = clear,
};

int k3sup__running_op(k3sup_node *node, const struct k3sup__want *want, k3sup_op **ret_op)
{
	struct running_state *s;
	k3sup_op *op;
	int r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);

	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	s->want = *want;
	for (size_t i = 0; i < MOST; i++)
		k3sup_process_ref(s->want.previous[i]);
	*ret_op = op;
	return 0;
}

int k3sup_wait_running(k3sup_node *node, const struct k3sup_wait_running_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_wait_running_opts o;
	struct k3sup__want want = {.count = 1};
	int r = node && ret_op ? k3sup__opts(opts, &o, sizeof(o), 0) : -EINVAL;

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
	return k3sup__running_op(node, &want, ret_op);
}
