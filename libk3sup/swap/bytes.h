/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a file once, whatever is done with its bytes: compared, copied, counted. A digest is always that of the bytes that were used, never of a second reading.
 */
#ifndef K3SUP_SWAP_BYTES_H
#define K3SUP_SWAP_BYTES_H

#include "base/digest.h"
#include "base/op.h"

/* The digest of all that a descriptor gives. */
int k3sup__bytes_digest(k3sup_op *op, int fd, const char *shown, char ret[static K3SUP__SHA256_HEX]) _must_check_;

/* A file as it was looked at. */
struct k3sup__bytes {
	int fd;
	const char *shown; /* for sentences */
	int64_t size;
	int64_t before, whole; /* for progress: of several files, what came before this one and what all of them have; 0: it is the only one */
};

/*
 * 1 if both have the same bytes, 0 if not, or a negative code; K3SUP_E_PAYLOAD_CHANGED if the first one got shorter. Both have the size of the first one, as the
 * caller knows. sha256 (may be NULL): of the bytes of the second one, where it is 1.
 */
int k3sup__bytes_same(k3sup_op *op, const struct k3sup__bytes *a, const struct k3sup__bytes *b, char *sha256) _must_check_;
/* Copies, with progress, and counts the digest over the very bytes that are written. K3SUP_E_PAYLOAD_CHANGED if it got shorter. */
int k3sup__bytes_copy(k3sup_op *op, const struct k3sup__bytes *from, int to, char sha256[static K3SUP__SHA256_HEX]) _must_check_;

#endif
