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
#include "alloc-hook.h"

#include "../unit/rooms.h"

#include <dlfcn.h>
#include <k3sup.h>
#include <sys/mman.h>
#include <time.h>

/* How many points of one scenario and kind; a leak check of the sanitizer takes its time. */
#ifdef __SANITIZE_ADDRESS__
#define SLICE 8u
#else
#define SLICE 12u
#endif
#define STATE "/var/lib/k3sup"
#define IMAGES DATA_DIR "/agent/images"
#define KEPT DATA_DIR "/agent/.k3sup-images"

extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static const char *const asker_names[] = {"ours", "jansson", "libyaml", "zlib", "libc", "libuv", "libcrypto", "others"};
static const unsigned askers = 1u << OURS | 1u << JANSSON | 1u << YAML | 1u << ZLIB | 1u << LIBC;
static struct scratch scratch;
static char *payload, *gzipped, *sums, *installed_dir, *images[2];

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

struct scenario {
	const char *name;
	int (*start)(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op);
	int expected; /* without a fault */
	enum { READS, INSTALLS, STAGES, ROLLS_BACK } kind;
	bool control; /* must be caught */
};

/* ---- scenarios ---- */

static int just_a_node(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	int r = k3sup_node_lock(node);

	(void)ctx;
	(void)ret_op;
	return r < 0 ? r : k3sup_node_unlock(node) == 1 ? 0 : -EPROTO;
}

static int policy(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_policy_opts opts = {
		.struct_size = sizeof(opts), .installed = V1, .payload = V2, .payload_kind = "wrapper", .payload_arch = "amd64", .node_arch = "amd64"};
	static const char text[] = "{\"a\":[1,2,{\"b\":\"text\"}],\"c\":null}";
	k3sup_doc *doc = NULL, *other = NULL;
	int r = k3sup_policy_check(&opts, &doc);

	(void)ctx;
	(void)node;
	(void)ret_op;
	if (r == 0)
		r = k3sup_doc_parse(text, strlen(text), &other);
	k3sup_doc_unref(doc);
	k3sup_doc_unref(other);
	return r;
}

static int build_read(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_build_read_opts opts = {.struct_size = sizeof(opts), .path = payload};

	(void)node;
	return k3sup_build_read(ctx, &opts, ret_op);
}

static int identify(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	(void)ctx;
	return k3sup_identify(node, NULL, ret_op);
}

static int state(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_state_opts opts = {.struct_size = sizeof(opts), .payload = payload};

	(void)ctx;
	return k3sup_state(node, &opts, ret_op);
}

static int swap(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = payload};

	(void)ctx;
	return k3sup_swap(node, &opts, ret_op);
}

static int swap_gzip(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = gzipped, .sums = sums, .expect_version = V2};

	(void)ctx;
	return k3sup_swap(node, &opts, ret_op);
}

static int rollback(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	(void)ctx;
	return k3sup_swap_rollback(node, NULL, ret_op);
}

/* One image takes the place of an older one, one is new. */
static int stage(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	const char *const files[] = {images[0], images[1], NULL};
	struct k3sup_stage_opts opts = {.struct_size = sizeof(opts), .files = files};

	(void)ctx;
	return k3sup_stage(node, &opts, ret_op);
}

static int check(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts), .flags = K3SUP_UPGRADE_CHECK, .payload = payload, .restart = K3SUP_RESTART_NONE};

	(void)ctx;
	return k3sup_upgrade(node, &opts, ret_op);
}

static int upgrade(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts), .payload = payload, .restart = K3SUP_RESTART_NONE};

	(void)ctx;
	return k3sup_upgrade(node, &opts, ret_op);
}

/* The process that is identified first. */
static int the_process(k3sup_node *node, k3sup_process **ret)
{
	k3sup_op *op = NULL;
	int r = k3sup_identify(node, NULL, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r >= 0)
		r = k3sup_op_process(op, 0, ret);
	k3sup_op_unref(op);
	return r;
}

static int signal_it(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_signal_opts opts = {.struct_size = sizeof(opts), .signo = SIGCONT};
	int r = the_process(node, &opts.process);

	(void)ctx;
	if (r == 0)
		r = k3sup_signal(node, &opts, ret_op);
	k3sup_process_unref(opts.process);
	return r;
}

static int wait_exit(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_wait_exit_opts opts = {.struct_size = sizeof(opts), .timeout_ms = 1};
	int r = the_process(node, &opts.process);

	(void)ctx;
	if (r == 0)
		r = k3sup_wait_exit(node, &opts, ret_op);
	k3sup_process_unref(opts.process);
	return r;
}

static int wait_running(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_wait_running_opts opts = {
		.struct_size = sizeof(opts), .timeout_ms = 60000, .stable_ms = -1, .asset_hash = HASH1, .probe = K3SUP_PROBE_NONE};

	(void)ctx;
	return k3sup_wait_running(node, &opts, ret_op);
}

