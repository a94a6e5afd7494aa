/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole upgrade, against a small supervisor.
 */
#include "../rooms.h"

#include "base/journal.h"
#include "base/lock.h"
#include "upgrade/view.h"

struct given {
	const char *payload;
	const char *k3s;
	int64_t timeout_ms, stable_ms, wait_lock_ms;
	uint32_t restart, flags;
};

static k3sup_op *begin_upgrade(struct scratch *s, k3sup_node *node, const struct given *g)
{
	_free_ char *payload = below(s, g->payload ? g->payload : PAYLOAD);
	struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts),
		.payload = payload,
		.timeout_ms = g->timeout_ms ? g->timeout_ms : LONG,
		.stable_ms = g->stable_ms ? g->stable_ms : -1,
		.wait_lock_ms = g->wait_lock_ms,
		.restart = g->restart,
		.flags = g->flags,
		.probe = K3SUP_PROBE_NONE, /* fakes answer nobody */
	};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_upgrade(node, &opts, &op), 0);
	return op;
}

static k3sup_op *run_upgrade(struct scratch *s, k3sup_node *node, const struct given *g, int expected)
{
	k3sup_op *op = begin_upgrade(s, node, g);

	assert_status(op, expected);
	return op;
}

static k3sup_op *run_state(k3sup_node *node)
{
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_state(node, NULL, &op), 0);
	assert_status(op, 0);
	return op;
}

/* The state, looked at from a context of its own as another program would. */
static void assert_state(struct scratch *s, const char *expected, bool open_entry)
{
	k3sup_ctx *ctx = NULL;
	k3sup_node *node;
	k3sup_op *op;

	assert_int_equal(k3sup_ctx_new(NULL, &ctx), 0);
	node = open_node(ctx, s->path, NULL);
	op = run_state(node);
	assert_string_equal(result_text(op, "/state"), expected);
	assert_int_equal(has_flag(op, "open-operation"), open_entry);
	assert_false(has_flag(op, "busy"));
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
}

static char *read_journal(struct scratch *s)
{
	_free_ char *path = below(s, K3SUP__STATE_DIR "/" K3SUP__JOURNAL_NAME);
	char *text = NULL;

	return k3sup__read_file(AT_FDCWD, path, 1 << 20, &text, NULL) < 0 ? strdup("") : text;
}

static void assert_journal(struct scratch *s, size_t opened, size_t closed)
{
	_free_ char *text = read_journal(s);
	size_t opens = 0, closes = 0;

	for (const char *at = text; (at = strstr(at, "\"event\":\"open\"")); at++)
		opens++;
	for (const char *at = text; (at = strstr(at, "\"event\":\"close\"")); at++)
		closes++;
	if (opens != opened || closes != closed)
		fail_msg("%zu opened, %zu closed: %s", opens, closes, text);
}

/* ---- what a callback does at a step ---- */

struct hook {
	const char *step;
	int32_t answer;
	void (*fn)(struct scratch *s);
	struct scratch *s;
	k3sup_op *cancel;
	unsigned calls;
};

static int32_t on_progress(const struct k3sup_progress *progress, void *userdata)
{
	struct hook *hook = userdata;

	if (!k3sup__streq(progress->step, hook->step))
		return 0;
	if (hook->fn && hook->calls == 0)
		hook->fn(hook->s);
	hook->calls++;
	k3sup_op_cancel(hook->cancel);
	return hook->answer;
}

static k3sup_op *run_hooked(struct scratch *s, k3sup_node *node, const struct given *g, struct hook *hook, int expected)
{
	k3sup_op *op = begin_upgrade(s, node, g);

	hook->s = s;
	assert_int_equal(k3sup_op_set_progress(op, on_progress, hook), 0);
	assert_status(op, expected);
	assert_true(hook->calls > 0);
	return op;
}

/* ---- what goes well ---- */

