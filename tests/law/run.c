/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of the library: each is a process of its own, which ends where it is cut.
 */
#include "law.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOUR 3600000

static char *payload_path(unsigned build)
{
	return k3sup__fmt("%s/payload/%u/k3s", machine->top, build);
}

static const char *const keys[KEYS + 1] = {"", "first", "second"};

static int begin_upgrade(k3sup_node *node, const struct event *e, const char *const *images, k3sup_op **op)
{
	_free_ char *payload = e->what == UPGRADE ? payload_path(e->build) : NULL;
	struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts),
		.flags = K3SUP_UPGRADE_NO_UNPACK_AHEAD | (e->what == ROLLBACK ? K3SUP_UPGRADE_ROLLBACK : K3SUP_UPGRADE_ALLOW_DOWNGRADE) |
			(rotates(e) ? K3SUP_UPGRADE_ROTATE_CERTS : 0) | (e->retry ? K3SUP_UPGRADE_RETRY_FAILED : 0),
		.stable_ms = machine->setup.dies ? 10000 : -1,
		.payload = payload,
		.restart = e->restart,
		.rollback = e->rollback,
		.probe = K3SUP_PROBE_NONE,
		.images = e->images ? images : NULL,
		.rotate_key = rotates(e) ? keys[e->key] : NULL,
		.before_write = machine->setup.hooks ? BEFORE_WRITE : NULL,
		.before_stop = machine->setup.hooks ? BEFORE_STOP : NULL,
	};

	return k3sup_upgrade(node, &opts, op);
}

static int begin_swap(k3sup_node *node, const struct event *e, k3sup_op **op)
{
	_free_ char *payload = payload_path(e->build);
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_SWAP_ALLOW_DOWNGRADE, .payload = payload};

	return k3sup_swap(node, &opts, op);
}

static int begin_stage(k3sup_node *node, const struct event *e, const char *const *images, k3sup_op **op)
{
	struct k3sup_stage_opts opts = {.struct_size = sizeof(opts)};

	if (e->what == UNSTAGE)
		opts.flags = e->build == 1 ? K3SUP_STAGE_COMMIT : K3SUP_STAGE_RESTORE;
	else
		opts.files = images;
	return k3sup_stage(node, &opts, op);
}

static int begin_restore(k3sup_node *node, k3sup_op **op)
{
	_free_ char *backup = node_cert_backup();
	struct k3sup_certs_restore_opts opts = {.struct_size = sizeof(opts), .backup = backup ? backup : "tls-1"};

	return k3sup_certs_restore(node, &opts, op);
}

static int begin_rotate(k3sup_node *node, const struct event *e, k3sup_op **op)
{
	struct k3sup_rotate_opts opts = {
		.struct_size = sizeof(opts),
		.stable_ms = -1,
		.key = keys[e->key],
		.restart = e->restart,
		.probe = K3SUP_PROBE_NONE,
		.before_write = machine->setup.hooks ? BEFORE_WRITE : NULL,
		.before_stop = machine->setup.hooks ? BEFORE_STOP : NULL,
	};

	return k3sup_rotate(node, &opts, op);
}

static int begin(k3sup_node *node, const struct event *e, k3sup_op **op)
{
	char *images[IMAGES + 1] = {NULL};
	const char *const *list = (const char *const *)images;
	unsigned n = 0;
	int r = -EINVAL;

	for (unsigned i = 0; i < IMAGES; i++)
		if (e->images & 1u << i)
			images[n++] = k3sup__fmt("%s/payload/image%u.tar", machine->top, i);
	if (e->what == UPGRADE || e->what == ROLLBACK)
		r = begin_upgrade(node, e, list, op);
	else if (e->what == SWAP)
		r = begin_swap(node, e, op);
	else if (e->what == SWAP_BACK)
		r = k3sup_swap_rollback(node, NULL, op);
	else if (e->what == STAGE || e->what == UNSTAGE)
		r = begin_stage(node, e, list, op);
	else if (e->what == RETIRE)
		r = k3sup_certs_retire(node, NULL, op);
	else if (e->what == RESTORE)
		r = begin_restore(node, op);
	else if (e->what == ROTATE)
		r = begin_rotate(node, e, op);
	for (unsigned i = 0; i < n; i++)
		free(images[i]);
	return r;
}

k3sup_node *open_node(k3sup_ctx **ctx)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = machine->root};
	k3sup_node *node = NULL;

	if (k3sup_ctx_new(&inside, ctx) < 0 || k3sup_node_new(*ctx, &opts, &node) < 0)
		abort();
	return node;
}

void look_at_state(k3sup_node *node)
{
	const char *state = "?";
	k3sup_op *op = NULL;
	int64_t n;

	if (k3sup_state(node, NULL, &op) < 0 || k3sup_op_wait(op, HOUR) < 0)
		abort();
	(void)k3sup_doc_str(k3sup_op_result(op), "/state", &state);
	(void)snprintf(machine->state, sizeof(machine->state), "%s", state);
	n = k3sup_doc_len(k3sup_op_result(op), "/flags");
	machine->open_entry = false;
	for (int64_t i = 0; i < n; i++) {
		_free_ char *path = k3sup__fmt("/flags/%lld", (long long)i);
		const char *flag = "";

		(void)k3sup_doc_str(k3sup_op_result(op), path, &flag);
		machine->open_entry |= k3sup__streq(flag, "open-operation");
	}
	k3sup_op_unref(op);
}

static int mark(k3sup_node *node, unsigned key)
{
	_free_ char *text = k3sup__fmt("step-%u", key);

	return k3sup_node_mark(node, text);
}

/* The first time may be a machine that stood still for a while. */
static void lose_patience(int number)
{
	static bool waited;

	(void)number;
	if (waited)
		_exit(EXIT_HUNG);
	waited = true;
	(void)alarm(60);
}

static void run(const struct event *e, bool last)
{
	k3sup_ctx *ctx = NULL, *other = NULL;
	k3sup_node *holder = NULL, *node;
	k3sup_op *op = NULL;

	(void)signal(SIGALRM, lose_patience);
	(void)alarm(60);
	if (e->locked) {
		holder = open_node(&other);
		if (k3sup_node_lock(holder) < 0)
			abort();
	}
	node = open_node(&ctx);
	machine->calls = machine->publications = 0;
	machine->counting = true;
	if (e->what == MARK) {
		machine->status = mark(node, e->build);
	} else {
		machine->status = begin(node, e, &op);
		if (machine->status >= 0)
			machine->status = k3sup_op_wait(op, HOUR);
	}
	machine->counting = false;
	if (getenv("LAW_VERBOSE") && machine->status < 0 && op) {
		const char *message = "";

		(void)k3sup_doc_str(k3sup_op_error(op), "/message", &message);
		printf("  %s: %s\n", k3sup_error_name(machine->status), message);
		(void)fflush(stdout);
	}
	k3sup_op_unref(op);
	if (last)
		look_at_state(node);
	_exit(0);
}

bool run_in_a_process(const struct event *e, bool last)
{
	pid_t pid;
	int how;

	decode_wanted();
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0)
		run(e, last);
	if (pid < 0 || waitpid(pid, &how, 0) != pid)
		abort();
	machine->counting = machine->logging = false;
	if (WIFEXITED(how) && WEXITSTATUS(how) == EXIT_CUT)
		return true;
	if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
		machine->status = INT32_MIN; /* it crashed */
	return false;
}
