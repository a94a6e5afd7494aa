/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a k3s is started as.
 */
#ifndef K3SUP_NODE_ROLE_H
#define K3SUP_NODE_ROLE_H

enum k3sup__role { K3SUP__ROLE_UNKNOWN, K3SUP__ROLE_SERVER, K3SUP__ROLE_AGENT };

const char *k3sup__role_name(enum k3sup__role role); /* "server", "agent", NULL */

#endif