static void the_new_build_runs_after_one_restart(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 300};
	struct unit u = {.pause_ms = 100};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t before;

	put_node(s);
	unit_start(s, &u);
	before = running_pid(node);
	op = run_upgrade(s, node, &g, 1);
	assert_string_equal(result_text(op, "/state"), "current");
	assert_string_equal(result_text(op, "/running/asset_hash"), HASH2);
	assert_int_not_equal(result_number(op, "/running/pid"), before);
	assert_int_equal(result_number(op, "/running/pid"), running_pid(node));
	assert_string_equal(result_text(op, "/installed/version"), V2);
	assert_string_equal(result_text(op, "/wanted/version"), V2);
	assert_int_equal(strlen(result_text(op, "/wanted/sha256")), 64);
	assert_string_equal(result_text(op, "/backup/path"), BACKUP);
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_int_equal(result_number(op, "/resumed"), 0);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/flags"), 0);
	assert_in_range(result_number(op, "/downtime_ms"), 50, LONG);
	assert_string_equal(result_text(op, "/authenticated"), "none");
	k3sup_op_unref(op);
	unit_wait(&u); /* started a second time, and no more */
	assert_int_equal(poll(&(struct pollfd){.fd = u.ready, .events = POLLIN}, 1, 0), 0);
	assert_true(is_content(s, INSTALLED, 2) && is_content(s, BACKUP, 1));
	assert_int_equal(count_beside(s, INSTALLED), 2);
	assert_journal(s, 1, 1);
	assert_state(s, "current", false);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void what_is_already_so_stays_as_it_is(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 100};
	struct stat before, after;
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	put_wrapper(s, INSTALLED, 2);
	before = stat_below(s, INSTALLED);
	unit_start(s, &u);
	pid = running_pid(node);
	op = run_upgrade(s, node, &g, 0);
	assert_int_equal(result_number(op, "/changed"), 0);
	assert_int_equal(result_number(op, "/running/pid"), pid);
	assert_int_equal(result_number(op, "/downtime_ms"), 0);
	k3sup_op_unref(op);
	assert_int_equal(running_pid(node), pid);
	after = stat_below(s, INSTALLED);
	assert_int_equal(after.st_ino, before.st_ino);
	assert_int_equal(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
	assert_int_equal(count_beside(s, INSTALLED), 1);
	assert_journal(s, 0, 0);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void a_young_k3s_is_waited_for(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 700};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	int64_t began = k3sup__now_ms();
	k3sup_op *op;

	put_node(s);
	put_wrapper(s, INSTALLED, 2);
	unit_start(s, &u);
	op = run_upgrade(s, node, &g, 0);
	assert_true(k3sup__now_ms() - began >= 690);
	k3sup_op_unref(op);
	/* By now it has stayed. */
	began = k3sup__now_ms();
	op = run_upgrade(s, node, &g, 0);
	assert_true(k3sup__now_ms() - began < 650);
	k3sup_op_unref(op);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void a_pending_restart_is_healed(void **state)
{
	struct scratch *s = *state;
	struct given g = {0};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct stat before;
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	unit_start(s, &u);
	pid = running_pid(node);
	put_wrapper(s, INSTALLED, 2);
	before = stat_below(s, INSTALLED);
	assert_state(s, "restart-pending", false);
	op = run_upgrade(s, node, &g, 1);
	assert_int_not_equal(result_number(op, "/running/pid"), pid);
	assert_string_equal(result_text(op, "/running/asset_hash"), HASH2);
	assert_string_equal(result_text(op, "/backup/path"), "(none)");
	k3sup_op_unref(op);
	assert_int_equal(stat_below(s, INSTALLED).st_ino, before.st_ino);
	assert_int_equal(count_beside(s, INSTALLED), 1);
	assert_journal(s, 1, 1);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void a_k3s_without_wrapper_is_upgraded(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 100};
	struct unit u = {.image = INSTALLED};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	install_program("image1", s->path, INSTALLED, "", NULL);
	install_program("image2", s->path, PAYLOAD, "", NULL);
	unit_start(s, &u);
	pid = running_pid(node);
	assert_true(pid > 0);
	op = run_upgrade(s, node, &g, 1);
	assert_int_not_equal(result_number(op, "/running/pid"), pid);
	assert_string_equal(result_text(op, "/running/version"), V2);
	assert_string_equal(result_text(op, "/state"), "current");
	pid = (pid_t)result_number(op, "/running/pid");
	k3sup_op_unref(op);
	op = run_upgrade(s, node, &g, 0);
	assert_int_equal(result_number(op, "/running/pid"), pid);
	k3sup_op_unref(op);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void replace_image(struct scratch *s)
{
	install_program("image1", s->path, "/usr/local/bin/new", "", NULL);
	assert_int_equal(renameat(s->fd, "usr/local/bin/new", s->fd, "usr/local/bin/k3s"), 0);
}

/* Without an archive's name only the file itself tells: somebody replaced it before k3s came back. */
static void another_file_without_wrapper_is_no_success(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "prove", .fn = replace_image};
	struct given g = {.timeout_ms = 1200};
	struct unit u = {.image = INSTALLED, .pause_ms = 400};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	install_program("image1", s->path, INSTALLED, "", NULL);
	install_program("image2", s->path, PAYLOAD, "", NULL);
	unit_start(s, &u);
	op = run_hooked(s, node, &g, &hook, K3SUP_E_WRONG_BUILD);
	assert_string_equal(result_text(op, "/running/version"), V1);
	assert_true(has_flag(op, "open-operation"));
	k3sup_op_unref(op);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void server_and_agent_of_one_file_are_both_restarted(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 200};
	struct unit server = {.role = "server"}, agent = {.role = "agent", .pause_ms = 400};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &server);
	unit_start(s, &agent);
	op = run_upgrade(s, node, &g, 1);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/processes"), 2);
	assert_string_equal(result_text(op, "/processes/0/asset_hash"), HASH2);
	assert_string_equal(result_text(op, "/processes/1/asset_hash"), HASH2);
	assert_string_equal(result_text(op, "/state"), "current");
	k3sup_op_unref(op);
	unit_stop(&server);
	unit_stop(&agent);
	k3sup_node_unref(node);
}

