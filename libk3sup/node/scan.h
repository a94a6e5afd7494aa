/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the bytes of a file: the embedded archive and its name, versions written as text, and whatever else is to be done with the bytes, in constant memory.
 */
#ifndef K3SUP_NODE_SCAN_H
#define K3SUP_NODE_SCAN_H

#include "base/digest.h"
#include "node/build.h"
#include "node/frames.h"

#define K3SUP__SCAN_VERSIONS 8
#define K3SUP__SCAN_NAMES 4

struct k3sup__asset_name {
	char hash[K3SUP__H_LEN + 1];
	bool zstd; /* else it names a gzip file */
};

struct k3sup__scan {
	/* in */
	uint64_t skip_start; /* versions between these two offsets do not count */
	uint64_t skip_end;
	struct k3sup__digest *digest;  /* of the whole file; NULL: none is wanted */
	struct k3sup__digest *archive; /* of the archive; NULL: only its structure is followed */
	const struct k3sup__tap *tap;  /* NULL: nobody else wants the bytes */
	/* out */
	uint64_t size; /* bytes read */
	struct k3sup__frames frames;
	struct k3sup__asset_name names[K3SUP__SCAN_NAMES]; /* different ones */
	size_t name_count;
	bool many_names;                         /* more than fit */
	char versions[K3SUP__SCAN_VERSIONS][96]; /* different ones */
	size_t version_count;
	bool many_versions; /* more than fit */
};

/* Small enough to stay in a processor's cache between the read and the search. */
#define K3SUP__SCAN_BUFFER (256 * 1024 + 256)

/* Reads from offset 0 to the end, but no further than limit. buffer: K3SUP__SCAN_BUFFER bytes. 0, -errno, K3SUP_E_CANCELLED and its like. */
int k3sup__scan(k3sup_op *op, int fd, uint64_t limit, unsigned char *buffer, struct k3sup__scan *scan) _must_check_;

#endif
