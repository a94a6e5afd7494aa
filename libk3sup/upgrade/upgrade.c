/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/check.h"
#include "upgrade/entry.h"

#include "process/running.h"
#include "process/signal.h"

#include <signal.h>

#define RETRY_LOCK_MS 100
#define FLAGS \
	(K3SUP_UPGRADE_PAYLOAD_FD | K3SUP_UPGRADE_ALLOW_DOWNGRADE | K3SUP_UPGRADE_ALLOW_SKIP_MINOR | K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED | \
		K3SUP_UPGRADE_CHECK)
#define SUPERVISORS_PAUSE_MS 15000 /* RestartSec and respawn_delay are 5 s as k3s's installer writes them; unpacking takes some more */

static const struct k3sup__step plan[] = {{"lock", 1}, {"identify", 3}, {"stage", 30}, {"swap", 4}, {"restart", 12}, {"prove", 50}};

enum phase {
	PHASE_LOOK, /* lock, payload, node; decide */
	PHASE_SWAP,
	PHASE_SIGNAL, /* look again, right before */
	PHASE_EXIT,
	PHASE_PROVE,
	PHASE_REPORT,
};

struct upgrade_state {
	struct k3sup__node_state node;
	struct k3sup__source source;
	int64_t lock_deadline, stable_ms;
	uint32_t restart, flags;

	enum phase phase;
	struct k3sup__payload payload;
	struct k3sup__view view;
	struct k3sup__entry entry;
	struct k3sup__swapped swapped;
	struct stat payload_file; /* the installed file that is known to be the payload */
	bool swap;                /* the file is not the payload, or a cut swap left something */
	bool start_awaited;       /* k3s did not run, though its file is the payload: its supervisor may be in its pause */
	bool restarts;            /* some k3s runs another build than the payload's */
	bool cleaned;             /* what a cut swap had left is gone */
	bool signalled;
	size_t count;          /* so many k3s are to come back */
	k3sup_process *old[2]; /* the ones that were signalled */
	int status;            /* how it ends */
};

/* ---- deciding: nothing is written before this is over ---- */

/* Runs this k3s something else than what will be installed? */
static bool must_restart(const struct upgrade_state *s, const struct k3sup__candidate *c)
{
	if (c->image || c->unpacking)
		return s->view.same == 0 || c->exe_dev != s->view.installed.st.st_dev || c->exe_ino != s->view.installed.st.st_ino;
	return !k3sup__streq(c->asset_hash, s->payload.build.asset_hash);
}

static int decide(k3sup_op *op, struct upgrade_state *s)
{
	const struct k3sup__view *v = &s->view;
	int r = k3sup__need_file(op, s->node.node, v);

	if (r < 0)
		return r;
	s->swap = v->same == 0 || v->leftovers > 0;
	s->payload_file = v->installed.st;
	if (s->restart == K3SUP_RESTART_NONE)
		return 0;
	s->count = v->sighting.count;
	if (v->running_error == K3SUP_E_NO_K3S && v->same == 1) {
		s->start_awaited = true;
		s->count = 1;
		return 0;
	}
	if (v->running_error < 0)
		return k3sup__sighting_judge(op, &v->sighting);
	for (size_t i = 0; r >= 0 && i < v->sighting.count; i++)
		if (must_restart(s, &v->sighting.candidates[i])) {
			s->restarts = true;
			r = k3sup__signal_allowed(op, s->node.node, v->sighting.candidates[i].process);
		}
	return r;
}

/* Nobody is asked where nothing is replaced; what an earlier run was cut before is caught up with. */
static int admit(k3sup_op *op, struct upgrade_state *s)
{
	struct k3sup__plan todo = k3sup__upgrade_plan(&s->view, &s->payload, s->flags);

	if (s->view.same == 0)
		return k3sup__admit(op, s->node.node, &todo);
	return k3sup__settle(op, s->node.node, &todo);
}

static int work_look(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	k3sup_node *node = s->node.node;
	int r = k3sup__node_take_turn(op, node);

	if (r < 0)
		return r;
	k3sup__op_begin(op, "identify", "looking at payload and node");
	r = k3sup__payload_load(op, node, &s->source, &s->payload);
	if (r >= 0)
		r = k3sup__view_take(op, node, &s->payload, &s->view);
	if (r >= 0 && s->view.same == 1)
		r = k3sup__payload_prove(op, &s->payload, s->view.same_sha256);
	if (r >= 0)
		r = decide(op, s);
	if (r >= 0)
		r = admit(op, s);
	if (r >= 0)
		k3sup__entry_take_over(op, &s->view, &s->payload, &s->entry);
	return r;
}

