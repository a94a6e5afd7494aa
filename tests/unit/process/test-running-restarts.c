/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restarts by the thousand, simulated: running.c and seen.c are compiled in here with a clock, a process table and an engine of the test's own, so that a restart of minutes
 * takes no time. Scripts are drawn from a seed (printed; K3SUP_TEST_SEED repeats one): a build that never comes, is slow, flaps, dies just before it has stayed,
 * an old build that comes back, a number that is given again, a start limit that is hit, an old process that lingers. What has to come out is computed from the
 * script alone. Mutants, which each forget one rule, must be caught by the same scripts.
 */
#include "../base/scratch.h"

#include <time.h>

#include "node/identify.h"
#include "node/warn.h"
#include "process/deaths.h"
#include "process/health.h"
#include "process/probe.h"
#include "process/running.h"

#define NEVER INT64_MAX
#define BEGAN 1000000 /* when the old one was told to end */
#define GRACE 8000    /* so much later than it is true it may be noticed: looks, questions and their pauses */
#define NEW "00a0e67e514b81bf6f5b1dd7a7d5cf74be778def4c8ba4cba27672741d99a49c"
#define OLD "91c5255cd9e1a0963458722d37dec9477c99a25602c838b553f2cb852bde4dde"

/* ---- the script ---- */

struct k3sup_process { /* one life */
	int pid;
	int64_t start, unpacked, end, ready;
	const char *hash, *claims; /* what it runs, and what its title would say */
	bool agent, previous;
};

enum mutant {
	HONEST,
	ACCEPTS_PREVIOUS,
	NUMBER_IS_NAME,
	SKIPS_STABILITY,
	TRUSTS_TITLE,
	TAKES_UNPACKING,
	NEVER_ASKS,
	TRUSTS_NO_MANAGER,
	MUTANTS
};

static struct {
	struct k3sup_process lives[24];
	size_t count, wanted;
	const char *hash; /* of the wanted build */
	int64_t stable, give_up;
	int64_t limit; /* from when its manager does not start it again, and says so; NEVER */
	unsigned most_ends;
	uint32_t probe;
	int64_t now;
	enum mutant mutant;
	uint64_t random;
} world;

static uint64_t draw(uint64_t below)
{
	world.random ^= world.random << 13;
	world.random ^= world.random >> 7;
	world.random ^= world.random << 17;
	return world.random % below;
}

static int64_t between(int64_t least, int64_t most)
{
	return least + (int64_t)draw((uint64_t)(most - least + 1));
}

/* ---- what running.c sees instead of the real things ---- */

static void *sim_state;
static enum k3sup__woke sim_woke;
static int sim_result, sim_child_status;
static int64_t sim_until;
static const k3sup_process *sim_watched;
static int (*sim_work)(k3sup_op *op);
static char sim_op;

static int64_t sim_now(void)
{
	return world.now;
}

static int sim_op_work(int (*fn)(k3sup_op *op))
{
	sim_work = fn;
	return K3SUP__WORK;
}

static int sim_wait(const k3sup_process *process, int64_t until)
{
	sim_watched = process;
	sim_until = until;
	return K3SUP__WAIT;
}

static bool sim_ended(const k3sup_process *p)
{
	return p->end <= world.now;
}

static bool sim_same(const k3sup_process *a, const k3sup_process *b)
{
	return a->pid == b->pid && (a->start == b->start || world.mutant == NUMBER_IS_NAME);
}

static uint64_t sim_start_time(const k3sup_process *p)
{
	return (uint64_t)p->start * (uint64_t)sysconf(_SC_CLK_TCK) / 1000;
}

static int sim_scan(struct k3sup__sighting *ret)
{
	*ret = (struct k3sup__sighting){.candidates = calloc(ELEMENTSOF(world.lives), sizeof(struct k3sup__candidate))};
	for (size_t i = 0; i < world.count; i++) {
		struct k3sup_process *life = &world.lives[i];
		struct k3sup__candidate *c = &ret->candidates[ret->count];
		bool unpacking = world.now < life->unpacked && world.mutant != TAKES_UNPACKING;
		const char *hash = world.mutant == TRUSTS_TITLE ? life->claims : life->hash;

		if (world.now < life->start || world.now >= life->end)
			continue;
		*c = (struct k3sup__candidate){.process = life, .role = life->agent ? K3SUP__ROLE_AGENT : K3SUP__ROLE_SERVER, .unpacking = unpacking};
		if (!unpacking)
			memcpy(c->asset_hash, hash, strlen(hash));
		ret->count++;
	}
	return 0;
}

