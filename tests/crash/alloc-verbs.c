/* SPDX-License-Identifier: Apache-2.0 */
/* The scenarios of alloc.c: the verbs of the library, and mistakes of our own. */
#include "alloc-hook.h"
#include "alloc.h"

#include "../unit/rooms.h"

#include "upgrade/failed.h"

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
	struct k3sup_build_read_opts opts = {.struct_size = sizeof(opts), .path = files.payload};

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
	struct k3sup_state_opts opts = {.struct_size = sizeof(opts), .payload = files.payload};

	(void)ctx;
	return k3sup_state(node, &opts, ret_op);
}

static int swap(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = files.payload};

	(void)ctx;
	return k3sup_swap(node, &opts, ret_op);
}

static int swap_gzip(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = files.gzipped, .sums = files.sums, .expect_version = V2};

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
	struct k3sup_stage_opts opts = {.struct_size = sizeof(opts), .files = (const char *const *)files.images};

	(void)ctx;
	return k3sup_stage(node, &opts, ret_op);
}

static int check(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts), .flags = K3SUP_UPGRADE_CHECK, .payload = files.payload, .restart = K3SUP_RESTART_NONE};

	(void)ctx;
	return k3sup_upgrade(node, &opts, ret_op);
}

static int upgrade(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts), .payload = files.payload, .restart = K3SUP_RESTART_NONE};

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

/* What is put back for commit and restore was staged by the scenario before. */
static int commit(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_stage_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_STAGE_COMMIT};

	(void)ctx;
	return k3sup_stage(node, &opts, ret_op);
}

static int unstage(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_stage_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_STAGE_RESTORE};

	(void)ctx;
	return k3sup_stage(node, &opts, ret_op);
}

static int unpack(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_unpack_opts opts = {.struct_size = sizeof(opts), .payload = files.unpacker};

	(void)ctx;
	return k3sup_unpack(node, &opts, ret_op);
}

static int backups(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_swap_backups_opts opts = {.struct_size = sizeof(opts), .keep = 1};

	(void)ctx;
	return k3sup_swap_backups(node, &opts, ret_op);
}

/* With all that the caller can ask for besides. */
static int upgrade_asking(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts),
		.payload = files.payload,
		.sums = files.sums,
		.expect_version = V2,
		.restart = K3SUP_RESTART_NONE,
		.before_write = "exit 0",
		.before_stop = "exit 0",
		.keep_backups = 2};

	(void)ctx;
	return k3sup_upgrade(node, &opts, ret_op);
}

static int mark(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	int r = k3sup_node_mark(node, "a-step");

	(void)ctx;
	(void)ret_op;
	if (r >= 0)
		r = k3sup_node_marked(node, "a-step");
	return r == K3SUP_MARKED ? 0 : r < 0 ? r : -EPROTO;
}

/* What an upgrade remembers of a build that failed, and forgets when it is proven after all. */
static int remember(k3sup_op *op)
{
	k3sup_node *node = ((struct k3sup__node_state *)k3sup__op_state(op))->node;
	static const struct k3sup__build build = {.size = 1000, .version = V2, .asset_hash = HASH2},
					 before = {.size = 900, .version = V1, .asset_hash = HASH1};
	int r = k3sup__failed_note(op, node, &build, HASH2, K3SUP_E_NOT_STABLE, "it ended again and again");

	if (r >= 0)
		r = k3sup__failed_note_back(op, node, HASH2, &before);
	if (r >= 0)
		r = k3sup__failed_proven(op, node, &build);
	return r;
}

static int remember_step(k3sup_op *op)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, remember);
}

static int failed(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	static const struct k3sup__op_class class = {.verb = "failed", .state_size = sizeof(struct k3sup__node_state), .step = remember_step};

	(void)ctx;
	return k3sup__node_op_new(node, &class, K3SUP__NEVER, ret_op);
}

static int upgrade_back(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_UPGRADE_ROLLBACK, .restart = K3SUP_RESTART_NONE};

	(void)ctx;
	return k3sup_upgrade(node, &opts, ret_op);
}

static int service(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_service_opts opts = {.struct_size = sizeof(opts), .name = "k3s.service", .action = K3SUP_SERVICE_STATUS};

	(void)ctx;
	return k3sup_service(node, &opts, ret_op);
}

static int certs_check(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	(void)ctx;
	return k3sup_certs_check(node, NULL, ret_op);
}