/* ---- swapping ---- */

static int open_entry(k3sup_op *op, struct upgrade_state *s)
{
	return k3sup__entry_open(op, s->node.node, &s->view, &s->payload, s->restart != K3SUP_RESTART_NONE, &s->entry);
}

static int swap(k3sup_op *op, struct upgrade_state *s)
{
	int r;

	if (s->view.same == 1) {
		r = k3sup__swap_leftovers(op, &s->view.installed, true);
		s->cleaned = r > 0;
		return r;
	}
	r = open_entry(op, s);
	if (r >= 0)
		r = k3sup__swap_run(op, &s->payload, &s->view.installed, &s->swapped);
	if (s->swapped.renamed)
		s->payload_file = s->swapped.st;
	k3sup__swapped_report(op, &s->payload, &s->swapped);
	return r;
}

static int work_swap(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	struct k3sup__plan done = k3sup__upgrade_plan(&s->view, &s->payload, s->flags);
	int r = swap(op, s);

	if (r >= 0 && s->swapped.renamed)
		r = k3sup__settle(op, s->node.node, &done);
	k3sup__op_may_stop(op);
	return r;
}

/* ---- restarting ---- */

/* A rename changes the ctime on some file systems, so that does not count. */
static bool is_file(const struct k3sup__place *place, const struct stat *st)
{
	return place->fd >= 0 && place->st.st_dev == st->st_dev && place->st.st_ino == st->st_ino && place->st.st_size == st->st_size &&
		place->st.st_mtim.tv_sec == st->st_mtim.tv_sec && place->st.st_mtim.tv_nsec == st->st_mtim.tv_nsec;
}

/*
 * Who runs now? Staging took time: what was seen before it may have ended, and its supervisor may have started the old or the new file meanwhile. Processes seen here are
 * held by their pidfds until the signal.
 */
static int work_look_again(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	struct k3sup__view v;
	int r = k3sup__view_take(op, s->node.node, NULL, &v);

	if (r < 0)
		return r;
	k3sup__view_clear(&s->view);
	s->view = v;
	if (!is_file(&v.installed, &s->payload_file))
		return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody replaced the installed k3s file meanwhile; k3s was not restarted");
	if (v.running_error == K3SUP_E_AMBIGUOUS)
		return k3sup__sighting_judge(op, &v.sighting);
	if (v.sighting.count > s->count)
		s->count = v.sighting.count;
	for (size_t i = 0; r >= 0 && i < v.sighting.count; i++)
		if (must_restart(s, &v.sighting.candidates[i])) {
			r = k3sup__signal_allowed(op, s->node.node, v.sighting.candidates[i].process);
			if (r >= 0)
				r = open_entry(op, s);
		}
	return r;
}

static int send_signals(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->view.sighting.count && n < ELEMENTSOF(s->old); i++) {
		const struct k3sup__candidate *c = &s->view.sighting.candidates[i];

		if (!must_restart(s, c))
			continue;
		if (n == 0) {
			k3sup__op_begin(op, "restart", "telling k3s (process %d) to end; its supervisor starts it again",
				(int)k3sup__process_pid(c->process));
			r = k3sup__op_checkpoint(op); /* the progress callback was just asked */
			if (r < 0)
				break;
			k3sup__op_no_return(op);
		}
		r = k3sup__signal_send(op, s->node.node, c->process, SIGTERM);
		if (r < 0)
			break;
		s->signalled |= r > 0;
		s->old[n++] = k3sup_process_ref(c->process); /* also if it had ended by itself: it does not count as the new one */
	}
	return r;
}

static int wait_for_exit(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);

	for (size_t i = 0; i < ELEMENTSOF(s->old); i++) {
		if (!s->old[i])
			continue;
		if (!k3sup__process_ended(s->old[i])) {
			if (k3sup__now_ms() >= k3sup__op_deadline(op))
				return k3sup__fail(op, K3SUP_E_TIMEOUT, "k3s (process %d) was told to end and has not done so in time",
					(int)k3sup__process_pid(s->old[i]));
			return k3sup__op_watch(op, s->old[i], k3sup__op_deadline(op));
		}
		k3sup__op_went_down(op, k3sup__now_ms());
	}
	return 0;
}

/* ---- proving ---- */

