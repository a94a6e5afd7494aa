/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories: drawn from a seed, printed as a script, and read from one.
 */
#include "law.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const mutant_names[MUTANTS] = {"none", "no-directory-sync", "no-file-sync", "rename-by-unlink", "no-sweep", "entry-not-closed",
	"lock-not-taken", "restart-forgotten", "in-place", "certificate-first", "key-back-first", "no-backup-of-leafs", "entry-not-opened",
	"backup-gone-early", "no-key", "stop-not-noted", "guard-not-armed", "failure-forgotten", "left-dying", "asked-once"};
static const char *const words[WHATS] = {"upgrade", "swap", "rollback", "swap-back", "stage", "unstage", "retire", "restore", "rotate",
	"mark", "replace", "stop", "start", "reboot", "flip-current", "drop-backup", "wait"};

bool is_run(enum what what)
{
	return what < REPLACE;
}

bool rotates(const struct event *e)
{
	return e->key > 0;
}

bool is_proof(const struct event *e)
{
	return (e->what == UPGRADE || e->what == ROLLBACK || e->what == ROTATE) && e->restart != K3SUP_RESTART_NONE;
}

bool only_upgrades(const struct history *h)
{
	const struct event *last = &h->events[h->count - 1];

	for (unsigned i = 0; i < h->count; i++) {
		const struct event *e = &h->events[i];

		if (e->what == UPGRADE ? e->retry != last->retry || e->rollback != last->rollback : e->what != REBOOT && e->what != WAIT)
			return false;
	}
	return true;
}

/* ---- drawing ---- */

static uint64_t random_state;

static unsigned draw(unsigned below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)((random_state >> 11) % below);
}

static bool one_in(unsigned n)
{
	return draw(n) == 0;
}

/* About as many calls as the longest of these runs makes: most cuts are to strike. */
static unsigned draw_cut(enum what what)
{
	static const unsigned most[REPLACE] = {
		[UPGRADE] = 70, [SWAP] = 45, [ROLLBACK] = 60, [SWAP_BACK] = 40, [STAGE] = 30, [UNSTAGE] = 20, [RETIRE] = 420, [RESTORE] = 500, [ROTATE] = 700, [MARK] = 14};
	unsigned at = 1 + draw(most[what]);

	/* Half of them early, where short runs are, too. */
	return one_in(2) && what >= RETIRE ? 1 + draw(at) : at;
}

static struct event *add(struct history *h, enum what what)
{
	struct event *e = &h->events[h->count++];

	need(h->count <= MOST_EVENTS, "events of one history");
	*e = (struct event){.what = what, .build = 1 + draw(BUILDS)};
	if (what == UPGRADE || what == ROLLBACK)
		e->restart = draw(2)                    ? K3SUP_RESTART_AUTO
			: h->setup.managed && one_in(2) ? K3SUP_RESTART_SERVICE
			: draw(4)                       ? K3SUP_RESTART_SIGNAL
							: K3SUP_RESTART_NONE;
	if ((what == UPGRADE || what == STAGE) && (what == STAGE || one_in(3)))
		e->images = 1 + draw((1 << IMAGES) - 1);
	if (what == REBOOT && one_in(2)) {
		e->power = true;
		e->lost = draw(1000);
	}
	return e;
}

static void add_cut(struct history *h, enum what what)
{
	struct event *e = add(h, what);

	e->cut = draw_cut(what);
	e->half = one_in(4);
}

/* What may happen between two runs of somebody who only wants to get there: nothing of it decides anything. */
static void pause_between(struct history *h)
{
	switch (draw(6)) {
	case 0:
		add(h, REBOOT);
		break;
	case 1:
		add(h, STOP);
		add(h, START);
		break;
	case 2:
		add(h, FLIP_CURRENT);
		break;
	default:
		add(h, WAIT);
		break;
	}
}