static int ca_check(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_certs_ca_check_opts opts = {.struct_size = sizeof(opts), .dir = files.prepared, .server_dir = files.authorities};

	(void)node;
	return k3sup_certs_ca_check(ctx, &opts, ret_op);
}

static int retire(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	(void)ctx;
	return k3sup_certs_retire(node, NULL, ret_op);
}

static int certs_restore(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	struct k3sup_certs_restore_opts opts = {.struct_size = sizeof(opts), .backup = files.backup};

	(void)ctx;
	return k3sup_certs_restore(node, &opts, ret_op);
}

static int certs_backups(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	(void)ctx;
	return k3sup_certs_backups(node, NULL, ret_op);
}

/* Controls: two allocations as they should not be made. */
void *volatile scenario_sink;

static int leaks(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op)
{
	char *a = malloc(10), *b = a ? malloc(10) : NULL;

	(void)ctx;
	(void)node;
	(void)ret_op;
	scenario_sink = b;
	if (!b)
		return -ENOMEM; /* and a? */
	scenario_sink = a;
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
	scenario_sink = a;
	memset(scenario_sink, 1, 10);
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
	scenario_sink = a;
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

const struct scenario scenarios[] = {
	{.name = "node", .start = just_a_node},
	{.name = "policy", .start = policy},
	{.name = "build_read", .start = build_read},
	{.name = "identify", .start = identify},
	{.name = "signal", .start = signal_it, .expected = 1},
	{.name = "wait_exit", .start = wait_exit, .expected = K3SUP_E_TIMEOUT},
	{.name = "wait_running", .start = wait_running},
	{.name = "state", .start = state},
	{.name = "check", .start = check},
	{.name = "swap", .start = swap, .expected = 1, .kind = INSTALLS},
	{.name = "swap_gzip", .start = swap_gzip, .expected = 1, .kind = INSTALLS},
	{.name = "upgrade", .start = upgrade, .expected = 1, .kind = INSTALLS},
	{.name = "upgrade_asking", .start = upgrade_asking, .expected = 1, .kind = INSTALLS},
	{.name = "mark", .start = mark},
	{.name = "failed", .start = failed},
	{.name = "rollback", .start = rollback, .expected = 1, .kind = ROLLS_BACK},
	{.name = "upgrade_back", .start = upgrade_back, .expected = 1, .kind = ROLLS_BACK},
	{.name = "backups", .start = backups, .kind = LISTS},
	{.name = "versions", .start = swap, .expected = 1, .kind = VERSIONS},
	{.name = "versions_back", .start = rollback, .expected = 1, .kind = VERSIONS_BACK},
	{.name = "stage", .start = stage, .expected = 1, .kind = STAGES},
	{.name = "commit", .start = commit, .expected = 1, .kind = COMMITS},
	{.name = "unstage", .start = unstage, .expected = 1, .kind = UNSTAGES},
	{.name = "unpack", .start = unpack, .expected = 1, .kind = UNPACKS},
	{.name = "leaks", .start = leaks, .control = true},
	{.name = "trusts", .start = trusts, .control = true},
	{.name = "mistakes", .start = mistakes, .control = true},
	{.name = "lies", .start = lies, .expected = 1, .kind = INSTALLS, .control = true},
	{.name = "service", .start = service, .stopped = true},
	{.name = "certs_check", .start = certs_check, .kind = RETIRES, .stopped = true},
	{.name = "ca_check", .start = ca_check, .stopped = true},
	{.name = "retire", .start = retire, .expected = 1, .kind = RETIRES, .stopped = true},
	{.name = "restore", .start = certs_restore, .expected = 1, .kind = RESTORES, .stopped = true},
	{.name = "certs_backups", .start = certs_backups, .kind = RESTORES, .stopped = true},
};
const size_t n_scenarios = ELEMENTSOF(scenarios);
const struct scenario scenario_retire = {.name = "retire", .start = retire, .expected = 1, .kind = RETIRES};

const struct scenario *scenario_before(enum kind kind)
{
	static const struct scenario first_swap = {.name = "swap", .start = swap, .expected = 1};
	static const struct scenario first_stage = {.name = "stage", .start = stage, .expected = 1};

	if (kind == COMMITS || kind == UNSTAGES)
		return &first_stage;
	return kind == ROLLS_BACK || kind == LISTS || kind == VERSIONS_BACK ? &first_swap : NULL;
}