static int call_prove(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	struct k3sup__want want = {
		.count = s->count ? s->count : 1,
		.by_file = true,
		.file_dev = s->payload_file.st_dev,
		.file_ino = s->payload_file.st_ino,
		.come_by = k3sup__op_deadline(op),
		.give_up = k3sup__op_deadline(op),
		.stable_ms = s->stable_ms,
	};
	k3sup_op *child;
	int r;

	memcpy(want.asset_hash, s->payload.build.asset_hash, sizeof(want.asset_hash));
	memcpy(want.previous, s->old, sizeof(want.previous));
	if (s->start_awaited) {
		int64_t pause = k3sup__deadline(SUPERVISORS_PAUSE_MS);

		/* A moment before the operation's own deadline, so that the answer is "no k3s" and not "out of time". */
		want.come_by = want.come_by - 50 < pause ? want.come_by - 50 : pause;
	}
	k3sup__op_begin(op, "prove", "waiting until the wanted build runs and stays");
	r = k3sup__running_op(s->node.node, &want, &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

static int after_prove(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	int r = k3sup__op_adopt(op, k3sup__op_child(op));

	if (r == K3SUP_E_NOT_RESTARTED && s->start_awaited) {
		k3sup__op_forgive(op);
		r = k3sup__fail(op, K3SUP_E_NO_K3S,
			"%s is the payload already, but no k3s runs, and none was started while one was waited for (%d s at most)",
			s->view.installed.path, SUPERVISORS_PAUSE_MS / 1000);
	}
	return r < 0 ? r : 0;
}

/* ---- reporting: of failures and stops, too ---- */

static bool has_changed(const struct upgrade_state *s)
{
	return s->swapped.renamed || s->cleaned || s->signalled;
}

/*
 * What failed or was cut halfway stays open: the next run proves. A refusal that touched nothing leaves nothing to prove. Who asks for the file only does not prove what an
 * earlier run had still to prove.
 */
static bool is_over(const struct upgrade_state *s)
{
	if (s->status < 0)
		return !s->swapped.renamed && !s->signalled && !s->entry.resumed;
	return s->restart != K3SUP_RESTART_NONE || !s->entry.prove;
}

static int work_report(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	k3sup__json *facts = k3sup__op_facts(op);
	struct k3sup__view v;
	int r = 0;

	if (is_over(s)) {
		r = k3sup__entry_close(op, s->node.node, s->status, &s->entry);
		if (r < 0)
			k3sup__op_seal_failure(op); /* the look below must not take back the sentence */
		if (s->status < 0)
			r = 0; /* what went wrong first is how it ends */
	}
	if (s->payload.fd >= 0 && k3sup__view_take(op, s->node.node, s->status < 0 ? &s->payload : NULL, &v) >= 0) {
		k3sup__view_report(op, s->node.node, &v);
		k3sup__view_clear(&v);
	}
	k3sup__json_set_bool(facts, "changed", has_changed(s));
	k3sup__json_set_bool(facts, "resumed", s->entry.resumed);
	k3sup__json_set_int(facts, "downtime_ms", k3sup__op_downtime(op) < 0 ? 0 : k3sup__op_downtime(op));
	k3sup__proof_report(op, s->payload.proof);
	return r;
}

static int conclude(k3sup_op *op, int status)
{
	struct upgrade_state *s = k3sup__op_state(op);

	s->status = status < 0 ? status : has_changed(s);
	s->phase = PHASE_REPORT;
	k3sup__op_no_return(op);
	if (status < 0)
		k3sup__op_seal_failure(op);
	return k3sup__op_work(op, work_report);
}

/* ---- the machine ---- */

static int go(k3sup_op *op, enum phase phase, int (*work)(k3sup_op *op))
{
	struct upgrade_state *s = k3sup__op_state(op);

	s->phase = phase;
	return work ? k3sup__op_work(op, work) : K3SUP__AGAIN;
}

static int after_look(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);
	int64_t now = k3sup__now_ms();

	if (r == K3SUP_E_BUSY && now < s->lock_deadline) {
		k3sup__op_forgive(op);
		return k3sup__op_sleep(op, now + RETRY_LOCK_MS < s->lock_deadline ? now + RETRY_LOCK_MS : s->lock_deadline);
	}
	if (r < 0)
		return conclude(op, r);
	if (s->swap)
		return go(op, PHASE_SWAP, work_swap);
	if (s->restart == K3SUP_RESTART_NONE)
		return conclude(op, 0);
	return s->restarts ? go(op, PHASE_SIGNAL, work_look_again) : go(op, PHASE_PROVE, NULL);
}

static int after_swap(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	int r = k3sup__op_work_result(op);

	if (r < 0 || s->restart == K3SUP_RESTART_NONE)
		return conclude(op, r);
	return go(op, PHASE_SIGNAL, work_look_again);
}

static int after_look_again(k3sup_op *op)
{
	int r = k3sup__op_work_result(op);

	if (r >= 0)
		r = send_signals(op);
	return r < 0 ? conclude(op, r) : go(op, PHASE_EXIT, NULL);
}

static int exit_step(k3sup_op *op)
{
	int r = wait_for_exit(op);

	if (r == K3SUP__WAIT)
		return r;
	return r < 0 ? conclude(op, r) : go(op, PHASE_PROVE, NULL);
}

static int prove_step(k3sup_op *op)
{
	int r;

	if (k3sup__op_woke(op) == K3SUP__WOKE_CHILD && k3sup__op_child(op))
		return conclude(op, after_prove(op));
	r = call_prove(op);
	return r < 0 ? conclude(op, r) : r;
}

static int step(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);
	enum k3sup__woke woke = k3sup__op_woke(op);

	if (woke == K3SUP__WOKE_STOP)
		return conclude(op, k3sup__op_stop_code(op));
	switch (s->phase) {
	case PHASE_LOOK:
		if (woke == K3SUP__WOKE_WORK)
			return after_look(op);
		if (woke == K3SUP__WOKE_START) {
			k3sup__op_plan(op, plan, ELEMENTSOF(plan));
			k3sup__op_begin(op, "lock", "taking the node's lock");
		}
		return k3sup__op_work(op, work_look);
	case PHASE_SWAP:
		return after_swap(op);
	case PHASE_SIGNAL:
		return after_look_again(op);
	case PHASE_EXIT:
		return exit_step(op);
	case PHASE_PROVE:
		return prove_step(op);
	case PHASE_REPORT:
		return k3sup__op_work_result(op) < 0 ? k3sup__op_work_result(op) : s->status;
	}
	return K3SUP_E_INTERNAL;
}

