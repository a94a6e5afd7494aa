/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest archives that a k3s is believed to carry: zstd frames of 32 blocks, each with one byte as it is. They have the names that they should have.
 */
#ifndef K3SUP_TESTS_UNIT_FRAME_H
#define K3SUP_TESTS_UNIT_FRAME_H

#include <string.h>

#define FRAME_HASH1 "bb7cbef5feb53c1c82275acc5bc084b7af2d9fa1d2b409bf94d1aad5ac6bad9c" /* of '1' */
#define FRAME_HASH2 "45b74a776cab8cd9e328a988a4ed1f620686df4b0de1cf84ada392331e2ac944" /* of '2' */
#define FRAME_BLOCKS 32
#define FRAME_LEN (6 + 4 * FRAME_BLOCKS)

static inline void frame_make(char letter, unsigned char ret[static FRAME_LEN])
{
	memcpy(ret, "\x28\xb5\x2f\xfd\x00\x58", 6);
	for (size_t i = 0; i < FRAME_BLOCKS; i++) {
		const unsigned char block[] = {i + 1 == FRAME_BLOCKS ? 9 : 8, 0, 0, (unsigned char)letter};

		memcpy(ret + 6 + 4 * i, block, sizeof(block));
	}
}

/* The one that a text names, or any other one if it is another name. False: it names none that is a zstd frame. */
static inline int frame_for(const void *text, size_t len, unsigned char ret[static FRAME_LEN])
{
	static const char end[] = ".tar.zst";

	for (size_t i = 64; i + strlen(end) <= len; i++) {
		const char *at = (const char *)text + i;

		if (memcmp(at, end, strlen(end)) != 0)
			continue;
		frame_make(memcmp(at - 64, FRAME_HASH1, 64) == 0 ? '1' : memcmp(at - 64, FRAME_HASH2, 64) == 0 ? '2' : '3', ret);
		return 1;
	}
	return 0;
}

#endif
