/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judging: what a history with cuts comes to has to be what it comes to without.
 *
 * Who wants one thing and is only interrupted gets exactly what one run would have made. Who wants something else after a cut gets what it would have been if each cut run
 * had been run through, or never begun, or had ended behind one of the names it had given.
 */
#include "law.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_same_goal(const struct event *a, const struct event *b)
{
	return a->what == b->what && a->build == b->build && a->restart == b->restart && a->images == b->images && a->key == b->key &&
		a->rollback == b->rollback && a->retry == b->retry;
}

/*
 * One goal, and nobody else who decides anything: a start decides which build runs where the goal is only a file, and a stop whether the last run finds a k3s. It may be refused for
 * that and finish nothing; or it owes a start since a run was cut behind its own stop, and nothing tells that from the operator's.
 */
static bool is_strict(const struct history *h, const struct outcome *real)
{
	const struct event *last = &h->events[h->count - 1];
	bool begun = false;

	for (unsigned i = 0; i < h->count; i++) {
		const struct event *e = &h->events[i];

		begun |= real->struck & 1u << i;
		if (begun && is_run(e->what) && e->what != MARK && !is_same_goal(e, last))
			return false;
		if (begun && e->what == STOP)
			return false;
		if (e->what == REPLACE || e->what == DROP_BACKUP || e->what == RETIRE || e->what == RESTORE)
			return false;
		if ((e->what == START || e->what == REBOOT) && !is_proof(last) && last->what != STAGE)
			return false;
	}
	return true;
}

static bool has(const struct history *h, enum what what)
{
	for (unsigned i = 0; i < h->count; i++)
		if (h->events[i].what == what)
			return true;
	return false;
}

/* It ends with a proof that leaves no entry open. A rotation proves nothing of an upgrade that was cut, or refused halfway. */
static bool closes(const struct history *h)
{
	const struct event *last = &h->events[h->count - 1];

	return is_proof(last) && (last->what != ROTATE || !(has(h, UPGRADE) || has(h, ROLLBACK)));
}

/*
 * Whoever undoes a run that was cut when it had recorded what it keeps, and before it replaced that, stays where he is. The backup of the run before it may be gone then, as its name
 * was to be the new one's. Images that it has put where there were none stay, as no file is removed that did not replace another one; and those that somebody has staged apart from
 * any upgrade, and not committed, go back with any rollback.
 */
static bool is_undone(const struct outcome *a, const struct outcome *b, const struct history *h)
{
	const bool images = h->setup.images && !has(h, STAGE);

	return node_hash_of_undone(a->tree.text, images) == node_hash_of_undone(b->tree.text, images);
}

/* And nothing else is pending: a rotation is proven by one, and what a cut swap has left is no rotation's business. */
static bool settles(const struct history *h)
{
	const struct event *last = &h->events[h->count - 1];
	bool rotation = false;

	for (unsigned i = 0; i < h->count; i++)
		rotation |= rotates(&h->events[i]);
	return closes(h) && (!rotation || rotates(last)) && (last->what != ROTATE || !(has(h, SWAP) || has(h, SWAP_BACK)));
}

/* Whether this run found that out, or one before it. */
static bool has_failed(int status)
{
	return status == K3SUP_E_ROLLED_BACK || status == K3SUP_E_FAILED_BEFORE;
}

/* How much was left to do is up to the cuts; whether it could be done is not. Only a proof ends what was begun. */
static bool equal(const struct outcome *a, const struct outcome *b, const struct history *h, bool undone)
{
	if (a->build != b->build || (settles(h) && a->status >= 0 && strcmp(a->state, b->state) != 0))
		return false;
	if (a->status != b->status && (a->status < 0 || b->status < 0) && !(has_failed(a->status) && has_failed(b->status)))
		return false;
	return a->tree.hash == b->tree.hash || (undone && is_undone(a, b, h));
}

static const char *name_of(int status)
{
	return status < 0 ? k3sup_error_name(status) : status > 0 ? "changed" : "already so";
}

static void print_lines(FILE *to, const char *which, const char *text, const char *other)
{
	_free_ char *mine = strdup(text);
	char *rest = mine, *line;

	while (rest && (line = strsep(&rest, "\n")))
		if (!strstr(other, line))
			(void)fprintf(to, "#   %s: %s\n", which, line);
}

static void print_difference(FILE *to, const struct outcome *a, const struct outcome *b)
{
	(void)fprintf(to, "#   with cuts: status %s, state %s, build %u runs%s; without: status %s, state %s, build %u runs%s%s%s\n",
		name_of(a->status), a->state, a->build, a->open_entry ? ", an open entry" : "", name_of(b->status), b->state, b->build,
		b->open_entry ? ", an open entry" : "", b->complaint ? ", " : "", b->complaint ? b->complaint : "");
	print_lines(to, "with cuts", a->tree.text, b->tree.text);
	print_lines(to, "without", b->tree.text, a->tree.text);
}

