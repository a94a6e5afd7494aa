/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much the unpacked builds take.
 */
#ifndef K3SUP_UPGRADE_USAGE_H
#define K3SUP_UPGRADE_USAGE_H

#include "node/node.h"

/* The blocks of all that lies in <data-dir>/data; -1 if that cannot be counted. */
int64_t k3sup__data_bytes(k3sup_node *node, const char *data_dir);

#endif