static void sim_clear(struct k3sup__sighting *s)
{
	free(s->candidates);
	*s = (struct k3sup__sighting){0};
}

static int sim_judge(const struct k3sup__sighting *s)
{
	if (s->count == 0)
		return K3SUP_E_NO_K3S;
	return s->count == 1 || (s->count == 2 && s->candidates[0].role != s->candidates[1].role) ? 0 : K3SUP_E_AMBIGUOUS;
}

/* A question takes its time, and what is true at its end is answered. */
static int sim_probe(const struct k3sup__candidate *c)
{
	world.now += draw(8) ? between(1, 60) : between(1, 5000);
	sim_child_status = sim_ended(c->process) || c->process->ready > world.now ? K3SUP_E_NOT_READY : 1;
	if (world.mutant == NEVER_ASKS)
		sim_child_status = 1;
	return 0;
}

/* systemd: how often it has started it again, and whether it has given up. */
static int sim_look(k3sup_op *op, struct k3sup__service *service)
{
	(void)op;
	world.now += between(5, 60);
	service->restarts = 0;
	for (size_t i = 1; i < world.count; i++)
		service->restarts += world.lives[i].start <= world.now;
	service->gave_up = world.now >= world.limit && world.mutant != TRUSTS_NO_MANAGER;
	return 0;
}

static const struct k3sup__service_manager sim_manager = {.name = "systemd", .tells_end = true, .look = sim_look};

#define k3sup__now_ms() sim_now()
#define k3sup__op_state(op) (sim_state)
#define k3sup__op_woke(op) (sim_woke)
#define k3sup__op_work(op, fn) sim_op_work(fn)
#define k3sup__op_work_result(op) (sim_result)
#define k3sup__op_sleep(op, until) sim_wait(NULL, until)
#define k3sup__op_watch(op, process, until) sim_wait(process, until)
#define k3sup__op_call(op, child) ((void)(child), K3SUP__WAIT)
#define k3sup__op_child(op) ((k3sup_op *)(void *)&sim_op)
#define k3sup__op_adopt(op, child) ((void)(child), sim_child_status)
#define k3sup__op_facts(op) ((k3sup__json *)NULL)
#define k3sup__op_evidence(op) ((k3sup__json *)NULL)
#define k3sup__op_add_process(op, process) (0)
#define k3sup__op_plan(op, steps, n) ((void)(steps))
#define k3sup__op_begin(op, ...) ((void)0)
#define k3sup__op_progress(op, done, total) ((void)0)
#define k3sup__op_went_down(op, at) ((void)(at))
#define k3sup__op_came_up(op, at) ((void)(at))
#define k3sup__op_forgive(op) ((void)0)
#define k3sup__log(op, ...) ((void)0)
#define k3sup__warn(op, ...) ((void)0)
#define k3sup__fail(op, code, ...) (code)
#define k3sup__installed_find(op, node, hash, ret) (0)
#define k3sup__place_clear(place) ((void)(place))
#define k3sup__identify_scan(op, node, installed, ret) sim_scan(ret)
#define k3sup__sighting_clear(sighting) sim_clear(sighting)
#define k3sup__sighting_judge(op, sighting) sim_judge(sighting)
#define k3sup__sighting_json(sighting) k3sup__json_array()
#define k3sup__service_json(service) ((k3sup__json *)NULL)
#define k3sup__process_ended(p) sim_ended(p)
#define k3sup__process_same(a, b) sim_same(a, b)
#define k3sup__process_pid(p) ((p)->pid)
#define k3sup__process_start_time(p) sim_start_time(p)
#define k3sup__process_exit_status(p, ret) (*(ret) = 0, -ENODATA)
#define k3sup_process_ref(p) (p)
#define k3sup_process_unref(p) ((void)(p), (k3sup_process *)NULL)
#define k3sup__probe_op(node, candidate, kind, deadline, ret) (*(ret) = NULL, sim_probe(candidate))

