/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_service() from one thread: driver-service ROOT GUARD_DELAY_MS ACTION... does "stop", "start", "restart" and "status" one after the other and prints the result of the last one
 * as one line; "rotate=KEY" is k3sup_rotate(), "upgrade=KEY,FILE" k3sup_upgrade() (with a rotation if there is a KEY), "rollback" goes back to the build before. Ends at the first that fails. STABLE_MS: how long a start must have stayed.
 */
#include <k3sup.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t action_of(const char *word)
{
	static const char *const words[] = {
		[K3SUP_SERVICE_STATUS] = "status", [K3SUP_SERVICE_STOP] = "stop", [K3SUP_SERVICE_START] = "start", [K3SUP_SERVICE_RESTART] = "restart"};

	for (uint32_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	return ~0U;
}

static int begin_upgrade(k3sup_node *node, const char *word, const struct k3sup_service_opts *what, k3sup_op **op)
{
	struct k3sup_upgrade_opts upgrade = {.struct_size = sizeof(upgrade),
		.timeout_ms = what->timeout_ms,
		.wait_lock_ms = what->wait_lock_ms,
		.stable_ms = what->stable_ms,
		.guard_delay_ms = what->guard_delay_ms,
		.restart = K3SUP_RESTART_SERVICE,
		.probe = K3SUP_PROBE_NONE};
	const char *file = strchr(word, ',');
	char key[64];

	if (!file) {
		upgrade.flags = K3SUP_UPGRADE_ROLLBACK;
		return k3sup_upgrade(node, &upgrade, op);
	}
	(void)snprintf(key, sizeof(key), "%.*s", (int)(file - word), word);
	upgrade.flags = K3SUP_UPGRADE_ALLOW_DOWNGRADE | (*key ? K3SUP_UPGRADE_ROTATE_CERTS : 0);
	upgrade.rotate_key = *key ? key : NULL;
	upgrade.payload = file + 1;
	return k3sup_upgrade(node, &upgrade, op);
}

static int begin(k3sup_node *node, const char *word, struct k3sup_service_opts *what, k3sup_op **op)
{
	struct k3sup_rotate_opts rotate = {.struct_size = sizeof(rotate),
		.timeout_ms = what->timeout_ms,
		.stable_ms = what->stable_ms,
		.guard_delay_ms = what->guard_delay_ms,
		.probe = K3SUP_PROBE_NONE};

	if (strncmp(word, "rotate=", 7) == 0) {
		rotate.key = word + 7;
		return k3sup_rotate(node, &rotate, op);
	}
	if (strncmp(word, "upgrade=", 8) == 0)
		return begin_upgrade(node, word + 8, what, op);
	if (strcmp(word, "rollback") == 0)
		return begin_upgrade(node, word, what, op);
	what->action = action_of(word);
	return k3sup_service(node, what, op);
}

int main(int argc, char **argv)
{
	struct k3sup_ctx_opts inline_opts = {.struct_size = sizeof(inline_opts), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = argc > 1 ? argv[1] : "/"};
	struct k3sup_service_opts what = {.struct_size = sizeof(what), .timeout_ms = 60000, .wait_lock_ms = 10000, .stable_ms = 100};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	int r = argc > 3 ? k3sup_ctx_new(&inline_opts, &ctx) : -EINVAL;

	if (r == 0)
		r = k3sup_node_new(ctx, &where, &node);
	if (getenv("STABLE_MS"))
		what.stable_ms = strtol(getenv("STABLE_MS"), NULL, 10);
	what.guard_delay_ms = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
	for (int i = 3; r >= 0 && i < argc; i++) {
		k3sup_op_unref(op);
		op = NULL;
		r = begin(node, argv[i], &what, &op);
		if (r >= 0)
			r = k3sup_op_wait(op, -1);
	}
	printf("%s\n", op ? k3sup_doc_json(k3sup_op_result(op)) : k3sup_error_name(r));
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r < 0;
}
