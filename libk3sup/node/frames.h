/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive inside a wrapper, found as the file goes by: one zstd frame, stored as it is (go-bindata without compression, go:embed), whose SHA-256 is H (k3s
 * scripts/package-cli). It is found by its own structure: a frame says how long each of its blocks is, so its headers lead from its magic number to its end (RFC 8878).
 *
 * The magic number alone says little: every program that can read zstd has it in its code. What follows there is no chain of blocks; one that holds for
 * K3SUP__FRAME_BLOCKS of them is no accident, and a k3s of 200 MB unpacked has far more (a block holds 128 KiB at most).
 */
#ifndef K3SUP_NODE_FRAMES_H
#define K3SUP_NODE_FRAMES_H

#include "base/digest.h"

#define K3SUP__FRAME_BLOCKS 32
#define K3SUP__FRAMES 4 /* kept; and so many beginnings are followed at once */

struct k3sup__frame {
	uint64_t start, end;            /* where it lies in the file */
	char sha256[K3SUP__SHA256_HEX]; /* "" if it was not counted */
};

/* One beginning that is followed. */
struct k3sup__walk {
	uint64_t start, next; /* next: where the next header is, or the end */
	unsigned blocks;
	bool checksum, last;
};

struct k3sup__frames {
	/* in */
	int fd;
	struct k3sup__digest *digest; /* NULL: only the chain of blocks is followed */
	/* out */
	struct k3sup__frame whole[K3SUP__FRAMES];
	size_t count;
	bool torn;                /* a frame began that does not reach its end: cut off, or damaged */
	uint64_t covers, covered; /* between these offsets is the last frame, as far as it is known: the archive's text and not the program's */
	/* inside */
	struct k3sup__walk walks[K3SUP__FRAMES];
	size_t walk_count;
	bool sure;        /* walks[0] is a frame */
	uint64_t counted; /* the digest has what lies before this offset */
};

/*
 * Bytes of the file from offset on, len of them; those before `from` were seen already and are there for what began in them (K3SUP__FRAME_BEHIND of them are needed). The
 * first blocks of a frame are read once more for the digest when they have become sure. 0 or -errno.
 */
#define K3SUP__FRAME_BEHIND 32
int k3sup__frames_see(struct k3sup__frames *frames, const unsigned char *bytes, size_t len, uint64_t offset, uint64_t from) _must_check_;
/* The file ends here. */
void k3sup__frames_end(struct k3sup__frames *frames);

#endif