/* Controls: two allocations as they should not be made. */
static void *volatile sink;

static int leaks(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	char *a = malloc(10), *b = a ? malloc(10) : NULL;

	(void)ctx;
	(void)node;
	(void)ret_op;
	sink = b;
	if (!b)
		return -ENOMEM; /* and a? */
	sink = a;
	free(a);
	free(b);
	return 0;
}

static int trusts(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	char *a = malloc(10);

	(void)ctx;
	(void)node;
	(void)ret_op;
	sink = a;
	memset(sink, 1, 10);
	free(a);
	return 0;
}

static int mistakes(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	char *a = malloc(10);

	(void)ctx;
	(void)node;
	(void)ret_op;
	if (!a)
		return K3SUP_E_PARSE; /* for something else */
	sink = a;
	free(a);
	return 0;
}

static int lies(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	char *a = malloc(10);
	int r;

	hook.armed = false; /* the rest of it is good */
	if (!a)
		return 1;
	r = swap(ctx, node, ret_op);
	free(a);
	return r;
}

static const struct scenario scenarios[] = {
	{"node", just_a_node, 0, READS, false},
	{"policy", policy, 0, READS, false},
	{"build_read", build_read, 0, READS, false},
	{"identify", identify, 0, READS, false},
	{"signal", signal_it, 1, READS, false},
	{"wait_exit", wait_exit, K3SUP_E_TIMEOUT, READS, false},
	{"wait_running", wait_running, 0, READS, false},
	{"state", state, 0, READS, false},
	{"check", check, 0, READS, false},
	{"swap", swap, 1, INSTALLS, false},
	{"swap_gzip", swap_gzip, 1, INSTALLS, false},
	{"upgrade", upgrade, 1, INSTALLS, false},
	{"stage", stage, 1, STAGES, false},
	{"rollback", rollback, 1, ROLLS_BACK, false},
	{"leaks", leaks, 0, READS, true},
	{"trusts", trusts, 0, READS, true},
	{"mistakes", mistakes, 0, READS, true},
	{"lies", lies, 1, INSTALLS, true},
};

/* ---- one point ---- */

static int perform(const struct scenario *scenario, bool *ret_no_error)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = scratch.path};
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

/* "old", "new", "" if there is none, "?" for anything else. */
static const char *image_text(const char *path)
{
	static const char *const known[] = {"old", "new"};
	_free_ char *whole = below(&scratch, path), *text = NULL;

	if (k3sup__read_file(AT_FDCWD, whole, 100, &text, NULL) < 0)
		return access(whole, F_OK) < 0 ? "" : "?";
	for (size_t i = 0; i < ELEMENTSOF(known); i++)
		if (k3sup__streq(text, known[i]))
			return known[i];
	return "?";
}

static const char *look_at_images(int status)
{
	const char *a = image_text(IMAGES "/a.tar"), *b = image_text(IMAGES "/b.tar");
	size_t count = count_beside(&scratch, IMAGES "/a.tar");

	if (!*a || *a == '?' || *b == '?' || k3sup__streq(b, "old"))
		return "an image is torn or gone";
	if (count != 1u + (*b != '\0'))
		return "something lies beside the images";
	if (k3sup__streq(a, "new") && !k3sup__streq(image_text(KEPT "/a.tar.k3sup-backup"), "old"))
		return "the old image is lost";
	if (status >= 0 && (!k3sup__streq(a, "new") || !k3sup__streq(b, "new") || count_beside(&scratch, KEPT "/a.tar.k3sup-backup") != 1))
		return "success was told, and the images are not there, or something else is";
	return NULL;
}

/* What is wrong with the files: NULL, or a sentence. */
static const char *look(const struct scenario *scenario, int status)
{
	size_t count = count_beside(&scratch, INSTALLED), state_files;
	_free_ char *dir = below(&scratch, STATE), *lock = k3sup__fmt("%s/lock", dir);
	bool old = is_content(&scratch, INSTALLED, 1), new = is_content(&scratch, INSTALLED, 2);

	if (!old && !new)
		return "the installed file is neither the old nor the new one";
	if (scenario->kind == ROLLS_BACK)
		return count != 2 || !is_content(&scratch, BACKUP, 1) ? "the backup is not there, or something lies beside it"
			: status >= 0 && !old                         ? "success was told, and the old file is not installed"
								      : NULL;
	if (new && scenario->kind != INSTALLS)
		return "the installed file was replaced";
	if (old && count != 1)
		return "the old file is installed, and something lies beside it";
	if (old && scenario->kind == INSTALLS && status >= 0)
		return "success was told, and the old file is installed";
	if (new && (count != 2 || !is_content(&scratch, BACKUP, 1)))
		return "the new file is installed without its backup, or something lies beside it";
	state_files = access(lock, F_OK) == 0 ? count_beside(&scratch, STATE "/lock") : 0;
	if (state_files > 3)
		return "something is left in the state directory";
	return scenario->kind == STAGES ? look_at_images(status) : NULL;
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
	bad = look(scenario, run->status);
	if (bad || scenario->control)
		return bad;
	again = perform(scenario, &no_error);
	if (again < 0 && again != scenario->expected)
		return "one more run does not reach the goal";
	bad = look(scenario, again);
	if (!bad && scenario->kind == INSTALLS && !is_content(&scratch, INSTALLED, 2))
		bad = "one more run does not install";
	return bad;
}

