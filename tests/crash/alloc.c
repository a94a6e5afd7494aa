/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out: each allocation that a verb makes, and those that jansson, libyaml, zlib and the C library make for it, fails once, and from there on.
 *
 *   alloc [SCENARIO]...      K3SUP_TEST_FULL=1: every point; else some of them, beginning at a random one
 *
 * Each point is a process of its own, on a node that is put back first. It passes if the verb says -ENOMEM (or what it says without a fault: an allocation may be for a
 * courtesy, such as the text of a progress), a failed operation has an error document, every block is freed, the sanitizer finds nothing, the node is as it was
 * or as it shall be, and one more run, with memory, reaches the goal. libuv's and libcrypto's own allocations do not fail: they are initialised once for the
 * whole process, and end it where they cannot go on. Mistakes of scenarios of our own must be caught, or all this proves nothing.
 */
#include "alloc.h"
#include "alloc-hook.h"

#include "../unit/node/sandbox.h"

#include "../unit/base/scratch.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <time.h>

/* How many points of one scenario and kind; a leak check of the sanitizer takes its time. */
#ifdef __SANITIZE_ADDRESS__
#define SLICE 8u
#else
#define SLICE 12u
#endif

extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static const char *const asker_names[] = {"ours", "jansson", "libyaml", "zlib", "libc", "libuv", "libcrypto", "others"};
static const unsigned askers = 1u << OURS | 1u << JANSSON | 1u << YAML | 1u << ZLIB | 1u << LIBC;

/* What one run was asked for, and did. */
struct run {
	unsigned fail_at;
	bool for_good;
	int status; /* of the armed run */
	bool no_error;
	struct hook hook;
	unsigned kept;
	bool over;      /* the process came to its end */
	char said[256]; /* the failed operation's sentence */
	char bad[256];
};
static struct run *the_run;
static bool full;

/* ---- one point ---- */

static int perform(const struct scenario *scenario, bool *ret_no_error)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = files.root};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	const char *said;
	int r = k3sup_ctx_new(&inside, &ctx);

	if (r == 0)
		r = k3sup_node_new(ctx, &where, &node);
	if (r == 0)
		r = scenario->start(ctx, node, &op);
	if (r == 0 && op)
		r = k3sup_op_wait(op, -1);
	*ret_no_error = op && (!k3sup_op_result(op) || (r < 0 && !k3sup_op_error(op)));
	if (op && r < 0 && hook.armed && k3sup_doc_str(k3sup_op_error(op), "/message", &said) == 0)
		(void)snprintf(the_run->said, sizeof(the_run->said), "%s", said);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r;
}

static const char *judge(const struct scenario *scenario, const struct run *run, unsigned kept_before)
{
	const char *bad;
	bool no_error;
	int again;

	if (run->status != scenario->expected && run->status != -ENOMEM)
		return "another status";
	if (run->hook.fail_at && !run->hook.failed)
		return "the fault did not strike";
	if (run->no_error)
		return "the operation failed without an error document";
	if (hook_kept > kept_before)
		return "blocks are not freed";
	bad = node_look(scenario->kind, run->status, false);
	if (bad || scenario->control)
		return bad;
	again = perform(scenario, &no_error);
	if (again < 0 && again != scenario->expected)
		return "one more run does not reach the goal";
	return node_look(scenario->kind, again, true);
}

/* In a process of its own. */
static void point(const struct scenario *scenario)
{
	struct run *run = the_run;
	const struct scenario *first = scenario_before(scenario->kind);
	unsigned before = hook_kept;
	size_t fds = count_fds();
	const char *bad;
	bool no_error;

	if (first)
		assert_int_equal(perform(first, &no_error), 1);
	hook_arm(askers, run->fail_at, run->for_good);
	run->status = perform(scenario, &run->no_error);
	hook.armed = false;
	run->hook = hook;
	run->kept = hook_kept - before;
	bad = judge(scenario, run, before);
	/* The loop's first pipe stays for good. */
	if (!bad && count_fds() > fds + 2)
		bad = "descriptors stay open";
	scenario_sink = NULL;
	/* What counts is counted above; the sanitizer looks at all the rest, which takes as long as everything else together. */
	if ((!bad || strcmp(bad, "blocks are not freed") == 0) && (!full || run->fail_at % 8 == 0) && __lsan_do_recoverable_leak_check &&
		__lsan_do_recoverable_leak_check() != 0)
		bad = "the sanitizer found a leak";
	(void)snprintf(run->bad, sizeof(run->bad), "%s", bad ? bad : "");
	run->over = true;
	_exit(0);
}

