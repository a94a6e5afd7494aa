/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where k3s files are usually installed.
 */
#ifndef K3SUP_NODE_INSTALLED_H
#define K3SUP_NODE_INSTALLED_H

#include "node/node.h"

/* The paths inside the root where this node's k3s file can be: the one the caller named, or the usual places. Ends with NULL. ret has room for K3SUP__PLACES. */
#define K3SUP__PLACES 5
void k3sup__installed_places(const k3sup_node *node, const char *ret[static K3SUP__PLACES]);
/* The usual places, whatever the caller named. */
void k3sup__usual_places(const char *ret[static K3SUP__PLACES]);

#endif
