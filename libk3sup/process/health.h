/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's own question whether k3s is ready: a command.
 */
#ifndef K3SUP_PROCESS_HEALTH_H
#define K3SUP_PROCESS_HEALTH_H

#include "node/node.h"

/*
 * For work functions. Runs command with /bin/sh, 30 s at most, within this deadline but for 1 s at least. 0 it said yes, K3SUP_E_NOT_READY with a sentence, or -errno if it could not
 * be run. ret: {ok, exit_code or signal, output}, NULL if it was not run.
 */
int k3sup__health_ask(k3sup_op *op, k3sup_node *node, const char *command, pid_t pid, int64_t deadline, k3sup__json **ret) _must_check_;

#endif