static void the_file_alone_can_be_asked_for(void **state)
{
	struct scratch *s = *state;
	struct given g = {.restart = K3SUP_RESTART_NONE};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	op = run_upgrade(s, node, &g, 1); /* nothing runs */
	assert_string_equal(result_text(op, "/state"), "not-running");
	k3sup_op_unref(op);
	op = run_upgrade(s, node, &g, 0);
	assert_int_equal(result_number(op, "/changed"), 0);
	k3sup_op_unref(op);
	put_wrapper(s, INSTALLED, 1);
	unit_start(s, &u);
	pid = running_pid(node);
	op = run_upgrade(s, node, &g, 1);
	assert_string_equal(result_text(op, "/state"), "restart-pending");
	k3sup_op_unref(op);
	assert_int_equal(running_pid(node), pid);
	assert_journal(s, 2, 2);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void a_start_is_awaited_where_the_file_is_in_place(void **state)
{
	struct scratch *s = *state;
	struct given g = {.stable_ms = 500};
	struct unit u = {.first_ms = 400};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	put_wrapper(s, INSTALLED, 2);
	unit_begin(s, &u);
	op = run_upgrade(s, node, &g, 0);
	assert_int_equal(result_number(op, "/running/pid"), running_pid(node));
	k3sup_op_unref(op);
	unit_stop(&u);
	g.timeout_ms = 400;
	op = run_upgrade(s, node, &g, K3SUP_E_NO_K3S);
	assert_says(op, INSTALLED);
	assert_string_equal(result_text(op, "/state"), "not-running");
	k3sup_op_unref(op);
	assert_journal(s, 0, 0);
	k3sup_node_unref(node);
}

static void what_a_cut_swap_left_is_removed_and_counts_as_a_change(void **state)
{
	struct scratch *s = *state;
	_free_ char *installed = below(s, INSTALLED), *backup = below(s, BACKUP);
	struct unit u = {0};
	struct given g = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	put_wrapper(s, INSTALLED, 2);
	assert_int_equal(link(installed, backup), 0);
	unit_start(s, &u);
	pid = running_pid(node);
	assert_state(s, "interrupted", false);
	op = run_upgrade(s, node, &g, 1);
	k3sup_op_unref(op);
	assert_int_equal(running_pid(node), pid);
	assert_int_equal(count_beside(s, INSTALLED), 1);
	op = run_upgrade(s, node, &g, 0);
	k3sup_op_unref(op);
	unit_stop(&u);
	k3sup_node_unref(node);
}

/* ---- what is refused ---- */

static void a_refusal_says_what_is_known(void **state)
{
	struct scratch *s = *state;
	struct given none = {.payload = "/nowhere"}, script = {.payload = "/script"}, fine = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	op = run_upgrade(s, node, &none, K3SUP_E_PAYLOAD_MISSING);
	assert_int_equal(result_number(op, "/changed"), 0);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/wanted"), -ENOENT);
	k3sup_op_unref(op);
	put_file(s->fd, "script", "#!/bin/sh\n", 0755);
	op = run_upgrade(s, node, &script, K3SUP_E_PAYLOAD_NOT_K3S);
	assert_int_equal(result_number(op, "/wanted/size"), 10);
	assert_non_null(strstr(result_text(op, "/wanted/path"), "/script"));
	k3sup_op_unref(op);
	put_wrapper(s, PAYLOAD, 2);
	op = run_upgrade(s, node, &fine, K3SUP_E_TARGET_MISSING);
	assert_string_equal(result_text(op, "/wanted/version"), V2);
	k3sup_op_unref(op);
	put_wrapper(s, INSTALLED, 1);
	op = run_upgrade(s, node, &fine, K3SUP_E_NO_K3S); /* nothing is swapped under a node that does not run */
	assert_true(is_content(s, INSTALLED, 1));
	assert_string_equal(result_text(op, "/state"), "not-running");
	k3sup_op_unref(op);
	assert_journal(s, 0, 0);
	k3sup_node_unref(node);
}

static void two_servers_are_left_alone(void **state)
{
	struct scratch *s = *state;
	struct unit a = {0}, b = {0};
	struct given g = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &a);
	unit_start(s, &b);
	op = run_upgrade(s, node, &g, K3SUP_E_AMBIGUOUS);
	assert_int_equal(k3sup_doc_len(k3sup_op_error(op), "/evidence/candidates"), 2);
	assert_string_equal(result_text(op, "/state"), "ambiguous");
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 1));
	assert_journal(s, 0, 0);
	unit_stop(&a);
	unit_stop(&b);
	k3sup_node_unref(node);
}