/* One goal until it is reached. */
static void draw_stubborn(struct history *h)
{
	static const enum what goals[] = {UPGRADE, UPGRADE, UPGRADE, UPGRADE, SWAP, STAGE, ROLLBACK, SWAP_BACK};
	enum what goal = goals[draw(ELEMENTSOF(goals))];
	unsigned cuts = 1 + draw(4);
	struct event like;

	if (goal == ROLLBACK || goal == SWAP_BACK)
		add(h, UPGRADE)->build = 2;
	like = *add(h, goal);
	h->count--;
	for (unsigned i = 0; i <= cuts; i++) {
		if (i < cuts) {
			like.cut = draw_cut(goal);
			like.half = one_in(4);
		} else {
			like.cut = 0;
		}
		h->events[h->count++] = like;
		if (i < cuts)
			pause_between(h);
	}
}

/* Others want other things meanwhile. */
static void draw_mixed(struct history *h)
{
	static const enum what runs[] = {UPGRADE, UPGRADE, UPGRADE, SWAP, ROLLBACK, SWAP_BACK, STAGE, UNSTAGE};
	static const enum what others[] = {REPLACE, STOP, START, REBOOT, REBOOT, FLIP_CURRENT, DROP_BACKUP, WAIT};
	unsigned cuts = draw(5), plain = draw(3), others_left = draw(4);

	while (cuts + plain + others_left > 0) {
		unsigned which = draw(cuts + plain + others_left);

		if (which < cuts) {
			add_cut(h, runs[draw(ELEMENTSOF(runs))]);
			cuts--;
		} else if (which < cuts + plain) {
			add(h, runs[draw(ELEMENTSOF(runs))])->locked = one_in(8);
			plain--;
		} else {
			add(h, others[draw(ELEMENTSOF(others))]);
			others_left--;
		}
	}
	if (one_in(2))
		add(h, START);
	add(h, runs[draw(ELEMENTSOF(runs))]);
}

/* Certificates, while k3s is stopped by its operator. */
static void draw_certs(struct history *h)
{
	unsigned cuts = 1 + draw(4);

	if (one_in(3))
		add(h, UPGRADE);
	add(h, STOP);
	for (unsigned i = 0; i < cuts; i++) {
		add_cut(h, draw(3) ? RETIRE : RESTORE);
		if (one_in(3)) {
			add(h, one_in(2) ? REBOOT : START);
			add(h, STOP);
		}
	}
	if (one_in(3))
		add(h, START);
	if (one_in(3)) {
		add(h, STOP);
		add(h, RESTORE);
	} else {
		add(h, STOP);
		add(h, RETIRE);
	}
}

/* New certificates while k3s runs, alone and with another build. */
static struct event *add_rotation(struct history *h)
{
	struct event *e = add(h, one_in(2) ? ROTATE : UPGRADE);

	e->key = one_in(3) ? 2 : 1;
	e->restart = one_in(2) ? K3SUP_RESTART_AUTO : K3SUP_RESTART_SERVICE;
	return e;
}

static void draw_stubborn_rotation(struct history *h)
{
	const unsigned cuts = 1 + draw(4);
	struct event like;

	if (one_in(4))
		add(h, UPGRADE);
	if (one_in(4))
		add_rotation(h);
	like = *add_rotation(h);
	h->count--;
	for (unsigned i = 0; i <= cuts; i++) {
		like.cut = i < cuts ? draw_cut(ROTATE) : 0;
		like.half = i < cuts && one_in(4);
		h->events[h->count++] = like;
		if (i < cuts && !one_in(3)) /* else at once, before the guard has started k3s */
			pause_between(h);
	}
}

/* One build ends soon after each start, or one takes its time. */
static void draw_failing(struct setup *s)
{
	s->dies = one_in(8) ? 0 : 2;
	s->lives = one_in(3) ? 1 : 3000; /* before anybody has seen it come up, or behind that */
	s->slow = one_in(4) || !s->dies ? 1 + draw(BUILDS) : 0;
	s->pause = one_in(2) ? 0 : draw(6000);
}