/* In a process of its own. */
static void point(const struct scenario *scenario)
{
	struct run *run = the_run;
	static const struct scenario first = {"swap", swap, 1, INSTALLS, false};
	unsigned before = hook_kept;
	size_t fds = count_fds();
	const char *bad;
	bool no_error;

	if (scenario->kind == ROLLS_BACK)
		assert_int_equal(perform(&first, &no_error), 1);
	hook_arm(askers, run->fail_at, run->for_good);
	run->status = perform(scenario, &run->no_error);
	hook.armed = false;
	run->hook = hook;
	run->kept = hook_kept - before;
	bad = judge(scenario, run, before);
	/* The loop's first pipe stays for good. */
	if (!bad && count_fds() > fds + 2)
		bad = "descriptors stay open";
	sink = NULL;
	if ((!bad || strcmp(bad, "blocks are not freed") == 0) && __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() != 0)
		bad = "the sanitizer found a leak";
	(void)snprintf(run->bad, sizeof(run->bad), "%s", bad ? bad : "");
	run->over = true;
	_exit(0);
}

static void put_back(void)
{
	_free_ char *state_dir = below(&scratch, STATE), *agent = below(&scratch, DATA_DIR "/agent"), *in_place = below(&scratch, IMAGES),
		    *image = below(&scratch, IMAGES "/a.tar");

	nftw(installed_dir, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
	(void)nftw(state_dir, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
	put_wrapper(&scratch, INSTALLED, 1);
	(void)nftw(agent, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
	make_dirs(in_place);
	put_file(AT_FDCWD, image, "old", 0644);
}

/* true: it passed */
static bool try_point(const struct scenario *scenario, unsigned fail_at, bool for_good)
{
	int status;
	pid_t pid;

	put_back();
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

static int campaign(const struct scenario *scenario, bool full)
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

static void prepare(void)
{
	_free_ char *config = NULL, *config_dir = NULL, *command = NULL;

	(void)snprintf(scratch.path, sizeof(scratch.path), "/tmp/k3sup-alloc-XXXXXX");
	assert_non_null(mkdtemp(scratch.path));
	if (mount("tmpfs", scratch.path, "tmpfs", 0, "mode=0755") < 0) /* goes with the namespace */
		sandbox_skip("mount(2) is not allowed here");
	put_node(&scratch);
	config_dir = below(&scratch, "/etc/rancher/k3s");
	make_dirs(config_dir);
	config = below(&scratch, "/etc/rancher/k3s/config.yaml");
	put_file(AT_FDCWD, config, "# of a test\nwrite-kubeconfig-mode: \"0644\"\nnode-label:\n  - \"a=b\"\n", 0600);
	payload = below(&scratch, PAYLOAD);
	images[0] = below(&scratch, "/payload/a.tar");
	images[1] = below(&scratch, "/payload/b.tar");
	put_file(AT_FDCWD, images[0], "new", 0644);
	put_file(AT_FDCWD, images[1], "new", 0644);
	gzipped = k3sup__fmt("%s.gz", payload);
	sums = k3sup__fmt("%s.sums", payload);
	installed_dir = below(&scratch, "/usr/local/bin");
	command = k3sup__fmt("gzip -1 -k %s && h=$(sha256sum <%s | cut -c1-64) && for k in k3s k3s-arm64 k3s-armhf k3s-s390x k3s-riscv64; "
			     "do echo \"$h  $k\"; done >%s",
		payload, payload, sums);
	assert_int_equal(system(command), 0); /* NOLINT: gzip(1) and sha256sum(1) are the point */
}

static bool is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	bool full = getenv("K3SUP_TEST_FULL");
	unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid();
	struct unit unit = {.stubborn = true};
	int failed = 0;

	sandbox_enter();
	if (fake_build(NULL) != 0)
		return 1;
	prepare();
	unit_start(&scratch, &unit);
	the_run = mmap(NULL, sizeof(*the_run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(the_run != MAP_FAILED);
	printf("seed %u%s\n", seed, full ? ", every point" : "");
	srand(seed);
	for (size_t i = 0; i < ELEMENTSOF(scenarios); i++)
		if (is_wanted(scenarios[i].name, argc, argv))
			failed += campaign(&scenarios[i], full);
	unit_stop(&unit);
	(void)fake_remove(NULL);
	(void)umount(scratch.path);
	(void)rmdir(scratch.path);
	free(payload);
	free(gzipped);
	free(sums);
	free(installed_dir);
	free(images[0]);
	free(images[1]);
	return failed ? 1 : 0;
}