static void bad_options_are_refused(void **state)
{
	struct scratch *s = *state;
	_free_ char *payload = below(s, PAYLOAD);
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts), .payload = payload, .restart = K3SUP_RESTART_SERVICE + 1};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts.restart = 0;
	opts.reserved = "x";
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts.reserved = NULL;
	opts.rollback = 3;
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts = (struct k3sup_upgrade_opts){.struct_size = sizeof(opts), .flags = K3SUP_UPGRADE_ROLLBACK, .keep_backups = 2};
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts = (struct k3sup_upgrade_opts){.struct_size = sizeof(opts)};
	opts.payload = "";
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EINVAL);
	opts.flags = K3SUP_UPGRADE_PAYLOAD_FD;
	opts.payload_fd = -1;
	assert_int_equal(k3sup_upgrade(node, &opts, &op), -EBADF);
	assert_int_equal(k3sup_upgrade(node, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_upgrade(NULL, &opts, &op), -EINVAL);
	assert_null(op);
	k3sup_node_unref(node);
}

/* ---- what goes wrong ---- */

static void a_k3s_that_does_not_listen_costs_time_and_nothing_else(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 700};
	struct unit u = {.deaf = true};
	k3sup_node *node = open_node(s->ctx, s->path, NULL), *other = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	unit_start(s, &u);
	pid = running_pid(node);
	op = run_upgrade(s, node, &g, K3SUP_E_TIMEOUT);
	assert_says(op, "was told to end");
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_string_equal(result_text(op, "/state"), "restart-pending");
	assert_true(has_flag(op, "open-operation"));
	k3sup_op_unref(op);
	assert_int_equal(running_pid(node), pid);
	assert_int_equal(k3sup_node_lock(other), 1); /* it was given back */
	k3sup_node_unref(other);
	assert_journal(s, 1, 0);
	assert_state(s, "restart-pending", true);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void the_wrong_build_is_no_success(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 900};
	struct unit u = {.stubborn = true};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &u);
	op = run_upgrade(s, node, &g, K3SUP_E_WRONG_BUILD);
	assert_says(op, "45b74a776cab");
	assert_true(k3sup_doc_len(k3sup_op_result(op), "/processes") == 1);
	k3sup_op_unref(op);
	assert_state(s, "restart-pending", true);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void an_entry_is_closed_by_the_run_that_proves(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 600}, file = {.restart = K3SUP_RESTART_NONE};
	struct unit once = {.once = true}, again = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &once);
	op = run_upgrade(s, node, &g, K3SUP_E_NOT_RESTARTED);
	assert_string_equal(result_text(op, "/state"), "not-running");
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/processes"), 0);
	k3sup_op_unref(op);
	unit_stop(&once);
	assert_state(s, "not-running", true);
	/* Who asks for the file only does not prove. */
	op = run_upgrade(s, node, &file, 0);
	assert_int_equal(result_number(op, "/resumed"), 1);
	k3sup_op_unref(op);
	assert_journal(s, 1, 0);
	unit_start(s, &again);
	assert_state(s, "current", true);
	op = run_upgrade(s, node, &g, 0);
	assert_int_equal(result_number(op, "/resumed"), 1);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/flags"), 0);
	k3sup_op_unref(op);
	assert_journal(s, 1, 1);
	unit_stop(&again);
	k3sup_node_unref(node);
}

