/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Playing a history, and what has to hold after each of its events.
 */
#include "law.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void complain(struct outcome *o, unsigned at, char *what)
{
	if (what && !o->complaint)
		o->complaint = k3sup__fmt("%s, after event %u", what, at + 1);
	free(what);
}

static bool power_follows(const struct history *h, unsigned i)
{
	return i + 1 < h->count && h->events[i + 1].what == REBOOT && h->events[i + 1].power;
}

/* What was said to be done is on disk. */
static void cut_power(struct outcome *o, const struct event *e, unsigned at, bool complete)
{
	struct tree_text before = {0}, after;

	if (complete)
		before = node_look();
	lose(e->lost);
	if (!complete)
		return;
	after = node_look();
	if (before.hash != after.hash)
		complain(o, at, strdup("a power cut took back what a run had done"));
	free(before.text);
	free(after.text);
}

static void others_do(const struct event *e)
{
	switch (e->what) {
	case REPLACE:
		node_replace(e->build);
		break;
	case STOP:
		machine_stop();
		break;
	case START:
		machine_start();
		break;
	case REBOOT:
		machine_reboot();
		break;
	case FLIP_CURRENT:
		node_flip_current();
		break;
	case DROP_BACKUP:
		node_drop_backup();
		break;
	default:
		machine_wait(60000);
		break;
	}
}

static bool has_backup(void)
{
	_free_ char *path = at(INSTALLED ".k3sup-backup");

	return node_build_of(path) != 0;
}

/* A second name of the installed file, as a cut run leaves it, is none that may not go. */
static bool has_another_build(void)
{
	_free_ char *path = at(INSTALLED ".k3sup-backup"), *k3s = at(INSTALLED);
	struct stat backup, installed;

	return has_backup() && stat(path, &backup) == 0 && stat(k3s, &installed) == 0 && backup.st_ino != installed.st_ino;
}

/* In a process of its own, as whoever asks next. */
static bool entry_is_open(void)
{
	k3sup_ctx *ctx = NULL;
	pid_t pid;
	int how;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		look_at_state(open_node(&ctx));
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &how, 0) != pid || how != 0)
		abort();
	return machine->open_entry;
}

/* Marks that were said to be there, and no errors about the others. */
static bool marks_are_there(unsigned marked)
{
	k3sup_ctx *ctx = NULL;
	pid_t pid;
	int how;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		k3sup_node *node = open_node(&ctx);
		bool good = true;

		for (unsigned key = 1; key <= BUILDS; key++) {
			_free_ char *text = k3sup__fmt("step-%u", key);
			int r = k3sup_node_marked(node, text);

			good &= r > 0 || (r == 0 && !(marked & 1u << key));
		}
		_exit(!good);
	}
	if (pid < 0 || waitpid(pid, &how, 0) != pid)
		abort();
	return how == 0;
}

/*
 * Who has replaced k3s's file to have it run, and was cut before it did: the next one is told. Not of a k3s that its operator has stopped: there the file is all that is to be done.
 * before: what was installed.
 */
static void check_that_it_is_told(struct outcome *o, const struct event *e, unsigned at, unsigned before)
{
	unsigned now = node_installed();

	if (is_proof(e) && e->what != ROTATE && !machine->stopped && now != 0 && now != before && machine_build() != now && !entry_is_open())
		complain(o, at, strdup("nobody is told that it was cut"));
}

static unsigned dying_starts(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < machine->lives_count; i++)
		n += machine->lives[i].build == machine->setup.dies;
	return n;
}

/*
 * A build that dies was wanted, by a run that was not cut: the one before it is there again, unless the caller wants no way back, and it is not tried once more if it had failed, unless
 * the caller wants that. starts: so often it had been started; there: it was installed, or ran, already; ran: some build did, so there is no way back that has to be finished first.
 */