static void clear(k3sup_op *op)
{
	struct upgrade_state *s = k3sup__op_state(op);

	k3sup__node_give_turn(op, s->node.node);
	for (size_t i = 0; i < ELEMENTSOF(s->old); i++)
		k3sup_process_unref(s->old[i]);
	k3sup__view_clear(&s->view);
	k3sup__swapped_clear(&s->swapped);
	k3sup__payload_clear(&s->payload);
	k3sup__source_clear(&s->source);
}

static const struct k3sup__op_class class = {
	.verb = "upgrade",
	.state_size = sizeof(struct upgrade_state),
	.step = step,
	.clear = clear,
	.concludes = true,
};

int k3sup_upgrade(k3sup_node *node, const struct k3sup_upgrade_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts o;
	struct k3sup__given_terms terms;
	struct k3sup__source source;
	struct upgrade_state *s;
	k3sup_op *op;
	int r = node && opts && ret_op ? k3sup__opts(opts, &o, sizeof(o), FLAGS) : -EINVAL;

	if (r >= 0 && (o.restart > K3SUP_RESTART_NONE || o.reserved || o.reserved2))
		r = -EINVAL;
	if (r >= 0) {
		terms = (struct k3sup__given_terms){o.sha256, o.sums, o.signature, o.key, o.expect_version};
		r = k3sup__source_take(o.payload, o.flags & K3SUP_UPGRADE_PAYLOAD_FD, o.payload_fd, &terms, &source);
	}
	if (r < 0)
		return r;
	if (o.flags & K3SUP_UPGRADE_CHECK)
		return k3sup__check_new(node, &source, o.flags, k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000), ret_op);
	r = k3sup__node_op_new(node, &class, k3sup__deadline(o.timeout_ms ? o.timeout_ms : 900000), &op);
	if (r < 0) {
		k3sup__source_clear(&source);
		return r;
	}
	s = k3sup__op_state(op);
	s->source = source;
	s->payload = K3SUP__PAYLOAD_NONE;
	s->view.installed = K3SUP__PLACE_NONE;
	s->lock_deadline = k3sup__deadline(o.wait_lock_ms);
	s->stable_ms = o.stable_ms < 0 ? 0 : o.stable_ms ? o.stable_ms : 20000;
	s->restart = o.restart;
	s->flags = o.flags;
	*ret_op = op;
	return 0;
}