static void the_entry_of_another_payload_is_superseded(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 600}, back = {.payload = "/first", .flags = K3SUP_UPGRADE_ALLOW_DOWNGRADE};
	struct unit once = {.once = true}, again = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	put_wrapper(s, "/first", 1);
	unit_start(s, &once);
	op = run_upgrade(s, node, &g, K3SUP_E_NOT_RESTARTED);
	k3sup_op_unref(op);
	unit_stop(&once);
	unit_start(s, &again);
	op = run_upgrade(s, node, &back, 1);
	assert_int_equal(result_number(op, "/resumed"), 0);
	assert_non_null(strstr(result_text(op, "/warnings/0"), "another payload"));
	assert_string_equal(result_text(op, "/running/asset_hash"), HASH1);
	k3sup_op_unref(op);
	assert_journal(s, 2, 2);
	assert_state(s, "current", false);
	unit_stop(&again);
	k3sup_node_unref(node);
}

static void a_k3s_that_dies_again_and_again_is_not_stable(void **state)
{
	struct scratch *s = *state;
	struct given g = {.timeout_ms = 1500, .stable_ms = 5000};
	struct unit u = {.die_ms = 250};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &u);
	op = run_upgrade(s, node, &g, K3SUP_E_NOT_STABLE);
	assert_in_range(number_of(k3sup_op_error(op), "/evidence/starts"), 2, 20);
	assert_true(result_number(op, "/downtime_ms") > 0);
	k3sup_op_unref(op);
	assert_journal(s, 1, 0);
	unit_stop(&u);
	k3sup_node_unref(node);
}

/* ---- stopping ---- */

static void a_stop_before_the_signal_leaves_a_pending_restart(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "restart", .answer = 1};
	struct given g = {0};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	unit_start(s, &u);
	pid = running_pid(node);
	op = run_hooked(s, node, &g, &hook, K3SUP_E_CALLBACK);
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_string_equal(result_text(op, "/state"), "restart-pending");
	k3sup_op_unref(op);
	assert_int_equal(running_pid(node), pid);
	assert_true(is_content(s, INSTALLED, 2));
	assert_state(s, "restart-pending", true);
	op = run_upgrade(s, node, &g, 1);
	assert_int_equal(result_number(op, "/resumed"), 1);
	k3sup_op_unref(op);
	assert_journal(s, 1, 1);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void a_stop_while_staging_leaves_nothing(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "stage", .answer = 1};
	struct given g = {0};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &u);
	op = run_hooked(s, node, &g, &hook, K3SUP_E_CALLBACK);
	assert_int_equal(result_number(op, "/changed"), 0);
	k3sup_op_unref(op);
	assert_int_equal(count_beside(s, INSTALLED), 1);
	assert_true(is_content(s, INSTALLED, 1));
	assert_journal(s, 1, 1);
	assert_state(s, "current", false);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void after_the_signal_it_ends_as_it_would_have(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "prove", .answer = 1};
	struct given g = {.stable_ms = 200};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &u);
	op = begin_upgrade(s, node, &g);
	hook.cancel = op;
	assert_int_equal(k3sup_op_set_progress(op, on_progress, &hook), 0);
	assert_status(op, 1);
	assert_true(hook.calls > 0);
	assert_string_equal(result_text(op, "/running/asset_hash"), HASH2);
	k3sup_op_unref(op);
	assert_state(s, "current", false);
	unit_stop(&u);
	k3sup_node_unref(node);
}

