/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a k3s says of itself when it is run with --version. Only for those who ask for it: everything else is read without executing anything.
 *
 * The wrapper answers that by itself, without unpacking anything; but it looks for its configuration and its data-dir first (before mid-2023 it failed where that could
 * not be read). So it is run where there is none: in an empty root, without capabilities, network and environment, within limits. What is executed is a sealed copy in
 * memory, made of the bytes that were verified, which nobody can replace.
 */
#ifndef K3SUP_NODE_SAID_H
#define K3SUP_NODE_SAID_H

#include "node/build.h"

/*
 * build: as it was read from fd, with its SHA-256. Sets said, and version where that was unknown. 0; K3SUP_E_VERSION_MISMATCH (it says another version than its bytes
 * do, or none, with what it said as evidence), K3SUP_E_PAYLOAD_CHANGED, K3SUP_E_TIMEOUT of the operation, -errno of what could not be done (-EPERM without CAP_SYS_CHROOT).
 */
int k3sup__said_ask(k3sup_op *op, int fd, const char *shown, struct k3sup__build *build) _must_check_;

/*
 * The sealed copy, for others who run what was verified: executable wherever the file lies, and nobody can write it. build: with its SHA-256, which the copy has to have. 0,
 * K3SUP_E_PAYLOAD_CHANGED, -errno.
 */
int k3sup__sealed_copy(k3sup_op *op, int fd, const char *shown, const struct k3sup__build *build, int *ret_fd) _must_check_;

#endif
