/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the bytes of a file: the name of the embedded archive, versions written as text, and the digest, in constant memory.
 */
#ifndef K3SUP_NODE_SCAN_H
#define K3SUP_NODE_SCAN_H

#include "base/digest.h"
#include "node/build.h"

#define K3SUP__SCAN_VERSIONS 8

struct k3sup__scan {
	/* in */
	uint64_t skip_start; /* versions between these two offsets do not count */
	uint64_t skip_end;
	struct k3sup__digest *digest; /* NULL: none is wanted */
	/* out */
	uint64_t size;                           /* bytes read */
	char asset_hash[K3SUP__H_LEN + 1];       /* the first one */
	bool many_hashes;                        /* another one, too */
	char versions[K3SUP__SCAN_VERSIONS][96]; /* different ones */
	size_t version_count;
	bool many_versions; /* more than fit */
};

/* Small enough to stay in a processor's cache between the read and the search. */
#define K3SUP__SCAN_BUFFER (256 * 1024 + 256)

/* Reads from offset 0 to the end, but no further than limit. buffer: K3SUP__SCAN_BUFFER bytes. 0, -errno, K3SUP_E_CANCELLED and its like. */
int k3sup__scan(k3sup_op *op, int fd, uint64_t limit, unsigned char *buffer, struct k3sup__scan *scan) _must_check_;

#endif
