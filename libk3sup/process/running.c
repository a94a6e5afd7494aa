/* SPDX-License-Identifier: Apache-2.0 */
#include "process/running.h"

#include <unistd.h>

/* Also within an upgrade: its events say this step's name. */
static const struct k3sup__step plan[] = {{"prove", 1}};

#define LOOK_EVERY_MS 100 /* the kernel tells nobody without CAP_NET_ADMIN that a process was started, so /proc is looked at again */

struct running_state {
	struct k3sup__node_state node;
	struct k3sup__want want;
	struct k3sup__sighting sighting;
	k3sup_process *seen;   /* the one that is being watched for staying */
	int64_t stable_at;     /* when it will have stayed long enough */
	bool unpacked;         /* `seen` was watched while it still unpacked: its age does not count from its start */
	unsigned starts, ends; /* how often the wanted build was seen to start, and to end before it had stayed */
	int last_look;         /* what the last look said: 0, or the code that is returned when time is over */
	bool waited;
};

bool k3sup__want_matches(const struct k3sup__want *want, const struct k3sup__candidate *c, const struct k3sup__place *installed)
{
	if (c->unpacking)
		return false;
	if (c->image) /* it executes the installed file itself: what it runs is that inode and no other */
		return installed->fd >= 0 && c->exe_dev == installed->st.st_dev && c->exe_ino == installed->st.st_ino;
	return want->asset_hash[0] == '\0' || k3sup__streq(want->asset_hash, c->asset_hash);
}

static bool is_previous(const struct running_state *s, const k3sup_process *process)
{
	for (size_t i = 0; i < ELEMENTSOF(s->want.previous); i++)
		if (s->want.previous[i] && k3sup__process_same(s->want.previous[i], process))
			return true;
	return false;
}

static int look(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	struct k3sup__place installed = K3SUP__PLACE_NONE;
	int r;

	k3sup__sighting_clear(&s->sighting);
	/* Without an installed file only unpacked programs can be recognised: that is no reason to fail here. */
	if (k3sup__installed_find(op, s->node.node, s->want.asset_hash[0] ? s->want.asset_hash : NULL, &installed) < 0)
		k3sup__op_forgive(op);
	r = k3sup__identify_scan(op, s->node.node, &installed, &s->sighting);
	if (r == 0)
		r = s->sighting.count == 0 ? K3SUP_E_NOT_RESTARTED : k3sup__sighting_judge(op, &s->sighting);
	for (size_t i = 0; r == 0 && i < s->sighting.count; i++)
		if (s->sighting.candidates[i].unpacking || is_previous(s, s->sighting.candidates[i].process))
			r = K3SUP_E_NOT_RESTARTED;
		else if (!k3sup__want_matches(&s->want, &s->sighting.candidates[i], &installed))
			r = K3SUP_E_WRONG_BUILD;
	if (r == 0 && s->sighting.count < s->want.count)
		r = K3SUP_E_NOT_RESTARTED;
	k3sup__place_clear(&installed);
	return r;
}

/* The process's own age decides, not how long we have been looking. Start times are clock ticks since boot, on CLOCK_BOOTTIME (proc(5)). */
static int64_t started_at(const k3sup_process *process)
{
	long ticks = sysconf(_SC_CLK_TCK);

	return (int64_t)(k3sup__process_start_time(process) * 1000 / (uint64_t)(ticks > 0 ? ticks : 100));
}

/* The youngest of those that were found is the one that has yet to stay. */
static k3sup_process *youngest(const struct k3sup__sighting *sighting)
{
	k3sup_process *found = NULL;

	for (size_t i = 0; i < sighting->count; i++)
		if (!found || k3sup__process_start_time(sighting->candidates[i].process) > k3sup__process_start_time(found))
			found = sighting->candidates[i].process;
	return found;
}

static void note(k3sup_op *op, k3sup_process *process)
{
	struct running_state *s = k3sup__op_state(op);
	int64_t from;

	if (s->seen && k3sup__process_same(s->seen, process) && s->stable_at)
		return;
	from = s->unpacked && s->seen && k3sup__process_same(s->seen, process) ? k3sup__now_ms() : started_at(process);
	k3sup_process_ref(process);
	k3sup_process_unref(s->seen);
	s->seen = process;
	s->stable_at = from + s->want.stable_ms;
	s->starts++;
	k3sup__op_came_up(op, from);
}