static bool next(enum variant *variants, enum variant last, unsigned struck, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (!(struck & 1u << i))
			continue;
		if (variants[i] != last) {
			variants[i]++;
			return true;
		}
		variants[i] = FULL;
	}
	return false;
}

static bool is_reached_by(const struct history *h, const struct outcome *real, const struct verdict *v, enum variant last, FILE *differences)
{
	enum variant variants[MOST_EVENTS] = {FULL};
	bool found = false;

	do {
		struct outcome o = play(h, real, variants);
		bool undone = false;

		for (unsigned i = 0; i < h->count; i++)
			undone |= variants[i] >= UNDONE;
		found = equal(real, &o, h, undone) && !o.complaint;
		if (!found)
			print_difference(differences, real, &o);
		outcome_clear(&o);
	} while (!found && !v->strict && next(variants, last, real->struck, h->count));
	return found;
}

static bool is_reached(const struct history *h, const struct outcome *real, struct verdict *v)
{
	size_t len = 0;
	FILE *differences = open_memstream(&v->differences, &len);
	bool found;

	need(differences != NULL, "memory");
	found = is_reached_by(h, real, v, PROMISED, differences) ||
		(!v->strict && (has(h, ROLLBACK) || has(h, SWAP_BACK)) && is_reached_by(h, real, v, UNDONE_BEHIND, differences));
	(void)fclose(differences);
	return found;
}

struct verdict judge(const struct history *h)
{
	struct outcome real = play(h, NULL, NULL);
	struct verdict v = {.hash = real.tree.hash, .strict = is_strict(h, &real)};

	v.cuts = (unsigned)__builtin_popcount(real.struck);
	if (getenv("LAW_VERBOSE"))
		printf("%s", real.tree.text);
	if (real.complaint)
		v.complaint = strdup(real.complaint);
	if (!v.complaint && real.status >= 0)
		v.complaint = node_litter(real.tree.text);
	if (!v.complaint && real.status >= 0 && real.open_entry && real.build != 0 && closes(h))
		v.complaint = strdup("its entry in the journal is open");
	if (!v.complaint && has_failed(real.status) && real.open_entry && only_upgrades(h))
		v.complaint = strdup("its entry in the journal is open, though it was rolled back");
	if (!v.complaint && (real.status >= 0 || has_failed(real.status)))
		v.complaint = play_again(&h->events[h->count - 1], &real);
	if (!v.complaint && real.struck && !is_reached(h, &real, &v))
		v.complaint = strdup(v.strict ? "it is not what it is without cuts" : "no history without cuts comes to this");
	outcome_clear(&real);
	return v;
}

void verdict_clear(struct verdict *v)
{
	free(v->complaint);
	free(v->differences);
	*v = (struct verdict){0};
}

/* ---- shrinking ---- */

/* what: how the complaint begins. */
static bool still_fails(const struct history *h, const char *what)
{
	struct verdict v = judge(h);
	bool fails = v.complaint != NULL && strncmp(v.complaint, what, 10) == 0;

	verdict_clear(&v);
	return fails;
}

static bool drop_events(struct history *h, const char *what)
{
	bool shrunk = false;

	for (unsigned i = 0; i + 1 < h->count;) {
		struct history less = *h;

		memmove(&less.events[i], &less.events[i + 1], (less.count - i - 1) * sizeof(less.events[0]));
		less.count--;
		if (still_fails(&less, what)) {
			*h = less;
			shrunk = true;
		} else {
			i++;
		}
	}
	return shrunk;
}

static bool simplify(struct history *h, const char *what)
{
	bool shrunk = false;

	for (unsigned i = 0; i < h->count; i++)
		for (unsigned how = 0; how < 4; how++) {
			struct history less = *h;
			struct event *e = &less.events[i];

			if (how == 0)
				e->cut = 0;
			else if (how == 1)
				e->images = 0;
			else if (how == 2)
				e->half = e->power = false;
			else
				e->restart = K3SUP_RESTART_AUTO;
			if (memcmp(&less, h, sizeof(less)) != 0 && still_fails(&less, what)) {
				*h = less;
				shrunk = true;
			}
		}
	return shrunk;
}

void shrink(struct history h)
{
	struct verdict first = judge(&h), v;

	while (first.complaint && (drop_events(&h, first.complaint) || simplify(&h, first.complaint)))
		;
	verdict_clear(&first);
	v = judge(&h);
	printf("# %s (seed %llu, shrunk)\n", v.complaint ? v.complaint : "?", (unsigned long long)h.seed);
	history_print(&h);
	verdict_clear(&v);
}
