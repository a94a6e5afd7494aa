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
/*
 * The same while somebody else reads the first one: k3sup__beside_take() gets its pieces (the tap of node/build.h; none is longer than K3SUP__SCAN_BUFFER). Nothing that goes
 * wrong with the second one is an error: then they were not compared.
 */
struct k3sup__beside {
	int fd; /* of the second one; -1: none */
	unsigned char *buf;
	struct k3sup__digest *digest;
	bool differs, failed;
};
/* digest: is one wanted if they are the same? */
int k3sup__beside_begin(struct k3sup__beside *beside, bool digest) _must_check_;
int k3sup__beside_take(void *arg, uint64_t offset, const unsigned char *bytes, size_t len) _must_check_;
/* All was read. same: 1, 0, or -1 if they were not compared. sha256: as of k3sup__bytes_same(); "" if it is not wanted. */
int k3sup__beside_end(struct k3sup__beside *beside, int *same, char sha256[static K3SUP__SHA256_HEX]) _must_check_;
void k3sup__beside_clear(struct k3sup__beside *beside);

/* Copies, with progress, and counts the digest over the very bytes that are written. K3SUP_E_PAYLOAD_CHANGED if it got shorter. */
int k3sup__bytes_copy(k3sup_op *op, const struct k3sup__bytes *from, int to, char sha256[static K3SUP__SHA256_HEX]) _must_check_;

#endif