/* Remember a wrapper that unpacks: same process, but not yet the wanted build. */
static void note_unpacking(struct running_state *s)
{
	for (size_t i = 0; i < s->sighting.count; i++) {
		k3sup_process *process = s->sighting.candidates[i].process;

		if (!s->sighting.candidates[i].unpacking || (s->seen && k3sup__process_same(s->seen, process)))
			continue;
		k3sup_process_ref(process);
		k3sup_process_unref(s->seen);
		s->seen = process;
		s->stable_at = 0;
		s->unpacked = true;
	}
}

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

	k3sup__json_set(evidence, "running", k3sup__sighting_json(&s->sighting));
	k3sup__json_set_int(evidence, "starts", s->starts);
	if (s->last_look == 0 || s->ends > 0)
		return k3sup__fail(op, K3SUP_E_NOT_STABLE, "k3s came up %u times and ended again %u times before it had stayed for %lld ms", s->starts, s->ends,
				   (long long)s->want.stable_ms);
	if (s->last_look == K3SUP_E_WRONG_BUILD)
		return k3sup__fail(op, s->last_look, "the k3s that runs is not the wanted build %.12s", s->want.asset_hash);
	if (s->last_look == K3SUP_E_NOT_RESTARTED)
		return k3sup__fail(op, s->last_look, "no k3s was started within the given time");
	return k3sup__fail(op, s->last_look, "%s", k3sup_strerror(s->last_look));
}

static int after_look(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);
	int64_t now = k3sup__now_ms();
	int r = k3sup__op_work_result(op);

	/* These may pass by themselves; anything else (no right to read /proc) will not. */
	if (r < 0 && r != K3SUP_E_NOT_RESTARTED && r != K3SUP_E_WRONG_BUILD && r != K3SUP_E_AMBIGUOUS)
		return r;
	s->last_look = r;
	if (r < 0) {
		note_unpacking(s);
		if (now >= s->want.give_up)
			return r == K3SUP_E_AMBIGUOUS ? r : give_up(op);
		k3sup__op_forgive(op);
		s->waited = true;
		return k3sup__op_sleep(op, now + LOOK_EVERY_MS < s->want.give_up ? now + LOOK_EVERY_MS : s->want.give_up);
	}
	note(op, youngest(&s->sighting));
	if (now >= s->stable_at)
		return finish(op);
	if (now >= s->want.give_up)
		return give_up(op);
	s->waited = true;
	k3sup__op_progress(op, s->want.stable_ms - (s->stable_at - now), s->want.stable_ms);
	/* Looking again each second shows progress; the pidfd tells at once if it ends. */
	now += 1000;
	if (now > s->stable_at)
		now = s->stable_at;
	return k3sup__op_watch(op, s->seen, now < s->want.give_up ? now : s->want.give_up);
}

static int step(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);

	switch (k3sup__op_woke(op)) {
	case K3SUP__WOKE_WORK:
		return after_look(op);
	case K3SUP__WOKE_PROCESS:
		s->ends++;
		s->stable_at = 0;
		k3sup__op_went_down(op, k3sup__now_ms());
		k3sup__log(op, K3SUP_LOG_WARNING, "process %d ended before it had stayed", (int)k3sup__process_pid(s->seen));
		break;
	case K3SUP__WOKE_START:
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
		k3sup__op_begin(op, "prove", "waiting until k3s runs and stays");
		break;
	case K3SUP__WOKE_DEADLINE:
	case K3SUP__WOKE_CHILD:
	case K3SUP__WOKE_STOP:
		break;
	}
	return k3sup__op_work(op, look);
}

static void clear(k3sup_op *op)
{
	struct running_state *s = k3sup__op_state(op);

	k3sup__sighting_clear(&s->sighting);
	k3sup_process_unref(s->seen);
	for (size_t i = 0; i < ELEMENTSOF(s->want.previous); i++)
		k3sup_process_unref(s->want.previous[i]);
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
	for (size_t i = 0; i < ELEMENTSOF(s->want.previous); i++)
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
	want.give_up = k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000);
	want.stable_ms = o.stable_ms < 0 ? 0 : o.stable_ms ? o.stable_ms : 20000;
	want.previous[0] = o.previous;
	return k3sup__running_op(node, &want, ret_op);
}