static void add_failing(struct history *h, bool cut)
{
	struct event *e = add(h, UPGRADE);

	e->build = 2;
	e->restart = h->setup.managed ? K3SUP_RESTART_AUTO : K3SUP_RESTART_SIGNAL;
	e->rollback = one_in(3) ? K3SUP_ROLLBACK_NEVER : one_in(4) ? K3SUP_ROLLBACK_ALWAYS : K3SUP_ROLLBACK_AUTO;
	e->retry = one_in(4);
	e->cut = cut ? 1 + draw(110) : 0;
	e->half = cut && one_in(4);
}

/* A build that fails is wanted until it is refused; or another one, in the end. */
static void draw_dying(struct history *h)
{
	const unsigned cuts = 1 + draw(4);

	draw_failing(&h->setup);
	for (unsigned i = 0; i <= cuts; i++) {
		struct event *e = &h->events[h->count];

		add_failing(h, i < cuts);
		e->images = h->events[0].images;
		e->rollback = h->events[0].rollback;
		e->retry = h->events[0].retry;
		if (i == cuts && one_in(4))
			e->build = 3;
		if (i < cuts && one_in(2))
			add(h, one_in(3) ? REBOOT : WAIT)->power = false;
	}
}

/* Others want other things meanwhile. */
static void draw_mixed_dying(struct history *h)
{
	static const enum what runs[] = {UPGRADE, SWAP, ROLLBACK, SWAP_BACK}, others[] = {REPLACE, STOP, START, REBOOT, WAIT};
	unsigned cuts = 1 + draw(3);

	draw_failing(&h->setup);
	while (cuts > 0) {
		const unsigned which = draw(5);

		if (which < 3)
			add_failing(h, one_in(2) ? cuts-- : 0);
		else if (which == 3)
			add(h, runs[draw(ELEMENTSOF(runs))]);
		else if (h->count < MOST_EVENTS - 6)
			add(h, others[draw(ELEMENTSOF(others))]);
		if (h->count >= MOST_EVENTS - 3)
			break;
	}
	if (one_in(2))
		add(h, START);
	if (one_in(3))
		add(h, runs[draw(ELEMENTSOF(runs))]);
	else
		add_failing(h, false);
}

/* Others want other things meanwhile. */
static void draw_mixed_rotation(struct history *h)
{
	static const enum what runs[] = {UPGRADE, UPGRADE, SWAP, ROLLBACK, SWAP_BACK, RESTORE};
	static const enum what others[] = {REPLACE, STOP, START, REBOOT, REBOOT, WAIT, WAIT};

	for (unsigned n = 2 + draw(6); n > 0; n--) {
		struct event *e;

		if (one_in(3)) {
			add(h, others[draw(ELEMENTSOF(others))]);
			continue;
		}
		e = one_in(3) ? add(h, runs[draw(ELEMENTSOF(runs))]) : add_rotation(h);
		if (!one_in(3))
			e->cut = draw_cut(rotates(e) ? ROTATE : e->what);
		e->half = one_in(4);
	}
	if (one_in(2))
		add(h, START);
	if (one_in(4))
		add(h, UPGRADE);
	else
		add_rotation(h);
}

struct history history_draw(uint64_t seed)
{
	struct history h = {.seed = seed};
	unsigned kind;

