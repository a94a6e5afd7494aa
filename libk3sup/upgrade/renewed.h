/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has k3s made new certificates, and does it serve them?
 */
#ifndef K3SUP_UPGRADE_RENEWED_H
#define K3SUP_UPGRADE_RENEWED_H

#include "upgrade/rotation.h"

/*
 * To be called when k3s runs again. Waits, for two minutes at most, until all that was retired is there again and new, each pair is whole, matching and of the authority in use, with
 * modes as k3s writes them, and what the running k3s shows at its own sockets is that. rotation has to outlive it. Facts: renewed, absent, served. Status 1, or
 * K3SUP_E_NOT_ROTATED with the evidence problems; others of k3sup_certs_check().
 */
int k3sup__renewed_op(k3sup_node *node, struct k3sup__rotation *rotation, int64_t deadline, k3sup_op **ret_op) _must_check_;

#endif
