/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the running k3s says about where things lie, for verbs that need no k3s to run.
 */
#ifndef K3SUP_SWAP_OBSERVED_H
#define K3SUP_SWAP_OBSERVED_H

#include "node/identify.h"

/*
 * The data-dir: what runs knows best where it keeps things. That none, or not one, runs says nothing; that two work in different places does (K3SUP_E_AMBIGUOUS). ret_like (may be
 * NULL): data/<H> of what runs, NULL: of nothing that can be named. Owned texts.
 */
int k3sup__observe_data_dir(k3sup_op *op, k3sup_node *node, char **ret, const char **ret_source, char **ret_like) _must_check_;
/* Where this k3s is unpacked: <data-dir>/data/<H>; owned; NULL: nowhere (errno 0), or no memory. */
char *k3sup__unpacked_of(const struct k3sup__candidate *candidate);

#endif
