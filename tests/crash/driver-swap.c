/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every_syscall.py stops and fails: one verb of the shared library on one node, in a context without a worker thread, because strace counts
 * calls per thread.
 *
 *   driver-swap swap|upgrade|hooks|rollback|unpack ROOT K3S PAYLOAD      hooks: an upgrade with both commands
 *   driver-swap mark ROOT K3S KEY
 *   driver-swap stage|commit|restore ROOT K3S IMAGE        IMAGE.more.tar is a second one
 *
 * Prints the operation's status and its error. Exit status: 0 the goal held already, 10 it was reached, 1 anything else.
 */
#include "driver.h"

#include <string.h>
#include <unistd.h>

static int start_stage(k3sup_node *node, const char *verb, const char *image, k3sup_op **op)
{
	char more[4096];
	const char *files[] = {image, more, NULL};
	struct k3sup_stage_opts stage = {.struct_size = sizeof(stage), .files = files};

	if (snprintf(more, sizeof(more), "%s.more.tar", image) >= (int)sizeof(more))
		return -1;
	if (strcmp(verb, "commit") == 0)
		stage.flags = K3SUP_STAGE_COMMIT;
	if (strcmp(verb, "restore") == 0) {
		stage.flags = K3SUP_STAGE_RESTORE;
		stage.files = NULL;
	}
	return k3sup_stage(node, &stage, op);
}

static int start(k3sup_node *node, char **argv, k3sup_op **op)
{
	const char *verb = argv[1], *payload = argv[4];
	struct k3sup_swap_opts swap = {.struct_size = sizeof(swap), .payload = payload};
	struct k3sup_unpack_opts unpack = {.struct_size = sizeof(unpack), .payload = payload};
	struct k3sup_upgrade_opts upgrade = {.struct_size = sizeof(upgrade), .payload = payload, .restart = K3SUP_RESTART_NONE};

	if (strcmp(verb, "hooks") == 0)
		upgrade.before_write = upgrade.before_stop = "exit 0";
	if (strcmp(verb, "mark") == 0)
		return k3sup_node_mark(node, payload);
	if (strcmp(verb, "swap") == 0)
		return k3sup_swap(node, &swap, op);
	if (strcmp(verb, "unpack") == 0)
		return k3sup_unpack(node, &unpack, op);
	if (strcmp(verb, "rollback") == 0)
		return k3sup_swap_rollback(node, NULL, op);
	return strcmp(verb, "upgrade") == 0 || strcmp(verb, "hooks") == 0 ? k3sup_upgrade(node, &upgrade, op)
									  : start_stage(node, verb, payload, op);
}

int main(int argc, char **argv)
{
	struct k3sup_node_opts where = {.struct_size = sizeof(where)};
	int r;

	if (argc != 5)
		return 2;
	where.root = argv[2];
	where.k3s = argv[3];
	/* Fails, and marks in the trace where the loader's calls end and ours begin. */
	if (write(-1, "begin", 5) >= 0)
		return 2;
	r = drive(&where, start, argv);
	return r == 0 ? 0 : r > 0 ? 10 : 1;
}