/* What the definitions above leave out is not used then. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-value"
/* Sources, on purpose: what is simulated is what is shipped, with the definitions above. */
#include "../../../libk3sup/process/deaths.c"
#include "../../../libk3sup/process/running-end.c"
#include "../../../libk3sup/process/running.c"
#include "../../../libk3sup/process/seen.c"
#pragma GCC diagnostic pop
#undef k3sup__now_ms

/* ---- playing ---- */

struct verdict {
	int code;
	int64_t at;
};

static void after_wait(void)
{
	if (sim_watched && sim_watched->end <= sim_until) {
		if (world.now < sim_watched->end)
			world.now = sim_watched->end;
		sim_woke = K3SUP__WOKE_PROCESS;
	} else {
		if (world.now < sim_until)
			world.now = sim_until;
		sim_woke = K3SUP__WOKE_DEADLINE;
	}
	world.now += between(0, 20);
}

static struct verdict play(void)
{
	struct k3sup__running s = {.want = {.count = world.wanted,
					   .come_by = world.give_up,
					   .give_up = world.give_up,
					   .stable_ms = world.mutant == SKIPS_STABILITY ? 0 : world.stable,
					   .most_ends = world.most_ends,
					   .probe = world.probe}};
	struct k3sup__service service = {.manager = &sim_manager, .exit_code = -1};
	int r;

	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		s.restarts[i] = -1;
	s.want.services[0] = &service;

	memcpy(s.want.asset_hash, world.hash, strlen(world.hash));
	for (size_t i = 0, n = 0; i < world.count && world.mutant != ACCEPTS_PREVIOUS; i++)
		if (world.lives[i].previous)
			s.want.previous[n++] = &world.lives[i];
	world.now = BEGAN;
	sim_state = &s;
	sim_woke = K3SUP__WOKE_START;
	for (int steps = 0;; steps++) {
		assert_true(steps < 1000000);
		sim_watched = NULL;
		sim_until = -1;
		r = step(NULL);
		if (r == K3SUP__WORK) {
			world.now += draw(10) ? between(1, 30) : between(1, 400); /* a machine that is busy now and then */
			sim_result = sim_work(NULL);
			sim_woke = K3SUP__WOKE_WORK;
		} else if (r == K3SUP__WAIT && sim_until < 0) {
			sim_woke = K3SUP__WOKE_CHILD;
		} else if (r == K3SUP__WAIT) {
			after_wait();
		} else {
			clear(NULL);
			return (struct verdict){r, world.now};
		}
	}
}

/* ---- what is true, from the script alone ---- */

static bool counts(const struct k3sup_process *life)
{
	return !life->previous && k3sup__streq(life->hash, world.hash);
}

/*
 * Does the wanted build run at this moment, alone, as many as wanted, has it stayed, is it ready? kindly: so much less is enough as an answer may be old, and unpacking
 * may have fallen between two looks.
 */
static bool holds(int64_t at, bool kindly)
{
	const int64_t slack = kindly ? 450 : 0, overlooked = kindly ? 2500 : 0;

	size_t n = 0, agents = 0;

	for (size_t i = 0; i < world.count; i++) {
		const struct k3sup_process *life = &world.lives[i];
		int64_t from = life->unpacked - life->start > overlooked ? life->unpacked : life->start;

		if (at < life->start || at >= life->end)
			continue;
		if (!counts(life) || at + slack < from + world.stable || (world.probe != K3SUP_PROBE_NONE && life->ready > at + slack))
			return false;
		n++;
		agents += life->agent;
	}
	return n == world.wanted && (n == 1 || agents == 1);
}

/* Deaths of the wanted build until then, before it had stayed: those that cannot be overlooked, or all there were. */
static unsigned deaths_until(int64_t at, bool sure)
{
	unsigned n = 0;

	for (size_t i = 0; i < world.count; i++) {
		const struct k3sup_process *life = &world.lives[i];

		n += counts(life) && life->end <= at && (!sure || life->end - life->start > 2000);
	}
	return n;
}

/* The first moment from which it holds long enough to be seen; NEVER if there is none. */
static int64_t first_sure_success(void)
{
	for (int64_t at = BEGAN; at + GRACE <= world.give_up; at += 50) {
		int64_t until = at;

		while (until < at + GRACE && holds(until, false))
			until += 50;
		if (until >= at + GRACE)
			return at;
		if (until > at)
			at = until;
	}
	return NEVER;
}

