/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of the caller that answer by their exit status: is k3s ready, may it be stopped?
 */
#ifndef K3SUP_PROCESS_ASK_H
#define K3SUP_PROCESS_ASK_H

#include "base/strv.h"
#include "node/node.h"

#define K3SUP__ASK_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct k3sup__question {
	const char *what; /* "the health command"; begins the sentence of a failure */
	const char *command;
	const struct k3sup__strv *env; /* besides PATH and K3SUP_ROOT; NULL for none */
	int64_t deadline;
	size_t max_output;
	int refused; /* the code when it says no, or does not answer in time */
};

/*
 * For work functions. Runs it with /bin/sh in a clean environment. 0 it said yes, refused with a sentence, or -errno if it could not be run; a cancel. ret: {ok, exit_code or signal,
 * timed_out, output}, NULL if it was not run to its end.
 */
int k3sup__ask(k3sup_op *op, k3sup_node *node, const struct k3sup__question *question, k3sup__json **ret) _must_check_;

#endif