	random_state = (seed + 1) * 0x9e3779b97f4a7c15u;
	for (int i = 0; i < 8; i++)
		(void)draw(2);
	kind = draw(12);
	h.setup = (struct setup){
		.versions = one_in(4), .managed = !one_in(3), .certs = kind == 0 && seed % 8 != 2, .images = !one_in(4), .attributes = one_in(2)};
	h.setup.pause = one_in(2) ? 0 : draw(8000);
	h.setup.hooks = seed / 8 % 2 == 1 && seed % 8 != 2; /* a build that dies ends by itself */
	if (seed % 8 == 4) {
		h.setup.certs = h.setup.rotates = h.setup.managed = true;
		(one_in(2) ? draw_mixed_rotation : draw_stubborn_rotation)(&h);
	} else if (seed % 8 == 2)
		(one_in(3) ? draw_mixed_dying : draw_dying)(&h);
	else if (kind == 0)
		draw_certs(&h);
	else if (kind <= 5)
		draw_stubborn(&h);
	else
		draw_mixed(&h);
	for (unsigned i = 0; seed % 4 == 1 && i < h.count; i++)
		if (h.events[i].what == WAIT) {
			h.events[i].what = MARK;
			h.events[i].cut = one_in(2) ? draw_cut(MARK) : 0;
		}
	return h;
}

/* ---- scripts ---- */

void history_print(const struct history *h)
{
	const struct setup *s = &h->setup;

	printf("node versions=%d managed=%d certs=%d rotates=%d images=%d attributes=%d pause=%u dies=%u lives=%u slow=%u hooks=%d\n",
		s->versions, s->managed, s->certs, s->rotates, s->images, s->attributes, s->pause, s->dies, s->lives, s->slow, s->hooks);
	for (unsigned i = 0; i < h->count; i++) {
		const struct event *e = &h->events[i];

		printf("%s build=%u restart=%u images=%u key=%u cut=%u half=%d power=%d lost=%u locked=%d rollback=%u retry=%d\n", words[e->what],
			e->build, e->restart, e->images, e->key, e->cut, e->half, e->power, e->lost, e->locked, e->rollback, e->retry);
	}
}

static unsigned number_of(const char *line, const char *key)
{
	_free_ char *pattern = k3sup__fmt(" %s=", key);
	const char *found = pattern ? strstr(line, pattern) : NULL;

	return found ? (unsigned)strtoul(found + strlen(pattern), NULL, 10) : 0;
}

static bool read_event(const char *line, struct event *e)
{
	size_t len = strcspn(line, " \n");

	*e = (struct event){.what = WHATS};
	for (unsigned i = 0; i < WHATS; i++)
		if (strlen(words[i]) == len && strncmp(words[i], line, len) == 0)
			e->what = i;
	e->build = number_of(line, "build");
	e->restart = number_of(line, "restart");
	e->images = number_of(line, "images");
	e->key = number_of(line, "key");
	e->cut = number_of(line, "cut");
	e->half = number_of(line, "half");
	e->power = number_of(line, "power");
	e->lost = number_of(line, "lost");
	e->locked = number_of(line, "locked");
	e->rollback = number_of(line, "rollback");
	e->retry = number_of(line, "retry");
	return e->what != WHATS && e->build <= BUILDS && e->key <= KEYS;
}

bool history_read(const char *text, struct history *ret)
{
	_free_ char *copy = strdup(text);
	char *rest = copy, *line;

	*ret = (struct history){0};
	while (rest && (line = strsep(&rest, "\n"))) {
		if (line[0] == '\0' || line[0] == '#')
			continue;
		if (strncmp(line, "node ", 5) == 0) {
			ret->setup = (struct setup){.versions = number_of(line, "versions"),
				.managed = number_of(line, "managed"),
				.certs = number_of(line, "certs"),
				.rotates = number_of(line, "rotates"),
				.images = number_of(line, "images"),
				.attributes = number_of(line, "attributes"),
				.pause = number_of(line, "pause"),
				.dies = number_of(line, "dies"),
				.lives = number_of(line, "lives"),
				.slow = number_of(line, "slow"),
				.hooks = number_of(line, "hooks")};
		} else if (ret->count == MOST_EVENTS || !read_event(line, &ret->events[ret->count])) {
			return false;
		} else {
			ret->count++;
		}
	}
	return ret->count > 0;
}