/* Somebody installs another k3s between our swap and our signal: it is not restarted into that. */
static void replace_installed(struct scratch *s)
{
	put_wrapper(s, "/usr/local/bin/new", 1);
	assert_int_equal(renameat(s->fd, "usr/local/bin/new", s->fd, "usr/local/bin/k3s"), 0);
}

static void a_replaced_file_is_noticed_before_the_signal(void **state)
{
	struct scratch *s = *state;
	struct given g = {0};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct hook hook = {.step = "stage", .fn = replace_installed};
	k3sup_op *op;
	pid_t pid;

	put_node(s);
	unit_start(s, &u);
	pid = running_pid(node);
	op = run_hooked(s, node, &g, &hook, K3SUP_E_TARGET_CHANGED);
	assert_int_equal(result_number(op, "/changed"), 0);
	k3sup_op_unref(op);
	assert_int_equal(running_pid(node), pid);
	assert_journal(s, 1, 1);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void spoil_the_node(struct scratch *s)
{
	assert_int_equal(fchmodat(s->fd, "usr/local/bin", 0777, 0), 0);
}

static void a_failing_report_keeps_the_first_error(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "restart", .fn = spoil_the_node};
	struct given g = {.timeout_ms = 600};
	struct unit u = {.deaf = true};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &u);
	op = run_hooked(s, node, &g, &hook, K3SUP_E_TIMEOUT);
	assert_says(op, "was told to end");
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_string_equal(result_text(op, "/state"), "(none)");
	k3sup_op_unref(op);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void spoil_the_journal(struct scratch *s)
{
	assert_int_equal(fchmodat(s->fd, "var/lib/k3sup/journal", 0644, 0), 0);
}

static void an_entry_that_cannot_be_closed_is_told(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "prove", .fn = spoil_the_journal};
	struct given g = {0};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	unit_start(s, &u);
	op = run_hooked(s, node, &g, &hook, K3SUP_E_STATE_DIR);
	assert_says(op, "must be root's alone");
	assert_int_equal(result_number(op, "/changed"), 1);
	assert_string_equal(result_text(op, "/running/asset_hash"), HASH2);
	k3sup_op_unref(op);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void a_refusal_whose_entry_cannot_be_closed_stays_that_refusal(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "stage", .fn = spoil_the_journal, .answer = 1};
	struct given g = {0};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	put_node(s);
	unit_start(s, &u);
	k3sup_op_unref(run_hooked(s, node, &g, &hook, K3SUP_E_CALLBACK));
	assert_journal(s, 1, 0);
	unit_stop(&u);
	k3sup_node_unref(node);
}

/* ---- several files, several runs ---- */

static void of_several_files_the_one_that_runs_is_upgraded_and_remembered(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "restart", .answer = 1};
	struct given g = {0};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_node(s);
	put_wrapper(s, "/usr/bin/k3s", 2); /* the payload's build, and yet not the file that counts */
	unit_start(s, &u);
	op = run_hooked(s, node, &g, &hook, K3SUP_E_CALLBACK);
	assert_string_equal(result_text(op, "/installed/path"), INSTALLED);
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 2));
	op = run_upgrade(s, node, &g, 1);
	assert_int_equal(result_number(op, "/resumed"), 1);
	k3sup_op_unref(op);
	unit_stop(&u);
	k3sup_node_unref(node);
}