/* NULL if the verdict is right, or what is wrong with it. undecided: the script lies on an edge where either is fine. */
static const char *complaint(struct verdict v, bool *undecided)
{
	int64_t sure = first_sure_success();
	bool looping = world.most_ends > 0 && sure != NEVER && deaths_until(sure, false) >= world.most_ends;

	*undecided = false;
	if (v.code >= 0) {
		/* A question's answer is a moment old when the operation ends. */
		if (!holds(v.at, true) && !holds(v.at - 450, true))
			return "a false success";
		if (world.most_ends > 0 && deaths_until(v.at, true) >= world.most_ends)
			return "a crash loop was called a success";
		return NULL;
	}
	if (sure != NEVER && !looping)
		return "a missed success";
	*undecided = sure != NEVER && looping && deaths_until(sure, true) < world.most_ends;
	if (world.limit != NEVER && v.at > world.limit + GRACE)
		return "it waited for a manager that had given up";
	if (v.at < world.give_up && !(v.code == K3SUP_E_NOT_STABLE && v.at >= world.limit) &&
		!(v.code == K3SUP_E_NOT_STABLE && world.most_ends > 0 && deaths_until(v.at, false) >= world.most_ends))
		return "it gave up early";
	if (v.at > world.give_up + 2 * GRACE)
		return "it gave up late";
	if (v.code == K3SUP_E_NOT_STABLE && v.at < world.limit && deaths_until(v.at, false) == 0)
		return "nothing had died";
	return NULL;
}

/* ---- drawing scripts ---- */

static struct k3sup_process *live(int64_t start, int64_t unpacks, int64_t lives, const char *hash)
{
	struct k3sup_process *life = &world.lives[world.count++];

	*life = (struct k3sup_process){
		.pid = 1000 + (int)draw(30), /* numbers are given again */
		.start = start,
		.unpacked = start + unpacks,
		.end = lives == NEVER ? NEVER : start + lives,
		.ready = start + unpacks + between(0, draw(3) ? 3000 : 120000),
		.hash = hash,
		.claims = draw(2) ? NEW : hash,
	};
	return life;
}

static void draw_script(void)
{
	const char *other;
	int64_t at = BEGAN, pause;
	int flaps;

	world.count = 0;
	world.limit = NEVER;
	world.wanted = draw(6) ? 1 : 2;
	world.hash = draw(4) ? NEW : OLD; /* a restart for its own sake: the old one runs the wanted build */
	other = k3sup__streq(world.hash, NEW) ? OLD : NEW;
	world.stable = draw(3) ? 20000 : between(300, 60000);
	world.give_up = BEGAN + (draw(3) ? 300000 : between(5000, 60000));
	world.most_ends = draw(2) ? 0 : 5;
	world.probe = draw(3) ? K3SUP_PROBE_AUTO : K3SUP_PROBE_NONE;
	/* The old one, which mostly ends at once, sometimes lingers, sometimes stays for good. */
	live(BEGAN - 900000, 0, NEVER, OLD)->previous = true;
	world.lives[0].ready = 0;
	world.lives[0].end = draw(12) ? BEGAN + (draw(4) ? between(0, 100) : between(0, 90000)) : NEVER;
	if (draw(12) == 0)
		return; /* and nothing follows */
	at = world.lives[0].end == NEVER ? BEGAN + between(0, 20000) : world.lives[0].end;
	pause = draw(3) ? 5000 : between(0, 15000);
	flaps = draw(2) ? 0 : (int)between(1, 8);
	for (int i = 0; i < flaps; i++) {
		int64_t lives = draw(3) ? between(0, 4000)
			: draw(2)       ? between(world.stable - 300 > 0 ? world.stable - 300 : 0, world.stable)
					: between(0, world.stable);

		at += pause;
		(void)live(at, draw(3) ? 0 : between(0, lives), lives, world.hash);
		at += lives;
	}
	if (draw(8) == 0) { /* a start limit */
		if (world.lives[0].end != NEVER)
			world.limit = at + between(0, 500);
		return;
	}
	at += draw(10) ? pause : between(0, 250000);
	if (draw(6) == 0) { /* the old build comes back: for a while, or for good */
		int64_t lives = draw(2) ? NEVER : between(0, 60000);

		(void)live(at, 0, lives, other);
		if (lives == NEVER)
			return;
		at += lives + pause;
	}
	(void)live(at, draw(2) ? 0 : between(0, 90000), draw(8) ? NEVER : between(0, 400000), world.hash);
	if (world.wanted == 2 && draw(6))
		live(at + between(0, 9000), 0, NEVER, world.hash)->agent = true;
	if (draw(20) == 0)
		(void)live(at + between(0, 60000), 0, between(0, 60000), draw(2) && world.wanted == 1 ? world.hash : other); /* one too many */
}