/* true: it passed */
static bool try_point(const struct scenario *scenario, unsigned fail_at, bool for_good)
{
	int status;
	pid_t pid;

	node_put_back(scenario->kind);
	*the_run = (struct run){.fail_at = fail_at, .for_good = for_good};
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (scenario->control) { /* what they crash with is of no interest */
			int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

			(void)dup2(null, 2);
		}
		point(scenario);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!the_run->over)
		(void)snprintf(the_run->bad, sizeof(the_run->bad), "it ended with wait status 0x%x", (unsigned)status);
	return !the_run->bad[0];
}

static void tell(const struct scenario *scenario)
{
	Dl_info info = {0};
	const void *caller = the_run->hook.first;

	(void)dladdr(caller, &info);
	printf("    bad: %s, allocation %u%s: %s (status %s: %s; asked for by %s+%#zx)\n", scenario->name, the_run->fail_at,
		the_run->for_good ? " and all after it" : "", the_run->bad, k3sup_error_name(the_run->status), the_run->said,
		info.dli_fname ? strrchr(info.dli_fname, '/') + 1 : "?",
		info.dli_fbase ? (size_t)((const char *)caller - (const char *)info.dli_fbase) : 0);
}

/* ---- the campaign ---- */

static int campaign(const struct scenario *scenario)
{
	unsigned count, tried = 0, refused = 0, bad = 0, by[ASKERS];
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	if (!try_point(scenario, 0, false) || the_run->status != scenario->expected) {
		printf("%-14s without any fault: %s, status %d\n", scenario->name, the_run->bad, the_run->status);
		return 1;
	}
	count = the_run->hook.count;
	memcpy(by, the_run->hook.by, sizeof(by));
	for (int for_good = 0; for_good < 2; for_good++) {
		unsigned step = full || scenario->control || count <= SLICE ? 1 : count / SLICE;

		for (unsigned n = 1 + (step > 1 ? (unsigned)rand() % step : 0); n <= count; n += step) {
			bool passed = try_point(scenario, n, for_good);

			tried++;
			refused += the_run->over && the_run->status == -ENOMEM;
			bad += !passed;
			if (!passed && !scenario->control && bad <= 10)
				tell(scenario);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%-14s %4u allocations (", scenario->name, count);
	for (int i = 0; i < ASKERS; i++)
		if (by[i])
			printf("%u %s, ", by[i], asker_names[i]);
	printf("once and from there on: %u tried, %u -ENOMEM, %u %s, %ld s)\n", tried, refused, bad, scenario->control ? "caught" : "bad",
		(long)(end.tv_sec - begin.tv_sec));
	fflush(stdout);
	return scenario->control ? bad == 0 : bad > 0;
}

static bool is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc < 2;
}

/* Makes what others begin from; nothing fails. */
static int play(const struct scenario *scenario)
{
	bool no_error;

	return perform(scenario, &no_error);
}

static bool any_stopped(int argc, char **argv)
{
	for (size_t i = 0; i < n_scenarios; i++)
		if (scenarios[i].stopped && is_wanted(scenarios[i].name, argc, argv))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid();
	int failed = 0;

	full = getenv("K3SUP_TEST_FULL");
	sandbox_enter();
	node_make();
	the_run = mmap(NULL, sizeof(*the_run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(the_run != MAP_FAILED);
	printf("seed %u%s\n", seed, full ? ", every point" : "");
	srand(seed);
	for (int stopped = 0; stopped < 2; stopped++) {
		if (stopped && any_stopped(argc, argv))
			node_stop(play);
		for (size_t i = 0; i < n_scenarios; i++)
			if (scenarios[i].stopped == stopped && is_wanted(scenarios[i].name, argc, argv))
				failed += campaign(&scenarios[i]);
	}
	node_remove();
	return failed ? 1 : 0;
}
