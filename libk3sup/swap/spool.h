/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private copy of a payload that is packed, or that others can write: nobody else has a name or a descriptor of it, so that what was verified stays what it was.
 */
#ifndef K3SUP_SWAP_SPOOL_H
#define K3SUP_SWAP_SPOOL_H

#include "base/digest.h"
#include "node/node.h"

/*
 * In the node's state directory, or where there is none that can be used in the caller's /var/tmp or /tmp; without a name from the start, so that it is gone when the
 * descriptor is. sha256: of the bytes of the copy. 0, -ENOSPC and other -errno, K3SUP_E_GZIP, K3SUP_E_PAYLOAD_TRUNCATED; a cancel.
 */
int k3sup__spool(k3sup_op *op, k3sup_node *node, int fd, const char *shown, bool packed, int *ret_fd, char ret_sha256[static K3SUP__SHA256_HEX])
	_must_check_;

#endif