struct tally {
	unsigned played, successes, failures, undecided, wrong;
};

static struct tally campaign(uint64_t seed, unsigned restarts, enum mutant mutant, bool tell)
{
	struct tally t = {0};

	world.random = seed;
	for (; t.played < restarts; t.played++) {
		uint64_t before = world.random;
		struct verdict v;
		const char *wrong;
		bool undecided;

		draw_script();
		world.mutant = mutant;
		v = play();
		wrong = complaint(v, &undecided);
		t.successes += v.code >= 0;
		t.failures += v.code < 0;
		t.undecided += undecided;
		t.wrong += wrong != NULL;
		if (wrong && tell && t.wrong <= 3) {
			printf("restart %u (state %llu): %s: %s at %+lld ms, stable %lld, until %+lld, %zu wanted, sure from %+lld\n",
				t.played, (unsigned long long)before, wrong, v.code < 0 ? k3sup_error_name(v.code) : "success",
				(long long)(v.at - BEGAN), (long long)world.stable, (long long)(world.give_up - BEGAN), world.wanted,
				first_sure_success() == NEVER ? -1LL : (long long)(first_sure_success() - BEGAN));
			for (size_t i = 0; i < world.count; i++)
				printf("  process %d %s%s%+lld unpacked %+lld ready %+lld end %+lld\n", world.lives[i].pid,
					world.lives[i].previous ? "previous " : "", counts(&world.lives[i]) ? "" : "other ",
					(long long)(world.lives[i].start - BEGAN), (long long)(world.lives[i].unpacked - BEGAN),
					(long long)(world.lives[i].ready - BEGAN),
					world.lives[i].end == NEVER ? -1LL : (long long)(world.lives[i].end - BEGAN));
		}
	}
	return t;
}

static uint64_t seed(void)
{
	const char *given = getenv("K3SUP_TEST_SEED");
	struct timespec now;

	if (given && strtoull(given, NULL, 0))
		return strtoull(given, NULL, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec;
}

static void no_false_success_and_none_missed(void **state)
{
	const char *full = getenv("K3SUP_TEST_FULL");
	unsigned restarts = full && *full ? 100000 : 1000;
	uint64_t first = seed();
	struct tally t = campaign(first, restarts, HONEST, true);

	(void)state;
	printf("%u restarts, seed %llu: %u successes, %u failures, %u on an edge, %u wrong\n", t.played, (unsigned long long)first,
		t.successes, t.failures, t.undecided, t.wrong);
	assert_int_equal(t.wrong, 0);
	/* Neither side is a rarity, nor is what cannot be judged the rule. */
	assert_true(t.successes > restarts / 5 && t.failures > restarts / 5);
	assert_true(t.undecided < restarts / 20);
}

static void each_forgotten_rule_is_caught(void **state)
{
	static const char *const names[MUTANTS] = {[ACCEPTS_PREVIOUS] = "the process that was told to end counts",
		[NUMBER_IS_NAME] = "a number names a process",
		[SKIPS_STABILITY] = "being there is enough",
		[TRUSTS_TITLE] = "the title says what it is",
		[TAKES_UNPACKING] = "what still unpacks has started",
		[NEVER_ASKS] = "nobody is asked",
		[TRUSTS_NO_MANAGER] = "its manager is not asked"};
	uint64_t first = seed();

	(void)state;
	for (enum mutant m = HONEST + 1; m < MUTANTS; m++) {
		struct tally t = campaign(first, 1000, m, false);

		if (t.wrong == 0)
			fail_msg("seed %llu: \"%s\" was not caught", (unsigned long long)first, names[m]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_false_success_and_none_missed),
		cmocka_unit_test(each_forgotten_rule_is_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