static void one_run_at_a_time(void **state)
{
	struct scratch *s = *state;
	struct given now = {0}, patient = {.wait_lock_ms = -1}, short_of_time = {.wait_lock_ms = 150};
	struct unit u = {0};
	k3sup_node *node = open_node(s->ctx, s->path, NULL), *other = open_node(s->ctx, s->path, NULL);
	int64_t began;
	k3sup_op *op;

	put_node(s);
	unit_start(s, &u);
	assert_int_equal(k3sup_node_lock(other), 1);
	op = run_upgrade(s, node, &now, K3SUP_E_BUSY);
	assert_int_equal(number_of(k3sup_op_error(op), "/evidence/holder/pid"), getpid());
	k3sup_op_unref(op);
	began = k3sup__now_ms();
	op = run_upgrade(s, node, &short_of_time, K3SUP_E_BUSY);
	assert_true(k3sup__now_ms() - began >= 150);
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 1));
	/* It waits, and begins when the lock is free. */
	op = begin_upgrade(s, node, &patient);
	assert_int_equal(k3sup_op_wait(op, 250), -EINPROGRESS);
	assert_int_equal(k3sup_node_unlock(other), 1);
	assert_status(op, 1);
	k3sup_op_unref(op);
	/* Its own handle's lock is used, and kept. */
	put_wrapper(s, INSTALLED, 1);
	assert_int_equal(k3sup_node_lock(node), 1);
	op = run_upgrade(s, node, &now, 1);
	k3sup_op_unref(op);
	assert_int_equal(k3sup_node_lock(other), K3SUP_E_BUSY);
	assert_int_equal(k3sup_node_unlock(node), 1);
	unit_stop(&u);
	k3sup_node_unref(node);
	k3sup_node_unref(other);
}

/* With a worker thread, a state beside it on the same handle, and the callback on the caller's thread. */
static void it_runs_on_a_worker_thread_with_others_beside_it(void **state)
{
	struct scratch *s = *state;
	struct hook hook = {.step = "prove"};
	struct given g = {.stable_ms = 300};
	struct unit u = {0};
	k3sup_ctx *ctx = NULL;
	k3sup_op *op, *look = NULL;
	k3sup_node *node;

	put_node(s);
	unit_start(s, &u);
	assert_int_equal(k3sup_ctx_new(NULL, &ctx), 0);
	node = open_node(ctx, s->path, NULL);
	op = begin_upgrade(s, node, &g);
	assert_int_equal(k3sup_op_set_progress(op, on_progress, &hook), 0);
	while (k3sup_op_status(op) == -EINPROGRESS) {
		assert_int_equal(k3sup_state(node, NULL, &look), 0);
		assert_status(look, 0);
		assert_string_not_equal(result_text(look, "/state"), "interrupted");
		k3sup_op_unref(look);
		(void)k3sup_op_wait(op, 20);
	}
	assert_status(op, 1);
	assert_true(hook.calls > 0);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	unit_stop(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_new_build_runs_after_one_restart),
		scratch_test(what_is_already_so_stays_as_it_is),
		scratch_test(a_young_k3s_is_waited_for),
		scratch_test(a_pending_restart_is_healed),
		scratch_test(a_k3s_without_wrapper_is_upgraded),
		scratch_test(another_file_without_wrapper_is_no_success),
		scratch_test(server_and_agent_of_one_file_are_both_restarted),
		scratch_test(the_file_alone_can_be_asked_for),
		scratch_test(a_start_is_awaited_where_the_file_is_in_place),
		scratch_test(what_a_cut_swap_left_is_removed_and_counts_as_a_change),
		scratch_test(a_refusal_says_what_is_known),
		scratch_test(two_servers_are_left_alone),
		scratch_test(bad_options_are_refused),
		scratch_test(a_k3s_that_does_not_listen_costs_time_and_nothing_else),
		scratch_test(the_wrong_build_is_no_success),
		scratch_test(an_entry_is_closed_by_the_run_that_proves),
		scratch_test(the_entry_of_another_payload_is_superseded),
		scratch_test(a_k3s_that_dies_again_and_again_is_not_stable),
		scratch_test(a_stop_before_the_signal_leaves_a_pending_restart),
		scratch_test(a_stop_while_staging_leaves_nothing),
		scratch_test(after_the_signal_it_ends_as_it_would_have),
		scratch_test(a_replaced_file_is_noticed_before_the_signal),
		scratch_test(a_failing_report_keeps_the_first_error),
		scratch_test(an_entry_that_cannot_be_closed_is_told),
		scratch_test(a_refusal_whose_entry_cannot_be_closed_stays_that_refusal),
		scratch_test(of_several_files_the_one_that_runs_is_upgraded_and_remembered),
		scratch_test(one_run_at_a_time),
		scratch_test(it_runs_on_a_worker_thread_with_others_beside_it),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, rooms_build, fake_remove);
}