static void check_the_way_back(struct outcome *o, const struct event *e, unsigned at, unsigned starts, bool there, bool ran)
{
	const unsigned installed = node_installed();

	if (e->rollback == K3SUP_ROLLBACK_NEVER && machine->status == K3SUP_E_NOT_STABLE) {
		if (installed != machine->setup.dies)
			complain(o, at, strdup("the build before was put back, and nobody wanted that"));
	} else if (machine->status != K3SUP_E_FAILED_BEFORE && (machine->status != K3SUP_E_ROLLED_BACK || e->rollback == K3SUP_ROLLBACK_NEVER))
		complain(o, at, k3sup__fmt("a build that dies was left there (%d)", machine->status));
	else if (machine_build() != installed || installed == machine->setup.dies)
		complain(o, at, strdup("the build before was not put back"));
	else if (e->retry && (machine->status == K3SUP_E_FAILED_BEFORE || (ran && dying_starts() == starts)))
		complain(o, at, strdup("a build that had failed was not tried again"));
	else if (o->refused && !there && !e->retry && dying_starts() != starts)
		complain(o, at, strdup("a build that had failed was tried again"));
	o->refused = true;
}

static void play_run(const struct history *h, unsigned i, struct outcome *o, unsigned stop_after, unsigned cut)
{
	const struct event *e = &h->events[i];
	struct tree_text before = {0}, after;
	const bool backup = has_another_build();
	const unsigned installed = node_installed(), running = machine_build(), starts = dying_starts();

	machine->cut = cut;
	machine->half = e->half;
	machine->stop_after = stop_after;
	machine->logging = power_follows(h, i);
	if (rotates(e) && o->begun[e->key] == 0)
		o->begun[e->key] = 1 + machine->leafs;
	o->restored |= e->what == RESTORE;
	if (e->locked)
		before = node_look();
	hooks_begin();
	if (run_in_a_process(e, i + 1 == h->count)) {
		o->struck |= 1u << i;
		if (!power_follows(h, i))
			check_that_it_is_told(o, e, i, installed);
	} else if (machine->status == INT32_MIN) {
		complain(o, i, strdup("the run crashed"));
	} else if (e->what == MARK && machine->status >= 0) {
		o->marked |= 1u << e->build;
	} else if (rotates(e) && machine->status >= 0 && machine_build() != 0 && !o->restored) {
		complain(o, i, leafs_not_new(o->begun[e->key] - 1));
	} else if (machine->setup.dies && e->what == UPGRADE && is_proof(e) && e->build == machine->setup.dies && only_upgrades(h)) {
		check_the_way_back(o, e, i, starts, running == e->build || installed == e->build, running != 0);
	}
	if (h->setup.hooks && (e->what == UPGRADE || e->what == ROLLBACK || e->what == ROTATE))
		complain(o, i, hooks_complaint());
	o->publications[i] = machine->publications;
	if (backup && !has_backup())
		complain(o, i, strdup("the only backup is gone"));
	if (e->locked) {
		after = node_look();
		if (machine->status != K3SUP_E_BUSY || strcmp(before.text, after.text) != 0)
			complain(o, i, strdup("it worked beside the holder of the lock"));
		free(before.text);
		free(after.text);
	}
}

/* Who goes back to what is there already. */
static void stay(const struct history *h, unsigned i, struct outcome *o)
{
	struct history other = *h;

	other.events[i].what = h->events[i].what == ROLLBACK ? UPGRADE : SWAP;
	other.events[i].build = node_installed();
	other.events[i].images = 0;
	play_run(&other, i, o, UINT32_MAX, 0);
}

/*
 * Where this run leaves no litter, its own or others'. Who is refused does not tidy up. An upgrade that is not to replace certificates leaves alone what is in certs/: a rotation that was
 * cut stays pending, and the run that finishes it sweeps (k3sup_upgrade() in <k3sup/upgrade.h>).
 */
static const char *const *tidied(const struct event *last, int status, bool retired)
{
	static const char *const nowhere[] = {NULL}, *const files[] = {BIN_DIR, NULL}, *const images[] = {DATA_DIR "/agent/.k3sup", NULL},
				 *const both[] = {BIN_DIR, DATA_DIR "/agent/.k3sup", NULL},
				 *const certs[] = {DATA_DIR, STATE_DIR "/certs", NULL}, *const backups[] = {STATE_DIR "/certs", NULL},
				 *const everything[] = {BIN_DIR, DATA_DIR, DATA_DIR "/agent/.k3sup", STATE_DIR "/certs", NULL};

	if (status < 0)
		return nowhere;
	if (last->what == RETIRE || last->what == RESTORE)
		return certs;
	/* A start also makes what an earlier run has taken away. */
	if (retired && rotates(last))
		return is_proof(last) && last->what != ROTATE ? everything : certs;
	if (last->what == ROTATE)
		return machine->running < 0 ? nowhere : backups;
	if (last->what == STAGE || last->what == UNSTAGE)
		return images;
	return is_proof(last) || (last->what == UPGRADE && last->images) ? both : files;
}

struct outcome play(const struct history *h, const struct outcome *real, const enum variant *variants)
{
	struct outcome o = {0};
	unsigned installed = 0, leafs = 0;
	bool undone = false;

	node_make(&h->setup);
	machine_new(&h->setup);
	machine->steps_count = 0;
	for (unsigned i = 0; i < h->count; i++) {
		const struct event *e = &h->events[i];
		bool was_cut = real && real->struck & 1u << i;
		enum variant variant = was_cut ? variants[i] : FULL;
		bool power = e->what == REBOOT && e->power;

		if (power && i > 0 && is_run(h->events[i - 1].what)) {
			const bool cut = o.struck & 1u << (i - 1);

			cut_power(&o, e, i, !cut && machine->status >= 0);
			if (cut)
				check_that_it_is_told(&o, &h->events[i - 1], i - 1, installed);
		}
		installed = node_installed();
		leafs = machine->leafs;
		machine->durable = variant == SYNCED || variant == PROMISED;
		if (!is_run(e->what))
			others_do(e);
		else if (undone && (e->what == ROLLBACK || e->what == SWAP_BACK))
			stay(h, i, &o);
		else if (variant != DROPPED && variant != UNDONE)
			play_run(h, i, &o, variant >= PREFIX && variant <= PROMISED ? real->publications[i] + (variant == PROMISED) : UINT32_MAX,
				!real || variant == UNDONE_BEHIND ? e->cut : 0);
		if (node_installed() != installed) /* now there is something else to go back to */
			undone = false;
		undone |= variant == UNDONE || variant == UNDONE_BEHIND;
		machine->logging = false;
		if (!power_follows(h, i)) {
			forget_steps();
			if (i + 1 < h->count)
				machine_wait(1000);
		}
		complain(&o, i, node_complaint());
		if (machine_forgotten())
			complain(&o, i, strdup("k3s was stopped, and nothing starts it"));
	}
	if (!marks_are_there(o.marked))
		complain(&o, h->count - 1, strdup("a mark is lost"));
	o.status = machine->status;
	o.open_entry = machine->open_entry;
	memcpy(o.state, machine->state, sizeof(o.state));
	machine_tick();
	o.build = machine_wants();
	o.tree = node_look();
	node_forget_litter(&o.tree, tidied(&h->events[h->count - 1], o.status, machine->leafs != leafs));
	return o;
}

char *play_again(const struct event *last, const struct outcome *real)
{
	const bool refused = real->status < 0;
	const int tried = last->rollback == K3SUP_ROLLBACK_NEVER ? K3SUP_E_NOT_STABLE : K3SUP_E_ROLLED_BACK;
	struct tree_text after;
	char *complaint = NULL;

	machine->cut = 0;
	machine->stop_after = UINT32_MAX;
	(void)run_in_a_process(last, true);
	after = node_look();
	if (refused && machine->status != (last->retry ? tried : K3SUP_E_FAILED_BEFORE))
		complaint = strdup("a build that had failed is not refused, or not tried again");
	else if (!refused && machine->status != 0)
		complaint = k3sup__fmt("a second run ends with %s",
			machine->status > 0 ? "something that was left to do" : k3sup_error_name(machine->status));
	else if (after.touch != real->tree.touch && !(refused && last->retry))
		complaint = strdup("a second run changes something");
	free(after.text);
	return complaint;
}

void outcome_clear(struct outcome *o)
{
	free(o->tree.text);
	free(o->complaint);
	*o = (struct outcome){0};
}
